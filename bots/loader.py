"""Find a bot: by its name in `talkpath.bots`, or in a user's file.

A bot is a module with ``async def bot(runner_args)``, Pipecat's convention. It may also have
``async def prepare()``, which is awaited once before the first caller is let in.
"""

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import talkpath.bots
from talkpath.agent.errors import ConfigError, TalkpathError

if TYPE_CHECKING:
    from pipecat.runner.types import RunnerArguments

__all__ = ["Bot", "Prepare", "bot_models", "bot_names", "load_bot"]

Bot: TypeAlias = "Callable[[RunnerArguments], Awaitable[None]]"
Prepare: TypeAlias = Callable[[], Awaitable[None]]

_TRIES = 10


def bot_names() -> list[str]:
    """Return the names of the bots that come with talkpath, without importing any."""
    names = []
    for module in pkgutil.iter_modules(talkpath.bots.__path__):
        spec = importlib.util.find_spec(f"talkpath.bots.{module.name}")
        if spec is None or spec.origin is None:
            continue
        tree = _parsed(Path(spec.origin))
        if any(isinstance(node, ast.AsyncFunctionDef) and node.name == "bot" for node in tree.body):
            names.append(module.name)
    return sorted(names)


def bot_models(name_or_path: str) -> tuple[str, ...]:
    """What a bot's ``MODELS`` says that it needs, without importing it: whisper, reply, voice.

    Args:
        name_or_path: as for ``load_bot``.

    Returns:
        The kinds of models; ``whisper`` alone where the file does not say it in so many words.

    Raises:
        ConfigError: there is no such bot or file.
        TalkpathError: the file is not Python.
    """
    file = _find(name_or_path)
    try:
        tree = _parsed(file)
    except (OSError, UnicodeDecodeError, SyntaxError) as error:
        raise TalkpathError(_import_problem(file, error)) from error
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        if any(isinstance(target, ast.Name) and target.id == "MODELS" for target in node.targets):
            with contextlib.suppress(ValueError):  # computed: whoever imports it will know
                return tuple(ast.literal_eval(node.value))
    return ("whisper",)


def load_bot(name_or_path: str) -> tuple[Bot, Prepare | None]:
    """Import a bot.

    Args:
        name_or_path: a name in `bot_names`, or the path of a Python file: anything with a
            separator in it or ``.py`` at its end.

    Returns:
        The bot, and its ``prepare`` where it has one.

    Raises:
        ConfigError: there is no such bot or file, or it has no ``bot`` coroutine.
        TalkpathError: the file exists but cannot be imported.
    """
    file = _find(name_or_path)
    if _is_path(name_or_path):
        module = _import_file(file)
    else:
        module = importlib.import_module(f"talkpath.bots.{name_or_path}")
    bot = _coroutine(module, name_or_path, "bot", arguments=1)
    if bot is None:
        raise ConfigError(f"{name_or_path} has no bot: it needs `async def bot(runner_args)`")
    return bot, _coroutine(module, name_or_path, "prepare", arguments=0)


def _parsed(file: Path) -> ast.Module:
    """A file's syntax tree, parsed again where another thread came in between.

    Python 3.11 counts the depth of a tree in the making once for all threads, and raises a
    SystemError where two are made at a time, as when a model is compiled in a thread.
    """
    source = file.read_text(encoding="utf-8")
    for _ in range(_TRIES - 1):
        with contextlib.suppress(SystemError):
            return ast.parse(source, str(file))
    return ast.parse(source, str(file))


def _is_path(name_or_path: str) -> bool:
    return name_or_path.endswith(".py") or "/" in name_or_path or "\\" in name_or_path


def _find(name_or_path: str) -> Path:
    """The file of a bot."""
    if not _is_path(name_or_path):
        return _find_name(name_or_path)
    file = Path(name_or_path).expanduser()
    if not file.is_file():
        what = "is a folder, not a Python file" if file.is_dir() else "does not exist"
        raise ConfigError(f"the bot {file} {what}")
    return file


def _find_name(name: str) -> Path:
    names = bot_names()
    spec = importlib.util.find_spec(f"talkpath.bots.{name}") if name in names else None
    if spec is not None and spec.origin is not None:
        return Path(spec.origin)
    file = Path(f"{name}.py")
    meant = [f"./{file}"] if file.is_file() else difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {meant[0]}?" if meant else ", or the path of a .py file"
    raise ConfigError(f"there is no bot {name!r}; known are {', '.join(names)}{hint}")


def _import_file(file: Path) -> ModuleType:
    """Import a file under a name of its own, with its folder on the path as ``python FILE`` has."""
    file = file.resolve()
    name = f"talkpath_bot_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"the bot {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise TalkpathError(_import_problem(file, error)) from error
        raise
    return module


def _import_problem(file: Path, error: BaseException) -> str:
    """Say in one line what went wrong, with the line of the user's file."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}, line {error.lineno}: {error.msg}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(file)
    ]
    where = f"{file}, line {lines[-1]}" if lines else str(file)
    return f"{where}: {type(error).__name__}: {error}"


def _coroutine(
    module: ModuleType, where: str, name: str, *, arguments: int
) -> Callable[..., Awaitable[None]] | None:
    """Fetch a module's coroutine function, checked as far as that goes without a call."""
    function = getattr(module, name, None)
    if function is None:
        return None
    call = getattr(function, "__call__", None)  # noqa: B004 - an object may have an async __call__
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)):
        raise ConfigError(f"{name!r} in {where} must be a coroutine function (async def)")
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError as error:
        wanted = "one argument (runner_args)" if arguments else "no argument"
        raise ConfigError(f"{name!r} in {where} must take {wanted}") from error
    checked: Callable[..., Awaitable[None]] = function
    return checked
