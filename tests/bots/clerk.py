"""A bot for tests of the harness: no language model, and every way a bot may behave."""

from typing import Any

from pipecat.frames.frames import (
    EndWorkerFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection

from talkpath.agent.runtime import runtime
from talkpath.bots.session import greet, make_worker, run_worker
from talkpath.bots.stages import hearing, user_turns
from talkpath.processors.listener import Listener
from talkpath.processors.piper_voice import PiperVoice
from talkpath.transports.factory import create_transport

GREETING = "Hello, this is the clerk."
STORY = (
    "Once upon a time there was a clerk who told long stories. He told them in the morning, "
    "he told them in the evening, and nobody ever heard the end of a single one of them."
)


class Clerk(Listener):
    """Answers by what was said in the turn."""

    async def on_key(self, key: str) -> None:
        if key == "*":
            await self.push_error("the clerk reports an error")
        elif key == "#":
            raise ZeroDivisionError("the clerk breaks")
        else:
            await self._say(f"You pressed {key}.")

    async def on_end_of_turn(self, text: str) -> None:
        await self._answer(text.lower())

    async def _answer(self, said: str) -> None:
        if "story" in said:
            await self._say(STORY)
        elif "profile" in said:
            await self._say(f"My profile is {runtime().config.turn.profile}.")
        elif "goodbye" in said:
            await self._say("Goodbye, and thank you.")
            await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)
        else:
            await self._say(f"That was {len(said.split())} words.")

    async def _say(self, text: str) -> None:
        await self.push_frame(TTSSpeakFrame(text))


async def bot(runner_args: Any) -> None:
    if runner_args.body.get("fails"):
        raise RuntimeError("the clerk is ill")
    shared = runtime()
    transport = await create_transport(runner_args)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(),
            await user_turns(),
            Clerk(),
            PiperVoice(await shared.voice()),
            transport.output(),
        ],
    )
    greet(transport, worker, runner_args.body.get("greeting", GREETING))
    await run_worker(runner_args, worker)
