"""ItemsCodec: what the dialects of the Realtime protocol have in common as codecs."""

from abc import ABC, abstractmethod

from talkpath.agent.server.protocols.codec import GOING_AWAY, Command
from talkpath.agent.server.protocols.realtime import Event, Items
from talkpath.agent.whisper.results import Final, Partial, StreamFailure

__all__ = ["ItemsCodec"]


class ItemsCodec(ABC):
    """A codec that tells of items. See ``Codec`` for the methods.

    Args:
        items: of the session.
    """

    def __init__(self, items: Items) -> None:
        self._items = items

    @abstractmethod
    def opened(self) -> list[Command]:
        """The socket is open."""

    @abstractmethod
    def _update(self, event: Event) -> list[Command]:
        """An event came that is not about the audio; may raise ``Refused``."""

    def text(self, frame: str) -> list[Command]:
        """A text frame came."""
        return self._items.text(frame, self._update)

    def binary(self, frame: bytes) -> list[Command]:
        """A binary frame came: the protocol has none."""
        return self._items.binary()

    def speech_started(self, at_s: float) -> list[Command]:
        """Speech began there."""
        return self._items.speech_started(at_s)

    def speech_stopped(self, at_s: float) -> list[Command]:
        """Speech ended there; its final follows."""
        return self._items.speech_stopped(at_s)

    def partial(self, partial: Partial, start_s: float) -> list[Command]:
        """An utterance says so much by now; where it began is not told."""
        return self._items.partial(partial)

    def final(self, final: Final, start_s: float, latency_s: float) -> list[Command]:
        """An utterance said so; where it began and how long it took is not told."""
        return self._items.final(final)

    def failed(self, failure: StreamFailure) -> list[Command]:
        """The final of an utterance could not be decoded."""
        return self._items.failed(failure)

    def finished(self) -> list[Command]:
        """All that came before ``Finish`` is out; the protocol has no word for it."""
        return []

    def closing(self, reason: str, code: int = GOING_AWAY) -> list[Command]:
        """The server ends the connection, for a reason that the client is told."""
        return self._items.closing(reason, code)
