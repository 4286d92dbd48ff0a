"""Windows: enough room for the audio and the silence behind it, and never a fatal size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.whisper.windows import (
    BUCKETS,
    FRAME_SAMPLES,
    FULL_WINDOW,
    MAX_AUDIO_S,
    bucket_for,
    pad_to_bucket,
    token_cap,
)


@pytest.mark.parametrize("bands", [80, 128])
def test_no_encoded_output_is_as_long_as_the_mel_has_bands(bands: int) -> None:
    # The encoder halves the number of frames.
    assert all(bucket // 2 != bands and bucket % 2 == 0 for bucket in BUCKETS)


@given(st.floats(0, MAX_AUDIO_S))
def test_there_is_room_for_the_audio_and_the_silence(duration_s: float) -> None:
    bucket = bucket_for(duration_s)
    assert bucket in BUCKETS
    assert bucket >= 500
    assert bucket / 100 >= duration_s + 1.5 - 1e-9


@given(st.floats(0, 30), st.floats(0, 30))
def test_longer_audio_never_gets_a_shorter_window(one_s: float, other_s: float) -> None:
    shorter, longer = sorted((one_s, other_s))
    assert bucket_for(shorter) <= bucket_for(longer)


def test_the_full_window_takes_thirty_seconds_and_no_more() -> None:
    assert bucket_for(29.9) == bucket_for(30.0) == FULL_WINDOW
    with pytest.raises(ValueError, match=r"30\.01 s do not fit"):
        bucket_for(30.01)


@given(st.integers(0, 512 * FRAME_SAMPLES))
def test_silence_fills_the_window_up(count: int) -> None:
    audio = np.full(count, 0.5, dtype=np.float32)
    padded = pad_to_bucket(audio, 512)
    assert padded.shape == (512 * FRAME_SAMPLES,)
    assert padded.dtype == np.float32
    assert np.array_equal(padded[:count], audio)
    assert not padded[count:].any()


@given(st.integers(0, 480_000), st.integers(0, 480_000))
def test_more_audio_may_be_worth_more_tokens_up_to_half_of_whispers_text(
    one: int, other: int
) -> None:
    less, more = sorted((one, other))
    assert 20 <= token_cap(less) <= token_cap(more) <= 224
