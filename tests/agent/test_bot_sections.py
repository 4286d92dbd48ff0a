"""Settings of the bots that follow a plan, from a file and from the environment."""

from pathlib import Path
from typing import Any

import pytest

from talkpath.agent.appointments import OpeningHours
from talkpath.agent.config import load_config
from talkpath.agent.errors import ConfigError


def test_a_practice_is_described_in_the_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "talkpath.toml"
    file.write_text(
        '[receptionist]\ntimezone = "Europe/Berlin"\nweekdays = ["mon", "sat"]\nopens = "08:30"\n'
        "slot_minutes = 20\nservices = { check-up = 20, treatment = 60 }\n"
        '[idle]\nafter_s = 5\nprompts = ["Hello?"]\n'
    )
    config = load_config(environ={"TALKPATH_SURVEY_RESULTS": "rows.jsonl"}, file=file)
    hours = OpeningHours.of(config.receptionist)
    assert (hours.timezone.key, hours.weekdays) == ("Europe/Berlin", frozenset({0, 5}))
    assert (hours.opens.isoformat("minutes"), hours.services["treatment"]) == ("08:30", 60)
    assert (config.idle.after_s, config.idle.prompts) == (5.0, ("Hello?",))
    assert config.survey.results == "rows.jsonl"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("receptionist.timezone", "Mars/Olympus"),
        ("receptionist.weekdays", ("monday",)),
        ("receptionist.weekdays", ()),
        ("receptionist.opens", "nine"),
        ("receptionist.opens", "09:00+02:00"),
        ("receptionist.opens", "09:00:30"),
        ("receptionist.closes", "08:00"),
        ("receptionist.services", {"check-up": 30, "stay": 510}),
        ("receptionist.slot_minutes", 0),
        ("receptionist.services", {"check-up": 25}),
        ("receptionist.services", {"check-up": "long"}),
        ("receptionist.services", {}),
        ("receptionist.days_ahead", 0),
        ("idle.after_s", -1.0),
        ("idle.prompts", ("",)),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name.split(".")[1]):
        load_config({name: value}, environ={})
