"""Tokens: Whisper's prompts, what its answers mean, and how tokens make words.

No model is needed here, only its ``tokenizer.json``: any decoder, whoever runs it, is given
these prompts, and its answers are cut at their time stamps here.
"""

import math
from collections.abc import Sequence
from typing import Any

from talkpath.agent.whisper.backend import TimedText

__all__ = ["WhisperTokens"]

_TIMESTAMP_S = 0.02
# An end stamp this close to the end of the audio ends the text: what follows was decoded
# from the silence behind it (0.5 s is what the short windows were measured with).
_END_SLACK_S = 0.5
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # split by letters, as in Whisper


class WhisperTokens:
    """The tokens of one model.

    Args:
        tokenizer: the ``tokenizers.Tokenizer`` of the model's ``tokenizer.json``.
        multilingual: False for the models that know English alone.

    Attributes:
        start: the token that an answer's prompt begins with, after the context.
        end_of_text: the token that ends an answer; text has lower numbers.
        start_of_previous: the token before the text that was said earlier.
        no_speech: the token whose probability after ``start`` says that nobody speaks.
        timestamp_begin: the time stamp of 0.00 s; each one above it is 0.02 s later.
    """

    def __init__(self, tokenizer: Any, multilingual: bool) -> None:
        from faster_whisper.tokenizer import Tokenizer

        # A text may hold time stamps ("<|0.00|>"), which some models' files do not list.
        tokenizer.add_special_tokens([f"<|{index * _TIMESTAMP_S:.2f}|>" for index in range(1501)])
        self._tokenizer = tokenizer
        self._multilingual = multilingual
        self._names = Tokenizer(tokenizer, multilingual, task="transcribe", language="en")
        self.start: int = self._names.sot
        self.end_of_text: int = self._names.eot
        self.start_of_previous: int = self._names.sot_prev
        self.no_speech: int = self._names.no_speech
        self.timestamp_begin: int = self._names.timestamp_begin

    def knows(self, language: str) -> bool:
        """Whether there is a token for a language; ``yue`` came with large-v3."""
        return self._tokenizer.token_to_id(f"<|{language}|>") is not None

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text, as they stand in the middle of speech; none for none."""
        text = text.strip()
        if not text:
            return ()
        spaced = text if text.startswith("<|") else " " + text
        ids = self._tokenizer.encode(spaced, add_special_tokens=False).ids
        # A text that names Whisper's own tokens shall not steer it.
        return tuple(x for x in ids if not self.end_of_text <= x < self.timestamp_begin)

    def prompt(self, language: str, task: str, context: Sequence[int] = ()) -> list[int]:
        """Tokens that a decoder starts from.

        Args:
            language: Whisper's code; of no effect for the models that know English alone.
            task: ``transcribe`` or ``translate``; likewise.
            context: tokens of what was said before.
        """
        before = [self.start_of_previous, *context] if context else []
        return [*before, *self.task(language, task)]

    def task(self, language: str, task: str) -> list[int]:
        """The prompt without any context."""
        if not self._multilingual:
            return [self.start]
        name = self._names.translate if task == "translate" else self._names.transcribe
        return [self.start, self._tokenizer.token_to_id(f"<|{language}|>"), name]

    def words(self, tokens: Sequence[int], language: str) -> list[tuple[str, int]]:
        """Cut text tokens into words.

        Returns:
            Each word as it stands in the text, spaces included, and its number of tokens.
            Punctuation is apart. Where the script has no spaces, each letter is a word.
        """
        from faster_whisper.tokenizer import Tokenizer

        splitter = Tokenizer(self._tokenizer, self._multilingual, "transcribe", language)
        texts, ids = splitter.split_to_word_tokens(list(tokens))
        words: list[tuple[str, int]] = []
        for text, part in zip(texts, ids, strict=True):
            joins = language not in _UNSPACED and not text.startswith(" ")
            if words and joins and any(letter.isalnum() for letter in text):
                # The rest of "ill-disposed" or "3.5", which the library takes for a word.
                words[-1] = (words[-1][0] + text, words[-1][1] + len(part))
            else:
                words.append((text, len(part)))
        return words

    def last_stamp(self, duration_s: float) -> int:
        """The time stamp from which on an end stamp says that so much audio is over."""
        steps = math.ceil(max(0.0, duration_s - _END_SLACK_S) / _TIMESTAMP_S)
        return self.timestamp_begin + steps

    def segments(self, tokens: Sequence[int], duration_s: float) -> tuple[TimedText, ...]:
        """Cut an answer at its time stamps, and off where the audio ends.

        Args:
            tokens: the answer, time stamps included.
            duration_s: length of the audio without its padding.
        """
        segments: list[TimedText] = []
        start_s = 0.0
        text: list[int] = []
        for token in tokens:
            if token < self.timestamp_begin:
                if token < self.end_of_text:
                    text.append(token)
                continue
            stamp_s = (token - self.timestamp_begin) * _TIMESTAMP_S
            if not text:
                if stamp_s >= duration_s and segments:
                    break
                start_s = stamp_s
                continue
            segments.append(self._segment(text, start_s, min(stamp_s, duration_s)))
            text = []
            start_s = stamp_s
            if stamp_s >= duration_s - _END_SLACK_S:
                break
        if text:
            segments.append(self._segment(text, start_s, duration_s))
        return tuple(segment for segment in segments if segment.text)

    def _segment(self, tokens: list[int], start_s: float, end_s: float) -> TimedText:
        text = self._tokenizer.decode(tokens).strip()
        return TimedText(min(start_s, end_s), end_s, text, tuple(tokens))
