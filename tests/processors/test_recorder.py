"""A recorder in bots that are not made for it."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.runner.types import RunnerArguments

from talkpath.agent.conversation import SpokenTurn
from talkpath.agent.notes import NoteFolder, Notes
from talkpath.bots.loader import Bot
from talkpath.bots.session import greet, make_worker, run_worker
from talkpath.bots.stages import conversation, hearing, speaking
from talkpath.bots.testing import call
from talkpath.processors.recorder import Recorder
from talkpath.transports.factory import create_transport
from tests import speech
from tests.local_models import voice_model

LIGHT = {"whisper.model": "tiny.en"}


def recorded(notes: Notes) -> Bot:
    """A bot with a context for a language model, which keeps transcripts to itself."""

    async def bot(runner_args: RunnerArguments) -> None:
        transport = await create_transport(runner_args)
        context = await conversation(LLMContext())
        worker = make_worker(
            runner_args,
            transport,
            [
                transport.input(),
                *await hearing(),
                context.user(),
                await speaking(),
                transport.output(),
                Recorder(notes),
                context.assistant(),
            ],
        )
        greet(transport, worker, "Hello, go on.")
        await run_worker(runner_args, worker)

    return bot


def only_transcript(folder: Path) -> list[dict[str, str]]:
    (call,) = folder.iterdir()
    lines = (call / "transcript.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


async def test_it_overhears_what_a_language_model_keeps_to_itself(tmp_path: Path) -> None:
    voice_model()
    clip = speech.clip("librivox-0880")
    async with call(recorded(NoteFolder(tmp_path)), settings=LIGHT) as caller:
        await caller.hears("go on")
        await caller.plays(clip.path)
        await caller.silence(2.0)
    turns = only_transcript(tmp_path)
    assert [turn["speaker"] for turn in turns] == ["bot", "caller"]
    assert turns[0]["text"] == "Hello, go on."
    assert speech.word_error_rate([clip.text], [turns[1]["text"]]) < 0.3


def size_of_audio(folder: Path) -> int:
    (call,) = folder.iterdir()
    return (call / "audio.wav").stat().st_size


class FullDisk(NoteFolder):
    """A disk that is full after some writes."""

    def __init__(self, folder: Path, *, room: int) -> None:
        super().__init__(folder)
        self._room = room

    def write(self, pcm: bytes, turns: Sequence[SpokenTurn]) -> None:
        self._room -= 1
        if self._room < 0:
            raise OSError(28, "No space left on device")
        super().write(pcm, turns)


async def test_a_full_disk_is_told_once_and_the_call_goes_on(tmp_path: Path) -> None:
    voice_model()
    notes = FullDisk(tmp_path, room=2)
    async with call(recorded(notes), settings=LIGHT, errors="keep") as caller:
        await caller.hears("go on")
        await caller.plays(speech.clip("librivox-0880").path)
        await caller.silence(2.0)
        assert [item.who for item in caller.transcript] == ["bot", "caller"]
    (error,) = caller.errors
    assert error == "the recording of this call ends here: [Errno 28] No space left on device"
    assert size_of_audio(tmp_path) > 1000  # what there was stays
