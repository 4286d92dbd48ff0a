"""The server's side of digest: it challenges requests, and checks their proofs."""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from talkpath.agent.sip.digest import Credentials, encoded, parse_auth
from talkpath.agent.sip.message import Request, SipParseError

__all__ = ["NONCE_S", "Checked", "DigestServer", "Outcome"]

NONCE_S = 300
"""Seconds for which a nonce of the server's counts."""


class Outcome(Enum):
    """What is to be said of a request's credentials."""

    RIGHT = "right"
    MISSING = "missing"
    """None for this realm."""
    STALE = "stale"
    """Made for a nonce that is too old, was used already, or is none of ours."""
    WRONG = "wrong"
    """Made for a nonce that is good, with a wrong name or password."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a request may pass, and as whom."""

    outcome: Outcome
    user: str = ""


class DigestServer:
    """Challenges requests, and checks their credentials.

    Nonces are not kept: each says itself when it was made, and for which address, under a
    signature. What is kept is how often nonces were used by those who know a password, so that
    nobody can use a recorded request again.

    Args:
        realm: what passwords are for.
        algorithms: those that are offered and taken, the preferred first.
        secret: signs the nonces; one of this process's own by default.
        capacity: most nonces whose use is remembered; the oldest is forgotten for one more.
    """

    def __init__(
        self,
        realm: str,
        algorithms: Sequence[str] = ("SHA-256", "MD5"),
        secret: bytes | None = None,
        capacity: int = 10_000,
    ) -> None:
        self._realm = realm
        self._algorithms = tuple(algorithms)
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._capacity = capacity
        self._used: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def challenge(self, address: str, now_s: float, stale: bool = False) -> tuple[str, ...]:
        """Values of ``WWW-Authenticate``, the preferred first (RFC 8760, 2.3)."""
        nonce = self._sign(f"{max(0, int(now_s)):x}-{secrets.token_hex(8)}", address)
        realm = self._realm.replace("\\", "\\\\").replace('"', '\\"')
        end = ", stale=true" if stale else ""
        return tuple(
            f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, qop="auth"{end}'
            for algorithm in self._algorithms
        )

    def check(
        self, request: Request, users: Mapping[str, str], address: str, now_s: float
    ) -> Checked:
        """Say whether a request's credentials are right.

        It takes the same time for names that exist and for those that do not.

        Args:
            request: perhaps with ``Authorization``.
            users: passwords by name.
            address: where it came from: nonces count for one address.
            now_s: the time; the clock of ``challenge``.
        """
        given = self._credentials(request)
        if given is None:
            return Checked(Outcome.MISSING)
        made_s = self._made_s(given["nonce"], address)
        if made_s is None or now_s - made_s > NONCE_S:
            return Checked(Outcome.STALE)
        credentials = _as_used(given, self._algorithms)
        user = given.get("username", "")
        password = users.get(user)
        if credentials is None:
            return Checked(Outcome.WRONG)
        expected = credentials.proof(password or secrets.token_hex(8), request.method)
        if not _is_same(given.get("response", ""), expected) or password is None:
            return Checked(Outcome.WRONG)
        if not _is_target(given["uri"], request.uri):
            return Checked(Outcome.WRONG)
        if not self._is_new(credentials, request, expected):
            return Checked(Outcome.STALE)
        return Checked(Outcome.RIGHT, user)

    def _credentials(self, request: Request) -> dict[str, str] | None:
        for name, value in request.headers:
            if name.lower() != "authorization":
                continue
            try:
                scheme, given = parse_auth(value)
            except SipParseError:
                continue  # as good as none
            if scheme == "digest" and given.get("realm") == self._realm and "nonce" in given:
                return given
        return None

    def _sign(self, text: str, address: str) -> str:
        signature = hmac.new(self._secret, encoded(f"{text} {address}"), hashlib.sha256)
        return f"{text}-{signature.hexdigest()[:32]}"

    def _made_s(self, nonce: str, address: str) -> int | None:
        """When a nonce was made; None where it is not ours, or for another address."""
        text, _, _ = nonce.rpartition("-")
        if not _is_same(nonce, self._sign(text, address)):
            return None
        return int(text.partition("-")[0], 16)

    def _is_new(self, credentials: Credentials, request: Request, proof: str) -> bool:
        """Whether a nonce's count has risen, or this is a copy of the last request with it."""
        try:
            number, _ = request.cseq
            mark = f"{proof} {number} {request.call_id}"
        except SipParseError:
            return False
        last = self._used.get(credentials.nonce)
        if last is not None and credentials.count <= last[0]:
            return last == (credentials.count, mark)
        self._used[credentials.nonce] = credentials.count, mark
        if len(self._used) > self._capacity:
            self._used.popitem(last=False)
        return True


def _as_used(given: Mapping[str, str], algorithms: Sequence[str]) -> Credentials | None:
    """The credentials of a request, if they are such as the challenge asked for."""
    count = given.get("nc", "")
    algorithm = given.get("algorithm", "MD5").upper()
    if (
        algorithm not in algorithms
        or given.get("qop", "").lower() != "auth"
        or not re.fullmatch("[0-9A-Fa-f]{8}", count)
        or not given.get("cnonce")
        or "uri" not in given
    ):
        return None
    return Credentials(
        username=given.get("username", ""),
        realm=given["realm"],
        nonce=given["nonce"],
        uri=given["uri"],
        algorithm=algorithm,
        qop=given["qop"],
        cnonce=given["cnonce"],
        count=int(count, 16),
    )


def _is_same(one: str, other: str) -> bool:
    """Compare in a time that says nothing of where they differ."""
    return hmac.compare_digest(encoded(one), encoded(other))


def _is_target(uri: str, target: str) -> bool:
    """Whether credentials are for whom a request is for.

    Hosts differ where a proxy is in between, and some phones leave the user part away.
    """
    return _user(uri) in ("", _user(target))


def _user(uri: str) -> str:
    return uri.partition(":")[2].rpartition("@")[0]
