"""``talkpath serve``: the speech-to-text server."""

import argparse
import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any

from talkpath.agent.config import Config
from talkpath.bots.arguments import WHISPER, Setting, add_settings, config_of
from talkpath.bots.models_command import pull
from talkpath.bots.process import allow_many_sockets, quick_loop

if TYPE_CHECKING:
    from talkpath.agent.server.service import Service

__all__ = ["add_serve_command"]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def _byte_count(text: str) -> int:
    """``500M`` and the like; a bare number is bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; 500M and 2G are, or bytes")
    return int(float(match[1]) * _UNITS[match[2].upper()])


_SERVE = (
    Setting("--host", "serve.host", "address to listen on; 0.0.0.0 for all", "ADDRESS"),
    Setting(
        "--port", "serve.port", "TCP port, 0 to 65535; 0 lets the system choose", "N", type=int
    ),
    Setting(
        "--api-keys",
        "serve.api_keys_file",
        "file of the keys that clients need: one a line, and after a space its name for the log",
        "FILE",
        default="no keys: for this machine only",
    ),
    Setting(
        "--insecure-no-auth",
        "serve.insecure_no_auth",
        "serve other machines without keys, whoever they are",
        type=bool,
        default="no",
    ),
    Setting(
        "--allow-origin",
        "serve.allow_origins",
        "origin of pages that may call, e.g. https://app.example.org, or * for all; may be "
        "repeated",
        "URL",
        repeats=True,
        default="the server's own and those of this machine",
    ),
    Setting(
        "--max-streams",
        "whisper.max_streams",
        "live streams at once; one more is refused",
        "N",
        type=int,
    ),
    Setting(
        "--max-streams-per-key",
        "serve.max_streams_per_key",
        "live streams of one key at once",
        "N",
        type=int,
        default="0, as many as there are",
    ),
    Setting(
        "--max-upload",
        "serve.upload_bytes",
        "longest recording in bytes, or with a unit: 500M, 2G",
        "SIZE",
        type=_byte_count,
        default="1G",
    ),
    Setting(
        "--tls-cert",
        "serve.tls_cert",
        "certificate chain in PEM, to serve https and wss",
        "FILE",
        default="none: http and ws",
    ),
    Setting(
        "--tls-key",
        "serve.tls_key",
        "its private key in PEM",
        "FILE",
        default="in the certificate's file",
    ),
    Setting(
        "--drain",
        "serve.drain_s",
        "seconds that streams and recordings under way have to end once the server is to stop",
        "SECONDS",
        type=float,
    ),
)


def add_serve_command(commands: Any, *parents: argparse.ArgumentParser) -> None:
    """Add the command."""
    serve = commands.add_parser(
        "serve",
        parents=parents,
        help="serve speech-to-text to other programs",
        description="Serve speech-to-text until Ctrl-C or SIGTERM, in the protocols of Baseten, "
        "OpenAI and Together. The page to try it is at /.",
    )
    add_settings(serve, *WHISPER, *_SERVE)
    serve.set_defaults(handler=_serve)


def _serve(args: argparse.Namespace) -> int:
    config = config_of(args)
    allow_many_sockets()
    with asyncio.Runner(loop_factory=quick_loop()) as runner:
        runner.run(_run(config))
    return 0


async def _run(config: Config) -> None:
    # Not before the arguments are known to be right: these take seconds.
    from talkpath.agent.models import ModelStore
    from talkpath.agent.runtime import Runtime
    from talkpath.agent.server.serve import load_service, serve

    ModelStore().check(config.whisper.model, "whisper")
    runtime = Runtime(config)

    async def load() -> "Service":
        await _fetch(config.whisper.model)
        return await load_service(config, runtime)

    try:
        await serve(config, load)
    finally:
        await runtime.aclose()


async def _fetch(model: str) -> None:
    """Fetch a model that is not here yet, while the server tells others to wait.

    Nobody waits for the thread: where a signal ends the server before, the thread goes with
    the process. What it has fetched by then is found by the next one.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            pull([model])
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="fetching a model", daemon=True).start()
    await done
