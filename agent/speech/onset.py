"""The first sign of speech, for a bot that is to fall silent before speech is certain.

Sans-IO: windows in, events out. It listens while it is told to, which is while the bot speaks::

                    enough probability, or less
                    of it and a sudden loud sound
       ┌── NOTHING ─────────────────────────────► ONSET ──────────────► speech has started
       │                                            │  counting silence
       └─────────────────── Ended ◄─────────────────┘  (speech: from zero)

Enough is when the probabilities of the last two windows add up to ``barge_in_threshold``: one
window that is certain, or two that are half so, as soft beginnings are. Hard beginnings are what
takes Silero long: a plosive, or a vowel at full level out of silence, is not likely for 200 ms.
So half of that will do in a window that is loud (``SpeechLevel.is_loud``), and a quarter in two;
and an onset whose probability sinks again is kept up by loud windows for 0.2 s. One that came to
nothing makes loudness no evidence for 10 s: among knocks the bot falters once, not each time.
While it listens it is also given the windows half way between the others, which tell by their
probability alone, but not in those 10 s; with one caller they are another 0.45 % of a core while
the bot speaks.

Over the beginnings of the English reference clips, from the first 10 ms within 15 dB of the
loudest to the end of the window that tells (median, 90th, 95th and 99th percentile, ms):

===========================  ==================  ======================
.                            probability alone   loudness, and between
===========================  ==================  ======================
as recorded, silent room     42, 105, 180, 249   22, 46, 55, 78
12 dB less, noise -60 dBFS   40, 89, 214, 250    24, 54, 74, 214
===========================  ==================  ======================

7 of 304 such onsets ended too early, so that the bot spoke between two holds; 1 does now. What
came to nothing in 11 minutes of tones, music, knocks and noises (``nonspeech``), each out of
silence: 20 onsets, and 54 now, most of them 0.1 to 0.3 s long. Two windows in a row from 0.5 up
are later; the last three windows are hardly quicker, and took half of all breaths for speech.
"""

from collections import deque
from dataclasses import dataclass

from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech.silero import WINDOW_S, windows_of

__all__ = ["OnsetEvent", "OnsetMachine", "SpeechOnset", "SpeechOnsetEnded"]

_WINDOWS = 2
_SOME = 0.1  # the first window with so much is where it began
# A hole between two syllables is no end of it: the bot would stutter.
_END_WINDOWS = 3
# Parts of what is enough that will do with loudness: in the last window, in the last two.
_LOUD_ONE, _LOUD_TWO = 0.5, 0.25
_LOUD_WINDOWS = 6  # for which loudness keeps up an onset that is not likely any more
_DOUBT_WINDOWS = windows_of(10.0)


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
        self._between: deque[float] = deque(maxlen=_WINDOWS)
        self._loud = 0  # windows in a row
        self._doubt = 0  # windows for which only likely windows count
        self._speaking = False
        self._under_way = False
        self._unlikely = 0  # windows since an onset was likely
        self._silence = 0

    @property
    def waits(self) -> bool:
        """Whether ``advance_between`` may tell of an onset."""
        return self.listening and not (self._under_way or self._speaking or self._doubt)

    def advance(
        self, probability: float, *, speech: bool, speaking: bool, loud: bool = False
    ) -> list[OnsetEvent]:
        """Take the next window.

        Args:
            probability: of speech in it.
            speech: whether that makes it a window of speech.
            speaking: whether speech has started and not stopped, this window included.
            loud: whether it is loud enough for the caller, and stands out from the noise.
        """
        self._recent.append(probability)
        self._loud = self._loud + 1 if loud else 0
        self._doubt = max(0, self._doubt - 1)
        self._speaking = speaking
        if not self.waits:
            self._between.clear()
        if speaking:
            self._under_way = False
            self._clear()
        elif self._under_way:
            return self._go_on(speech, loud)
        elif self.listening and (self._likely(self._recent) or self._stands_out()):
            return self._begin(self._recent)
        return []

    def advance_between(self, probability: float) -> list[OnsetEvent]:
        """Take a window that lies half in the last one and half in the next.

        Args:
            probability: of speech in it.
        """
        self._between.append(probability)
        return self._begin(self._between) if self.waits and self._likely(self._between) else []

    def _likely(self, recent: deque[float]) -> bool:
        return sum(recent) >= self._enough

    def _stands_out(self) -> bool:
        if not self._loud or self._doubt:
            return False
        one, two = self._recent[-1], sum(self._recent)
        return one >= _LOUD_ONE * self._enough or (
            self._loud >= _WINDOWS and two >= _LOUD_TWO * self._enough
        )

    def _begin(self, recent: deque[float]) -> list[OnsetEvent]:
        self._under_way, self._silence, self._unlikely = True, 0, 0
        began = next((i for i, each in enumerate(recent) if each >= _SOME), 0)
        return [SpeechOnset((len(recent) - began) * WINDOW_S)]

    def _go_on(self, speech: bool, loud: bool) -> list[OnsetEvent]:
        self._unlikely = 0 if self._likely(self._recent) else self._unlikely + 1
        goes_on = speech or (loud and self._unlikely <= _LOUD_WINDOWS)
        self._silence = 0 if goes_on else self._silence + 1
        return self.end() if self._silence >= _END_WINDOWS else []

    def end(self) -> list[OnsetEvent]:
        """End an onset that is under way, for instance because no more audio comes."""
        under_way, self._under_way = self._under_way, False
        self._clear()
        if not under_way:
            return []
        self._doubt = _DOUBT_WINDOWS
        return [SpeechOnsetEnded()]

    def _clear(self) -> None:
        self._recent.clear()
        self._between.clear()
