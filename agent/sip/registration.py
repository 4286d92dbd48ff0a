"""A trunk's registration: which server to ask next, and when (no I/O, no clock of its own).

A refusal or silence sends the next attempt to the next server at once. When all have failed in a
row, the wait is that of RFC 5626, section 4.5: up to 60 s, doubled with every round, at most half
an hour, and at random between that and its half, so that a thousand clients do not come back
together. A registration whose connection got lost begins anew without a wait.
"""

import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass

import sipmessage

from talkpath.agent.sip.message import Response, SipParseError

__all__ = [
    "Backoff",
    "Registration",
    "granted_s",
    "least_s",
    "moved_to",
    "retry_after_s",
    "seen_at",
]

_SHORT_S = 120.0
_APART_S = 5.0
_LONGEST_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait once all servers have failed (RFC 5626, section 4.5).

    Attributes:
        base_s: half of the longest wait after the first round.
        most_s: never longer.
    """

    base_s: float = 30.0
    most_s: float = 1800.0

    def wait_s(self, rounds: int, chance: float) -> float:
        """The wait after this many rounds in a row; ``chance`` lies between 0 and 1."""
        upper_s = min(self.most_s, self.base_s * 2.0 ** min(rounds, 30))
        return upper_s * (0.5 + 0.5 * chance)


class Registration:
    """What is known of one registration.

    Args:
        servers: how many there are; they are numbered from 0 on.
        expires_s: how long a registration is to hold.
        backoff: the wait once all servers have failed.
        chance: gives random numbers between 0 and 1.

    Attributes:
        server: number of the server whose turn it is.
        registered: whether a registration is in force, as far as we know.
        failures: attempts that failed since the last success.
        reason: why the last one failed; empty after a success.
        due_s: when the next attempt is to be made.
        valid_until_s: until when the last registration holds, unless it is refreshed.
    """

    def __init__(
        self,
        servers: int,
        expires_s: int,
        *,
        backoff: Backoff | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if servers < 1:
            raise ValueError("a registration needs a server")
        self._servers = servers
        self._backoff = backoff or Backoff()
        self._chance = chance
        self._tried = 0  # servers that failed in a row
        self._rounds = 0  # times that all of them did
        self._retry_after_s = 0.0
        self._since_s = 0.0
        self.expires_s = expires_s
        self.server = 0
        self.registered = False
        self.failures = 0
        self.reason = ""
        self.due_s = 0.0
        self.valid_until_s = 0.0

    def succeeded(self, now_s: float, granted_s: float) -> None:
        """The registrar took us, for so long.

        Refreshed after three quarters of it, so that other servers can be tried before its end;
        short ones after a half.
        """
        self._tried = self._rounds = self.failures = 0
        self._retry_after_s = 0.0
        self._since_s = now_s
        self.registered, self.reason = True, ""
        self.valid_until_s = now_s + granted_s
        self.due_s = now_s + granted_s * (0.5 if granted_s < _SHORT_S else 0.75)

    def too_brief(self, least_s: int) -> bool:
        """The registrar wants a longer time (423).

        Returns:
            Whether to ask it again at once; otherwise it makes no sense, which is a failure.
        """
        if not self.expires_s < least_s <= _LONGEST_S:
            return False
        self.expires_s = least_s
        return True

    def failed(self, now_s: float, reason: str, retry_after_s: float = 0.0) -> None:
        """The server whose turn it was refused us, or did not answer.

        Args:
            now_s: the time.
            reason: in words, for logs.
            retry_after_s: how long it wants to be left alone.
        """
        self.failures += 1
        self.reason = reason
        self._tried += 1
        self._retry_after_s = max(self._retry_after_s, min(retry_after_s, self._backoff.most_s))
        self.server = (self.server + 1) % self._servers
        self.due_s = now_s
        if self._tried >= self._servers:
            self._rounds += 1
            wait_s = self._backoff.wait_s(self._rounds, self._chance())
            self.due_s = now_s + max(wait_s, self._retry_after_s)
            self._tried, self._retry_after_s = 0, 0.0
            self.server = 0
        self.expire(now_s)

    def lost(self, now_s: float) -> None:
        """The connection on which the registrar reaches us is gone: register anew at once.

        A registrar that closes each connection is asked every five seconds only.
        """
        if self.registered:
            self.registered = False
            self.due_s = min(self.due_s, max(now_s, self._since_s + _APART_S))

    def expire(self, now_s: float) -> None:
        """See whether what was in force still is."""
        if now_s >= self.valid_until_s:
            self.registered = False


def granted_s(response: Response, contact: str, asked_s: int) -> int:
    """How long a registrar's 200 registers a contact for.

    Args:
        response: with the contacts that are registered now.
        contact: ours, a URI; where a registrar rewrites contacts, the only one counts as ours.
        asked_s: what was asked for, which holds where the registrar says nothing.

    Raises:
        SipParseError: the contacts cannot be read.
    """
    try:
        own = sipmessage.URI.parse(contact)
        found = [sipmessage.Address.parse(one) for one in response.headers.all("Contact")]
    except ValueError as error:
        raise SipParseError(f"Contact cannot be read: {error}") from error
    ours = [one for one in found if _key(one.uri) == _key(own)] or (
        found if len(found) == 1 else []
    )
    text = next((one.parameters.get("expires") for one in ours), None)
    text = text or response.headers.get("Expires") or ""
    return _number(text, asked_s)


def seen_at(response: Response, address: str, *, reliable: bool) -> str:
    """Where a registrar saw a request come from, if that is not where we said that we are.

    It says so in ``received`` and ``rport`` of ``Via`` (RFC 3581), as every server behind which
    a NAT is does. The port of a connection is never the one that we listen on, so it counts only
    together with another address.

    Args:
        response: to the request.
        address: what we said, ``host:port``.
        reliable: whether the request went by a connection.

    Returns:
        ``host:port``; empty where it is the same, or nothing that can be read.
    """
    parameters = response.via.parameters
    said, _, said_port = address.rpartition(":")
    try:
        mine = ipaddress.ip_address(said.strip("[]"))
        seen = ipaddress.ip_address((parameters.get("received") or said).strip("[]"))
    except ValueError:
        return ""
    port = _number(parameters.get("rport") or "", 0)
    if not 0 < port < 65536 or (seen == mine and (reliable or port == int(said_port))):
        return ""
    return f"[{seen}]:{port}" if seen.version == 6 else f"{seen}:{port}"


def moved_to(response: Response) -> sipmessage.URI | None:
    """Where a registrar sends us to (300 to 302): what it likes best of what is SIP.

    None where the response is another one, or has no address to read.
    """
    if response.status not in (300, 301, 302):
        return None
    found = []
    for text in response.headers.all("Contact"):
        try:
            one = sipmessage.Address.parse(text)
            if one.uri.scheme in ("sip", "sips"):
                found.append((float(one.parameters.get("q") or 1.0), one.uri))
        except ValueError:
            continue
    return max(found, key=lambda one: one[0])[1] if found else None


def least_s(response: Response) -> int:
    """``Min-Expires`` of a 423; 0 where there is none."""
    return _number(response.headers.get("Min-Expires") or "", 0)


def retry_after_s(response: Response) -> int:
    """``Retry-After`` of a refusal; 0 where there is none."""
    return _number((response.headers.get("Retry-After") or "").split(";")[0].split("(")[0], 0)


def _number(text: str, otherwise: int) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else otherwise


def _key(uri: sipmessage.URI) -> tuple[str, str | None, int | None]:
    return uri.host.lower(), uri.user, uri.port
