"""The client's side of digest: it answers challenges with a password that it knows."""

import secrets
from collections.abc import Callable
from dataclasses import replace

from talkpath.agent.sip.digest import ALGORITHMS, Credentials, parse_auth
from talkpath.agent.sip.message import Request, Response, SipParseError

__all__ = ["DigestClient"]

_HEADERS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}


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
