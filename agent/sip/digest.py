"""Digest: proof of a password without saying it (RFC 7616; for SIP: RFC 3261, 22, and RFC 8760).

What both sides have: ``digest_server`` challenges and checks, ``digest_client`` answers challenges.
"""

import hashlib
import re
from dataclasses import dataclass

from talkpath.agent.sip.message import SipParseError

__all__ = ["ALGORITHMS", "Credentials", "encoded", "for_target", "parse_auth"]

ALGORITHMS = ("SHA-256", "SHA-256-sess", "MD5", "MD5-sess")
"""What the client can, the strongest first; the server offers those without a session."""

_AUTH = re.compile(r"\s*([A-Za-z0-9-]+)\s+")
_PARAMETER = re.compile(
    r"[\s,]*([A-Za-z0-9._!%*+`'~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]+))\s*(?:,|$)"
)
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
        data = encoded(data) if isinstance(data, str) else data
        if self.algorithm.startswith("SHA-256"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.md5(data, usedforsecurity=False).hexdigest()


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


def encoded(text: str) -> bytes:
    """The bytes that ``parse_message`` read a text from, UTF-8 or not."""
    return text.encode("utf-8", "surrogateescape")
