"""Transcripts as text, SubRip, WebVTT or JSON, written as the segments come.

A writer gives strings and knows no files::

    writer = TranscriptWriter("srt")
    out.write(writer.begin("talk.mp3"))
    for segment in segments:
        out.write(writer.segment(segment))
    out.write(writer.end(language="en", duration_s=61.2))

A conversation is written turn by turn (``writer.turn``): a line each as text, and with the
speaker's name where there are several.

Formats: WebVTT is https://www.w3.org/TR/webvtt1/; SubRip has no standard, so what all players
take is written: numbers from 1, a comma before the milliseconds, no markup.

Subtitles have at most two lines of 42 columns and stay for at most seven seconds, the usual
limits of broadcasters; longer segments are split between words, at punctuation where it is near.
The parts begin and end with their words where these have times, and otherwise share the
segment's time by the length of the text.
"""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from talkpath.agent.conversation import SpokenTurn
from talkpath.agent.whisper.results import Segment

__all__ = ["FORMATS", "Cue", "TranscriptWriter", "cues"]

FORMATS = {"text": "txt", "srt": "srt", "vtt": "vtt", "json": "json"}
"""The formats, and the extension of a file in each."""

_LINE_COLUMNS = 42
_LINES = 2
_LONGEST_MS = 7000
_SHORTEST_MS = 100


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle.

    Attributes:
        start_ms: when it appears.
        end_ms: when it goes; always later than it appears.
        lines: one or two lines of text, without markup.
    """

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """A word, or a letter of a script that puts no spaces; ``glue`` is what stands before it."""

    glue: str
    text: str


class TranscriptWriter:
    """Writes one transcript.

    Args:
        form: ``text``, ``srt``, ``vtt`` or ``json``.

    Raises:
        ValueError: there is no such format.
    """

    def __init__(self, form: str) -> None:
        if form not in FORMATS:
            raise ValueError(f"{form!r} is not a format; there are {', '.join(FORMATS)}")
        self._form = form
        self._cues = 0
        self._last_ms: dict[str, int] = {}  # by speaker: people talk at the same time
        self._texts: list[str] = []
        self._turns = 0
        self._speaker = ""

    def begin(self, name: str) -> str:
        """Give what stands before the first segment of the file called ``name``."""
        if self._form == "json":
            return f'{{"file": {json.dumps(name, ensure_ascii=False)}, "segments": ['
        return "WEBVTT\n" if self._form == "vtt" else ""

    def segment(self, segment: Segment) -> str:
        """Give a segment's part; nothing for one without words."""
        text = _clean(segment.text)
        if not text:
            return ""
        if self._form == "text":
            return text + "\n"
        if self._form == "json":
            return self._json(segment, text)
        return "".join(self._cue(cue) for cue in self._following(segment))

    def turn(self, turn: SpokenTurn) -> str:
        """Give a turn's part; nothing for one without words."""
        segments = [segment for segment in turn.segments if _clean(segment.text)]
        if not segments:
            return ""
        self._turns += 1
        name = _clean(turn.speaker).capitalize()
        if self._form == "text":
            return (f"{name}: " if name else "") + _clean(turn.text) + "\n"
        if self._form == "json":
            marks = {"turn": self._turns} | ({"speaker": turn.speaker} if name else {})
            return "".join(self._json(one, _clean(one.text), **marks) for one in segments)
        return "".join(self._spoken_cues(segments, name))

    def end(self, *, language: str | None, duration_s: float | None) -> str:
        """Give what stands after the last segment."""
        if self._form != "json":
            return ""
        rest = {
            "text": " ".join(self._texts),
            "language": language,
            "duration_s": None if duration_s is None else round(duration_s, 3),
        }
        return "], " + json.dumps(rest, ensure_ascii=False)[1:] + "\n"

    def _spoken_cues(self, segments: list[Segment], name: str) -> Iterator[str]:
        """Cues that say who speaks: WebVTT with its own mark, SubRip where that changes."""
        for segment in segments:
            for cue in self._following(segment, name):
                if self._form == "srt" and name and name != self._speaker:
                    self._speaker = name
                    cue = replace(cue, lines=(f"{name}: {cue.lines[0]}", *cue.lines[1:]))
                yield self._cue(cue, name)

    def _json(self, segment: Segment, text: str, **marks: Any) -> str:
        separator = ", " if self._texts else ""
        self._texts.append(text)
        start_s, end_s = round(segment.start_s, 3), round(segment.end_s, 3)
        item: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "text": text, **marks}
        if segment.words:
            item["words"] = [
                {
                    "start_s": round(word.start_s, 3),
                    "end_s": round(word.end_s, 3),
                    "text": _clean(word.text),
                    "probability": round(word.probability, 3),
                }
                for word in segment.words
            ]
        return separator + json.dumps(item, ensure_ascii=False)

    def _following(self, segment: Segment, speaker: str = "") -> Iterator[Cue]:
        for cue in cues(segment, not_before_ms=self._last_ms.get(speaker, 0)):
            self._last_ms[speaker] = cue.end_ms
            yield cue

    def _cue(self, cue: Cue, speaker: str = "") -> str:
        self._cues += 1
        text = "\n".join(cue.lines)
        if self._form == "vtt":
            voice = f"<v {_escaped(speaker)}>" if speaker else ""
            times = f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}"
            return f"\n{times}\n{voice}{_escaped(text)}\n"
        # An arrow would be taken for another cue's times; SubRip knows no way to escape it.
        text = text.replace("-->", "->")
        before = "\n" if self._cues > 1 else ""
        times = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
        return f"{before}{self._cues}\n{times}\n{text}\n"


def cues(segment: Segment, *, not_before_ms: int = 0) -> Iterator[Cue]:
    """Split a segment into subtitles that follow on each other.

    Args:
        segment: its text may be of any length.
        not_before_ms: the end of the subtitle before, which must not be overlapped.
    """
    start_ms = max(round(segment.start_s * 1000), not_before_ms)
    words = _words(_clean(segment.text))
    if not words:
        return
    parts = _split(words, max(round(segment.end_s * 1000) - start_ms, _SHORTEST_MS))
    end_ms = max(round(segment.end_s * 1000), start_ms + _SHORTEST_MS * len(parts))
    times = _spoken(parts, segment) or _shared(parts, start_ms, end_ms)
    for index, (part, (first_ms, last_ms)) in enumerate(zip(parts, times, strict=True)):
        latest_ms = end_ms - _SHORTEST_MS * (len(parts) - index - 1)
        first_ms = min(max(first_ms, not_before_ms), latest_ms - _SHORTEST_MS)
        not_before_ms = min(max(last_ms, first_ms + _SHORTEST_MS), latest_ms)
        yield Cue(first_ms, not_before_ms, _lines(part))


def _shared(parts: list[list[_Word]], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """Give each part a share of the time by the length of its text."""
    passed = list(accumulate(_width(part) for part in parts))
    length_ms = end_ms - start_ms
    stops = [start_ms + round(length_ms * done / max(passed[-1], 1)) for done in passed]
    return list(zip([start_ms, *stops[:-1]], stops, strict=True))


def _spoken(parts: list[list[_Word]], segment: Segment) -> list[tuple[int, int]]:
    """When each part begins and ends, by its words; nothing where these have no times."""
    owners = [word for word in segment.words for letter in _clean(word.text) if letter != " "]
    lengths = [len(_text(part).replace(" ", "")) for part in parts]
    if not owners or len(owners) != sum(lengths):
        return []
    ends = list(accumulate(lengths))
    starts = [0, *ends[:-1]]
    return [
        (round(owners[start].start_s * 1000), round(owners[end - 1].end_s * 1000))
        for start, end in zip(starts, ends, strict=True)
    ]


def _split(words: list[_Word], duration_ms: float) -> list[list[_Word]]:
    """Halve until every part fits."""
    if len(words) == 1 or (duration_ms <= _LONGEST_MS and len(_wrap(words)) <= _LINES):
        return [words]
    at = _break(words)
    left, right = words[:at], words[at:]
    share = _width(left) / _width(words)
    return _split(left, duration_ms * share) + _split(right, duration_ms * (1 - share))


def _break(words: list[_Word]) -> int:
    """Where to cut in two: near the middle, rather after punctuation."""
    total = _width(words)

    def cost(index: int) -> float:
        off = abs(_width(words[:index]) / total - 0.5)
        last = words[index - 1].text[-1]
        return off - (0.2 if last in ".?!…。？！" else 0.12 if last in ",;:、，" else 0.0)  # noqa: RUF001

    return min(range(1, len(words)), key=cost)


def _lines(words: list[_Word]) -> tuple[str, ...]:
    """Set a part in one line, or in two of about the same length."""
    wrapped = _wrap(words)
    if len(wrapped) != _LINES:
        return tuple(_text(line) for line in wrapped)
    at = _break(words)
    if max(_width(words[:at]), _width(words[at:])) > _LINE_COLUMNS:
        return tuple(_text(line) for line in wrapped)
    return _text(words[:at]), _text(words[at:])


def _wrap(words: list[_Word]) -> list[list[_Word]]:
    lines: list[list[_Word]] = []
    for word in words:
        if lines and _width([*lines[-1], word]) <= _LINE_COLUMNS:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _words(text: str) -> list[_Word]:
    words = []
    for part in text.split():
        if _columns(part) <= _LINE_COLUMNS:
            words.append(_Word(" ", part))
            continue
        # A script without spaces, or nonsense: it may be broken anywhere.
        glue = " "
        for letter in part:
            if unicodedata.combining(letter) and words:
                words[-1] = _Word(words[-1].glue, words[-1].text + letter)
            else:
                words.append(_Word(glue, letter))
            glue = ""
    return words


def _text(words: list[_Word]) -> str:
    return "".join(word.glue + word.text for word in words).strip()


def _width(words: list[_Word]) -> int:
    return _columns(_text(words))


def _columns(text: str) -> int:
    """Columns on a screen: wide letters of East Asia take two (Unicode annex 11)."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _clean(text: str) -> str:
    """One line without control characters, which would end a cue or break a file."""
    spaced = "".join(" " if letter.isspace() else letter for letter in text)
    kept = (letter for letter in spaced if unicodedata.category(letter) not in ("Cc", "Cs"))
    return " ".join("".join(kept).split())


def _escaped(text: str) -> str:
    """Letters that WebVTT takes for marks, by their names."""
    for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(letter, name)
    return text


def _clock(milliseconds: int, point: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"
