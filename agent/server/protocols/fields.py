"""Fields: what a client sent as JSON, read field by field, and refused by the name of a field.

The codes are those of OpenAI's errors. They are a matter of the wire only: no other part of
talkpath sees a ``Refused``.
"""

import json
import re
from collections.abc import Collection, Mapping

__all__ = ["Fields", "Refused", "has_too_many_values", "known_language", "parse_object"]

# Reading JSON holds the event loop up. 16 MiB of audio in base64 take 0.02 s, as many bytes of
# lists in lists took 2.6 s.
_MOST_VALUES = 10_000
_LONGEST_SHOWN = 60  # letters of what a client sent that an error repeats


class Refused(Exception):
    """Something that a client sent cannot be taken.

    Attributes:
        code: the protocol's word for what is wrong.
        message: a sentence for the client.
        param: path of the field, such as ``session.audio.input.format``.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def _shown(value: object) -> str:
    """A value of JSON for an error message: not long."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


class Fields:
    """An object of JSON, read field by field. A field of null counts as not given.

    Every method raises ``Refused`` with the field's path.
    """

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise Refused("invalid_type", f"{path or 'an event'} must be an object", path or None)
        self._values: Mapping[str, object] = value
        self._path = path

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def path_of(self, name: str) -> str:
        """The path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def value(self, name: str) -> object:
        """A field of any type, or None."""
        return self._values.get(name)

    def only(self, *names: str) -> None:
        """Refuse every field but these."""
        for name in self._values:
            if name not in names:
                path = self.path_of(name[:_LONGEST_SHOWN])
                raise Refused("unknown_parameter", f"there is no field {_shown(path)}", path)

    def required(self, name: str) -> object:
        """A field that must be there."""
        value = self.value(name)
        if value is None:
            path = self.path_of(name)
            raise Refused("missing_required_parameter", f"{path} is missing", path)
        return value

    def child(self, name: str) -> "Fields | None":
        """An object in a field."""
        value = self.value(name)
        return None if value is None else Fields(value, self.path_of(name))

    def text(self, name: str) -> str | None:
        """Text that can be written as UTF-8; JSON also lets in halves of characters."""
        value = self.value(name)
        if value is None or (isinstance(value, str) and _is_text(value)):
            return value
        raise self._wrong("invalid_type", name, "must be text")

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(x, str) and _is_text(x) for x in value):
            return tuple(value)
        raise self._wrong("invalid_type", name, "must be a list of texts")

    def choice(self, name: str, *choices: str) -> str | None:
        """One of some words."""
        value = self.text(name)
        if value is None or value in choices:
            return value
        given = f"must be {' or '.join(choices)}, not {_shown(value)}"
        raise self._wrong("invalid_value", name, given)

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong("invalid_type", name, "must be true or false")

    def number(self, name: str, low: float, high: float, *, inside: bool = False) -> float | None:
        """A number within limits, both included, or excluded where it must lie inside."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong("invalid_type", name, "must be a number")
        if not low <= value <= high or (inside and value in (low, high)):
            limits = f"above {low:g} and below {high:g}" if inside else f"from {low:g} to {high:g}"
            raise self._wrong("invalid_value", name, f"must be {limits}, not {_shown(value)}")
        return float(value)

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within limits, both included."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong("invalid_type", name, "must be a whole number")
        if not low <= value <= high:
            limits = f"must be from {low} to {high}, not {_shown(value)}"
            raise self._wrong("invalid_value", name, limits)
        return value

    def _wrong(self, code: str, name: str, what: str) -> Refused:
        path = self.path_of(name)
        return Refused(code, f"{path} {what}", path)


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def known_language(text: str, languages: Collection[str]) -> str | None:
    """Whisper's code for a language, of ``en-US`` the ``en``; None if it does not know it.

    Args:
        text: what a client sent.
        languages: codes that the model knows; empty lets everything pass that looks like one,
            for the engine to refuse.
    """
    code = re.split("[-_]", text.strip().lower())[0]
    known = code in languages if languages else re.fullmatch("[a-z]{2,3}", code)
    return code if known else None


def has_too_many_values(frame: str) -> bool:
    """Whether a text frame, if it is JSON, has more values than any message and is slow to read.

    Every value stands behind a comma or a bracket; those in texts are counted, too.
    """
    return len(frame) > _MOST_VALUES and sum(map(frame.count, ",[{")) > _MOST_VALUES


def parse_object(frame: str) -> Fields:
    """The object that a text frame holds.

    Raises:
        Refused: it holds none.
    """
    if has_too_many_values(frame):
        raise Refused("invalid_json", "the frame has more values than any event")
    try:
        value = json.loads(frame, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        # Only the decoder's own words are fit to be repeated.
        why = error.msg if isinstance(error, json.JSONDecodeError) else "a value is impossible"
        raise Refused("invalid_json", f"the frame is not JSON: {why}") from None
    return Fields(value)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
