"""Arguments that several commands share: one flag for a setting, with the setting's default."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from talkpath.agent.config import Config, load_config
from talkpath.agent.sections import NOISE_FILTERS

__all__ = [
    "LISTENING",
    "SERVER",
    "TURNS",
    "WHISPER",
    "WHISPER_MODEL",
    "Parser",
    "Setting",
    "add_settings",
    "common_arguments",
    "config_of",
    "settings_arguments",
]


class Parser(argparse.ArgumentParser):
    """argparse with one line an error, and no guessing of abbreviated flags."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


@dataclass(frozen=True, slots=True)
class Setting:
    """A flag that sets a setting.

    Attributes:
        flag: as typed.
        name: the setting, ``section.key``.
        help: what it means, without the default.
        metavar: what stands for its value in the help.
        type: how its value is read; bool for a flag without one, which says yes.
        choices: its only values.
        repeats: whether the flag may come several times, each adding a value.
        default: what the help says of the default; the setting's own where it is empty.
    """

    flag: str
    name: str
    help: str
    metavar: str | None = None
    type: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None
    repeats: bool = False
    default: str = ""


WHISPER_MODEL = (
    Setting(
        "--model",
        "whisper.model",
        "Whisper model: a name from `talkpath models list`, or a folder",
        "NAME",
    ),
    Setting(
        "--device",
        "whisper.device",
        "where Whisper runs; auto takes CUDA where there is one",
        choices=("auto", "cpu", "cuda"),
    ),
    Setting(
        "--compute-type",
        "whisper.compute_type",
        "CTranslate2's type of weights: int8, float16, float32, ...; auto is int8 on a CPU, "
        "float16 on CUDA",
        "TYPE",
    ),
)
"""Where Whisper comes from and where it runs."""

WHISPER = (
    *WHISPER_MODEL,
    Setting(
        "--language",
        "whisper.language",
        "language code such as en or de, or auto to detect it for each utterance",
        "CODE",
    ),
)
"""The same, and what it listens for."""

LISTENING = (
    Setting(
        "--noise-filter",
        "speech.noise_filter",
        "takes noise off what is searched for speech; rnnoise needs the noise extra",
        choices=NOISE_FILTERS,
    ),
    Setting(
        "--mute-while-speaking",
        "speech.mute_while_speaking",
        "mute the caller while the bot speaks, for speakerphones without echo cancellation; the "
        "bot cannot be interrupted then",
        type=bool,
        default="no",
    ),
)
"""What reaches the ears of a bot."""

SERVER = (
    Setting(
        "--transport",
        "server.transport",
        "how callers come in",
        choices=("webrtc", "websocket", "sip", "audiosocket"),
    ),
    Setting("--host", "server.host", "address to listen on; 0.0.0.0 for all", "ADDRESS"),
    Setting(
        "--port", "server.port", "TCP port, 0 to 65535; 0 lets the system choose", "N", type=int
    ),
    Setting(
        "--ice-server",
        "server.ice_servers",
        "STUN or TURN URL, e.g. stun:stun.example.org:3478; may be repeated",
        "URL",
        repeats=True,
        default="none",
    ),
    Setting(
        "--max-sessions",
        "server.max_sessions",
        "sessions at once; one more is refused",
        "N",
        type=int,
    ),
)
"""How callers reach a bot."""


TURNS = (
    Setting(
        "--turn-profile",
        "turn.profile",
        "how soon the bot takes its turn and gives it up; auto is the bot's own",
        choices=("auto", "snappy", "balanced", "patient"),
    ),
    Setting(
        "--turn-wait",
        "turn.wait_s",
        "silence in seconds after which a turn is over however unfinished it sounds",
        "SECONDS",
        type=float,
        default="the profile's",
    ),
    Setting(
        "--eager",
        "turn.eager",
        "begin replies before the turn is certainly over",
        type=bool,
        default="the profile's",
    ),
)
"""Whose turn it is."""


def add_settings(parser: argparse.ArgumentParser, *settings: Setting) -> None:
    """Add a flag for each setting; where it is not given, file and environment decide."""
    defaults = Config()
    for setting in settings:
        section, key = setting.name.split(".")
        default = setting.default or getattr(getattr(defaults, section), key)
        help = f"{setting.help} (default: {'none' if default is None else default})"
        options: dict[str, Any] = {"choices": setting.choices, "metavar": setting.metavar}
        if setting.type is bool:
            options = {"action": "store_const", "const": True}
        elif setting.repeats:
            options["action"] = "append"
        else:
            options["type"] = setting.type
        parser.add_argument(setting.flag, dest=setting.name, help=help, **options)


def common_arguments() -> Parser:
    """What every command takes, as a parent of its parser."""
    common = Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", help="log everything, and show tracebacks (default: no)"
    )
    return common


def settings_arguments() -> Parser:
    """What every command with settings takes, as a parent of its parser."""
    settings = Parser(add_help=False)
    settings.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file with settings; the environment (TALKPATH_SECTION_KEY) and flags go over it "
        "(default: none)",
    )
    return settings


def config_of(args: argparse.Namespace) -> Config:
    """Settings from file, environment and flags; a flag's destination is its setting's name.

    Raises:
        ConfigError: a setting does not exist or has an impossible value.
    """
    flags = {name: value for name, value in vars(args).items() if "." in name}
    return load_config(flags, file=args.config)
