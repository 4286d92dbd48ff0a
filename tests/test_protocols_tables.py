"""The tables in docs/protocols.md: every key and field, their defaults and their limits."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import fields as fields_of
from functools import partial
from typing import Any

import pytest

from talkpath.agent.config import Config
from talkpath.agent.errors import ConfigError
from talkpath.agent.server import sockets
from talkpath.agent.server.protocols import baseten_settings
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import Codec, Configure, SessionSettings
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.server.protocols.together import TogetherCodec, TogetherVad
from tests.protocols_page import PAGE, tables
from tests.realtime_peer import CODES

LANGUAGES = ("de", "en")
WRONG = {"wrong": 1}  # what no field takes


def literals(cell: str) -> list[Any]:
    """The values that a cell lists, each in its ticks."""
    return [json.loads(text) for text in re.findall(r"`([^`]+)`", cell)]


def limits(cell: str) -> tuple[float, float] | None:
    """The limits that a cell names, ``0`` to ``10`` with ticks around both."""
    found = re.search(r"`([\d.]+)` to `([\d.]+)`", cell)
    return (json.loads(found[1]), json.loads(found[2])) if found else None


def taken(cell: str) -> Iterator[Any]:
    """Values that a cell says are taken."""
    between = limits(cell)
    if "above 0 and below 1" in cell:
        yield from (0.001, 0.999)
    elif between is None:
        yield from literals(cell)
    else:
        yield from ([value] if cell.startswith("a list") else value for value in between)


def refused(cell: str) -> Iterator[Any]:
    """Values that it says are not."""
    yield WRONG
    between = limits(cell)
    if "above 0 and below 1" in cell:
        yield from (0, 1, 1.0, -0.1, True)
    elif between is not None:
        low, high = between
        outside = (low - 1, high + 1) if "whole" in cell else (low - 0.001, high + 0.001)
        yield from ([value] if cell.startswith("a list") else value for value in outside)
    if "whole" in cell:
        yield 1.5


def settings_after(codec: Codec, message: object) -> SessionSettings | None:
    """What comes of a message: settings, or None where it is refused."""
    for command in codec.text(json.dumps(message)):
        if isinstance(command, Configure):
            return command.settings
    return None


def check(cell: str, take: Callable[[Any], SessionSettings | None]) -> None:
    """What a cell allows is taken, and nothing else."""
    for value in taken(cell):
        assert take(value) is not None, f"{value!r} is refused, and the page says {cell}"
    for value in refused(cell):
        assert take(value) is None, f"{value!r} is taken, and the page says {cell}"


# Connecting


def test_limits_have_the_defaults_of_the_settings() -> None:
    config = Config()
    for setting, default, *_ in tables("Limits"):
        section, key = setting.strip("`").split(".")
        assert literals(default) == [getattr(getattr(config, section), key)], setting


def test_close_codes_are_those_of_the_sockets() -> None:
    on_page = [int(row[0]) for row in tables("Close codes") if row[0].isdecimal()]
    assert sockets.__doc__ is not None
    assert on_page == [int(code) for code in re.findall(r"^(1\d{3}) ", sockets.__doc__, re.M)]


def test_links_within_the_page_have_their_headings() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors


# Baseten

SECTIONS: dict[str, Any] = {
    "`whisper_params`": ("whisper_params", baseten_settings._WHISPER),
    "`whisper_params.whisper_sampling_params`": (
        "whisper_params.whisper_sampling_params",
        baseten_settings._SAMPLING,
    ),
    "`streaming_params`": ("streaming_params", baseten_settings._STREAMING),
    "`streaming_vad_config`": ("streaming_vad_config", baseten_settings._VAD),
}


def configured(path: str, value: Any) -> SessionSettings | None:
    *sections, key = path.split(".")
    configuration: dict[str, Any] = {key: value}
    for section in reversed(sections):
        configuration = {section: configuration}
    return settings_after(BasetenCodec(LANGUAGES), configuration)


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_a_configuration_has_its_default_and_its_limits(heading: str) -> None:
    section, table = SECTIONS[heading]
    on_page = tables(heading)
    assert {row[0].strip("`") for row in on_page} == set(table)
    for key, default, must_be, _ in on_page:
        name = key.strip("`")
        if must_be == "an object":
            continue
        assert literals(default) == [table[name].default], key
        assert configured(f"{section}.{name}", literals(default)[0]) == configured(section, {})
        check(must_be, partial(configured, f"{section}.{name}"))


def test_every_key_at_the_top_of_a_configuration_is_there() -> None:
    sections = {path for path, _ in SECTIONS.values() if "." not in path}
    on_page = tables("Top level")
    known: dict[str, Any] = {**baseten_settings._TOP, **baseten_settings._OLDER}
    assert {row[0].strip("`") for row in on_page} | sections == set(known)
    for key, default, must_be, _ in on_page:
        name = key.strip("`")
        if must_be == "an object":
            assert configured(name, {}) == configured("stream_id", "")
            continue
        assert literals(default) == [known[name].default], key
        check(must_be, partial(configured, name))
    assert configured("stream_id", "x" * 200) is not None
    assert configured("stream_id", "x" * 201) is None


def test_what_is_said_to_be_refused_or_of_no_effect_is() -> None:
    usual = configured("stream_id", "")
    for heading, (section, _) in SECTIONS.items():
        for key, _, must_be, what in tables(heading):
            name = key.strip("`")
            if what.startswith(("refused", "of no effect")):
                for value in taken(must_be):
                    assert configured(f"{section}.{name}", value) == usual, key
            elif "true" in must_be and name != "include_pipeline_latency_metric":
                assert configured(f"{section}.{name}", True) != usual, key


# OpenAI


def updated(source: dict[str, Any]) -> SessionSettings | None:
    """What comes of an update of the input in the current shape."""
    session = {"type": "transcription", "audio": {"input": source}}
    codec = RealtimeCodec(languages=LANGUAGES)
    return settings_after(codec, {"type": "session.update", "session": session})


def updated_flat(source: dict[str, Any]) -> SessionSettings | None:
    """The same in the older shape."""
    codec = RealtimeCodec(languages=LANGUAGES)
    return settings_after(codec, {"type": "transcription_session.update", "session": source})


def openai(field: str, name: str, value: Any) -> SessionSettings | None:
    """What comes of a field of the transcription or of turn detection, in both shapes alike."""
    given = {name: value}
    if field == "turn_detection":
        given = {"type": "server_vad", **given}
    older = field if field == "turn_detection" else f"input_audio_{field}"
    now = updated({field: given})
    assert updated_flat({older: given}) == now
    return now


def test_formats_are_taken_in_both_shapes() -> None:
    for current, older, _ in tables("Formats"):
        now = updated({"format": literals(current)[0]})
        assert now is not None
        assert now == updated_flat({"input_audio_format": literals(older)[0]})
    assert updated({}) == updated({"format": {"type": "audio/pcm"}}) == updated({"format": None})


def test_what_the_words_should_be_like_has_its_limits() -> None:
    on_page = {row[0].strip("`"): row for row in tables("`transcription`")}
    assert set(on_page) == {"model", "language", "languages", "prompt", "keywords", "delay"}
    for name, (_, _, must_be, _) in on_page.items():
        check(must_be, partial(openai, "transcription", name))
    intervals = [
        settings.partial_interval_s
        for delay in literals(on_page["delay"][2])
        if (settings := openai("transcription", "delay", delay))
    ]
    assert intervals == [0.25, 0.5, 1, 2, 4]
    assert "0.25, 0.5, 1, 2, 4; without it 0.5" in on_page["delay"][3]


def test_turn_detection_has_its_defaults_and_limits() -> None:
    usual = updated({})
    for names, default, must_be, what in tables("`turn_detection`: `server_vad`"):
        for name in names.replace("`", "").split(", "):
            if what.startswith("of no effect"):
                assert openai("turn_detection", name, True) == usual
                assert openai("turn_detection", name, WRONG) is None
            else:
                assert openai("turn_detection", name, literals(default)[0]) == usual
                check(must_be, partial(openai, "turn_detection", name))


def test_eagerness_is_a_threshold_and_a_wait() -> None:
    for eagerness, threshold, wait in tables("`turn_detection`: `semantic_vad`"):
        asked = {"type": "semantic_vad", "eagerness": literals(eagerness)[0]}
        settings = updated({"turn_detection": asked})
        assert settings is not None
        assert settings.activity.semantic_threshold == float(threshold)
        assert settings.activity.semantic_wait_s == float(wait.removesuffix(" s"))


def test_every_code_of_an_error_is_explained() -> None:
    section = PAGE[PAGE.index("**Errors.**") : PAGE.index("## C. Together")]
    codes = CODES["invalid_request_error"]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == codes
    assert all(f"`{code}`" in section for code in CODES["server_error"])


# Together


def together(name: str, value: Any) -> SessionSettings | None:
    session = {"turn_detection": {"type": "server_vad", name: value}}
    update = {"type": "transcription_session.updated", "session": session}
    return settings_after(TogetherCodec(), update)


def test_togethers_turn_detection_has_its_defaults_and_limits() -> None:
    fields = [row for row in tables("C. Together") if len(row) == 4]
    assert {row[0].strip("`") for row in fields} == {field.name for field in fields_of(TogetherVad)}
    for key, default, must_be, _ in fields:
        name = key.strip("`")
        assert literals(default) == [getattr(TogetherVad(), name)], key
        check(must_be, partial(together, name))
        for value in taken(must_be):
            TogetherCodec.from_query({name: json.dumps(value)})
        for value in refused(must_be):
            with pytest.raises(ConfigError, match=name):
                TogetherCodec.from_query({name: json.dumps(value)})
