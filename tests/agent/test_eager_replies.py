"""Replies that were begun early: what became of them and of their tokens."""

from talkpath.agent.eager_replies import EagerReplies
from talkpath.agent.reply_metrics import EagerTokens, ReplyMetrics


def test_each_reply_and_its_tokens_go_to_what_became_of_it() -> None:
    metrics = ReplyMetrics()
    replies = EagerReplies(metrics)
    replies.begun(early=True)
    replies.spent(10)
    replies.withdrawn()
    replies.spent(2)  # the server said in the end what it took
    replies.begun(early=True)
    replies.spent(20)
    replies.turn_ended()
    replies.spent(5)
    assert replies.counts == EagerTokens(
        started=2, used=1, discarded=1, tokens_used=25, tokens_discarded=12
    )
    assert metrics.eager.values == {"started": 2, "used": 1, "discarded": 1}
    assert metrics.eager_tokens.values == {"used": 25, "discarded": 12}


def test_a_reply_to_a_turn_that_is_over_is_not_early() -> None:
    replies = EagerReplies(ReplyMetrics())
    replies.begun(early=False)
    replies.spent(10)
    replies.turn_ended()
    replies.begun(early=True)  # the end of the turn overtook it
    assert not replies.undecided
    replies.withdrawn()
    assert replies.counts == EagerTokens()
    replies.turn_started()
    replies.begun(early=True)
    assert replies.undecided
    assert replies.counts == EagerTokens(started=1)
