"""The first sign of speech, for a bot that is to fall silent before speech is certain.

Sans-IO: windows in, events out. It listens while it is told to, which is while the bot speaks::

                    enough probability
       ┌── NOTHING ─────────────────► ONSET ──────────────► speech has started
       │                                │  counting silence
       └────────────── Ended ◄──────────┘  (speech: from zero)

Enough is when the probabilities of the last two windows add up to ``barge_in_threshold``: one
window that is certain, or two that are half so, as soft beginnings are. Over the reference clips
that is 35, 78 and 167 ms (median, 90th and 95th percentile) after the speech comes within 15 dB of
its loudest; two windows in a row from 0.5 up take 58, 103 and 212 ms. What came to nothing: 5
beside 108 starts in clean sound, 2 beside 192 with pink noise at 20 and 10 dB, and 30 in 31
minutes without a voice, nearly all of them music and knocks (3, none and 15 with two windows).
The last three windows are hardly quicker, and took half of all breaths for speech.
"""

from collections import deque
from dataclasses import dataclass

from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech.silero import WINDOW_S

__all__ = ["OnsetEvent", "OnsetMachine", "SpeechOnset", "SpeechOnsetEnded"]

_WINDOWS = 2
_SOME = 0.1  # the first window with so much is where it began
# A hole between two syllables is no end of it: the bot would stutter.
_END_WINDOWS = 3


@dataclass(frozen=True, slots=True)
class SpeechOnset:
    """Perhaps speech: it began ``ago_s`` seconds before the end of the audio so far."""

    ago_s: float


@dataclass(frozen=True, slots=True)
class SpeechOnsetEnded:
    """The onset came to nothing: no speech started."""


OnsetEvent = SpeechOnset | SpeechOnsetEnded


class OnsetMachine:
    """The state machine above, for one stream.

    Attributes:
        listening: whether new onsets are told; one that is under way comes to its end in any case.
    """

    def __init__(self, config: SpeechConfig | None = None) -> None:
        self.listening = False
        self._enough = (config or SpeechConfig()).barge_in_threshold
        self._recent: deque[float] = deque(maxlen=_WINDOWS)
        self._under_way = False
        self._silence = 0

    def advance(self, probability: float, *, speech: bool, speaking: bool) -> list[OnsetEvent]:
        """Take the next window.

        Args:
            probability: of speech in it.
            speech: whether that makes it a window of speech.
            speaking: whether speech has started and not stopped, this window included.
        """
        self._recent.append(probability)
        self._silence = 0 if speech else self._silence + 1
        if speaking:
            self._under_way = False
            self._recent.clear()
        elif self._under_way and self._silence >= _END_WINDOWS:
            return self.end()
        elif self.listening and not self._under_way and sum(self._recent) >= self._enough:
            self._under_way, self._silence = True, 0
            began = next(i for i, each in enumerate(self._recent) if each >= _SOME)
            return [SpeechOnset((len(self._recent) - began) * WINDOW_S)]
        return []

    def end(self) -> list[OnsetEvent]:
        """End an onset that is under way, for instance because no more audio comes."""
        under_way, self._under_way = self._under_way, False
        self._recent.clear()
        return [SpeechOnsetEnded()] if under_way else []
