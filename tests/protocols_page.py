"""What docs/protocols.md says, in parts that tests can compare with the code.

Blocks of code on that page say what they are in the words behind their language::

    json <protocol> client       messages that a client may send
    json <protocol> server       messages that the server sends
    text <protocol> exchange     ``> `` before what the client sends, ``< `` before what comes

In an exchange, ``(n bytes)`` is a binary frame, ``(closed with n)`` the close frame, and ``...``
as a message's ``audio`` stands for 0.2 s of silence.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PAGE", "Block", "Line", "blocks", "lines", "messages", "tables"]

PAGE = (Path(__file__).parent.parent / "docs" / "protocols.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A block of code: the words behind its three ticks, what it says, and where it stands."""

    words: tuple[str, ...]
    content: str
    line: int


@dataclass(frozen=True)
class Line:
    """What one side says in an exchange: a message, a binary frame's length, a close code."""

    by_client: bool
    message: dict[str, Any] | int


def blocks(*words: str) -> list[Block]:
    """All blocks whose first words are these."""
    return [block for block in _blocks() if block.words[: len(words)] == words]


def _blocks() -> Iterator[Block]:
    for match in re.finditer(r"^```(\S[^\n]*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        line = PAGE.count("\n", 0, match.start()) + 1
        yield Block(tuple(match[1].split()), match[2], line)


def messages(block: Block) -> Iterator[dict[str, Any]]:
    """The messages in a block of JSON, which may hold several, one after the other."""
    rest = block.content.strip()
    while rest:
        message, end = json.JSONDecoder().raw_decode(rest)
        yield message
        rest = rest[end:].strip()


def lines(block: Block) -> Iterator[Line]:
    """What is said in an exchange; a message goes on as long as lines are indented."""
    for said in re.findall(r"^[<>] .*(?:\n  .*)*", block.content, re.MULTILINE):
        number = re.fullmatch(r". \((\d+) bytes\)|. \(closed with (\d+)\)", said)
        message = int(number[1] or number[2]) if number else json.loads(said[2:])
        yield Line(said[0] == ">", message)


def tables(heading: str) -> list[list[str]]:
    """The rows of all tables below a heading, up to the next one; cells without outer spaces."""
    section = re.search(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", _without_code(), re.DOTALL | re.MULTILINE
    )
    assert section is not None, f"there is no heading {heading!r}"
    bodies = re.findall(r"^\|[-|]+\|\n((?:\|.*\|\n)*)", section[1], re.MULTILINE)
    rows = "".join(bodies).splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def _without_code() -> str:
    return re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
