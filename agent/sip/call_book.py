"""The calls that the edge knows, and what workers were told to dial."""

import secrets
from collections import OrderedDict
from typing import Any, NamedTuple

from talkpath.agent.sip.edge_actions import EdgeError, ToPeer
from talkpath.agent.sip.edge_call import EdgeCall, Stage
from talkpath.agent.sip.message import Response
from talkpath.agent.sip.passage import Passage
from talkpath.agent.sip.trunks import Trunk

__all__ = ["T1_S", "CallBook"]

T1_S = 0.5
"""The round trip that retransmissions begin with (RFC 3261, 17.1.1.1)."""

_STAND_IN = "tpdial-"
_MOST_DIALS = 1000


class _Dial(NamedTuple):
    uri: str
    info: Any
    trunk: str


class CallBook:
    """What both sides of the edge know of calls.

    Args:
        max_calls: calls at once.
        passage: how messages change on their way.

    Attributes:
        calls: by Call-ID, those that ended lately, too.
        draining: whether no new call is taken.
    """

    def __init__(self, max_calls: int, passage: Passage) -> None:
        self.calls: dict[str, EdgeCall] = {}
        self.draining = False
        self._max_calls = max_calls
        self._passage = passage
        self._dials: OrderedDict[str, _Dial] = OrderedDict()

    @property
    def active(self) -> int:
        """Calls that are not over."""
        return sum(not call.is_over for call in self.calls.values())

    def has_line(self, trunk: Trunk | None) -> bool:
        """Whether one call more may be taken or made, through a trunk or without.

        A call that is going to be dialled, which may wait for a worker, has its line already.
        """
        dials = [dial for dial in self._dials.values() if dial.info is not None]
        if self.active + len(dials) >= self._max_calls:
            return False
        if trunk is None or not trunk.max_calls:
            return True
        calls = sum(not call.is_over and call.trunk == trunk.name for call in self.calls.values())
        return calls + sum(dial.trunk == trunk.name for dial in dials) < trunk.max_calls

    def expect_dial(self, uri: str, info: Any = None, trunk: str = "") -> str:
        """Allow a worker one outbound call.

        Args:
            uri: whom to call.
            info: kept with the call; a call without is not ours to count before it comes.
            trunk: by which it goes.

        Returns:
            What the worker dials: an address here, which stands for ``uri``. baresip refuses to
            dial addresses of networks that it does not listen in.
        """
        token = f"{_STAND_IN}{secrets.token_hex(8)}"
        self._dials[token] = _Dial(uri, info, trunk)
        while len(self._dials) > _MOST_DIALS:
            self._dials.popitem(last=False)
        return self._passage.address(token)

    def expects(self, stand_in: str) -> bool:
        """Whether an address is one that stands for somebody whom a worker may call."""
        return _token(stand_in) in self._dials

    def forget_dial(self, stand_in: str) -> None:
        """The call will not be made after all."""
        self._dials.pop(_token(stand_in), None)

    def take_dial(self, stand_in: str) -> tuple[str, Any, str]:
        """URI, info and trunk that a stand-in stands for, once; an empty URI for nobody."""
        dial: _Dial = self._dials.pop(_token(stand_in), _Dial("", None, ""))
        return dial

    def known(self, call_id: str) -> EdgeCall:
        """A call that is not over.

        Raises:
            EdgeError: there is none.
        """
        call = self.calls.get(call_id)
        if call is None or call.is_over:
            raise EdgeError("the call is over")
        return call

    def inbound(self, call_id: str, *stages: Stage) -> EdgeCall:
        """An inbound call that is in one of these stages.

        Raises:
            EdgeError: there is none.
        """
        call = self.known(call_id)
        if call.outbound or call.stage not in stages:
            raise EdgeError("the call was answered, or is not one that we answer")
        return call

    def forget(self, call: EdgeCall) -> None:
        """Know nothing of a call any more; another one of its name stays."""
        if self.calls.get(call.call_id) is call:
            del self.calls[call.call_id]

    def answer_finally(self, call: EdgeCall, response: Response, now_s: float) -> ToPeer:
        """Answer an inbound call's first request without its worker, once and for all."""
        assert call.flow is not None
        call.answer, call.kept = response, None
        if not call.flow.reliable:  # RFC 3261, 17.2.1: until it is acknowledged
            call.resend_after_s, call.answered_s = 2 * T1_S, now_s
            call.resend_s = now_s + T1_S
        return self._passage.reply(response, call.invite, call.flow, call)


def _token(uri: str) -> str:
    """The user part of a URI, which a stand-in has its name in."""
    return uri.partition(":")[2].partition("@")[0]
