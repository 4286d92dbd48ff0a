"""The caller of a test: speaks, listens, and remembers the call."""

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.timeline import TurnLatency
from talkpath.bots.testing.protocol import BotTurn, Ear, ToolCall, Utterance, is_sound
from talkpath.bots.testing.sound import read_audio, stereo_wav, track
from talkpath.transports.inprocess import BLOCK_S, Line

__all__ = ["CallFailed", "Caller"]

_KEY_S = 0.2
_WORD = re.compile(r"[\w']+")


class CallFailed(AssertionError):
    """The call did not go as the test wanted; the message shows the call so far."""


class Caller:
    """One end of a call. ``talkpath.bots.testing.call`` makes it.

    Every wait is bounded, in the call's own time, and ends with an error when the bot fails. What
    the bot says is what was *played*: words that an interruption dropped were not said.

    Args:
        bot: the running bot.
        line: to it.
        ear: what watches its pipeline.
        speak: text to float32 samples at 16 kHz.
        timeline: is added to with every turn.
        news: set whenever something happened in the call.
        keep_errors: whether errors that the pipeline reports are kept and not raised.
    """

    def __init__(
        self,
        bot: asyncio.Task[None],
        line: Line,
        ear: Ear,
        speak: Callable[[str], Awaitable[FloatArray]],
        timeline: Sequence[TurnLatency],
        news: asyncio.Event,
        *,
        keep_errors: bool = False,
    ) -> None:
        self._bot = bot
        self._line = line
        self._ear = ear
        self._speak = speak
        self._news = news
        self._keep_errors = keep_errors
        self._turn = 0  # of the bot, the first that hears_turn has not given
        self._heard = 0, 0  # turn and character in its text up to where hears has come
        self._timeline = timeline
        self._stuck = False

    @property
    def now_s(self) -> float:
        """Seconds since the caller was connected."""
        return self._ear.now_s

    # Speaking

    async def says(self, text: str, *, over_bot: bool = False) -> Utterance:
        """Say something, in a voice of this machine; see ``plays``."""
        return await self._say(await self._speak(text), text, over_bot)

    async def plays(self, sound: Path | str | FloatArray, *, over_bot: bool = False) -> Utterance:
        """Say what is on a recording.

        Args:
            sound: an audio file, or float32 samples, ``[n]``, mono, at 16 kHz.
            over_bot: whether to speak at once, though the bot may be speaking.

        Returns:
            What was said, once the last of it was.
        """
        name = "(samples)"
        if isinstance(sound, (Path, str)):
            name = f"({Path(sound).name})"
            sound = await asyncio.to_thread(read_audio, Path(sound))
        return await self._say(sound, name, over_bot)

    async def silence(self, seconds: float) -> None:
        """Say nothing for so long."""
        self._check()
        await asyncio.wait({self._bot}, timeout=seconds)
        self._check()

    async def presses(self, keys: str) -> None:
        """Press keys of the telephone, five a second: ``0`` to ``9``, ``*``, ``#``."""
        for key in keys:
            await self._line.press(key)
            await self.silence(_KEY_S)

    async def hangs_up(self) -> None:
        """End the call, and wait until the bot has ended, too."""
        if not self._bot.done():
            await self._line.hang_up()
        await self.is_hung_up_on()

    async def is_connected(self, *, within_s: float = 60.0) -> None:
        """Wait until the bot takes the call."""
        await self._until(
            lambda: self._line.connected, within_s, "the bot did not take the call", needs_bot=True
        )

    # Listening

    async def hears(self, words: str | re.Pattern[str], *, within_s: float = 10.0) -> Utterance:
        """Wait until the bot has said something.

        What was heard once is behind: the next ``hears`` looks at what comes after it.

        Args:
            words: words in a row; case and punctuation do not count. Or a pattern to search for.
            within_s: seconds to wait.

        Returns:
            The bot's turn as far as it has come.

        Raises:
            CallFailed: it did not say it in time, or ended the call.
        """
        found: list[BotTurn] = []

        def look() -> bool:
            turn = self._find(words)
            found.extend([turn] if turn else [])
            return bool(found)

        wanted = words.pattern if isinstance(words, re.Pattern) else words
        await self._until(look, within_s, f"the bot did not say {wanted!r}", needs_bot=True)
        return self._utterance(found[0])

    async def hears_turn(self, *, within_s: float = 20.0) -> Utterance:
        """Wait for the bot's whole next turn.

        A turn is over when the bot has been silent for half a second. One in which ``hears``
        found something is not the next one any more.

        Args:
            within_s: seconds to wait.

        Raises:
            CallFailed: there was none, or it was not over in time, or the bot ended the call.
        """
        turns = self._ear.turns

        def over() -> bool:
            return len(turns) > self._turn and (
                turns[self._turn].is_over(self.now_s)
                or (self._bot.done() and turns[self._turn].stopped_s is not None)
            )

        await self._until(over, within_s, "the bot did not finish a turn", needs_bot=True)
        turn = turns[self._turn]
        self._turn += 1
        self._heard = self._turn, 0
        return self._utterance(turn)

    async def hears_nothing(self, seconds: float) -> None:
        """Wait for so long, while the bot says nothing.

        Raises:
            CallFailed: it spoke.
        """
        began_s = self.now_s
        await self.silence(seconds)
        sound = [s for s, _ in self._sounds() if s >= began_s]
        if sound:
            raise self._failed(f"the bot spoke after {sound[0] - began_s:.2f} s of silence")

    async def is_hung_up_on(self, *, within_s: float = 10.0) -> None:
        """Wait until the bot has ended the call.

        Raises:
            CallFailed: it goes on.
        """
        await self._until(self._bot.done, within_s, "the bot did not end the call")

    # What happened

    @property
    def transcript(self) -> list[Utterance]:
        """Who said what and when; of the caller, what the bot understood."""
        said = [self._utterance(turn) for turn in self._ear.turns]
        return sorted([*said, *self._ear.understood], key=lambda item: item.start_s)

    @property
    def timeline(self) -> list[TurnLatency]:
        """How long the answer to each turn took, and in which parts."""
        return list(self._timeline)

    @property
    def tools(self) -> list[ToolCall]:
        """The functions that the language model called."""
        return list(self._ear.tools.values())

    @property
    def interruptions(self) -> list[float]:
        """When the bot was cut off."""
        return list(self._ear.interruptions)

    @property
    def errors(self) -> list[str]:
        """What the bot's pipeline reported."""
        return [frame.error for frame in self._ear.errors]

    @property
    def messages(self) -> list[Any]:
        """RTVI messages that the bot sent."""
        return list(self._line.messages)

    def silent_after(self, at_s: float, *, for_s: float = 0.3) -> float:
        """When the bot fell silent: the end of its first sound after which ``for_s`` are quiet.

        Args:
            at_s: the moment from which to look; if nothing sounds then, it is the answer.
            for_s: seconds without a sound that count as silence.
        """
        quiet_s = at_s
        for start_s, end_s in self._sounds():
            if end_s <= quiet_s:
                continue
            if start_s > quiet_s + (0.0 if quiet_s == at_s else for_s):
                break
            quiet_s = end_s
        return quiet_s

    @property
    def bot_audio(self) -> FloatArray:
        """What the bot's voice sounded like: float32, ``[n]``, 16 kHz, from the call's start."""
        began_s = self._line.began_s or 0.0
        return track(self._line.played, began_s, began_s + self.now_s)

    @property
    def recording(self) -> bytes:
        """The call as a WAV file: left the caller, right the bot."""
        spoken = np.concatenate([np.zeros(0, np.int16), *self._line.spoken])
        return stereo_wav(spoken.astype(np.float32) / np.float32(32768), self.bot_audio)

    def __str__(self) -> str:
        """The call so far, line by line."""
        lines = [(item.start_s, str(item)) for item in self.transcript]
        lines += [(tool.at_s, str(tool)) for tool in self.tools]
        lines += [(math.inf, f"error: {error}") for error in self.errors]
        shown = [line for _, line in sorted(lines, key=lambda item: item[0])]
        ended = ", and the bot has ended it" if self._bot.done() else ""
        return "\n".join([f"The call after {self.now_s:.2f} s{ended}:", *(shown or ["nothing"])])

    def got_stuck(self) -> None:
        """Virtual time stands still for good: the next wait fails."""
        self._stuck = True
        self._news.set()

    # How

    async def _say(self, samples: FloatArray, text: str, over_bot: bool) -> Utterance:
        if not over_bot:
            await self._until(
                lambda: not self._ear.bot_speaks, 60.0, "the bot did not stop speaking"
            )
        self._check()
        if self._bot.done():
            raise self._failed(f"{text!r} was not said: the bot has ended the call")
        start_s = self._line.say(samples) - (self._line.began_s or 0.0)
        end_s = start_s + len(samples) / SAMPLE_RATE_HZ
        await self.silence(end_s - self.now_s + BLOCK_S)
        return Utterance("caller", text, start_s, end_s)

    async def _until(
        self,
        condition: Callable[[], bool],
        within_s: float,
        problem: str,
        *,
        needs_bot: bool = False,
    ) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._check()
                    if needs_bot and self._bot.done():
                        raise self._failed(f"{problem}: it ended the call")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise self._failed(f"{problem} within {within_s:g} s") from None
        self._check()

    def _check(self) -> None:
        """Raise what went wrong in the bot."""
        if self._bot.done() and not self._bot.cancelled():
            error = self._bot.exception()
            if error is not None:
                raise error
        if self._ear.errors and not self._keep_errors:
            frame = self._ear.errors[0]
            raise self._failed(f"the bot's pipeline reported: {frame.error}") from frame.exception
        if self._stuck:
            raise self._failed("something computes without an end; virtual time stands still")

    def _failed(self, problem: str) -> CallFailed:
        return CallFailed(f"{problem}\n{self}")

    def _find(self, words: str | re.Pattern[str]) -> BotTurn | None:
        """Find words behind what was heard, and take all up to them for heard."""
        first, skip = self._heard
        for index in range(first, len(self._ear.turns)):
            text = "".join(self._ear.turns[index].words)
            end = _end_of(words, text, skip if index == first else 0)
            if end is not None:
                self._heard = index, end
                self._turn = max(self._turn, index + 1)
                return self._ear.turns[index]
        return None

    def _utterance(self, turn: BotTurn) -> Utterance:
        stopped_s = math.inf if turn.stopped_s is None else turn.stopped_s
        sounds = [
            (start_s, end_s)
            for start_s, end_s in self._sounds()
            if turn.began_s - BLOCK_S <= start_s < stopped_s
        ]
        start_s = sounds[0][0] if sounds else turn.began_s
        end_s = sounds[-1][1] if sounds else min(stopped_s, self.now_s)
        text = " ".join("".join(turn.words).split())
        return Utterance("bot", text, start_s, end_s, turn.interrupted)

    def _sounds(self) -> list[tuple[float, float]]:
        """Beginning and end of every chunk of the bot's that is to be heard."""
        began_s = self._line.began_s or 0.0
        return [
            (chunk.at_s - began_s, chunk.end_s - began_s)
            for chunk in self._line.played
            if is_sound(chunk)
        ]


def _end_of(wanted: str | re.Pattern[str], text: str, start: int) -> int | None:
    """Where in a text the first match ends that begins at ``start`` or later."""
    if isinstance(wanted, re.Pattern):
        match = wanted.search(text, start)
        return match.end() if match else None
    needle = [word.lower() for word in _WORD.findall(wanted)]
    found = list(_WORD.finditer(text, start))
    for first in range(len(found) - len(needle) + 1):
        part = found[first : first + len(needle)]
        if [match.group().lower() for match in part] == needle:
            return part[-1].end() if part else start
    return None
