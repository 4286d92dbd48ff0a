"""The audio endpoints over real sockets: answers, errors, places, and clients that leave."""

import asyncio
import io
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
from blockbuster import blockbuster_ctx
from openai.types.audio import TranscriptionVerbose
from starlette.routing import Router

from talkpath.agent.audio import FloatArray, float_to_pcm16
from talkpath.agent.server.recordings.rest import rest_routes
from tests.agent.server.serving import serving, the_service
from tests.agent.whisper.helpers import WAIT_S, Gate, Results, Wrapper, backend, until
from tests.speech import clip, join, speech_wav, word_error_rate, write_wav

SHORT = clip("librivox-0880")
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
Fields = Sequence[tuple[str, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; after the test there is none, open or not."""
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    yield spool
    assert list(spool.iterdir()) == []
    assert not open_in(spool)


def open_in(folder: Path) -> list[str]:
    """Files there that this process has open, those without a name included."""
    links = []
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the folder's own
    return [link for link in links if link.startswith(str(folder))]


def the_form(
    sound: bytes | AsyncIterator[bytes], fields: Fields = (), name: str = "speech.wav"
) -> aiohttp.FormData:
    data = aiohttp.FormData()
    for field, value in fields:
        data.add_field(field, value)
    # As bytes a long one would be warned of.
    content = io.BytesIO(sound) if isinstance(sound, bytes) else sound
    data.add_field("file", content, filename=name, content_type="audio/wav")
    return data


async def ask(
    url: str,
    sound: bytes | AsyncIterator[bytes],
    *fields: tuple[str, str],
    name: str = "speech.wav",
    path: str = TRANSCRIPTIONS,
) -> tuple[int, Any]:
    """Status and body of an answer: JSON as an object, all else as text."""
    async with (
        aiohttp.ClientSession(url) as http,
        http.post(path, data=the_form(sound, fields, name)) as response,
    ):
        text = await response.text()
        is_json = response.content_type == "application/json"
        if response.status != 200:
            assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}
        return response.status, json.loads(text) if is_json else text


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream, and their names where they have one."""
    found = []
    for block in text.strip().split("\n\n"):
        *name, data = block.split("\n")
        found.append({"name": name, **json.loads(data.removeprefix("data: "))})
    return found


def wav(tmp_path: Path, names: Sequence[str] | None = None, gap_s: float = 2.5) -> bytes:
    return speech_wav(tmp_path / "speech.wav", names, gap_s=gap_s).read_bytes()


def right(text: str, *names: str) -> bool:
    said = " ".join(clip(name).text for name in names or (SHORT.id,))
    return word_error_rate([said], [text]) <= 0.35


class _Leaving:
    """A client that sends what it likes, and leaves when it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, body: bytes, *, length: int | None = None) -> None:
        """Begin a request; more may follow where the length says so."""
        head = (
            f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@asynccontextmanager
async def leaving(url: str) -> AsyncIterator[_Leaving]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield _Leaving(reader, writer)
    finally:
        writer.close()


def plain_form(sound: bytes, **fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return ("".join(parts) + head).encode() + sound + b"\r\n--b--\r\n"


# -- answers ---------------------------------------------------------------------------------


async def test_verbose_json_has_every_field_of_the_packages_type(tmp_path: Path) -> None:
    names = ("librivox-0880", "librivox-0930")
    sound = wav(tmp_path, names)
    wanted = [
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ]
    async with serving() as url:
        status, answer = await ask(url, sound, *wanted)
    assert status == 200
    verbose = TranscriptionVerbose.model_validate(answer, strict=True)
    assert not verbose.model_extra or set(verbose.model_extra) == {"task"}
    assert right(verbose.text, *names)
    assert verbose.language == "english"
    length_s = (len(sound) - 44) / 32_000
    assert verbose.duration == pytest.approx(length_s, abs=0.01)
    assert verbose.usage is not None and verbose.usage.seconds == verbose.duration
    assert verbose.segments and verbose.words
    assert "".join(segment.text for segment in verbose.segments) == verbose.text
    assert " ".join(word.word for word in verbose.words) == verbose.text
    assert [segment.id for segment in verbose.segments] == list(range(len(verbose.segments)))
    last_s = 0.0
    for segment in verbose.segments:
        assert last_s <= segment.start < segment.end <= length_s
        assert segment.seek / 100 <= segment.start + 0.01
        assert -1 < segment.avg_logprob < 0 < segment.compression_ratio < 2.4
        assert 0 <= segment.no_speech_prob < 0.6
        assert segment.temperature == 0.0
        assert segment.tokens and all(0 <= token < 51_864 for token in segment.tokens)
        last_s = segment.end
    times = [time for word in verbose.words for time in (word.start, word.end)]
    assert times == sorted(times)
    # The second sentence was decoded apart, so its figures are others.
    assert verbose.segments[0].seek < verbose.segments[-1].seek
    assert verbose.segments[0].avg_logprob != verbose.segments[-1].avg_logprob


@pytest.mark.parametrize(
    ("granularities", "keys"),
    [((), {"segments"}), (("segment",), {"segments"}), (("word",), {"words"})],
)
async def test_verbose_json_lists_what_was_asked_for(
    granularities: Sequence[str], keys: set[str]
) -> None:
    fields = [("timestamp_granularities[]", value) for value in granularities]
    async with serving() as url:
        _, answer = await ask(
            url, SHORT.path.read_bytes(), ("response_format", "verbose_json"), *fields
        )
    assert answer.keys() & {"segments", "words"} == keys


async def test_a_stream_says_it_piece_by_piece(tmp_path: Path) -> None:
    names = ("librivox-0880", "librivox-0890", "librivox-0930")
    sound = wav(tmp_path, names)
    async with serving() as url:
        _, text = await ask(url, sound, ("stream", "true"), ("include[]", "logprobs"))
        _, whole = await ask(url, sound, ("include[]", "logprobs"))
    *deltas, done = events(text)
    assert len(deltas) >= len(names)
    assert {item["type"] for item in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert "".join(item["delta"] for item in deltas) == done["text"] == whole["text"]
    assert right(done["text"], *names)
    for item in deltas:
        assert "".join(each["token"] for each in item["logprobs"]) == item["delta"]
    assert [each for item in deltas for each in item["logprobs"]] == done["logprobs"]
    assert whole["logprobs"] == done["logprobs"]
    for each in done["logprobs"]:
        assert bytes(each["bytes"]).decode() == each["token"]
        assert each["logprob"] <= 0


@pytest.mark.parametrize("form", ["json", "verbose_json", "srt"])
async def test_the_loop_is_never_blocked(form: str, tmp_path: Path) -> None:
    sound = wav(tmp_path)
    async with serving() as url:
        with blockbuster_ctx():
            status, _ = await ask(url, sound, ("response_format", form))
    assert status == 200


async def test_nobody_speaks_in_it(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "a.wav", np.zeros(32_000, np.float32)).read_bytes()
    async with serving() as url:
        assert (await ask(url, sound))[1]["text"] == ""
        _, verbose = await ask(url, sound, ("response_format", "verbose_json"))
        assert (verbose["text"], verbose["segments"], verbose["duration"]) == ("", [], 2.0)
        assert (await ask(url, sound, ("response_format", "text")))[1] == "\n"
        assert (await ask(url, sound, ("response_format", "srt")))[1] == ""
        assert (await ask(url, sound, ("response_format", "vtt")))[1] == "WEBVTT\n"
        (done,) = events((await ask(url, sound, ("stream", "true")))[1])
        assert (done["type"], done["text"]) == ("transcript.text.done", "")


async def test_the_language_is_given_by_code_or_name_or_detected() -> None:
    # Three words: in a wrong language a model goes astray on more, for half a minute.
    sound = clip("cards-001").path.read_bytes()
    verbose = ("response_format", "verbose_json")
    async with the_service({"whisper.model": "base"}, model="base") as service:
        async with serving(service) as url:
            for fields, name in [
                ([], "english"),
                ([("language", "auto")], "english"),
                ([("language", "")], "english"),
                ([("language", "en-US")], "english"),
                ([("language", "German")], "german"),
                ([("language", "de")], "german"),
                ([("languages[]", "fr"), ("languages[]", "es")], {"french", "spanish"}),
            ]:
                status, answer = await ask(url, sound, verbose, *fields)
                assert status == 200
                assert answer["language"] in ({name} if isinstance(name, str) else name), fields
            status, answer = await ask(url, sound, ("language", "klingon"))
            assert (status, answer["error"]["param"]) == (400, "language")
            assert "klingon" in answer["error"]["message"]


async def test_a_translation_is_english_and_says_so() -> None:
    async with the_service({"whisper.model": "base"}, model="base") as service:
        async with serving(service) as url:
            status, answer = await ask(
                url,
                SHORT.path.read_bytes(),
                ("response_format", "verbose_json"),
                ("language", "en"),
                path=TRANSLATIONS,
            )
    assert status == 200
    assert (answer["task"], answer["language"]) == ("translate", "english")
    assert right(answer["text"])


async def test_prompt_keywords_and_temperature_take_effect() -> None:
    sound = clip("librivox-0870").path.read_bytes()
    async with serving() as url:
        for field in ("keywords[]", "keywords", "prompt"):
            _, answer = await ask(url, sound, (field, "Jon Dashwoode"))
            assert "Dashwoode" in answer["text"], field
        _, answer = await ask(
            url, sound, ("temperature", "0.1"), ("response_format", "verbose_json")
        )
        assert {segment["temperature"] for segment in answer["segments"]} == {0.1}


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.webm", "a.m4a", "a.mp4", "noname"])
async def test_what_ffmpeg_reads_is_read(
    name: str, tmp_path: Path, need_tool: Callable[[str], str]
) -> None:
    path = tmp_path / (name if "." in name else "a.ogg")
    command = [need_tool("ffmpeg"), "-loglevel", "error", "-i", str(SHORT.path), str(path)]
    await asyncio.to_thread(subprocess.run, command, check=True)
    async with serving() as url:
        status, answer = await ask(url, path.read_bytes(), name=name)
    assert status == 200
    assert right(answer["text"])


async def test_what_of_a_recording_cannot_be_read_is_told(tmp_path: Path) -> None:
    sound = wav(tmp_path, ["librivox-0880", "librivox-0890"])[: 44 + 32_000 * 5]
    async with serving() as url:
        _, answer = await ask(url, sound, name="cut.wav")
        assert right(answer["text"])
        assert "cut.wav is incomplete" in answer["warning"]
        _, text = await ask(url, sound, ("stream", "true"))
        assert "is incomplete" in events(text)[-1]["warning"]


# -- models ----------------------------------------------------------------------------------


async def test_there_is_one_model_whatever_its_name() -> None:
    name = "openai/whisper-tiny.en"
    async with the_service({"whisper.model": name}) as service, serving(service) as url:
        async with aiohttp.ClientSession(url) as http:
            async with http.get("/v1/models") as response:
                (model,) = (await response.json())["data"]
            assert model["id"] == name
            async with http.get(f"/v1/models/{name}") as response:
                assert await response.json() == model
            async with http.get("/v1/models/whisper-1") as response:
                assert response.status == 404
                assert name in (await response.json())["error"]["message"]
        for asked in ([], [("model", "")], [("model", "whisper-1")], [("model", name)]):
            status, answer = await ask(url, SHORT.path.read_bytes(), *asked)
            assert status == 200 and right(answer["text"])


# -- requests that are refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ([("shout", "yes")], "shout", "no field"),
        ([("diarize", "true")], "diarize", "speakers"),
        ([("max_speakers", "2")], "max_speakers", "speakers"),
        ([("response_format", "diarized_json")], "response_format", "speakers"),
        ([("known_speaker_names[]", "me")], "known_speaker_names", "speakers"),
        ([("response_format", "xml")], "response_format", "json or text or srt"),
        ([("temperature", "2")], "temperature", "from 0 to 1"),
        ([("temperature", "NaN")], "temperature", "from 0 to 1"),
        ([("temperature", "warm")], "temperature", "number"),
        ([("temperature", "9" * 5000)], "temperature", "number"),
        ([("temperature", "[" * 5000)], "temperature", "number"),
        ([("stream", "maybe")], "stream", "true or false"),
        ([("language", "de")], "language", "English only"),
        ([("model", "a"), ("model", "b")], "model", "twice"),
        ([("timestamp_granularities[]", "word")], "timestamp_granularities", "verbose_json"),
        ([("timestamp_granularities[]", "letter")], "timestamp_granularities", "segment and word"),
        ([("include[]", "everything")], "include", "logprobs only"),
        ([("include[]", "logprobs"), ("response_format", "text")], "include", "json"),
        ([("stream", "true"), ("response_format", "srt")], "response_format", "json or text"),
        ([("chunking_strategy", "sometimes")], "chunking_strategy", "object"),
        ([("chunking_strategy", '{"threshold": 0.5}')], "chunking_strategy.type", "missing"),
        ([("chunking_strategy[type]", "vad")], "chunking_strategy.type", "server_vad"),
    ],
)
async def test_a_field_that_cannot_be_taken_is_named(
    fields: Fields, param: str, words: str
) -> None:
    async with serving() as url:
        status, answer = await ask(url, SHORT.path.read_bytes(), *fields)
    error = answer["error"]
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert words in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        [("chunking_strategy", "auto")],
        [("chunking_strategy", '{"type": "server_vad", "silence_duration_ms": 200}')],
        [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "0.6")],
        [("diarize", "false"), ("stream", "False"), ("prompt", "")],
        [("timestamp_granularities", "segment")],
    ],
)
async def test_what_clients_send_without_need_is_taken(fields: Fields) -> None:
    async with serving() as url:
        status, answer = await ask(url, SHORT.path.read_bytes(), *fields)
    assert status == 200
    assert right(answer["text"])


def strange_files(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    """Names, contents, and what is said of them."""
    yield "empty.wav", b"", "empty.wav is empty"
    yield "words.wav", b"These are words, but nobody speaks them.\n" * 50, "not an audio file"
    yield "noise.mp3", np.random.default_rng(1).bytes(50_000), "not an audio file"
    headers = write_wav(folder / "headers.wav", np.zeros(0, np.float32)).read_bytes()
    yield "headers.wav", headers, "no audio is in it"
    silent = folder / "silent.mp4"
    with av.open(str(silent), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(picture.encode(image))
        container.mux(picture.encode(None))
    yield "silent.mp4", silent.read_bytes(), "has no audio in it"
    # Playlists of a file that lies on the server.
    secret = folder / "secret.wav"
    shutil.copy(SHORT.path, secret)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{secret}\n#EXT-X-ENDLIST\n"
    yield "list.m3u8", playlist.encode(), "not an audio file"
    yield "list.ffconcat", f"ffconcat version 1.0\nfile {secret.name}\n".encode(), "be read"
    yield str(secret), b"nothing", "secret.wav is not an audio file"


async def test_what_is_no_recording_gets_one_sentence_with_its_name(tmp_path: Path) -> None:
    async with serving() as url:
        for name, content, words in strange_files(tmp_path):
            for fields in ((), (("stream", "true"),)):
                status, answer = await ask(url, content, *fields, name=name)
                error = answer["error"]
                assert (status, error["param"]) == (400, "file"), name
                assert words in error["message"] and "\n" not in error["message"]
                assert str(tmp_path) not in error["message"]


async def test_a_recording_with_more_sound_than_there_may_be_is_refused() -> None:
    """A few megabytes of silence can be years."""
    sound = SHORT.path.read_bytes()
    async with serving({"serve.recording_s": 2.0}) as url:
        for fields in ((), (("stream", "true"),)):
            status, answer = await ask(url, sound, *fields, name="a.wav")
            assert (status, answer["error"]["code"]) == (400, "invalid_audio")
            assert answer["error"]["message"] == "a.wav has more than 2 s of sound"
    async with serving({"serve.recording_s": 3.5}) as url:
        status, answer = await ask(url, sound)
        assert status == 200 and right(answer["text"])


async def test_a_key_has_no_more_places_for_recordings_than_it_may() -> None:
    gate = Gate(backend("tiny.en"))
    settings = {"serve.api_keys": ("ann", "bob"), "serve.max_uploads_per_key": 1}
    sound = SHORT.path.read_bytes()

    async def as_(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession(url, headers=headers) as http,
            http.post(TRANSCRIPTIONS, data=the_form(sound)) as response,
        ):
            if response.status == 429:
                assert int(response.headers["Retry-After"]) > 0
                assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
            return response.status

    async with the_service(settings, model=gate) as service, serving(service) as url:
        first = asyncio.create_task(as_("ann"))
        await until(lambda: gate.batches)
        assert await as_("ann") == 429
        second = asyncio.create_task(as_("bob"))
        await until(lambda: service.admission.uploads == 2)
        gate.open()
        assert (await first, await second, await as_("ann")) == (200, 200, 200)


async def test_what_is_no_form_is_refused() -> None:
    async with serving() as url, aiohttp.ClientSession(url) as http:
        bodies: list[tuple[dict[str, Any], int]] = [
            ({"json": {"file": "x"}}, 415),
            ({"data": b""}, 415),
            ({"data": {"file": "x"}}, 415),
            ({"data": the_form(b"x", [("a", "b")] * 100)}, 400),
        ]
        for body, status in bodies:
            async with http.post(TRANSCRIPTIONS, **body) as response:
                assert response.status == status
                assert "error" in await response.json()
        form = aiohttp.FormData({"model": "x"}, default_to_multipart=True)
        async with http.post(TRANSCRIPTIONS, data=form) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "file"


async def test_an_english_model_says_that_it_cannot_translate() -> None:
    async with serving() as url:
        status, answer = await ask(url, SHORT.path.read_bytes(), path=TRANSLATIONS)
    assert status == 400
    assert "tiny.en knows English only and cannot translate" in answer["error"]["message"]


async def test_a_recording_that_is_too_long_is_refused_before_it_comes() -> None:
    async with serving({"serve.upload_bytes": 100_000}) as url, leaving(url) as client:
        await client.send(b"", length=2**31)
        async with asyncio.timeout(WAIT_S):
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b" 413 " in head.splitlines()[0]
            assert b"100,000 bytes" in await client.reader.readuntil(b"}}")


async def test_a_recording_that_does_not_tell_its_length_is_counted() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(20_000)

    async with the_service({"serve.upload_bytes": 100_000}) as service, serving(service) as url:
        status, answer = await ask(url, endless())
        assert (status, answer["error"]["param"]) == (413, "file")
        assert service.admission.uploads == 0
        status, answer = await ask(url, SHORT.path.read_bytes()[:90_000])
        assert status == 200


# -- places, and clients that leave ----------------------------------------------------------


async def test_one_recording_too_many_is_told_to_come_back() -> None:
    gate = Gate(backend("tiny.en"))
    settings = {"serve.max_uploads": 1}
    sound = SHORT.path.read_bytes()
    async with the_service(settings, model=gate) as service, serving(service) as url:
        first = asyncio.create_task(ask(url, sound))
        await until(lambda: gate.batches)
        async with (
            aiohttp.ClientSession(url) as http,
            http.post(TRANSCRIPTIONS, data=the_form(sound)) as response,
        ):
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert "1 recording at once" in (await response.json())["error"]["message"]
        gate.open()
        for status, answer in (await first, await ask(url, sound)):
            assert status == 200 and right(answer["text"])
        assert service.metrics.uploads.value == 2
        assert service.metrics.denied.values == {"upload": 1}


async def test_the_log_has_a_line_for_each_recording_and_no_word_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as url:
        _, answer = await ask(url, SHORT.path.read_bytes())
        assert right(answer["text"])
        await ask(url, b"no sound")
    lines = [item for item in caplog.messages if item.startswith("recording ended")]
    assert lines == [
        f"recording ended: no key, {answer['usage']['seconds']:.1f} s, transcribed",
        "recording ended: no key, 0.0 s, 400 invalid_audio",
    ]
    assert answer["text"] not in caplog.text


async def test_a_client_that_vanishes_while_it_sends_gives_its_place_back(folder: Path) -> None:
    body = plain_form(SHORT.path.read_bytes())
    async with the_service() as service, serving(service) as url:
        async with leaving(url) as client:
            await client.send(body[: len(body) // 2], length=len(body))
            await until(lambda: open_in(folder) or os.name != "posix")
            assert service.admission.uploads == 1
            await client.leave()
            await until(lambda: not service.admission.uploads)
        assert not open_in(folder)


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_a_client_that_leaves_while_it_is_decoded_stops_the_work(
    stream: str, tmp_path: Path, folder: Path
) -> None:
    gate = Gate(backend("tiny.en"))
    async with the_service(model=gate) as service, serving(service) as url:
        async with leaving(url) as client:
            await client.send(plain_form(wav(tmp_path), stream=stream))
            await until(lambda: service.engine.waiting >= 5)
            await client.leave()
            await until(lambda: not service.admission.uploads)
        assert service.engine.waiting == 0
        assert not open_in(folder)
        gate.open()


async def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_the_work(
    tmp_path: Path, folder: Path
) -> None:
    sound = join(["librivox-0880", "librivox-0930"] * 20, gap_s=2.5)
    body = plain_form(write_wav(tmp_path / "a.wav", sound).read_bytes(), stream="true")
    async with the_service() as service, serving(service) as url:
        async with leaving(url) as client:
            await client.send(body)
            async with asyncio.timeout(WAIT_S):
                await client.reader.readuntil(b"transcript.text.delta")
            await client.leave()
            await until(lambda: not service.admission.uploads)
        assert service.engine.statistics.decoded < 40
        assert service.engine.waiting == 0
        assert not open_in(folder)


async def test_a_client_that_does_not_read_stops_the_work(tmp_path: Path, folder: Path) -> None:
    """Its socket would take long to fill, so the server's end of it is the test's."""
    body = plain_form(wav(tmp_path), stream="true")
    requests = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if requests:
            return requests.pop()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "POST",
        "path": TRANSCRIPTIONS,
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
    }
    async with the_service({"serve.stalled_s": 0.05}) as service:
        async with asyncio.timeout(WAIT_S):
            await Router(rest_routes(service))(scope, receive, send)
        assert [message["type"] for message in sent] == [
            "http.response.start",
            "http.response.body",
        ]
        assert service.admission.uploads == service.engine.waiting == 0
        assert not open_in(folder)


class _Failing(Wrapper):
    """Cannot decode what is longer than five seconds."""

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        if any(len(item) > 5 * 16_000 for item in audio):
            raise RuntimeError("out of memory, or so")
        return super().encode(audio, bucket, padding)


async def test_a_failure_on_the_way_is_the_last_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = wav(tmp_path, ["librivox-0880", "librivox-0870"])
    async with the_service(model=_Failing(backend("tiny.en"))) as service:
        async with serving(service) as url:
            status, text = await ask(url, sound, ("stream", "true"))
            *deltas, last = events(text)
            assert status == 200
            assert right("".join(item["delta"] for item in deltas))
            assert (last["name"], last["type"]) == (["event: error"], "error")
            assert last["error"]["type"] == "server_error"
            status, answer = await ask(url, sound)
            assert (status, answer["error"]["code"]) == (500, "transcription_failed")
            assert "a recording was not transcribed" in caplog.text
            # Before the first text there is a status for it.
            status, _ = await ask(url, wav(tmp_path, ["librivox-0870"]), ("stream", "true"))
            assert status == 500


async def test_a_live_stream_goes_before_the_pieces_of_a_recording(tmp_path: Path) -> None:
    gate = Gate(backend("tiny.en"))
    async with the_service(model=gate) as service, serving(service) as url:
        recording = asyncio.create_task(ask(url, wav(tmp_path)))
        # One piece is at the only worker, and the others wait.
        await until(lambda: service.engine.waiting >= 5)
        live, length = Results(), round(1.7 * 16_000)
        stream = service.engine.open_stream(live, partials=False)
        stream.feed(float_to_pcm16(SHORT.samples()[:length]))
        stream.speech_started(1.7)
        stream.speech_stopped(0.0)
        gate.open()
        await until(lambda: live.finals)
        stream.close()
        status, answer = await recording
        assert status == 200 and len(answer["text"]) > 200
    assert gate.batches[1] == [length]
    assert len(gate.batches) > 5
