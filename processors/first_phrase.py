"""First phrase: the voice need not wait for a reply's whole first sentence."""

from collections.abc import AsyncIterator

from pipecat.utils.text.base_text_aggregator import Aggregation, BaseTextAggregator
from pipecat.utils.text.simple_text_aggregator import SimpleTextAggregator

__all__ = ["FirstPhrase"]

_SHORTEST = 16
"""Characters of a phrase that can be spoken by itself, about a second."""


class FirstPhrase(BaseTextAggregator):
    """Gives a reply's sentences, and of the first one what stands before a comma at once.

    A voice takes its melody from the whole sentence, so only the first sound, which the
    caller waits for, is worth the cut. It goes into Pipecat's ``LLMTextProcessor``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sentences = SimpleTextAggregator()
        self._begun = False

    @property
    def text(self) -> Aggregation:
        """What waits for its end."""
        return self._sentences.text

    async def aggregate(self, text: str) -> AsyncIterator[Aggregation]:
        """Take the next text of the model and give what can be spoken."""
        for char in text:
            async for sentence in self._sentences.aggregate(char):
                self._begun = True
                yield sentence
            if not self._begun and char.isspace() and self._is_phrase(self.text.text):
                self._begun = True
                phrase = await self._sentences.flush()
                if phrase is not None:
                    yield phrase

    async def flush(self) -> Aggregation | None:
        """End the reply: give the rest."""
        self._begun = False
        return await self._sentences.flush()

    async def handle_interruption(self) -> None:
        """Forget the reply."""
        self._begun = False
        await self._sentences.handle_interruption()

    async def reset(self) -> None:
        """Forget everything."""
        self._begun = False
        await self._sentences.reset()

    def _is_phrase(self, text: str) -> bool:
        return len(text) >= _SHORTEST and text[-1] in ",;:"
