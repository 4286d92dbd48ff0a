"""Remote stream: one speaker's stream over as many connections as it takes. No socket, no clock.

::

    feed ─► kept audio ─► frames to send                 what the server has read ─┐
               ▲              ▲                                                    │
               │              └── at most 4 s ahead of it ◄── questions answered ◄─┤
               └───── forget what is out, or quiet ◄───── messages received ◄──────┘
                                                               │
                                                               ▼
                                                 results, on one timeline

The server's numbers and times are those of a connection. Here they become those of the stream:
utterances go on counting, and a new connection begins where the last final ended.

A ``health_check`` after each second of audio is a question to which the answer says that the
server has read all before it, and, if it is talkpath's, whether nothing of it is still to come.
So silence is not kept, a server that stopped working is noticed, and no more than four seconds
are on the way to one that reads slowly.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from talkpath.agent.audio import SAMPLE_RATE_HZ
from talkpath.agent.client.audio import KeptAudio
from talkpath.agent.client.wire import (
    AudioEnd,
    Healthy,
    RemoteError,
    RemoteFinal,
    RemotePartial,
    control,
    read_message,
)
from talkpath.agent.errors import AudioLost, DecodeFailed
from talkpath.agent.speech import WINDOW_SAMPLES
from talkpath.agent.whisper.agreement import Agreement
from talkpath.agent.whisper.results import Final, Partial, StreamFailure, StreamResult

__all__ = ["Heard", "Quiet", "RemoteStream"]

_BLOCK = 16 * WINDOW_SAMPLES
_QUESTION_EVERY = SAMPLE_RATE_HZ
_MOST_AHEAD = 4 * SAMPLE_RATE_HZ
# What an utterance that begins later may reach back to: the beginning of speech is certain after
# 0.2 s of it, and 0.3 s before it belong to it.
_REACH_BACK = SAMPLE_RATE_HZ
# No utterance is longer (``longest_utterance_s``): of one that began so long ago the final is due.
_LONGEST = 30 * SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nobody speaks at this point of the stream, and everything said before it is out.

    Attributes:
        at_s: seconds of audio before it.
    """

    at_s: float


Heard = StreamResult | Quiet | RemoteError
"""What a server's message comes to; an error that concerns no utterance stays as it is."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A ``health_check`` that is to be answered.

    Attributes:
        name: its trace_id.
        position: the audio before it was sent.
        asked_s: when.
        stale: whether the configuration was to be changed already.
    """

    name: str
    position: int
    asked_s: float
    stale: bool


class RemoteStream:
    """The state of one stream.

    Args:
        keep_s: seconds of audio that are kept for another connection; what is older when none is
            to be had is lost.
    """

    def __init__(self, keep_s: float) -> None:
        self._kept = KeptAudio(keep_s)
        self._utterances = 0  # that are out
        self._agreement = Agreement()  # of the one after them
        self._settled = 0  # everything before it is out, or silence
        self._lost = 0  # samples that no server heard
        self._names = itertools.count(1)
        self._ending = False
        self.finished = False
        # What follows is a connection's.
        self._connected = False
        self._ready = False
        self._origin = 0
        self._sent = 0
        self._read = 0
        self._out = -1  # the server's number of the utterance that is out last
        self._partial_number = -1
        self._questions: deque[_Question] = deque()
        self._question_due = False
        self._end_sent = False
        self._begun: int | None = None  # where the utterance lies of which partials came
        self._stale = False
        self._at_rest = False

    @property
    def ready(self) -> bool:
        """Whether the server has taken the configuration."""
        return self._ready

    @property
    def utterance(self) -> int:
        """Number of the utterance that is out last."""
        return self._utterances

    @property
    def fed_s(self) -> float:
        """Seconds of audio so far."""
        return self._kept.spoken_s(self._kept.end)

    @property
    def lost_s(self) -> float:
        """Seconds of audio that were dropped and no server heard, not yet told."""
        dropped = 0 if self._connected else max(self._kept.begin - self._settled, 0)
        return (self._lost + dropped) / SAMPLE_RATE_HZ

    @property
    def worth_sending(self) -> bool:
        """Whether there is enough audio for a frame."""
        return self._kept.end - self._sent >= WINDOW_SAMPLES

    @property
    def too_late(self) -> bool:
        """Whether audio was dropped that was to go over this connection: it is too slow."""
        return self._connected and self._sent < self._kept.begin

    @property
    def overdue(self) -> bool:
        """Whether the server has read more than an utterance can be long and there is no final."""
        return self._begun is not None and self._read > self._begun + _LONGEST

    @property
    def between(self) -> bool:
        """Whether another configuration is wanted and this is a moment for it."""
        return self._stale and self._at_rest

    def feed(self, pcm: bytes) -> None:
        """Take the next samples, 16-bit mono at 16 kHz."""
        self._kept.append(pcm)

    def end_utterance(self, silence_s: float) -> None:
        """Let the server hear so much silence, which is not in the audio."""
        windows = -(-round(silence_s * SAMPLE_RATE_HZ) // WINDOW_SAMPLES)
        self._kept.append_silence(windows * WINDOW_SAMPLES)

    def end(self) -> None:
        """No more audio comes."""
        self._ending = True

    def ask(self) -> None:
        """Ask the server whether it is there."""
        self._question_due = self._question_due or not self._questions

    def reconfigure(self) -> None:
        """Another configuration is wanted, at the next moment between two utterances."""
        self._stale, self._at_rest = True, False
        self._question_due = True

    def unanswered_s(self, now_s: float) -> float:
        """For how long the server has owed the oldest answer."""
        return now_s - self._questions[0].asked_s if self._questions else 0.0

    def opened(self, configuration: str, now_s: float) -> Sequence[str]:
        """A connection is there; gives what goes over it first.

        Everything after the last final goes again. It begins at a whole window of the voice
        activity detection, so that a detector on this side goes on cutting alike.
        """
        begin = self._kept.begin
        self._kept.forget_before(begin + -begin % WINDOW_SAMPLES)
        self._lost += max(self._kept.begin - self._settled, 0)
        self._settled = max(self._settled, self._kept.begin)
        self._connected, self._ready = True, False
        self._origin = self._sent = self._read = self._kept.begin
        self._out = self._partial_number = -1
        self._questions.clear()
        self._end_sent, self._begun = False, None
        self._stale = self._at_rest = False
        return [configuration, self._question(now_s)]

    def closed(self) -> None:
        """The connection is gone."""
        self._connected = self._ready = False
        self._questions.clear()

    def to_send(self, now_s: float) -> bytes | str | None:
        """The next frame, or None until there is more audio, or an answer."""
        if not self._ready or self.too_late:
            return None
        asked = self._questions[-1].position if self._questions else self._read
        if self._question_due or self._sent - asked >= _QUESTION_EVERY:
            return self._question(now_s)
        if self._sent - self._read >= _MOST_AHEAD:
            return None
        # The server listens in whole windows: parts of one would only be more messages.
        whole = WINDOW_SAMPLES if not self._ending else 1
        samples = min(self._kept.end - self._sent, _BLOCK) // whole * whole
        if samples:
            self._sent += samples
            return self._kept.read(self._sent - samples, samples)
        if self._ending and not self._end_sent:
            self._end_sent = True
            return control("end_audio", str(next(self._names)))
        return None

    def received(self, frame: str) -> list[Heard]:
        """A text frame came; gives what it says.

        Raises:
            Garbled: the frame is none of the protocol's.
        """
        match read_message(frame):
            case RemotePartial() as partial:
                return self._partial(partial)
            case RemoteFinal() as final:
                return self._final(final)
            case Healthy() as answer:
                return self._answer(answer)
            case AudioEnd(finished):
                self.finished = self.finished or (finished and self._end_sent)
                return []
            case RemoteError() as error:
                return self._failed(error)

    def tell_lost(self) -> list[StreamResult]:
        """The audio that was lost, as the utterance whose words it may have had."""
        if not self._lost:
            return []
        text = f"{self.lost_s:.1f} s of audio were lost: no speech-to-text server was in reach"
        self._lost = 0
        number = self._next_utterance()
        return [StreamFailure(number, AudioLost(text), ends_speech=False)]

    def _question(self, now_s: float) -> str:
        self._question_due = False
        question = _Question(str(next(self._names)), self._sent, now_s, self._stale)
        self._questions.append(question)
        return control("health_check", question.name)

    def _position(self, time_s: float) -> int:
        """Where a time of the connection's lies in the stream."""
        position = self._origin + round(time_s * SAMPLE_RATE_HZ)
        return max(self._kept.begin, min(position, self._kept.end))

    def _partial(self, partial: RemotePartial) -> list[Heard]:
        if partial.number <= self._out or not partial.text:
            return []
        if self._partial_number not in (-1, partial.number):  # one is left out by the server
            self._agreement = Agreement()
        self._partial_number = partial.number
        position = self._begun = self._position(partial.start_s)
        stable, rest = self._agreement.update(partial.text)
        start_s = self._kept.spoken_s(position)
        number = self._utterances + 1
        return [Partial(number, stable, rest, partial.language, partial.duration_s, start_s)]

    def _final(self, final: RemoteFinal) -> list[Heard]:
        if final.number <= self._out:
            return []
        start_s = self._kept.spoken_s(self._position(final.start_s))
        number = self._next_utterance(final.number)
        if final.end_s is not None:
            self._settle(self._position(final.end_s))
        self._at_rest = final.ends_speech
        return [
            Final(number, final.transcript, final.ends_speech, final.speculative, start_s=start_s)
        ]

    def _failed(self, error: RemoteError) -> list[Heard]:
        if error.number is None:
            return [error]
        if error.number <= self._out:
            return []
        number = self._next_utterance(error.number)
        return [StreamFailure(number, DecodeFailed(error.text), error.ends_speech)]

    def _answer(self, answer: Healthy) -> list[Heard]:
        names = [question.name for question in self._questions]
        if answer.trace_id not in names:
            return []
        for _ in range(names.index(answer.trace_id) + 1):
            question = self._questions.popleft()
        self._ready = True
        self._read = max(self._read, question.position)
        if answer.quiet is None:
            # Another server than ours: as far as its partials tell.
            self._at_rest = self._at_rest or question.stale
            if self._begun is None:
                self._settled = max(self._settled, question.position - _REACH_BACK)
        if not answer.quiet:
            return []
        self._begun = None
        self._at_rest = question.stale
        at_s = self._kept.spoken_s(max(question.position, self._kept.begin))
        self._settle(question.position - _REACH_BACK)
        return [Quiet(at_s)]

    def _next_utterance(self, out: int = -1) -> int:
        """Go on with the next one; gives the number of the one that is out with it."""
        self._out = max(self._out, out)
        self._utterances += 1
        self._agreement = Agreement()
        self._partial_number = -1
        self._begun = None
        return self._utterances

    def _settle(self, position: int) -> None:
        """Forget what is out, but for the part of a window."""
        self._settled = max(self._settled, position)
        self._kept.forget_before(position - position % WINDOW_SAMPLES)
