"""First phrase: the voice need not wait for a reply's whole first sentence.

``Phrases`` takes ``LLMTextFrame``, and ``ReplyCutFrame`` from the reply stage; it gives
``AggregatedTextFrame``, each a sentence or a phrase that can be spoken by itself.
"""

import re
from collections.abc import AsyncIterator

from pipecat.frames.frames import AggregatedTextFrame, Frame
from pipecat.processors.aggregators.llm_text_processor import LLMTextProcessor
from pipecat.processors.frame_processor import FrameDirection
from pipecat.utils.text.base_text_aggregator import Aggregation, BaseTextAggregator
from pipecat.utils.text.simple_text_aggregator import SimpleTextAggregator

from talkpath.processors.frames import ReplyCutFrame

__all__ = ["FirstPhrase", "Phrases"]

_SHORTEST = 16
"""Characters of a phrase that can be spoken by itself, about a second."""
_LONGEST = 40
"""Characters after which a first phrase ends with its word, wherever that is. Without this, and the
words below, the first sound of a sentence without a comma came up to 1.7 s after the model's first
word (two cores, SmolLM2 and Piper)."""
_OPENERS = frozenset(
    "and or but because if when while where which who that so than "
    "to for with from in into on at of by about as "
    "is are was were has have had can could will would should may might".split()
)
"""Words that a speaker may take a breath before (English)."""
_WHOLE = re.compile(r"[^\W\d][.!?…][\"')]*\s*$")
"""What ends so is a sentence even if nothing follows; "3." may have become "3.5"."""


class FirstPhrase(BaseTextAggregator):
    """Gives a reply's sentences, and of the first one the first phrase at once.

    That is what stands before a comma or a word like "and", "of" or "is", or its first 40
    characters. A voice takes its melody from the whole sentence, so only the first sound, which
    the caller waits for, is worth the cut. It goes into Pipecat's ``LLMTextProcessor``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sentences = SimpleTextAggregator()
        self._begun = False
        self._has_sentence = False

    @property
    def text(self) -> Aggregation:
        """What waits for its end."""
        return self._sentences.text

    async def aggregate(self, text: str) -> AsyncIterator[Aggregation]:
        """Take the next text of the model and give what can be spoken."""
        for char in text:
            async for sentence in self._sentences.aggregate(char):
                self._begun = self._has_sentence = True
                yield sentence
            if not self._begun and char.isspace():
                phrase = await self._first(" ")
                if phrase is not None:
                    yield phrase
        # A language model's token is a word, or its beginning. One that looks like these hardly
        # ever is longer, and the next token, 13 ms later, need not be waited for.
        if not self._begun and text[:1] == " " and text[1:].lower() in _OPENERS:
            phrase = await self._first("")
            if phrase is not None:
                yield phrase

    async def cut(self, *, broken: bool) -> Aggregation | None:
        """End a reply whose last sentence may have no end: give the rest, if it can be spoken.

        See ``ReplyCutFrame``.
        """
        is_whole = _WHOLE.search(self.text.text) is not None
        if not is_whole and (broken or self._has_sentence):
            await self._sentences.reset()
        return await self.flush()

    async def flush(self) -> Aggregation | None:
        """End the reply: give the rest."""
        self._begun = self._has_sentence = False
        return await self._sentences.flush()

    async def handle_interruption(self) -> None:
        """Forget the reply."""
        self._begun = self._has_sentence = False
        await self._sentences.handle_interruption()

    async def reset(self) -> None:
        """Forget everything."""
        self._begun = self._has_sentence = False
        await self._sentences.reset()

    async def _first(self, space: str) -> Aggregation | None:
        """The first phrase, once there is one; what is behind it, with its space, waits on."""
        text = self.text.text
        end = _first_end(text)
        if end is None:
            return None
        self._begun = True
        whole = await self._sentences.flush()
        if whole is None:
            return None
        for char in text[end:].lstrip() + space if end < len(text) else "":
            async for _ in self._sentences.aggregate(char):
                raise AssertionError("one word is no sentence")
        return Aggregation(text[:end], whole.type)


def _first_end(text: str) -> int | None:
    """Where the first phrase ends in a text that ends with a word; None if it has no end yet."""
    if len(text) >= _SHORTEST and text[-1] in ",;:":
        return len(text)
    before, _, word = text.rpartition(" ")
    if len(before) >= _SHORTEST and word.lower() in _OPENERS:
        return len(before)
    return len(text) if len(text) >= _LONGEST else None


class Phrases(LLMTextProcessor):
    """Cuts a reply where it can be spoken, and drops what was cut where it cannot."""

    def __init__(self) -> None:
        self._first_phrase = FirstPhrase()
        super().__init__(text_aggregator=self._first_phrase)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Drop the end of a reply that has none."""
        if isinstance(frame, ReplyCutFrame):
            rest = await self._first_phrase.cut(broken=frame.broken)
            if rest is not None:  # before the apology that comes next
                await self.push_frame(AggregatedTextFrame(rest.text, rest.type))
        await super().process_frame(frame, direction)
