"""A call put together in stereo: what matters is where each side's sound lies."""

import numpy as np
import pytest

from talkpath.agent.stereo import AHEAD_S, SETTLED_S, Stereo

RATE = 16_000
BLOCK_S = 0.02
BLOCK = round(RATE * BLOCK_S)
START_S = 1_000.0


def click(at: int = 0, length: int = BLOCK) -> bytes:
    """A block with one loud sample."""
    samples = np.zeros(length, "<i2")
    samples[at] = 20_000
    return samples.tobytes()


SILENCE = bytes(2 * BLOCK)


class Tape:
    """Runs a recording by a clock and keeps what comes out."""

    def __init__(self) -> None:
        self.stereo = Stereo(RATE, START_S)
        self.now_s = START_S
        self.parts: list[bytes] = []

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.parts.append(self.stereo.take(self.now_s))

    def caller(self, pcm: bytes = SILENCE, *, late_s: float = 0.0) -> None:
        """A block that ends now, and may come late."""
        self.stereo.caller(pcm, self.now_s + late_s)

    def end(self) -> np.ndarray:
        self.parts.append(self.stereo.take(self.now_s, all=True))
        return np.frombuffer(b"".join(self.parts), "<i2").reshape(-1, 2)


def clicks(channel: np.ndarray) -> list[float]:
    """Times of the loud samples, in seconds."""
    return [float(at) / RATE for at in np.flatnonzero(np.abs(channel) > 10_000)]


def test_what_the_bot_plays_lies_where_the_caller_was_at_that_moment() -> None:
    tape = Tape()
    jitter = np.random.default_rng(1).uniform(0.0, 0.03, 200)
    for index in range(200):
        tape.pass_time(BLOCK_S)
        said = index in (50, 120)
        tape.caller(click() if said else SILENCE, late_s=float(jitter[index]))
        if index in (50, 120):
            # It begins to sound with the caller's click, which began with this block.
            tape.stereo.bot_started(tape.now_s - BLOCK_S)
            tape.stereo.bot(click(), tape.now_s - BLOCK_S)
    both = tape.end()
    left, right = clicks(both[:, 0]), clicks(both[:, 1])
    assert left == pytest.approx([50 * BLOCK_S, 120 * BLOCK_S], abs=0.001)
    assert right == pytest.approx(left, abs=0.003)
    assert len(both) == pytest.approx(200 * BLOCK, abs=0.04 * RATE)


def test_a_sound_card_that_runs_slow_for_an_hour_does_not_part_the_sides() -> None:
    tape = Tape()
    step_s = 0.2  # longer blocks, for speed
    pcm = bytes(round(2 * RATE * step_s))
    for index in range(5 * 3600):
        tape.pass_time(step_s * 1.0002)
        last = index == 5 * 3600 - 10
        tape.caller(click(0, RATE // 5) if last else pcm)
        if last:
            tape.stereo.bot_started(tape.now_s - step_s)
            tape.stereo.bot(click(), tape.now_s - step_s)
    both = tape.end()
    assert clicks(both[:, 1]) == pytest.approx(clicks(both[:, 0]), abs=0.004)


def test_words_of_the_bot_have_no_seam_though_its_pieces_come_unevenly() -> None:
    tape = Tape()
    tape.stereo.bot_started(START_S)
    for index in range(20):
        tape.pass_time(BLOCK_S)
        tape.caller()
        tape.stereo.bot(click(), tape.now_s + (0.015 if index % 3 else -0.005))
    assert np.diff(clicks(tape.end()[:, 1])) == pytest.approx(BLOCK_S)


@pytest.mark.parametrize("told_at_the_end", [False, True])
def test_a_bot_that_was_held_goes_on_where_it_did(told_at_the_end: bool) -> None:
    tape = Tape()
    delay_s = BLOCK_S if told_at_the_end else 0.0
    tape.stereo.bot_started(START_S)
    for index in range(60):
        if not told_at_the_end and not 10 <= index < 40:
            tape.stereo.bot(click(), tape.now_s + delay_s)
        tape.pass_time(BLOCK_S)
        tape.caller()
        if told_at_the_end and not 10 <= index < 40:
            tape.stereo.bot(click(), tape.now_s)
    heard = clicks(tape.end()[:, 1])
    assert heard == pytest.approx(
        [index * BLOCK_S for index in range(60) if not 10 <= index < 40], abs=0.003
    )


def test_a_caller_who_sends_nothing_is_silent_and_stays_in_step() -> None:
    tape = Tape()
    for index in range(250):
        tape.pass_time(BLOCK_S)
        if not 50 <= index < 200:  # a muted microphone
            tape.caller(click() if index == 230 else SILENCE)
        if index == 230:
            tape.stereo.bot_started(tape.now_s - BLOCK_S)
            tape.stereo.bot(click(), tape.now_s)
    both = tape.end()
    assert clicks(both[:, 0]) == pytest.approx([230 * BLOCK_S], abs=0.03)
    assert clicks(both[:, 1]) == pytest.approx(clicks(both[:, 0]), abs=0.03)
    # Whisper counts the caller's samples alone.
    heard_s = (230 - 150) * BLOCK_S
    assert tape.stereo.placed_s(heard_s) == pytest.approx(clicks(both[:, 0])[0], abs=0.001)


def test_one_packet_in_a_long_silence_holds_nothing_up_and_lies_where_it_was_heard() -> None:
    tape = Tape()
    for index in range(600):
        tape.pass_time(BLOCK_S)
        if index < 50 or index == 150:
            tape.caller(click() if index == 150 else SILENCE)
        if index == 150:
            tape.stereo.bot_started(tape.now_s - BLOCK_S)
        if index >= 150:
            tape.stereo.bot(click() if index == 150 else SILENCE, tape.now_s)
        assert tape.stereo.unwritten_s < 2 * SETTLED_S
    assert tape.stereo.taken_s == pytest.approx(600 * BLOCK_S - SETTLED_S, abs=0.1)
    both = tape.end()
    assert clicks(both[:, 0]) == pytest.approx([150 * BLOCK_S], abs=0.03)
    assert clicks(both[:, 1]) == pytest.approx(clicks(both[:, 0]), abs=0.03)


@pytest.mark.parametrize("stall", [15, 40, 100])
def test_audio_that_was_late_is_no_silence(stall: int) -> None:
    tape = Tape()
    for index in range(200):
        tape.pass_time(BLOCK_S)
        if index == 50 + stall:  # the network gives way, all of it comes at once
            for _ in range(stall):
                tape.caller()
        if not 50 <= index < 50 + stall:
            tape.caller(click() if index == 180 else SILENCE)
        if index == 180:
            tape.stereo.bot_started(tape.now_s - BLOCK_S)
            tape.stereo.bot(click(), tape.now_s)
    both = tape.end()
    # What had been written by then stays.
    written_s = max(0.0, stall * BLOCK_S - SETTLED_S)
    assert clicks(both[:, 0]) == pytest.approx([180 * BLOCK_S + written_s], abs=0.05)
    assert clicks(both[:, 1]) == pytest.approx(clicks(both[:, 0]), abs=0.05)
    assert tape.stereo.placed_s(180 * BLOCK_S) == pytest.approx(clicks(both[:, 0])[0], abs=0.001)


def test_a_word_of_the_bot_begins_with_its_sound_and_ends_with_its_audio() -> None:
    tape = Tape()
    tape.stereo.bot_started(START_S)
    tape.stereo.bot(SILENCE + click(100), START_S)
    start_s, end_s = tape.stereo.bot_word()
    assert start_s == pytest.approx(BLOCK_S + 100 / RATE)
    assert end_s == pytest.approx(2 * BLOCK_S)


def test_memory_is_bounded_on_both_sides() -> None:
    stereo = Stereo(RATE, START_S)
    second = bytes(2 * RATE)
    taken = [stereo.bot(second, START_S) for _ in range(100)]
    assert 0 < taken.count(True) <= AHEAD_S + 2
    stereo = Stereo(RATE, START_S)
    most = 0.0
    for index in range(2_000):
        stereo.caller(SILENCE, START_S + index * BLOCK_S)
        stereo.take(START_S + index * BLOCK_S)
        most = max(most, stereo.unwritten_s)
    assert most < 2 * SETTLED_S
