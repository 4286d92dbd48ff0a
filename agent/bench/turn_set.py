"""A set of pauses and ends, made from recordings whose texts are known.

Each clip is cut at some of its words, in mid-sentence, and a pause in the clip's own background
noise put there; where its text is whole, its own end is one more place. At each place the real
detector, Smart Turn and Whisper are asked what they make of it.
"""

import random
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.bench.clips import Clip, read_clip
from talkpath.agent.speech import (
    WINDOW_S,
    WINDOW_SAMPLES,
    EarlyPause,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from talkpath.agent.turns import TurnAudio
from talkpath.agent.whisper.results import Word

if TYPE_CHECKING:
    from talkpath.agent.smart_turn import SmartTurn
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.whisper import WhisperEngine

__all__ = ["Place", "TurnSet", "is_whole"]

_LONGEST_S = 26.0  # in Whisper's window; of longer clips the end of it
_BEFORE_S = 0.4
_SILENCE_S = 1.0  # the detector stops within it
_FADE_S = 0.01
_FRAME_S = 0.02
_LEAST_WORDS = 2  # before and after a cut
_FLOOR_DB = 40.0  # frames so far below the loudest are silence


@dataclass(frozen=True, slots=True)
class Place:
    """One place where a caller falls silent.

    Attributes:
        clip: its name.
        finished: whether the caller has finished there.
        detected_s: from the end of the sound to where the detector says that silence began;
            negative where it was earlier.
        stop_s: from the end of the sound to the stop.
        completeness: Smart Turn's opinion at the early pause, 0 to 1.
        text: what Whisper wrote of the last utterance.
    """

    clip: str
    finished: bool
    detected_s: float
    stop_s: float
    completeness: float
    text: str


def is_whole(text: str) -> bool:
    """Whether a reference's end is the end of a sentence: so marked, or without any marks."""
    return _closes(text) or not re.search(r"[.,;:?!]", text)


def _closes(text: str) -> bool:
    return text.rstrip('" ').endswith((".", "?", "!"))


class TurnSet:
    """Makes the places of clips.

    Args:
        engine: writes down.
        vad: finds speech.
        smart_turn: judges.
        cuts: places in mid-sentence for each clip, at most.
        seed: of the choice of cuts, and of the noise in the pauses.
    """

    def __init__(
        self,
        engine: "WhisperEngine",
        vad: "SileroVad",
        smart_turn: "SmartTurn",
        *,
        cuts: int = 6,
        seed: int = 1,
    ) -> None:
        self._engine = engine
        self._vad = vad
        self._smart_turn = smart_turn
        self._cuts = cuts
        self._seed = seed

    async def places(self, clip: Clip, words: Sequence[Word]) -> AsyncIterator[Place]:
        """The places of one clip.

        Args:
            clip: a recording.
            words: its words with their times.
        """
        audio = read_clip(clip)
        chance = random.Random(f"{self._seed} {clip.id}")
        noise = np.random.default_rng(chance.getrandbits(32))
        ends = [(_sound_end(audio), True)] if is_whole(clip.text) else []
        ends += [(word.end_s, False) for word in self._cut_words(words, chance)]
        for end_s, finished in ends:
            place = await self._place(clip, audio[: round(end_s * SAMPLE_RATE_HZ)], finished, noise)
            if place is not None:
                yield place

    def _cut_words(self, words: Sequence[Word], chance: random.Random) -> list[Word]:
        inner = words[_LEAST_WORDS - 1 : len(words) - _LEAST_WORDS]
        # A sentence may end inside a clip; what Whisper closes with a mark is no clear case.
        candidates = [
            word for word in inner if not word.text.rstrip('" ').endswith((".", "?", "!"))
        ]
        return chance.sample(candidates, min(self._cuts, len(candidates)))

    async def _place(
        self, clip: Clip, said: FloatArray, finished: bool, noise: np.random.Generator
    ) -> Place | None:
        floor = _noise_floor(said)
        said = said[-round(_LONGEST_S * SAMPLE_RATE_HZ) :].copy()
        fade = round(_FADE_S * SAMPLE_RATE_HZ)
        said[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)

        def quiet(seconds: float) -> FloatArray:
            samples = round(seconds * SAMPLE_RATE_HZ)
            return noise.normal(0, floor, samples).astype(np.float32)

        audio = np.concatenate([quiet(_BEFORE_S), said, quiet(_SILENCE_S)])
        end_s = _BEFORE_S + len(said) / SAMPLE_RATE_HZ
        tracker, turn = SpeechTracker(self._vad), TurnAudio(self._smart_turn)
        utterance_s = detected_s = completeness = 0.0
        for number in range(len(audio) // WINDOW_SAMPLES):
            window = audio[number * WINDOW_SAMPLES : (number + 1) * WINDOW_SAMPLES]
            turn.append(window)
            now_s = (number + 1) * WINDOW_S
            for event in tracker.process(window):
                match event:
                    case SpeechStarted(ago_s):
                        utterance_s = now_s - ago_s
                    case EarlyPause(silence_s):
                        detected_s = now_s - silence_s
                        if now_s > end_s - _SILENCE_S / 2:  # the last pause alone is wanted
                            completeness = await turn.completeness(silence_s)
                    case SpeechStopped() if now_s > end_s:
                        utterance = audio[round(utterance_s * SAMPLE_RATE_HZ) :]
                        heard = await self._engine.decode(
                            utterance[: round((now_s - utterance_s) * SAMPLE_RATE_HZ)],
                            language=clip.language,
                        )
                        return Place(
                            clip.id,
                            finished,
                            detected_s - end_s,
                            now_s - end_s,
                            completeness,
                            heard.text,
                        )
        return None  # the detector found no end in it


def _levels(audio: FloatArray) -> FloatArray:
    """Root mean square of each frame."""
    size = round(_FRAME_S * SAMPLE_RATE_HZ)
    frames = audio[: len(audio) // size * size].reshape(-1, size)
    return np.sqrt(np.mean(frames**2, axis=1, dtype=np.float32) + np.float32(1e-12))


def _noise_floor(audio: FloatArray) -> float:
    return max(float(np.percentile(_levels(audio), 3)), 1e-5)


def _sound_end(audio: FloatArray) -> float:
    """Seconds from the start to the end of the last frame that is no silence."""
    levels = _levels(audio)
    loud = np.nonzero(levels > levels.max() * 10 ** (-_FLOOR_DB / 20))[0]
    return (int(loud[-1]) + 1) * _FRAME_S
