"""Where a session description (SDP, RFC 8866) sends audio, and how to send it elsewhere.

Only the addresses are read and changed; what is offered stays as it is.
"""

import itertools
import re

__all__ = [
    "advertise",
    "apart",
    "audio_endpoint",
    "is_description",
    "redirect_audio",
    "without_keys",
]

_HELD = ("0.0.0.0", "::")
"""Connection addresses that say to hold the call (RFC 3264, 8.4): nobody to send to."""

_CONNECTION = re.compile(rb"(?m)^(c=)IN IP[46] (\S+)")
_CONTROL = re.compile(rb"(?m)^(a=rtcp:\d+)(?: IN IP[46] \S+)?")
_ORIGIN = re.compile(rb"(?m)^(o=\S+ \d+ \d+ )IN IP[46] \S+")
_MEDIA = re.compile(rb"(?m)^m=")
_LINE = re.compile(rb"(?m)^c=[^\r\n]*(?:\r?\n|$)")
_SECTION = re.compile(rb"(?ms)^m=.*?(?=^m=|\Z)")
_AUDIO = re.compile(rb"^m=audio (\d{1,5})")


def is_description(content_type: str | None) -> bool:
    """Whether a body of this type is a session description."""
    return (content_type or "").split(";")[0].strip().lower() == "application/sdp"


def audio_endpoint(body: bytes) -> tuple[str, int] | None:
    """Where a description wants its first audio sent.

    Returns:
        Host and port; None where there is no audio, or none is wanted: held, or refused.
    """
    for session, section in _sections(body):
        match = _AUDIO.match(section)
        if match is None:
            continue
        found = _CONNECTION.search(section) or _CONNECTION.search(session)
        host = found.group(2).decode("ascii", "replace") if found else ""
        port = int(match.group(1))
        return (host, port) if host and host not in _HELD and 0 < port < 65536 else None
    return None


def advertise(body: bytes, host: str) -> bytes:
    """Put an address into a description, wherever it says where media shall go."""
    where = _where(host)

    def connection(match: re.Match[bytes]) -> bytes:
        held = match.group(2).decode("ascii", "replace") in _HELD
        return match.group(0) if held else match.group(1) + where

    body = _CONNECTION.sub(connection, body)
    body = _CONTROL.sub(rb"\1", body)
    return _ORIGIN.sub(lambda match: match.group(1) + where, body)


def redirect_audio(body: bytes, host: str, port: int) -> bytes:
    """Let the first audio of a description go to an address and a port, its RTCP to the next port.

    A description without audio, or whose audio is held or refused, only gets the address.
    """
    body = advertise(body, host)
    if audio_endpoint(body) is None:
        return body
    parts = _MEDIA.split(body)
    for i, part in enumerate(parts[1:], 1):
        if part.startswith(b"audio "):
            part = re.sub(rb"^audio \d{1,5}", b"audio %d" % port, part)
            parts[i] = re.sub(rb"(?m)^a=rtcp:\d+", b"a=rtcp:%d" % (port + 1), part)
            break
    return b"m=".join(parts)


def apart(body: bytes, host: str) -> bytes:
    """Give a description's whole session an address of its own, and each medium that it had.

    Nothing changes in where media go, since what a medium says counts (RFC 8866, 5.7). baresip
    chooses by the first address in a description from where it sends; media it sends from any.

    Args:
        body: the description.
        host: the session's new address.
    """
    first = _MEDIA.search(body)
    if first is None:
        return body
    session, media = body[: first.start()], body[first.start() :]
    found = _LINE.search(session)
    parts = _SECTION.findall(media)
    if found is None:
        if not all(map(_LINE.search, parts)):
            return body  # no address at all: that it is wrong shall be seen
        own = b"c=" + _where(host) + b"\r\n"
        start = re.search(rb"(?m)^[bt]=", session)
        place = start.start() if start else len(session)
        return session[:place] + own + session[place:] + media
    line = found.group(0).rstrip(b"\r\n") + b"\r\n"
    session = session.replace(found.group(0), b"c=" + _where(host) + b"\r\n", 1)
    return session + b"".join(part if _LINE.search(part) else _with(part, line) for part in parts)


def _with(section: bytes, line: bytes) -> bytes:
    """A medium's section with a connection line, which stands behind its title, if any."""
    head = re.match(rb"m=[^\n]*\n(?:i=[^\n]*\n)?", section)
    if head is None:  # the section ends within its first line
        return section + b"\r\n" + line
    return head.group(0) + line + section[head.end() :]


def without_keys(body: bytes) -> bytes:
    """Take out the keys of an answer to an offer that had none (RFC 4568, 5.1.2).

    baresip puts them in where it would have liked to encrypt, and some peers then give up.
    """
    return re.sub(rb"(?m)^a=crypto:[^\r\n]*\r?\n", b"", body)


def _sections(body: bytes) -> list[tuple[bytes, bytes]]:
    """The media sections, each with what is said for the whole session."""
    starts = [match.start() for match in _MEDIA.finditer(body)] + [len(body)]
    session = body[: starts[0]]
    return [(session, body[a:b]) for a, b in itertools.pairwise(starts)]


def _where(host: str) -> bytes:
    return (b"IN IP6 " if ":" in host else b"IN IP4 ") + host.encode("ascii")
