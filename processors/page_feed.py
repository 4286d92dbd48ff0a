"""Page feed: what the page shows beyond RTVI's own messages, as RTVI server messages.

Captions, with the stable words apart::

    {"type": "caption", "utterance": 3, "stable": "to be or", "rest": "not two",
     "final": false, "language": "en", "spoken": "en"}

The stable words of an utterance only grow, until ``final`` gives the whole text, with an
empty ``rest``. A final without text takes the utterance off the page. ``language`` is that of
the text, ``spoken`` what was spoken: another one where it was translated.

When each final was said, in seconds of the caller's audio, and as subtitles::

    {"type": "cues", "utterance": 3, "language": "en",
     "segments": [{"start_s": 1.2, "end_s": 3.4, "text": "to be or not to be", "words": []}],
     "cues": [{"start_ms": 1200, "end_ms": 3400, "lines": ["to be or not to be"]}]}

``words`` holds start, end, text and probability of each where the times of words are known.

Latency of a turn, in parts that add up to the total; when its speech ended, in Unix seconds by
the detector; and how long before the decision an eager reply was begun, or null::

    {"type": "turn-latency", "turn": 2, "total_ms": 412.0, "ended_at": 1764000000.123,
     "eager_ms": 150.0, "parts": [{"name": "stop", "ms": 200.0}, ...]}

What happened between the speakers so far, whenever it changes (``agent/turn_counts.py``)::

    {"type": "turn-counts", "eager_started": 3, "eager_used": 2, "eager_discarded": 1,
     "barge_ins": 1, "false_alarms": 0, "backchannels": 2}
"""

import dataclasses
from typing import Any

from pipecat.frames.frames import InterimTranscriptionFrame, TranscriptionFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frameworks.rtvi import RTVIProcessor
from pipecat.services.stt_service import STTService

from talkpath.agent.subtitles import cues
from talkpath.agent.timeline import TurnLatency
from talkpath.agent.turn_counts import TurnCounts
from talkpath.agent.whisper import Final, Partial
from talkpath.processors.frames import NothingHeardFrame

__all__ = ["PageFeed"]


class PageFeed(BaseObserver):
    """Watches the pipeline and sends captions; give it turn latencies to send those too.

    Args:
        rtvi: the pipeline worker's (``PipelineWorker.rtvi``).
    """

    def __init__(self, rtvi: RTVIProcessor) -> None:
        super().__init__()
        self._rtvi = rtvi
        self._last_cue_ms = 0

    async def on_push_frame(self, data: FramePushed) -> None:
        """Turn a transcript into a caption, once: where it leaves Whisper, here or at a server."""
        if not isinstance(data.source, STTService):
            return
        frame = data.frame
        # Both of ours have it; what another service of Pipecat's gives is a transcript.
        translates = getattr(data.source, "task", "transcribe") == "translate"
        if isinstance(frame, NothingHeardFrame):
            await self._caption(frame.utterance, "", "", final=True, spoken=None)
        elif isinstance(frame, (InterimTranscriptionFrame, TranscriptionFrame)):
            result: Any = frame.result
            if isinstance(result, Partial):
                await self._caption(
                    result.utterance,
                    result.stable,
                    result.rest,
                    final=False,
                    spoken=result.language,
                    translates=translates,
                )
            elif isinstance(result, Final):
                await self._caption(
                    result.utterance,
                    result.transcript.text,
                    "",
                    final=True,
                    spoken=result.transcript.language,
                    translates=translates,
                )
                await self._cues(result, translates)

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
                "ended_at": round(latency.ended_at_s, 3),
                "eager_ms": latency.eager_ms,
            }
        )

    async def turn_counts(self, counts: TurnCounts) -> None:
        """Send what happened between the speakers so far."""
        await self._rtvi.send_server_message({"type": "turn-counts", **dataclasses.asdict(counts)})

    async def _caption(
        self,
        utterance: int,
        stable: str,
        rest: str,
        *,
        final: bool,
        spoken: str | None,
        translates: bool = False,
    ) -> None:
        await self._rtvi.send_server_message(
            {
                "type": "caption",
                "utterance": utterance,
                "stable": stable,
                "rest": rest,
                "final": final,
                "language": "en" if translates else spoken,
                "spoken": spoken,
            }
        )

    async def _cues(self, final: Final, translates: bool) -> None:
        """Send when a final was said."""
        segments = [
            segment.shifted(final.start_s) for segment in final.transcript.segments if segment.text
        ]
        shown = []
        for segment in segments:
            for cue in cues(segment, not_before_ms=self._last_cue_ms):
                self._last_cue_ms = cue.end_ms
                shown.append(dataclasses.asdict(cue))
        said = [
            {
                "start_s": round(segment.start_s, 3),
                "end_s": round(segment.end_s, 3),
                "text": segment.text,
                "words": [
                    {
                        "start_s": round(word.start_s, 3),
                        "end_s": round(word.end_s, 3),
                        "text": word.text,
                        "probability": round(word.probability, 3),
                    }
                    for word in segment.words
                ],
            }
            for segment in segments
        ]
        if said:
            await self._rtvi.send_server_message(
                {
                    "type": "cues",
                    "utterance": final.utterance,
                    "language": "en" if translates else final.transcript.language,
                    "segments": said,
                    "cues": shown,
                }
            )
