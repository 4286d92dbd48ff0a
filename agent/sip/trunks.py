"""Trunks: the PBXs and carriers that the telephone is connected with, and the file they are in.

A trunk is a TOML table ``[[trunk]]`` whose keys are the attributes of ``Trunk``; ``password_env``
names an environment variable in place of ``password``.
"""

import dataclasses
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sipmessage

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.dial_plan import DialPlan
from talkpath.agent.sip_sections import CODECS, SRTP

__all__ = ["RESERVED_HEADERS", "Trunk", "read_trunks", "sip_host"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_TEXT = re.compile(r"[^\x00-\x1f\x7f\"\\<>]*")
_HEADER_VALUE = re.compile(r"[^\x00-\x1f\x7f]*")
# What a stack or the edge writes by itself.
RESERVED_HEADERS = frozenset(
    "allow authorization call-id contact content-encoding content-length content-type cseq event "
    "from max-forwards min-se path proxy-authenticate proxy-authorization proxy-require rack "
    "record-route refer-to replaces require route rseq server service-route session-expires "
    "supported to user-agent via www-authenticate".split()
)
"""Headers that are the stack's own, in small letters: a call would go elsewhere, or be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """A PBX or carrier.

    Attributes:
        name: letters, digits, hyphens and underscores; not ``main``.
        addresses: networks that its calls come from; servers that are given by address count too.
        servers: SIP URIs that calls go to, in the order of preference.
        user: the name of the account there.
        auth_user: the name that the password belongs to, where it is another.
        password: the account's password.
        register: whether we register there, so that it knows where calls for us go.
        expires_s: seconds that a registration is asked for.
        challenge: whether its calls must prove the password as well.
        codecs: what is offered and taken, in the order of preference; empty: as for all calls.
        srtp: whether audio is encrypted, as in ``sip.srtp``; empty: as for all calls.
        bot: takes its calls that no route has a bot for; empty: the default.
        caller_id: the number or name that our calls show; empty: ``user``.
        domain: the host in our addresses there; empty: that of the first server.
        dial_plan: patterns of what may be called through it; empty: nothing.
        max_calls: calls at once; 0: no limit but that of all calls.
        headers: added to each of our INVITEs.
    """

    name: str
    addresses: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    user: str = ""
    auth_user: str = ""
    password: str = field(default="", repr=False)
    register: bool = False
    expires_s: int = 600
    challenge: bool = False
    codecs: tuple[str, ...] = ()
    srtp: str = ""
    bot: str = ""
    caller_id: str = ""
    domain: str = ""
    dial_plan: tuple[str, ...] = ()
    max_calls: int = 0
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == "main":
            raise ConfigError(
                f"the trunk's name {self.name!r} must be of letters, digits, - and _, and not main"
            )
        self._require(bool(self.addresses or self.servers), "it needs addresses or servers")
        for network in self.addresses:
            self._require(_is_network(network), f"addresses: {network!r} is no network")
        for server in self.servers:
            self._require(
                bool(sip_host(server)), f"servers: {server!r} is no address as sip:host:port"
            )
        self._check_account()
        self._check_calls()
        self._check_headers()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The domain and the servers' hosts: where numbers are dialled through."""
        domain = (self.domain,) if self.domain else ()
        return (*domain, *map(_bracketed, map(sip_host, self.servers)))

    def _check_account(self) -> None:
        for name in ("user", "auth_user", "caller_id", "bot"):
            self._require(
                _TEXT.fullmatch(getattr(self, name)) is not None,
                f"{name} must be without quotes, brackets and control characters",
            )
        has_account = bool(self.user or self.auth_user)
        self._require(not self.password or has_account, "a password needs a user")
        self._require(
            not self.register or bool(self.user and self.servers),
            "register needs a user and servers",
        )
        self._require(
            not self.challenge or bool(self.password and has_account),
            "challenge needs a user and a password",
        )
        self._require(
            60 <= self.expires_s <= 86_400, "expires_s must lie between 60 and 86400 seconds"
        )

    def _check_calls(self) -> None:
        self._require(
            set(self.codecs) <= set(CODECS), f"codecs must be some of {', '.join(CODECS)}"
        )
        self._require(
            self.srtp in ("", *SRTP), f"srtp is {self.srtp!r}; it must be one of {', '.join(SRTP)}"
        )
        self._require(
            not self.domain or sip_host(f"sip:{self.domain}") == self.domain,
            f"domain: {self.domain!r} is no host",
        )
        self._require(self.max_calls >= 0, "max_calls must be 0 or more")
        try:
            DialPlan(self.dial_plan)
        except ConfigError as error:
            raise ConfigError(f"trunk {self.name}: {error}") from error

    def _check_headers(self) -> None:
        for name, value in self.headers.items():
            self._require(
                _TOKEN.fullmatch(name) is not None and name.lower() not in RESERVED_HEADERS,
                f"headers: {name!r} cannot be set",
            )
            self._require(
                _HEADER_VALUE.fullmatch(value) is not None,
                f"headers: {name} has a control character in it",
            )

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"trunk {self.name}: {message}")


def read_trunks(path: Path | str, environ: Mapping[str, str] | None = None) -> tuple[Trunk, ...]:
    """Read a file of trunks.

    Args:
        path: TOML, with a ``[[trunk]]`` table for each.
        environ: environment variables, ``os.environ`` by default.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong.
    """
    environ = os.environ if environ is None else environ
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the trunks file {path}: {error}") from error
    for key in content:
        if key != "trunk":
            raise ConfigError(f"{path}: there is no {key!r}; each trunk is a table [[trunk]]")
    tables = content.get("trunk", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: each trunk is a table [[trunk]], in double brackets")
    trunks = tuple(_read_trunk(f"{path}: ", table, environ) for table in tables)
    names = [trunk.name for trunk in trunks]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path}: there are two trunks {name!r}")
    return trunks


def sip_host(uri: str) -> str:
    """The host of a SIP URI, IPv6 without brackets; empty where it is none that calls can go to."""
    try:
        parsed = sipmessage.URI.parse(uri)
    except (ValueError, TypeError):
        return ""
    transport = parsed.parameters.get("transport", "udp") or ""
    is_port = parsed.port is None or 0 < parsed.port <= 65535
    if parsed.scheme == "tel" or not is_port or transport.lower() not in ("udp", "tcp", "tls"):
        return ""
    return parsed.host.strip("[]")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _read_trunk(where: str, table: Mapping[str, Any], environ: Mapping[str, str]) -> Trunk:
    name = table.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{where}a trunk has no name")
    where = f"{where}trunk {name}: "
    types = {item.name: item.type for item in dataclasses.fields(Trunk)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key == "password_env":
            values["password"] = _from_environment(where, table, value, environ)
        elif key not in types:
            close = difflib.get_close_matches(key, [*types, "password_env"], n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{where}there is no setting {key!r}{hint}")
        else:
            values[key] = _typed(f"{where}{key}", types[key], value)
    try:
        return Trunk(**values)
    except ConfigError as error:
        raise ConfigError(f"{where.partition('trunk ')[0]}{error}") from error


def _from_environment(
    where: str, table: Mapping[str, Any], variable: object, environ: Mapping[str, str]
) -> str:
    if "password" in table:
        raise ConfigError(f"{where}there is both a password and a password_env")
    if not isinstance(variable, str) or not environ.get(variable):
        raise ConfigError(f"{where}the environment variable {variable} of password_env is not set")
    return environ[variable]


def _typed(what: str, kind: object, value: object) -> object:
    """A value as ``Trunk`` has it."""
    if kind is bool or kind is int or kind is str:
        if type(value) is kind:
            return value
        wanted = {bool: "true or false", int: "a whole number", str: "a text"}[kind]
    elif kind == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        wanted = "a list of texts"
    else:
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return value
        wanted = "a table of texts"
    raise ConfigError(f"{what} must be {wanted}")
