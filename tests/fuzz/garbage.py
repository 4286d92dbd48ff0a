"""Frames of a client that is broken, hostile, or nearly right."""

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

__all__ = ["Garbage"]

# What has broken parsers: constants that are not JSON, numbers beyond any type, halves of
# characters, control characters, doubled keys, and nesting (beside it, what opens nothing).
_TOKENS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-0.0",
    "1" * 400,
    "1" * 5_000,
    "0.1e-400",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u0000"',
    "\x00",
    "\ufeff",
    "\ud83d",
    '"type":',
    '{"type":1,"type":2}',
    "[" * 60,
    "[" * 100_000,
    '{"a":' * 5_000,
    "{",
    "}",
    '"',
    "\\",
    ",",
    ":",
    "null",
    "true",
    "[]",
    "{}",
)
_NEAR: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, 1.0, 1e308, 5e-324, 2**31, 2**63, 10**300,
    100, 300, 448, 500, 8_000, 16_000, 24_000, 44_100.0,
    "", "en", "auto", "de-DE", "none", "low", "xhigh", "pcm16", "pcm_mulaw", "audio/pcmu",
    "server_vad", "semantic_vad", "transcription", "gpt-realtime-whisper", "near_field",
    "item.input_audio_transcription.logprobs", "\ud800", "x" * 3_000, "\n", "日本", "AAAA", "A",
    [], [0], ["en"], [None], [[]], {}, {"type": "server_vad"}, {"type": None}, {"": {}},
)  # fmt: skip


class Garbage:
    """A source of frames, the same for the same seed.

    Args:
        rng: makes the choices.
        valid: messages that the protocol knows.
    """

    def __init__(self, rng: random.Random, valid: Sequence[dict[str, Any]]) -> None:
        self._rng = rng
        self._valid = [json.dumps(message) for message in valid]

    def text(self) -> str:
        """A text frame: most often a valid message, or one with a few changes."""
        message = self._rng.choice(self._valid)
        match self._rng.randrange(8):
            case 0 | 1:
                return message
            case 2 | 3:
                return json.dumps(self._changed(json.loads(message)))
            case 4:
                return self._damaged(message)
            case 5:
                return self._damaged(json.dumps(self._changed(json.loads(message))))
            case 6:
                return json.dumps(self.value())
            case _:
                return self._string()

    def binary(self) -> bytes:
        """A binary frame."""
        return self._rng.randbytes(self._rng.choice((0, 1, 2, 3, 640, 1_024, 4_097)))

    def value(self, depth: int = 0) -> Any:
        """Any value of JSON, and some that only Python takes for one."""
        kind = self._rng.randrange(12 if depth < 4 else 8)
        if kind < 4:
            return self._near()
        if kind < 5:
            return self._rng.choice((float("nan"), float("inf"), -float("inf")))
        if kind < 6:
            return self._rng.uniform(-1, 1) * 10 ** self._rng.randrange(-9, 9)
        if kind < 7:
            return self._rng.randrange(-(10**6), 10**6)
        if kind < 8:
            return self._string()
        inside = [self.value(depth + 1) for _ in range(self._rng.randrange(4))]
        return inside if kind < 10 else {self._key(): value for value in inside}

    def _near(self) -> Any:
        """What means something somewhere; a copy, for it may be changed."""
        return copy.deepcopy(self._rng.choice(_NEAR))

    def _key(self) -> str:
        names = ("type", "trace_id", "event_id", "session", "audio", "threshold", "include")
        return self._rng.choice(names) if self._rng.random() < 0.5 else self._string()

    def _string(self) -> str:
        letters = 'aZ09 \\"{}[]:,.\x00\x1f\x7f\u2028é日\ud83d\udc00\U0001f600'
        return "".join(self._rng.choices(letters, k=self._rng.choice((0, 1, 3, 20, 300))))

    def _changed(self, message: Any) -> Any:
        """A message with a few of its fields changed, dropped, renamed, doubled or wrapped."""
        for _ in range(self._rng.randrange(1, 4)):
            holders = list(_objects(message))
            holder = self._rng.choice(holders) if holders else {}
            if not holder:
                return self.value()
            name = self._rng.choice(list(holder))
            match self._rng.randrange(6):
                case 0 | 1:
                    holder[name] = self.value()
                case 2:
                    holder[name] = self._near()
                case 3:
                    del holder[name]
                case 4:
                    holder[name + self._rng.choice(("s", "_ms", "\ud800", ""))] = holder.pop(name)
                case _:
                    holder[self._key()] = {name: holder[name]}
        return message

    def _damaged(self, frame: str) -> str:
        """A frame of which a piece is missing, doubled, or replaced by what breaks parsers."""
        start = self._rng.randrange(len(frame) + 1)
        end = min(len(frame), start + self._rng.choice((0, 0, 1, 2, 8, 10_000)))
        middle = self._rng.choice((*_TOKENS, frame[start:end] * 2, ""))
        return frame[:start] + middle + frame[end:]


def _objects(value: Any) -> Any:
    """All objects in a value, itself included."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _objects(inner)
