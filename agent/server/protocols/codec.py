"""Codec: what a protocol's codec takes and gives. No socket, no engine, no clock.

A codec stands between one socket and one stream of the engine. The shell gives it every frame
that the client sends and everything that the stream hears, and carries out what it returns, in
order. So a protocol is a matter of text in and text out, and every one has the same shell.

All times are seconds of the stream's audio, from the first sample that came.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import Final, Partial, StreamFailure

__all__ = [
    "GOING_AWAY",
    "Audio",
    "Clear",
    "Close",
    "Codec",
    "Command",
    "Commit",
    "Configure",
    "Encoding",
    "Finish",
    "Send",
    "SessionSettings",
    "TurnDetection",
    "VoiceActivity",
]


GOING_AWAY = 1001
"""The usual close code (RFC 6455, section 7.4.1) when the server ends a connection."""


class Encoding(Enum):
    """How samples are sent: mono, in any number of bytes a frame."""

    PCM_S16LE = "pcm_s16le"
    MULAW = "pcm_mulaw"
    ALAW = "pcm_alaw"


class TurnDetection(Enum):
    """Who says where an utterance ends."""

    SILENCE = "silence"
    """A pause of ``VoiceActivity.min_silence_s``."""

    SEMANTIC = "semantic"
    """Smart Turn, when a pause follows what sounds complete; else the longest wait."""

    CLIENT = "client"
    """The client, with a ``Commit``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceActivity:
    """When speech counts as begun and ended.

    Attributes:
        threshold: probability from which a window counts as speech, 0 to 1.
        min_speech_s: seconds of speech before speech counts as begun.
        min_silence_s: seconds of silence before speech counts as ended.
        pad_s: seconds of audio before the beginning and after the end that belong to it.
        semantic_wait_s: with ``TurnDetection.SEMANTIC``, the longest wait after a pause in what
            does not sound complete.
        semantic_threshold: and how likely the speaker must be to have finished, 0 to 1.
    """

    threshold: float = 0.5
    min_speech_s: float = 0.2
    min_silence_s: float = 0.3
    pad_s: float = 0.0
    semantic_wait_s: float = 4.0
    semantic_threshold: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What a client asked for, in no protocol's words.

    Attributes:
        encoding: of the audio.
        sample_rate_hz: of the audio.
        decode: language, prompt, task and the rest.
        language_mode: where the language is detected, ``utterance`` or ``stream``.
        partials: whether partials are wanted.
        partial_interval_s: seconds of speech between them.
        longest_utterance_s: speech that lasts longer is cut into several finals.
        turns: who says where an utterance ends.
        activity: when speech counts as begun and ended.
        stream_id: the client's own name for the stream, printable and short, for the log; empty
            where it gave none.
    """

    encoding: Encoding = Encoding.PCM_S16LE
    sample_rate_hz: int = 16_000
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    language_mode: str = "utterance"
    partials: bool = False
    partial_interval_s: float = 0.5
    longest_utterance_s: float = 28.0
    turns: TurnDetection = TurnDetection.SILENCE
    activity: VoiceActivity = field(default_factory=VoiceActivity)
    stream_id: str = ""


@dataclass(frozen=True, slots=True)
class Configure:
    """Work with these settings from here on; audio comes after it only."""

    settings: SessionSettings


@dataclass(frozen=True, slots=True)
class Audio:
    """Take these bytes, in the encoding of the settings; a half sample waits for its other half."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """End the utterance here: what was sent since the last one is due as a final.

    Exactly one final that ends speech, or one failure that does, comes of it: of silence as well,
    without a word.
    """


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the audio of no utterance yet, and of the one under way.

    Nothing more comes of that one. Finals of utterances that have ended come nonetheless.
    """


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes: bring out all finals, then call ``Codec.finished``."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text frame."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket.

    Attributes:
        code: of RFC 6455.
        reason: at most 123 bytes.
    """

    code: int
    reason: str


Command = Configure | Audio | Commit | Clear | Finish | Send | Close
"""What the shell has to do."""


class Codec(Protocol):
    """One protocol on one socket. Every method gives what the shell has to do, in order.

    Nothing that a client sends raises: what is wrong with it is said to the client, in the
    protocol's own words.
    """

    def opened(self) -> list[Command]:
        """The socket is open."""
        ...

    def text(self, frame: str) -> list[Command]:
        """A text frame came."""
        ...

    def binary(self, frame: bytes) -> list[Command]:
        """A binary frame came."""
        ...

    def speech_started(self, at_s: float) -> list[Command]:
        """Speech began there."""
        ...

    def speech_stopped(self, at_s: float) -> list[Command]:
        """Speech ended there, before the silence by which it was noticed; its final follows."""
        ...

    def partial(self, partial: Partial, start_s: float) -> list[Command]:
        """An utterance that began there says so much by now.

        Utterances are numbered from 1 without a gap, except where the client cleared one. Their
        finals and failures come in this order, one of each.
        """
        ...

    def final(self, final: Final, start_s: float, latency_s: float) -> list[Command]:
        """An utterance that began there said so; the final took so long after its end."""
        ...

    def failed(self, failure: StreamFailure) -> list[Command]:
        """The final of an utterance could not be decoded."""
        ...

    def finished(self) -> list[Command]:
        """All that came before ``Finish`` is out."""
        ...

    def closing(self, reason: str, code: int = GOING_AWAY) -> list[Command]:
        """The server ends the connection, for a reason that the client should be told.

        Args:
            reason: one sentence.
            code: of the close frame, RFC 6455.
        """
        ...
