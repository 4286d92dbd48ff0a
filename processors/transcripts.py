"""What the speech-to-text processors have in common: Pipecat's frames of a stream's results."""

import asyncio
from typing import TypeVar

from pipecat.frames.frames import (
    EagerTranscriptionFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
)
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

from talkpath.agent.whisper import Final, Likely, Partial
from talkpath.processors.frames import NothingHeardFrame

__all__ = ["ResultQueue", "final_frame", "likely_frame", "partial_frame", "wrong_format"]

_PARTIALS_AHEAD = 8
T = TypeVar("T")


class ResultQueue(asyncio.Queue[T]):
    """Results that wait until the pipeline takes them.

    A partial that finds eight results waiting is dropped, for a newer one follows; finals are
    never dropped, and there are no more of them than the speaker made utterances.
    """

    def take(self, result: T) -> None:
        """Queue a result, or drop it."""
        if isinstance(result, Partial) and self.qsize() >= _PARTIALS_AHEAD:
            return
        self.put_nowait(result)


def wrong_format(frame: InputAudioRawFrame, sample_rate_hz: int) -> str | None:
    """What is wrong with audio in a pipeline of this rate; it must be mono."""
    if (frame.sample_rate, frame.num_channels) == (sample_rate_hz, 1):
        return None
    return (
        f"audio of {frame.sample_rate} Hz and {frame.num_channels} channels came into a "
        f"pipeline of {sample_rate_hz} Hz mono"
    )


def partial_frame(partial: Partial, user_id: str) -> Frame:
    """The frame for a partial."""
    return InterimTranscriptionFrame(
        partial.text,
        user_id,
        time_now_iso8601(),
        _language(partial.language),
        result=partial,
    )


def final_frame(final: Final, user_id: str, *, finalized: bool) -> Frame:
    """The frame for a final, or for its having no words."""
    transcript = final.transcript
    # A loop in the full window, too, is the decoder's doing and nobody's words.
    if not transcript.text or transcript.possible_hallucination:
        return NothingHeardFrame(final.utterance, ends_speech=finalized)
    frame = TranscriptionFrame(
        transcript.text,
        user_id,
        time_now_iso8601(),
        _language(transcript.language),
        result=final,
        finalized=finalized,
    )
    # The speaker may go on right away; that must not lose what was said before.
    frame.interruptible = False
    return frame


def likely_frame(likely: Likely, user_id: str) -> Frame | None:
    """The frame for what an utterance said, should its pause be its end; None without words."""
    transcript = likely.transcript
    if not transcript.text or transcript.possible_hallucination:
        return None
    return EagerTranscriptionFrame(
        transcript.text,
        user_id,
        time_now_iso8601(),
        _language(transcript.language),
        result=likely,
    )


def _language(code: str) -> Language | None:
    """Pipecat's name of a Whisper language; None for the few that it does not have."""
    try:
        return Language(code)
    except ValueError:
        return None
