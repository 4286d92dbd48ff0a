"""The command ``talkpath``.

Exit codes: 0 for success, 1 for a failure, 2 for a bad argument, 130 after Ctrl-C. Errors are one
line on standard error, and a traceback only with ``--debug``. Anything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from talkpath.agent.config import Config, load_config
from talkpath.agent.errors import ConfigError, ModelUnavailable, TalkpathError, UnknownModel

if TYPE_CHECKING:
    from talkpath.agent.models import PullProgress

__all__ = ["main"]

_DEFAULTS = Config()
# Chatty at INFO: a line for each request, candidate pair or step of starting.
_NOISY = ("aioice", "aiortc", "faster_whisper", "httpcore2", "httpx", "httpx2", "uvicorn")


class _Parser(argparse.ArgumentParser):
    """argparse with one line an error, and no guessing of abbreviated flags."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.

    Args:
        argv: arguments without the program's name; those of the process when None.
    """
    # Whisper's and Smart Turn's mel features multiply small matrices: more threads only spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser(arguments).parse_args(arguments)
    try:
        _configure_logging(args)
        code: int = args.handler(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this, Python complains once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except TalkpathError as error:
        if args.debug:
            raise
        _complain(str(error))
        return 2 if isinstance(error, (ConfigError, UnknownModel)) else 1
    except Exception as error:
        if args.debug:
            raise
        _complain(f"unexpected {type(error).__name__}: {error} (--debug shows where)")
        return 1


def _complain(message: str) -> None:
    sys.stderr.write(f"talkpath: {message}\n")


# -- arguments -------------------------------------------------------------------------------


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", help="log everything, and show tracebacks (default: no)"
    )
    settings = _Parser(add_help=False)
    settings.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with settings; the environment (TALKPATH_SECTION_KEY) and flags go over it "
        "(default: none)",
    )
    parser = _Parser(
        prog="talkpath",
        description="Voice agents on your own machine.",
        epilog="`talkpath COMMAND --help` explains a command.",
    )
    version = importlib.metadata.version("talkpath")
    parser.add_argument("--version", action="version", version=f"talkpath {version}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        parents=[common, settings],
        help="serve a bot to callers",
        description="Serve a bot until Ctrl-C. With webrtc, the page to talk to it is at /.",
    )
    _add_run_arguments(run)
    run.set_defaults(handler=_run)

    transcribe = commands.add_parser(
        "transcribe",
        parents=[common, settings],
        help="turn recordings into text or subtitles",
        description="Turn recordings into text or subtitles.",
    )
    _add_whisper_arguments(transcribe)
    if arguments[:1] == ["transcribe"]:  # its module is not needed to parse other commands
        from talkpath.bots.transcribe_command import add_arguments

        add_arguments(transcribe)
    transcribe.set_defaults(handler=_transcribe)

    _add_models_command(commands, common)
    _add_bench_command(commands, common, settings, measures=arguments[:1] == ["bench"])

    doctor = commands.add_parser(
        "doctor",
        parents=[common, settings],
        help="check this machine",
        description="Check this machine; exit code 1 when something needed is missing. "
        "Network checks take up to 15 seconds.",
    )
    doctor.add_argument(
        "--json", action="store_true", help="print JSON instead of lines (default: no)"
    )
    doctor.set_defaults(handler=_doctor)
    return parser


def _add_whisper_arguments(parser: argparse.ArgumentParser) -> None:
    whisper = _DEFAULTS.whisper
    parser.add_argument(
        "--model",
        dest="whisper.model",
        metavar="NAME",
        help=f"Whisper model: a name from `talkpath models list`, or a folder "
        f"(default: {whisper.model})",
    )
    parser.add_argument(
        "--device",
        dest="whisper.device",
        choices=("auto", "cpu", "cuda"),
        help=f"where Whisper runs; auto takes CUDA where there is one (default: {whisper.device})",
    )
    parser.add_argument(
        "--compute-type",
        dest="whisper.compute_type",
        metavar="TYPE",
        help="CTranslate2's type of weights: int8, float16, float32, ...; auto is int8 on a CPU, "
        f"float16 on CUDA (default: {whisper.compute_type})",
    )
    parser.add_argument(
        "--language",
        dest="whisper.language",
        metavar="CODE",
        help="language code such as en or de, or auto to detect it for each utterance "
        f"(default: {whisper.language})",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    server = _DEFAULTS.server
    parser.add_argument("bot", metavar="BOT", help="a bot's name, or the path of a .py file")
    parser.add_argument(
        "--transport",
        dest="server.transport",
        choices=("webrtc", "websocket", "sip"),
        help=f"how callers come in (default: {server.transport})",
    )
    parser.add_argument(
        "--host",
        dest="server.host",
        metavar="ADDRESS",
        help=f"address to listen on; 0.0.0.0 for all (default: {server.host})",
    )
    parser.add_argument(
        "--port",
        dest="server.port",
        type=int,
        metavar="N",
        help=f"TCP port, 0 to 65535; 0 lets the system choose (default: {server.port})",
    )
    parser.add_argument(
        "--ice-server",
        dest="server.ice_servers",
        action="append",
        metavar="URL",
        help="STUN or TURN URL, e.g. stun:stun.example.org:3478; may be repeated (default: none)",
    )
    parser.add_argument(
        "--max-sessions",
        dest="server.max_sessions",
        type=int,
        metavar="N",
        help=f"sessions at once; one more is refused (default: {server.max_sessions})",
    )
    _add_whisper_arguments(parser)
    parser.add_argument(
        "--llm-url",
        dest="reply.url",
        metavar="URL",
        help="base URL of an OpenAI-compatible server, with its key in OPENAI_API_KEY "
        "(default: the language model runs in this process)",
    )
    parser.add_argument(
        "--llm-model",
        dest="reply.model",
        metavar="NAME",
        help="language model at that server, or in the model store, or a .gguf file "
        f"(default: {_DEFAULTS.reply.model})",
    )
    parser.add_argument(
        "--voice",
        dest="voice.model",
        metavar="NAME",
        help=f"Piper voice in the model store, or an .onnx file (default: {_DEFAULTS.voice.model})",
    )


def _add_models_command(commands: Any, common: argparse.ArgumentParser) -> None:
    models = commands.add_parser(
        "models",
        help="list and fetch models",
        description="Models live in $TALKPATH_HOME/models (default: ~/.cache/talkpath/models).",
    )
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        parents=[common],
        help="list the known models with size (MB), state on this machine, and sources",
        description="List the known models with size (MB), state on this machine, and sources.",
    )
    listing.set_defaults(handler=_models_list)
    pull = actions.add_parser(
        "pull",
        parents=[common],
        help="fetch models and print where they are",
        description="Fetch models that are not on this machine yet; print where they are.",
    )
    pull.add_argument("names", nargs="+", metavar="NAME", help="a model's name")
    pull.set_defaults(handler=_models_pull)
    path = actions.add_parser(
        "path",
        parents=[common],
        help="print where a model is",
        description="Print where a model is; exit code 1 when it is not on this machine.",
    )
    path.add_argument("name", metavar="NAME", help="a model's name")
    path.set_defaults(handler=_models_path)


def _add_bench_command(
    commands: Any,
    common: argparse.ArgumentParser,
    settings: argparse.ArgumentParser,
    *,
    measures: bool,
) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure accuracy and latency",
        description="Measure this machine, each time against a peer in the same run. "
        "It needs the test extra.",
    )
    if not measures:  # their modules are not needed to parse other commands
        return
    _configure_loguru("WARNING")  # Pipecat greets when it is imported
    from talkpath.agent.bench import accuracy
    from talkpath.bots import bench_latency

    actions = bench.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, module, what in (
        ("accuracy", accuracy, "word error rate and processor seconds, against faster-whisper"),
        ("latency", bench_latency, "time to the final of one stream, against Pipecat's service"),
    ):
        action = actions.add_parser(
            name,
            parents=[common, settings],
            help=what,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_whisper_arguments(action)
        module.add_arguments(action)
        action.set_defaults(handler=_bench, run=module.run)


def _config(args: argparse.Namespace) -> Config:
    """Settings from file, environment and flags; a flag's destination is its setting's name."""
    flags = {name: value for name, value in vars(args).items() if "." in name}
    return load_config(flags, file=args.config)


# -- commands --------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    config = _config(args)
    if config.server.transport == "sip":
        raise TalkpathError(
            "the telephone (sip) is not available in this release; use webrtc or websocket"
        )
    from talkpath.bots.loader import load_bot

    bot, prepare = load_bot(args.bot)
    module = sys.modules.get(getattr(bot, "__module__", ""))
    _pull(_models_of(config, getattr(module, "MODELS", ("whisper",))))
    # Not before: this takes seconds, and a mistyped name should be told at once.
    from talkpath.agent.runtime import Runtime, set_runtime
    from talkpath.transports.server import serve

    async def run() -> None:
        runtime = Runtime(config)
        set_runtime(runtime)
        try:
            await serve(bot, config, prepare=prepare, name=Path(args.bot).stem)
        finally:
            set_runtime(None)
            await runtime.aclose()

    asyncio.run(run())
    return 0


def _transcribe(args: argparse.Namespace) -> int:
    from talkpath.bots.transcribe_command import run_transcribe

    config = _config(args)
    if any(file.is_file() for file in args.files):  # else the error is quick
        _pull(_models_of(config, ("whisper",)))
    code: int = run_transcribe(args, config)
    return code


def _models_of(config: Config, kinds: Sequence[str]) -> list[str]:
    """Names of the models that a bot's ``MODELS`` asks for: whisper, reply, voice."""
    names = {"whisper": config.whisper.model, "voice": config.voice.model}
    if config.reply.url is None:
        names["reply"] = config.reply.model
    return [names[kind] for kind in kinds if kind in names]


def _pull(names: Sequence[str]) -> None:
    """Fetch what is not here yet; in the main thread, where Ctrl-C ends it, with its progress."""
    from talkpath.agent.models import ModelStore

    store = ModelStore()
    for name in names:
        with _progress(name) as show:
            store.pull(name, progress=show)


def _bench(args: argparse.Namespace) -> int:
    code: int = args.run(args, _config(args))
    return code


def _models_list(args: argparse.Namespace) -> int:
    from talkpath.agent.models import ModelStore

    rows = [("NAME", "KIND", "MB", "STATE", "SOURCES", "WHAT")]
    for spec, state in ModelStore().entries():
        origins = [name for name, has in (("hub", spec.hub), ("index", spec.index)) if has]
        size = f"{spec.size / 1e6:.0f}"
        what = f"{spec.summary} ({spec.licence})"
        rows.append((spec.name, spec.kind, size, state, "+".join(origins), what))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [
            cell.rjust(width) if column == 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        sys.stdout.write("  ".join([*cells, row[5]]) + "\n")
    return 0


def _models_pull(args: argparse.Namespace) -> int:
    from talkpath.agent.models import ModelStore

    store = ModelStore()
    for name in args.names:
        if store.path(name) is None and os.sep not in name:
            store.spec(name)  # a mistyped name is told before anything is fetched
    failures = []
    for name in args.names:
        try:
            with _progress(name) as show:
                path = store.pull(name, progress=show)
            sys.stdout.write(f"{path}\n")
        except ModelUnavailable as error:
            failures.append(error)
    for failure in failures[:-1]:
        _complain(str(failure))
    if failures:
        raise failures[-1]
    return 0


def _models_path(args: argparse.Namespace) -> int:
    from talkpath.agent.models import ModelStore

    path = ModelStore().path(args.name)
    if path is None:
        raise ModelUnavailable(
            f"model {args.name!r} is not on this machine; `talkpath models pull {args.name}` "
            "fetches it"
        )
    sys.stdout.write(f"{path}\n")
    return 0


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Any]:
    """Show a pull on standard error: a bar on a terminal, a line a source elsewhere."""
    from tqdm import tqdm

    bar: Any = None
    told: set[str] = set()

    def show(event: "PullProgress") -> None:
        nonlocal bar
        if event.stage == "waiting":
            sys.stderr.write(f"{name}: another process fetches it, waiting\n")
        # Not before the first bytes: if no source has it, the error is to be the first line.
        if event.stage != "downloading" or event.done == 0:
            return
        label = f"{name} from the {event.source}"
        if event.source not in told:
            told.add(event.source)
            if bar is not None:
                bar.close()
            if sys.stderr.isatty():
                bar = tqdm(
                    total=event.total, unit="B", unit_scale=True, desc=label, file=sys.stderr
                )
            else:
                sys.stderr.write(f"{label}: {event.total / 1e6:.0f} MB\n")
        if bar is not None:
            bar.update(event.done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def _doctor(args: argparse.Namespace) -> int:
    from talkpath.agent.doctor import examine

    checks = examine(_config(args))
    if args.json:
        sys.stdout.write(json.dumps([asdict(check) for check in checks], indent=1) + "\n")
    else:
        for check in checks:
            line = f"{check.status:<4}  {check.name}: {check.found}"
            sys.stdout.write(line + (f" -> {check.advice}" if check.advice else "") + "\n")
    return 1 if any(check.status == "fail" for check in checks) else 0


def _configure_logging(args: argparse.Namespace) -> None:
    """Send all logs to standard error: INFO for `run`, WARNING elsewhere, DEBUG if asked for."""
    level = "DEBUG" if args.debug else "INFO" if args.command == "run" else "WARNING"
    logging.basicConfig(
        level=level, format="%(asctime)s | %(levelname)-8s | %(name)s - %(message)s"
    )
    for name in ("numba", "PIL", *(() if args.debug else _NOISY)):
        logging.getLogger(name).setLevel(logging.WARNING)
    if args.command in ("run", "bench"):  # only Pipecat and what is above it log with loguru
        _configure_loguru(level)


def _configure_loguru(level: str) -> None:
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level=level, diagnose=False)
