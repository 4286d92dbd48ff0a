"""What the frames of a conversation amount to."""

from talkpath.agent.metrics import render_prometheus
from talkpath.agent.timeline import TurnLatency
from talkpath.agent.turn_counts import TurnCounts, TurnEvent, TurnMetrics, TurnWatch


def test_an_eager_reply_is_used_or_thrown_away_once() -> None:
    watch = TurnWatch()
    watch.speech_starts()
    assert watch.eager() is TurnEvent.EAGER_STARTED
    assert watch.eager() is None
    assert watch.withdrawn() is TurnEvent.EAGER_DISCARDED
    assert watch.withdrawn() is None
    watch.eager()
    assert watch.turn_over() is TurnEvent.EAGER_USED
    assert watch.turn_over() is None
    assert watch.eager() is None  # the turn is over: this one is not early
    assert watch.counts == TurnCounts(eager_started=2, eager_used=1, eager_discarded=1)


def test_the_bot_that_goes_on_for_no_backchannel_had_a_false_alarm() -> None:
    watch = TurnWatch()
    assert watch.backchannel() is TurnEvent.BACKCHANNEL  # the bot speaks on
    watch.held()
    watch.resumed()
    assert watch.speech_starts() is TurnEvent.FALSE_ALARM
    assert watch.settled() is None


def test_a_backchannel_is_no_false_alarm_whenever_it_is_told() -> None:
    watch = TurnWatch()
    watch.held()
    watch.backchannel()
    watch.resumed()
    assert watch.settled() is None
    watch.held()
    watch.held()
    watch.resumed()
    watch.backchannel()
    assert watch.settled() is None
    assert watch.counts == TurnCounts(backchannels=2)


def test_only_an_interruption_of_something_is_a_barge_in() -> None:
    watch = TurnWatch()
    assert watch.interrupted() is None  # every turn of a caller begins with one
    watch.bot_speaks(True)
    assert watch.interrupted() is TurnEvent.BARGE_IN
    assert watch.interrupted() is None
    watch.held()
    assert watch.interrupted() is TurnEvent.BARGE_IN
    watch.bot_speaks(True)
    watch.bot_speaks(False)
    assert watch.interrupted() is None


def test_counts_of_sessions_add_up() -> None:
    both = TurnCounts(barge_ins=1, backchannels=2) + TurnCounts(barge_ins=3, eager_started=1)
    assert both == TurnCounts(eager_started=1, barge_ins=4, backchannels=2)


def test_a_whole_turn_and_its_parts_are_in_the_metrics_and_a_cut_one_has_no_whole() -> None:
    metrics = TurnMetrics()
    metrics.took(TurnLatency(1, (("stop", 200.0), ("first-packet", 300.0)), 500.0))
    metrics.took(TurnLatency(2, (("stop", 200.0), ("turn", 10.0)), 210.0))
    metrics.happened(TurnEvent.BARGE_IN)
    text = render_prometheus(metrics.registry)
    assert "talkpath_turn_seconds_sum 0.5\n" in text
    assert 'talkpath_turn_part_seconds_count{part="stop"} 2\n' in text
    assert 'talkpath_turn_events_total{event="barge_ins"} 1\n' in text
