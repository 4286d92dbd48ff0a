"""A channel of Asterisk's, whichever way it came: what it says, and what it is told.

What a channel hears waits in a bounded queue, two seconds of it. A peer that sends faster than
people speak is read more slowly; where nobody takes what was heard, the oldest is dropped.
"""

import abc
import asyncio
import enum
from collections import deque
from dataclasses import dataclass, field

from loguru import logger
from pipecat.runner.types import RunnerArguments

from talkpath.agent.errors import AudioError
from talkpath.transports.asterisk.formats import AudioFormat
from talkpath.transports.asterisk.playout import FramePlayout

__all__ = ["STALLED_S", "AsteriskArguments", "Channel", "Order", "Pressed", "Sound"]

STALLED_S = 5.0
"""Seconds that a peer has to take a frame; then the call is ended."""

_AHEAD_S = 2.0
_LONGEST_S = 2.1
_QUEUE = 100


@dataclass(frozen=True, slots=True)
class Sound:
    """A piece of what the caller says.

    Attributes:
        data: the samples.
        format: what they are.
    """

    data: bytes
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class Pressed:
    """A key of the caller's telephone.

    Attributes:
        key: one of ``0123456789*#ABCD``.
    """

    key: str


class Order(enum.Enum):
    """What a bot wants of Asterisk: take the call; keep, play on, or forget what it has in hand."""

    ANSWER = enum.auto()
    PAUSE = enum.auto()
    CONTINUE = enum.auto()
    FLUSH = enum.auto()


class Channel(abc.ABC):
    """One call.

    Args:
        call_id: what Asterisk calls it.
        audio_format: what is sent; and what comes, unless a message says otherwise.
        playout: paces what is sent.

    Attributes:
        gone: set when the call is over.
        news: set when there may be something else to send than before.
    """

    def __init__(self, call_id: str, audio_format: AudioFormat, playout: FramePlayout) -> None:
        self.call_id = call_id
        self.audio_format = audio_format
        self.playout = playout
        self.gone = asyncio.Event()
        self.news = asyncio.Event()
        self._heard: deque[Sound | Pressed] = deque()
        self._hears = asyncio.Event()
        self._heard_until_s = 0.0
        self._complained: set[str] = set()

    @abc.abstractmethod
    async def run(self) -> None:
        """Read from Asterisk until the call is over."""

    @abc.abstractmethod
    async def send(self, frame: bytes) -> None:
        """Send a frame of sound, and before it what Asterisk is to be told."""

    @abc.abstractmethod
    async def tell(self) -> None:
        """Send what Asterisk is to be told."""

    @abc.abstractmethod
    async def hang_up(self) -> None:
        """End the call, if it is not over."""

    @abc.abstractmethod
    def order(self, what: Order) -> None:
        """Note what Asterisk is to be told; a channel that cannot tell it does nothing."""

    async def next(self) -> Sound | Pressed | None:
        """What was heard next; None once the call is over."""
        while not self._heard:
            if self.gone.is_set():
                return None
            self._hears.clear()
            await self._hears.wait()
        return self._heard.popleft()

    async def hear(self, item: Sound | Pressed) -> None:
        """Put in what was heard; waits where the peer is ahead of time."""
        if isinstance(item, Sound):
            if len(item.data) % item.format.sample_bytes:
                raise AudioError(f"{len(item.data)} bytes of audio are no 16-bit samples")
            seconds = item.format.seconds(item.data)
            if seconds > _LONGEST_S:
                raise AudioError(f"{seconds:.1f} s of audio in one message")
            await self._keep_pace(seconds)
        if len(self._heard) >= _QUEUE:
            sounds = (at for at, item in enumerate(self._heard) if isinstance(item, Sound))
            del self._heard[next(sounds, 0)]  # rather than a key
            self.complain("the bot does not take what the caller says: the oldest is dropped")
        self._heard.append(item)
        self._hears.set()

    def complain(self, what: str) -> None:
        """Log a warning, once for each thing."""
        level = "DEBUG" if what in self._complained else "WARNING"
        if len(self._complained) < _QUEUE:
            self._complained.add(what)
        logger.log(level, "call {}: {}", self.call_id, what)

    def over(self) -> None:
        """The call is over."""
        self.gone.set()
        self.news.set()
        self._hears.set()

    async def _keep_pace(self, seconds: float) -> None:
        now_s = asyncio.get_running_loop().time()
        self._heard_until_s = max(self._heard_until_s, now_s) + seconds
        await asyncio.sleep(max(0.0, self._heard_until_s - now_s - _AHEAD_S))


@dataclass
class AsteriskArguments(RunnerArguments):
    """What a bot is called with for a call of Asterisk's.

    ``body`` has what Asterisk told: ``call_id``, ``channel``, ``channel_id``,
    ``connection_id``, ``variables`` (its own and those of the address), each where it is known.

    Attributes:
        channel: the call.
    """

    channel: Channel = field(kw_only=True)
