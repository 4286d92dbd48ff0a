"""Who may bring a call: Twilio's signature, a shared token, and tickets that are good once.

A carrier first asks over HTTP what to do with a call, and shows then who it is. The document that
it gets names a WebSocket with a ticket in its path: whoever comes with it is let in, once and
soon. So no lasting secret stands in a URL that others log.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Facts", "Tickets", "shows_token", "twilio_signed"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a carrier said over HTTP about the call that it is going to bring.

    Attributes:
        carrier: who said it.
        call_id: the carrier's name for the call, or empty.
        from_number: who calls, or empty.
        to_number: who was called, or empty.
        parameters: what stands in the URL besides.
    """

    carrier: str
    call_id: str
    from_number: str
    to_number: str
    parameters: Mapping[str, str]


class Tickets:
    """Tickets for calls that were announced.

    Args:
        clock: the time in seconds.
        most: how many are remembered; the oldest goes for one more.
        life_s: seconds until a ticket is worth nothing; carriers connect within a few.
    """

    def __init__(
        self, clock: Callable[[], float], *, most: int = 1024, life_s: float = 60.0
    ) -> None:
        self._clock = clock
        self._most = most
        self._life_s = life_s
        self._issued: dict[str, tuple[float, Facts]] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._issued)

    def issue(self, facts: Facts) -> str:
        """Make a ticket: 43 characters that nobody guesses and every URL takes."""
        oldest = self._clock() - self._life_s
        for ticket, (at, _) in list(self._issued.items()):
            if at >= oldest and len(self._issued) < self._most:
                break
            del self._issued[ticket]
        ticket = secrets.token_urlsafe(32)
        self._issued[ticket] = (self._clock(), facts)
        return ticket

    def redeem(self, carrier: str, ticket: str) -> Facts | None:
        """Take a ticket back; None for one that is unknown, used, too old or another's."""
        issued = self._issued.get(ticket)
        if issued is None or issued[1].carrier != carrier:
            return None
        at, facts = self._issued.pop(ticket)
        return facts if self._clock() - at <= self._life_s else None


def shows_token(token: str, headers: Mapping[str, str], query: str) -> bool:
    """Whether a request carries the shared token.

    It may stand in ``Authorization`` (as a bearer, or as the password of Basic), in
    ``X-API-KEY``, or in the query as ``token``.

    Args:
        token: the secret; with an empty one nobody is let in.
        headers: of the request, with names in lower case.
        query: the URL's query as it came.
    """
    shown = [headers.get("x-api-key", "")]
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        shown.append(value.strip())
    elif kind.lower() == "basic":
        shown.append(_password(value))
    shown += [value for name, value in parse_qsl(query) if name == "token"]
    return bool(token) and any(_same(token, value) for value in shown)


def twilio_signed(
    auth_token: str, signature: str, urls: Iterable[str], form: Iterable[tuple[str, str]] = ()
) -> bool:
    """Whether Twilio signed a request (Twilio, Security: validating signatures).

    The signature is HMAC-SHA1 over the URL and the names and values of the form, sorted.

    Args:
        auth_token: the account's secret; with an empty one nothing is signed.
        signature: ``X-Twilio-Signature``.
        urls: what the URL may have been as Twilio wrote it; each is tried with and without the
            port, which Twilio leaves out at times.
        form: the body's fields; none for GET and for a WebSocket.
    """
    if not (auth_token and signature):
        return False
    fields = "".join(name + value for name, value in sorted(set(form)))
    tried = (variant for url in urls for variant in _with_and_without_port(url))
    return any(_same(signature, _sign(auth_token, variant + fields)) for variant in tried)


def _sign(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), _bytes(text), hashlib.sha1)).decode()


def _with_and_without_port(url: str) -> tuple[str, ...]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whoever wrote this is not Twilio
        return (url,)
    host = parts.netloc.rpartition(":")[0] if port else parts.netloc
    port = port or (443 if parts.scheme in ("https", "wss") else 80)
    return (
        url,
        parts._replace(netloc=host).geturl(),
        parts._replace(netloc=f"{host}:{port}").geturl(),
    )


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:  # both of base64's and of UTF-8's
        return ""


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    """What a stranger wrote may hold any character, halves of pairs too."""
    return text.encode("utf-8", "surrogatepass")
