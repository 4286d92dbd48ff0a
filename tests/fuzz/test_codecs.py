r"""The codecs against broken clients: only what is documented comes out, and nothing gets lost.

A conversation mixes a client's frames, most of them not quite right, with what a stream of the
engine may tell, in any order that ``Codec`` allows; all of it follows from the conversation's
seed. CI plays some hundreds, always the same ones. For a long run, from a random seed on::

    TALKPATH_FUZZ_SECONDS=600 python -m pytest tests/fuzz/test_codecs.py --timeout 0 \
        --log-cli-level info

A conversation that goes wrong names its seed, and ``TALKPATH_FUZZ_SEED`` plays that one first.
"""

import json
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import Codec, Command
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.server.protocols.together import TogetherCodec, TogetherVad
from tests.baseten_peer import CONFIGURATIONS, Watch
from tests.fuzz.ears import Ears
from tests.fuzz.garbage import Garbage
from tests.fuzz.messages import BASETEN, OPENAI, TOGETHER
from tests.fuzz.seeds import named, seeds
from tests.realtime_peer import OPENAI_SESSIONS, TOGETHER_SESSIONS, Peer

_log = logging.getLogger(__name__)

CONVERSATIONS = 150  # of each kind, where no time is given
STEPS = 60  # of the longest conversation, and of one that tries the limit of a hundred errors
MANY_STEPS = 600

LANGUAGES = ("en", "de", "ja")


class Conversation:
    """One client, one codec and one stream.

    Args:
        rng: makes the choices.
        codec: of the protocol.
        valid: messages that the protocol knows.
        check: looks at all that the codec commands.
    """

    def __init__(
        self,
        rng: random.Random,
        codec: Codec,
        valid: list[dict[str, Any]],
        check: Callable[[list[Command]], object],
    ) -> None:
        self._rng = rng
        self._codec = codec
        self._check = check
        self._garbage = Garbage(rng, valid)
        self.ears = Ears(rng, codec)
        self.frames = 0

    def do(self, commands: list[Command]) -> None:
        """Carry out commands, after a look at them."""
        self._check(commands)
        self.ears.obey(commands)

    def play(self) -> None:
        """All of it, up to the last final that is due."""
        for _ in range(self._rng.randrange(MANY_STEPS if self._rng.random() < 0.01 else STEPS)):
            chance = self._rng.random()
            if chance < 0.45:
                self.frames += 1
                self.do(self._codec.text(self._garbage.text()))
            elif chance < 0.6:
                self.frames += 1
                self.do(self._codec.binary(self._garbage.binary()))
            else:
                self._check(self.ears.hear())
        self._check(self.ears.drain())
        if self._rng.random() < 0.3:
            reason = self._rng.choice(("the server stops", "no room: " + "é" * 90))
            self.do(self._codec.closing(reason, self._rng.choice((1001, 1008, 1013))))
            assert self.ears.over


def play_baseten(rng: random.Random) -> int:
    """A conversation in Baseten's protocol; gives the number of its frames."""
    codec, watch = BasetenCodec(LANGUAGES), Watch()
    conversation = Conversation(rng, codec, BASETEN, watch)
    conversation.do(codec.opened())
    if rng.random() < 0.9:
        conversation.do(codec.text(json.dumps(rng.choice(CONFIGURATIONS))))
    conversation.play()
    ears = conversation.ears
    heard = [number for number in ears.finals if watch.configured]
    assert watch.finals == heard[: len(watch.finals)], "every final is sent, and in order"
    if not ears.over:
        assert watch.finals == heard
        failed = [m for m in watch.messages if "could not be transcribed" in m.get("message", "")]
        assert len(failed) == len(ears.failures), "and every failure"
    return conversation.frames


def play_realtime(rng: random.Random, codec: Codec, valid: list[dict[str, Any]]) -> int:
    """A conversation in a dialect of the Realtime protocol; gives the number of its frames."""
    sessions = TOGETHER_SESSIONS if isinstance(codec, TogetherCodec) else OPENAI_SESSIONS
    peer = Peer(codec, sessions)
    conversation = Conversation(rng, codec, valid, peer.take)
    conversation.ears.obey(peer.commands)
    conversation.play()
    assert peer.waiting == [], "every item that was announced has its end"
    return conversation.frames


def play_openai(rng: random.Random) -> int:
    """A conversation in OpenAI's protocol."""
    flat, languages = rng.random() < 0.3, rng.choice((LANGUAGES, ()))
    return play_realtime(rng, RealtimeCodec(flat=flat, languages=languages), OPENAI)


def play_together(rng: random.Random) -> int:
    """A conversation in Together's dialect, from its query on."""
    garbage = Garbage(rng, TOGETHER)
    for _ in range(3):
        names = rng.choices(("threshold", "model", "language", "speech_pad_ms", "intent"), k=2)
        try:
            TogetherCodec.from_query({name: str(garbage.value()) for name in names})
        except ConfigError as error:
            assert len(str(error)) < 400
    vad = rng.choice((None, TogetherVad()))
    return play_realtime(rng, TogetherCodec(vad=vad), TOGETHER)


PROTOCOLS = {"baseten": play_baseten, "openai": play_openai, "together": play_together}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_what_is_documented_comes_out_and_nothing_gets_lost(protocol: str) -> None:
    conversations = frames = 0
    for seed in seeds(CONVERSATIONS, share=len(PROTOCOLS)):
        with named(seed):
            frames += PROTOCOLS[protocol](random.Random(f"{protocol} {seed}"))
        conversations += 1
    _log.info("%s: %d conversations, %d frames", protocol, conversations, frames)
    assert frames > conversations
