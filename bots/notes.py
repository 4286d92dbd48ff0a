"""notes: takes notes of what it is told, a dictation or a message: every sound and every word.

Run it with ``talkpath run notes``, or under Pipecat's runner with
``python -m talkpath.bots.notes``.
Each call becomes a folder below ``--notes-folder`` with ``audio.wav`` (caller left, bot right) and
``transcript.jsonl`` (who said what, with the times of the words), or rows of ``--notes-database``.
The caller ends it with "that is all", or by hanging up.
"""

import re
from pathlib import Path

from pipecat.runner.types import RunnerArguments

from talkpath.agent.notes import NoteDatabase, NoteFolder, Notes
from talkpath.agent.runtime import runtime
from talkpath.bots.session import (
    greet,
    make_worker,
    prepare_speech,
    run_under_pipecat,
    run_worker,
)
from talkpath.bots.stages import hearing, prepare_speaking, speaking, user_turns
from talkpath.processors.idle_prompts import hang_up
from talkpath.processors.recorder import Recorder
from talkpath.processors.turn_texts import TurnTexts
from talkpath.transports.factory import create_transport

__all__ = ["FAILED", "GREETING", "MODELS", "NOTED", "bot", "prepare"]

MODELS = ("whisper", "voice")
GREETING = "I am listening. Say, that is all, when you are done."
NOTED = "Thank you, I have noted {} words."
FAILED = "I am sorry, I could not write that down."
_DONE = re.compile(
    r"\b(that(?:['’]s| is| was| will be) (?:all|it|everything)(?: for now)?|good ?-?bye"  # noqa: RUF001
    r"|end of (?:the )?(?:note|notes|message|dictation))\W*$",
    re.IGNORECASE,
)


async def prepare() -> None:
    """Load the models before the first caller is let in."""
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_speaking()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args)
    recorder = Recorder(_notes())
    words = 0

    async def listen(text: str) -> None:
        nonlocal words
        words += len(text.split())
        if _DONE.search(text):
            await hang_up(listener, FAILED if recorder.failed else NOTED.format(words))

    listener = TurnTexts(listen)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(words=True, everybody=True, profile="patient"),
            await user_turns(profile="patient", answers=False),
            listener,
            await speaking(),
            transport.output(),
            recorder,
        ],
        finish=True,
    )
    greet(transport, worker, GREETING)
    await run_worker(runner_args, worker)


def _notes() -> Notes:
    """Where this call is written down."""
    settings = runtime().config.notes
    if settings.database:
        return NoteDatabase(Path(settings.database).expanduser())
    return NoteFolder(Path(settings.folder).expanduser())


if __name__ == "__main__":
    run_under_pipecat(prepare)
