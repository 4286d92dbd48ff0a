"""PCM and resampling, measured with tones."""

from collections.abc import Callable

import av
import numpy as np
import pytest
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.audio import (
    FloatArray,
    Resampler,
    alaw_to_float,
    float_to_pcm16,
    mulaw_to_float,
    pcm16_to_float,
)
from talkpath.agent.errors import AudioError
from tests.speech import clip

G711 = bytes(range(256))


@pytest.mark.parametrize(
    ("codec", "ours"), [("pcm_mulaw", mulaw_to_float), ("pcm_alaw", alaw_to_float)]
)
def test_the_telephones_samples_are_what_ffmpeg_takes_them_for(
    codec: str, ours: Callable[[bytes], FloatArray]
) -> None:
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, AudioCodecContext)
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(G711))
    assert float_to_pcm16(ours(G711)) == frame.to_ndarray().tobytes()


# Every pair that a browser, a telephone or a voice brings along.
RATES = [
    (8_000, 16_000),
    (24_000, 16_000),
    (44_100, 16_000),
    (48_000, 16_000),
    (16_000, 8_000),
    (16_000, 24_000),
    (22_050, 24_000),
    (48_000, 8_000),
    (8_000, 24_000),
    (24_000, 8_000),
    (8_000, 22_050),
    (22_050, 8_000),
    (16_000, 48_000),
    (8_000, 48_000),
]


def convert(audio: FloatArray, from_hz: int, to_hz: int, block: int = 0) -> FloatArray:
    """Resample a whole signal, in blocks of some size, with its last samples."""
    resampler = Resampler(from_hz, to_hz)
    size = block or max(len(audio), 1)
    parts = [resampler.process(audio[at : at + size]) for at in range(0, len(audio), size)]
    return np.concatenate([*parts, resampler.flush()])


def tone(hz: float, rate_hz: int, seconds: float = 0.5) -> FloatArray:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def inner(audio: FloatArray, rate_hz: int) -> FloatArray:
    """Without the edges, where the tone begins and ends."""
    edge = rate_hz // 20
    return audio[edge:-edge]


def level_db(audio: FloatArray) -> float:
    """Root mean square, relative to that of ``tone``."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return 20 * float(np.log10(max(rms, 1e-12) / (0.5 / np.sqrt(2))))


def test_pcm_survives_the_way_to_floats_and_back() -> None:
    pcm = np.arange(-32768, 32768, dtype="<i2").tobytes()
    floats = pcm16_to_float(pcm)
    assert floats.dtype == np.float32
    assert floats.min() == -1
    assert floats.max() < 1
    assert float_to_pcm16(floats) == pcm


def test_what_is_too_loud_is_clipped() -> None:
    pcm = float_to_pcm16(np.array([-3, -1, 0, 1, 3], dtype=np.float32))
    assert np.frombuffer(pcm, "<i2").tolist() == [-32768, -32768, 0, 32767, 32767]


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(AudioError, match="even number of bytes; there are 3"):
        pcm16_to_float(b"\0\0\0")


@pytest.mark.parametrize("rate_hz", [-8_000, 0, 3_999, 384_001])
def test_rates_that_no_audio_has_are_refused(rate_hz: int) -> None:
    with pytest.raises(AudioError, match=f"{rate_hz} Hz"):
        Resampler(rate_hz)
    with pytest.raises(AudioError, match=f"{rate_hz} Hz"):
        Resampler(16_000, rate_hz)


@given(
    st.sampled_from(RATES), st.lists(st.integers(0, 700), max_size=12), st.integers(0, 2**32 - 1)
)
@settings(max_examples=60, deadline=None)
def test_any_blocks_give_the_same_as_one(
    rates: tuple[int, int], blocks: list[int], seed: int
) -> None:
    from_hz, to_hz = rates
    audio = np.random.default_rng(seed).uniform(-1, 1, sum(blocks)).astype(np.float32)
    at_once, in_blocks = Resampler(from_hz, to_hz), Resampler(from_hz, to_hz)
    parts = [
        in_blocks.process(part) for part in np.split(audio, np.cumsum(blocks).astype(np.int64))
    ]
    whole = at_once.process(audio)
    # Sums of other lengths are rounded in another order: a bit in the last place, -120 dB.
    for one, other in ((np.concatenate(parts), whole), (in_blocks.flush(), at_once.flush())):
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("from_hz", "to_hz"), [*RATES, (16_000, 16_000)])
@pytest.mark.parametrize("count", [0, 1, 7, 160, 4_801])
def test_the_output_is_as_long_as_the_input(from_hz: int, to_hz: int, count: int) -> None:
    output = convert(np.zeros(count, dtype=np.float32), from_hz, to_hz)
    assert output.dtype == np.float32
    assert len(output) == -(-count * to_hz // from_hz)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_it_holds_back_no_more_than_it_says(from_hz: int, to_hz: int) -> None:
    delay_s = 24 / min(from_hz, to_hz)
    assert delay_s <= 0.003
    resampler = Resampler(from_hz, to_hz)
    assert abs(resampler.delay / from_hz - delay_s) < 1 / from_hz
    fed = given_back = 0
    for _ in range(20):
        fed += len(block := np.zeros(from_hz // 50, dtype=np.float32))
        given_back += len(resampler.process(block))
        assert fed / from_hz - given_back / to_hz <= delay_s + 1 / from_hz + 1 / to_hz


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_what_is_due_comes_at_once_however_odd_the_blocks_and_however_long_the_call(
    from_hz: int, to_hz: int
) -> None:
    resampler = Resampler(from_hz, to_hz)
    fed = given_back = 0
    for size in np.random.default_rng(7).integers(1, from_hz // 25, 500).tolist():
        fed += size
        given_back += len(resampler.process(np.zeros(size, dtype=np.float32)))
        due = max(0, fed - resampler.delay) * to_hz
        assert given_back == -(-due // from_hz)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_the_pass_band_is_flat(from_hz: int, to_hz: int) -> None:
    lower = min(from_hz, to_hz)
    for share in (0.01, 0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.425):  # up to 3.4 kHz of 8
        output = convert(tone(share * lower, from_hz), from_hz, to_hz, from_hz // 50)
        assert abs(level_db(inner(output, to_hz))) < 0.1, share


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in RATES if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_hold_does_not_fold_back(from_hz: int, to_hz: int) -> None:
    top = 0.49 * from_hz / to_hz
    for share in np.linspace(0.52, top, 9):
        output = convert(tone(share * to_hz, from_hz), from_hz, to_hz)
        assert level_db(inner(output, to_hz)) < -60, share


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in RATES if pair[0] < pair[1]])
def test_no_mirror_image_appears_above_the_lower_rate(from_hz: int, to_hz: int) -> None:
    for share in (0.05, 0.1, 0.2, 0.3, 0.4, 0.48):
        output = inner(convert(tone(share * from_hz, from_hz), from_hz, to_hz), to_hz)
        # A window with side lobes below -90 dB, so that the tone itself does not leak there.
        spectrum = np.abs(np.fft.rfft(output * np.blackman(len(output)) ** 2))
        frequencies = np.fft.rfftfreq(len(output), 1 / to_hz)
        image = spectrum[frequencies > 0.52 * from_hz]
        assert 20 * np.log10(image.max(initial=1e-12) / spectrum.max()) < -60, share


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_samples_stay_at_their_time(from_hz: int, to_hz: int) -> None:
    hz = 0.11 * min(from_hz, to_hz)
    output = inner(convert(tone(hz, from_hz), from_hz, to_hz), to_hz)
    expected = inner(tone(hz, to_hz), to_hz)
    assert np.abs(output - expected[: len(output)]).max() < 0.002


def test_speech_comes_back_from_the_telephone_and_the_studio() -> None:
    speech = clip("librivox-0880").samples()
    there = convert(speech, 16_000, 48_000, 320)
    back = convert(there, 48_000, 16_000, 960)
    assert len(back) == len(speech)
    # What lies above the pass band (7.2 kHz) may go; hardly any speech does.
    assert level_db(back - speech) < level_db(speech) - 25


def test_the_same_rate_changes_nothing() -> None:
    audio = tone(440, 16_000)
    assert np.array_equal(convert(audio, 16_000, 16_000, 160), audio)
