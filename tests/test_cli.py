"""The command line as users meet it: exit codes, one line an error, and bots of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from talkpath.agent.config import Config, ServeConfig, WhisperConfig, load_config
from talkpath.agent.doctor import Check, examine
from talkpath.agent.errors import ConfigError, TalkpathError
from talkpath.agent.models import ModelStore
from talkpath.bots.cli import main
from talkpath.bots.loader import bot_names, load_bot

CLOSED = "http://127.0.0.1:9"
TALKPATH = [
    sys.executable,
    "-c",
    "import sys; from talkpath.bots.cli import main; sys.exit(main())",
]

BOT = """
import helper

async def prepare():
    print("prepared by", helper.NAME, flush=True)

async def bot(runner_args):
    pass
"""


def _sealed(home: Path, **variables: str) -> dict[str, str]:
    """An environment with neither hub nor index."""
    sealed = {
        "TALKPATH_HOME": str(home),
        "HF_HOME": str(home),
        "HF_ENDPOINT": CLOSED,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": f"{CLOSED}/simple",
    }
    return {**os.environ, **sealed, **variables}


def _talkpath(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TALKPATH, *arguments], capture_output=True, text=True, timeout=120, **options
    )


def _exit(*arguments: str) -> int:
    """Run the command line here; argparse leaves by SystemExit."""
    try:
        return main(arguments)
    except SystemExit as leaving:
        assert isinstance(leaving.code, int)
        return leaving.code


# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "",
        "run",
        "serve",
        "transcribe",
        "models",
        "models list",
        "models pull",
        "models path",
        "call",
        "doctor",
        "bench",
        "bench accuracy",
        "bench load",
        "bench compare",
        "bench windows",
    ],
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit(*command.split(), "--help") == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: ")
    assert err == ""


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "serve",
        "transcribe",
        "call",
        "doctor",
        "bench accuracy",
        "bench load",
        "bench compare",
        "bench windows",
    ],
)
def test_every_option_states_its_default(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _exit(*command.split(), "--help")
    options = capsys.readouterr().out.partition("options:\n")[2].split("\n  -")
    lacking = [
        option
        for option in options
        if "--help" not in option
        and not option.startswith("-data DIR ")  # it must be given
        and "default: " not in " ".join(option.split())
    ]
    assert lacking == []


def test_defaults_in_help_are_those_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    _exit("run", "--help")
    text = " ".join(capsys.readouterr().out.split())
    server = Config().server
    assert f"(default: {server.port})" in text
    assert f"(default: {server.max_sessions})" in text


def test_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert _exit("--version") == 0
    assert capsys.readouterr().out == f"talkpath {project['project']['version']}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["models"], "the following arguments are required: ACTION"),
        (["models", "pull"], "the following arguments are required: NAME"),
        (["models", "pull", "bsae"], "did you mean 'base'?"),
        (["models", "path", "bsae"], "did you mean 'base'?"),
        (["run"], "the following arguments are required: BOT"),
        (["run", "echo", "--port", "high"], "invalid int value: 'high'"),
        (["run", "echo", "--port", "70000"], "server.port must lie between 0 and 65535"),
        (["run", "echo", "--transport", "pigeon"], "invalid choice: 'pigeon'"),
        (["run", "echo", "--max-sessions", "0"], "server.max_sessions must be 1 or more"),
        (["run", "echo", "--max", "1"], "unrecognized arguments: --max 1"),
        (["run", "echo", "--config", "none.toml"], "cannot read the settings file none.toml"),
        (
            ["run", "echo", "--whisper-server", "me"],
            "whisper.servers: 'me' is no URL of a speech-to",
        ),
        (["run", "nobody"], "there is no bot 'nobody'; known are "),
        (["run", "./nobody.py"], "the bot nobody.py does not exist"),
        (["serve", "--port", "70000"], "serve.port must lie between 0 and 65535"),
        (["serve", "--max-upload", "5X"], "'5X' is no size; 500M and 2G are, or bytes"),
        (["serve", "--max-upload", "1"], "serve.upload_bytes must be 4096 or more"),
        (["serve", "--drain", "-1"], "serve.drain_s must be 0 or more"),
        (["serve", "--max-streams", "0"], "whisper.max_streams must be 1 or more"),
        (["serve", "--tls-key", "key.pem"], "serve.tls_key is of no use without tls_cert"),
        (["serve", "--tls-cert", "none.pem"], "cannot read none.pem: No such file"),
        (["serve", "--api-keys", "none.txt"], "cannot read the file of keys none.txt"),
        (["serve", "--allow-origin", "me"], "'me' is no origin of pages"),
        (["serve", "--host", "0.0.0.0"], "name keys with --api-keys FILE"),
        (["serve", "--model", "bsae", "--port", "0"], "did you mean 'base'?"),
        (["transcribe"], "the following arguments are required: FILE"),
        (["bench"], "the following arguments are required: ACTION"),
        (["bench", "load"], "the following arguments are required: --data"),
        (["bench", "load", "--data", ".", "--streams", "few"], "invalid int value: 'few'"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    answer = _talkpath(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1 and answer.stderr.startswith("talkpath")


def test_flags_become_settings(tmp_path: Path) -> None:
    file = tmp_path / "talkpath.toml"
    file.write_text("[server]\ntransport = 'sip'\nport = 70000\n", encoding="utf-8")
    # The flag replaces the file's impossible port, so only the bot is left to complain of.
    answer = _talkpath("run", "nobody", "--config", str(file), "--port", "7000")
    assert answer.returncode == 2
    assert "there is no bot 'nobody'" in answer.stderr


def test_flags_of_the_speech_to_text_server_become_its_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[Config] = []

    async def run(config: Config) -> None:
        served.append(config)

    monkeypatch.setattr("talkpath.bots.serve_command._run", run)
    assert _exit("serve") == 0
    assert (
        _exit(
            *"""serve --host 0.0.0.0 --port 9000 --model small --device cpu
        --compute-type int8 --language de --api-keys keys.txt --insecure-no-auth
        --allow-origin https://a.example --allow-origin https://b.example --max-streams 100
        --max-streams-per-key 10 --max-upload 1.5M --tls-cert cert.pem --tls-key key.pem
        --drain 12.5""".split()
        )
        == 0
    )
    usual, given = served
    assert usual.serve == ServeConfig()
    assert given.serve == ServeConfig(
        host="0.0.0.0",
        port=9000,
        api_keys_file="keys.txt",
        insecure_no_auth=True,
        allow_origins=("https://a.example", "https://b.example"),
        max_streams_per_key=10,
        upload_bytes=3 * 2**19,
        tls_cert="cert.pem",
        tls_key="key.pem",
        drain_s=12.5,
    )
    assert given.whisper == WhisperConfig(
        model="small", device="cpu", compute_type="int8", language="de", max_streams=100
    )


@pytest.mark.parametrize(
    ("size", "wanted"),
    [("4096", 4096), ("8k", 8192), ("500M", 500 * 2**20), ("2 GiB", 2**31), ("10MB", 10 * 2**20)],
)
def test_sizes_have_units(size: str, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(config: Config) -> None:
        assert config.serve.upload_bytes == wanted

    monkeypatch.setattr("talkpath.bots.serve_command._run", run)
    assert _exit("serve", "--max-upload", size) == 0


def test_the_speech_to_text_server_says_in_help_what_its_settings_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _exit("serve", "--help")
    text = " ".join(capsys.readouterr().out.split())
    serve = ServeConfig()
    assert f"TCP port, 0 to 65535; 0 lets the system choose (default: {serve.port})" in text
    assert f"once the server is to stop (default: {serve.drain_s})" in text
    assert serve.upload_bytes == 2**30 and "500M, 2G (default: 1G)" in text


def test_a_traceback_is_shown_only_when_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n", encoding="utf-8")
    plain = _talkpath("run", str(file))
    assert plain.returncode == 1
    assert plain.stderr == f"talkpath: {file}, line 1: ZeroDivisionError: division by zero\n"
    detailed = _talkpath("run", str(file), "--debug")
    assert detailed.returncode == 1
    assert "Traceback" in detailed.stderr


def test_a_reader_that_leaves_is_no_error() -> None:
    with subprocess.Popen(
        [*TALKPATH, "models", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


# -- models ----------------------------------------------------------------------------------


def test_models_lists_names_and_states(
    model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model("tiny.en")
    assert _exit("models", "list") == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["tiny.en"][1:4] == ["whisper", "78", "ready"]
    assert {"base", "turbo", "smollm2-135m", "piper-en-us-joe"} <= set(rows)


def test_models_path_prints_only_the_path(
    model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = model("tiny.en")
    assert _exit("models", "path", "tiny.en") == 0
    assert _exit("models", "pull", "tiny.en") == 0
    assert capsys.readouterr() == (f"{path}\n{path}\n", "")


def test_models_path_of_an_absent_model_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALKPATH_HOME", str(tmp_path))
    assert _exit("models", "path", "smollm2-135m") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "`talkpath models pull smollm2-135m` fetches it" in err


def test_pulling_without_any_network_says_what_to_do(tmp_path: Path) -> None:
    answer = _talkpath("models", "pull", "tiny.en", env=_sealed(tmp_path))
    assert (answer.returncode, answer.stdout) == (1, "")
    lines = answer.stderr.splitlines()
    assert lines[0].startswith("talkpath: model 'tiny.en' is not on this machine")
    assert "run `talkpath models pull tiny.en` on a connected machine" in lines[0]
    assert len(lines) == 4  # and a line for each source


# -- bots ------------------------------------------------------------------------------------


def test_bots_of_the_project_load() -> None:
    assert {"captions", "echo"} <= set(bot_names())
    bot, _ = load_bot("echo")
    assert callable(bot)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("def bot(:\n", TalkpathError, r"mine\.py, line 1: "),
        ("import nothing_of_this_name\n", TalkpathError, r"mine\.py, line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", TalkpathError, r"mine\.py, line 2: SystemExit: 3"),
        ("", ConfigError, r"has no bot: it needs `async def bot\(runner_args\)`"),
        ("def bot(runner_args): ...\n", ConfigError, "must be a coroutine function"),
        ("async def bot(): ...\n", ConfigError, r"must take one argument \(runner_args\)"),
        (
            "async def bot(runner_args): ...\nasync def prepare(x): ...\n",
            ConfigError,
            "'prepare' in .* must take no argument",
        ),
    ],
)
def test_a_file_without_a_usable_bot_is_explained(
    tmp_path: Path, content: str, error: type[Exception], message: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(content, encoding="utf-8")
    with _import_state(), pytest.raises(error, match=message):
        load_bot(str(file))


@contextlib.contextmanager
def _import_state() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.startswith("talkpath_bot_") or name == "helper":
                del sys.modules[name]


def test_a_bot_may_be_named_like_a_library(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("async def bot(runner_args): ...\n", encoding="utf-8")
    with _import_state():
        bot, prepare = load_bot(str(tmp_path / "json.py"))
        assert bot.__module__ == "talkpath_bot_json"
        assert prepare is None
    assert sys.modules["json"] is json


def test_the_name_of_a_file_here_hints_at_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean \./mine\.py\?"):
        load_bot("mine")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_users_bot_is_served_until_a_signal(
    tmp_path: Path, free_port: int, end: signal.Signals
) -> None:
    (tmp_path / "mine.py").write_text(BOT, encoding="utf-8")
    (tmp_path / "helper.py").write_text("NAME = 'the helper'\n", encoding="utf-8")
    with subprocess.Popen(
        [*TALKPATH, "run", str(tmp_path / "mine.py"), "--port", str(free_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "prepared by the helper\n"
            url = f"http://127.0.0.1:{free_port}"
            assert process.stdout.readline() == f"talkpath: mine is listening at {url}\n"
            with urllib.request.urlopen(f"{url}/healthz") as answer:
                assert answer.status == 200
            process.send_signal(end)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode in (0, 130)
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "lacking"),
    [("", "tiny.en"), ("MODELS = ('voice',)\n", "piper-en-us-joe")],
)
def test_a_bots_models_are_looked_for_before_it_is_served(
    tmp_path: Path, content: str, lacking: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{content}async def bot(runner_args): ...\n", encoding="utf-8")
    answer = _talkpath("run", str(file), "--model", "tiny.en", env=_sealed(tmp_path))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert f"talkpath: model {lacking!r} is not on this machine" in answer.stderr


def test_a_model_that_cannot_be_had_ends_the_speech_to_text_server(tmp_path: Path) -> None:
    answer = _talkpath("serve", "--model", "tiny.en", "--port", "0", env=_sealed(tmp_path))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "talkpath: model 'tiny.en' is not on this machine" in answer.stderr
    assert "Traceback" not in answer.stderr


# -- doctor ----------------------------------------------------------------------------------


def _by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_doctor_finds_this_machine_fit(
    model: Callable[[str], Path], capsys: pytest.CaptureFixture[str], free_port: int
) -> None:
    model("tiny.en")
    config = load_config({"whisper.model": "tiny.en", "server.port": free_port}, environ={})
    checks = _by_name(examine(config))
    assert [check for check in checks.values() if check.status == "fail"] == []
    assert checks[f"port {free_port}"].status == "ok"
    assert "pipecat-ai 1." in checks["packages"].found
    assert checks["model tiny.en"].found == str(ModelStore().path("tiny.en"))


def test_doctor_fails_where_whisper_is_missing_and_out_of_reach(tmp_path: Path) -> None:
    answer = _talkpath("doctor", "--json", env=_sealed(tmp_path))
    checks = {each["name"]: each for each in json.loads(answer.stdout)}
    assert answer.returncode == 1
    assert checks["model base"]["status"] == "fail"
    assert "copy its folder here" in checks["model base"]["advice"]
    assert checks["model hub"]["status"] == checks["package index"]["status"] == "warn"
    assert checks["model smollm2-135m"]["status"] == "warn"


def test_doctor_advises_on_a_port_in_use_and_an_open_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _sealed(tmp_path).items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        config = load_config({"server.host": "0.0.0.0", "server.port": port}, environ={})
        checks = _by_name(examine(config, ModelStore(tmp_path)))
    assert checks[f"port {port}"].status == "warn"
    assert "--port" in checks[f"port {port}"].advice
    assert checks["microphone"].status == "warn"


def test_doctor_prints_a_line_a_check(tmp_path: Path) -> None:
    answer = _talkpath("doctor", env=_sealed(tmp_path))
    assert answer.stderr == ""
    for line in answer.stdout.splitlines():
        assert line.split()[0] in ("ok", "warn", "fail")
        assert line.startswith("ok") or " -> " in line
