"""``talkpath run BOT --transport sip``: the telephone."""

import asyncio
import contextlib
import functools
import importlib.util
import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from talkpath.agent.config import Config
from talkpath.agent.errors import MissingDependency, TalkpathError
from talkpath.agent.sip_sections import PRIVATE_NETWORKS, SRTP, SipConfig
from talkpath.bots.arguments import Setting
from talkpath.bots.loader import bot_models
from talkpath.bots.models_command import models_of, pull
from talkpath.bots.process import allow_many_sockets, quick_loop

if TYPE_CHECKING:
    from talkpath.transports.sip.listener import Listener

__all__ = [
    "TELEPHONE",
    "TELEPHONE_SERVER",
    "make_listener",
    "pull_models",
    "require_telephone",
    "routed_bots",
    "run_telephone",
]

_MODULES = ("baresip", "dns", "sipmessage")

TELEPHONE = (
    Setting(
        "--sip-port",
        "sip.port",
        "UDP and TCP port of SIP, 0 to 65535; 0 lets the system choose",
        "N",
        type=int,
    ),
    Setting(
        "--sip-tls-port", "sip.tls_port", "TCP port of SIP over TLS, with --tls-cert", "N", type=int
    ),
    Setting(
        "--tls-cert",
        "sip.tls_cert",
        "certificate chain in PEM, to serve SIP over TLS",
        "FILE",
        default="none: no TLS",
    ),
    Setting(
        "--tls-key",
        "sip.tls_key",
        "its private key in PEM",
        "FILE",
        default="in the certificate's file",
    ),
    Setting(
        "--public-address",
        "sip.public_address",
        "this machine's address as peers see it, behind NAT",
        "ADDRESS",
        default="the one that faces the peer",
    ),
    Setting("--rtp-ports", "sip.rtp_ports", "UDP ports of audio, first to last", "FIRST-LAST"),
    Setting(
        "--codecs",
        "sip.codecs",
        "what is offered and taken, in the order of preference",
        "LIST",
        default="opus,g722,pcmu,pcma",
    ),
    Setting("--srtp", "sip.srtp", "whether audio of calls is encrypted", choices=SRTP),
    Setting("--trunks", "sip.trunks", "file of the trunks", "FILE", default="none"),
    Setting(
        "--dial-plan",
        "sip.dial_plan",
        "pattern of addresses and numbers that may be called or transferred to, e.g. +4930*; may "
        "be repeated",
        "PATTERN",
        repeats=True,
        default="nobody can be",
    ),
    Setting(
        "--record-folder",
        "sip.record_folder",
        "folder where each call's sound is written",
        "DIR",
        default="none is written",
    ),
)
"""Flags of whatever answers or makes telephone calls."""

TELEPHONE_SERVER = (
    Setting(
        "--route",
        "sip.routes",
        "bot for a dialled number, or for a header, e.g. '+4930*=receptionist' or "
        "'X-Queue:sales*=router'; may be repeated, the first that fits counts",
        "PATTERN=BOT",
        repeats=True,
        default="BOT takes all calls",
    ),
    Setting(
        "--dispatch",
        "sip.dispatch",
        "function that is asked for each call before it rings",
        "FILE.py:FUNCTION",
        default="none",
    ),
    Setting(
        "--sip-user",
        "sip.users",
        "name and password of a phone that may call from anywhere; may be repeated; others on "
        "this machine can read it, but not TALKPATH_SIP_USERS=NAME:PASSWORD,...",
        "NAME:PASSWORD",
        repeats=True,
        default="none",
    ),
    Setting(
        "--sip-allow",
        "sip.allow",
        "network that may call without a password; may be repeated",
        "NETWORK",
        repeats=True,
        default="private networks",
    ),
    Setting("--max-calls", "sip.max_calls", "calls at once; one more is refused", "N", type=int),
    Setting(
        "--calls-per-worker",
        "sip.calls_per_worker",
        "calls that one process carries; each process has models of its own",
        "N",
        type=int,
        default="0, all calls in one",
    ),
    Setting(
        "--sip-workers",
        "sip.workers",
        "processes that are started at once and stay; more come with the calls",
        "N",
        type=int,
    ),
    Setting(
        "--sip-drain",
        "sip.drain_s",
        "seconds that calls have to end by themselves once the server is to stop",
        "SECONDS",
        type=float,
    ),
)
"""Flags of what answers calls."""


def require_telephone() -> None:
    """Make sure that the telephone's packages are here.

    Raises:
        MissingDependency: one is not.
    """
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"the telephone needs packages that are not installed ({', '.join(missing)}): "
            'pip install "talkpath[sip]"'
        )


def routed_bots(bot: str, config: SipConfig) -> list[str]:
    """The bots that calls may come to: the default one first, then those of routes and trunks.

    Raises:
        ConfigError: the trunks' file cannot be read.
    """
    from talkpath.agent.sip.trunks import read_trunks

    trunks = read_trunks(config.trunks) if config.trunks else ()
    named = (*(route.rpartition("=")[2] for route in config.routes), *(t.bot for t in trunks))
    return list(dict.fromkeys([bot, *filter(None, named)]))


def pull_models(bots: Sequence[str], config: Config) -> None:
    """Fetch what the bots need, with progress; the workers find it on the disk then.

    Raises:
        ConfigError: there is no such bot.
        ModelUnavailable: a model is to be had nowhere.
    """
    kinds = {kind for bot in bots for kind in bot_models(bot)}
    if config.whisper.servers:
        kinds.discard("whisper")
    pull(models_of(config, sorted(kinds)))


def run_telephone(bot: str, config: Config, *, debug: bool) -> int:
    """Answer calls until Ctrl-C or SIGTERM; return the exit code.

    Args:
        bot: takes the calls that no route sends to another one.
        config: the settings.
        debug: whether workers log everything.

    Raises:
        TalkpathError: the telephone cannot run here.
    """
    require_telephone()
    bots = routed_bots(bot, config.sip)
    pull_models(bots, config)
    allow_many_sockets()
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(_serve(bots, config, "DEBUG" if debug else "INFO"))
    return 0


def make_listener(bots: Sequence[str], config: Config, level: str) -> "Listener":
    """A listener whose workers log what is of this level or above."""
    from talkpath.transports.sip.listener import Listener
    from talkpath.transports.sip.supervisor import Supervisor
    from talkpath.transports.sip.worker_process import WORKER

    supervise = functools.partial(Supervisor, command=(*WORKER, level))
    return Listener(config, bots, supervise=supervise)


async def _serve(bots: Sequence[str], config: Config, level: str) -> None:
    from talkpath.agent.web import bind, is_loopback, listen, url_of
    from talkpath.agent.web_server import running
    from talkpath.transports.sip.admin import BODY_BYTES, create_admin

    listener = make_listener(bots, config, level)
    host = config.server.host
    with contextlib.closing(bind(host, config.server.port)) as bound:
        listen(bound)
        admin = create_admin(listener, config)
        _say("the telephone is starting; its bots load their models")
        async with (
            running(
                admin, bound, message_bytes=BODY_BYTES, finish=listener.drain, lifespan=False
            ) as server,
            _started(listener, server) as ready,
        ):
            if not ready:
                return
            _say(f"calls and metrics are at {url_of(bound, host)}")
            for address in listener.addresses:
                _say(f"the telephone is listening at {address}")
            if is_loopback(host):
                _say("only this machine can call it; --host 0.0.0.0 lets others in")
            elif config.sip.allow == PRIVATE_NETWORKS:
                _say("it takes calls from private networks; --sip-allow and --sip-user let in more")
            await _until_end(listener, server)


@contextlib.asynccontextmanager
async def _started(listener: "Listener", server: "asyncio.Task[None]") -> AsyncIterator[bool]:
    """A started listener; False where a signal came before it was."""
    starting = asyncio.create_task(listener.start(), name="start of the telephone")
    try:
        await asyncio.wait({starting, server}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        yield starting.done()
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        await listener.stop()


async def _until_end(listener: "Listener", server: "asyncio.Task[None]") -> None:
    """Wait for a signal, or for the end of all workers.

    Raises:
        TalkpathError: the workers cannot be kept alive.
    """
    failed = asyncio.create_task(listener.supervisor.failed.wait(), name="the workers live")
    try:
        await asyncio.wait({failed, server}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise listener.supervisor.failure or TalkpathError("the workers died")
    finally:
        failed.cancel()


def _say(line: str) -> None:
    sys.stdout.write(f"talkpath: {line}\n")
    sys.stdout.flush()
