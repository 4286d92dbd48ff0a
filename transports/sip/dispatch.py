"""Who takes an inbound call: the routes of the settings, or a function of the user's own.

The function is named by ``sip.dispatch`` as ``file.py:function`` and asked before the call rings::

    async def dispatch(call):                    # a CallInfo
        if call.headers.get("X-Blocked"):
            return Reject(403, "Not today")
        return "receptionist"                    # a bot's name; None leaves it to the routes
"""

import asyncio
import importlib.util
import inspect
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.edge_call import Refusal
from talkpath.agent.sip.flow import Flow
from talkpath.agent.sip.message import COMPACT, Headers, Request, SipParseError
from talkpath.agent.sip.rewriting import host_port
from talkpath.agent.sip.routes import Routes
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.leg import CallInfo

__all__ = ["Dispatch", "Dispatcher", "Reject", "inbound_info", "load_dispatch"]

_PATIENCE_S = 10.0
"""Seconds that the user's function has: callers hang up after a few more."""

_KNOWN = frozenset(
    "via v from f to t call-id i cseq contact m max-forwards content-length l content-type c "
    "route record-route authorization proxy-authorization allow k supported".split()
)
"""Headers that concern the stack alone; all others are told to bots."""


@dataclass(frozen=True, slots=True)
class Reject:
    """What a dispatch function gives back to refuse a call.

    Attributes:
        status: 300 to 699.
        reason: a phrase; the usual one by default.
        headers: put into the answer, as ``Contact`` in a 302.
    """

    status: int
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 300 <= self.status <= 699:
            raise ValueError(f"a call is refused with 300 to 699, not {self.status}")


Dispatch = Callable[[CallInfo], Awaitable[str | Reject | None]]
"""A dispatch function."""


def load_dispatch(where: str) -> Dispatch:
    """Load a dispatch function.

    Args:
        where: ``file.py:function``.

    Raises:
        ConfigError: there is none.
    """
    path, colon, name = where.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise ConfigError(f"sip.dispatch is {where!r}; it must be file.py:function")
    spec = importlib.util.spec_from_file_location("talkpath_dispatch", Path(path).expanduser())
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        raise ConfigError(f"sip.dispatch: there is no file {path}") from error
    except Exception as error:  # whatever the user's file does at its top
        raise ConfigError(f"sip.dispatch: {path} cannot be loaded: {error!r}") from error
    function = getattr(module, name, None)
    if not inspect.iscoroutinefunction(function):
        raise ConfigError(f"sip.dispatch: {path} has no `async def {name}(call)`")
    return function


class Dispatcher:
    """Decides on each inbound call.

    Args:
        routes: of the settings.
        bots: names that may be given back.
        function: the user's own, or None.
    """

    def __init__(self, routes: Routes, bots: list[str], function: Dispatch | None = None) -> None:
        self._routes = routes
        self._bots = bots
        self._function = function

    async def decide(self, call: CallInfo, headers: Headers, trunk: Trunk | None) -> str | Refusal:
        """The bot that takes a call, or how it is refused.

        A function of the user's that fails, or takes too long, refuses the call with 500 and
        leaves a traceback in the log: routing around it would connect whom it might have refused.
        """
        if self._function is not None:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    decided = await self._function(call)
            except Exception as error:  # the user's own code
                logger.opt(exception=error).error("call {}: dispatch failed", call.call_id)
                return Refusal(500)
            if isinstance(decided, Reject):
                return Refusal(decided.status, decided.reason, tuple(decided.headers.items()))
            if decided is not None:
                if decided in self._bots:
                    return decided
                logger.error("call {}: dispatch named no bot of ours: {!r}", call.call_id, decided)
                return Refusal(500)
        return self._routes.bot_for(call.number, headers, trunk) or Refusal(404)


def inbound_info(request: Request, flow: Flow, trunk: Trunk | None) -> CallInfo:
    """What is known of a call from its INVITE.

    Raises:
        SipParseError: the INVITE lacks what every request has.
    """
    caller = request.from_
    try:
        number = request.target.user or ""
    except SipParseError:
        number = ""
    if not number.isprintable():
        number = urllib.parse.quote(number)
    return CallInfo(
        call_id=request.call_id,
        direction="inbound",
        from_uri=str(caller.uri),
        from_name=caller.name,
        to_uri=str(request.to.uri),
        number=number,
        source=host_port(*flow.remote),
        transport=flow.transport,
        trunk=trunk.name if trunk is not None else "",
        headers=_told(request.headers),
    )


def _told(headers: Headers) -> dict[str, str]:
    """The headers that are told to bots, in their usual capitals; several lines become one."""
    told: dict[str, str] = {}
    for name, value in headers:
        if name.lower() in _KNOWN:
            continue
        full = COMPACT.get(name.lower(), name)
        usual = "-".join(part.capitalize() for part in full.split("-"))
        told[usual] = f"{told[usual]}, {value}" if usual in told else value
    return told
