"""Asks trunks' servers every now and then whether they live (OPTIONS), for calls to go by.

It keeps the way through NAT open as well.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import sipmessage
from loguru import logger

from talkpath.agent.errors import TalkpathError
from talkpath.agent.sip.flow import PeerUnreachable, Target
from talkpath.agent.sip.own_requests import own_request
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.requests import Requests
from talkpath.transports.sip.resolver import resolve

__all__ = ["Keepalive", "TargetState"]

_ANSWER_S = 5.0
_RESOLVE_S = 60.0  # how often names are looked up where no OPTIONS are sent
_START_S = 5.0


@dataclass(frozen=True, slots=True)
class TargetState:
    """Whether a trunk's machine lives.

    Attributes:
        trunk: the trunk's name.
        target: the machine.
        alive: whether it answered last time; true before it was asked.
        round_trip_s: what its last answer took; 0 before there was one.
    """

    trunk: str
    target: Target
    alive: bool = True
    round_trip_s: float = 0.0


class Keepalive:
    """Knows the machines of all trunks, and which of them live.

    Args:
        trunks: all trunks.
        requests: what sends requests.
        user_agent: who we say we are.
        every_s: seconds between two questions; 0 asks none, and takes all for alive.
        learn: is told the addresses of each trunk's machines, whenever they have been looked up.
        answer_s: seconds that a machine may take to answer.
        resolver: asks DNS; None takes the system's settings.
    """

    def __init__(
        self,
        trunks: Iterable[Trunk],
        requests: Requests,
        user_agent: str,
        every_s: float,
        *,
        learn: Callable[[str, Sequence[str]], None] | None = None,
        answer_s: float = _ANSWER_S,
        resolver: dns.asyncresolver.Resolver | None = None,
    ) -> None:
        self._trunks = list(trunks)
        self._requests = requests
        self._user_agent = user_agent
        self._every_s = every_s
        self._learn = learn
        self._answer_s = answer_s
        self._resolver = resolver
        self._known: dict[str, dict[Target, TargetState]] = {t.name: {} for t in self._trunks}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def states(self) -> list[TargetState]:
        """All machines of all trunks."""
        return [state for known in self._known.values() for state in known.values()]

    def alive(self, trunk: Trunk) -> list[Target]:
        """A trunk's machines, in the order in which a call tries them: the dead last.

        Empty where none of its names could be looked up yet.
        """
        known = self._known[trunk.name].values()
        return [one.target for one in sorted(known, key=lambda one: not one.alive)]

    async def start(self) -> None:
        """Begin; waits a few seconds at most until the machines are known."""
        first = [asyncio.Event() for _ in self._trunks]
        for trunk, known in zip(self._trunks, first, strict=True):
            name = f"keepalive of trunk {trunk.name}"
            task = asyncio.create_task(self._keep(trunk, known), name=name)
            task.add_done_callback(_tell)
            self._tasks.append(task)
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.gather(*(known.wait() for known in first))
        except TimeoutError:
            logger.warning("the trunks' servers are not all known yet")

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    async def _keep(self, trunk: Trunk, known: asyncio.Event) -> None:
        while True:
            await self._look_up(trunk)
            known.set()
            if self._every_s:
                targets = list(self._known[trunk.name])
                await asyncio.gather(*(self._ask(trunk, target) for target in targets))
            await asyncio.sleep(self._every_s or _RESOLVE_S)

    async def _look_up(self, trunk: Trunk) -> None:
        """Find a trunk's machines; where nobody says where they are, they are those of before."""
        found: list[Target] = []
        for server in trunk.servers:
            try:
                uri = sipmessage.URI.parse(server)
                found += await resolve(uri, resolver=self._resolver)
            except PeerUnreachable as error:
                logger.warning("trunk {}: {}", trunk.name, error)
        if not found:
            return
        before = self._known[trunk.name]
        self._known[trunk.name] = {
            target: before.get(target, TargetState(trunk.name, target)) for target in found
        }
        if self._learn:
            self._learn(trunk.name, list(dict.fromkeys(target.host for target in found)))

    async def _ask(self, trunk: Trunk, target: Target) -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        try:
            status = await self._options(trunk, target)
        except TalkpathError as error:
            self._note(TargetState(trunk.name, target, alive=False), str(error))
            return
        # Any answer is a sign of life, but for the one that asks to be spared.
        state = TargetState(trunk.name, target, status != 503, loop.time() - begun_s)
        self._note(state, f"it says {status}")

    async def _options(self, trunk: Trunk, target: Target) -> int:
        _, address = await self._requests.address_towards(target)
        host = f"[{target.host}]" if ":" in target.host else target.host
        name = target.server_name or host
        request = own_request(
            "OPTIONS",
            f"sip:{trunk.domain or name}",
            from_uri=str(sipmessage.URI("sip", trunk.domain or address, trunk.user or None)),
            to_uri=f"sip:{trunk.domain or name}",
            contact=f"sip:{address}",
            user_agent=self._user_agent,
            extra=[("Accept", "application/sdp")],
        )
        response = await self._requests.request(request, target, timeout_s=self._answer_s)
        return response.status

    def _note(self, state: TargetState, why: str) -> None:
        known = self._known[state.trunk]
        before = known.get(state.target)
        if before is None:  # it was dropped from DNS meanwhile
            return
        known[state.target] = state
        if before.alive and not state.alive:
            # Some peers take calls and leave OPTIONS of strangers alone.
            logger.warning(
                "trunk {}: {} counts as down after OPTIONS: {}", state.trunk, state.target, why
            )
        elif state.alive and not before.alive:
            logger.info("trunk {}: {} is up again", state.trunk, state.target)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.opt(exception=error).error("{} failed", task.get_name())
