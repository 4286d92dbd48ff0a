"""The leg engine on baresip: one SIP stack to a process, which talks to the listener alone."""

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from baresip import (
    Account,
    BaresipError,
    Call,
    CallState,
    Config,
    Event,
    Runtime,
    StackEvent,
    UserAgent,
)
from loguru import logger

from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.audio_pump import AudioPump
from talkpath.transports.sip.baresip_leg import BaresipLeg
from talkpath.transports.sip.exchange import Exchange
from talkpath.transports.sip.leg import CallInfo, CallLeg, LegError
from talkpath.transports.sip.stack_log import StackLog

__all__ = ["BaresipEngine", "MediaProfile"]

_CODECS = {
    "opus": "opus/16000/1",
    "g722": "g722/16000/1",
    "pcmu": "pcmu/8000/1",
    "pcma": "pcma/8000/1",
}
"""The stack's names; Opus runs in one channel at 16 kHz, which is what Whisper hears."""

_ENCRYPTION = {"off": "", "prefer": "srtp", "require": "srtp-mand", "dtls": "dtls_srtp"}

_SETTINGS = """\
sip_listen 127.0.0.1:{port}
sip_transports udp
rtp_ports {rtp_ports}
audio_jitter_buffer_type adaptive
audio_jitter_buffer_ms 1-200
audio_buffer 20-60
opus_samplerate 16000
opus_stereo no
opus_sprop_stereo no
opus_application voip
opus_inbandfec yes
opus_packet_loss 5
opus_complexity 5
call_local_timeout 86400
call_hold_other_calls no
"""
"""Measured on loopback, from a packet to its echo: 26 ms; as shipped 129 ms. The stack would end
calls that ring for two minutes, and hold all calls but the last one that was answered. Not
``rtp_rxmode thread``: it corrupts the stack's memory; nor ``audio_txmode thread``: it stutters."""

_COMMAND_S = 3.0
_WATCH_S = 1.0
_ANSWER_S = 1.5
_MISSES = 2
"""So many times in a row without an answer, and the stack counts as dead: after 5 s."""

_STOP_S = 2.0
_MOST_EARLY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaProfile:
    """How calls of the listener itself (``main``) or of a trunk are made.

    Attributes:
        codecs: those of ``SipConfig.codecs`` that are offered and taken, in that order.
        srtp: as ``SipConfig.srtp``.
        user: who calls: the user part of ``From``.
        auth_user: the name for digest authentication; empty takes ``user``.
        password: for digest authentication; never logged.
        domain: the host of ``From``.
    """

    codecs: tuple[str, ...] = ("opus", "g722", "pcmu", "pcma")
    srtp: str = "prefer"
    user: str = "talkpath"
    auth_user: str = ""
    password: str = ""
    domain: str = "127.0.0.1"

    def __repr__(self) -> str:
        return f"MediaProfile(user={self.user!r}, domain={self.domain!r}, codecs={self.codecs!r})"


class BaresipEngine:
    """A ``LegEngine``. There is one to a process, and none after the stack has died in it.

    Args:
        exchange: the listener.
        config: ports of the audio, and when silence ends a call.
        profiles: ``main``, and one for each trunk by its name.
        advertised: the address that session descriptions name; the listener puts its own there.
    """

    def __init__(
        self,
        exchange: Exchange,
        config: SipConfig,
        profiles: Mapping[str, MediaProfile],
        *,
        advertised: str = "127.0.0.1",
    ) -> None:
        self._exchange = exchange
        self._config = config
        self._profiles = dict(profiles)
        self._advertised = advertised
        self._runtime: Runtime | None = None
        self._agents: dict[str, UserAgent] = {}
        self._pump = AudioPump()
        self._legs: dict[int, BaresipLeg] = {}
        self._early: dict[int, list[StackEvent]] = {}
        self._descriptions: dict[str, str] = {}
        self._take: Callable[[CallLeg], Awaitable[None]] | None = None
        self._dead: Callable[[], None] | None = None
        self._is_dead = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = StackLog(self._traced)
        self.port = 0
        self.users: dict[str, str] = {}

    @property
    def legs(self) -> tuple[BaresipLeg, ...]:
        """The calls that there are."""
        return tuple(dict.fromkeys(self._legs.values()))

    @property
    def pumping(self) -> bool:
        """Whether audio is polled, as it is while there are calls."""
        return self._pump.running

    @property
    def runtime(self) -> Runtime:
        """The stack."""
        assert self._runtime is not None
        return self._runtime

    def on_incoming(self, take: Callable[[CallLeg], Awaitable[None]]) -> None:
        """Give each inbound call to ``take``, which answers or rejects it."""
        self._take = take

    def on_dead(self, callback: Callable[[], None]) -> None:
        """Call this when the stack has died; the process must then end, for it cannot restart."""
        self._dead = callback

    async def start(self) -> None:
        """Be ready for calls.

        Raises:
            LegError: the stack cannot run here.
        """
        self._loop = asyncio.get_running_loop()
        self.port = _free_port()
        # The stack's own watch only logs, so its interval is long; see `_watch_stack`.
        runtime = Runtime(command_timeout=_COMMAND_S, watchdog_interval=3600.0)
        runtime.on_dead = self._died
        self._log.open()
        try:
            await runtime.start(self._settings())
            self._runtime = runtime
            runtime.subscribe(self._heard)
            for name, profile in self._profiles.items():
                await self._add(name, profile)
        except BaresipError as error:
            await self.stop()
            raise LegError(f"the SIP stack cannot run: {error}") from error
        self._watch = asyncio.create_task(self._watch_stack(runtime), name="watch of the SIP stack")

    async def stop(self) -> None:
        """End all calls, and free everything."""
        if self._watch is not None:
            self._watch.cancel()
        legs = self.legs
        if legs and not self._is_dead:
            await asyncio.gather(*(leg.hang_up() for leg in legs), return_exceptions=True)
            await asyncio.wait(
                [asyncio.create_task(leg.wait_ended()) for leg in legs], timeout=_STOP_S
            )
        for leg in legs:
            leg.fail("the server stopped")
        self._pump.close()
        if self._runtime is not None and not self._is_dead:
            try:
                await self._runtime.close()
            except BaresipError as error:
                logger.error("the SIP stack did not stop: {}", error)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *(leg.close() for leg in legs), return_exceptions=True)
        self._legs.clear()
        self._log.close()

    async def drain(self) -> None:
        """Take no further calls, and return once the last one is over."""
        if self._runtime is not None:
            await self._runtime.drain()

    async def dial(
        self, info: CallInfo, headers: Mapping[str, str] | None = None, *, uri: str = ""
    ) -> CallLeg:
        """Call ``info.to_uri`` as the trunk ``info.trunk``; the leg's info has the Call-ID.

        Args:
            info: of the call.
            headers: put into the INVITE.
            uri: what to dial in place of ``info.to_uri``. The stack dials no address from which
                ``net_interface`` cannot be seen, so the exchange gives one of its own.

        Raises:
            LegError: it could not even be tried.
        """
        agent = self._agents.get(info.trunk or "main")
        if agent is None:
            raise LegError(f"there is no trunk {info.trunk!r}")
        try:
            call = await agent.dial(uri or info.to_uri, dict(headers or {}))
        except (BaresipError, ValueError) as error:
            raise LegError(f"the call could not be made: {error}") from error
        early = self._early.get(call.handle, ())
        call_id = next((event.call_id for event in early if event.call_id), None) or ""
        return self._leg(
            call, replace(info, call_id=call_id, direction="outbound"), info.trunk or "main"
        )

    def _settings(self) -> Config:
        first, last = self._config.rtp_range
        return Config(
            net_interface=self._advertised,
            max_concurrent_calls=None,
            rtp_timeout=math.ceil(self._config.media_timeout_s),
            native_log_level="warning",
            sip_trace=True,
            extra_config_text=_SETTINGS.format(port=self.port, rtp_ports=f"{first}-{last}"),
        )

    async def _add(self, name: str, profile: MediaProfile) -> None:
        """A user agent that calls as the profile says and one user part that reaches it.

        The stack finds the agent of an INVITE by its account's user alone, so a user that another
        profile has already gets an agent of its own for inbound calls.
        """
        agent = await UserAgent.create(self.runtime, self._account(profile, profile.user))
        self._agents[name] = agent
        user = profile.user
        if user in self.users.values():
            user = f"{user}-{len(self.users)}"
            agent = await UserAgent.create(self.runtime, self._account(profile, user))
        agent.on_incoming(lambda call: self._start_task(self._incoming(call, name)))
        self.users[name] = user

    def _account(self, profile: MediaProfile, user: str) -> Account:
        extra = ["video_codecs=none"]
        if _ENCRYPTION[profile.srtp]:
            extra.append(f"mediaenc={_ENCRYPTION[profile.srtp]}")
        return Account(
            user,
            profile.domain,
            profile.password,
            registrar=self._exchange.address,
            reg_interval=0,
            audio_codecs=tuple(_CODECS[codec] for codec in profile.codecs),
            dtmf_mode="auto",
            auth_user=profile.auth_user or None,
            extra_params=tuple(extra),
        )

    # What the stack says.

    def _heard(self, event: StackEvent) -> None:
        leg = self._legs.get(event.call)
        if leg is not None:
            self._deliver(leg, event)
        elif event.event in (Event.CALL_INCOMING, Event.CALL_OUTGOING):
            self._early[event.call] = [event]  # Its leg is being made.
            while len(self._early) > _MOST_EARLY:
                self._early.pop(next(iter(self._early)))  # Whose making failed.
        elif event.call in self._early:
            self._early[event.call].append(event)

    def _deliver(self, leg: BaresipLeg, event: StackEvent) -> None:
        leg.take(event)
        if event.event is Event.CALL_CLOSED:
            self._legs.pop(event.call, None)

    async def _incoming(self, call: Call, profile: str) -> None:
        try:
            info = await self._exchange.incoming(call.call_id or "")
        except LegError as error:
            logger.warning("call {}: {}", call.call_id, error)
            self._early.pop(call.handle, None)
            if call.state is not CallState.CLOSED:
                await call.reject()
            return
        leg = self._leg(call, info, profile)
        if self._take is None:
            await leg.reject(480)
        else:
            await self._take(leg)

    def _leg(self, call: Call, info: CallInfo, profile: str) -> BaresipLeg:
        codecs = self._profiles[profile].codecs
        leg = BaresipLeg(call, info, codecs, self._exchange, self._pump, self._adopt)
        leg.described(self._descriptions.pop(info.call_id, ""))
        self._adopt(call, leg)
        return leg

    def _adopt(self, call: Call, leg: BaresipLeg) -> None:
        """Give this call's events to the leg, those first that came before there was one."""
        self._legs[call.handle] = leg
        for event in self._early.pop(call.handle, []):
            self._deliver(leg, event)

    def _traced(self, call_id: str, description: str) -> None:
        """On the stack's log thread: a peer's session description came."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._described, call_id, description)

    def _described(self, call_id: str, description: str) -> None:
        for leg in self.legs:
            if leg.call_id == call_id:
                leg.described(description)
        # Kept even so: the engine may have called itself, and the other leg is still to come.
        self._descriptions[call_id] = description
        while len(self._descriptions) > _MOST_EARLY:
            self._descriptions.pop(next(iter(self._descriptions)))

    # Life and death.

    async def _watch_stack(self, runtime: Runtime) -> None:
        misses = 0
        while misses < _MISSES:
            await asyncio.sleep(_WATCH_S)
            try:
                async with asyncio.timeout(_ANSWER_S):
                    await runtime.set_sip_trace(True)  # The cheapest command.
                misses = 0
            except (TimeoutError, BaresipError) as error:
                misses += 1
                logger.error("the SIP stack does not answer: {!r}", error)
        self._died()

    def _died(self) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        logger.critical("the SIP stack died; this process cannot carry calls any more")
        for leg in self.legs:
            leg.fail("the SIP stack died")
        if self._dead is not None:
            self._dead()

    def _start_task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("a call could not be taken: {}", error)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
