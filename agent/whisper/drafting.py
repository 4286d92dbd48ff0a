"""Drafting: greedy decoding of CTranslate2's encoder output with the decoder that checks drafts."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.errors import ModelError
from talkpath.agent.whisper.backend import Decoded, Item
from talkpath.agent.whisper.decoder import Answer, DraftingDecoder, Memory, Task
from talkpath.agent.whisper.rules import TokenRules
from talkpath.agent.whisper.tokens import WhisperTokens
from talkpath.agent.whisper.weights import read_weights
from talkpath.agent.whisper.windows import MAX_POSITIONS, token_cap

__all__ = ["Drafting"]


class Drafting:
    """The decoder of a model folder, for the items of a backend.

    Args:
        path: folder with ``model.bin`` and ``config.json``.
        tokens: the model's.
        languages: codes of the languages that it can tell apart; none for English-only models.

    Raises:
        ModelError: the decoder cannot be made of this model, or not on this machine.
    """

    def __init__(self, path: Path, tokens: WhisperTokens, languages: Iterable[str]) -> None:
        weights = read_weights(path / "model.bin")
        suppressed = torch.zeros(weights.rows("decoder/projection/weight"))
        never = [*_never(path), tokens.timestamp_begin - 1]
        if not all(0 <= token < len(suppressed) for token in never):
            raise ModelError(f"the tokens in {path / 'config.json'} are not this model's")
        suppressed[never] = float("-inf")
        rules = TokenRules(
            end_of_text=tokens.end_of_text,
            timestamp_begin=tokens.timestamp_begin,
            suppressed=suppressed,
        )
        self._tokens = tokens
        self._languages = {code: tokens.task(code, "transcribe")[1] for code in languages}
        self._decoder = DraftingDecoder(weights, rules, tokens.no_speech)

    def remember(self, encoded: FloatArray) -> list[Memory]:
        """Prepare encoded audio, float32 ``[items, positions, width]``, for all that follows."""
        return self._decoder.remember(encoded)

    def detect_language(self, memories: Sequence[Memory]) -> list[dict[str, float]]:
        """Probability of every language, for each item."""
        rows = self._decoder.next_probabilities(
            memories, [self._tokens.start], list(self._languages.values())
        )
        return [dict(zip(self._languages, row, strict=True)) for row in rows]

    def generate(
        self, memories: Sequence[Memory], items: Sequence[Item], *, max_tokens: int, task: str
    ) -> list[Decoded]:
        """Decode greedily with time stamps, each item with its draft; see ``Backend.generate``."""
        tasks = [self._task(item, max_tokens, task) for item in items]
        answers = self._decoder.decode(memories, tasks)
        return [self._decoded(*pair) for pair in zip(answers, items, strict=True)]

    def _task(self, item: Item, max_tokens: int, task: str) -> Task:
        prompt = self._tokens.prompt(item.language, task, item.context)
        return Task(
            prompt=tuple(prompt),
            start=len(item.context) + 1 if item.context else 0,
            # With nothing else to go by: most speech begins at once. A pass less where it does.
            draft=item.draft or (self._tokens.timestamp_begin,),
            max_tokens=min(
                max_tokens,
                token_cap(item.samples, item.language),
                MAX_POSITIONS - len(prompt),
            ),
            last_stamp=self._tokens.last_stamp(item.samples / SAMPLE_RATE_HZ),
        )

    def _decoded(self, answer: Answer, item: Item) -> Decoded:
        return Decoded(
            segments=self._tokens.segments(answer.tokens, item.samples / SAMPLE_RATE_HZ),
            # Whisper's own mean counts the end of text, which is certain where the audio is over.
            avg_logprob=sum(answer.logprobs) / (len(answer.tokens) + 1),
            no_speech_probability=answer.no_speech_probability,
            tokens=answer.tokens,
            drafted=answer.drafted,
            accepted=answer.accepted,
        )


def _never(path: Path) -> list[int]:
    """Tokens that no answer may hold: marks that are not spoken, such as brackets and notes."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return list(config["suppress_ids"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path / 'config.json'} is not that of a Whisper model") from error
