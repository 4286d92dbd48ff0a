"""What speech-to-text in this process and speech-to-text at a server have in common."""

import asyncio
from abc import abstractmethod
from typing import Generic, TypeVar

from loguru import logger
from pipecat.frames.frames import CancelFrame, EndFrame, InputAudioRawFrame, StartFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService

from talkpath.agent.errors import TalkpathError
from talkpath.agent.whisper import Final
from talkpath.processors.transcripts import ResultQueue, wrong_format

__all__ = ["WhisperService"]

_DRAIN_S = 3.0  # a session whose caller is gone has 5 s to end

Result = TypeVar("Result")


class WhisperService(STTService, Generic[Result]):
    """One session's stream of speech, and the task that pushes what comes of it.

    A class below it opens and closes the stream; its results go into ``self._results``.

    Args:
        language: a Whisper code, ``auto``, or None for the usual.
        audio_passthrough: whether the audio goes on; False saves the way behind this processor
            where nobody listens there.
        ttfs_p99_latency: seconds from the end of speech to the final, 99th percentile; turn
            strategies wait this long at most.
    """

    def __init__(
        self, language: str | None, *, audio_passthrough: bool, ttfs_p99_latency: float
    ) -> None:
        super().__init__(
            audio_passthrough=audio_passthrough,
            ttfs_p99_latency=ttfs_p99_latency,
            settings=STTSettings(model="whisper", language=language),
        )
        self._results: ResultQueue[Result] = ResultQueue()
        self._pushing: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def task(self) -> str:
        """``transcribe``, or ``translate`` into English."""

    @abstractmethod
    def _open(self) -> None:
        """Open the stream, which must not wait.

        Raises:
            TalkpathError: there is none to be had; this processor is unusable then.
        """

    @abstractmethod
    async def _drain(self) -> None:
        """End the speech, and wait until all its results are in the queue."""

    @abstractmethod
    async def _release(self) -> None:
        """Close the stream, if there is one."""

    @abstractmethod
    async def _push(self, result: Result) -> None:
        """Send on what came of the stream."""

    def can_generate_metrics(self) -> bool:
        """Whether it reports metrics: yes, the time to the final and the audio's length."""
        return True

    async def start(self, frame: StartFrame) -> None:
        """Open the stream; where that fails, an error frame tells it."""
        await super().start(frame)
        try:
            self._open()
        except TalkpathError as error:
            await self.push_error(str(error), exception=error, force_treat_as_permanent=True)
            return
        self._pushing = self.create_task(self._push_results())

    async def stop(self, frame: EndFrame) -> None:
        """Bring out the finals of all that was said, then close the stream."""
        if self._pushing is not None:
            try:
                async with asyncio.timeout(_DRAIN_S):
                    await self._drain()
                    await self._results.join()
            except TimeoutError:
                await self.push_error("the last words could not be transcribed in time")
        await self._close()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Close the stream at once."""
        await self._close()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Close the stream if neither the end nor a cancellation came through."""
        await self._close()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def process_audio_frame(
        self, frame: InputAudioRawFrame, direction: FrameDirection
    ) -> None:
        """Take audio in the pipeline's own format; another one ends in an error frame."""
        wrong = wrong_format(frame, self.sample_rate)
        if wrong and self.is_usable:
            await self.push_error(wrong, force_treat_as_permanent=True)
        await super().process_audio_frame(frame, direction)

    async def _close(self) -> None:
        await self._release()
        if self._pushing is not None:
            await self.cancel_task(self._pushing)
            self._pushing = None

    async def _push_results(self) -> None:
        while True:
            result = await self._results.get()
            if isinstance(result, Final):
                logger.debug("heard: {}", result.transcript.text)
            await self._push(result)
            self._results.task_done()
