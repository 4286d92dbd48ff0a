"""Rates and lockouts, with a clock in the hand."""

from talkpath.agent.sip.rate_limit import Lockout, RateLimit


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    rate = RateLimit(2.0, 6.0)
    assert [rate.take("a", 0.0) for _ in range(8)] == [True] * 6 + [False] * 2
    assert [rate.take("a", 1.0) for _ in range(3)] == [True, True, False]
    assert [rate.take("a", 1000.0) for _ in range(8)].count(True) == 6
    assert rate.take("b", 1000.0)


def test_a_slow_rate_lets_one_through_and_a_clock_that_goes_back_gives_nothing() -> None:
    rate = RateLimit(0.1, 0.3)
    assert [rate.take("a", 100.0), rate.take("a", 50.0), rate.take("a", 60.0)] == [
        True,
        False,
        True,
    ]


def test_a_flood_of_addresses_costs_bounded_memory() -> None:
    rate, lockout = RateLimit(1.0, 1.0, capacity=10), Lockout(failures=2, capacity=10)
    for number in range(100):
        assert rate.take(str(number), 0.0)
        lockout.fail(str(number), 0.0)
    assert not rate.take("99", 0.0), "the last ones are still known"
    assert rate.take("0", 0.0), "the first ones start afresh"
    assert (len(rate), len(lockout)) == (10, 10)
    for number in range(100):
        lockout.fail(str(number), 0.0)
        lockout.fail(str(number), 0.0)
    assert len(lockout) <= 20


def test_ten_failures_in_a_minute_lock_for_ten_minutes() -> None:
    lockout = Lockout()
    for second in range(9):
        lockout.fail("a", float(second))
        lockout.fail("slow", second * 10.0)
    assert not lockout.is_locked("a", 8.0)
    lockout.fail("a", 9.0)
    lockout.fail("slow", 90.0)
    assert lockout.is_locked("a", 9.0) and lockout.is_locked("a", 608.9)
    assert not lockout.is_locked("slow", 90.0) and not lockout.is_locked("b", 9.0)
    assert not lockout.is_locked("a", 609.0)
    lockout.fail("a", 610.0)
    assert not lockout.is_locked("a", 610.0)
