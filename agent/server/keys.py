"""Keys: who may use the speech-to-text server.

A key comes as ``Authorization: Bearer KEY``, as ``Authorization: Api-Key KEY``, or, from browsers,
whose WebSockets cannot have headers, as the subprotocol ``openai-insecure-api-key.KEY``. Only
digests of the keys are kept, and neither a key nor a part of one is ever logged or sent.
"""

import hashlib
import hmac
import logging
import math
import os
import re
import stat
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from talkpath.agent.config import ServeConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.metrics import Counter
from talkpath.agent.server.admission import Client
from talkpath.agent.server.counted import counted
from talkpath.agent.server.errors import error_response
from talkpath.agent.web import is_loopback

__all__ = ["Guard", "KeyRing", "key_ring"]

_log = logging.getLogger(__name__)

_SCHEMES = ("bearer", "api-key")
_SUBPROTOCOL = "openai-insecure-api-key."
_WARN_EVERY_S = 10.0  # of callers without a key, who may be many
_KEY = re.compile(r"[!-~]+")  # what fits into a header: visible ASCII, no space


class KeyRing:
    """The keys that a server knows.

    Args:
        keys: their names by the keys; an empty name is replaced by one made from a digest.
            Keys of one name are one client, also to the limits.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._clients = [
            (_digest(key), Client(name or f"key-{_digest(key).hex()[:8]}"))
            for key, name in keys.items()
        ]

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, key: str) -> Client | None:
        """Whose key this is; None if it is nobody's.

        Digests of one length are compared, each in constant time, and always all of them: how
        long it takes says nothing about the keys.
        """
        given = _digest(key)
        found = None
        for digest, client in self._clients:
            if hmac.compare_digest(digest, given):
                found = client
        return found


def key_ring(config: ServeConfig) -> KeyRing:
    """The keys that the settings name.

    Raises:
        ConfigError: the file of keys cannot be read or has none; a key cannot be sent in a
            header; or there are no keys where the server is open to other machines.
    """
    keys = dict.fromkeys(config.api_keys, "")
    if not all(_KEY.fullmatch(key) for key in keys):
        raise ConfigError("serve.api_keys must be visible ASCII characters without spaces")
    if config.api_keys_file:
        keys |= _read(Path(config.api_keys_file))
    if not keys and not is_loopback(config.host) and not config.insecure_no_auth:
        raise ConfigError(
            f"anybody who reaches {config.host} could use this server: name keys with --api-keys "
            "FILE, or say --insecure-no-auth if that is meant"
        )
    return KeyRing(keys)


def _read(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigError(f"cannot read the file of keys {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read the file of keys {file}: it is not UTF-8") from None
    if os.name == "posix" and mode & stat.S_IROTH:
        _log.warning("every user of this machine can read the file of keys %s", file)
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if not words:
            continue
        if not _KEY.fullmatch(words[0]):
            raise ConfigError(f"{file}, line {number}: a key is visible ASCII characters only")
        keys[words[0]] = " ".join(words[1:])
    if not keys:
        raise ConfigError(f"there is no key in the file of keys {file}")
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class Guard:
    """Lets in who has a key, and notes in the scope who it is (see ``client_of``).

    Without keys everybody is let in, under no name.

    Args:
        app: what is guarded.
        keys: who may come in.
        open_paths: what may be read without a key.
        denied: counts who is not let in.
    """

    def __init__(
        self, app: ASGIApp, *, keys: KeyRing, open_paths: Collection[str], denied: Counter
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)
        self._denied = denied
        self._refused = 0  # since the log was told
        self._told_s = -math.inf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, or answer 401: to a WebSocket before it is one."""
        app: ASGIApp = self._app
        if scope["type"] in ("http", "websocket"):
            key = _key_of(scope)
            client = self._keys.find(key) if self._keys and key else Client()
            if self._keys and not self._is_open(scope):
                if not key or client is None:
                    self._denied.add(of="key")
                    self._tell(scope)
                    app = _refusal(given=bool(key))
            scope = {**_without_key(scope), "talkpath.client": client or Client()}
        await app(scope, receive, send)

    def _tell(self, scope: Scope) -> None:
        """Tell the log that somebody is not let in, in one line every few seconds."""
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._told_s < _WARN_EVERY_S:
            return
        host = (scope.get("client") or ("an unknown address",))[0]
        calls = counted(self._refused, "call")
        _log.warning("refused %s without a key that is known here, the last from %s", calls, host)
        self._refused, self._told_s = 0, now_s

    def _is_open(self, scope: Scope) -> bool:
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        return reads and scope["path"] in self._open_paths


def _refusal(*, given: bool) -> Response:
    # RFC 6750, part 3: the error is named only to who tried a key.
    challenge = 'Bearer realm="talkpath"' + (', error="invalid_token"' if given else "")
    why = (
        "this API key is not known here"
        if given
        else "an API key is needed: send it as `Authorization: Bearer KEY`"
    )
    headers = {"WWW-Authenticate": challenge}
    return error_response(401, why, code="invalid_api_key", headers=headers)


def _key_of(scope: Scope) -> str:
    """The key that a caller gives, or nothing."""
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if scheme.lower() in _SCHEMES and key.strip():
        return key.strip()
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(_SUBPROTOCOL):
            return str(protocol.removeprefix(_SUBPROTOCOL))
    return ""


def _without_key(scope: Scope) -> Scope:
    """The scope without the key, so that nothing behind the guard can log it or send it back."""
    headers = [item for item in scope["headers"] if item[0] != b"authorization"]
    if "subprotocols" not in scope:
        return {**scope, "headers": headers}
    named = b"sec-websocket-protocol"
    offered = [name for name in scope["subprotocols"] if not name.startswith(_SUBPROTOCOL)]
    headers = [item for item in headers if item[0] != named]
    if offered:
        headers.append((named, ", ".join(offered).encode("latin-1")))
    return {**scope, "headers": headers, "subprotocols": offered}
