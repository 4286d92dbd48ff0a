"""The same load for several sides in one run: ours, and Pipecat's own Whisper service.

All run in real Pipecat pipelines with the same model and type of weights, and play the same
clips at the same times. Pipecat's side is what its users have: ``VADProcessor`` with Silero and
one ``WhisperSTTService``, with a model of its own, in every pipeline. The side `served` is ours
behind the socket of `talkpath serve`.
"""

import argparse

from talkpath.agent.config import Config
from talkpath.bots import bench_load

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench compare``."""
    bench_load.add_arguments(parser, ("talkpath", "pipecat"))


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench compare``; give the exit code."""
    return bench_load.run_sides(args, config)
