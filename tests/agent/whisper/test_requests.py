"""Requests: wrong options are refused, and each attempt is made differently."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from talkpath.agent.config import WhisperConfig
from talkpath.agent.errors import ConfigError
from talkpath.agent.whisper.requests import DecodeOptions, Priority, Request
from talkpath.agent.whisper.windows import FULL_WINDOW, WindowPolicy


def request(seconds: float = 3.0, priority: Priority = Priority.FINAL, **options: Any) -> Request:
    audio = np.zeros(round(seconds * 16_000), dtype=np.float32)
    return Request(audio, priority, DecodeOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "summarise"}, "task is 'summarise'"),
        ({"beam_size": 0}, "beam size is 0"),
        ({"beam_size": 11}, "must be 1 to 10"),
        ({"temperatures": ()}, "there must be a temperature"),
        ({"temperatures": (0.0, 1.2)}, "between 0 and 1"),
        ({"temperatures": (float("nan"),)}, "between 0 and 1"),
        ({"language": "fr", "languages": ("en", "de")}, "'fr' is not among en, de"),
    ],
)
def test_options_that_whisper_has_no_use_for_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        DecodeOptions(**options)


def test_settings_become_options() -> None:
    config = WhisperConfig(
        languages=("de", "en"), task="translate", prompt="a", hotwords="b", beam_size=3
    )
    options = DecodeOptions.of(config)
    assert options == DecodeOptions(
        languages=("de", "en"), task="translate", prompt="a", hotwords="b", beam_size=3
    )
    # A language that was chosen needs no list to be detected from.
    assert DecodeOptions.of(config, "fr").language == "fr"
    assert DecodeOptions.of(config, "fr").languages == ()


def plan(first: Request) -> list[tuple[int, float, int]]:
    made = [replace(first, attempt=attempt) for attempt in range(first.attempts)]
    return [(item.bucket, item.temperature, item.beam_size) for item in made]


def test_a_final_is_tried_in_both_windows_and_then_at_rising_temperatures() -> None:
    assert plan(request(beam_size=4, temperatures=(0.0, 0.4, 0.8))) == [
        (512, 0.0, 4),
        (1024, 0.0, 4),
        (1024, 0.4, 1),
        (1024, 0.8, 1),
    ]


def test_a_file_has_the_full_window_for_its_second_attempt() -> None:
    made = replace(request(temperatures=(0.0,)), priority=Priority.OFFLINE)
    assert [bucket for bucket, *_ in plan(made)] == [512, FULL_WINDOW]


def test_what_needs_the_full_window_anyway_is_not_tried_in_it_twice() -> None:
    assert plan(request(28.0, temperatures=(0.0, 0.5))) == [
        (FULL_WINDOW, 0.0, 1),
        (FULL_WINDOW, 0.5, 1),
    ]


def test_one_temperature_means_no_drawing_at_others() -> None:
    assert plan(request(temperatures=(0.3,))) == [(512, 0.3, 1), (1024, 0.3, 1)]


@pytest.mark.parametrize("priority", [Priority.FIRST_PARTIAL, Priority.PARTIAL])
def test_a_partial_is_greedy_without_words_and_has_one_attempt(priority: Priority) -> None:
    partial = request(priority=priority, beam_size=5, temperatures=(0.2, 0.4), word_timestamps=True)
    assert plan(partial) == [(512, 0.0, 1)]
    assert not partial.wants_words


def test_a_batch_has_one_way_to_decode() -> None:
    base = replace(request(), context_tokens=(1, 2))
    alike = [
        replace(base, context_tokens=(3, 4)),
        replace(base, priority=Priority.PARTIAL),
        replace(base, order=7, context="before", draft=(5,)),
        replace(base, options=DecodeOptions(language="de", prompt="x")),
    ]
    different = [
        replace(base, context_tokens=()),
        replace(base, attempt=1),
        replace(base, attempt=2),
        replace(base, options=DecodeOptions(task="translate")),
        replace(base, options=DecodeOptions(beam_size=2)),
        replace(base, options=DecodeOptions(word_timestamps=True)),
        replace(base, windows=WindowPolicy(padding="zeros")),
        replace(base, windows=WindowPolicy(floor_frames=768)),
        request(5.0),
    ]
    assert {item.batch_key for item in alike} == {base.batch_key}
    assert len({base.batch_key, *(item.batch_key for item in different)}) == len(different) + 1


def test_contexts_of_other_lengths_mix_where_the_backend_can_and_only_greedily() -> None:
    base = replace(request(), context_tokens=(1, 2), mixes=True)
    assert replace(base, context_tokens=()).batch_key == base.batch_key
    assert replace(base, mixes=False).batch_key != base.batch_key
    other_window = replace(base, audio=request(5.0).audio)
    assert other_window.bucket != base.bucket
    assert other_window.batch_key == base.batch_key
    words = replace(base, options=DecodeOptions(word_timestamps=True))
    assert replace(words, audio=other_window.audio).batch_key != words.batch_key
    beam = replace(base, options=DecodeOptions(beam_size=2))
    assert replace(beam, context_tokens=()).batch_key != beam.batch_key
    drawn = replace(base, attempt=2)
    assert replace(drawn, context_tokens=()).batch_key != drawn.batch_key


def test_second_attempts_go_behind_all_finals_and_before_partials() -> None:
    ranked = sorted(Priority)
    assert ranked.index(Priority.AGAIN) == ranked.index(Priority.SPECULATIVE) + 1
    assert Priority.FINAL < Priority.SPECULATIVE < Priority.AGAIN < Priority.FIRST_PARTIAL
    assert max(Priority) == Priority.OFFLINE
