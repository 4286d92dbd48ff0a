"""Registers trunks with their registrars, so that calls for them come here (RFC 3261, 10.2)."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

import dns.asyncresolver
import sipmessage
from loguru import logger

from talkpath.agent.errors import TalkpathError
from talkpath.agent.sip.digest_client import DigestClient
from talkpath.agent.sip.flow import Flow, PeerUnreachable, Target
from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.own_requests import new_call_id, own_request
from talkpath.agent.sip.registration import (
    Backoff,
    Registration,
    granted_s,
    least_s,
    moved_to,
    retry_after_s,
)
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.requests import Requests
from talkpath.transports.sip.resolver import resolve

__all__ = ["RegistrarClient", "Registrars", "RegistrationState"]

_ANSWER_S = 10.0
_FAREWELL_S = 2.0
_REPETITIONS = 4  # a challenge, a stale nonce, a longer time, and a challenge again
_MOVES = 3


class _Refused(TalkpathError):
    """The registrar said no."""

    def __init__(self, message: str, again_s: float = 0.0) -> None:
        super().__init__(message)
        self.again_s = again_s


class _Busy(_Refused):
    """This machine of the registrar cannot answer now; another may."""


class _Moved(_Refused):
    """The registrar sends us to another one."""

    def __init__(self, message: str, location: sipmessage.URI) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True, slots=True)
class _Registrar:
    """Who is asked: the server that the trunk names, and the one that it sends us to, if so."""

    server: str
    location: str

    @property
    def secure(self) -> bool:
        """Whether the trunk wants TLS, wherever the server sends us to."""
        uri = sipmessage.URI.parse(self.server)
        return uri.scheme == "sips" or (uri.parameters.get("transport") or "").lower() == "tls"


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a registration was made by; ``address`` is what its contact says, ``host:port``."""

    registrar: _Registrar
    target: Target
    flow: Flow
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationState:
    """How a trunk's registration stands.

    Attributes:
        trunk: its name.
        registered: whether it is in force.
        server: the registrar that was asked last, a URI.
        failures: attempts that failed since the last success.
        reason: why the last one failed; empty after a success.
        remaining_s: seconds that it still holds.
    """

    trunk: str
    registered: bool
    server: str
    failures: int
    reason: str
    remaining_s: float


class RegistrarClient:
    """Keeps one trunk registered, from ``start`` to ``stop``.

    Args:
        trunk: what is registered, where, and with which password.
        requests: what sends requests.
        user_agent: who we say we are.
        backoff: the wait once all servers have failed.
        answer_s: seconds that a server may take to answer.
        resolver: asks DNS; None takes the system's settings.
    """

    def __init__(
        self,
        trunk: Trunk,
        requests: Requests,
        user_agent: str,
        *,
        backoff: Backoff | None = None,
        answer_s: float = _ANSWER_S,
        resolver: dns.asyncresolver.Resolver | None = None,
    ) -> None:
        self._trunk = trunk
        self._requests = requests
        self._user_agent = user_agent
        self._answer_s = answer_s
        self._resolver = resolver
        self._registration = Registration(len(trunk.servers), trunk.expires_s, backoff=backoff)
        self._digests: dict[str, DigestClient] = {}
        self._call_id = new_call_id()
        self._cseq = 0
        self._asked = 0  # the server that was asked last
        self._binding: _Binding | None = None  # of the last success
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> RegistrationState:
        """How it stands."""
        now_s = time.monotonic()  # the loop's clock, which only the loop's thread can ask for
        known = self._registration
        known.expire(now_s)
        return RegistrationState(
            trunk=self._trunk.name,
            registered=known.registered,
            server=self._trunk.servers[self._asked],
            failures=known.failures,
            reason=known.reason,
            remaining_s=max(0.0, known.valid_until_s - now_s) if known.registered else 0.0,
        )

    def start(self) -> None:
        """Begin; the first attempt is made at once."""
        name = f"registration of trunk {self._trunk.name}"
        self._task = asyncio.create_task(self._keep(), name=name)
        self._task.add_done_callback(_tell)

    def gone(self, flow: Flow) -> None:
        """A connection ended: if the registrar reaches us by it, register anew."""
        if self._binding and self._binding.flow == flow:
            self._registration.lost(asyncio.get_running_loop().time())
            self._wake.set()

    async def stop(self) -> None:
        """Unregister, if there is a registration and the registrar takes it in time."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        last = self._binding
        if last is None or not self.state.registered:
            return
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self._ask(last.registrar, last.target, 0)
        except (TalkpathError, TimeoutError) as error:
            logger.info("trunk {}: not unregistered: {}", self._trunk.name, error)

    async def _keep(self) -> None:
        while True:
            await self._attempt()
            await self._until_due()

    async def _until_due(self) -> None:
        """Wait; what happens meanwhile may change for when."""
        loop = asyncio.get_running_loop()
        while (due_s := self._registration.due_s) > loop.time():
            self._wake.clear()
            try:
                async with asyncio.timeout_at(due_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _attempt(self) -> None:
        """Ask the server whose turn it is."""
        known, loop = self._registration, asyncio.get_running_loop()
        self._asked = known.server
        server = self._trunk.servers[self._asked]
        before = known.registered
        try:
            granted = await self._register(server)
        except TalkpathError as error:
            again_s = error.again_s if isinstance(error, _Refused) else 0.0
            known.failed(loop.time(), str(error), again_s)
            wait_s = known.due_s - loop.time()
            logger.warning(
                "trunk {}: not registered with {}: {}; next attempt in {:.0f} s",
                self._trunk.name,
                server,
                error,
                max(0.0, wait_s),
            )
            return
        known.succeeded(loop.time(), granted)
        log = logger.debug if before else logger.info
        log("trunk {}: registered with {} for {} s", self._trunk.name, server, granted)

    async def _register(self, server: str) -> int:
        """Register with a server, or with the one that it sends us to.

        Returns:
            Seconds that it holds.
        """
        registrar = _Registrar(server, server)
        for _ in range(_MOVES):
            try:
                return await self._register_with(registrar)
            except _Moved as moved:
                logger.debug("trunk {}: {}: {}", self._trunk.name, moved, moved.location)
                registrar = _Registrar(server, str(moved.location))
        raise _Refused("the registrar sends us from one server to the next")

    async def _register_with(self, registrar: _Registrar) -> int:
        """The same with the first of a registrar's machines that answers."""
        uri = sipmessage.URI.parse(registrar.location)
        targets = await resolve(uri, secure=registrar.secure, resolver=self._resolver)
        last = self._binding and self._binding.target
        *others, final = sorted(targets, key=lambda one: one != last)
        for target in others:
            try:
                return await self._ask(registrar, target, self._registration.expires_s)
            except (PeerUnreachable, _Busy) as error:
                logger.debug("trunk {}: {}", self._trunk.name, error)
        return await self._ask(registrar, final, self._registration.expires_s)

    async def _ask(self, registrar: _Registrar, target: Target, expires_s: int) -> int:
        """Register with a machine, under the address at which it sees us.

        Behind a NAT, where the settings say no public address, only the answer says what that
        is: the contact is then registered anew, and the one of before is taken back.

        Args:
            registrar: whose machine it is.
            target: the machine.
            expires_s: what is asked for; 0 unregisters.

        Returns:
            Seconds that it holds.
        """
        flow, address = await self._requests.address_towards(target)
        last = self._binding
        if last and (last.registrar, last.flow) == (registrar, flow):
            address = last.address
        granted, seen = await self._ask_as(registrar, target, flow, address, expires_s)
        if seen and expires_s:
            logger.info("trunk {}: {} sees us at {}", self._trunk.name, target, seen)
            granted, _ = await self._ask_as(registrar, target, flow, seen, expires_s)
        return granted

    async def _ask_as(
        self, registrar: _Registrar, target: Target, flow: Flow, address: str, expires_s: int
    ) -> tuple[int, str]:
        """Send a REGISTER for an address, as often as it takes to satisfy the registrar.

        Returns:
            Seconds that it holds, and the address at which we are seen, if that is another one.
        """
        uri, trunk = self._uri(registrar), self._trunk
        digest = self._digests.setdefault(
            registrar.location, DigestClient(trunk.auth_user or trunk.user, trunk.password)
        )
        credentials = digest.reuse("REGISTER", uri)
        contacts = [_contact(trunk, flow, address)]
        last = self._binding
        if last and last.registrar == registrar and last.address != address:
            contacts.append(_contact(trunk, last.flow, last.address))
        for _ in range(_REPETITIONS):
            request = self._request(registrar, contacts, expires_s, credentials)
            response = await self._requests.request(request, target, timeout_s=self._answer_s)
            if response.status in (401, 407):
                credentials = digest.answer(response, request)
                if credentials is None:
                    raise _Refused("the user or the password is refused")
            elif response.status == 423 and self._registration.too_brief(least_s(response)):
                expires_s = self._registration.expires_s
                credentials = digest.reuse("REGISTER", uri)
            else:
                break
        granted = self._granted(response, contacts[0], expires_s)
        if expires_s:
            self._binding = _Binding(registrar, target, flow, address)
        return granted, self._requests.seen_at(response, flow, address)

    def _granted(self, response: Response, contact: str, asked_s: int) -> int:
        what = f"{response.status} {response.reason}".strip()
        if location := moved_to(response):
            raise _Moved(f"the registrar says {what}", location)
        if response.status >= 300:
            kind = _Busy if response.status in (408, 503) else _Refused
            raise kind(f"the registrar says {what}", retry_after_s(response))
        granted = granted_s(response, contact, asked_s)
        if asked_s and granted < 1:
            raise _Refused("the registrar does not keep the registration")
        return granted

    def _request(
        self,
        registrar: _Registrar,
        contacts: list[str],
        expires_s: int,
        credentials: tuple[str, str] | None,
    ) -> Request:
        """A REGISTER for the first of the contacts, which takes back the others."""
        self._cseq += 1
        trunk = self._trunk
        host = trunk.domain or sipmessage.URI.parse(registrar.server).host
        own = str(sipmessage.URI("sip", host, trunk.user))
        contact, *former = contacts
        return own_request(
            "REGISTER",
            self._uri(registrar),
            from_uri=own,
            to_uri=own,
            contact=contact,
            user_agent=self._user_agent,
            call_id=self._call_id,
            cseq=self._cseq,
            extra=[
                *(("Contact", f"<{one}>;expires=0") for one in former),
                ("Expires", str(expires_s)),
                *([credentials] if credentials else []),
            ],
        )

    def _uri(self, registrar: _Registrar) -> str:
        """The domain that is registered with, as a URI."""
        where = sipmessage.URI.parse(registrar.location)
        if registrar.location == registrar.server:
            return f"sip:{self._trunk.domain or where.host}"
        return f"sip:{where.host}:{where.port}" if where.port else f"sip:{where.host}"


class Registrars:
    """The registrations of all trunks that want one.

    Args:
        trunks: all trunks.
        requests: what sends requests.
        user_agent: who we say we are.
    """

    def __init__(self, trunks: Iterable[Trunk], requests: Requests, user_agent: str) -> None:
        self._clients = [
            RegistrarClient(trunk, requests, user_agent) for trunk in trunks if trunk.register
        ]

    @property
    def states(self) -> list[RegistrationState]:
        """How each stands."""
        return [client.state for client in self._clients]

    def start(self) -> None:
        """Begin to register."""
        for client in self._clients:
            client.start()

    def gone(self, flow: Flow) -> None:
        """A connection ended."""
        for client in self._clients:
            client.gone(flow)

    async def stop(self) -> None:
        """Unregister all, side by side."""
        await asyncio.gather(*(client.stop() for client in self._clients))


def _contact(trunk: Trunk, flow: Flow, address: str) -> str:
    """A URI under which the registrar finds us."""
    parameter = "" if flow.transport == "udp" else f";transport={flow.transport}"
    return f"{sipmessage.URI('sip', address, trunk.user)}{parameter}"


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        logger.opt(exception=error).error("{} failed", task.get_name())
