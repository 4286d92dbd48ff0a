"""The command ``talkpath``.

Exit codes: 0 for success, 1 for a failure, 2 for a bad argument, 130 after Ctrl-C. Errors are one
line on standard error, and a traceback only with ``--debug``. Anything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

import argparse
import asyncio
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from talkpath.agent.errors import ConfigError, TalkpathError, UnknownModel
from talkpath.bots.arguments import (
    LISTENING,
    SERVER,
    TURNS,
    WHISPER,
    Parser,
    Setting,
    add_settings,
    common_arguments,
    config_of,
    settings_arguments,
)
from talkpath.bots.call_command import add_call_command
from talkpath.bots.models_command import add_models_command, models_of, pull
from talkpath.bots.process import configure_logs, configure_loguru
from talkpath.bots.serve_command import add_serve_command
from talkpath.bots.sip_command import TELEPHONE, TELEPHONE_SERVER, run_telephone

__all__ = ["main"]

_ELSEWHERE = (
    Setting(
        "--whisper-server",
        "whisper.servers",
        "speech-to-text server (talkpath serve), such as ws://gpu-1:8000, with its key in "
        "TALKPATH_WHISPER_API_KEY; may be repeated: the next one is for when the first one fails",
        "URL",
        repeats=True,
        default="Whisper runs in this process",
    ),
)
_REPLY = (
    Setting(
        "--llm-url",
        "reply.url",
        "base URL of an OpenAI-compatible server, with its key in TALKPATH_REPLY_API_KEY",
        "URL",
        default="the language model runs in this process",
    ),
    Setting(
        "--llm-model",
        "reply.model",
        "language model at that server, or in the model store, or a .gguf file",
        "NAME",
        default="the only one at that server; smollm2-135m without one",
    ),
    Setting(
        "--llm-fallback-url",
        "reply.fallback_url",
        "OpenAI-compatible server that answers when the first one fails, with its key in "
        "TALKPATH_REPLY_FALLBACK_API_KEY",
        "URL",
    ),
    Setting(
        "--llm-fallback-model",
        "reply.fallback_model",
        "language model there; without that URL, one in the model store",
        "NAME",
        default="no fallback",
    ),
    Setting(
        "--voice-service",
        "voice.service",
        "what speaks: piper in this process, openai at any server with OpenAI's /v1/audio/speech, "
        "or package.module:ClassName of a TTS service of Pipecat's",
        "NAME",
    ),
    Setting(
        "--voice",
        "voice.model",
        "Piper voice in the model store, or an .onnx file; at another service, its model",
        "NAME",
        default="piper-en-us-joe",
    ),
)
_WRITTEN = (
    Setting(
        "--captions-folder",
        "captions.folder",
        "folder where the captions bot writes each call's captions",
        "DIR",
        default="none are written",
    ),
    Setting(
        "--captions-format",
        "captions.format",
        "format of these captions",
        choices=("text", "srt", "vtt", "json"),
    ),
    Setting(
        "--notes-folder",
        "notes.folder",
        "folder where the notes bot writes each call's sound and words",
        "DIR",
    ),
    Setting(
        "--notes-database",
        "notes.database",
        "SQLite database where the notes bot writes them instead",
        "FILE",
        default="none",
    ),
)


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
    common, settings = common_arguments(), settings_arguments()
    parser = Parser(
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
    run.add_argument("bot", metavar="BOT", help="a bot's name, or the path of a .py file")
    add_settings(run, *SERVER, *WHISPER, *LISTENING, *TURNS, *_ELSEWHERE, *_REPLY, *_WRITTEN)
    add_settings(run, *TELEPHONE, *TELEPHONE_SERVER)
    run.set_defaults(handler=_run)

    add_serve_command(commands, common, settings)

    call = add_call_command(commands, common, settings)
    add_settings(call, *WHISPER, *_ELSEWHERE, *_REPLY, *TELEPHONE)

    transcribe = commands.add_parser(
        "transcribe",
        parents=[common, settings],
        help="turn recordings into text or subtitles",
        description="Turn recordings into text or subtitles.",
    )
    add_settings(transcribe, *WHISPER)
    if arguments[:1] == ["transcribe"]:  # its module is not needed to parse other commands
        from talkpath.bots.transcribe_command import add_arguments

        add_arguments(transcribe)
    transcribe.set_defaults(handler=_transcribe)

    add_models_command(commands, common)

    bench = commands.add_parser(
        "bench",
        help="measure accuracy, latency and load",
        description="Measure this machine, each time against a peer in the same run. "
        "It needs the bench extra.",
    )
    if arguments[:1] == ["bench"]:  # the same
        configure_loguru("WARNING")  # Pipecat greets when it is imported
        from talkpath.bots.bench_command import add_bench_actions

        add_bench_actions(bench, [common, settings])
    bench.set_defaults(handler=_bench)

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


# -- commands --------------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    config = config_of(args)
    if config.server.transport == "sip":
        return run_telephone(args.bot, config, debug=args.debug)
    from talkpath.bots.loader import load_bot

    bot, prepare = load_bot(args.bot)
    module = sys.modules.get(getattr(bot, "__module__", ""))
    kinds = set(getattr(module, "MODELS", ("whisper",)))
    if config.whisper.servers:
        kinds.discard("whisper")
    pull(models_of(config, sorted(kinds)))
    # Not before: this takes seconds, and a mistyped name should be told at once.
    from talkpath.agent.runtime import Runtime, set_runtime

    if config.server.transport == "audiosocket":
        from talkpath.transports.asterisk.audiosocket import serve_audiosocket as serve
    else:
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

    config = config_of(args)
    if any(file.is_file() for file in args.files):  # else the error is quick
        pull(models_of(config, ("whisper",)))
    code: int = run_transcribe(args, config)
    return code


def _bench(args: argparse.Namespace) -> int:
    config = config_of(args)
    pull(models_of(config, args.models))
    code: int = args.bench(args, config)
    return code


def _doctor(args: argparse.Namespace) -> int:
    from talkpath.agent.doctor import examine

    checks = examine(config_of(args))
    if args.json:
        sys.stdout.write(json.dumps([asdict(check) for check in checks], indent=1) + "\n")
    else:
        for check in checks:
            line = f"{check.status:<4}  {check.name}: {check.found}"
            sys.stdout.write(line + (f" -> {check.advice}" if check.advice else "") + "\n")
    return 1 if any(check.status == "fail" for check in checks) else 0


def _configure_logging(args: argparse.Namespace) -> None:
    """Send all logs to standard error: INFO of servers, WARNING elsewhere, DEBUG if asked for."""
    serves = args.command in ("run", "serve")
    above = serves or args.command in ("bench", "call")
    level = "DEBUG" if args.debug else "INFO" if serves else "WARNING"
    configure_logs(level, debug=args.debug)
    if above:  # only Pipecat and what is above it log with loguru
        configure_loguru("WARNING" if args.command == "serve" and not args.debug else level)
