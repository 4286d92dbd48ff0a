"""Page feed: what the page shows beyond RTVI's own messages, as RTVI server messages.

Captions, with the stable words apart::

    {"type": "caption", "utterance": 3, "stable": "to be or", "rest": "not two",
     "final": false, "language": "en"}

The stable words of an utterance only grow, until ``final`` gives the whole text, with an
empty ``rest``. A final without text takes the utterance off the page.

Latency of a turn, in parts that add up to the total::

    {"type": "turn-latency", "turn": 2, "total_ms": 412.0,
     "parts": [{"name": "stop", "ms": 200.0}, {"name": "final", "ms": 12.0}, ...]}
"""

from typing import Any

from pipecat.frames.frames import InterimTranscriptionFrame, TranscriptionFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frameworks.rtvi import RTVIProcessor
from pipecat.services.stt_service import STTService

from talkpath.agent.whisper import Final, Partial
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.latency_timeline import TurnLatency

__all__ = ["PageFeed"]


class PageFeed(BaseObserver):
    """Watches the pipeline and sends captions; give it turn latencies to send those too.

    Args:
        rtvi: the pipeline worker's (``PipelineWorker.rtvi``).
    """

    def __init__(self, rtvi: RTVIProcessor) -> None:
        super().__init__()
        self._rtvi = rtvi

    async def on_push_frame(self, data: FramePushed) -> None:
        """Turn a transcript into a caption, once: where it leaves Whisper, here or at a server."""
        if not isinstance(data.source, STTService):
            return
        frame = data.frame
        if isinstance(frame, NothingHeardFrame):
            await self._caption(frame.utterance, "", "", final=True, language=None)
        elif isinstance(frame, (InterimTranscriptionFrame, TranscriptionFrame)):
            result: Any = frame.result
            if isinstance(result, Partial):
                await self._caption(
                    result.utterance, result.stable, result.rest, False, result.language
                )
            elif isinstance(result, Final):
                transcript = result.transcript
                await self._caption(
                    result.utterance, transcript.text, "", True, transcript.language
                )

    async def turn_latency(self, latency: TurnLatency) -> None:
        """Send the latency of a turn."""
        parts = [{"name": name, "ms": round(ms, 1)} for name, ms in latency.parts]
        await self._rtvi.send_server_message(
            {
                "type": "turn-latency",
                "turn": latency.turn,
                "parts": parts,
                # What the page shows adds up, rounding included.
                "total_ms": round(sum(round(ms, 1) for _, ms in latency.parts), 1),
            }
        )

    async def _caption(
        self, utterance: int, stable: str, rest: str, final: bool, language: str | None
    ) -> None:
        await self._rtvi.send_server_message(
            {
                "type": "caption",
                "utterance": utterance,
                "stable": stable,
                "rest": rest,
                "final": final,
                "language": language,
            }
        )
