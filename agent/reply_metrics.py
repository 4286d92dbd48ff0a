"""Reply metrics: what the language model was asked for, and what came of it."""

from dataclasses import dataclass

from talkpath.agent.metrics import Registry

__all__ = ["EagerTokens", "ReplyMetrics"]


@dataclass(frozen=True, slots=True)
class EagerTokens:
    """What replies that were begun before their turn was over have cost.

    Attributes:
        started: replies begun early.
        used: of these, answers to the turn as it was.
        discarded: of these, thrown away.
        tokens_used: tokens of the used ones, prompt and reply.
        tokens_discarded: tokens of the discarded ones: the price of being early. Where a reply
            was stopped before the server told its usage, they are estimated.
    """

    started: int = 0
    used: int = 0
    discarded: int = 0
    tokens_used: int = 0
    tokens_discarded: int = 0


class ReplyMetrics(Registry):
    """The figures of all reply stages of a process.

    Attributes:
        requests: requests to language models, by ``server``: first or fallback.
        failures: requests that failed, by ``reason``: see ``talkpath.processors.reply_stream``.
        apologies: what a caller heard instead of a reply, or of its end: ``apology`` for no reply
            at all, ``cut`` for one that broke off.
        fillers: words said while the model or a tool took its time.
        eager: replies begun early, by ``outcome``: started, used, discarded.
        eager_tokens: their tokens, by ``outcome``: used, discarded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests = self.counter(
            "talkpath_reply_requests_total", "Requests to language models.", "server"
        )
        self.failures = self.counter(
            "talkpath_reply_failures_total", "Requests to language models that failed.", "reason"
        )
        self.apologies = self.counter(
            "talkpath_reply_apologies_total", "Apologies that callers heard.", "kind"
        )
        self.fillers = self.counter(
            "talkpath_reply_fillers_total", "Fillers that callers heard while they waited."
        )
        self.eager = self.counter(
            "talkpath_reply_eager_total", "Replies begun before their turn was over.", "outcome"
        )
        self.eager_tokens = self.counter(
            "talkpath_reply_eager_tokens_total", "Tokens of replies begun early.", "outcome"
        )
