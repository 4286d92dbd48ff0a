"""Long recordings are cut in pauses, and all speech is in exactly one piece."""

import numpy as np
import pytest

from talkpath.agent.chunks import Chunk, Chunker
from talkpath.agent.speech import WINDOW_S, WINDOW_SAMPLES

RATE_HZ = 16_000


def cut(probabilities: list[float], block: int = 32) -> list[Chunk]:
    """Cut windows with these probabilities; each sample holds its window's number."""
    numbers = np.arange(len(probabilities), dtype=np.float32)
    windows = np.repeat(numbers[:, np.newaxis], WINDOW_SAMPLES, axis=1)
    given = np.array(probabilities, dtype=np.float32)
    chunker, chunks = Chunker(), []
    for start in range(0, len(given), block):
        part = slice(start, start + block)
        chunks += chunker.push(windows[part], given[part])
    return chunks + chunker.finish()


def spoken(seconds: float) -> list[float]:
    return [0.9] * round(seconds / WINDOW_S)


def quiet(seconds: float) -> list[float]:
    return [0.01] * round(seconds / WINDOW_S)


def check_whole(chunks: list[Chunk], probabilities: list[float]) -> None:
    """All speech is in exactly one piece, and every piece has the audio of its times."""
    covered = []
    for chunk in chunks:
        numbers = chunk.audio[::WINDOW_SAMPLES].astype(int).tolist()
        first = round(chunk.start_s / WINDOW_S)
        assert numbers == list(range(first, first + len(numbers)))
        assert len(chunk.audio) <= 28.0 * RATE_HZ
        covered += numbers
    assert len(covered) == len(set(covered))
    speech = {number for number, value in enumerate(probabilities) if value > 0.5}
    assert speech <= set(covered)


def test_a_short_pause_does_not_end_a_short_piece() -> None:
    probabilities = quiet(2) + spoken(3) + quiet(0.7) + spoken(2) + quiet(4)
    (chunk,) = cut(probabilities)
    check_whole([chunk], probabilities)
    assert len(chunk.speech) == 2
    assert chunk.start_s == pytest.approx(1.4, abs=0.05)
    assert chunk.end_s == pytest.approx(8.3, abs=0.05)


def test_a_long_pause_ends_a_piece() -> None:
    probabilities = spoken(3) + quiet(5) + spoken(2)
    chunks = cut(probabilities)
    check_whole(chunks, probabilities)
    assert [round(chunk.speech[0][0]) for chunk in chunks] == [0, 8]


def test_the_longer_a_piece_the_shorter_the_pause_that_ends_it() -> None:
    probabilities = spoken(19) + quiet(0.4) + spoken(2)
    chunks = cut(probabilities)
    check_whole(chunks, probabilities)
    assert len(chunks) == 2


def test_speech_without_pauses_is_cut_where_it_is_least_likely() -> None:
    probabilities = spoken(22) + [0.4] * 6 + spoken(40)
    chunks = cut(probabilities)
    check_whole(chunks, probabilities)
    assert chunks[0].end_s == pytest.approx(22.1, abs=0.1)
    assert len(chunks) == 3


def test_clicks_are_no_speech_and_silence_is_not_kept() -> None:
    assert cut([*quiet(3), 0.9, 0.9, *quiet(30)]) == []


@pytest.mark.parametrize("block", [1, 7, 32, 1000])
def test_the_pieces_do_not_depend_on_the_blocks(block: int) -> None:
    rng = np.random.default_rng(3)
    probabilities: list[float] = []
    for _ in range(40):
        probabilities += spoken(float(rng.exponential(6))) + quiet(float(rng.exponential(0.8)))
    chunks = cut(probabilities, block)
    check_whole(chunks, probabilities)
    assert [chunk.start_s for chunk in chunks] == [chunk.start_s for chunk in cut(probabilities)]
