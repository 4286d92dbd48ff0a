"""A call as one stereo recording: caller left, bot right, in step. No input or output.

The caller's audio sets the pace: sample after sample it is the time of the recording. What the
bot plays is put where the caller was at that moment, and then runs on without a seam until it
pauses. So both sides stay together however long the call is, though the caller's sound card and
this machine's clock are never equally fast, and though audio comes a little late now and then:
the least lateness of the last seconds counts, as in every estimate of clocks over a network.

A caller who sends nothing for a while (a muted microphone) is silent for that long. Whether audio
is missing or only late shows when it comes again: what was late comes all at once.

Samples are 16-bit, mono, at one rate; times are seconds of any one clock that does not jump.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

__all__ = ["AHEAD_S", "SETTLED_S", "Stereo"]

SETTLED_S = 0.4
"""What is older than this is settled and can be written."""

AHEAD_S = 60.0
"""So much of the bot's audio may come before its time; more is dropped."""

_BUCKET_S = 5.0  # the least lateness is that of the last one or two of these
_GAP_S = 0.25
_JUDGE_S = 0.1  # after a gap, audio is collected for so long before it gets its place
_LATE_S = 0.06  # less is no gap, only lateness
_SEAM_S = 0.04
_PUSH_DELAY_S = 0.2
_LOUD = 250  # of 32,768: -42 dB, over the hiss of voices
_GAPS_KEPT = 128  # transcripts come seconds after the words, not minutes


@dataclass(slots=True)
class _Lateness:
    """How much later than its place in the recording the caller's audio comes, at the least."""

    least_s: float
    _before_s: float = field(init=False)
    _current_s: float = field(init=False)
    _since_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._before_s = self._current_s = self._since_s = self.least_s

    def update(self, late_s: float, now_s: float) -> None:
        if now_s - self._since_s > _BUCKET_S:
            self._before_s, self._current_s, self._since_s = self._current_s, late_s, now_s
        self._current_s = min(self._current_s, late_s)
        self.least_s = min(self._before_s, self._current_s)


class Stereo:
    """Two channels that are put together as the audio comes.

    It holds what is not settled, about half a second, and what the bot is ahead.

    Args:
        rate_hz: of all audio.
        now_s: the beginning.
    """

    def __init__(self, rate_hz: int, now_s: float) -> None:
        self.rate_hz = rate_hz
        self._lateness = _Lateness(now_s)
        self._taken = 0  # samples of each channel that were handed out
        self._caller = bytearray()
        self._bot = bytearray()
        self._late = bytearray()  # after a gap, until its place is clear
        self._late_since_s = self._late_until_s = 0.0
        self._heard = 0  # samples of the caller's audio without gaps
        self._gaps: list[tuple[int, int]] = []  # heard by then, and the place of what came next
        self._bot_started_s: float | None = None
        self._push_delay_s = 0.0
        self._sound: int | None = None  # where the bot's first sound since its last word is

    @property
    def taken_s(self) -> float:
        """Seconds that were handed out."""
        return self._taken / self.rate_hz

    @property
    def unwritten_s(self) -> float:
        """Seconds of the caller's audio that wait."""
        return (len(self._caller) + len(self._late)) / 2 / self.rate_hz

    @property
    def bot_end_s(self) -> float:
        """Where the bot's audio ends so far, in seconds of the recording."""
        return (self._taken + len(self._bot) // 2) / self.rate_hz

    def at_s(self, now_s: float) -> float:
        """Where in the recording a moment of the clock lies, in seconds."""
        return max(0.0, now_s - self._lateness.least_s)

    def placed_s(self, heard_s: float) -> float:
        """Where in the recording a moment of the caller's audio lies that was counted gapless."""
        heard = round(heard_s * self.rate_hz)
        index = bisect_right(self._gaps, heard, key=lambda gap: gap[0]) - 1
        before, place = self._gaps[index] if index >= 0 else (0, 0)
        return (place + heard - before) / self.rate_hz

    def caller(self, pcm: bytes, now_s: float) -> None:
        """Take the caller's next samples, whose last one was just heard."""
        if self._late:
            self._late += pcm
            self._late_until_s = now_s
            self._settle_gap(now_s)
            return
        late_s = now_s - (self._caller_end + len(pcm) // 2) / self.rate_hz
        if late_s - self._lateness.least_s > _GAP_S:
            self._late += pcm
            self._late_since_s = self._late_until_s = now_s
            return
        self._caller += pcm
        self._heard += len(pcm) // 2
        self._lateness.update(late_s, now_s)

    def bot_started(self, now_s: float) -> None:
        """The bot's next audio is the first of what it says, and begins to be heard now."""
        self._bot_started_s = now_s

    def bot(self, pcm: bytes, now_s: float) -> bool:
        """Take the bot's next samples, as they are played.

        Outputs differ in whether they tell of a piece of audio when it begins or when it has
        been played; how long after its beginning the first one was told of holds for the rest.

        Returns:
            False if they were dropped, because the bot is a minute ahead.
        """
        end = self._taken + len(self._bot) // 2
        begin = end
        if self._bot_started_s is not None:
            self._push_delay_s = min(now_s - self._bot_started_s, _PUSH_DELAY_S)
            begin = self._place(self._bot_started_s)
            self._bot_started_s = None
        else:
            due = self._place(now_s - self._push_delay_s)
            if due - end > _SEAM_S * self.rate_hz:
                begin = due
        begin = max(begin, end)
        if begin - self._place(now_s) > AHEAD_S * self.rate_hz:
            return False
        self._bot += bytes(2 * (begin - end)) + pcm
        if self._sound is None:
            loud = np.flatnonzero(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)) > _LOUD)
            if len(loud):
                self._sound = begin + int(loud[0])
        return True

    def bot_word(self) -> tuple[float, float]:
        """The bot has just said a word: where it begins and ends, in seconds of the recording."""
        end_s = self.bot_end_s
        start_s = end_s if self._sound is None else self._sound / self.rate_hz
        self._sound = None
        return start_s, end_s

    def take(self, now_s: float, *, all: bool = False) -> bytes:
        """Hand out what is settled, or all: 16-bit samples, left and right in turn."""
        self._settle_gap(now_s, at_once=all)
        until = self._place(now_s) - round(SETTLED_S * self.rate_hz)
        if self._late:
            until = min(until, self._caller_end)
        if all:
            until = max(self._caller_end, self._taken + len(self._bot) // 2)
        count = until - self._taken
        if count <= 0:
            return b""
        if until > self._caller_end:
            self._be_silent(until - self._caller_end)
        if 2 * count > len(self._bot):
            self._bot += bytes(2 * count - len(self._bot))
        both = np.empty((count, 2), "<i2")
        for channel, audio in enumerate((self._caller, self._bot)):
            both[:, channel] = np.frombuffer(bytes(audio[: 2 * count]), "<i2")
            del audio[: 2 * count]
        self._taken = until
        return both.tobytes()

    @property
    def _caller_end(self) -> int:
        return self._taken + len(self._caller) // 2

    def _place(self, now_s: float) -> int:
        return round(self.at_s(now_s) * self.rate_hz)

    def _settle_gap(self, now_s: float, *, at_once: bool = False) -> None:
        """Give what came after a gap its place, which is where its last sample was heard."""
        if not self._late or not (at_once or now_s - self._late_since_s >= _JUDGE_S):
            return
        pcm, self._late = bytes(self._late), bytearray()
        heard_s = self._late_until_s
        missing = self._place(heard_s) - len(pcm) // 2 - self._caller_end
        if missing > _LATE_S * self.rate_hz:
            self._be_silent(missing)
        self._caller += pcm
        self._heard += len(pcm) // 2
        self._lateness.update(heard_s - self._caller_end / self.rate_hz, heard_s)

    def _be_silent(self, samples: int) -> None:
        self._caller += bytes(2 * samples)
        self._gaps.append((self._heard, self._caller_end))
        del self._gaps[:-_GAPS_KEPT]
