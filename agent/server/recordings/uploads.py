"""Uploads: forms with a recording in them (RFC 7578), taken in piece by piece.

The recording goes to a temporary file without a name, which the system itself removes when it
is closed or the process dies: nothing can be left behind. Python's rules say where it lies
(``TMPDIR``). All else in a form is small and bounded. A form is read by one thread at a time,
never by the event loop.

Whoever is refused may still be sending; the server reads that and drops it, so that the answer
is not lost in a reset connection.
"""

import asyncio
import errno
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path, PureWindowsPath
from typing import BinaryIO, TypeVar, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from talkpath.agent.server.problems import Problem

__all__ = ["Upload", "UploadLimits", "receive_upload"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LONGEST_NAME = 100
_NAMELESS = "the recording"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What a form may have.

    Attributes:
        file_bytes: longest recording.
        form_bytes: all the rest of the form, with its headers and boundaries.
        fields: how many fields.
        idle_s: longest wait for the next byte, in seconds.
        bytes_per_s: slowest pace at which the form may come once ``idle_s`` were waited in all.
            A telephone's narrowest codec, sent as it is spoken, has 600.
    """

    file_bytes: int
    form_bytes: int = 2**18
    fields: int = 64
    idle_s: float = 300.0
    bytes_per_s: float = 500.0


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A form that came in whole.

    Attributes:
        content: the recording, at its start; it is gone when the form is left.
        name: what the client calls it, without folders.
        fields: the other fields, in order.
    """

    content: BinaryIO
    name: str
    fields: tuple[tuple[str, str], ...]


@asynccontextmanager
async def receive_upload(
    headers: Mapping[str, str], body: AsyncIterator[bytes], limits: UploadLimits
) -> AsyncIterator[Upload]:
    """Take a form in; its recording exists until the block is left.

    Args:
        headers: of the request, by names in small letters.
        body: the request's body as it comes. What it raises comes out as it is.
        limits: what the form may have.

    Raises:
        Problem: no form, or a broken one (400, 415), one that is too large (413), no recording
            in it (400), a client that stalls (408), no room for it (507).
    """
    boundary = _boundary(headers.get("content-type", ""))
    _check_length(headers.get("content-length", ""), limits)
    content = await _in_thread(_temporary_file)
    try:
        form = _Form(boundary, content, limits)
        async with aclosing(_in_time(body, limits)) as coming:
            async for data in coming:
                await _in_thread(partial(form.feed, data))
        yield form.finish()
    finally:
        await _in_thread(content.close)


class _Form:
    """Reads a form as it comes, sans-IO but for the file that it writes to.

    Every method raises ``Problem``.
    """

    def __init__(self, boundary: bytes, content: FileIO, limits: UploadLimits) -> None:
        self._content = content
        self._limits = limits
        self._fields: list[tuple[str, str]] = []
        self._name: str | None = None  # of the recording, once it is there
        self._total = self._file_bytes = 0
        self._ended = False
        # Of the part that is being read.
        self._header = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field = ""
        self._data = bytearray()
        self._in_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._total += len(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _broken("the form in the request's body is broken") from error
        if self._total - self._file_bytes > self._limits.form_bytes:
            raise _too_large(f"the form has more than {self._limits.form_bytes:,} bytes of fields")

    def finish(self) -> Upload:
        """All bytes are there; give the form, if it is."""
        if not self._ended:
            raise _broken("the form in the request's body ends in the middle")
        if self._name is None:
            raise Problem(
                "the form has no recording in its field file",
                status=400,
                code="missing_required_parameter",
                param="file",
            )
        self._content.seek(0)
        return Upload(cast(BinaryIO, self._content), self._name, tuple(self._fields))

    def _begin(self) -> None:
        self._headers = {}
        self._data.clear()
        self._in_file = False

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise _broken("a part of the form has no name")
        self._field = _decoded(options[b"name"])
        if self._field == "file":
            if self._name is not None:
                raise _broken("the form has more than one file", "file")
            self._in_file = True
            self._name = _plain_name(_decoded(options.get(b"filename", b"")))
        elif b"filename" in options:
            raise _broken("only the field file may hold a file", self._field)
        elif len(self._fields) == self._limits.fields:
            raise _broken(f"the form has more than {self._limits.fields} fields")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_file:
            self._data += data[start:end]
            return
        self._file_bytes += end - start
        if self._file_bytes > self._limits.file_bytes:
            raise _longer_than(self._limits.file_bytes)
        rest = memoryview(data)[start:end]
        try:
            while rest:
                rest = rest[self._content.write(rest) :]
        except OSError as error:
            raise _disk_problem(error) from error

    def _end_part(self) -> None:
        if not self._in_file:
            self._fields.append((self._field, _decoded(bytes(self._data), self._field)))

    def _end(self) -> None:
        self._ended = True


def _temporary_file() -> FileIO:
    try:
        # Without a buffer, closing a file on a full disk has nothing to fail at.
        return tempfile.TemporaryFile(buffering=0)
    except OSError as error:
        raise _disk_problem(error) from error


async def _in_time(body: AsyncIterator[bytes], limits: UploadLimits) -> AsyncGenerator[bytes, None]:
    """The body as it comes, unless it comes so slowly that it only keeps a place from others."""
    now = asyncio.get_running_loop().time
    patience_s = limits.idle_s  # for all that is still to come
    while True:
        began_s = now()
        try:
            async with asyncio.timeout(min(limits.idle_s, patience_s)):
                data = await anext(body, None)
        except TimeoutError:
            why = f"nothing came for {limits.idle_s:g} s in the middle of the request"
            if patience_s < limits.idle_s:
                why = f"the request comes at less than {limits.bytes_per_s:g} bytes a second"
            raise Problem(why, status=408, code="request_timeout") from None
        if data is None:
            return
        # Only the wait for the client counts, not the disk's.
        patience_s += len(data) / limits.bytes_per_s - (now() - began_s)
        if data:
            yield data


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Carry out in a thread, and stay until it is done: it must not meet a file that is closed."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise Problem(
            "send the recording as multipart/form-data, in the field file",
            status=415,
            code="unsupported_media_type",
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise _broken("the request's Content-Type has no boundary of 1 to 70 bytes")
    return boundary


def _check_length(length: str, limits: UploadLimits) -> None:
    """Refuse before the body comes what is too large in any case."""
    if length.isdecimal() and int(length) > limits.file_bytes + limits.form_bytes:
        raise _longer_than(limits.file_bytes)


def _decoded(data: bytes, field: str | None = None) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _broken("the form has text that is not UTF-8", field) from None


def _plain_name(name: str) -> str:
    """A client's file name for messages, without folders and control characters."""
    name = PureWindowsPath(Path(name).name).name
    name = "".join(letter for letter in name if letter.isprintable())[-_LONGEST_NAME:]
    return name if name.strip(".") else _NAMELESS


def _broken(why: str, param: str | None = None) -> Problem:
    return Problem(why, status=400, code="invalid_form", param=param)


def _too_large(why: str, param: str | None = None) -> Problem:
    return Problem(why, status=413, code="request_too_large", param=param)


def _longer_than(limit_bytes: int) -> Problem:
    return _too_large(f"the recording has more than {limit_bytes:,} bytes", "file")


def _disk_problem(error: OSError) -> Problem:
    if error.errno in _FULL:
        why = "this server's disk has no room for the recording"
        return Problem(why, status=507, code="insufficient_storage")
    why = f"this server cannot store the recording: {error.strerror or error}"
    return Problem(why, status=500, code="storage_failed")
