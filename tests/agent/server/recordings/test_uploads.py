"""Forms as they come in: whole, broken, endless, or not at all; and never a file left behind."""

import asyncio
import os
import resource
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.server.problems import Problem
from talkpath.agent.server.recordings.uploads import Upload, UploadLimits, receive_upload

LIMITS = UploadLimits(file_bytes=100_000, form_bytes=4_000, fields=5, idle_s=60)
BOUNDARY = "a-boundary"
HEADERS = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
# Beginnings of boundaries are the hard part of a form.
SOUND = b"RIFF\r\n--a-boundar\r\n--a-boundary_\r\n\r\n--" + bytes(range(256)) * 20 + b"\r\n--"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; after the test there is none, open or not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert not _open_in(tmp_path)


def _open_in(folder: Path) -> list[str]:
    """Files there that this process has open, those without a name included."""
    links = []
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the folder's own
    return [link for link in links if link.startswith(str(folder))]


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    extra = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: audio/wav'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FILE = part("file", SOUND, "speech.wav")
# Long enough to be spoiled anywhere, short enough to come byte by byte hundreds of times.
SMALL_FILE = part("file", SOUND[:300] + SOUND[-30:], "speech.wav")


async def cut(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def received(
    body: bytes, size: int = 1000, headers: dict[str, str] = HEADERS, limits: UploadLimits = LIMITS
) -> tuple[Upload, bytes]:
    async with receive_upload(headers, cut(body, size), limits) as upload:
        return upload, upload.content.read()


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
async def test_a_form_is_the_same_however_it_is_cut(size: int) -> None:
    body = form(part("model", b"whisper-1"), FILE, part("prompt", "Grüße".encode()))
    upload, content = await received(body, size)
    assert content == SOUND
    assert upload.name == "speech.wav"
    assert upload.fields == (("model", "whisper-1"), ("prompt", "Grüße"))
    assert upload.content.closed


async def test_the_loop_is_never_blocked_and_the_file_has_no_name(folder: Path) -> None:
    body = form(FILE)
    with blockbuster_ctx():
        async with receive_upload(HEADERS, cut(body, 100), LIMITS):
            names = await asyncio.to_thread(lambda: list(folder.iterdir()))
    if os.name == "posix":
        assert names == []


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        ("talk.mp3", "talk.mp3"),
        ("/etc/passwd", "passwd"),
        ("..", "the recording"),
        ("C:\\\\music\\\\a.wav", "a.wav"),
        ("", "the recording"),
        ("a\x00\x1b[31mb.wav", "a[31mb.wav"),
        ("ä" * 300 + ".wav", "ä" * 96 + ".wav"),
    ],
)
async def test_a_files_name_is_only_a_name(given_name: str, name: str) -> None:
    upload, _ = await received(form(part("file", SOUND, given_name)))
    assert upload.name == name


async def test_a_file_without_a_name_is_a_file() -> None:
    upload, content = await received(form(part("file", SOUND)))
    assert (upload.name, content) == ("the recording", SOUND)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "ends in the middle"),
        (b"no form at all", 400, "broken"),
        (form(FILE)[:-8], 400, "ends in the middle"),
        (FILE[:200], 400, "ends in the middle"),
        (form(part("model", b"x")), 400, "no recording"),
        (f"--{BOUNDARY}--\r\n".encode(), 400, "no recording"),
        (form(FILE, FILE), 400, "more than one file"),
        (form(part("model", b"x", "x.txt"), FILE), 400, "only the field file"),
        (form(part("prompt", b"\xff\xfe"), FILE), 400, "not UTF-8"),
        (form(*[part("a", b"b")] * 6, FILE), 400, "more than 5 fields"),
        (form(part("prompt", b"a" * 5_000), FILE), 413, "4,000 bytes of fields"),
        (b"--a-boundary\r\nX: y\r\n\r\nz\r\n" + form(FILE), 400, "has no name"),
        (b"\r\n" * 4_000 + form(FILE), 413, "bytes of fields"),
        (form(FILE) + b"and more " * 1_000, 413, "bytes of fields"),
        (form(part("file", bytes(100_001), "a.wav")), 413, "more than 100,000 bytes"),
    ],
)
@pytest.mark.parametrize("size", [13, 20_000])
async def test_a_form_that_cannot_be_taken_gets_one_sentence(
    body: bytes, status: int, words: str, size: int
) -> None:
    with pytest.raises(Problem, match=words) as caught:
        await received(body, size)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/mixed; boundary=a", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "a" * 71, 400),
    ],
)
async def test_what_is_no_form_says_how_to_send_one(kind: str, status: int) -> None:
    with pytest.raises(Problem, match=r"multipart/form-data|boundary") as caught:
        await received(form(FILE), headers={"content-type": kind})
    assert caught.value.status == status


async def test_what_says_that_it_is_too_long_is_refused_before_it_comes() -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("nothing is to be read")
        yield b""

    for length in (104_001, 10**30):
        with pytest.raises(Problem, match="100,000 bytes") as caught:
            headers = {**HEADERS, "content-length": str(length)}
            async with receive_upload(headers, never(), LIMITS):
                pass
        assert (caught.value.status, caught.value.param) == (413, "file")


async def test_the_longest_recording_is_taken() -> None:
    body = form(part("file", bytes(100_000), "a.wav"))
    _, content = await received(body, headers={**HEADERS, "content-length": str(len(body))})
    assert len(content) == 100_000


async def test_who_stalls_is_not_waited_for_without_end() -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield FILE[:500]
        await asyncio.Event().wait()

    limits = UploadLimits(file_bytes=100_000, idle_s=0.01)
    with pytest.raises(Problem, match=r"nothing came for 0\.01 s") as caught:
        async with receive_upload(HEADERS, stalling(), limits):
            pass
    assert caught.value.status == 408


async def test_who_sends_a_byte_now_and_then_does_not_keep_a_place() -> None:
    sent = 0

    async def dripping() -> AsyncIterator[bytes]:
        nonlocal sent
        for at in range(len(FILE)):
            sent += 1
            yield FILE[at : at + 1]
            await asyncio.sleep(0.01)

    limits = UploadLimits(file_bytes=100_000, idle_s=1.0, bytes_per_s=10_000)
    with pytest.raises(Problem, match="less than 10000 bytes a second") as caught:
        async with receive_upload(HEADERS, dripping(), limits):
            pass
    assert caught.value.status == 408
    assert sent < len(FILE)


async def test_who_sends_evenly_may_take_longer_than_the_longest_wait() -> None:
    body = form(part("file", bytes(60_000), "a.wav"))

    async def even() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 2_400):
            await asyncio.sleep(0.1)
            yield body[at : at + 2_400]

    limits = UploadLimits(file_bytes=100_000, idle_s=2.4, bytes_per_s=100)
    async with receive_upload(HEADERS, even(), limits) as upload:
        assert len(upload.content.read()) == 60_000


async def test_an_error_on_the_way_comes_out_as_it_is() -> None:
    class Left(Exception):
        pass

    async def leaving() -> AsyncIterator[bytes]:
        yield FILE[:500]
        raise Left

    with pytest.raises(Left):
        async with receive_upload(HEADERS, leaving(), LIMITS):
            pass


async def test_cancelling_leaves_nothing() -> None:
    began = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        for at in range(0, len(FILE), 100):
            yield FILE[at : at + 100]
            began.set()
        await asyncio.Event().wait()

    async def receive() -> None:
        async with receive_upload(HEADERS, slow(), LIMITS):
            pass

    receiving = asyncio.create_task(receive())
    await began.wait()
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving


async def test_a_full_disk_is_told_and_leaves_nothing() -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, most))
    try:
        with pytest.raises(Problem, match="disk has no room") as caught:
            await received(form(part("file", bytes(50_000), "a.wav")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    assert caught.value.status == 507


async def test_a_folder_that_is_not_there_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "nowhere"))
    with pytest.raises(Problem, match="cannot store the recording: No such file") as caught:
        await received(form(FILE))
    assert caught.value.status == 500


async def test_a_long_recording_is_never_in_memory() -> None:
    """As bytes it would take 128 MB."""
    process = psutil.Process()
    block = bytes(2**16)

    async def long() -> AsyncIterator[bytes]:
        yield part("file", b"", "a.wav")[:-2]
        for _ in range(2**11):
            yield block
        yield b"\r\n" + form()

    before = highest = process.memory_info().rss
    async with receive_upload(HEADERS, long(), UploadLimits(file_bytes=2**30)) as upload:
        highest = max(highest, process.memory_info().rss)
        assert await asyncio.to_thread(upload.content.seek, 0, os.SEEK_END) == 2**27
    assert highest - before < 64e6


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.integers(0, len(form(SMALL_FILE))),
    st.integers(0, 50),
    st.integers(1, 700),
)
def test_whatever_comes_only_problems_come_out(junk: bytes, at: int, drop: int, size: int) -> None:
    body = form(part("model", b"x"), SMALL_FILE)
    spoiled = body[:at] + junk + body[at + drop :]

    async def receive() -> None:
        try:
            await received(spoiled, size)
        except Problem as problem:
            assert problem.status in (400, 413)

    asyncio.run(receive())
