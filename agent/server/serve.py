"""Serve: the speech-to-text server from its first socket to its last final.

The port is bound and answers before the models are loaded: ``/healthz`` says 200, ``/readyz`` and
all else 503. SIGTERM or SIGINT ends the server in good order: ``/readyz`` says 503 and nobody is
let in, streams and recordings under way end with all that was said, at the latest after
``serve.drain_s`` seconds, and only then the port is closed. A load balancer thus sees a server
that answers and wants no more work. Recordings that are not done by then are answered with 503.
A second signal does not wait: clients are told in their protocol that it is over.
"""

import asyncio
import contextlib
import gc
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError
from talkpath.agent.runtime import Runtime
from talkpath.agent.server.admission import Admission
from talkpath.agent.server.app import Warming, create_app
from talkpath.agent.server.counted import counted
from talkpath.agent.server.keys import KeyRing, key_ring
from talkpath.agent.server.recordings.languages import check_setting
from talkpath.agent.server.service import Service
from talkpath.agent.server.sockets import LiveStreams
from talkpath.agent.web import announce, bind, check_origins, listen, url_of
from talkpath.agent.web_server import running

__all__ = ["load_service", "serve"]

_log = logging.getLogger(__name__)

_GOODBYE_S = 3.0  # for clients to be told that it is over


async def serve(
    config: Config,
    load: Callable[[], Awaitable[Service]],
    *,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or cancellation; what is under way is ended first.

    Args:
        config: ``config.serve`` says where to listen and who may come in.
        load: makes what endpoints share, see ``load_service``; the engine is not closed here.
        on_listening: called with the server's URL once it is ready, instead of writing it to
            standard output.

    Raises:
        ConfigError: the port is taken, or a setting, a key or the certificate is wrong; told
            before anything is loaded.
        TalkpathError: what ``load`` raised.
    """
    settings = config.serve
    keys = key_ring(settings)
    check_origins(settings.allow_origins)
    check_setting(config.whisper.language)
    tls = _tls_context(Path(settings.tls_cert), settings.tls_key) if settings.tls_cert else None
    with contextlib.closing(bind(settings.host, settings.port)) as listener:
        listen(listener)
        url = url_of(listener, settings.host, tls=tls is not None)
        doors = _Doors(keys)
        async with running(
            doors.app,
            listener,
            message_bytes=settings.message_bytes,
            finish=doors.drain,
            tls=tls,
            # Speech does not get smaller, and each stream would keep memory for the attempt.
            deflate=False,
            # A client that is held back cannot answer: its pong waits behind its audio. The
            # listening socket's keepalive finds the dead.
            pings=False,
            lifespan=False,
        ) as server:
            _log.info("starting; the model %s is loaded", config.whisper.model)
            service = await _unless(server, load)
            if service is None or not doors.open(service):
                return  # a signal came first
            gc.collect()
            gc.freeze()
            try:
                _tell(url, service, keys)
                announce("speech-to-text", url, on_listening)
                await asyncio.shield(server)
            finally:
                gc.unfreeze()


async def load_service(config: Config, runtime: Runtime) -> Service:
    """Load the models, which are the runtime's, and make what endpoints share.

    Raises:
        ModelError: the model is not to be had.
        ConfigError: device, type of weights or language is not to be had.
        MissingDependency: a CUDA library is not installed.
    """
    engine, vad = await asyncio.gather(runtime.whisper(), runtime.vad())
    admission = Admission(
        streams=config.whisper.max_streams,
        streams_per_key=config.serve.max_streams_per_key,
        uploads=config.serve.max_uploads,
        uploads_per_key=config.serve.max_uploads_per_key,
    )
    return Service(config, engine, vad, runtime.smart_turn, admission)


class _Doors:
    """Shut while the models load, open while the server serves, shut while it drains."""

    def __init__(self, keys: KeyRing) -> None:
        self.app = Warming()
        self._keys = keys
        self._service: Service | None = None
        self._streams = LiveStreams()
        self._shut = False

    def open(self, service: Service) -> bool:
        """Let callers in; False if it is too late for that."""
        if not self._shut:
            self._service = service
            self.app.app = create_app(service, self._streams, self._keys)
        return not self._shut

    async def drain(self) -> None:
        """Let nobody in, and wait for what is under way."""
        self._shut = True
        if self._service is None:
            return
        admission, within_s = self._service.admission, self._service.config.serve.drain_s
        admission.drain()
        _log.info(
            "stopping: %s and %s have %g s to end; another signal stops at once",
            counted(admission.streams, "stream"),
            counted(admission.uploads, "recording"),
            within_s,
        )
        try:
            await asyncio.gather(self._streams.drain(within_s), _drain_uploads(admission, within_s))
        except asyncio.CancelledError:  # another signal
            await asyncio.gather(self._streams.stop(_GOODBYE_S), _drain_uploads(admission, 0.0))
            raise


async def _drain_uploads(admission: Admission, within_s: float) -> None:
    """Wait for the recordings under way, and answer those that take too long."""
    ended = asyncio.create_task(admission.uploads_ended())
    try:
        await asyncio.wait({ended}, timeout=within_s)
        if admission.uploads:
            _log.warning("%s given up", counted(admission.uploads, "recording"))
            admission.give_up()
            await asyncio.wait({ended}, timeout=_GOODBYE_S)
    finally:
        ended.cancel()


async def _unless(
    server: "asyncio.Task[None]", load: Callable[[], Awaitable[Service]]
) -> Service | None:
    """What was loaded; None if the server ended before."""
    loading = asyncio.ensure_future(load())
    try:
        await asyncio.wait({server, loading}, return_when=asyncio.FIRST_COMPLETED)
        return loading.result() if loading.done() else None
    finally:
        loading.cancel()
        await asyncio.wait({loading})


def _tell(url: str, service: Service, keys: KeyRing) -> None:
    streams = service.config.whisper.max_streams
    _log.info(
        "serving %s at %s: %s, %s",
        service.model,
        url,
        counted(streams, "stream"),
        counted(len(keys), "key"),
    )
    if not keys and service.config.serve.insecure_no_auth:
        _log.warning("there are no keys: anybody who reaches this server can use it")


# -- TLS -------------------------------------------------------------------------------------


def _tls_context(certificate: Path, key: str) -> ssl.SSLContext:
    """Certificate and private key, ready to be served.

    Raises:
        ConfigError: a file cannot be read or holds something else, or they do not belong
            together.
    """
    for file in (certificate, *([Path(key)] if key else ())):
        try:
            file.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        ssl.create_default_context(cafile=str(certificate))
    except ssl.SSLError:
        raise ConfigError(f"there is no certificate in PEM in {certificate}") from None
    holder = key or certificate

    def refuse() -> NoReturn:
        raise ConfigError(f"the private key in {holder} is encrypted; store it without a password")

    try:
        context.load_cert_chain(certificate, key or None, password=refuse)
    except ssl.SSLError as error:
        why = f"there is no private key in PEM in {holder}"
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"the private key in {holder} does not belong to the certificate in {certificate}"
        raise ConfigError(why) from None
    return context
