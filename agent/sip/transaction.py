"""Client transactions of requests other than INVITE (RFC 3261, section 17.1.2), without any I/O.

::

    trying ──1xx──▶ proceeding ──2xx to 6xx──▶ completed ──timer K──▶ over
       └──────────2xx to 6xx──────────────────────▲
    trying, proceeding ──timer F──▶ over

Timer E repeats the request until the final response, over UDP only: after T1, then after twice
as long each time, at most T2; once there is a provisional response, every T2. Completed takes
repetitions of the response in. RFC 6026 leaves this machine as it is, but forbids to pass on
responses that no transaction asked for; RFC 4320 lets no server answer 408, so timer F is the
only timeout there is.
"""

import enum
import secrets
from dataclasses import dataclass

from talkpath.agent.sip.message import Request, Response

__all__ = ["OWN_BRANCH", "ClientTransaction", "State", "Timers", "new_branch"]

OWN_BRANCH = "z9hG4bKtpr"
"""How the branch of every request of our own begins; responses to it are for us alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """The times that others follow from (RFC 3261, table 4).

    Attributes:
        t1_s: estimate of the round trip.
        t2_s: longest time between two repetitions.
        t4_s: longest time that a message stays in the network.
    """

    t1_s: float = 0.5
    t2_s: float = 4.0
    t4_s: float = 5.0


class State(enum.Enum):
    """What a transaction waits for."""

    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    OVER = "over"


def new_branch() -> str:
    """A branch that no other request has."""
    return OWN_BRANCH + secrets.token_hex(8)


class ClientTransaction:
    """One request on its way, and its response.

    Args:
        request: with its own ``Via`` on top.
        reliable: whether the transport repeats by itself what gets lost.
        now_s: when the request is sent for the first time, which the caller does.
        timers: T1, T2 and T4.
        timeout_s: timer F; None takes 64 times T1.
    """

    def __init__(
        self,
        request: Request,
        *,
        reliable: bool,
        now_s: float,
        timers: Timers | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._timers = timers or Timers()
        self._reliable = reliable
        self._method = request.cseq[1]
        self._state = State.TRYING
        self._pause_s = self._timers.t1_s
        self._again_s: float | None = None if reliable else now_s + self._pause_s
        self._over_s = now_s + (64 * self._timers.t1_s if timeout_s is None else timeout_s)
        self.branch = request.via.parameters.get("branch") or ""
        self.timed_out = False

    @property
    def state(self) -> State:
        """What it waits for."""
        return self._state

    @property
    def due_s(self) -> float | None:
        """When ``tick`` is to be called next; None once it is over."""
        if self._state is State.OVER:
            return None
        if self._again_s is None:
            return self._over_s
        return min(self._again_s, self._over_s)

    def receive(self, response: Response, now_s: float) -> Response | None:
        """Take a response with the same branch.

        Returns:
            The response, where it is news: provisional, or the final one for the first time.
        """
        if self._state in (State.COMPLETED, State.OVER) or response.cseq[1] != self._method:
            return None
        if response.status < 200:
            self._state = State.PROCEEDING
            return response
        self._state = State.OVER if self._reliable else State.COMPLETED
        self._again_s, self._over_s = None, now_s + self._timers.t4_s
        return response

    def tick(self, now_s: float) -> bool:
        """See what the time brings.

        Returns:
            Whether the request has to be sent again. ``state`` is ``OVER`` where there is no
            more to be done, and ``timed_out`` says if that is for want of a response.
        """
        if self._state is State.OVER:
            return False
        if now_s >= self._over_s:
            self.timed_out = self._state is not State.COMPLETED
            self._state = State.OVER
            return False
        if self._again_s is None or now_s < self._again_s:
            return False
        longer_s = min(2 * self._pause_s, self._timers.t2_s)
        self._pause_s = longer_s if self._state is State.TRYING else self._timers.t2_s
        self._again_s = now_s + self._pause_s
        return True
