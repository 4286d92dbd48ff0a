"""When somebody speaks: from a probability every 32 ms to started, paused, resumed, stopped.

Sans-IO: probabilities in, events out.

::

                    speech x start               silence x early pause
       ┌── QUIET ─────────────────► SPEAKING ───────────────────────► PAUSED ──┐
       │  ▲  counting speech        ▲  counting silence      speech │          │
       │  │  (silence: from zero)   │  (speech: from zero)          │          │
       │  │                         └───────── Resumed ─────────────┘          │
       │  └──────────────────────────────── Stopped ◄─── silence x stop ───────┘

A window counts as speech from the threshold up; once somebody speaks, 0.15 less will do
(the hysteresis that Silero's own iterator uses), so that soft word endings do not flicker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from talkpath.agent.audio import FloatArray
from talkpath.agent.config import SpeechConfig
from talkpath.agent.speech.level import SpeechLevel
from talkpath.agent.speech.onset import OnsetEvent, OnsetMachine
from talkpath.agent.speech.silero import (
    WINDOW_S,
    WINDOW_SAMPLES,
    SileroState,
    SileroVad,
    windows_of,
)

__all__ = [
    "EarlyPause",
    "SpeechEvent",
    "SpeechMachine",
    "SpeechResumed",
    "SpeechStarted",
    "SpeechStopped",
    "SpeechTracker",
]

_HYSTERESIS = 0.15
# No lower than this (as in Silero's own cutting of recordings), or speech would never end.
_LEAST_THRESHOLD = 0.01
# Music or a long silence can leave the recurrent state unable to hear the speech that
# follows; a reset helps, and does no harm while it is clearly quiet.
_RESET_AFTER_S = 2.0
_RESET_BELOW = 0.1
_RESET_QUIET_WINDOWS = 5
_HOP_SAMPLES = WINDOW_SAMPLES // 2


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech is certain; it began ``ago_s`` seconds before the end of the audio so far."""

    ago_s: float


@dataclass(frozen=True, slots=True)
class EarlyPause:
    """It has been silent for a moment, perhaps for good; for ``silence_s`` seconds so far."""

    silence_s: float


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """Speech went on after an early pause."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """Speech has ended, ``silence_s`` seconds before the end of the audio so far."""

    silence_s: float


SpeechEvent = OnsetEvent | SpeechStarted | EarlyPause | SpeechResumed | SpeechStopped


class _State(Enum):
    QUIET = auto()
    SPEAKING = auto()
    PAUSED = auto()


class SpeechMachine:
    """The state machine above, for one stream."""

    def __init__(self, config: SpeechConfig | None = None) -> None:
        self._state = _State.QUIET
        self._count = 0
        self.configure(config or SpeechConfig())

    def configure(self, config: SpeechConfig) -> None:
        """Go by this threshold and these times from now on; speech under way goes on."""
        self._threshold = config.threshold
        self._start = windows_of(config.start_s)
        self._early_pause = windows_of(config.early_pause_s)
        self._stop = max(windows_of(config.stop_s), self._early_pause)

    @property
    def speaking(self) -> bool:
        """Whether speech has started and not stopped."""
        return self._state is not _State.QUIET

    def is_speech(self, probability: float) -> bool:
        """Whether a window counts as speech where there was none before."""
        return probability >= self._threshold

    def goes_on(self, probability: float) -> bool:
        """Whether a window counts as speech where there was speech before."""
        return probability >= max(self._threshold - _HYSTERESIS, _LEAST_THRESHOLD)

    def advance(self, probability: float) -> list[SpeechEvent]:
        """Take the next window's probability; give what follows from it, mostly nothing."""
        if self._state is _State.QUIET:
            return self._while_quiet(self.is_speech(probability))
        return self._while_speaking(self.goes_on(probability))

    def _while_quiet(self, speech: bool) -> list[SpeechEvent]:
        self._count = self._count + 1 if speech else 0
        if self._count < self._start:
            return []
        ago_s = self._count * WINDOW_S
        self._state, self._count = _State.SPEAKING, 0
        return [SpeechStarted(ago_s)]

    def _while_speaking(self, speech: bool) -> list[SpeechEvent]:
        if speech:
            paused = self._state is _State.PAUSED
            self._state, self._count = _State.SPEAKING, 0
            return [SpeechResumed()] if paused else []
        self._count += 1
        silence_s = self._count * WINDOW_S
        events: list[SpeechEvent] = []
        if self._state is _State.SPEAKING and self._count >= self._early_pause:
            self._state = _State.PAUSED
            events.append(EarlyPause(silence_s))
        if self._count >= self._stop:
            events.append(self.force_stop())
        return events

    def restart(self) -> None:
        """Nobody speaks, and nobody did."""
        self._state, self._count = _State.QUIET, 0

    def force_stop(self) -> SpeechStopped:
        """End the speech now, because no more audio comes."""
        stopped = SpeechStopped(self._count * WINDOW_S)
        self.restart()
        return stopped


class SpeechTracker:
    """Follows one stream of audio: cuts it into windows, asks the model, runs the machine.

    Args:
        vad: the model.
        config: threshold and times.
        level: tells whose speech is too quiet to count; None lets all speech count.
    """

    def __init__(
        self, vad: SileroVad, config: SpeechConfig | None = None, level: SpeechLevel | None = None
    ) -> None:
        self.machine = SpeechMachine(config)
        self._onset = OnsetMachine(config)
        self._level = level
        self._vad = vad
        self._state = SileroState()
        self._between = SileroState()  # of the windows that lie half in one and half in the next
        self._samples: FloatArray = np.zeros(0, dtype=np.float32)
        self._is_between = False  # the next window that is complete
        self._since_reset = 0
        self._quiet = 0

    def restart(self) -> None:
        """Begin anew: what was heard so far is no speech, and nothing is told of its end."""
        self.machine.restart()
        self._onset.end()
        self._samples, self._is_between = self._samples[:0], False

    def bot_speaks(self, speaks: bool) -> None:
        """Hear that a bot speaks, or does no more: it is told of onsets meanwhile."""
        self._onset.listening = speaks

    def end_onset(self) -> list[OnsetEvent]:
        """End an onset that is under way, because no more audio comes."""
        return self._onset.end()

    def process(self, audio: FloatArray) -> list[SpeechEvent]:
        """Take the next samples, float32 ``[n]`` at 16 kHz, and give the events in them."""
        events: list[SpeechEvent] = []
        for window, between in self._windows(audio):
            state = self._between if between else self._state
            probability = float(self._vad.advance(window[np.newaxis], [state])[0])
            events += self._take(window, probability, between)
        return events

    async def hear(self, audio: FloatArray) -> list[SpeechEvent]:
        """Do the same on an event loop, in batches with its other streams.

        Raises:
            ModelError: the model failed on a window; it and the rest are passed over.
        """
        events: list[SpeechEvent] = []
        for window, between in self._windows(audio):
            state = self._between if between else self._state
            events += self._take(window, await self._vad.probability(window, state), between)
        return events

    def _windows(self, audio: FloatArray) -> Iterator[tuple[FloatArray, bool]]:
        """The windows that are complete now, and whether each lies between two others.

        Those in between are left out while they are of no use: they cost as much as the others.
        """
        samples = np.concatenate([self._samples, audio]) if len(self._samples) else audio
        count = max(0, len(samples) // _HOP_SAMPLES - 1)
        self._samples = samples[count * _HOP_SAMPLES :]
        first, self._is_between = self._is_between, self._is_between ^ bool(count % 2)
        for number in range(count):
            between = first ^ bool(number % 2)
            if between and not self._onset.waits:
                self._between.reset()
                continue
            start = number * _HOP_SAMPLES
            yield samples[start : start + WINDOW_SAMPLES], between

    def _take(self, window: FloatArray, probability: float, between: bool) -> list[SpeechEvent]:
        level = self._level
        if between:
            near = level is None or level.is_near(window)
            return list(self._onset.advance_between(probability if near else 0.0))
        heard = 0.0 if self._is_background(window, probability) else probability
        events = self.machine.advance(heard)
        onset = self._onset.advance(
            heard,
            speech=self.machine.is_speech(heard),
            speaking=self.machine.speaking,
            loud=level is not None and self._onset.listening and level.is_loud(window),
        )
        if level is not None and self.machine.speaking and self.machine.is_speech(heard):
            level.learn()
        self._maybe_reset(probability)
        return [*onset, *events]

    def _is_background(self, window: FloatArray, probability: float) -> bool:
        return self._level is not None and self._level.is_background(
            window,
            self.machine.goes_on(probability),
            going_on=self.machine.speaking,
            bot_speaks=self._onset.listening,
        )

    def _maybe_reset(self, probability: float) -> None:
        self._since_reset += 1
        self._quiet = self._quiet + 1 if probability < _RESET_BELOW else 0
        if (
            self._since_reset * WINDOW_S >= _RESET_AFTER_S
            and self._quiet >= _RESET_QUIET_WINDOWS
            and not self.machine.speaking
        ):
            self._state.reset()
            self._between.reset()
            self._since_reset = 0
