"""``talkpath bench``: measurements, each against a peer in the same run."""

import argparse
import importlib
from typing import Any

from talkpath.bots.arguments import WHISPER_MODEL, add_settings

__all__ = ["add_bench_actions"]

_ACTIONS = {
    "accuracy": (
        "talkpath.agent.bench.accuracy",
        "word error rate and processor seconds, against faster-whisper",
    ),
    "load": ("talkpath.bots.bench_load", "many callers at once: times to the final, partials"),
    "compare": ("talkpath.bots.bench_compare", "the same load, against Pipecat's service"),
    "windows": (
        "talkpath.agent.bench.windows",
        "word error rate, loops and cost of encoder windows, against 30 s",
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
    for name, (module_name, what) in _ACTIONS.items():
        module: Any = importlib.import_module(module_name)
        action = actions.add_parser(
            name,
            parents=parents,
            help=what,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_settings(action, *WHISPER_MODEL)
        module.add_arguments(action)
        action.set_defaults(bench=module.run)
