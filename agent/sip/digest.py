"""Digest: proof of a password without saying it (RFC 7616; for SIP: RFC 3261, 22, and RFC 8760).

Both sides: ``DigestServer`` challenges and checks, ``DigestClient`` answers challenges.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from talkpath.agent.sip.message import Request, Response, SipParseError

__all__ = [
    "ALGORITHMS",
    "Checked",
    "Credentials",
    "DigestClient",
    "DigestServer",
    "Outcome",
    "for_target",
    "parse_auth",
]

ALGORITHMS = ("SHA-256", "SHA-256-sess", "MD5", "MD5-sess")
"""What the client can, the strongest first; the server offers those without a session."""

NONCE_S = 300
"""Seconds for which a nonce of the server's counts."""

_AUTH = re.compile(r"\s*([A-Za-z0-9-]+)\s+")
_PARAMETER = re.compile(
    r"[\s,]*([A-Za-z0-9._!%*+`'~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?:,|$)"
)
_HEADERS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}
_QUOTED = ("username", "realm", "nonce", "uri", "response", "cnonce", "opaque")


def parse_auth(value: str) -> tuple[str, dict[str, str]]:
    """Scheme and parameters of a challenge or of credentials; names in small letters.

    Texts in quotes stay as they came, with their backslashes: so they are hashed.

    Raises:
        SipParseError: they cannot be read.
    """
    scheme = _AUTH.match(value)
    if scheme is None:
        raise SipParseError("an authentication header without a scheme")
    parameters: dict[str, str] = {}
    at = scheme.end()
    while at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None or match[1].lower() in parameters:
            raise SipParseError("an authentication header that cannot be read")
        parameters[match[1].lower()] = match[2] if match[2] is not None else match[3]
        at = match.end()
    return scheme[1].lower(), parameters


@dataclass(frozen=True, slots=True)
class Credentials:
    """What stands in ``Authorization``, but for the proof itself.

    Attributes:
        algorithm: one of ``ALGORITHMS``.
        qop: ``auth``, ``auth-int``, or empty as in RFC 2069.
        count: how often the nonce was used, this time included.
        named: whether the challenge named an algorithm; if not, the answer does not either.
    """

    username: str
    realm: str
    nonce: str
    uri: str
    algorithm: str = "MD5"
    qop: str = "auth"
    cnonce: str = ""
    count: int = 1
    opaque: str | None = None
    named: bool = True

    def proof(self, password: str, method: str, body: bytes = b"") -> str:
        """The ``response`` parameter (RFC 7616, 3.4.1)."""
        secret = self._hash(f"{self.username}:{self.realm}:{password}")
        if self.algorithm.endswith("-sess"):
            secret = self._hash(f"{secret}:{self.nonce}:{self.cnonce}")
        what = f"{method}:{self.uri}"
        if self.qop == "auth-int":
            what += f":{self._hash(body)}"
        fresh = f"{self.nonce}:{self.count:08x}:{self.cnonce}:{self.qop}"
        return self._hash(f"{secret}:{fresh if self.qop else self.nonce}:{self._hash(what)}")

    def header(self, password: str, method: str, body: bytes = b"") -> str:
        """The value of ``Authorization``."""
        values = {
            "username": self.username,
            "realm": self.realm,
            "nonce": self.nonce,
            "uri": self.uri,
            "response": self.proof(password, method, body),
            "algorithm": self.algorithm if self.named else None,
            "cnonce": self.cnonce if self.qop or self.algorithm.endswith("-sess") else None,
            "qop": self.qop or None,
            "nc": f"{self.count:08x}" if self.qop else None,
            "opaque": self.opaque,
        }
        return "Digest " + ", ".join(
            f'{name}="{value}"' if name in _QUOTED else f"{name}={value}"
            for name, value in values.items()
            if value is not None
        )

    def _hash(self, data: str | bytes) -> str:
        data = _encoded(data) if isinstance(data, str) else data
        if self.algorithm.startswith("SHA-256"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.md5(data, usedforsecurity=False).hexdigest()


class DigestClient:
    """Answers the challenges of one account's servers, and counts how often each nonce was used.

    Args:
        user: the name that the password belongs to.
        password: the password.
        make_cnonce: gives a text that nobody can guess.
    """

    def __init__(
        self,
        user: str,
        password: str,
        make_cnonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._user = user
        self._password = password
        self._make_cnonce = make_cnonce
        self._last: tuple[str, Credentials] | None = None

    def answer(self, response: Response, request: Request) -> tuple[str, str] | None:
        """Credentials for a refused request's repetition.

        Of several challenges the one with the strongest algorithm is answered (RFC 8760, 2.4).
        How often to try is the caller's to bound: a server may call each nonce stale.

        Args:
            response: a 401 or 407.
            request: what it answers.

        Returns:
            Name and value of the header, or None: there is no challenge that can be answered, or
            the password is wrong, as the server refused credentials made for its own last nonce.
        """
        names = _HEADERS.get(response.status)
        if names is None:
            return None
        challenges = [
            challenge
            for name, value in response.headers
            if name.lower() == names[0].lower()
            for challenge in [_read_challenge(value)]
            if challenge is not None
        ]
        if not challenges:
            return None
        best, is_stale = min(challenges, key=lambda one: ALGORITHMS.index(one[0].algorithm))
        if not is_stale and self._is_refused(request, names[1]):
            return None
        self._last = names[1], replace(best, count=0)
        return self.reuse(request.method, request.uri, request.body)

    def reuse(self, method: str, uri: str, body: bytes = b"") -> tuple[str, str] | None:
        """Credentials for a further request, with the nonce of the last challenge.

        Returns:
            Name and value of the header; None before the first challenge.
        """
        if self._last is None:
            return None
        name, last = self._last
        now = replace(
            last,
            username=self._user,
            uri=uri,
            count=last.count + 1,
            cnonce=self._make_cnonce(),
        )
        self._last = name, now
        return name, now.header(self._password, method, body)

    def _is_refused(self, request: Request, header: str) -> bool:
        """Whether a request had credentials made for a nonce that was just got."""
        if self._last is None or self._last[1].count > 1:
            return False
        mine = f'nonce="{self._last[1].nonce}"'
        return any(
            name.lower() == header.lower() and mine in value for name, value in request.headers
        )


def _read_challenge(value: str) -> tuple[Credentials, bool] | None:
    """What a challenge asks for, and whether only the nonce was too old; None if we cannot."""
    try:
        scheme, given = parse_auth(value)
    except SipParseError:
        return None  # another one may be readable; with none there is no answer
    algorithm = next(
        (known for known in ALGORITHMS if known.lower() == given.get("algorithm", "MD5").lower()),
        None,
    )
    if scheme != "digest" or algorithm is None or "nonce" not in given:
        return None
    offered = [qop.strip().lower() for qop in given.get("qop", "").split(",")]
    qop = next((qop for qop in ("auth", "auth-int", "") if qop in offered), None)
    if qop is None:
        return None
    credentials = Credentials(
        username="",
        realm=given.get("realm", ""),
        nonce=given["nonce"],
        uri="",
        algorithm=algorithm,
        qop=qop,
        opaque=given.get("opaque"),
        named="algorithm" in given,
    )
    return credentials, given.get("stale", "").lower() == "true"


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
        signature = hmac.new(self._secret, _encoded(f"{text} {address}"), hashlib.sha256)
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


def for_target(value: str, uri: str, password: str, method: str, body: bytes = b"") -> str | None:
    """Credentials that were made for another target, made again for this one.

    Args:
        value: of ``Authorization`` or ``Proxy-Authorization``.
        uri: the request's target as the server sees it.
        password: of the user that ``value`` names.
        method: the request's.
        body: the request's, as the server sees it.

    Returns:
        The value to send; None where ``value`` is none that we could have made.
    """
    try:
        scheme, given = parse_auth(value)
    except SipParseError:
        return None
    algorithm, count = given.get("algorithm", "MD5").upper(), given.get("nc", "1")
    if scheme != "digest" or not {"username", "realm", "nonce"} <= given.keys():
        return None
    if algorithm not in ALGORITHMS or not re.fullmatch("[0-9A-Fa-f]{1,8}", count):
        return None
    credentials = Credentials(
        given["username"],
        given["realm"],
        given["nonce"],
        uri,
        algorithm,
        given.get("qop", ""),
        given.get("cnonce", ""),
        int(count, 16),
        given.get("opaque"),
        "algorithm" in given,
    )
    return credentials.header(password, method, body)


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
    return hmac.compare_digest(_encoded(one), _encoded(other))


def _encoded(text: str) -> bytes:
    """The bytes that ``parse_message`` read a text from, UTF-8 or not."""
    return text.encode("utf-8", "surrogateescape")


def _is_target(uri: str, target: str) -> bool:
    """Whether credentials are for whom a request is for.

    Hosts differ where a proxy is in between, and some phones leave the user part away.
    """
    return _user(uri) in ("", _user(target))


def _user(uri: str) -> str:
    return uri.partition(":")[2].rpartition("@")[0]
