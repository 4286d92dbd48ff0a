"""Service: what all endpoints of the speech-to-text server share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from talkpath.agent.config import Config
from talkpath.agent.metrics import Registry
from talkpath.agent.server.admission import Admission
from talkpath.agent.speech import SileroVad
from talkpath.agent.whisper import WhisperEngine

if TYPE_CHECKING:
    from talkpath.agent.smart_turn import SmartTurn

__all__ = ["ServerMetrics", "Service"]


class ServerMetrics:
    """The server's counters and histograms.

    Attributes:
        registry: all of them, for ``render_prometheus``.
    """

    def __init__(self) -> None:
        self.registry = Registry()
        counter = self.registry.counter
        self.streams = counter("talkpath_server_streams_total", "Streams begun.", "protocol")
        self.denied = counter("talkpath_server_denied_total", "Callers turned away.", "why")
        self.closed = counter(
            "talkpath_server_closed_streams_total", "Streams that the server ended.", "why"
        )
        self.uploads = counter("talkpath_server_uploads_total", "Recordings begun.")
        self.held_back = counter(
            "talkpath_server_held_back_total", "Waits of clients ahead of real time."
        )
        self.final_s = self.registry.histogram(
            "talkpath_server_final_seconds", "Seconds from the end of speech to its final."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """What all endpoints share.

    Attributes:
        config: all settings.
        engine: decodes.
        vad: finds speech.
        smart_turn: makes a turn analyser for one stream.
        admission: places.
        metrics: what is counted.
        model: the name that clients are shown.
    """

    config: Config
    engine: WhisperEngine
    vad: SileroVad
    smart_turn: Callable[[], Awaitable["SmartTurn"]]
    admission: Admission
    metrics: ServerMetrics = field(default_factory=ServerMetrics)

    @property
    def model(self) -> str:
        """The name of the model that clients are shown."""
        return self.config.whisper.model
