"""What is said over the telephone is understood, whatever it went through; so is the bot."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.runtime import Runtime
from tests.certificate import Certificate
from tests.sip.lossy_path import lossy_path
from tests.sip.phones import Heard, baresip_call
from tests.sip.programs import free_port
from tests.sip.telephone import Telephone, telephone
from tests.sip.waiting import soon
from tests.speech import clip, word_error_rate

_BOT = Path(__file__).with_name("listening_bot.py")
_SENTENCE = "librivox-0870"
_SENTENCES = tuple(f"librivox-{name}" for name in ("0870", "0880", "0890", "0920", "0930"))


@dataclass(frozen=True)
class _Listening:
    line: Telephone
    tls_port: int
    words: Path

    def transcript(self, number: str) -> str:
        """What the bot understood of the calls to a number."""
        files = sorted((self.words / number).glob("*"))
        lines = "\n".join(file.read_text() for file in files).splitlines()
        return " ".join(re.sub(r"^\[[^]]*\]\s*", "", line) for line in lines)


@pytest.fixture(scope="module")
def listening(
    tmp_path_factory: pytest.TempPathFactory, model: Callable[[str], Path]
) -> Iterator[_Listening]:
    """A telephone with ears, over UDP, TCP and TLS."""
    folder = tmp_path_factory.mktemp("listening")
    certificate = Certificate(folder, "telephone")
    tls_port = free_port()
    model("base")
    with telephone(
        str(_BOT),
        folder / "log",
        tls_port=tls_port,
        tls_cert=certificate.cert,
        tls_key=certificate.key,
        whisper__model="base",
        whisper__language="en",
        captions__folder=folder / "words",
    ) as line:
        yield _Listening(line, tls_port, folder / "words")


async def test_the_echo_has_the_words_over_each_codec_and_transport(
    listening: _Listening, tmp_path: Path
) -> None:
    """PCMU over TLS and G.722 with encrypted sound, PCMA over TCP, Opus over UDP."""
    port, tls_port = listening.line.port, listening.tls_port
    must = ";mediaenc=srtp-mand"

    def talk(codec: str, where: str, options: str = "", config: str = "") -> "asyncio.Task[Heard]":
        return asyncio.create_task(
            baresip_call(
                tmp_path / codec,
                f"sip:{codec}@127.0.0.1:{where}",
                _SENTENCE,
                codec=codec,
                options=options,
                config=config,
                tail_s=14,
            )
        )

    calls = {
        "PCMU": talk("PCMU", f"{tls_port};transport=tls", must),
        "PCMA": talk("PCMA", f"{port};transport=tcp"),
        "G722": talk("G722", f"{port}", must),
        "opus": talk("opus", f"{port}"),
    }
    heard = {codec: await call for codec, call in calls.items()}
    said = clip(_SENTENCE).text
    runtime = Runtime(Config(whisper=WhisperConfig(model="base", language="en")))
    try:
        engine = await runtime.whisper()
        for codec, call in heard.items():
            sound = call.sound()
            repeated = (await engine.decode(sound[-27 * 16000 :])).text
            assert word_error_rate([said], [repeated]) <= 0.15, (codec, repeated)
    finally:
        await runtime.aclose()


async def _ended(line: Telephone, calls: int) -> None:
    """Wait until the bots have worked through what was said last."""
    await soon(lambda: line.log.read_text().count("the call ended") >= calls, "the last words")


async def test_words_are_understood_over_each_codec_and_a_path_that_loses(
    listening: _Listening, tmp_path: Path
) -> None:
    """A lost packet in a hundred costs next to nothing; five and 40 ms of jitter, little."""
    before = listening.line.log.read_text().count("the call ended")
    paths = {"PCMU": (0.0, 0.0), "bad": (0.05, 0.04), "lossy": (0.01, 0.0), "also": (0.01, 0.0)}
    talks = [_talk(listening, tmp_path, number, "PCMU", *path) for number, path in paths.items()]
    talks += [_talk(listening, tmp_path, codec, codec) for codec in ("PCMA", "G722", "opus")]
    await asyncio.gather(*talks)
    await _ended(listening.line, before + len(talks))
    said = " ".join(clip(name).text for name in _SENTENCES)
    rates = {
        number: word_error_rate([said], [listening.transcript(f"silent-{number}")])
        for number in (*paths, "PCMA", "G722", "opus")
    }
    assert all(rates[codec] <= 0.15 for codec in ("PCMU", "PCMA", "G722", "opus")), rates
    clean = sum(rates[codec] for codec in ("PCMU", "PCMA", "G722", "opus")) / 4
    assert (rates["lossy"] + rates["also"]) / 2 <= clean + 0.05, rates
    assert rates["bad"] <= 0.3, rates


async def _talk(
    listening: _Listening,
    folder: Path,
    number: str,
    codec: str,
    loss: float = 0.0,
    jitter_s: float = 0.0,
) -> None:
    """Say all sentences, over a path as it is described."""
    async with lossy_path(
        listening.line.port, loss=loss, jitter_s=jitter_s, seed=len(number)
    ) as path:
        uri = f"sip:silent-{number}@127.0.0.1:{path.port}"
        spoken = folder / f"silent-{number}"
        await baresip_call(spoken, uri, *_SENTENCES, codec=codec, gap_s=1.0, tail_s=1.5)
    assert path.passed > 1000
    assert (path.dropped > 0) == (loss > 0)
