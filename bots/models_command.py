"""``talkpath models``: list, fetch and find models; and the fetching that other commands need."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from talkpath.agent.config import Config
from talkpath.agent.errors import ModelUnavailable

if TYPE_CHECKING:
    from talkpath.agent.models import PullProgress

__all__ = ["add_models_command", "models_of", "pull"]


def add_models_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command and its actions."""
    models = commands.add_parser(
        "models",
        help="list and fetch models",
        description="Models live in $TALKPATH_HOME/models (default: ~/.cache/talkpath/models).",
    )
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        parents=[common],
        help="list the known models with size (MB), state on this machine, and sources",
        description="List the known models with size (MB), state on this machine, and sources.",
    )
    listing.set_defaults(handler=_list)
    pull = actions.add_parser(
        "pull",
        parents=[common],
        help="fetch models and print where they are",
        description="Fetch models that are not on this machine yet; print where they are.",
    )
    pull.add_argument("names", nargs="+", metavar="NAME", help="a model's name")
    pull.set_defaults(handler=_pull)
    path = actions.add_parser(
        "path",
        parents=[common],
        help="print where a model is",
        description="Print where a model is; exit code 1 when it is not on this machine.",
    )
    path.add_argument("name", metavar="NAME", help="a model's name")
    path.set_defaults(handler=_path)


def models_of(config: Config, kinds: Sequence[str]) -> list[str]:
    """Names of the models that a bot's ``MODELS`` asks for: whisper, reply, voice.

    Raises:
        UnknownModel: the settings name one that is no model of its kind.
    """
    from talkpath.agent.models import ModelStore

    names = {
        "whisper": ("whisper", config.whisper.model),
        "reply": ("llm", config.reply.local_model),
        "voice": ("voice", config.voice.piper_model),
    }
    wanted = [names[kind] for kind in kinds if kind in names]
    for kind, name in wanted:
        if name:
            ModelStore().check(name, kind)
    return [name for _, name in wanted if name]


def pull(names: Sequence[str]) -> None:
    """Fetch what is not here yet; in the main thread, where Ctrl-C ends it, with its progress."""
    from talkpath.agent.models import ModelStore

    store = ModelStore()
    for name in names:
        with _progress(name) as show:
            store.pull(name, progress=show)


def _list(args: argparse.Namespace) -> int:
    from talkpath.agent.models import ModelStore

    rows = [("NAME", "KIND", "MB", "STATE", "SOURCES", "WHAT")]
    for spec, state in ModelStore().entries():
        origins = [name for name, has in (("hub", spec.hub), ("index", spec.index)) if has]
        size = f"{spec.size / 1e6:.0f}"
        what = f"{spec.summary} ({spec.licence})"
        rows.append((spec.name, spec.kind, size, state, "+".join(origins), what))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [
            cell.rjust(width) if column == 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        sys.stdout.write("  ".join([*cells, row[5]]) + "\n")
    return 0


def _pull(args: argparse.Namespace) -> int:
    from talkpath.agent.models import ModelStore

    store = ModelStore()
    for name in args.names:
        if store.path(name) is None and os.sep not in name:
            store.spec(name)  # a mistyped name is told before anything is fetched
    failures = []
    for name in args.names:
        try:
            with _progress(name) as show:
                path = store.pull(name, progress=show)
            sys.stdout.write(f"{path}\n")
        except ModelUnavailable as error:
            failures.append(error)
    for failure in failures[:-1]:
        sys.stderr.write(f"talkpath: {failure}\n")
    if failures:
        raise failures[-1]
    return 0


def _path(args: argparse.Namespace) -> int:
    from talkpath.agent.models import ModelStore

    path = ModelStore().path(args.name)
    if path is None:
        raise ModelUnavailable(
            f"model {args.name!r} is not on this machine; `talkpath models pull {args.name}` "
            "fetches it"
        )
    sys.stdout.write(f"{path}\n")
    return 0


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Any]:
    """Show a pull on standard error: a bar on a terminal, a line a source elsewhere."""
    from tqdm import tqdm

    bar: Any = None
    told: set[str] = set()

    def show(event: "PullProgress") -> None:
        nonlocal bar
        if event.stage == "waiting":
            sys.stderr.write(f"{name}: another process fetches it, waiting\n")
        # Not before the first bytes: if no source has it, the error is to be the first line.
        if event.stage != "downloading" or event.done == 0:
            return
        label = f"{name} from the {event.source}"
        if event.source not in told:
            told.add(event.source)
            if bar is not None:
                bar.close()
            if sys.stderr.isatty():
                bar = tqdm(
                    total=event.total, unit="B", unit_scale=True, desc=label, file=sys.stderr
                )
            else:
                sys.stderr.write(f"{label}: {event.total / 1e6:.0f} MB\n")
        if bar is not None:
            bar.update(event.done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
