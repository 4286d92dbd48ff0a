"""A file with one line of JSON for each record, to which several processes may add at once."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkpath.agent.errors import TalkpathError

__all__ = ["append_line", "make_file"]


def make_file(file: Path) -> None:
    """Make a file for records where there is none, and its folder; what is in it stays.

    Raises:
        TalkpathError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        raise TalkpathError(f"cannot write to {file}: {error}") from error


def append_line(file: Path, record: Mapping[str, Any]) -> None:
    """Add a record: all of it in one write, and on the disk when this returns.

    A file that ends in the middle of a line, because a machine died, loses only that line.

    Raises:
        TalkpathError: the file cannot be written.
    """
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # or another's line is seen half written
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            written = os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise TalkpathError(f"cannot write to {file}: {error}") from error
    if written < len(line):
        raise TalkpathError(f"cannot write to {file}: only a part of a line was taken")
