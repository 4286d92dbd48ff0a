"""Word error rate the way Whisper's paper counts it."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from talkpath.agent.errors import MissingDependency

__all__ = ["WordErrors", "normalise_english", "word_error_rate", "word_errors"]


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Word errors over a set of utterances.

    Attributes:
        errors: substitutions, deletions and insertions together.
        words: words of the references.
    """

    errors: int
    words: int

    @property
    def rate(self) -> float:
        """Errors by words; above 1 when a model invents more than was said."""
        return self.errors / max(self.words, 1)


def normalise_english(text: str) -> str:
    """Spell ``text`` as Whisper's English normaliser does: no case, no punctuation, digits.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), appendix C.

    Raises:
        MissingDependency: the ``bench`` extra is not installed.
    """
    return _english_normaliser()(text)


def word_errors(references: Iterable[str], hypotheses: Iterable[str]) -> WordErrors:
    """Count the word errors of ``hypotheses`` against ``references``, both normalised.

    Raises:
        MissingDependency: the ``bench`` extra is not installed.
        ValueError: there are more of the one than of the other.
    """
    try:
        import jiwer
    except ImportError as error:
        raise _missing("jiwer") from error
    errors = words = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        wanted, given = normalise_english(reference), normalise_english(hypothesis)
        if not wanted.split():  # jiwer refuses an empty reference
            errors += len(given.split())
            continue
        result = jiwer.process_words(wanted, given)
        errors += result.substitutions + result.deletions + result.insertions
        words += result.hits + result.substitutions + result.deletions
    return WordErrors(errors, words)


def word_error_rate(references: Iterable[str], hypotheses: Iterable[str]) -> float:
    """Give the word error rate over all utterances; 0.05 is 5 %.

    Raises:
        MissingDependency: the ``bench`` extra is not installed.
        ValueError: there are more of the one than of the other.
    """
    return word_errors(references, hypotheses).rate


@functools.cache
def _english_normaliser() -> Callable[[str], str]:
    try:
        from whisper_normalizer.english import (
            EnglishTextNormalizer,
        )
    except ImportError as error:
        raise _missing("whisper-normalizer") from error
    normaliser: Callable[[str], str] = EnglishTextNormalizer()
    return normaliser


def _missing(package: str) -> MissingDependency:
    return MissingDependency(
        f'word error rates need {package}: pip install "talkpath[bench]" installs it'
    )
