"""Settings of each part: frozen values, checked when they are made.

How they come in from file, environment and flags is in ``talkpath.agent.config``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from talkpath.agent.errors import ConfigError
from talkpath.agent.server_url import Server, check_key

__all__ = [
    "NOISE_FILTERS",
    "ReplyConfig",
    "ServeConfig",
    "ServerConfig",
    "SpeechConfig",
    "TurnConfig",
    "VoiceConfig",
    "WhisperConfig",
]


_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""``package.module:ClassName``."""
_PIPER_VOICE = "piper-en-us-joe"
_REPLY_MODEL = "smollm2-135m"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperConfig:
    """Speech to text.

    Attributes:
        model: name in the model store, or the path of a CTranslate2 model folder.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        compute_type: CTranslate2's type of weights; ``auto`` is int8 on a CPU, float16 on CUDA.
        language: a Whisper language code, or ``auto`` to detect it.
        language_mode: where it is detected, ``utterance`` does so anew in each, and ``stream``
            once, from the first second of speech; that one is kept.
        languages: where it is detected, only these codes count; empty means all.
        task: ``transcribe``, or ``translate`` into English (not with English-only models).
        prompt: text that the model takes for what was said before: names, spelling, style.
        hotwords: words to expect.
        beam_size: hypotheses kept while decoding finals, 1 to 10; 1 is greedy.
        workers: decoding threads; 0 means one a core on a CPU and two on CUDA.
        partial_interval_s: seconds of speech between partials.
        max_streams: streams admitted at once; one more is refused with ``EngineOverloaded``.
        servers: WebSockets of ``talkpath serve`` where bots' speech becomes text, in the order in
            which they are tried; empty runs the model in this process.
        api_key: the key for them.
    """

    model: str = "base"
    device: str = "auto"
    compute_type: str = "auto"
    language: str = "auto"
    language_mode: str = "utterance"
    languages: tuple[str, ...] = ()
    task: str = "transcribe"
    prompt: str = ""
    hotwords: str = ""
    beam_size: int = 1
    workers: int = 0
    partial_interval_s: float = 0.5
    max_streams: int = 256
    servers: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _require(
            self.device in ("auto", "cpu", "cuda"),
            f"whisper.device is {self.device!r}; it must be auto, cpu or cuda",
        )
        _require(
            self.language_mode in ("utterance", "stream"),
            f"whisper.language_mode is {self.language_mode!r}; it must be utterance or stream",
        )
        _require(
            self.task in ("transcribe", "translate"),
            f"whisper.task is {self.task!r}; it must be transcribe or translate",
        )
        _require(1 <= self.beam_size <= 10, "whisper.beam_size must lie between 1 and 10")
        _require(self.workers >= 0, "whisper.workers must be 0 or more")
        _require(
            0.1 <= self.partial_interval_s <= 30,
            "whisper.partial_interval_s must lie between 0.1 and 30 seconds",
        )
        _require(self.max_streams >= 1, "whisper.max_streams must be 1 or more")
        try:
            for url in self.servers:
                Server.at(url)
        except ConfigError as error:
            raise ConfigError(f"whisper.servers: {error}") from None
        try:
            check_key(self.api_key)
        except ConfigError as error:
            raise ConfigError(f"whisper.api_key: {error}") from None


NOISE_FILTERS = ("none", "rnnoise")
"""What ``speech.noise_filter`` may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfig:
    """Voice activity.

    Attributes:
        threshold: Silero probability from which a window of 32 ms counts as speech.
        start_s: seconds of speech before speech counts as started.
        barge_in_threshold: sum of the probabilities of two windows from which a bot that speaks
            is told of a first sign of speech; see ``talkpath.agent.speech.onset``.
        early_pause_s: seconds of silence before the speculative final is asked for. One window
            is enough: over the reference clips 19 of 66 speculations were in vain, against 15
            of 62 after two windows, and the 95th percentile of the time to the final fell from
            0.39 to 0.34 s (two cores, ``base`` int8); wrong words 15 and 13 of 414.
        stop_s: seconds of silence before speech counts as stopped.
        background_db: speech that is so much quieter than the caller's own does not count, once
            theirs is known (see ``talkpath.agent.speech.level``); 0 lets all speech count, for
            instance that of several people at one microphone.
        noise_filter: ``rnnoise`` (the ``noise`` extra) takes noise off what is searched for
            speech, ``none`` does not. What becomes text stays as it is: see
            ``talkpath.agent.speech.noise``.
        mute_while_speaking: whether the caller is muted while the bot speaks, for speakerphones
            without echo cancellation. There is no barge-in then.
    """

    threshold: float = 0.5
    start_s: float = 0.2
    barge_in_threshold: float = 0.8
    early_pause_s: float = 0.032
    stop_s: float = 0.2
    background_db: float = 15.0
    noise_filter: str = "none"
    mute_while_speaking: bool = False

    def __post_init__(self) -> None:
        _require(0 < self.threshold < 1, "speech.threshold must lie between 0 and 1")
        _require(0 <= self.start_s <= 2, "speech.start_s must lie between 0 and 2 seconds")
        _require(
            0.3 <= self.barge_in_threshold <= 2,
            "speech.barge_in_threshold must lie between 0.3 and 2",
        )
        _require(
            0.032 <= self.early_pause_s <= self.stop_s <= 10,
            "speech.early_pause_s must be at least 0.032 and speech.stop_s at least that",
        )
        _require(
            self.background_db == 0 or 3 <= self.background_db <= 60,
            "speech.background_db must be 0 or lie between 3 and 60 dB",
        )
        _require(
            self.noise_filter in NOISE_FILTERS,
            f"speech.noise_filter is {self.noise_filter!r}; it must be none or rnnoise",
        )


_PROFILES = ("auto", "snappy", "balanced", "patient")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnConfig:
    """When it is the bot's turn, and when it gives way. See ``talkpath.agent.turns``.

    Attributes:
        profile: ``snappy``, ``balanced`` or ``patient``, or ``auto`` for the bot's own; the values
            below that are None are the profile's.
        threshold: completeness, 0 to 1, from which a turn is over at the stop of speech.
        wait_s: seconds of silence after which a turn is over however unfinished it sounds.
        eager: whether the reply is begun on the speculative final and thrown away if speech
            resumes.
        min_words: words of a caller that stop a bot that is speaking.
        grace_s: seconds of speech for which the bot speaks on before it falls silent to listen.
    """

    profile: str = "auto"
    threshold: float | None = None
    wait_s: float | None = None
    eager: bool | None = None
    min_words: int | None = None
    grace_s: float | None = None

    def __post_init__(self) -> None:
        _require(
            self.profile in _PROFILES,
            f"turn.profile is {self.profile!r}; it must be auto, snappy, balanced or patient",
        )
        _require(
            self.threshold is None or 0 < self.threshold < 1,
            "turn.threshold must lie between 0 and 1",
        )
        _require(
            self.wait_s is None or 0.2 <= self.wait_s <= 30,
            "turn.wait_s must lie between 0.2 and 30 seconds",
        )
        _require(self.min_words is None or self.min_words >= 1, "turn.min_words must be 1 or more")
        _require(
            self.grace_s is None or 0 <= self.grace_s <= 5,
            "turn.grace_s must lie between 0 and 5 seconds",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyConfig:
    """The language model that answers, and what the caller hears when it does not.

    Attributes:
        url: base URL of an OpenAI-compatible server (``OPENAI_BASE_URL`` counts too);
            None runs ``model`` from the model store in this process.
        api_key: key for that server (``OPENAI_API_KEY`` counts for the server at
            ``OPENAI_BASE_URL`` and for OpenAI's own).
        model: model name, at that server or in the model store; None means the only one that the
            server has, or SmolLM2 135M of the model store.
        fallback_url: base URL of a server that is asked when the first one fails; None takes
            ``fallback_model``, if that is given, from the model store.
        fallback_api_key: key for the server at ``fallback_url``.
        fallback_model: model name there; None means ``model`` where that is a server's, too, or
            the only one there. Without either there is no fallback: a small local model that
            speaks for a large one unasked may promise things.
        max_tokens: longest reply in tokens.
        prompt: the system message.
        first_word_s: seconds for which the caller waits for a reply's first word at most, with
            all that is tried meanwhile, before the apology. A fallback has the second half.
        silence_s: seconds for which a reply that was begun may pause.
        filler_s: seconds without a word after which the filler is said; 0 says none. It is off
            by default: a filler that a reply follows at once holds the reply up.
        filler_after_s: seconds after which the filler is said while a tool runs; 0 says none.
        filler: what is said meanwhile.
        tool_s: seconds that a tool may take; then it is cancelled, and the model told.
        apology: what is said when no reply comes.
        cut_apology: what is said when a reply breaks off.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    fallback_url: str | None = None
    fallback_api_key: str | None = field(default=None, repr=False)
    fallback_model: str | None = None
    max_tokens: int = 120
    prompt: str = (
        "You are a friendly voice assistant. Your words are spoken aloud: answer in one or two "
        "short sentences of plain English, without lists, symbols or emoji."
    )
    first_word_s: float = 5.0
    silence_s: float = 4.0
    filler_s: float = 0.0
    filler_after_s: float = 1.0
    filler: str = "One moment, please."
    tool_s: float = 10.0
    apology: str = "Sorry, I cannot think of an answer right now. Please try again."
    cut_apology: str = "Sorry, I lost my thread. Could you say that again?"

    @property
    def local_model(self) -> str | None:
        """The model of the store that runs in this process, or None."""
        if self.url is None:
            return self.model or _REPLY_MODEL
        return self.fallback_model if self.fallback_url is None else None

    @property
    def calls_functions(self) -> bool:
        """Whether the first model may be one that calls functions: SmolLM2 135M is none."""
        return self.url is not None or self.local_model != _REPLY_MODEL

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "reply.max_tokens must be 1 or more")
        for name in ("url", "fallback_url"):
            url = getattr(self, name)
            _require(
                url is None or url.startswith(("http://", "https://")),
                f"reply.{name} is {url!r}; it must begin with http:// or https://",
            )
        _require(
            self.fallback_url is not None or self.fallback_api_key is None,
            "reply.fallback_api_key is of no use without fallback_url",
        )
        _require(
            self.url is not None
            or self.fallback_url is not None
            or self.fallback_model in (None, self.local_model),
            "reply.fallback_model needs reply.url: two models in this process only share its cores",
        )
        for name in ("first_word_s", "silence_s", "tool_s"):
            _require(
                0.1 <= getattr(self, name) <= 600,
                f"reply.{name} must lie between 0.1 and 600 seconds",
            )
        for name in ("filler_s", "filler_after_s"):
            _require(
                0 <= getattr(self, name) <= 60, f"reply.{name} must lie between 0 and 60 seconds"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceConfig:
    """The voice that speaks.

    Attributes:
        service: ``piper`` speaks in this process, ``openai`` at any server that has OpenAI's
            ``/v1/audio/speech``; ``package.module:ClassName`` is any other TTS service of
            Pipecat's or one's own.
        model: for ``piper`` a voice in the model store, or the path of an ``.onnx`` file; for
            others their name of the model. None is the service's default.
        voice: the speaker's name at other services than ``piper``; None is their default.
        url: base URL of the server for ``openai``; None is OpenAI's own.
        api_key: key for other services than ``piper`` (``OPENAI_API_KEY`` counts for ``openai``
            without a url).
        options: further arguments and settings of the service, by name.
        fallback_model: a Piper voice that speaks when the service ``openai`` fails; None is none.
    """

    service: str = "piper"
    model: str | None = None
    voice: str | None = None
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)
    fallback_model: str | None = None

    def __post_init__(self) -> None:
        _require(
            self.service in ("piper", "openai") or _CLASS.fullmatch(self.service) is not None,
            f"voice.service is {self.service!r}; it must be piper, openai or "
            "package.module:ClassName",
        )
        _require(
            self.url is None or self.url.startswith(("http://", "https://", "ws://", "wss://")),
            f"voice.url is {self.url!r}; it must begin with http:// or https://",
        )
        _require(
            self.fallback_model is None or self.service == "openai",
            "voice.fallback_model is for voice.service openai alone",
        )

    @property
    def piper_model(self) -> str | None:
        """The Piper voice that speaks, or stands in; None where neither is so."""
        return (self.model or _PIPER_VOICE) if self.service == "piper" else self.fallback_model


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where callers come in.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose.
        transport: ``webrtc``, ``websocket``, ``sip`` or ``audiosocket``.
        ice_servers: STUN and TURN URLs, given to the page and used by the server.
        max_sessions: sessions at once; one more is refused with status 503.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    transport: str = "webrtc"
    ice_servers: tuple[str, ...] = ()
    max_sessions: int = 32

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, "server.port must lie between 0 and 65535")
        _require(
            self.transport in ("webrtc", "websocket", "sip", "audiosocket"),
            f"server.transport is {self.transport!r}; it must be webrtc, websocket, sip or "
            "audiosocket",
        )
        _require(self.max_sessions >= 1, "server.max_sessions must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """The speech-to-text server (``talkpath serve``). Its streams are ``whisper.max_streams``.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose.
        api_keys: keys that let a client in; with none, here and in the file, anybody may come in,
            and the server listens on a loopback address only.
        api_keys_file: file of more keys, one a line, or empty.
        insecure_no_auth: whether a server without keys may listen on other addresses.
        allow_origins: pages of these origins may call, besides the server's own and those on
            the same machine; ``*`` means all.
        tls_cert: file of the certificate chain in PEM; empty serves without TLS.
        tls_key: file of its private key in PEM; empty where the certificate's has it.
        max_streams_per_key: streams that one key may have at once; 0 means as many as there are.
        max_uploads: recordings worked on at once; one more is refused with status 503.
        max_uploads_per_key: those of one key; one more is refused with status 429. 0 means as many
            as there are.
        message_bytes: longest message of a WebSocket; a longer one closes it with 1009.
        upload_bytes: longest recording; a longer one is refused with status 413.
        recording_s: seconds of sound of the longest recording: silence takes next to no bytes.
        idle_s: seconds without a message after which a WebSocket is closed.
        stalled_s: seconds in which a client takes nothing of what is sent, after which its
            WebSocket is closed.
        ahead_s: seconds of audio that a client may be ahead of real time; beyond them it is read
            at the speed of speech.
        drain_s: seconds that streams have to end by themselves once the server is to stop.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    api_keys_file: str = ""
    insecure_no_auth: bool = False
    allow_origins: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    max_streams_per_key: int = 0
    max_uploads: int = 8
    max_uploads_per_key: int = 0
    message_bytes: int = 16 * 2**20
    upload_bytes: int = 2**30
    recording_s: float = 86_400.0
    idle_s: float = 300.0
    stalled_s: float = 20.0
    ahead_s: float = 60.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        _require(0 <= self.port <= 65535, "serve.port must lie between 0 and 65535")
        _require(all(self.api_keys), "serve.api_keys must not have an empty key")
        _require(
            bool(self.tls_cert) or not self.tls_key, "serve.tls_key is of no use without tls_cert"
        )
        _require(self.max_streams_per_key >= 0, "serve.max_streams_per_key must be 0 or more")
        _require(self.max_uploads >= 0, "serve.max_uploads must be 0 or more")
        _require(self.max_uploads_per_key >= 0, "serve.max_uploads_per_key must be 0 or more")
        _require(self.message_bytes >= 4096, "serve.message_bytes must be 4096 or more")
        _require(self.upload_bytes >= 4096, "serve.upload_bytes must be 4096 or more")
        _require(self.recording_s > 0, "serve.recording_s must be more than 0")
        _require(self.idle_s > 0, "serve.idle_s must be more than 0")
        _require(self.stalled_s > 0, "serve.stalled_s must be more than 0")
        _require(self.ahead_s >= 1, "serve.ahead_s must be 1 or more")
        _require(self.drain_s >= 0, "serve.drain_s must be 0 or more")
