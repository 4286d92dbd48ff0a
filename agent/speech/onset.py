"""The first sign of speech, for a bot that is to fall silent before speech is certain.

Sans-IO: windows in, events out. It listens while it is told to, which is while the bot speaks::

                    speech x barge_in_start
       ┌── NOTHING ────────────────────────► ONSET ──────────────► speech has started
       │  ▲  counting speech                   │  counting silence
       │  └────────────── Ended ◄──────────────┘  (speech: from zero)

Over the 43 clips of the reference set, each at five offsets against the windows, two windows of
speech came 82 ms (median) after it could be heard, where the six of a start come 211 ms after it.
Onsets that came to nothing: 4 beside 108 starts in clean sound, none beside 96 with pink noise at
20 and 10 dB; in 31 minutes without a voice 21, all of them music, knocks and applause. One window
is 34 ms quicker, with 7 and 36 of them.
"""

from dataclasses import dataclass

from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech.silero import WINDOW_S, windows_of

__all__ = ["OnsetEvent", "OnsetMachine", "SpeechOnset", "SpeechOnsetEnded"]

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
        self._needed = windows_of((config or SpeechConfig()).barge_in_start_s)
        self._under_way = False
        self._speech = 0
        self._silence = 0

    def advance(self, speech: bool, speaking: bool) -> list[OnsetEvent]:
        """Take the next window.

        Args:
            speech: whether the window is speech.
            speaking: whether speech has started and not stopped, this window included.
        """
        self._speech = self._speech + 1 if speech else 0
        self._silence = 0 if speech else self._silence + 1
        if speaking:
            self._under_way = False
        elif self._under_way and self._silence >= _END_WINDOWS:
            return self.end()
        elif self.listening and not self._under_way and self._speech >= self._needed:
            self._under_way = True
            return [SpeechOnset(self._speech * WINDOW_S)]
        return []

    def end(self) -> list[OnsetEvent]:
        """End an onset that is under way, for instance because no more audio comes."""
        under_way, self._under_way, self._speech = self._under_way, False, 0
        return [SpeechOnsetEnded()] if under_way else []
