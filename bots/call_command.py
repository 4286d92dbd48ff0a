"""``talkpath call``: make one telephone call, and let a bot talk."""

import argparse
import asyncio
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from talkpath.agent.config import Config
from talkpath.agent.errors import TalkpathError
from talkpath.bots.arguments import config_of
from talkpath.bots.process import allow_many_sockets, quick_loop
from talkpath.bots.sip_command import make_listener, pull_models, require_telephone
from talkpath.transports.sip.leg import LegError

if TYPE_CHECKING:
    from talkpath.transports.sip.leg import CallQuality
    from talkpath.transports.sip.listener import Listener
    from talkpath.transports.sip.outbound import OutboundCall

__all__ = ["add_call_command"]

_END_S = 5.0  # from hanging up to the peer's last word


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def add_call_command(commands: Any, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the command, and return its parser."""
    call: argparse.ArgumentParser = commands.add_parser(
        "call",
        parents=parents,
        help="call a telephone and let a bot talk",
        description="Call a telephone and let a bot talk. Exit code 0 when the call was answered "
        "and ended in good order, 1 otherwise; Ctrl-C hangs up.",
    )
    call.add_argument(
        "to", metavar="TO", help="SIP address, e.g. sip:anna@example.org; or a number, with --trunk"
    )
    call.add_argument(
        "--bot", default="assistant", metavar="NAME", help="who talks (default: assistant)"
    )
    call.add_argument(
        "--trunk",
        default="",
        metavar="NAME",
        help="trunk of the file of --trunks that the call goes through (default: none)",
    )
    call.add_argument(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="header of the INVITE; may be repeated (default: none)",
    )
    call.add_argument(
        "--no-answer-s",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="seconds after which the call is given up if nobody answers (default: 30)",
    )
    call.set_defaults(handler=_call)
    return call


def _call(args: argparse.Namespace) -> int:
    config = _for_one_call(config_of(args), args)
    require_telephone()
    pull_models([args.bot], config)
    allow_many_sockets()
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        return runner.run(_dial(args, config))


def _for_one_call(config: Config, args: argparse.Namespace) -> Config:
    """The settings without what is for callers: nobody is let in, and ports are the system's."""
    from talkpath.agent.web import is_loopback

    given = vars(args)
    sip = dataclasses.replace(
        config.sip,
        port=given.get("sip.port") or 0,
        tls_port=given.get("sip.tls_port") or 0,
        allow=(),
        users=(),
        routes=(),
        dispatch="",
        max_calls=1,
        calls_per_worker=0,
        workers=1,
    )
    here = config.server.host
    if is_loopback(here) and not is_loopback(_host(args.to)):
        here = "0.0.0.0"  # from a loopback address nobody else can be reached
    server = dataclasses.replace(config.server, host=here)
    return dataclasses.replace(config, sip=sip, server=server)


def _host(to: str) -> str:
    """The host of a SIP address; empty for a number."""
    try:
        return urlsplit("//" + to.partition(":")[2].partition(";")[0]).hostname or ""
    except ValueError:
        return ""


async def _dial(args: argparse.Namespace, config: Config) -> int:
    listener = make_listener([args.bot], config, "DEBUG" if args.debug else "WARNING")
    hang_up = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, hang_up.set)
    stopped = asyncio.create_task(hang_up.wait(), name="Ctrl-C")
    try:
        if not await _before(listener.start(), stopped):
            return 1
        headers: Mapping[str, str] = dict(args.header)
        call = await listener.dial(
            args.to, bot=args.bot, trunk=args.trunk, headers=headers, by_user=True
        )
        return await _follow(listener, call, stopped, args.no_answer_s)
    finally:
        stopped.cancel()
        await listener.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _before(work: Coroutine[Any, Any, Any], stopped: "asyncio.Task[Any]") -> bool:
    """Whether something came to its end before Ctrl-C.

    Raises:
        TalkpathError: what it raised.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        return task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _follow(
    listener: "Listener", call: "OutboundCall", stopped: "asyncio.Task[Any]", no_answer_s: float
) -> int:
    """Tell what becomes of a call; return the exit code."""
    answered = asyncio.create_task(call.answered(), name="answer")
    rang = False
    try:
        async with asyncio.timeout(no_answer_s):
            rang = await _before(call.ringing(), stopped)
            if rang and not answered.done():
                _say("ringing")
            await asyncio.wait({answered, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            await _hang_up(listener, call)
            _say("hung up before anybody answered")
            return 1
        answered.result()
    except TimeoutError:
        await _hang_up(listener, call)
        why = f"nobody answered within {no_answer_s:g} s"
        raise TalkpathError(
            why if rang else f"{why}, and it did not ring: is that address right?"
        ) from None
    finally:
        answered.cancel()
        await asyncio.gather(answered, return_exceptions=True)
    _say("answered")
    if not (await _before(call.ended(), stopped) or await _hang_up(listener, call)):
        raise TalkpathError("the call was hung up, but the peer did not confirm it")
    reason, quality = await call.ended()
    _say(f"ended: {reason}")
    if not quality.duration_s:  # its worker died
        return 1
    _say(_described(quality))
    return 0


async def _hang_up(listener: "Listener", call: "OutboundCall") -> bool:
    """End a call; whether it has ended."""
    with contextlib.suppress(LegError):  # it has just ended by itself
        await listener.hang_up(call.call_id)
    try:
        await asyncio.wait_for(call.ended(), _END_S)
    except TimeoutError:
        return False
    return True


def _described(quality: "CallQuality") -> str:
    expected = quality.received + quality.lost
    lost = 100 * quality.lost / expected if expected else 0.0
    parts = [f"{quality.duration_s:.0f} s", quality.codec]
    parts += [f"encrypted ({quality.encrypted})"] if quality.encrypted else []
    parts += [f"{lost:.1f} % lost", f"jitter {quality.jitter_ms:.0f} ms"]
    parts += [f"MOS {quality.mos:.1f}"] if quality.mos else []
    return ", ".join(part for part in parts if part)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
