"""The client: against real servers with a real model that die, stop, are full or fall silent."""

import asyncio
import contextlib
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from talkpath.agent.audio import FloatArray, float_to_pcm16
from talkpath.agent.client import (
    ClientConfig,
    ClientEvent,
    Connected,
    Disconnected,
    Quiet,
    TranscriptionClient,
)
from talkpath.agent.client import socket as client_socket
from talkpath.agent.client import stream as client_stream
from talkpath.agent.client.audio import KeptAudio
from talkpath.agent.client.servers import Servers
from talkpath.agent.errors import AudioError, AudioLost, ConfigError, ServersRefused
from talkpath.agent.server_url import Server
from talkpath.agent.whisper import Final
from talkpath.agent.whisper.backend import Backend, Decoded
from tests.agent.server.serving import serving, the_service
from tests.agent.whisper.helpers import WAIT_S, Results, Speaker, Wrapper, backend, until
from tests.speech import clip, join, resample, word_error_rate

LONG, SHORT = clip("librivox-0870"), clip("librivox-0930")
ENGLISH = ClientConfig(language="en")
BLOCK = 640  # bytes: 20 ms


class Caller(Results):
    """Speaks through a client and notes what comes of it."""

    def __init__(self, *urls: str, config: ClientConfig = ENGLISH, **options: Any) -> None:
        super().__init__()
        self.events: list[ClientEvent] = []
        self.client = TranscriptionClient(
            urls, config, on_result=self, on_event=self.events.append, **options
        )

    async def __aenter__(self) -> "Caller":
        self.client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def say(self, audio: FloatArray, pace_s: float = 0.002) -> None:
        pcm = float_to_pcm16(audio)
        for at in range(0, len(pcm), BLOCK):
            self.client.feed(pcm[at : at + BLOCK])
            await asyncio.sleep(pace_s)

    def were(self, kind: type[ClientEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def wrong_words(self, *said: str) -> float:
        return word_error_rate([" ".join(said)], [self.text])


# -- the same as in one process --------------------------------------------------------------


async def test_it_gives_what_a_stream_of_the_engine_gives() -> None:
    audio = join([LONG.id, SHORT.id])
    async with the_service() as service, serving(service) as url:
        async with Caller(url) as caller:
            await caller.say(audio)
            await caller.client.drain()
        local = Results()
        stream = service.engine.open_stream(local, language="en")
        await Speaker(stream).say(audio, paced=True)
        await stream.drain()
        stream.close()
    assert not caller.failures
    assert caller.wrong_words(LONG.text, SHORT.text) < 0.2
    assert len(caller.finals) == len(local.finals)
    for mine, theirs in zip(caller.finals, local.finals, strict=True):
        assert (mine.utterance, mine.ends_speech) == (theirs.utterance, theirs.ends_speech)
        # Where an utterance is cut differs by less than a window between the two.
        assert word_error_rate([theirs.transcript.text], [mine.transcript.text]) < 0.1
        assert mine.start_s == pytest.approx(theirs.start_s, abs=0.05)
        assert mine.transcript.duration_s == pytest.approx(theirs.transcript.duration_s, abs=0.1)
        assert mine.transcript.avg_logprob == pytest.approx(theirs.transcript.avg_logprob, abs=0.1)
        (first, *_) = mine.transcript.segments
        assert first.start_s == pytest.approx(theirs.transcript.segments[0].start_s, abs=0.1)


async def test_stable_words_stay_and_partials_lead_to_their_final() -> None:
    async with serving() as url, Caller(url) as caller:
        for pace_s in (0.002, 0.01, 0.04):  # a machine without time leaves out partials
            await caller.say(join([LONG.id]), pace_s)
            if any(partial.stable for partial in caller.partials):
                break
        await caller.client.drain()
    assert any(partial.stable for partial in caller.partials)
    for before, after in zip(caller.partials, caller.partials[1:], strict=False):
        if before.utterance == after.utterance:
            assert after.stable.startswith(before.stable)
    numbers = [result.utterance for result in caller.all]
    assert numbers == sorted(numbers)
    assert {partial.utterance for partial in caller.partials} <= {
        final.utterance for final in caller.finals
    }


async def test_results_can_be_waited_for_and_end_with_the_audio() -> None:
    async with serving() as url, TranscriptionClient([url], ENGLISH) as client:
        client.feed(float_to_pcm16(join([SHORT.id])))
        draining = asyncio.create_task(client.drain())
        texts = [
            result.transcript.text async for result in client.results() if isinstance(result, Final)
        ]
        await draining
    assert word_error_rate([SHORT.text], [" ".join(texts)]) < 0.2


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
async def test_other_rates_are_understood(rate_hz: int) -> None:
    async with serving() as url, Caller(url, sample_rate_hz=rate_hz) as caller:
        await caller.say(resample(join([SHORT.id]), 16_000, rate_hz))
        await caller.client.drain()
    assert caller.wrong_words(SHORT.text) < 0.3


async def test_words_have_times_where_they_are_wanted() -> None:
    config = ClientConfig(language="en", word_timestamps=True, partials=False)
    async with serving() as url, Caller(url, config=config) as caller:
        await caller.say(join([SHORT.id]))
        await caller.client.drain()
    assert not caller.partials
    for final in caller.finals:
        assert "".join(word.text for word in final.transcript.words)
        ends = [word.end_s for word in final.transcript.words]
        assert ends == sorted(ends)
        assert 0 < ends[-1] <= final.transcript.duration_s


async def test_an_odd_number_of_bytes_is_an_error() -> None:
    with pytest.raises(AudioError, match="even number of bytes"):
        TranscriptionClient(["ws://127.0.0.1:9"]).feed(b"123")


class Breakable(Wrapper):
    """Fails while it is broken."""

    broken = True

    def generate(self, *arguments: Any, **options: Any) -> list[Decoded]:
        if self.broken:
            raise RuntimeError("out of memory, or so")
        return super().generate(*arguments, **options)


async def test_an_utterance_that_fails_there_is_a_failure_here_and_the_next_one_comes() -> None:
    model = Breakable(backend("tiny.en"))
    async with the_service(model=model) as service, serving(service) as url, Caller(url) as caller:
        await caller.say(join([LONG.id]))
        await until(lambda: caller.failures)
        model.broken = False
        await caller.say(join([SHORT.id]))
        await caller.client.drain()
    (failure,) = caller.failures
    assert (failure.utterance, failure.ends_speech) == (1, True)
    assert str(failure.error).startswith("utterance 1 could not be transcribed")
    assert caller.wrong_words(SHORT.text) < 0.2
    assert [final.utterance for final in caller.finals] == [2]


# -- silence that nobody spoke ---------------------------------------------------------------


async def test_an_utterance_is_ended_where_no_more_audio_comes_and_times_go_on() -> None:
    async with serving() as url, Caller(url) as caller:
        await caller.say(SHORT.samples())
        caller.client.end_utterance()
        await until(lambda: caller.finals)
        assert caller.client.fed_s == pytest.approx(SHORT.duration_s, abs=0.02)
        await caller.say(join([SHORT.id]))
        await caller.client.drain()
    assert caller.wrong_words(SHORT.text, SHORT.text) < 0.2
    first, second = caller.finals
    assert first.start_s < 0.5
    # Half a second of silence, then speech whose utterance begins a little before it.
    assert second.start_s == pytest.approx(SHORT.duration_s + first.start_s + 0.5, abs=0.2)


# -- servers that go away --------------------------------------------------------------------


@asynccontextmanager
async def process(port: int, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``talkpath serve`` on its own, ready."""
    command = "from talkpath.bots.cli import main; raise SystemExit(main())"
    serve = ["serve", "--port", str(port), "--model", "tiny.en", "--device", "cpu", *arguments]
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", command, *serve)
    try:
        async with asyncio.timeout(120), Caller(f"ws://127.0.0.1:{port}") as caller:
            await until(lambda: caller.were(Connected))
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        await running.wait()


async def test_a_killed_server_costs_no_word_and_none_comes_twice(
    free_port: int, model: Callable[[str], Path]
) -> None:
    model("tiny.en")
    audio = join([SHORT.id, LONG.id])
    async with process(free_port) as first, serving() as second:
        async with Caller(f"ws://127.0.0.1:{free_port}", second) as caller:
            middle = len(audio) // 2
            await caller.say(audio[:middle])
            await until(lambda: any(partial.utterance > 1 for partial in caller.partials))
            first.send_signal(signal.SIGKILL)
            await first.wait()
            await caller.say(audio[middle:])
            await caller.client.drain()
    assert not caller.failures
    assert caller.wrong_words(SHORT.text, LONG.text) < 0.2
    assert [final.utterance for final in caller.finals] == [1, 2]
    assert len(caller.were(Connected)) == 2
    assert caller.finals[1].start_s > caller.finals[0].start_s + SHORT.duration_s


async def test_a_server_that_stops_hands_over_to_the_next() -> None:
    audio = join([SHORT.id, LONG.id], gap_s=0.3)
    async with serving({"serve.drain_s": 0.1}) as second:
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(serving({"serve.drain_s": 0.1}))
            async with Caller(first, second) as caller:
                await caller.say(audio[:60_000])
                await until(lambda: caller.finals)
                stopping = asyncio.create_task(stack.aclose())
                await caller.say(audio[60_000:])
                await stopping
                await caller.client.drain()
    assert not caller.failures
    assert caller.wrong_words(SHORT.text, LONG.text) < 0.3
    (lost,) = caller.were(Disconnected)
    assert "1012" in lost.why and "about to stop" in lost.why


class Proxy:
    """Carries bytes to a server until it is told to hold them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self.open.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass  # the other side is gone
        finally:
            sink.transport.abort()


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """A way to a server that can fall silent without a word, as a pulled cable does."""
    held = Proxy()
    carrying: set[asyncio.Task[None]] = set()
    port = int(url.rsplit(":", 1)[1])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        carrying.add(asyncio.create_task(held.carry(reader, back)))
        carrying.add(asyncio.create_task(held.carry(there, writer)))

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}", held
    finally:
        listener.close()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


@contextlib.contextmanager
def impatient(dead_s: float) -> Iterator[None]:
    """Clients soon leave a server that does nothing; outside, a slow machine has its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_socket, "_DEAD_S", dead_s)
        yield


async def test_a_server_that_falls_silent_is_left_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_socket, "_QUESTION_S", 0.1)
    audio = join([LONG.id])
    async with serving() as url, proxy(url) as (way, held):
        async with Caller(way, url) as caller:
            await caller.say(audio[:48_000])
            await until(lambda: caller.partials)
            held.open.clear()
            with impatient(1.0):
                await caller.say(audio[48_000:])
                await until(lambda: caller.were(Disconnected))
            await until(lambda: len(caller.were(Connected)) == 2)
            await caller.client.drain()
        held.open.set()
    assert caller.wrong_words(LONG.text) < 0.2
    assert [final.utterance for final in caller.finals] == [1]
    (lost,) = caller.were(Disconnected)
    assert "no answer" in lost.why


async def test_a_network_that_falls_behind_by_more_than_is_kept_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_socket, "_QUESTION_S", 0.1)
    async with serving() as url, proxy(url) as (way, held):
        async with Caller(way, url) as caller:
            await until(lambda: caller.were(Connected))
            held.open.clear()
            for _ in range(70):
                caller.client.feed(bytes(32_000))
            await until(lambda: len(caller.were(Connected)) == 2)
            await caller.say(join([SHORT.id]))
            await caller.client.drain()
        held.open.set()
    assert "slower than the audio" in caller.were(Disconnected)[0].why
    (failure,) = caller.failures
    assert isinstance(failure.error, AudioLost)
    assert caller.wrong_words(SHORT.text) < 0.2


class Stuck(Wrapper):
    """Works until it is told to hang, as a device does that has failed."""

    def __init__(self, real: Backend) -> None:
        super().__init__(real)
        self.goes_on = threading.Event()
        self.goes_on.set()

    def generate(self, *arguments: Any, **options: Any) -> list[Decoded]:
        assert self.goes_on.wait(WAIT_S), "the test never let it go on"
        return super().generate(*arguments, **options)


async def test_a_server_that_answers_but_works_no_more_is_left_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_stream, "_LONGEST", 4 * 16_000)
    monkeypatch.setattr(client_socket, "_QUESTION_S", 0.1)
    audio = join([LONG.id])
    model = Stuck(backend("tiny.en"))
    async with the_service(model=model) as service, serving(service) as first:
        async with serving() as second, Caller(first, second) as caller:
            await caller.say(audio[:32_000])
            await until(lambda: caller.partials)
            model.goes_on.clear()
            with impatient(4.0):  # it still answers, maybe slowly
                await caller.say(audio[32_000:])
                await until(lambda: caller.were(Disconnected))
            model.goes_on.set()
            await until(lambda: len(caller.were(Connected)) == 2)
            await caller.client.drain()
    assert "no final came" in caller.were(Disconnected)[0].why
    assert caller.wrong_words(LONG.text) < 0.2
    assert [final.utterance for final in caller.finals] == [1]


# -- what finds no server --------------------------------------------------------------------


async def test_audio_waits_for_a_server_and_of_too_much_the_oldest_is_told_to_be_lost(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with Caller(f"ws://127.0.0.1:{free_port}", config=ENGLISH) as caller:
        await until(lambda: caller.were(Disconnected))
        caller.client.feed(float_to_pcm16(join([LONG.id])))
        caller.client.feed(bytes(60 * 32_000))
        caller.client.feed(float_to_pcm16(join([SHORT.id])))
        fed_s = caller.client.fed_s
        async with serving({"serve.port": free_port}):
            await caller.client.drain()
    (failure,) = caller.failures
    assert caller.all[0] is failure
    assert isinstance(failure.error, AudioLost)
    assert f"{fed_s - 60:.1f} s of audio were lost" in str(failure.error)
    assert (failure.utterance, failure.ends_speech) == (1, False)
    assert caller.wrong_words(SHORT.text) < 0.2
    assert caller.finals[-1].utterance == 2
    assert caller.finals[-1].start_s == pytest.approx(fed_s - SHORT.duration_s - 1.0, abs=0.5)
    assert "audio is being dropped" in caplog.text


async def test_a_wrong_key_is_told_once_and_for_good() -> None:
    async with serving({"serve.api_keys": ("right",)}) as url:
        async with Caller(url, api_key="wrong") as caller:
            with pytest.raises(ServersRefused, match=r"401: [Tt]his API key is not known here"):
                await caller.client.drain()
        (failure,) = caller.failures
        assert isinstance(failure.error, ServersRefused)
        async with Caller(url, api_key="right") as caller:
            await caller.say(join([SHORT.id]))
            await caller.client.drain()
    assert caller.wrong_words(SHORT.text) < 0.2


async def test_a_server_that_refuses_the_key_is_left_out_of_the_list() -> None:
    async with serving({"serve.api_keys": ("another",)}) as first, serving() as second:
        async with Caller(first, second, api_key="mine") as caller:
            await caller.say(join([SHORT.id]))
            await caller.client.drain()
    assert not caller.failures
    assert caller.wrong_words(SHORT.text) < 0.2


async def test_a_configuration_that_every_server_refuses_ends_it_with_their_words() -> None:
    config = ClientConfig(language="tlh")
    async with serving() as url, TranscriptionClient([url], config) as client:
        with pytest.raises(ServersRefused, match="does not know that language"):
            async for _ in client.results():
                raise AssertionError("nothing was said")


async def test_a_full_server_sends_on_to_the_next() -> None:
    full = {"whisper.max_streams": 1}
    async with serving(full) as first, serving() as second, Caller(first) as guest:
        await until(lambda: guest.were(Connected))
        async with Caller(first, second) as caller:
            await caller.say(join([SHORT.id]))
            await caller.client.drain()
    assert caller.wrong_words(SHORT.text) < 0.2
    (lost,) = caller.were(Disconnected)
    assert "1013" in lost.why and "in use" in lost.why


async def test_what_is_no_speech_to_text_server_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as url:
        async with Caller(f"{url}/v1/realtime?intent=transcription") as caller:
            await until(lambda: caller.were(Disconnected))
        assert "another protocol" in caller.were(Disconnected)[0].why
        async with Caller(f"{url}/nowhere") as caller:
            with pytest.raises(ServersRefused, match="404"):
                await caller.client.drain()


# -- on the way ------------------------------------------------------------------------------


async def test_a_new_language_holds_from_the_next_utterance_and_an_unknown_one_changes_nothing(
    model: Callable[[str], Path],
) -> None:
    async with the_service({"whisper.model": "base"}, model="base") as service:
        async with serving(service) as url, Caller(url) as caller:
            await caller.say(join([SHORT.id]))
            await until(lambda: caller.finals)
            caller.client.set_language("nl")
            await caller.say(join([SHORT.id]))
            await until(lambda: len(caller.finals) == 2)
            caller.client.set_language("klingon")
            await until(lambda: caller.failures)
            await caller.say(join([SHORT.id]))
            await caller.client.drain()
    assert [final.transcript.language for final in caller.finals] == ["en", "nl", "nl"]
    (failure,) = caller.failures
    assert isinstance(failure.error, ConfigError)
    assert "klingon" in str(failure.error)
    assert not caller.were(Disconnected)


async def test_moments_of_quiet_are_told_and_their_audio_is_not_kept() -> None:
    async with serving() as url, Caller(url) as caller:
        await caller.say(join([SHORT.id], tail_s=5.0))
        await until(lambda: any(quiet.at_s > 7 for quiet in caller.were(Quiet)))
        assert caller.finals
        assert caller.client._stream._kept.spoken_s(caller.client._stream._kept.begin) > 5


@pytest.mark.parametrize("reachable", [True, False])
async def test_nothing_runs_on_after_the_close(free_port: int, reachable: bool) -> None:
    async with serving() as url:
        before = asyncio.all_tasks()
        async with Caller(url if reachable else f"ws://127.0.0.1:{free_port}") as caller:
            await caller.say(LONG.samples()[:32_000])
            await until(lambda: caller.events)
        await until(lambda: asyncio.all_tasks() <= before)
        await caller.client.aclose()
    caller.client.feed(bytes(2))
    assert [result async for result in caller.client.results()] == []


async def test_an_error_in_what_takes_the_results_is_not_swallowed() -> None:
    def stumble(result: object) -> None:
        raise RuntimeError("the caller's own mistake")

    async with serving() as url:
        client = TranscriptionClient([url], ENGLISH, on_result=stumble)
        client.start()
        client.feed(float_to_pcm16(join([SHORT.id])))
        with pytest.raises(RuntimeError, match="own mistake"):
            await client.drain()
        with pytest.raises(RuntimeError, match="own mistake"):
            await client.aclose()


# -- parts -----------------------------------------------------------------------------------


def test_kept_audio_knows_what_was_spoken() -> None:
    kept = KeptAudio(most_s=2.0)
    kept.append(bytes(2 * 16_000))
    kept.append_silence(8_000)
    kept.append(b"\1\0" * 16_000)
    assert (kept.begin, kept.end) == (8_000, 40_000)
    assert [kept.spoken_s(position) for position in (8_000, 16_000, 20_000, 24_000, 40_000)] == [
        0.5,
        1.0,
        1.0,
        1.0,
        2.0,
    ]
    assert kept.read(23_999, 2) == b"\0\0\1\0"
    assert len(kept.read(39_990, 100)) == 20
    kept.forget_before(30_000)
    assert (kept.begin, kept.spoken_s(30_000), kept.spoken_s(40_000)) == (30_000, 1.375, 2.0)
    kept.forget_before(50_000)
    assert (kept.begin, kept.end) == (40_000, 40_000)


def test_each_server_is_tried_before_any_wait_and_waits_grow_to_a_bound() -> None:
    servers = Servers(["ws://a", "ws://b:1/x?y=1", "https://c"], random.Random(1))
    tried, waits = [], []
    for _ in range(30):
        assert servers.current is not None
        tried.append(servers.current.name)
        waits.append(servers.wait_s())
        servers.lost()
    assert tried[:4] == ["a", "b:1", "c", "a"]
    assert waits[:4] == [0.0, 0.0, 0.0, 0.0]
    assert all(0.125 <= wait <= 0.25 for wait in waits[4:7])
    assert all(4.0 <= wait <= 8.0 for wait in waits[-3:])
    servers.useful()
    assert servers.wait_s() == 0.0


def test_a_server_that_refused_is_not_tried_again() -> None:
    servers = Servers(["ws://a", "ws://b"])
    first = servers.current
    assert first == Server("ws://a/websocket", "a")
    servers.refused(first, "no key")
    second = servers.current
    assert second is not None and second.name == "b"
    servers.lost()
    assert servers.current == second
    servers.refused(second, "no such model")
    assert servers.current is None
    assert servers.refusals == "a: no key; b: no such model"


@pytest.mark.parametrize(
    "urls", [[], ["gpu:8000"], ["ftp://a"], ["ws://"], ["ws://a:port"], ["ws://a#b"], ["ws://a..b"]]
)
def test_what_is_no_url_is_told_at_once(urls: list[str]) -> None:
    with pytest.raises(ConfigError, match="URL"):
        TranscriptionClient(urls)


def test_a_bound_that_holds_no_utterance_is_an_error() -> None:
    with pytest.raises(ConfigError, match="40 or more"):
        ClientConfig(keep_s=30)
