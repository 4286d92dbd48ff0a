"""Pacing, with a clock of the test's own."""

import pytest

from talkpath.transports.asterisk.playout import FramePlayout

FRAME = 4  # bytes


def playout(*, lead_s: float = 0.04, steady: bool = False) -> FramePlayout:
    return FramePlayout(
        frame_bytes=FRAME, frame_s=0.02, lead_s=lead_s, silence=b"\0", steady=steady
    )


def run(item: FramePlayout, until_s: float, now_s: float = 0.0) -> list[tuple[float, bytes]]:
    """Send what is due, with a clock that is always on time."""
    sent = []
    while (due_s := item.due_s()) is not None and due_s <= until_s:
        now_s = max(now_s, due_s)
        sent.append((round(now_s, 3), item.take(now_s)))
    return sent


def test_no_more_than_the_lead_is_sent_ahead_of_time() -> None:
    item = playout()
    for number in range(6):
        item.put(bytes([number + 1]) * FRAME, 0.0)
    times = [at for at, _ in run(item, 1.0, now_s=0.5)]
    assert times == [0.5, 0.5, 0.5, 0.52, 0.54, 0.56]


def test_a_rest_waits_for_more_and_is_filled_up_at_the_last_moment() -> None:
    item = playout()
    item.put(b"abcdef", 0.0)
    assert run(item, 0.51, now_s=0.5) == [(0.5, b"abcd")]
    assert item.due_s() == pytest.approx(0.52)
    assert run(item, 0.53, now_s=0.5) == [(0.52, b"ef\0\0")]
    assert item.due_s() is None


def test_a_hold_keeps_every_sample_and_what_asterisk_has_in_hand() -> None:
    item = playout()
    for number in range(4):
        item.put(bytes([number + 1]) * FRAME, 0.0)
    run(item, 0.0)
    item.hold(0.01)
    assert item.due_s() is None
    item.resume(1.01)  # with 50 ms still in Asterisk's hand
    assert item.due_s() == pytest.approx(1.02)
    assert item.take(1.02) == b"\4" * FRAME


def test_a_drop_spares_what_is_not_to_be_interrupted() -> None:
    item = playout()
    item.put(b"abcd", 0.0)
    item.put(b"efgh", 0.0, interruptible=False)
    item.put(b"ijkl", 0.0)
    assert item.take(0.0) == b"abcd"
    assert item.drop(0.0)
    assert run(item, 1.0, now_s=0.0) == [(0.0, b"efgh")]
    assert not item.drop(0.0)


def test_nothing_is_due_while_asterisk_takes_no_more() -> None:
    item = playout()
    item.put(b"abcdefgh", 0.0)
    item.stop()
    assert item.due_s() is None
    item.go()
    assert run(item, 1.0, now_s=0.0) == [(0.0, b"abcd"), (0.0, b"efgh")]


def test_a_flush_ends_a_full_queue() -> None:
    item = playout()
    item.put(b"abcd", 0.0)
    item.take(0.0)
    item.stop()
    assert item.drop(0.0)
    item.put(b"efgh", 0.0)
    assert item.due_s() is not None


def test_a_steady_stream_is_silent_where_there_is_nothing_and_while_held() -> None:
    item = playout(lead_s=0.0, steady=True)
    item.put(b"abcdefgh", 0.0)
    assert item.take(0.0) == b"abcd"
    item.hold(0.01)
    assert run(item, 0.05, now_s=0.01) == [(0.02, b"\0" * 4), (0.04, b"\0" * 4)]
    item.resume(0.05)
    assert run(item, 0.09, now_s=0.05) == [(0.06, b"efgh"), (0.08, b"\0" * 4)]


def test_a_late_loop_catches_up_once_and_a_long_pause_is_not_made_up_for() -> None:
    item = playout(lead_s=0.0, steady=True)
    item.take(0.0)
    item.take(0.05)  # 30 ms late
    assert item.due_s() == pytest.approx(0.04)
    item.take(1.0)
    assert item.due_s() == pytest.approx(1.02)


def test_speech_that_just_begins_is_not_torn_for_want_of_a_whole_frame() -> None:
    item = playout()
    item.put(b"abc", 1.0)
    assert item.due_s() == pytest.approx(1.02)
    item.put(b"defgh", 1.01)
    assert run(item, 1.01, now_s=1.01) == [(1.01, b"abcd"), (1.01, b"efgh")]

    steady = playout(lead_s=0.0, steady=True)
    steady.take(1.0)
    steady.put(b"abc", 1.015)
    assert steady.take(1.02) == b"\0" * 4
    steady.put(b"defgh", 1.03)
    assert steady.take(1.04) == b"abcd"
