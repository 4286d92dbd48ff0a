"""A client of speech-to-text servers that survives a server's death.

It speaks Baseten's protocol (``docs/protocols.md``) with ``talkpath serve``, and gives what a
stream of the engine in the same process would give::

    async with TranscriptionClient(["ws://gpu-1:8000", "ws://gpu-2:8000"], api_key=key) as client:
        client.feed(pcm)  # whenever there is some
        async for result in client.results():
            ...

The server finds the speech. A server that dies, stops, is full, is cut off or stops working
costs a delay and not a word: what was said since the last final goes to the next server of the
list, and utterances and times go on as if nothing had happened. What is kept for that is bounded
(``ClientConfig.keep_s``). Of audio that finds no server for longer, the oldest is dropped, and a
``StreamFailure`` says how much.

The network may be slower than the audio: up to the same bound it is caught up with later; beyond
it the connection counts as lost.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from talkpath.agent.audio import SAMPLE_RATE_HZ, Resampler, float_to_pcm16, pcm16_to_float
from talkpath.agent.client.servers import Servers
from talkpath.agent.client.socket import Lost, Refused, meaning_of, now_s, open_socket, send_audio
from talkpath.agent.client.stream import Heard, Quiet, RemoteStream
from talkpath.agent.client.wire import Garbled, RemoteError
from talkpath.agent.config import SpeechConfig
from talkpath.agent.errors import AudioError, ConfigError, ServersRefused, TalkpathError
from talkpath.agent.server_url import Server, check_key
from talkpath.agent.whisper.results import Final, Partial, StreamFailure, StreamResult

__all__ = [
    "ClientConfig",
    "ClientEvent",
    "Connected",
    "Disconnected",
    "Quiet",
    "TranscriptionClient",
]

_log = logging.getLogger(__name__)

_PROVEN_S = 10.0  # a server that took the stream for so long was of use
_END_SILENCE_S = 0.5  # more than a stop takes: the network hears speech for a moment longer
_RESULTS_AHEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What a client wants of its servers.

    Attributes:
        language: a Whisper code, or ``auto`` to detect it in each utterance.
        languages: where it is detected, only these codes count; empty means all.
        task: ``transcribe``, or ``translate`` into English.
        prompt: text that the model takes for what was said before: names, spelling, style.
        word_timestamps: whether finals carry the times and probabilities of their words.
        partials: whether partials are wanted.
        partial_interval_s: seconds of speech between partials, 0.1 to 30.
        speech: when speech has ended: its ``threshold`` and ``stop_s``; the rest is the server's.
        keep_s: seconds of audio that are kept for another server.
        stream_id: a name for the stream in the server's log: short and printable.
    """

    language: str = "auto"
    languages: tuple[str, ...] = ()
    task: str = "transcribe"
    prompt: str = ""
    word_timestamps: bool = False
    partials: bool = True
    partial_interval_s: float = 0.5
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    keep_s: float = 60.0
    stream_id: str = ""

    def __post_init__(self) -> None:
        if self.keep_s < 40:
            raise ConfigError("keep_s must be 40 or more: an utterance may be almost as long")

    def message(self) -> str:
        """The protocol's configuration."""
        return json.dumps(
            {
                "whisper_params": {
                    "prompt": self.prompt,
                    "audio_language": self.language,
                    "language_options": list(self.languages),
                    "output_language": "en" if self.task == "translate" else "auto",
                    "show_word_timestamps": self.word_timestamps,
                },
                "streaming_params": {
                    "encoding": "pcm_s16le",
                    "sample_rate": SAMPLE_RATE_HZ,
                    "enable_partial_transcripts": self.partials,
                    "partial_transcript_interval_s": self.partial_interval_s,
                },
                "streaming_vad_config": {
                    "threshold": self.speech.threshold,
                    "min_silence_duration_ms": round(self.speech.stop_s * 1000),
                },
                "include_timing_info": True,
                "stream_id": self.stream_id,
            }
        )


@dataclass(frozen=True, slots=True)
class Connected:
    """A server has taken the stream.

    Attributes:
        server: its host and port.
    """

    server: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """There is no server for the moment; the client looks for one.

    Attributes:
        server: host and port of the one that was lost, or could not be reached.
        why: what happened.
    """

    server: str
    why: str


ClientEvent = Connected | Disconnected | Quiet


class TranscriptionClient:
    """One speaker's stream at the servers of a list. Use it on one event loop.

    With ``on_result`` results go there as they come. Else they wait for ``results()``: a partial
    that finds eight waiting is dropped, for a newer one follows; finals are never dropped.

    Args:
        urls: WebSockets of the servers, in the order in which they are tried: the first one is
            the first that every client tries. A URL without a path means talkpath's own.
        config: what is wanted; the same for all servers.
        api_key: the same for all servers.
        sample_rate_hz: of the audio that will be fed; it is sent at 16 kHz.
        on_result: called on the event loop with each partial, final and failure.
        on_event: called with what happens to the connection, and at moments of quiet.
        tls: for ``wss``, where the system's certificates will not do.

    Raises:
        ConfigError: a URL is none, or a key that fits into no header.
        AudioError: a sample rate outside 4 to 384 kHz.
    """

    def __init__(
        self,
        urls: Sequence[str],
        config: ClientConfig | None = None,
        *,
        api_key: str | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        on_result: Callable[[StreamResult], None] | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._servers = Servers(urls)
        self._config = config or ClientConfig()
        self._accepted: ClientConfig | None = None
        check_key(api_key)
        self._api_key = api_key
        self._tls = tls
        self._resampler = Resampler(sample_rate_hz)
        self._stream = RemoteStream(self._config.keep_s)
        self._waiting: asyncio.Queue[StreamResult | None] = asyncio.Queue()
        self._on_result = on_result or self._wait
        self._on_event = on_event or (lambda event: None)
        self._news = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._refused: ServersRefused | None = None
        self._over = False
        self._dropping = False
        self._last_error = ""  # that the server told

    async def __aenter__(self) -> "TranscriptionClient":
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def fed_s(self) -> float:
        """Seconds of audio so far; the scale of all times."""
        return self._stream.fed_s

    def start(self) -> None:
        """Look for a server. Audio may be fed at once."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="speech-to-text client")

    def feed(self, pcm: bytes) -> None:
        """Take the next samples: 16-bit mono PCM at the client's rate. It never waits.

        After ``drain`` and ``aclose``, and once all servers have refused, it does nothing.

        Raises:
            AudioError: an odd number of bytes.
        """
        if len(pcm) % 2:
            raise AudioError(f"16-bit audio needs an even number of bytes; there are {len(pcm)}")
        if self._over:
            return
        if self._resampler.from_hz != SAMPLE_RATE_HZ:
            pcm = float_to_pcm16(self._resampler.process(pcm16_to_float(pcm)))
        self._stream.feed(pcm)
        self._warn_of_loss()
        if self._stream.worth_sending:
            self._news.set()

    def end_utterance(self) -> None:
        """End what is being said, because no more audio comes for now.

        The server hears silence that counts in no result's times.
        """
        self._stream.end_utterance(self._config.speech.stop_s + _END_SILENCE_S)
        self._news.set()

    def set_language(self, language: str) -> None:
        """Decode in this language, or detect it (``auto``), from the next utterance on.

        A server that does not know it is no reason to end: a ``StreamFailure`` says so, and the
        language stays.
        """
        if language == self._config.language:
            return
        self._config = replace(self._config, language=language, languages=())
        self._stream.reconfigure()
        self._news.set()

    async def results(self) -> AsyncIterator[StreamResult]:
        """Results as they come, until ``drain`` or ``aclose`` has ended the stream.

        Raises:
            ServersRefused: no server takes this client.
        """
        while (result := await self._waiting.get()) is not None:
            yield result
        self._raise_what_failed()

    async def drain(self) -> None:
        """Say that no more audio comes, and wait until all finals are out.

        It waits for a server as long as it takes: bound it.

        Raises:
            ServersRefused: no server takes this client.
        """
        self._over = True
        self._stream.end()
        self._news.set()
        if self._running is not None:
            await asyncio.wait([self._running])
        self._raise_what_failed()

    async def aclose(self) -> None:
        """End at once. What was not handed out is dropped."""
        self._over = True
        self._waiting.put_nowait(None)
        if self._running is None:
            return
        self._running.cancel()
        await asyncio.wait([self._running])
        if not self._running.cancelled():
            self._running.result()

    # -- one server after the other ----------------------------------------------------------

    async def _run(self) -> None:
        try:
            while not self._stream.finished:
                server = self._servers.current
                if server is None:
                    self._give_up()
                    break
                await asyncio.sleep(self._servers.wait_s())
                await self._try(server)
        except Exception:
            # Whoever only feeds it would never hear of a defect: it is raised at ``aclose`` first.
            _log.exception("a speech-to-text client failed")
            raise
        finally:
            self._over = True
            self._waiting.put_nowait(None)
            if self._stream.lost_s:
                _log.warning("%.1f s of audio were lost", self._stream.lost_s)

    async def _try(self, server: Server) -> None:
        """Work with a server as long as it goes well."""
        try:
            await self._converse(server)
        except Refused as refused:
            if self._accepted is None or self._accepted == self._config:
                _log.error("%s refuses: %s", server.name, refused)
                self._servers.refused(server, str(refused))
            else:  # it was good enough before
                self._config = self._accepted
                self._hand_out(self._failure(ConfigError(str(refused))))
        except Lost as lost:
            self._warn(server, "lost", str(lost))
            self._servers.lost()
            self._on_event(Disconnected(server.name, str(lost)))
        finally:
            self._stream.closed()

    def _warn(self, server: Server, kind: str, problem: str) -> None:
        """Say a problem once: a server that is away for a night is tried every few seconds."""
        level = logging.WARNING if self._servers.is_news(server, kind, problem) else logging.DEBUG
        _log.log(level, "speech-to-text at %s: %s", server.name, problem)

    def _raise_what_failed(self) -> None:
        if self._refused is not None:
            raise self._refused
        if self._running is not None and self._running.done() and not self._running.cancelled():
            self._running.result()

    def _give_up(self) -> None:
        self._refused = ServersRefused(
            f"no speech-to-text server takes this client ({self._servers.refusals})"
        )
        self._hand_out(self._failure(self._refused))

    def _failure(self, error: TalkpathError) -> StreamFailure:
        return StreamFailure(self._stream.utterance + 1, error, ends_speech=False)

    # -- one connection ----------------------------------------------------------------------

    async def _converse(self, server: Server) -> None:
        """Connect, send and receive, until all is out or the configuration is to be changed.

        Raises:
            Lost: the server cannot be reached, or has gone.
            Refused: it will not take this client.
        """
        socket = await open_socket(server, self._api_key, self._tls)
        tasks: list[asyncio.Task[None]] = []
        try:
            for frame in self._stream.opened(self._config.message(), now_s()):
                await socket.send(frame)
            tasks = [
                asyncio.create_task(
                    send_audio(socket, self._stream, self._news), name=f"audio to {server.name}"
                ),
                asyncio.create_task(self._receive(socket, server), name=f"text of {server.name}"),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await socket.close()
        except ConnectionClosed as closed:
            raise meaning_of(closed, self._last_error, ready=self._stream.ready) from closed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            socket.transport.abort()

    async def _receive(self, socket: ClientConnection, server: Server) -> None:
        """Take what comes, until all is out or the configuration is to be changed."""
        ready_s: float | None = None
        self._last_error = ""
        try:
            while not self._stream.finished and not self._stream.between:
                results = self._read(await socket.recv())
                if ready_s is None and self._stream.ready:
                    ready_s = now_s()
                    self._ready(server)
                self._take(server, results)
                self._news.set()
        finally:
            if ready_s is not None and now_s() - ready_s > _PROVEN_S:
                self._servers.useful()

    def _ready(self, server: Server) -> None:
        self._accepted = self._config
        self._dropping = False
        self._servers.taken(server)
        _log.info("speech-to-text at %s", server.name)
        self._on_event(Connected(server.name))
        for failure in self._stream.tell_lost():
            self._hand_out(failure)

    def _read(self, frame: str | bytes) -> Sequence[Heard]:
        if isinstance(frame, bytes):
            raise Lost("it answers in binary: that is another protocol")
        try:
            return self._stream.received(frame)
        except Garbled as error:
            raise Lost(f"it sent {error}: that is another protocol") from None

    def _take(self, server: Server, results: Sequence[Heard]) -> None:
        for result in results:
            match result:
                case RemoteError(text):
                    self._last_error = text
                    self._warn(server, "told", text)
                case Quiet():
                    self._on_event(result)
                case _:
                    self._hand_out(result)

    # -- results -----------------------------------------------------------------------------

    def _hand_out(self, result: StreamResult) -> None:
        if isinstance(result, Final):
            self._servers.useful()
        self._on_result(result)

    def _wait(self, result: StreamResult) -> None:
        late = isinstance(result, Partial) and self._waiting.qsize() >= _RESULTS_AHEAD
        if late or (isinstance(result, StreamFailure) and result.error is self._refused):
            return  # ``results`` raises it
        self._waiting.put_nowait(result)

    def _warn_of_loss(self) -> None:
        """Say it once that audio is being lost, when it begins."""
        if self._stream.lost_s and not self._dropping:
            self._dropping = True
            _log.warning("no speech-to-text server is in reach, and audio is being dropped")
