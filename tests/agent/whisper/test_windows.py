"""Windows: enough room for the audio and the silence behind it, and never a fatal size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.windows import (
    BUCKETS,
    FATAL_FRAMES,
    FRAME_SAMPLES,
    FULL_WINDOW,
    MAX_AUDIO_S,
    MAX_POSITIONS,
    WindowPolicy,
    pad_to_bucket,
    policy_for,
    token_cap,
)

WIDTHS = {"tiny": 384, "base": 512, "small": 768, "medium": 1024, "large": 1280}


@pytest.mark.parametrize("bands", [80, 128])
def test_no_encoded_output_is_as_long_as_the_mel_has_bands(bands: int) -> None:
    # The encoder halves the number of frames.
    assert 2 * bands in FATAL_FRAMES
    for width in WIDTHS.values():
        buckets = policy_for(width).buckets
        assert all(bucket // 2 != bands and bucket % 2 == 0 for bucket in buckets)


@pytest.mark.parametrize("frames", FATAL_FRAMES)
def test_nobody_can_ask_for_a_fatal_window(frames: int) -> None:
    with pytest.raises(ValueError, match="never"):
        WindowPolicy(sizes=(frames, FULL_WINDOW))


@pytest.mark.parametrize("sizes", [(512, 511, FULL_WINDOW), (FULL_WINDOW, 512), (512,), ()])
def test_windows_are_even_and_rise_to_the_full_one(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="windows"):
        WindowPolicy(sizes=sizes)


def test_only_models_that_were_measured_get_windows_under_ten_seconds() -> None:
    floors = {name: min(policy_for(width).buckets) for name, width in WIDTHS.items()}
    assert floors == {"tiny": 768, "base": 512, "small": 1024, "medium": 1024, "large": 1024}


def test_a_longer_window_is_twice_as_long_or_the_full_one() -> None:
    assert [WindowPolicy().longer(size) for size in (512, 640, 1024, 1536, FULL_WINDOW)] == [
        1024,
        1280,
        2048,
        FULL_WINDOW,
        FULL_WINDOW,
    ]


def test_a_floor_over_all_sizes_leaves_the_full_window() -> None:
    assert WindowPolicy(floor_frames=3000).buckets == (FULL_WINDOW,)
    assert WindowPolicy(floor_frames=3002).buckets == (FULL_WINDOW,)


@given(st.floats(0, MAX_AUDIO_S), st.sampled_from(sorted(WIDTHS.values())))
def test_there_is_room_for_the_audio_and_the_silence(duration_s: float, width: int) -> None:
    policy = policy_for(width)
    bucket = policy.bucket_for(duration_s)
    assert bucket in BUCKETS
    assert bucket >= policy.floor_frames
    assert bucket / 100 >= duration_s + 1.5 - 1e-9


@given(st.floats(0, 30), st.floats(0, 30))
def test_longer_audio_never_gets_a_shorter_window(one_s: float, other_s: float) -> None:
    shorter, longer = sorted((one_s, other_s))
    policy = WindowPolicy()
    assert policy.bucket_for(shorter) <= policy.bucket_for(longer)


def test_the_full_window_takes_thirty_seconds_and_no_more() -> None:
    policy = WindowPolicy()
    assert policy.bucket_for(29.9) == policy.bucket_for(30.0) == FULL_WINDOW
    with pytest.raises(ValueError, match=r"30\.01 s do not fit"):
        policy.bucket_for(30.01)


@given(st.integers(0, 512 * FRAME_SAMPLES))
def test_silence_fills_the_window_up(count: int) -> None:
    audio = np.full(count, 0.5, dtype=np.float32)
    padded = pad_to_bucket(audio, 512)
    assert padded.shape == (512 * FRAME_SAMPLES,)
    assert padded.dtype == np.float32
    assert np.array_equal(padded[:count], audio)
    assert not padded[count:].any()


@given(st.integers(0, 480_000), st.integers(0, 480_000))
def test_more_audio_may_be_worth_more_tokens_up_to_whispers_positions(one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert token_cap(less, "en") <= token_cap(less, "ka") <= MAX_POSITIONS
    assert 20 <= token_cap(less) <= token_cap(more) <= MAX_POSITIONS


# The first article of the Universal Declaration of Human Rights, about 10 s and never under 6.
ARTICLE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed "
    "with reason and conscience and should act towards one another in a spirit of brotherhood.",
    "fi": "Kaikki ihmiset syntyv\u00e4t vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. "
    "Heille on annettu j\u00e4rki ja omatunto, ja heid\u00e4n on toimittava toisiaan kohtaan "
    "veljeyden hengess\u00e4.",
    "ka": "\u10e7\u10d5\u10d4\u10da\u10d0 \u10d0\u10d3\u10d0\u10db\u10d8\u10d0\u10dc\u10d8 " * 10,
}


@pytest.mark.parametrize("language", sorted(ARTICLE))
def test_fast_speech_fits_in_every_script(language: str) -> None:
    tokens = Tokenizer.from_file(str(ModelStore().pull("base") / "tokenizer.json"))
    count = len(tokens.encode(ARTICLE[language], add_special_tokens=False).ids)
    assert count <= token_cap(6 * 16_000, language)
