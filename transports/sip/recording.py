"""A telephone call as a WAV file: the caller left, the bot right, in step.

It is written while the call goes on, so a crash loses less than a second. What an interruption
took back from the line is not in it.
"""

import asyncio
import os
import re
import time
import wave
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from loguru import logger

from talkpath.agent.stereo import Stereo
from talkpath.agent.write_behind import MOST_UNWRITTEN_S, write_behind
from talkpath.transports.sip.rates import SteadyResampler

__all__ = ["CallRecording", "recording_name"]

_PAUSE_S = 0.06  # without a word of the bot's: the next one begins a run of its own
_SENT_AFTER_S = 0.15  # from then on it has left the line's queue, and nobody takes it back
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_ID = 64
_LARGEST_BYTES = 2**32 - 2**16


@dataclass(slots=True)
class _Said:
    """What was given to the line, when, and whether it came after a pause."""

    pcm: bytes
    at_s: float
    begins: bool


def recording_name(at: datetime, call_id: str) -> str:
    """A file's name from the time and the Call-ID, whatever a peer has put into that."""
    safe = _UNSAFE.sub("_", call_id).strip("._")[:_LONGEST_ID] or "call"
    return f"{at:%Y-%m-%dT%H-%M-%S}_{safe}.wav"


class CallRecording:
    """Records one call.

    Args:
        folder: where the file is made.
        call_id: the call's.
        rate_hz: rate of the file; audio of other rates is brought to it.
    """

    def __init__(self, folder: Path, call_id: str, rate_hz: int) -> None:
        self.file = folder / recording_name(datetime.now().astimezone(), call_id)
        self._rate_hz = rate_hz
        self._stereo = Stereo(rate_hz, time.monotonic())
        self._ways: dict[str, SteadyResampler] = {}
        self._unsettled: deque[_Said] = deque()
        self._said_s = -_PAUSE_S
        self._over = asyncio.Event()
        self._wav: wave.Wave_write | None = None
        self._raw: IO[bytes] | None = None

    def heard(self, pcm: bytes, rate_hz: int) -> None:
        """Take the caller's audio as it comes."""
        if self._takes:
            self._stereo.caller(self._brought("caller", pcm, rate_hz), time.monotonic())

    def said(self, pcm: bytes, rate_hz: int) -> None:
        """Take the bot's audio as it is given to the line."""
        if not self._takes:
            return
        now_s = time.monotonic()
        begins = now_s - self._said_s > _PAUSE_S
        self._said_s = now_s
        self._unsettled.append(_Said(self._brought("bot", pcm, rate_hz), now_s, begins))
        self._settle(now_s - _SENT_AFTER_S)

    def unsaid(self, ms: float) -> None:
        """Leave out the last milliseconds of what was given to the line last."""
        missing = 2 * round(ms * self._rate_hz / 1000)
        while missing > 0 and self._unsettled:
            last = self._unsettled[-1]
            missing, last.pcm = missing - len(last.pcm), last.pcm[: max(0, len(last.pcm) - missing)]
            if not last.pcm:
                self._unsettled.pop()

    async def run(self) -> None:
        """Write the file until ``end``; storage that fails ends the recording, not the call."""
        try:
            await asyncio.to_thread(self._open)
            await write_behind(self._write, self._over)
        except OSError as error:
            logger.error("the recording of this call ends here: {}", error)
        finally:
            self._over.set()
            await self._finish()

    def end(self) -> None:
        """Let ``run`` write the rest and return."""
        self._over.set()

    async def _finish(self) -> None:
        try:
            await asyncio.to_thread(self._close)
        except OSError as error:
            logger.error("the recording of this call may be damaged: {}", error)

    @property
    def _takes(self) -> bool:
        """Whether there is room: a write may hang for as long as it likes."""
        return not self._over.is_set() and self._stereo.unwritten_s <= MOST_UNWRITTEN_S

    def _settle(self, until_s: float) -> None:
        while self._unsettled and self._unsettled[0].at_s <= until_s:
            said = self._unsettled.popleft()
            if said.begins:
                self._stereo.bot_started(said.at_s)
            if not self._stereo.bot(said.pcm, said.at_s):
                logger.warning("the recording drops what the bot says: it comes too fast")

    def _brought(self, who: str, pcm: bytes, rate_hz: int) -> bytes:
        way = self._ways.get(who)
        if way is None or way.from_hz != rate_hz:
            way = self._ways[who] = SteadyResampler(rate_hz, self._rate_hz)
        return way.process(pcm)

    async def _write(self, *, all: bool = False) -> None:
        if self._stereo.unwritten_s > MOST_UNWRITTEN_S:
            raise OSError("its storage is too slow")
        now_s = time.monotonic()
        self._settle(now_s if all else now_s - _SENT_AFTER_S)
        pcm = self._stereo.take(now_s, all=all)
        if pcm:
            await asyncio.to_thread(self._add, pcm)

    def _open(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        # Without a buffer: what storage refuses must not come up again when the file is closed.
        self._raw = os.fdopen(descriptor, "w+b", buffering=0)
        self._wav = wave.open(self._raw, "wb")
        self._wav.setnchannels(2)
        self._wav.setsampwidth(2)
        self._wav.setframerate(self._rate_hz)

    def _add(self, pcm: bytes) -> None:
        assert self._wav is not None and self._raw is not None
        end = self._raw.tell() + len(pcm)
        if end > _LARGEST_BYTES:
            raise OSError("a WAV file holds no more than 4 GB")
        self._wav.writeframes(pcm)
        if self._raw.tell() < end:
            raise OSError("there is no space left")

    def _close(self) -> None:
        try:
            if self._wav is not None:
                self._wav.close()
        finally:
            if self._raw is not None:
                self._raw.close()
