"""``talkpath transcribe``: recordings into text or subtitles.

Each file is one result or one line on standard error; the others go on. Exit code 1 when a file
failed. A file that is damaged or cut off is transcribed as far as it can be read, with a
warning: that alone is no failure.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from talkpath.agent.config import Config, WhisperConfig
from talkpath.agent.errors import AudioError, ConfigError, DecodeFailed
from talkpath.agent.subtitles import FORMATS, TranscriptWriter
from talkpath.agent.whisper.requests import TASKS, DecodeOptions

if TYPE_CHECKING:
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.transcribe import Progress
    from talkpath.agent.whisper import WhisperEngine

__all__ = ["add_arguments", "run_transcribe"]

Write = Callable[[str], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own arguments; those for Whisper are shared with other commands."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="recordings: any audio or video file"
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="text",
        help="text: a line for each phrase; srt, vtt: subtitles; json: an object for each file, "
        "times in seconds (default: text)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write one file for each recording into this folder, replacing older ones "
        "(default: standard output)",
    )
    parser.add_argument(
        "--words",
        action="store_true",
        help="find when each word is said: json lists the words with times in seconds and "
        "probabilities (default: no, but subtitles always begin and end with their words)",
    )
    parser.add_argument(
        "--task",
        dest="whisper.task",
        choices=TASKS,
        help="translate writes English, whatever is spoken; not with models for English only "
        f"(default: {WhisperConfig().task})",
    )
    parser.add_argument(
        "--prompt",
        dest="whisper.prompt",
        metavar="TEXT",
        help="text that the model takes for what was said before: names, spelling, style "
        "(default: none)",
    )
    parser.add_argument(
        "--hotwords",
        dest="whisper.hotwords",
        metavar="TEXT",
        help="words to expect (default: none)",
    )
    parser.add_argument(
        "--beam-size",
        dest="whisper.beam_size",
        type=int,
        metavar="N",
        help=f"hypotheses to keep, 1 to 10; 1 is fastest (default: {WhisperConfig().beam_size})",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show a progress bar on standard error (default: on a terminal)",
    )


def run_transcribe(args: argparse.Namespace, config: Config) -> int:
    """Carry out the command; give the exit code.

    Raises:
        ConfigError: arguments that do not go together, or a setting that cannot be met.
        ModelError: the model cannot be had.
    """
    targets = _targets(args.files, args.format, args.output)
    return asyncio.run(_run(args, config, targets))


async def _run(args: argparse.Namespace, config: Config, targets: dict[Path, Path | None]) -> int:
    # Not before the arguments are known to be right: these take seconds.
    from talkpath.agent.models import ModelStore
    from talkpath.agent.speech import SileroVad
    from talkpath.agent.whisper import WhisperEngine

    readable = [path for path in targets if _can_be_opened(path)]
    failed = len(targets) - len(readable)
    if not readable:
        return 1
    model = await asyncio.to_thread(ModelStore().pull, config.whisper.model)
    engine = await WhisperEngine.start(model, config.whisper)
    try:
        vad = SileroVad()
        for path in readable:
            job = _Job(args, config, engine, vad)
            try:
                await job.transcribe(path, targets[path], many=len(targets) > 1)
            except (AudioError, DecodeFailed) as error:
                failed += 1
                _complain(str(error) if str(path) in str(error) else f"{path}: {error}")
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                failed += 1
                _complain(f"cannot write the transcript of {path}: {error.strerror or error}")
    finally:
        engine.close()
    return 1 if failed else 0


class _Job:
    """Transcribes one file after the other with the same settings."""

    def __init__(
        self, args: argparse.Namespace, config: Config, engine: "WhisperEngine", vad: "SileroVad"
    ) -> None:
        self._args = args
        self._config = config
        # The times of words cost 4 % of a run; without them a long cue is cut in its middle.
        words = args.words or args.format in ("srt", "vtt")
        self._options = replace(DecodeOptions.of(config.whisper), word_timestamps=words)
        self._engine = engine
        self._vad = vad

    async def transcribe(self, path: Path, target: Path | None, *, many: bool) -> None:
        """Transcribe one file to its target, or to standard output."""
        if target is not None:
            with _written_at_once(target) as write:
                await self._write(path, write)
        elif self._args.format == "text":
            # The heading is that of head and tail.
            await self._write(path, _print, heading=f"==> {path} <==\n" if many else "")
        else:
            # What was printed cannot be taken back, and half an object is worse than none.
            parts: list[str] = []
            await self._write(path, parts.append)
            _print("".join(parts))

    async def _write(self, path: Path, write: Write, *, heading: str = "") -> None:
        from talkpath.agent.transcribe import FileTranscription

        writer = TranscriptWriter(self._args.format)
        with _progress_bar(path, self._args.progress) as progress:
            transcription = FileTranscription(
                path,
                self._engine,
                self._vad,
                language=self._config.whisper.language,
                options=self._options,
                threshold=self._config.speech.threshold,
                progress=progress,
            )
            opening = heading + writer.begin(str(path))
            async with aclosing(transcription.segments()) as segments:
                async for segment in segments:
                    write(opening + writer.segment(segment))
                    opening = ""
            language, duration_s = transcription.language, transcription.duration_s
            write(opening + writer.end(language=language, duration_s=duration_s))
        if transcription.problem is not None:
            _complain(f"warning: {transcription.problem}")


def _targets(files: list[Path], form: str, folder: Path | None) -> dict[Path, Path | None]:
    """Where each file's transcript goes; None is standard output."""
    files = list(dict.fromkeys(files))
    if folder is None:
        if len(files) > 1 and form in ("srt", "vtt"):
            raise ConfigError(
                f"subtitles of {len(files)} files cannot share one output: --output DIR takes them"
            )
        return dict.fromkeys(files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: {error.strerror}") from error
    stems = Counter(path.stem.casefold() for path in files)
    targets: dict[Path, Path | None] = {}
    for path in files:
        # a.mp3 and a.wav would both become a.txt: these keep their extension in the name.
        name = path.stem if stems[path.stem.casefold()] == 1 else path.name
        targets[path] = folder / f"{name}.{FORMATS[form]}"
    taken = Counter(str(target).casefold() for target in targets.values())
    for path, target in targets.items():
        if taken[str(target).casefold()] > 1:
            raise ConfigError(
                f"{path} and another file of that name would both be written to {target}"
            )
        if target is not None and path.exists() and target.exists() and path.samefile(target):
            raise ConfigError(f"{path} would be replaced by its own transcript")
    return targets


def _can_be_opened(path: Path) -> bool:
    """Tell at once, before a model is loaded, what has no chance."""
    from talkpath.agent.media import AudioFile

    try:
        AudioFile(path).close()
    except AudioError as error:
        _complain(str(error))
        return False
    return True


@contextlib.contextmanager
def _written_at_once(target: Path) -> Iterator[Write]:
    """Put a file in place only when it is whole; nothing is left of a failure or a Ctrl-C."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            yield file.write
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _progress_bar(path: Path, wanted: bool | None) -> Iterator["Progress | None"]:
    """Show a bar that counts seconds of audio."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield None
        return
    from tqdm import tqdm

    with tqdm(
        total=None, unit="s", desc=path.name, file=sys.stderr, leave=False, dynamic_ncols=True
    ) as bar:

        def show(done_s: float, total_s: float | None) -> None:
            bar.total = None if total_s is None else max(round(total_s), round(done_s))
            bar.n = round(done_s)
            bar.refresh()

        yield show


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(message: str) -> None:
    sys.stderr.write(f"talkpath: {message}\n")
