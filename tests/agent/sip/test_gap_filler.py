"""What is missing in a call's audio is put in, and nothing else; in virtual time."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from talkpath.agent.sip.gap_filler import GapFiller

_POLL_S = 0.005
_PACKET_S = 0.02
_BLEND_S = 0.004


class _Line:
    """A stream that is polled, as a call's is: packets come, and something is heard."""

    def __init__(self, rate_hz: int = 8000) -> None:
        self.filler = GapFiller(rate_hz)
        self.rate_hz = rate_hz
        self.outputs: list[tuple[float, bytes]] = []

    def play(
        self,
        packets: Iterable[tuple[float, bytes]],
        until_s: float,
        asleep_s: tuple[float, float] = (0.0, 0.0),
    ) -> "_Line":
        """Let packets come at their times, and time pass; polls are left out while asleep."""
        waiting = sorted(packets, key=lambda packet: packet[0])
        for poll in range(round(until_s / _POLL_S)):
            now_s = 1000 + poll * _POLL_S
            if asleep_s[0] < now_s - 1000 < asleep_s[1]:
                continue
            pcm = b""
            while waiting and 1000 + waiting[0][0] <= now_s:
                pcm += waiting.pop(0)[1]
            heard = self.filler.take(pcm, now_s)
            if heard:
                self.outputs.append((now_s - 1000, heard))
        return self

    @property
    def heard(self) -> NDArray[np.int16]:
        return np.frombuffer(b"".join(pcm for _, pcm in self.outputs), np.int16)

    @property
    def heard_s(self) -> float:
        return len(self.heard) / self.rate_hz


def _tone(seconds: float, rate_hz: int = 8000, hz: float = 200) -> NDArray[np.int16]:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    sound: NDArray[np.int16] = np.rint(8000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)
    return sound


def _packets(
    sound: NDArray[np.int16], rate_hz: int = 8000, packet_s: float = _PACKET_S
) -> list[tuple[float, bytes]]:
    """Each packet, and when it comes on a path without fault."""
    size = round(packet_s * rate_hz)
    return [
        (0.001 + i * packet_s, sound[i * size : (i + 1) * size].tobytes())
        for i in range(len(sound) // size)
    ]


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize("packet_s", [0.01, 0.02, 0.03, 0.06])
def test_what_comes_whole_is_passed_on_at_once_and_bit_for_bit(
    rate_hz: int, packet_s: float
) -> None:
    sound = _tone(1.2, rate_hz)
    packets = _packets(sound, rate_hz, packet_s)
    line = _Line(rate_hz).play(packets, 1.2)
    assert [pcm for _, pcm in line.outputs] == [pcm for _, pcm in packets]
    for (heard_s, _), (came_s, _) in zip(line.outputs, packets, strict=True):
        assert heard_s - came_s < _POLL_S
    assert line.filler.filled_s == 0


def test_an_uneven_path_and_a_poll_that_comes_late_change_nothing() -> None:
    """Packets up to 10 ms late; and nothing is read for 150 ms, as where the loop is busy."""
    sound = _tone(4)
    draw = np.random.default_rng(1)
    packets = [(at_s + draw.uniform(0, 0.01), pcm) for at_s, pcm in _packets(sound)]
    line = _Line().play(packets, 4, asleep_s=(2.0, 2.15))
    assert line.filler.filled_s == 0
    np.testing.assert_array_equal(line.heard, sound[: len(line.heard)])
    assert line.heard_s > 3.97


def test_a_first_packet_that_is_short_does_not_count_for_the_length_of_a_packet() -> None:
    """A resampler keeps a little back at its start."""
    packets = _packets(_tone(1))
    packets[0] = (packets[0][0], packets[0][1][:-48])
    del packets[20]
    line = _Line().play(packets, 1)
    assert line.filler.filled_s == pytest.approx(0.02)


def test_a_late_packet_is_known_from_a_lost_one() -> None:
    packets = _packets(_tone(1))
    packets[20] = (packets[20][0] + 0.018, packets[20][1])
    line = _Line().play(packets, 1)
    np.testing.assert_array_equal(line.heard, _tone(1))
    assert line.filler.filled_s == 0


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
@pytest.mark.parametrize("packet_s", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("lost", [1, 2])
def test_in_the_place_of_lost_packets_the_sound_goes_on(
    rate_hz: int, packet_s: float, lost: int
) -> None:
    sound = _tone(1.2, rate_hz)
    packets = _packets(sound, rate_hz, packet_s)
    del packets[20 : 20 + lost]
    line = _Line(rate_hz).play(packets, 1.2)
    assert len(line.heard) == len(sound)
    assert line.filler.filled_s == pytest.approx(lost * packet_s)
    gap = slice(round(20 * packet_s * rate_hz), round((20 + lost) * packet_s * rate_hz))
    error = (line.heard.astype(float) - sound)[gap]
    full = round(0.01 * rate_hz)  # before it fades
    assert np.abs(error[:full]).max() < 800  # of 8000: the period is found
    steps = np.abs(np.diff(line.heard.astype(float)))
    assert steps.max() < 1.5 * np.abs(np.diff(sound.astype(float))).max()  # no click
    rest = gap.stop + round(_BLEND_S * rate_hz)
    np.testing.assert_array_equal(line.heard[rest:], sound[rest:])
    held = [heard for heard, _ in line.outputs if (20 + lost) * packet_s <= heard]
    assert held[0] - ((20 + lost) * packet_s + 0.001) < 0.01 + 2 * _POLL_S


def test_a_pause_without_packets_is_heard_as_silence_while_it_lasts() -> None:
    """Silence suppression: nothing comes for two seconds, then speech again."""
    sound = _tone(1)
    packets = _packets(sound) + [(3.007 + at_s, pcm) for at_s, pcm in _packets(sound)]
    line = _Line().play(packets, 4)
    for at_s, _ in line.outputs:
        so_far = sum(len(pcm) for other_s, pcm in line.outputs if other_s <= at_s) / 16_000
        assert at_s + 0.02 - 0.08 < so_far <= at_s + 0.02 + 0.001
    assert np.abs(line.heard[8000 + 480 : 3 * 8000]).max() == 0
    assert np.abs(line.heard[8000 : 8000 + 80]).max() > 6000
    again = np.flatnonzero(line.heard[9000:])[0] + 9000 - 1
    np.testing.assert_array_equal(line.heard[again:], sound[: len(line.heard) - again])
    assert max(np.diff([at_s for at_s, _ in line.outputs])) < 0.08
    onset = next(at_s for at_s, _ in line.outputs if at_s > 3.008)
    assert onset < 3.008 + _POLL_S  # speech that begins again waits for nothing


def test_nothing_is_heard_before_something_came_nor_after_a_hold() -> None:
    line = _Line().play([], 1)
    assert line.outputs == []
    line.play(_packets(_tone(0.2)), 0.2)
    line.filler.forget()
    before = line.heard_s
    line.play([], 1)
    assert line.heard_s == before


def test_what_comes_late_after_all_is_not_dropped_and_less_is_filled_afterwards() -> None:
    """The path stands still for 300 ms, and then everything comes at once."""
    packets = _packets(_tone(5))
    stalled = [(1.3 if 1 < at_s < 1.3 else at_s, pcm) for at_s, pcm in packets]
    line = _Line().play(stalled, 4.95)
    filled_s = line.filler.filled_s
    assert 0.2 < filled_s <= 0.3
    assert line.heard_s == pytest.approx(4.94 + filled_s, abs=0.02)
    line = _Line().play([packet for packet in stalled if not 2 < packet[0] < 2.2], 4.95)
    assert line.filler.filled_s < filled_s + 0.05


def test_much_jitter_and_loss_leave_the_stream_as_long_as_the_time() -> None:
    """40 ms, put right again by a buffer that delays by 0 to 20 ms too little, and 5 % lost."""
    draw = np.random.default_rng(6)
    packets, at_s = [], 0.0
    for due_s, pcm in _packets(_tone(60)):
        at_s = max(at_s, due_s + max(0.0, draw.uniform(-0.02, 0.02)))
        if draw.random() >= 0.05:
            packets.append((at_s, pcm))
    line = _Line().play(packets, 60)
    assert line.heard_s == pytest.approx(60, abs=0.3)


def test_clocks_that_differ_fill_nothing() -> None:
    for pace in (0.9995, 1.0005):
        packets = [(at_s * pace, pcm) for at_s, pcm in _packets(_tone(60))]
        line = _Line().play(packets, 59.9)
        assert line.filler.filled_s == 0


_STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "lose", "late", "pause"]), st.integers(1, 12)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(_STEPS, st.sampled_from([8000, 16_000]), st.sampled_from([0.01, 0.02, 0.04]))
def test_all_that_came_is_heard_in_order_and_no_more_than_time_has_passed_is_filled(
    steps: list[tuple[str, int]], rate_hz: int, packet_s: float
) -> None:
    size = round(packet_s * rate_hz)
    arrivals: list[tuple[float, bytes]] = []
    at_s, number = 0.001, 0
    for kind, count in steps:
        for _ in range(count):
            at_s += packet_s
            if kind in ("come", "late"):
                number += 1
                delay_s = packet_s * count if kind == "late" else 0.0
                due_s = max(at_s + delay_s, arrivals[-1][0] if arrivals else 0.0)
                arrivals.append((due_s, np.full(size, number, np.int16).tobytes()))
    end_s = max([at_s, *(due_s for due_s, _ in arrivals)]) + 0.1
    line = _Line(rate_hz).play(arrivals, end_s)
    came = sum(len(pcm) for _, pcm in arrivals) // 2
    filled = round(line.filler.filled_s * rate_hz)
    assert len(line.heard) == came + filled
    if arrivals:
        assert line.filler.filled_s <= end_s - arrivals[0][0] + packet_s / 2
    # Behind where each is blended, all of each packet is there.
    rest = size - round(_BLEND_S * rate_hz)
    values, starts = np.unique(line.heard, return_index=True)
    for i in range(1, number + 1):
        assert np.count_nonzero(line.heard == i) >= rest
    order = starts[values > 0]
    assert (np.diff(order) > 0).all()
