"""What docs/telephony.md says works."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from talkpath.agent.config import load_config
from talkpath.agent.sip.dial_plan import DialPlan
from talkpath.agent.sip.trunks import Trunk, read_trunks
from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.dispatch import Reject, load_dispatch
from talkpath.transports.sip.leg import CallInfo
from talkpath.transports.sip.session import call_metadata
from tests.sip.programs import find

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/telephony.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLAIN = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def commands(text: str) -> set[str]:
    """What is typed after ``talkpath``, flags and all, in blocks and in the text."""
    code = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    inline = [each.replace("\n", " ") for each in re.findall(r"`([^`]+)`", text)]
    lines = [line.split("   #")[0] for line in (*code.splitlines(), *inline)]
    found = (re.search(r"(?:^|\s)talkpath ((?:run|call) .*)", line) for line in lines)
    return {match[1] for match in found if match}


def test_the_settings_can_be_read(tmp_path: Path) -> None:
    files = [write(tmp_path, "talkpath.toml", text) for text in blocks("toml") if "[sip]" in text]
    (config,) = [load_config({}, environ={}, file=file) for file in files]
    assert config.server.transport == "sip"
    assert config.sip.routes == ("+4930123450=receptionist", "+493012345*=phone")
    target = config.phone.transfers["the office"]
    assert DialPlan(config.sip.dial_plan).permits(target)


def test_the_trunks_can_be_read(tmp_path: Path) -> None:
    texts = [text for text in blocks("toml") if "[[trunk]]" in text]
    environ = {"CARRIER_PASSWORD": "secret"}
    trunks = [
        trunk
        for text in texts
        for trunk in read_trunks(write(tmp_path, "trunks.toml", text), environ)
    ]
    assert [trunk.name for trunk in trunks] == ["carrier", "pbx", "carrier", "twilio"]
    assert trunks[0].password == "secret"


def test_the_table_of_trunks_has_every_key() -> None:
    (table,) = re.findall(r"\| key \| \|\n\|---\|---\|\n(.*?)\n\n", PAGE, re.DOTALL)
    keys = {
        key for line in table.splitlines() for key in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert keys == {*Trunk.__dataclass_fields__, "password_env"}


def test_every_setting_exists() -> None:
    config = load_config({}, environ={})
    named = set(re.findall(r"`(sip|asterisk|carriers|phone|server)\.(\w+)", PLAIN))
    assert len(named) > 15
    assert [(s, key) for s, key in named if not hasattr(getattr(config, s), key)] == []
    variables = set(re.findall(r"TALKPATH_(SIP|ASTERISK|CARRIERS)_([A-Z_]*[A-Z])", PAGE))
    sections = [(config.sip, "SIP"), (config.asterisk, "ASTERISK"), (config.carriers, "CARRIERS")]
    for section, name in sections:
        keys = [key.lower() for where, key in variables if where == name]
        assert keys and all(hasattr(section, key) for key in keys), name


@pytest.mark.parametrize(
    ("name", "shipped"),
    re.findall(r"^\| `sip\.(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE),
)
def test_the_limits_are_those_shipped(name: str, shipped: str) -> None:
    assert getattr(SipConfig(), name) == float(shipped)


@pytest.mark.parametrize("subcommand", ["run", "call"])
def test_every_command_has_the_flags_shown(subcommand: str) -> None:
    program = str(Path(sys.executable).with_name("talkpath"))
    shown = subprocess.run(
        [program, subcommand, "--help"], capture_output=True, text=True, check=True
    ).stdout
    shown_flags = set(re.findall(r"--[a-z][\w-]*", shown))
    typed = [c for c in commands(PAGE) | commands(README) if c.split()[0] == subcommand]
    assert typed
    for command in typed:
        flags = {word for word in shlex.split(command) if word.startswith("--")}
        assert flags <= shown_flags, command


def test_flags_in_the_text_exist() -> None:
    program = str(Path(sys.executable).with_name("talkpath"))
    shown = "".join(
        subprocess.run([program, each, "--help"], capture_output=True, text=True).stdout
        for each in ("run", "call")
    )
    named = set(re.findall(r"`(--[a-z][\w-]*)", PLAIN)) - {"--interface"}  # rtpengine's
    assert named
    assert [flag for flag in named if flag not in shown] == []


async def test_the_dispatch_function_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = [text for text in blocks("python") if "dispatch.py:" in text]
    write(tmp_path, "dispatch.py", source)
    monkeypatch.chdir(tmp_path)
    dispatch = load_dispatch("dispatch.py:dispatch")

    def call(who: str, **headers: str) -> CallInfo:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return CallInfo(call_id="1", direction="inbound", from_uri=who, headers=named)

    assert await dispatch(call("sip:anonymous@a.example")) == Reject(603, "No anonymous calls")
    assert await dispatch(call("sip:anna@a.example", X_Test="echo")) == "echo"
    assert await dispatch(call("sip:anna@a.example")) is None


def test_the_program_compiles_and_its_settings_exist() -> None:
    (source,) = [text for text in blocks("python") if "remind.py:" in text]
    names: dict[str, object] = {"__name__": "remind"}
    exec(compile(source, "remind.py", "exec"), names)
    (settings,) = re.findall(r"settings = (\{.*?\})\n", source)
    assert load_config(eval(settings), environ={}).sip.port == 0


def test_bots_find_what_the_page_says_they_find() -> None:
    (row,) = re.findall(r"^\| who calls \| `runner_args.body`: (.*?) \|$", PAGE, re.MULTILINE)
    info = CallInfo(call_id="1", direction="inbound")
    assert re.findall(r"`(\w+)`", row) == list(call_metadata(info))


def test_every_heading_that_is_linked_exists() -> None:
    headings = re.findall(r"^#+ (.+)$", PLAIN, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert [to for to in re.findall(r"\]\(#([^)]+)\)", PAGE) if to not in anchors] == []


def test_the_patterns_of_the_dial_plan_permit_what_the_page_says() -> None:
    (table,) = re.findall(r"\| pattern \| permits \|\n\|---\|---\|\n(.*?)\n\n", PAGE, re.DOTALL)
    patterns = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert patterns == ["+49*", "*", "sip:*@pbx.example.com", "sip:*@*"]
    german = DialPlan(["+49*"], ["trunk.example.com"])
    assert german.permits("+4930123") and german.permits("tel:+4930123")
    assert german.permits("sip:+4930123@trunk.example.com")
    assert not german.permits("004930123") and not german.permits("sip:+4930123@evil.example")
    there = DialPlan(["sip:*@pbx.example.com"])
    assert there.permits("sip:anna@pbx.example.com:5061")
    assert not there.permits("sip:anna@pbx.example.com:5070")
    assert not DialPlan(["sip:*@*"]).permits("sip:a@b.example;maddr=c.example")


def test_the_toml_is_toml() -> None:
    assert all(tomllib.loads(text) for text in blocks("toml"))


def test_kamailio_takes_its_recipe(tmp_path: Path) -> None:
    (recipe,) = blocks("cfg")
    file = write(tmp_path, "kamailio.cfg", recipe)
    command = [find("kamailio"), "-c", "-m", "32", "-M", "4", "-f", str(file)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr[-2000:]
