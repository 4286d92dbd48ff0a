"""Test a bot by calling it: a scripted caller with a real voice, real ears and real models.

::

    from talkpath.bots.testing import call

    async def test_it_books_a_table():
        async with call("my_bot.py", settings={"turn.profile": "snappy"}) as caller:
            await caller.hears("Hello")
            await caller.says("I would like a table for two.")
            answer = await caller.hears_turn()
        assert "table" in answer.text

The bot runs in this process with all that it has: voice activity, Whisper, turn taking, its
language model and its voice. Only the line is not real. Time is virtual unless ``time="real"``:
see ``talkpath.bots.testing.clock`` for what that means. It works in any test runner.
"""

from talkpath.bots.testing.call import call
from talkpath.bots.testing.caller import Caller, CallFailed
from talkpath.bots.testing.protocol import ToolCall, Utterance

__all__ = ["CallFailed", "Caller", "ToolCall", "Utterance", "call"]
