"""The telephone's commands, as far as they come without a call: flags, and errors."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from talkpath.agent.config import Config, SipConfig
from talkpath.agent.errors import ConfigError, TalkpathError
from talkpath.bots.cli import main
from talkpath.bots.loader import bot_models, load_bot
from talkpath.bots.sip_command import routed_bots

WITHOUT = (
    "import sys; sys.modules[{!r}] = None; from talkpath.bots.cli import main; sys.exit(main())"
)


def _exit(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as leaving:
        assert isinstance(leaving.code, int)
        return leaving.code


def test_flags_become_settings_of_the_telephone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sales = tmp_path / "sales.py"
    sales.write_text("MODELS = ()\nasync def bot(runner_args): ...\n")
    served: list[tuple[Sequence[str], Config]] = []

    async def serve(bots: Sequence[str], config: Config, level: str) -> None:
        served.append((bots, config))

    monkeypatch.setattr("talkpath.bots.sip_command._serve", serve)
    assert _exit("run", "loopback", "--transport", "sip") == 0
    flags = f"""--sip-port 5070 --sip-tls-port 5071 --tls-cert cert.pem --tls-key key.pem
        --public-address 192.0.2.1 --rtp-ports 20000-20100 --codecs g722,pcmu --srtp require
        --route +49*=loopback --route X-Queue:sales*={sales} --dispatch rules.py:dispatch
        --dial-plan +49* --dial-plan sip:*@example.org --max-calls 20 --calls-per-worker 5
        --sip-workers 2
        --record-folder calls --sip-user anna:secret --sip-user ben:hidden
        --sip-allow 192.0.2.0/24 --sip-drain 12.5"""
    assert _exit("run", "loopback", "--transport", "sip", *flags.split()) == 0
    assert served[0] == (["loopback"], served[0][1])
    assert served[0][1].sip == SipConfig()
    bots, config = served[1]
    assert bots == ["loopback", str(sales)]
    assert config.sip == SipConfig(
        port=5070,
        tls_port=5071,
        tls_cert="cert.pem",
        tls_key="key.pem",
        public_address="192.0.2.1",
        rtp_ports="20000-20100",
        codecs=("g722", "pcmu"),
        srtp="require",
        routes=("+49*=loopback", f"X-Queue:sales*={sales}"),
        dispatch="rules.py:dispatch",
        dial_plan=("+49*", "sip:*@example.org"),
        max_calls=20,
        calls_per_worker=5,
        workers=2,
        record_folder="calls",
        users=("anna:secret", "ben:hidden"),
        allow=("192.0.2.0/24",),
        drain_s=12.5,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run nobody --transport sip", "there is no bot 'nobody'"),
        ("run loopback --transport sip --route +49*=nobody", "there is no bot 'nobody'"),
        ("run loopback --transport sip --route nobody", "sip.routes: 'nobody' is not PATTERN=BOT"),
        ("run loopback --transport sip --trunks none.toml", "none.toml"),
        ("run loopback --transport sip --codecs mp3", "sip.codecs must be some of"),
        ("run loopback --transport sip --sip-user anna", "sip.users must be name:password"),
        ("call", "the following arguments are required: TO"),
        ("call sip:a@b --header X-Key", "'X-Key' is not NAME=VALUE"),
        ("call sip:a@b --bot nobody", "there is no bot 'nobody'"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit(*arguments.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["run loopback --transport sip", "call sip:a@127.0.0.1"])
def test_the_extra_is_named_where_it_is_missing(command: str) -> None:
    program = WITHOUT.format("baresip")
    answer = subprocess.run(
        [sys.executable, "-c", program, *command.split()], capture_output=True, text=True
    )
    assert answer.returncode == 1
    assert answer.stderr == (
        "talkpath: the telephone needs packages that are not installed (baresip): "
        'pip install "talkpath[sip]"\n'
    )


def test_a_bot_that_cannot_be_imported_ends_the_start_with_its_error(tmp_path: Path) -> None:
    bot = tmp_path / "broken.py"
    bot.write_text("MODELS = ()\nimport nothing_of_this_name\n")
    command = ["run", str(bot), "--transport", "sip", "--sip-port", "0", "--port", "0"]
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("talkpath")), *command],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith(f"talkpath: {bot}, line 2: ModuleNotFoundError")
    assert "listening" not in answer.stdout


def test_what_a_bot_needs_is_known_without_importing_it(tmp_path: Path) -> None:
    assert bot_models("loopback") == ()
    module = sys.modules[load_bot("assistant")[0].__module__]
    assert bot_models("assistant") == getattr(module, "MODELS", ("whisper",))
    bot = tmp_path / "bot.py"
    bot.write_text("raise SystemExit\n")
    assert bot_models(str(bot)) == ("whisper",)
    bot.write_text("KINDS = ['reply']\nMODELS = (*KINDS, 'voice')\n")
    assert bot_models(str(bot)) == ("whisper",)
    bot.write_text("def bot(:\n")
    with pytest.raises(TalkpathError, match="line 1"):
        bot_models(str(bot))
    with pytest.raises(ConfigError, match="does not exist"):
        bot_models(str(tmp_path / "none.py"))


def test_bots_of_trunks_are_loaded_too(tmp_path: Path) -> None:
    trunks = tmp_path / "trunks.toml"
    trunks.write_text("[[trunk]]\nname = 'pbx'\nservers = ['sip:192.0.2.7']\nbot = 'notes'\n")
    config = SipConfig(trunks=str(trunks), routes=("1*=echo", "2*=loopback"))
    assert routed_bots("loopback", config) == ["loopback", "echo", "notes"]
