"""Remote Whisper: speech to text at a server of talkpath's, while it is being spoken.

For bots on many machines that share one GPU. It takes ``StreamingWhisper``'s place behind a
``SpeechDetector``, with the same frames in and out:

- ``InterimTranscriptionFrame`` about every half second of speech; its ``result`` is the
  ``Partial``, which tells the stable words from the rest;
- ``TranscriptionFrame`` at the end of speech, with ``finalized=True`` and the ``Final`` as its
  ``result``; pieces of very long speech have ``finalized=False``;
- ``NothingHeardFrame`` where there was sound but no word.

What differs: the server finds the speech itself, with the threshold and the stop of the
settings, which should be those of the detector here. Both hear the same samples and decide alike;
where they do not, each stop here still has one answer. A turn, whose earlier words help with the
next ones, ends for the server after a pause of 2.5 s and not with ``UserStoppedSpeakingFrame``.
``on_connected``, ``on_disconnected`` and ``on_connection_error`` are the service's events.

A server that dies costs a delay, not a word: see ``talkpath.agent.client``. Where no server of the
list is there for some seconds, an ``ErrorFrame`` says so, once until one was there again.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from pipecat.frames.frames import (
    Frame,
    STTMuteFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings

from talkpath.agent.client import (
    ClientConfig,
    ClientEvent,
    Connected,
    Disconnected,
    Quiet,
    TranscriptionClient,
)
from talkpath.agent.errors import ServersRefused
from talkpath.agent.whisper import Final, Partial, StreamFailure, StreamResult
from talkpath.processors.frames import NothingHeardFrame
from talkpath.processors.transcripts import final_frame, partial_frame
from talkpath.processors.whisper_service import WhisperService

__all__ = ["RemoteWhisper"]

TTFS_P99_S = 0.5
"""End of speech to final transcript, 99th percentile: ``StreamingWhisper``'s, and the network."""

# Audio comes every 20 ms or so. If the last is older than this at a stop, none comes: the server
# has not heard the silence.
_MISSING_S = 0.5
# The server may tell the end of speech before the detector here does. That one has heard all but
# the newest block of the audio that came by: after so much more it will not find the end there.
_HOLD_AUDIO_S, _HOLD_S = 0.1, 1.0
# A server that hands over to the next one is nothing to tell the caller of.
_UNREACHED_S = 3.0


class RemoteWhisper(WhisperService[StreamResult | ClientEvent]):
    """One session's stream at the servers of a list. Results wait in a ``ResultQueue``.

    Args:
        urls: WebSockets of the servers, in the order in which they are tried, such as
            ``ws://gpu-1:8000``.
        config: language, partials, voice activity and the like.
        api_key: the same for all servers.
        tls: for ``wss``, where the system's certificates will not do.
        audio_passthrough: whether the audio goes on; False saves the way behind this processor
            where nobody listens there.
        ttfs_p99_latency: seconds from the end of speech to the final, 99th percentile; turn
            strategies wait this long at most. Measure your own network's.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        config: ClientConfig | None = None,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        audio_passthrough: bool = True,
        ttfs_p99_latency: float = TTFS_P99_S,
    ) -> None:
        self._config = config or ClientConfig()
        super().__init__(
            self._config.language,
            audio_passthrough=audio_passthrough,
            ttfs_p99_latency=ttfs_p99_latency,
        )
        self._urls = urls
        self._api_key = api_key
        self._tls = tls
        self._client: TranscriptionClient | None = None
        self._speaking = False  # for the detector here
        self._moved = asyncio.Event()  # audio or a stop came
        self._owed = 0  # stops without an answer
        self._owed_at_s = 0.0  # where the last of them lies
        self._connected = False
        self._unreached_since_s = 0.0
        self._told_unreached = False

    @property
    def task(self) -> str:
        """``transcribe``, or ``translate`` into English."""
        return self._config.task

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Take the next samples, 16-bit mono PCM; transcripts come on their own time."""
        if self._client is not None:
            self._client.feed(audio)
            self._moved.set()
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame, then note what it says about speech."""
        await super().process_frame(frame, direction)
        if self._client is None:
            return
        if isinstance(frame, STTMuteFrame):
            if self._muted:  # what was said before is an utterance
                self._client.end_utterance()
        elif direction is FrameDirection.DOWNSTREAM:
            if isinstance(frame, VADUserStartedSpeakingFrame):
                self._speaking = True
            elif isinstance(frame, VADUserStoppedSpeakingFrame):
                self._speaking = False
                self._moved.set()
                if not self._muted:
                    self._stopped(self._client)

    # Pipecat's own STTService narrows the settings in the same way.
    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:  # type: ignore[override]
        changed = await super()._update_settings(delta)
        if "language" in changed and self._client is not None:
            language = self._settings.language
            self._client.set_language(str(language) if language else "auto")
        return changed

    def _stopped(self, client: TranscriptionClient) -> None:
        self._owed += 1
        self._owed_at_s = client.fed_s
        if time.monotonic() - self._last_audio_time > _MISSING_S:
            client.end_utterance()

    def _open(self) -> None:
        self._client = TranscriptionClient(
            self._urls,
            self._config,
            api_key=self._api_key,
            sample_rate_hz=self.sample_rate,
            on_result=self._results.take,
            on_event=self._results.put_nowait,
            tls=self._tls,
        )
        self._client.start()  # audio waits until a server is found
        self._unreached_since_s = time.monotonic()

    async def _drain(self) -> None:
        self._speaking = False
        self._moved.set()
        if self._client is not None:
            with contextlib.suppress(ServersRefused):  # that was told when it happened
                await self._client.drain()

    async def _release(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _push(self, result: StreamResult | ClientEvent) -> None:
        match result:
            case Partial():
                await self.push_frame(partial_frame(result, self._user_id))
            case Final():
                await self._push_final(result)
            case StreamFailure():
                await self._push_failure(result)
            case Quiet():
                await self._push_what_is_owed(result)
            case Connected() | Disconnected():
                await self._tell(result)

    async def _push_final(self, final: Final) -> None:
        await self.emit_stt_usage_metrics()  # type: ignore[no-untyped-call]
        # Where speech goes on for the detector here, its stop will have another answer.
        finalized = final.ends_speech and await self._has_stopped()
        if finalized:
            self._owed = max(self._owed - 1, 0)
        await self.push_frame(final_frame(final, self._user_id, finalized=finalized))

    async def _has_stopped(self) -> bool:
        """Whether the detector here heard the end of this speech, too, which may take a moment."""
        client = self._client
        until_s = 0.0 if client is None else client.fed_s + _HOLD_AUDIO_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HOLD_S):
                while self._goes_on and client is not None and client.fed_s < until_s:
                    self._moved.clear()
                    await self._moved.wait()
        return not self._goes_on

    @property
    def _goes_on(self) -> bool:
        """Whether somebody speaks who has not stopped since the last answer."""
        return self._speaking and not self._owed and not self._muted

    async def _push_failure(self, failure: StreamFailure) -> None:
        if failure.ends_speech:
            self._owed = max(self._owed - 1, 0)
        await self.push_error(
            str(failure.error),
            exception=failure.error,
            force_treat_as_permanent=isinstance(failure.error, ServersRefused),
        )
        await self.push_frame(NothingHeardFrame(failure.utterance, ends_speech=failure.ends_speech))

    async def _push_what_is_owed(self, quiet: Quiet) -> None:
        """Answer stops of which no final will come: the server heard no speech there."""
        if quiet.at_s >= self._owed_at_s:
            owed, self._owed = self._owed, 0
            for _ in range(owed):
                await self.push_frame(NothingHeardFrame())

    async def _tell(self, event: Connected | Disconnected) -> None:
        match event:
            case Connected():
                self._connected, self._told_unreached = True, False
                await self._call_event_handler("on_connected")
            case Disconnected(_, why):
                if self._connected:
                    self._connected, self._unreached_since_s = False, time.monotonic()
                    await self._call_event_handler("on_disconnected")
                await self._call_event_handler("on_connection_error", why)
                await self._tell_unreached(event)

    async def _tell_unreached(self, event: Disconnected) -> None:
        """Say it once where nobody has been there for a while; the client goes on looking."""
        away_s = time.monotonic() - self._unreached_since_s
        if away_s < _UNREACHED_S or self._told_unreached:
            return
        self._told_unreached = True
        await self.push_error(
            f"no speech-to-text server is available for now ({event.server}: {event.why}); "
            "what is said is written down once one answers"
        )
