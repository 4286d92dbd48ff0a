"""Departments, and one call that finds the right one. No input or output but reading the TOML file.

A file looks like this::

    greeting = "Hello, how can I help you?"

    [[department]]
    name = "billing"
    words = ["bill", "invoice", "refund", "charged"]
    target = "sip:billing@example.org"
    key = "1"

    [[department]]
    name = "an operator"
    target = "sip:operator@example.org"
    key = "0"
    fallback = true              # for callers who cannot be understood
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from talkpath.agent.answers import wants_repeat, yes_no
from talkpath.agent.dialogue import Step
from talkpath.agent.errors import ConfigError
from talkpath.agent.spoken_choices import are_phrases, choices, confusable

__all__ = ["Department", "Directory", "Routing", "load_directory"]

_TRIES = 3
"""Times that a caller is asked before the fallback's turn."""
_REPEATS = 3
"""Times that it is said again for who asks; after them, to ask counts as a try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """One place to go to.

    Attributes:
        name: as it is spoken, and one of its phrases.
        target: where it is: a telephone number, a SIP address, a bot's name or URL.
        words: phrases that callers use for it.
        key: its key, 0 to 9; empty for none.
        fallback: whether callers who cannot be understood go there.
    """

    name: str
    target: str
    words: Sequence[str] = ()
    key: str = ""
    fallback: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.name, self.target, self.key)):
            raise ConfigError(f"department {self.name!r}: name, target and key must be texts")
        if self.words and not are_phrases(self.words):
            raise ConfigError(f"department {self.name!r}: words must be a list of phrases")
        if not isinstance(self.fallback, bool):
            raise ConfigError(f"department {self.name!r}: fallback must be true or false")
        if not self.name or not self.target:
            raise ConfigError("a department needs a name and a target")
        if self.key and (len(self.key) != 1 or not self.key.isdigit()):
            raise ConfigError(f"department {self.name!r}: key must be one of 0 to 9")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """All departments.

    Attributes:
        greeting: said first.
        departments: two or more, of which one at most is the fallback.
    """

    greeting: str = "Hello, how can I help you?"
    departments: tuple[Department, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.greeting, str):
            raise ConfigError("greeting must be a text")
        keys = [each.key for each in self.departments if each.key]
        names = {each.name for each in self.departments}
        if len(self.departments) < 2 or len(names) < len(self.departments):
            raise ConfigError("a directory needs two departments with names of their own")
        if len(set(keys)) < len(keys):
            raise ConfigError("two departments have the same key")
        if sum(each.fallback for each in self.departments) > 1:
            raise ConfigError("only one department can be the fallback")
        alike = confusable(_phrases(self.departments))
        if alike is not None:
            raise ConfigError(f"phrases of two departments are too alike: {' and '.join(alike)}")


def load_directory(file: Path) -> Directory:
    """Read a directory.

    Raises:
        ConfigError: the file cannot be read, or something in it is wrong.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        departments = tuple(Department(**entry) for entry in content.pop("department", []))
        return Directory(**content, departments=departments)
    except (OSError, ValueError) as error:  # TOML's and Unicode's errors are ValueErrors
        raise ConfigError(f"cannot read the departments in {file}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"wrong entry in the departments in {file}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


class Routing:
    """One call that is sent on; a `talkpath.agent.dialogue.Dialogue`.

    A caller who names one department goes there; who names two is asked which; who names none is
    told what there is, then the keys, and goes to the fallback at last.

    Args:
        directory: the departments.

    Attributes:
        target: where the caller was sent; empty so far.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._candidates: Sequence[Department] = ()
        self._tries = 0
        self._repeats = 0
        self._asked = directory.greeting
        self.target = ""

    def start(self) -> Step:
        """Greet."""
        return self._ask(self._directory.greeting)

    def silent(self) -> str:
        """Ask again."""
        return f"I did not hear anything. {self._asked}"

    def heard(self, text: str) -> Step:
        """Take what the caller wants."""
        if self.target:
            return Step()
        if wants_repeat(text):
            self._repeats += 1
            return Step(self._asked) if self._repeats <= _REPEATS else self._retry(self._asked)
        among = self._candidates or self._directory.departments
        named = choices(text, _phrases(among))
        if not named and self._candidates:  # neither: perhaps something else
            named = choices(text, _phrases(self._directory.departments))
        found = [each for each in self._directory.departments if each.name in named]
        if len(found) == 1:
            return self._send(found[0])
        if found:
            self._candidates = found
            return self._retry(f"Do you mean {_either(found)}?")
        if yes_no(text) is False:
            self._candidates = ()
        return self._retry(f"You can say {_either(self._directory.departments)}.")

    def pressed(self, key: str) -> Step:
        """Take a key."""
        if self.target:
            return Step()
        for each in self._directory.departments:
            if each.key == key:
                return self._send(each)
        return self._ask(self._menu())

    def _retry(self, question: str) -> Step:
        self._tries += 1
        if self._tries == _TRIES - 1 and not self._candidates:
            return self._ask(f"Sorry, I did not get that. {self._menu() or question}")
        if self._tries < _TRIES:
            return self._ask(question)
        for each in self._directory.departments:
            if each.fallback:
                return self._send(each)
        return Step("Sorry, I do not know where to send you. Please call again later.", ends=True)

    def _ask(self, question: str) -> Step:
        self._asked = question or self._asked
        return Step(self._asked)

    def _send(self, department: Department) -> Step:
        self.target = department.target
        return Step(f"I will put you through to {department.name}.", True, department.target)

    def _menu(self) -> str:
        keys = [
            f"press {each.key} for {each.name}" for each in self._directory.departments if each.key
        ]
        return f"Please {', '.join(keys)}." if keys else ""


def _phrases(departments: Sequence[Department]) -> dict[str, Sequence[str]]:
    return {each.name: (each.name, *each.words) for each in departments}


def _either(departments: Sequence[Department]) -> str:
    names = [each.name for each in departments]
    return f"{', '.join(names[:-1])} or {names[-1]}"
