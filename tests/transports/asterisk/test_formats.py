"""Asterisk's audio formats."""

import numpy as np
import pytest

from talkpath.agent.errors import AudioError
from talkpath.transports.asterisk.formats import FORMATS, format_named


@pytest.mark.parametrize("name", ["ulaw", "alaw"])
def test_every_code_comes_back_as_it_was(name: str) -> None:
    item = FORMATS[name]
    values = item.decode(bytes(range(256)))
    again = item.decode(item.encode(values))
    assert np.array_equal(again, values)


@pytest.mark.parametrize("name", ["ulaw", "alaw"])
def test_each_sample_gets_the_nearest_code(name: str) -> None:
    item = FORMATS[name]
    samples = np.arange(-32768, 32768, 7, dtype=np.float32) / np.float32(32768)
    values = item.decode(bytes(range(256)))
    nearest = np.abs(samples[:, None] - values[None, :]).min(axis=1)
    assert np.allclose(np.abs(item.decode(item.encode(samples)) - samples), nearest)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_silence_is_silent_and_a_second_is_a_second(name: str) -> None:
    item = format_named(name)
    assert abs(float(item.decode(item.silence)[0])) < 0.0003
    assert item.seconds(item.silence * item.rate_hz) == 1.0


def test_a_format_that_is_not_taken_is_told_with_those_that_are() -> None:
    with pytest.raises(AudioError, match=r"'opus'.*c\(slin16\)"):
        format_named("opus")
