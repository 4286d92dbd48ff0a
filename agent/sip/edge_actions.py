"""What the edge lets its listener do: the actions that come out of it."""

from dataclasses import dataclass
from typing import Protocol

from talkpath.agent.sip.access import Admit
from talkpath.agent.sip.edge_call import EdgeCall
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.message import Request

__all__ = [
    "Action",
    "Ask",
    "EdgeError",
    "Face",
    "Locate",
    "Over",
    "Own",
    "Progress",
    "Relay",
    "Silence",
    "ToPeer",
    "ToWorker",
    "TurnedAway",
    "Withdraw",
]


class EdgeError(Exception):
    """The edge knows no such call, or it is too late for what is asked."""


@dataclass(frozen=True, slots=True)
class Face:
    """What a peer sees of this machine.

    Attributes:
        host: address of SIP.
        port: port of SIP.
        media_host: address of audio.
    """

    host: str
    port: int
    media_host: str


class Relay(Protocol):
    """What passes on the audio of one call: ``transports.sip.media_relay.MediaRelay``."""

    outside_port: int
    inside_port: int

    def aim(self, host: str, port: int) -> None:
        """The peer wants its audio there."""
        ...

    def answer(self, port: int) -> None:
        """The worker wants the peer's audio there."""
        ...


@dataclass(frozen=True, slots=True)
class ToPeer:
    """Send a message outside.

    Where ``flow`` is a connection that is gone, a new one is made to where ``uri`` leads, by the
    same transport, and ``call``, if any, goes on by it.
    """

    data: bytes
    flow: Flow
    uri: str = ""
    call: EdgeCall | None = None


@dataclass(frozen=True, slots=True)
class ToWorker:
    """Send a message to a worker."""

    data: bytes
    worker: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Decide on an inbound call: ``Edge.route`` or ``Edge.refuse`` is to follow."""

    call: EdgeCall
    admitted: Admit


@dataclass(frozen=True, slots=True)
class Locate:
    """Find where an outbound call goes: ``Edge.located`` or ``Edge.refuse`` is to follow."""

    call: EdgeCall
    uri: str


@dataclass(frozen=True, slots=True)
class Own:
    """Send a request of the edge's own, and see to it that it arrives."""

    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class Withdraw:
    """A call that was asked about, or sought, is over before it was decided."""

    call: EdgeCall


@dataclass(frozen=True, slots=True)
class Over:
    """A call has ended, as far as SIP goes."""

    call: EdgeCall


@dataclass(frozen=True, slots=True)
class Progress:
    """The first request of a call was answered: 180 and the like, 200, or a refusal."""

    call: EdgeCall
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Silence:
    """A caller was met with silence, or has a wrong password; who runs this may want to know."""

    address: str
    why: str


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A call was refused before anybody was asked: no line is free, or its request is wrong."""

    status: int


Action = ToPeer | ToWorker | Ask | Locate | Own | Withdraw | Over | Progress | Silence | TurnedAway
