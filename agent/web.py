"""Web: what the server of a bot and the speech-to-text server have in common.

A socket that is bound before anything is loaded, rules about whose pages may call, and files of a
page; ``web_server.py`` runs them. Errors that a browser is shown come from the caller: each of
the two servers has its own shape.
"""

import errno
import hashlib
import ipaddress
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from talkpath.agent.errors import ConfigError

__all__ = [
    "OriginGuard",
    "announce",
    "bind",
    "check_origins",
    "is_loopback",
    "listen",
    "origin_rules",
    "page_routes",
    "url_of",
]

_LOOPBACK = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_ORIGIN = r"[a-z][a-z0-9+.-]*://[^/\s*?#@]+"  # extensions of browsers have schemes of their own
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_FILE_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_PAGE_HEADERS = {
    # Kept by the browser, but asked about each time: an upgrade shows at the next reload.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# A peer that vanished is found out after 50 s of silence, and after 60 s in which it took nothing.
# Accepted sockets inherit these from the listening one on Linux.
_KEEPALIVE = {
    "TCP_KEEPIDLE": 20,  # s
    "TCP_KEEPINTVL": 10,  # s
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 60_000,  # ms
}


# -- listening -------------------------------------------------------------------------------


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: callers are turned away until all is ready.

    Connections that it accepts are watched by TCP's keepalive.

    Args:
        host: address or name to listen on.
        port: TCP port; 0 lets the system choose.

    Raises:
        ConfigError: there is no such address here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen at {host!r}: {error.strerror}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                bound.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        bound.bind(address)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise _no_port(host, port, error) from error
    return bound


def listen(bound: socket.socket) -> None:
    """Let callers in.

    Raises:
        ConfigError: somebody else took the port since it was bound.
    """
    try:
        bound.listen()
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _no_port(host, port, error) from error


def _no_port(host: str, port: int, error: OSError) -> ConfigError:
    flag = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
    return ConfigError(
        f"cannot listen at {host} port {port} ({error.strerror}); choose another with {flag}"
    )


def url_of(listener: socket.socket, host: str, *, tls: bool = False) -> str:
    """The server's URL, with the port that it has by now and without a slash at its end."""
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{listener.getsockname()[1]}"


def announce(name: str, url: str, on_listening: Callable[[str], None] | None) -> None:
    """Say on standard output that a server is ready, or tell it to who wants to be told."""
    if on_listening is not None:
        on_listening(url)
    else:
        sys.stdout.write(f"talkpath: {name} is listening at {url}\n")
        sys.stdout.flush()


# -- who may call ----------------------------------------------------------------------------


class OriginGuard:
    """Refuses browsers that act for a foreign page.

    Args:
        app: what is guarded.
        local: whether only callers that name this machine in ``Host`` are let in.
        origins: origins that are let in besides the server's own and those on this machine, in
            lower case; ``*`` stands for all.
        refusal: the response to one that is not, made from the reason, which is a sentence
            without its capital and full stop.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        local: bool,
        refusal: Callable[[str], Response],
        origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._local = local
        self._refusal = refusal
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, or refuse it: a WebSocket before it is one."""
        why = self._why_not(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self._app(scope, receive, send)
        else:
            await self._refusal(why)(scope, receive, send)

    def _why_not(self, scope: Scope) -> str | None:
        headers = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        if self._local and not is_loopback(_host_name(headers.get(b"host", ""))):
            return "this server is for its own machine; bind it to another address to serve more"
        if (scope["type"] == "http" and scope["method"] in _SAFE_METHODS) or self._trusts(headers):
            return None
        return "pages of another site may not call here"

    def _trusts(self, headers: dict[bytes, str]) -> bool:
        origin = headers.get(b"origin")
        if origin is None or re.fullmatch(_LOOPBACK, origin) or "*" in self._origins:
            return True
        host = origin.partition("://")[2]
        return origin in self._origins or (bool(host) and host == headers.get(b"host"))


def origin_rules(
    *,
    local: bool,
    methods: Sequence[str],
    refusal: Callable[[str], Response],
    origins: Sequence[str] = (),
) -> list[Middleware]:
    """Middleware that says whose pages may call: the guard, and CORS for those that may.

    Args:
        local: whether only callers that name this machine in ``Host`` are let in.
        methods: what pages may do.
        refusal: the response to a call that may not be, made from the reason.
        origins: as ``check_origins`` gave them; pages on this machine may always call.
    """
    return [
        Middleware(OriginGuard, local=local, refusal=refusal, origins=origins),
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_origin_regex=_LOOPBACK,
            allow_methods=methods,
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        ),
    ]


def check_origins(origins: Sequence[str]) -> tuple[str, ...]:
    """Origins as browsers send them: in lower case, without a slash at the end.

    Raises:
        ConfigError: one is no origin, or has a path.
    """
    checked = tuple(origin.lower().removesuffix("/") for origin in origins)
    for origin in checked:
        if origin not in ("*", "null") and not re.fullmatch(_ORIGIN, origin):
            raise ConfigError(
                f"{origin!r} is no origin of pages: it looks like https://app.example.org, or * "
                "for all"
            )
    return checked


def is_loopback(name: str) -> bool:
    """Whether a host's name or address stands for this machine, on this machine."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """The name in a ``Host`` header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


# -- pages -----------------------------------------------------------------------------------


def page_routes(folder: Traversable) -> Iterator[Route]:
    """One route a file of a page, and of what all pages share (``agent/page``).

    The files are read once; ``index.html`` is at ``/``. A file of the page's own goes before one of
    the same name that is shared.
    """
    shared = resources.files("talkpath.agent.page")
    files = {file.name: file for place in (shared, folder) for file in place.iterdir()}
    for name, file in files.items():
        suffix = "." + name.rpartition(".")[2]
        if suffix in _FILE_TYPES:
            path = "/" if name == "index.html" else f"/{name}"
            yield Route(path, _file(file.read_bytes(), _FILE_TYPES[suffix]))


def _file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_PAGE_HEADERS, "ETag": tag}

    async def endpoint(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return endpoint
