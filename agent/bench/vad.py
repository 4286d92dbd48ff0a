"""What a window of voice activity detection costs: our network against Silero's own runtimes.

Each on one thread and in the same run, over batches of several sizes; the microseconds of
processor time are those of one window, the best of five rounds. The other sides are the ONNX
model on onnxruntime and the TorchScript model on torch, both out of the silero-vad package;
what they agree on is a test's matter, not this one's.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from talkpath.agent.config import Config
from talkpath.agent.speech.network import SileroNetwork

__all__ = ["add_arguments", "measure", "run"]

_ROUNDS = 5
_CONTEXT, _WINDOW, _UNITS = 64, 512, 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``talkpath bench vad``."""
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 8, 32, 128], help="streams in a batch"
    )
    parser.add_argument("--windows", type=int, default=2000, help="windows in a round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace, config: Config) -> int:
    """Carry out ``talkpath bench vad``; give the exit code."""
    rows = {batch: measure(batch, args.windows) for batch in args.batches}
    if args.json:
        sys.stdout.write(json.dumps({str(batch): row for batch, row in rows.items()}) + "\n")
        return 0
    sides = list(next(iter(rows.values())))
    lines = ["us a window  " + "".join(f"{side:>13}" for side in sides)]
    for batch, row in rows.items():
        lines.append(f"batch {batch:<7}" + "".join(f"{row[side]:>13.1f}" for side in sides))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def measure(batch: int, windows: int = 2000) -> dict[str, float]:
    """Microseconds of processor time a window, by side, in batches of a size."""
    calls = max(1, windows // batch)
    return {side: _cost_us(call, calls) / batch for side, call in _sides(batch).items()}


def _cost_us(call: Callable[[], object], calls: int) -> float:
    costs_s = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        for _ in range(calls):
            call()
        costs_s.append((time.process_time() - started) / calls)
    return min(costs_s) * 1e6


def _sides(batch: int) -> dict[str, Callable[[], object]]:
    import onnxruntime
    import silero_vad
    import torch

    folder = Path(silero_vad.__file__).parent / "data"
    noise = np.random.default_rng(1).normal(0, 0.1, (batch, _CONTEXT + _WINDOW))
    samples = noise.astype(np.float32)
    state = np.zeros((2, batch, _UNITS), np.float32)
    network = SileroNetwork(folder / "silero_vad_16k_op15.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "silero_vad_16k_op15.onnx"), options, providers=["CPUExecutionProvider"]
    )
    feed = {"input": samples, "state": state, "sr": np.array(16_000)}
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package has no other format
        model = torch.jit.load(str(folder / "silero_vad.jit"))  # type: ignore[no-untyped-call]
    model.eval()
    window = torch.from_numpy(samples[:, _CONTEXT:])

    def on_torch() -> object:
        with torch.inference_mode():
            return model(window, 16_000)

    return {
        "numpy": lambda: network(samples, state),
        "onnxruntime": lambda: session.run(None, feed),
        "torch": on_torch,
    }
