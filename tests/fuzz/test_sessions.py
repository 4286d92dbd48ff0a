r"""Whole sessions against broken clients: real speech, and an engine that answers anything.

As in ``test_codecs.py``, but with the session, the engine and voice activity instead of what they
might tell. Threads take part, so a seed does not say everything. For a long run::

    TALKPATH_FUZZ_SECONDS=600 python -m pytest tests/fuzz/test_sessions.py --timeout 0 \
        --log-cli-level info
"""

import asyncio
import base64
import json
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray, Resampler, float_to_pcm16
from talkpath.agent.errors import DecodeFailed
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import Close, Codec, Command, Send
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.server.protocols.together import TogetherCodec, TogetherVad
from talkpath.agent.server.service import Service
from talkpath.agent.server.session import Session
from talkpath.agent.whisper.backend import Backend, Decoded, Item, TimedText
from talkpath.agent.whisper.results import Word
from tests.agent.server.serving import the_service
from tests.agent.whisper.helpers import WAIT_S, Wrapper, backend
from tests.baseten_peer import CONFIGURATIONS, Watch
from tests.fuzz.garbage import Garbage
from tests.fuzz.messages import BASETEN, OPENAI, TOGETHER
from tests.fuzz.seeds import named, seeds
from tests.realtime_peer import OPENAI_SESSIONS, TOGETHER_SESSIONS, Peer
from tests.speech import clips

_log = logging.getLogger(__name__)

CONVERSATIONS = 8  # of each kind, where no time is given
STEPS = 40
RATE_HZ = 16_000
SPEECH = np.concatenate([clip.samples() for clip in clips()[:5]])
LANGUAGES = frozenset({"en", "de"})


class Oracle(Wrapper):
    """Answers at once, with anything; now and then it fails."""

    def __init__(self, real: Backend) -> None:
        super().__init__(real)
        self.multilingual = True
        self.languages = LANGUAGES
        self._rng = random.Random(0)

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        self._fail(0.02)
        return [None for _ in audio]

    def join(self, parts: Sequence[Any]) -> Any:
        return [item for part in parts for item in part]

    def detect_language(self, encoded: Any) -> list[dict[str, float]]:
        return [{"en": 0.75, "de": 0.25} for _ in encoded]

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        self._fail(0.05)
        return [self._decoded() for _ in items]

    def align(
        self, encoded: Any, items: Sequence[Item], decoded: Sequence[Decoded], **options: Any
    ) -> list[tuple[tuple[Word, ...], ...]]:
        return [
            tuple(
                tuple(Word(0.1, 0.2, word, 0.5) for word in segment.text.split())
                for segment in each.segments
            )
            for each in decoded
        ]

    def _decoded(self) -> Decoded:
        text = self._rng.choice(("", "one", "one two", "one two three", "日本語", "la " * 30))
        segments = (TimedText(0.0, 0.5, text.strip()),) if text else ()
        return Decoded(segments, self._rng.uniform(-2, 0), self._rng.random())

    def _fail(self, chance: float) -> None:
        if self._rng.random() < chance:
            raise self._rng.choice((DecodeFailed("it stumbled"), RuntimeError("no memory")))


class Conversation:
    """One client and its session.

    Args:
        rng: makes the choices.
        service: of the server.
        codec: of the protocol.
        valid: messages that the protocol knows.
        check: looks at all that goes out.
    """

    def __init__(
        self,
        rng: random.Random,
        service: Service,
        codec: Codec,
        valid: list[dict[str, Any]],
        check: Callable[[list[Command]], object],
    ) -> None:
        self._rng = rng
        self._check = check
        self._garbage = Garbage(rng, valid)
        self._as_text = not isinstance(codec, BasetenCodec)
        self._resampler = Resampler(RATE_HZ, 24_000 if isinstance(codec, RealtimeCodec) else 16_000)
        self.closed = False
        self.session = Session(service, codec, self._emit)

    def _emit(self, item: Send | Close) -> None:
        self.closed = isinstance(item, Close)
        self._check([item])

    async def say(self, message: object) -> None:
        """Send a message."""
        await self.session.text(json.dumps(message))

    async def play(self) -> None:
        """All of it, up to the last final that is due."""
        try:
            await self._talk()
            async with asyncio.timeout(WAIT_S):
                await self.session.drain("the server stops", 1012, self._rng.choice((0.0, 0.01)))
        finally:
            self.session.close()

    async def _talk(self) -> None:
        for _ in range(self._rng.randrange(STEPS)):
            if self.closed:
                return
            chance = self._rng.random()
            if chance < 0.25:
                await self.session.text(self._garbage.text())
            elif chance < 0.3:
                await self.session.binary(self._garbage.binary())
            elif chance < 0.6:
                await self._speak(self._speech())
            elif chance < 0.8:
                await self._speak(np.zeros(self._rng.randrange(20_000), dtype=np.float32))
            else:
                await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.01)))

    def _speech(self) -> FloatArray:
        start = self._rng.randrange(len(SPEECH))
        return SPEECH[start : start + self._rng.randrange(3 * RATE_HZ)]

    async def _speak(self, audio: FloatArray) -> None:
        data = float_to_pcm16(self._resampler.process(audio))
        data = data[self._rng.randrange(2) :]
        if self._as_text:
            text = base64.b64encode(data).decode()
            await self.say({"type": "input_audio_buffer.append", "audio": text})
        else:
            await self.session.binary(data)


async def play_baseten(rng: random.Random, service: Service) -> None:
    """A conversation in Baseten's protocol."""
    codec, watch = BasetenCodec(LANGUAGES), Watch()
    watch.configured = True  # it sees only what goes to the client
    conversation = Conversation(rng, service, codec, BASETEN, watch)
    await conversation.session.opened()
    if rng.random() < 0.9:
        await conversation.say(rng.choice(CONFIGURATIONS))
    await conversation.play()
    assert watch.closed
    assert watch.finals == sorted(set(watch.finals))


async def play_realtime(
    rng: random.Random, service: Service, codec: Codec, valid: list[dict[str, Any]]
) -> None:
    """A conversation in a dialect of the Realtime protocol."""
    sessions = TOGETHER_SESSIONS if isinstance(codec, TogetherCodec) else OPENAI_SESSIONS
    peer = Peer(codec, sessions, opened=True)
    conversation = Conversation(rng, service, codec, valid, peer.take)
    await conversation.session.opened()
    await conversation.play()
    assert peer.waiting == [], "every item that was announced has its end"
    closed = [event for event in peer.of(".failed") if event["error"]["code"] == "session_closed"]
    assert closed == [], "none of them for want of time"
    assert isinstance(peer.commands[-1], Close)


async def play_openai(rng: random.Random, service: Service) -> None:
    """A conversation in OpenAI's protocol."""
    codec = RealtimeCodec(flat=rng.random() < 0.3, languages=LANGUAGES)
    await play_realtime(rng, service, codec, OPENAI)


async def play_together(rng: random.Random, service: Service) -> None:
    """A conversation in Together's dialect."""
    codec = TogetherCodec(vad=rng.choice((None, TogetherVad())))
    await play_realtime(rng, service, codec, TOGETHER)


PROTOCOLS = {"baseten": play_baseten, "openai": play_openai, "together": play_together}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_whatever_a_client_says_its_session_ends_in_good_order(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "talkpath.agent")  # failures are many, and wanted
    conversations = 0
    patient = {"serve.ahead_s": 1e9, "whisper.language": "en"}
    async with the_service(patient, model=Oracle(backend("tiny.en"))) as service:
        for seed in seeds(CONVERSATIONS, share=len(PROTOCOLS)):
            with named(seed):
                await PROTOCOLS[protocol](random.Random(f"{protocol} {seed}"), service)
            conversations += 1
        assert service.engine.streams == 0, "every stream gave its place back"
    _log.info("%s: %d sessions", protocol, conversations)
