"""What may be called or transferred to: nothing, but for what a pattern names.

Calls cost money, so whoever can make a bot or a peer call somewhere must not get past this by
writing an address in another way. A target is brought into one form first; what has no such form,
or can be understood in two ways, is never permitted.
"""

import ipaddress
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from talkpath.agent.errors import ConfigError
from talkpath.agent.sip.patterns import matches, plain_number

__all__ = ["DialPlan"]

_LONGEST = 2048
_NUMBER = re.compile(r"\+[0-9]{1,64}|[0-9*#]{1,64}")
_NUMBER_PATTERN = re.compile(r"\+?[0-9*#]{1,64}")
_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,#-]{1,128}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?")
_HOST_PATTERN = re.compile(r"[a-z0-9.*-]{1,253}")
_PARAMETER = re.compile(r"([A-Za-z0-9_.-]+)(?:=[A-Za-z0-9_.!~*'()\[\]/:&+$%-]*)?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%[01][0-9A-Fa-f]|%7[Ff]|%[89A-Fa-f]")
_REPLACES = re.compile(r"[A-Za-z0-9_.!~*'()\[\]/?:+$%-]{1,512}")
_ADDRESS = re.compile(r"(?:\"[^\"\\<>]*\"\s*|[^\"<>]*)<([^<>]+)>(?:\s*;[^<>]*)?")
_PORTS = ("", "5060", "5061")

# They send a call elsewhere than the address says (RFC 3261, 19.1.1; RFC 4458; RFC 4694), or
# make another request of it.
_ELSEWHERE = frozenset(
    ("cic", "ext", "isub", "maddr", "method", "phone-context", "postd", "rn", "route", "target")
)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a call goes; a number that was given alone has neither scheme nor host."""

    scheme: str
    user: str
    host: str
    port: str


class DialPlan:
    """An allowlist.

    Args:
        patterns: numbers as ``+49*``, and addresses as ``sip:*@pbx.example.com``, in which ``*``
            stands for anything. Pattern ``*`` permits all numbers; ``sip:*@*`` all addresses.
        hosts: hosts that numbers are dialled through, such as a trunk's domain: patterns of
            numbers hold for addresses there as well.

    Raises:
        ConfigError: that is no pattern.
    """

    def __init__(self, patterns: Sequence[str], hosts: Iterable[str] = ()) -> None:
        self._patterns = [_read_pattern(pattern) for pattern in patterns]
        self._hosts = frozenset(filter(None, map(_host, hosts)))

    def permits(self, target: str) -> bool:
        """Whether a number or address may be called or transferred to.

        Args:
            target: a number, ``tel:`` or ``sip:`` URI, or the value of ``Refer-To``; of headers
                in the URI ``Replaces`` is the only one that may be there.
        """
        goal = _canonical(target)
        return goal is not None and any(self._fits(pattern, goal) for pattern in self._patterns)

    def _fits(self, pattern: _Target, goal: _Target) -> bool:
        if not pattern.host:
            is_number = _NUMBER.fullmatch(goal.user) is not None
            through = not goal.host or (goal.host in self._hosts and goal.port in _PORTS)
            return is_number and through and matches(pattern.user, goal.user)
        if not goal.host or (pattern.scheme == "sips" and goal.scheme != "sips"):
            return False
        is_port = goal.port == pattern.port if pattern.port else goal.port in _PORTS
        is_host = matches(pattern.host, goal.host)
        return is_port and is_host and matches(pattern.user, goal.user)


def _read_pattern(text: str) -> _Target:
    scheme, colon, rest = text.strip().partition(":")
    if not colon or scheme.lower() == "tel":
        number = plain_number(rest if colon else scheme)
        if _NUMBER_PATTERN.fullmatch(number):
            return _Target("", number, "", "")
    elif scheme.lower() in ("sip", "sips"):
        user, _, place = rest.rpartition("@")
        host, port = _host_and_port(place)
        is_host = _host(host) or _HOST_PATTERN.fullmatch(host.lower())
        if is_host and _USER.fullmatch(user or "*"):
            host = _host(host) or host.lower()
            return _Target(scheme.lower(), plain_number(user or "*"), host, port)
    raise ConfigError(
        f"the dial plan's {text!r} is neither a number as +49* nor an address as sip:*@example.com"
    )


def _canonical(target: str) -> _Target | None:
    """The one form of a target; None where there is none."""
    if len(target) > _LONGEST or not target.isascii() or not target.isprintable():
        return None
    target = target.strip()
    if "<" in target:
        bracketed = _ADDRESS.fullmatch(target)
        if bracketed is None:
            return None
        target = bracketed[1].strip()
    scheme, colon, rest = target.partition(":")
    if not colon:
        number = plain_number(scheme)
        return _Target("", number, "", "") if _NUMBER.fullmatch(number) else None
    if scheme.lower() == "tel":
        number = plain_number(rest)
        is_number = " " not in rest and _NUMBER.fullmatch(number)
        return _Target("", number, "", "") if is_number else None
    return _canonical_sip(scheme.lower(), rest) if scheme.lower() in ("sip", "sips") else None


def _canonical_sip(scheme: str, rest: str) -> _Target | None:
    if " " in rest or rest.count("@") > 1 or _ESCAPE.search(rest):
        return None
    user, _, place = rest.rpartition("@")
    place, question, headers = place.partition("?")
    place, *parameters = place.split(";")
    user = urllib.parse.unquote(user)
    host, port = _host_and_port(place)
    host = _host(host)
    if user and not _USER.fullmatch(user):
        return None
    if not host or (port and not (port.isdigit() and 0 < int(port) <= 65535)):
        return None
    if not all(map(_is_harmless, parameters)) or (question and not _is_replaces(headers)):
        return None
    return _Target(scheme, plain_number(user), host, port.lstrip("0"))


def _is_harmless(parameter: str) -> bool:
    match = _PARAMETER.fullmatch(parameter)
    return match is not None and match[1].lower() not in _ELSEWHERE


def _is_replaces(headers: str) -> bool:
    """Whether a URI's headers ask for nothing but to take another call's place (RFC 3891)."""
    names = []
    for header in headers.split("&"):
        name, _, value = header.partition("=")
        names.append(name.lower())
        if name.lower() == "require" and value.lower() != "replaces":
            return False
        if not _REPLACES.fullmatch(value):
            return False
    return sorted(names) in (["replaces"], ["replaces", "require"])


def _host_and_port(place: str) -> tuple[str, str]:
    """Host and port; the port is empty where there is none."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", place)
    return (match[1], match[2] or "") if match else ("", "")


def _host(host: str) -> str:
    """One form of a host; empty where it is none."""
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host[1:-1].partition("%")[0]))
        except ValueError:
            return ""
    host = host.lower().removesuffix(".")
    return host if _HOST.fullmatch(host) else ""
