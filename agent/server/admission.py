"""Admission: who may come in, and how many at once."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from talkpath.agent.errors import TalkpathError
from talkpath.agent.server.counted import counted

__all__ = ["Admission", "Client", "Denied", "client_of"]


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls.

    Attributes:
        name: of the key, for the log and the limits; empty where the server has no keys.
    """

    name: str = ""

    def __str__(self) -> str:
        """For the log."""
        return f"key {self.name!r}" if self.name else "no key"


def client_of(scope: Mapping[str, Any]) -> Client:
    """Who calls, as the guard before the endpoints found out and left in the ASGI scope."""
    client = scope.get("talkpath.client")
    return client if isinstance(client, Client) else Client()


class Denied(TalkpathError):
    """A request that is not carried out; the message says why, to the client.

    Attributes:
        status: of HTTP.
        close_code: of RFC 6455, where a WebSocket is closed for it.
    """

    def __init__(self, message: str, *, status: int, close_code: int) -> None:
        super().__init__(message)
        self.status = status
        self.close_code = close_code


_TRY_AGAIN_LATER = 1013  # of RFC 6455's registry


class Admission:
    """Places for streams and recordings; what finds none is denied at once, nothing waits.

    Args:
        streams: live streams at once.
        streams_per_key: those of one client; 0 means as many as there are.
        uploads: recordings at once.
        uploads_per_key: those of one client; 0 means as many as there are.
    """

    def __init__(
        self,
        *,
        streams: int,
        streams_per_key: int = 0,
        uploads: int = 8,
        uploads_per_key: int = 0,
    ) -> None:
        self._most_streams = streams
        self._most_streams_per_key = streams_per_key
        self._most_uploads = uploads
        self._most_uploads_per_key = uploads_per_key
        self._streams: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self._no_uploads = asyncio.Event()
        self._no_uploads.set()
        self._draining = False
        self._until_given_up: set[asyncio.Timeout] = set()

    @property
    def streams(self) -> int:
        """Live streams now."""
        return self._streams.total()

    @property
    def uploads(self) -> int:
        """Recordings being worked on now."""
        return self._uploads.total()

    @property
    def draining(self) -> bool:
        """Whether the server is to stop, and lets nobody in."""
        return self._draining

    def drain(self) -> None:
        """Let nobody in from now on."""
        self._draining = True

    @contextlib.contextmanager
    def stream(self, client: Client) -> Iterator[None]:
        """Hold a place for a live stream.

        Raises:
            Denied: there is none.
        """
        self._check_draining()
        if self.streams >= self._most_streams:
            raise _full(f"all {self._most_streams} streams of this server are in use")
        if 0 < self._most_streams_per_key <= self._streams[client.name]:
            why = f"all {self._most_streams_per_key} streams of this key are in use"
            raise _full(why, status=429)
        with _counted(self._streams, client.name):
            yield

    @contextlib.contextmanager
    def upload(self, client: Client) -> Iterator[None]:
        """Hold a place for a recording.

        Raises:
            Denied: there is none.
        """
        self._check_draining()
        if self.uploads >= self._most_uploads:
            raise _full(f"this server works on {counted(self._most_uploads, 'recording')} at once")
        if 0 < self._most_uploads_per_key <= self._uploads[client.name]:
            most = counted(self._most_uploads_per_key, "recording")
            why = f"this server works on {most} of a key at once"
            raise _full(why, status=429)
        self._no_uploads.clear()
        try:
            with _counted(self._uploads, client.name):
                yield
        finally:
            if not self.uploads:
                self._no_uploads.set()

    async def uploads_ended(self) -> None:
        """Wait until no recording is being worked on."""
        await self._no_uploads.wait()

    @contextlib.asynccontextmanager
    async def until_given_up(self) -> AsyncIterator[None]:
        """Carry the block out, unless the server gives it up before it is done.

        Raises:
            Denied: that happened; the block was cancelled.
        """
        limit = asyncio.timeout(None)
        self._until_given_up.add(limit)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise _stopping() from None
        finally:
            self._until_given_up.discard(limit)

    def give_up(self) -> None:
        """End every block of :meth:`until_given_up` now."""
        while self._until_given_up:
            self._until_given_up.pop().reschedule(0)  # long ago

    def _check_draining(self) -> None:
        if self._draining:
            raise _stopping()


@contextlib.contextmanager
def _counted(places: Counter[str], name: str) -> Iterator[None]:
    places[name] += 1
    try:
        yield
    finally:
        places[name] -= 1
        if not places[name]:
            del places[name]


def _stopping() -> Denied:
    return Denied("this server is about to stop", status=503, close_code=_TRY_AGAIN_LATER)


def _full(why: str, *, status: int = 503) -> Denied:
    return Denied(f"{why}; try later", status=status, close_code=_TRY_AGAIN_LATER)
