"""The caller of ``talkpath bench conversation``: a WebSocket, a microphone, an ear and a clock.

It speaks Pipecat's protobuf frames. Blocks of 20 ms go out when they are due, as a microphone
has them: a block is sent when its last sample has been spoken. It is silent when it is not
speaking, and waits until the bot has finished before it speaks.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pipecat.frames.protobufs import frames_pb2 as protobufs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray
from talkpath.agent.bench.conversation import (
    BLOCK_S,
    TurnResult,
    Utterance,
    blocks,
    turn_result,
)
from talkpath.agent.errors import EngineError
from talkpath.agent.turn_counts import TurnCounts

__all__ = ["converse"]

_SILENCE = bytes(2 * round(BLOCK_S * SAMPLE_RATE_HZ))
_AUDIBLE = 328  # 40 dB below full scale of 16 bits
_GREETING_S = 15.0  # a side that loads its models for the session does so before it greets
_ANSWER_S = 30.0  # a side that is this slow is told as such, not as silent
_SAME_END_S = 0.5  # that the detector may be before the true end of speech
_LATENCY_S = 2.0  # the bot tells of a turn when its first packet goes out
_FINISHED_S = 1.0  # of silence: the pauses between a bot's sentences are shorter
_LISTEN_S = 0.5


class _Line:
    """An open connection: what goes out, and what has come in."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._queue: deque[bytes] = deque()
        # Differences of a monotonic clock, shown as Unix time: they outlive its adjustments.
        self._unix_s = time.time() - time.monotonic()
        self.sent_until_s = 0.0
        self.audio_s: list[tuple[float, bool]] = []
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.news = asyncio.Event()

    def now_s(self) -> float:
        """Unix time."""
        return time.monotonic() + self._unix_s

    async def send(self) -> None:
        """Send blocks in real time for ever: what is to be said, else silence."""
        await self._socket.send(_message({"type": "client-ready", "data": _READY}))
        began = time.monotonic()
        index = 0
        while True:
            index += 1
            due = began + index * BLOCK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.sent_until_s = due + self._unix_s
            await self._socket.send(_audio(self._queue.popleft() if self._queue else _SILENCE))

    async def receive(self) -> None:
        """Note what comes in, until the bot hangs up, which is an error here."""
        while True:
            data = await self._socket.recv()
            at_s = self.now_s()
            frame = protobufs.Frame.FromString(data)  # type: ignore[attr-defined]
            kind = frame.WhichOneof("frame")
            if kind == "audio":
                samples = np.frombuffer(frame.audio.audio, "<i2")
                self.audio_s.append((at_s, bool(np.any(np.abs(samples.astype(int)) > _AUDIBLE))))
            elif kind == "message":
                self.messages.append((at_s, json.loads(frame.message.data)))
            self.news.set()

    async def say(self, audio: Sequence[bytes], length_s: float) -> tuple[float, float]:
        """Say it; return when it began and when its speech ended, once that is so."""
        self._queue.extend(audio)
        began_s = self.sent_until_s
        end_s = began_s + length_s
        await asyncio.sleep(end_s - self.now_s())
        return began_s, end_s

    async def until(self, condition: Callable[[], bool], wait_s: float) -> bool:
        """Wait for something to come true; whether it has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not condition():
                    self.news.clear()
                    await self.news.wait()
        return condition()

    async def finished(self) -> None:
        """Wait until the bot has been silent for a while."""
        while self.audio_s:
            rest_s = self.audio_s[-1][0] + _FINISHED_S - self.now_s()
            if rest_s <= 0:
                return
            await asyncio.sleep(rest_s)

    def told(self, kind: str, since_s: float) -> list[tuple[float, dict[str, Any]]]:
        """Messages since then: of RTVI, or a server message's content."""
        found = []
        for at_s, message in self.messages:
            data = message.get("data")
            content = data if message["type"] == "server-message" else message
            if at_s >= since_s and isinstance(content, dict) and content.get("type") == kind:
                found.append((at_s, content))
        return found


async def converse(
    url: str, turns: Sequence[Utterance], recordings: Sequence[FloatArray]
) -> tuple[list[TurnResult], TurnCounts]:
    """Hold one conversation with the bot at a WebSocket.

    Args:
        url: the bot's, with ``ws://``.
        turns: what to say.
        recordings: the sound of each piece, float32 at 16 kHz.

    Raises:
        EngineError: the bot hung up.
    """
    async with connect(url, proxy=None, max_size=None) as socket:
        line = _Line(socket)
        try:
            async with asyncio.TaskGroup() as group:
                work = [group.create_task(line.send()), group.create_task(line.receive())]
                results = await _hold(line, turns, recordings)
                for task in work:
                    task.cancel()
        except ExceptionGroup as failed:
            if failed.subgroup(ConnectionClosed) is None:
                raise
            raise EngineError("the bot of the bench hung up in mid-conversation") from failed
    counts = line.told("turn-counts", 0.0)
    fields = {key: value for key, value in counts[-1][1].items() if key != "type"} if counts else {}
    return results, TurnCounts(**fields)


async def _hold(
    line: _Line, turns: Sequence[Utterance], recordings: Sequence[FloatArray]
) -> list[TurnResult]:
    results = []
    await line.until(lambda: any(audible for _, audible in line.audio_s), _GREETING_S)
    for turn in turns:
        await line.finished()
        await asyncio.sleep(turn.think_s)
        results.append(await _turn(line, turn, recordings))
    await asyncio.sleep(_LISTEN_S)
    return results


async def _turn(line: _Line, turn: Utterance, recordings: Sequence[FloatArray]) -> TurnResult:
    audio, length_s = blocks(turn, recordings)
    began_s, end_s = await line.say(audio, length_s)

    def heard(audible: bool = False) -> list[float]:
        return [at for at, sounds in line.audio_s if at > end_s and (sounds or not audible)]

    def latencies() -> list[dict[str, Any]]:
        told = [content for _, content in line.told("turn-latency", began_s)]
        # A part of the sentence that the bot took for all of it has its latency, too.
        return [content for content in told if content["ended_at"] > end_s - _SAME_END_S]

    # Somebody who talks over the end may be about to fall silent: no answer can be told from it.
    talked_over = any(end_s - BLOCK_S * 5 < at <= end_s for at, _ in line.audio_s)
    cut_offs = sum(at < end_s for at, _ in line.told("user-stopped-speaking", began_s))
    if await line.until(lambda: bool(heard(audible=True)), _ANSWER_S):
        await line.until(
            lambda: any(item["parts"][-1]["name"] == "first-packet" for item in latencies()),
            _LATENCY_S,
        )
    return turn_result(
        end_s,
        first_audio_s=min(heard(), default=None),
        first_sound_s=min(heard(audible=True), default=None),
        told=latencies(),
        cut_offs=cut_offs,
        talked_over=talked_over,
    )


_READY = {"version": "2.2.0", "about": {"library": "talkpath bench"}}


def _audio(block: bytes) -> bytes:
    frame = protobufs.Frame()  # type: ignore[attr-defined]
    frame.audio.audio = block
    frame.audio.sample_rate = SAMPLE_RATE_HZ
    frame.audio.num_channels = 1
    return bytes(frame.SerializeToString())


def _message(content: dict[str, Any]) -> bytes:
    frame = protobufs.Frame()  # type: ignore[attr-defined]
    frame.message.data = json.dumps({"label": "rtvi-ai", "id": "1", **content})
    return bytes(frame.SerializeToString())
