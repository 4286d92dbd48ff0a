"""``talkpath bench``: measurements, each against a peer in the same run."""

import argparse
import importlib
from dataclasses import dataclass
from typing import Any

from talkpath.bots.arguments import WHISPER_MODEL, add_settings

__all__ = ["add_bench_actions"]


@dataclass(frozen=True, slots=True)
class _Action:
    module: str
    what: str
    models: tuple[str, ...] = ("whisper",)


_ACTIONS = {
    "accuracy": _Action(
        "talkpath.agent.bench.accuracy",
        "word error rate and processor seconds, against faster-whisper",
    ),
    "load": _Action(
        "talkpath.bots.bench_load", "many callers at once: times to the final, partials"
    ),
    "compare": _Action("talkpath.bots.bench_compare", "the same load, against Pipecat's service"),
    "conversation": _Action(
        "talkpath.bots.bench_conversation",
        "scripted conversations: end of speech to the bot's first sound, in parts",
        models=("whisper", "reply", "voice"),
    ),
    "barge-in": _Action(
        "talkpath.bots.bench_barge_in",
        "how fast a bot falls silent when somebody speaks to it",
        models=("whisper", "voice"),
    ),
    "telephone": _Action(
        "talkpath.bots.bench_telephone",
        "telephone calls to an echo: mouth to ear, underruns, cost of a call",
        models=(),
    ),
    "turns": _Action(
        "talkpath.agent.bench.turns",
        "turn taking: false cut-offs and delay of each profile, against plain timeouts",
    ),
    "windows": _Action(
        "talkpath.agent.bench.windows",
        "word error rate, loops and cost of encoder windows, against 30 s",
    ),
    "vad": _Action(
        "talkpath.agent.bench.vad",
        "cost of voice activity detection, against Silero's runtimes",
        models=(),
    ),
}


def add_bench_actions(
    bench: argparse.ArgumentParser, parents: list[argparse.ArgumentParser]
) -> None:
    """Add the actions; this imports what they measure.

    Args:
        bench: the parser of ``talkpath bench``.
        parents: arguments that every action takes.
    """
    actions = bench.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, action in _ACTIONS.items():
        module: Any = importlib.import_module(action.module)
        parser = actions.add_parser(
            name,
            parents=parents,
            help=action.what,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if "whisper" in action.models:
            add_settings(parser, *WHISPER_MODEL)
        module.add_arguments(parser)
        parser.set_defaults(bench=module.run, models=action.models)
