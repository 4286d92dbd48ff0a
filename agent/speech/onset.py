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
So half of that will do in a window that is loud (see ``SpeechLevel.loud``), and a quarter in two;
and an onset whose probability sinks again is kept up by loud windows for 0.2 s. One that came to
nothing makes loudness no evidence for 10 s: among knocks the bot falters once, not each time.

Over the beginnings of the English reference clips, from the first 10 ms within 15 dB of the
loudest to the end of the window that tells (median, 90th, 95th and 99th percentile, ms):

===========================  ==================  ==================
.                            probability alone   with loudness
===========================  ==================  ==================
as recorded, silent room     42, 83, 159, 232    26, 50, 56, 82
12 dB less, noise -60 dBFS   54, 151, 213, 242   38, 75, 152, 222
===========================  ==================  ==================

Of 1520 such beginnings at several levels 56 had an onset that ended too early, so that the bot
spoke between two holds; 23 have. What came to nothing in 22 minutes of tones, music, knocks and
noises (``nonspeech``), each out of silence: 20 onsets, and 53 with loudness, most of them 0.1 to
0.3 s long. Two windows in a row from 0.5 up are later; the last three windows are hardly quicker,
and took half of all breaths for speech.
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
        self._loud = 0  # windows in a row
        self._doubt = 0  # windows for which loudness is no evidence
        self._under_way = False
        self._unlikely = 0  # windows since an onset was likely
        self._silence = 0

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
        if speaking:
            self._under_way = False
            self._recent.clear()
        elif self._under_way:
            return self._go_on(speech, loud)
        elif self.listening and (self._likely() or self._stands_out()):
            self._under_way, self._silence, self._unlikely = True, 0, 0
            began = next((i for i, each in enumerate(self._recent) if each >= _SOME), 0)
            return [SpeechOnset((len(self._recent) - began) * WINDOW_S)]
        return []

    def _likely(self) -> bool:
        return sum(self._recent) >= self._enough

    def _stands_out(self) -> bool:
        if not self._loud or self._doubt:
            return False
        one, two = self._recent[-1], sum(self._recent)
        return one >= _LOUD_ONE * self._enough or (
            self._loud >= _WINDOWS and two >= _LOUD_TWO * self._enough
        )

    def _go_on(self, speech: bool, loud: bool) -> list[OnsetEvent]:
        self._unlikely = 0 if self._likely() else self._unlikely + 1
        goes_on = speech or (loud and self._unlikely <= _LOUD_WINDOWS)
        self._silence = 0 if goes_on else self._silence + 1
        return self.end() if self._silence >= _END_WINDOWS else []

    def end(self) -> list[OnsetEvent]:
        """End an onset that is under way, for instance because no more audio comes."""
        under_way, self._under_way = self._under_way, False
        self._recent.clear()
        if not under_way:
            return []
        self._doubt = _DOUBT_WINDOWS
        return [SpeechOnsetEnded()]
