"""A client of speech-to-text servers that survives a server's death."""

from talkpath.agent.client.client import (
    ClientConfig,
    ClientEvent,
    Connected,
    Disconnected,
    TranscriptionClient,
)
from talkpath.agent.client.probing import probe
from talkpath.agent.client.stream import Quiet

__all__ = [
    "ClientConfig",
    "ClientEvent",
    "Connected",
    "Disconnected",
    "Quiet",
    "TranscriptionClient",
    "probe",
]
