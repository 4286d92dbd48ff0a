"""notes: takes notes of what it is told, a dictation or a message: every sound and every word.

Run it with ``talkpath run notes``, or under Pipecat's runner with
``python -m talkpath.bots.notes``.
Each call becomes a folder below ``--notes-folder`` with ``audio.wav`` (caller left, bot right) and
``transcript.jsonl`` (who said what, with the times of the words), or rows of ``--notes-database``.
The caller ends it with "that is all", or by hanging up.
"""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

from pipecat.runner.types import RunnerArguments

from talkpath.agent.errors import TalkpathError
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
_BYE = r"(?:good ?-?|bye[ -]?)?bye"
_BEFORE = r"(?:ok|okay|well|so|right|and|then|thanks|thank you|i think)"
_DONE = re.compile(
    rf"(?:^|[.!?…])\W*(?:{_BEFORE}\W+)*"
    r"(?:that(?:['’]s| is| was| will be) (?:all|it|everything)(?: for now)?"  # noqa: RUF001
    rf"|{_BYE}|end of (?:the )?(?:note|notes|message|dictation))"
    rf"(?:\W+(?:thanks|thank you|{_BYE}))*\W*$",
    re.IGNORECASE,
)
"""Said as a sentence of its own at the end of a turn: in a longer one it is dictated."""


async def prepare() -> None:
    """Load the models, and try the storage, before the first caller is let in."""
    await asyncio.to_thread(_try_storage)
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_speaking()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    transport = await create_transport(runner_args)
    recorder = Recorder(_notes())
    words = 0
    is_there = is_told = False

    async def listen(text: str) -> None:
        nonlocal words
        words += _count(text)
        if _DONE.search(text) and not recorder.failed:
            await hang_up(listener, NOTED.format(words))

    async def tell_failure(*_: Any) -> None:
        """Nobody should dictate what is not written down."""
        nonlocal is_told
        if recorder.failed and is_there and not is_told:
            is_told = True
            await hang_up(listener, FAILED)

    async def on_client_connected(*_: Any) -> None:
        nonlocal is_there
        is_there = True
        await tell_failure()

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
    transport.add_event_handler("on_client_connected", on_client_connected)
    worker.add_event_handler("on_pipeline_error", tell_failure)
    await run_worker(runner_args, worker)


def _count(text: str) -> int:
    """Words of a turn, without the sentence that ends the dictation."""
    return len(_DONE.sub("", text).split())


def _notes() -> Notes:
    """Where this call is written down."""
    where = _storage()
    return NoteDatabase(where) if runtime().config.notes.database else NoteFolder(where)


def _storage() -> Path:
    settings = runtime().config.notes
    return Path(settings.database or settings.folder).expanduser()


def _try_storage() -> None:
    where = _storage()
    folder = where.parent if runtime().config.notes.database else where
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TalkpathError(f"notes cannot be written to {where}: {error}") from error


if __name__ == "__main__":
    run_under_pipecat(prepare)
