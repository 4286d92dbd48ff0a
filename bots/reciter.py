"""A bot to interrupt: it recites a text, and begins anew after each turn of the caller's.

It is for benches and tests; its ears, turns and voice are those of every bot.
"""

import time
from typing import Any

from pipecat.frames.frames import (
    Frame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.transports.base_transport import BaseTransport

from talkpath.agent.runtime import runtime
from talkpath.bots.session import make_worker, run_worker
from talkpath.bots.stages import conversation, hearing
from talkpath.processors.frames import (
    HoldPlaybackFrame,
    ResumePlaybackFrame,
    SpeechOnsetFrame,
)
from talkpath.processors.piper_voice import PiperVoice
from talkpath.transports.factory import create_transport

__all__ = ["Recital", "Reciter"]


class _Speaker(FrameProcessor):
    """Replies to whatever was said with the same text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(LLMTextFrame(self._text))
        await self.push_frame(LLMFullResponseEndFrame())


class _Tap(FrameProcessor):
    """Keeps the audio that goes by."""

    def __init__(self, sound: bytearray) -> None:
        super().__init__()
        self._sound = sound

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self._sound += frame.audio
        await self.push_frame(frame, direction)


class Recital(FrameProcessor):
    """One session; it stands behind the output, and sees what came of each noise.

    Attributes:
        context: what was said.
        voiced: the voice's audio before it goes out, 16-bit PCM at 24 kHz.
        moments: (seconds of the monotonic clock, type of frame) of each ``SpeechOnsetFrame``,
            ``HoldPlaybackFrame``, ``ResumePlaybackFrame`` and ``InterruptionFrame``.
    """

    _TOLD = (HoldPlaybackFrame, InterruptionFrame, ResumePlaybackFrame, SpeechOnsetFrame)

    def __init__(self) -> None:
        super().__init__()
        self.context = LLMContext()
        self.voiced = bytearray()
        self.moments: list[tuple[float, type[Frame]]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Write the frame down, and let it pass."""
        await super().process_frame(frame, direction)
        if isinstance(frame, self._TOLD):
            self.moments.append((time.monotonic(), type(frame)))
        await self.push_frame(frame, direction)

    def count(self, kind: type[Frame]) -> int:
        """How often a frame of this type came."""
        return sum(each is kind for _, each in self.moments)

    def after(self, at_s: float, kind: type[Frame]) -> float | None:
        """When the first frame of this type came after a time; or None."""
        return min((at for at, each in self.moments if each is kind and at >= at_s), default=None)

    @property
    def heard(self) -> list[str]:
        """What the context holds of each recital that is over: the words that were played."""
        messages: list[Any] = self.context.get_messages()
        return [str(each["content"]) for each in messages if each["role"] == "assistant"]


class Reciter:
    """The bot.

    Args:
        text: what it recites.
        profile: its way of taking turns.

    Attributes:
        sessions: all so far.
    """

    def __init__(self, text: str, *, profile: str = "balanced") -> None:
        self._text = text
        self._profile = profile
        self.sessions: list[Recital] = []

    async def prepare(self) -> None:
        """Load the models."""
        await hearing(profile=self._profile)
        await conversation(LLMContext(), profile=self._profile)
        await runtime().voice()

    async def __call__(self, runner_args: RunnerArguments) -> None:
        """One session."""
        transport = await create_transport(runner_args)
        recital = Recital()
        context = await conversation(recital.context, profile=self._profile)
        worker = make_worker(
            runner_args,
            transport,
            [
                transport.input(),
                *await hearing(profile=self._profile),
                context.user(),
                _Speaker(self._text),
                PiperVoice(await runtime().voice()),
                _Tap(recital.voiced),
                transport.output(),
                recital,
                context.assistant(),
            ],
        )
        self.sessions.append(recital)

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport: BaseTransport, client: Any) -> None:
            await worker.queue_frame(LLMRunFrame())

        await run_worker(runner_args, worker)
