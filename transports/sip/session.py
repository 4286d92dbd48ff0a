"""One telephone call: rung, answered, attended by a bot, kept within its limits, and ended."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from pipecat.runner.types import CallData, RunnerArguments

from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sessions import Bot, Limits, attend
from talkpath.transports.sip.leg import (
    Answered,
    CallInfo,
    CallLeg,
    CallQuality,
    Ended,
    Held,
    LegError,
    LegEvent,
    MediaStarted,
    Resumed,
)
from talkpath.transports.sip.recording import CallRecording
from talkpath.transports.sip.transport import SipTransport
from talkpath.transports.sip.watch import WatchedLeg

__all__ = ["SipRunnerArguments", "attend_call", "call_metadata"]

SOUND_DBFS = -50.0
"""What is louder is a sound: comfort noise and the hiss of a line lie below."""

_SOUND = 32768 * 10 ** (SOUND_DBFS / 20)
_LOOK_EVERY_S = 1.0  # after a sound, nobody need look for the next one at once
_POLITE_S = 15.0  # that a bot has for its last words at a limit
_FAILED = (500, "The bot failed")
_SHUTDOWN = (503, "Shutting down")


@dataclass(kw_only=True)
class SipRunnerArguments(RunnerArguments):
    """What a bot is called with for a telephone call; ``body`` has the call's metadata.

    Attributes:
        leg: the call.
        ready: set once the bot's pipeline runs; then the call is answered.
        transport: what ``create_transport`` made of these.
    """

    leg: CallLeg
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    transport: SipTransport | None = None

    def __post_init__(self) -> None:
        """Take the metadata of the call; its own limits end a silent one."""
        super().__post_init__()  # type: ignore[no-untyped-call]
        info = self.leg.info
        self.body = call_metadata(info)
        self.session_id = info.call_id
        self.pipeline_idle_timeout_secs = None
        self.call_data = CallData.model_validate(
            {"call_id": info.call_id, "from": info.from_uri, "to": info.number or info.to_uri}
        )

    def make_transport(self, *, audio_out: bool = True) -> SipTransport:
        """Make the transport of this call, once."""
        self.transport = SipTransport(self.leg, audio_out=audio_out, on_ready=self.ready.set)
        return self.transport


def call_metadata(info: CallInfo) -> dict[str, Any]:
    """What a bot can know of its call, as plain data."""
    return {
        "call_id": info.call_id,
        "direction": info.direction,
        "from": info.from_uri,
        "from_name": info.from_name,
        "to": info.to_uri,
        "number": info.number,
        "source": info.source,
        "transport": info.transport,
        "trunk": info.trunk,
        "headers": dict(info.headers),
    }


async def attend_call(
    bot: Bot,
    leg: CallLeg,
    config: SipConfig,
    *,
    limits: Limits = Limits(),  # noqa: B008  a frozen value
    on_ended: Callable[[CallInfo, Ended], None] | None = None,
) -> Ended:
    """Attend one call from its beginning to its end.

    The bot starts at once. An inbound call is answered when the bot's pipeline runs and it has
    rung for ``config.ring_s``; a bot that fails before that has it refused with 500. At a limit
    (``max_duration_s``, ``silence_s``) the bot ends behind its last words. All logs of the call
    have its ``call_id``.

    Args:
        bot: called with ``SipRunnerArguments``.
        leg: the call, inbound and not answered yet, or outbound.
        config: times and the folder of recordings.
        limits: the times granted to bots.
        on_ended: told once of the end.

    Returns:
        How it ended. Cancelling this coroutine ends the call, and the bot, at once.
    """
    info = leg.info
    who = {"caller": info.from_uri, "callee": info.number or info.to_uri}
    with logger.contextualize(call_id=info.call_id, **who):
        ended = await _Call(bot, leg, config, limits).run()
        _log(leg.info, ended)
        if on_ended is not None:
            on_ended(leg.info, ended)
        return ended


class _Call:
    """A call under way."""

    def __init__(self, bot: Bot, leg: CallLeg, config: SipConfig, limits: Limits) -> None:
        self._bot = bot
        self._config = config
        self._limits = limits
        self._leg = WatchedLeg(leg, self)
        self._arguments = SipRunnerArguments(leg=self._leg)
        self._answered = asyncio.Event()
        self._held = False
        self._now = asyncio.get_running_loop().time
        self._sound_s = 0.0
        self._recording: CallRecording | None = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self) -> Ended:
        following = self._start(self._leg.follow(), "events")
        inbound = self._leg.info.direction == "inbound"
        answering = self._start(self._answer(), "answer") if inbound else None
        self._start(self._keep_limits(), "limits")
        gone = self._gone(following)
        attending = self._start(attend(self._bot, self._arguments, gone, self._limits), "bot")
        try:
            await asyncio.wait({attending})  # cancelling this does not cancel the bot yet
            if answering is not None:
                answering.cancel()
            if not following.done():
                await self._end(_FAILED if attending.result() is not None else None)
            return await self._end_of(following)
        except asyncio.CancelledError:
            await self._end(_SHUTDOWN)
            raise
        finally:
            await self._stop()

    # What the leg tells

    def happened(self, event: LegEvent) -> None:
        if isinstance(event, Answered):
            self._sound_s = self._now()
            self._answered.set()
            logger.info("the call is answered")
        elif isinstance(event, MediaStarted):
            self._record(event.rate_hz)
        elif isinstance(event, (Held, Resumed)):
            self._held = isinstance(event, Held)
            self._sound_s = self._now()
            logger.info("the peer {} the call", "holds" if self._held else "resumes")

    def heard(self, pcm: bytes) -> None:
        self._listen(pcm)
        if self._recording is not None:
            self._recording.heard(pcm, self._leg.rate_hz)

    def said(self, pcm: bytes) -> None:
        self._listen(pcm)
        if self._recording is not None:
            self._recording.said(pcm, self._leg.rate_hz)

    def unsaid(self, ms: float) -> None:
        if self._recording is not None:
            self._recording.unsaid(ms)

    # What goes on beside the bot

    def _start(self, work: Any, what: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=f"{what} of call {self._leg.info.call_id}")
        self._tasks.append(task)
        return task

    async def _answer(self) -> None:
        rings_until_s = self._now() + self._config.ring_s
        try:
            async with asyncio.timeout(self._config.ring_s + self._limits.connect_s):
                await self._arguments.ready.wait()
            await asyncio.sleep(rings_until_s - self._now())
            await self._leg.answer()
        except TimeoutError:
            logger.error("the bot's pipeline did not start in time")
            await self._end(_FAILED)
        except LegError as error:
            logger.info("the call was not answered: {}", error)

    async def _keep_limits(self) -> None:
        await self._answered.wait()
        limit = await self._limit()
        logger.info("the call has reached its limit of {}", limit)
        if self._arguments.transport is not None:
            await self._arguments.transport.wind_up()
            await asyncio.sleep(_POLITE_S)
        await self._leg.hang_up()

    async def _limit(self) -> str:
        config, began_s = self._config, self._now()
        while True:
            left_s = began_s + (config.max_duration_s or math.inf) - self._now()
            if left_s <= 0:
                return "duration"
            silent_s = math.inf
            if config.silence_s and not self._held:
                silent_s = self._sound_s + config.silence_s - self._now()
                if silent_s <= 0:
                    return "silence"
            await asyncio.sleep(min(left_s, silent_s, config.silence_s or math.inf, 3600.0))

    def _listen(self, pcm: bytes) -> None:
        now_s = self._now()
        if not self._config.silence_s or now_s - self._sound_s < _LOOK_EVERY_S:
            return
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        if float(np.dot(samples, samples)) > _SOUND**2 * len(samples):
            self._sound_s = now_s

    def _record(self, rate_hz: int) -> None:
        if self._config.record_folder and self._recording is None:
            folder = Path(self._config.record_folder).expanduser()
            self._recording = CallRecording(folder, self._leg.info.call_id, rate_hz)
            self._start(self._recording.run(), "recording")

    # The end

    async def _gone(self, following: asyncio.Task[Ended]) -> None:
        await asyncio.wait({following})

    async def _end(self, problem: tuple[int, str] | None) -> None:
        """Refuse the call or hang up, and say why in terms of SIP (RFC 3326)."""
        headers: Mapping[str, str] = {}
        if problem is not None:
            headers = {"Reason": f'SIP;cause={problem[0]};text="{problem[1]}"'}
        if self._leg.info.direction == "inbound" and not self._answered.is_set():
            status, reason = problem or (480, "Temporarily Unavailable")
            try:
                await self._leg.reject(status, reason)
                return
            except LegError as error:
                logger.debug("not refused: {}", error)
        await self._leg.hang_up(headers)

    async def _end_of(self, following: asyncio.Task[Ended]) -> Ended:
        done, _ = await asyncio.wait({following}, timeout=self._limits.stop_s)
        if done and following.exception() is None:
            return following.result()
        logger.error("the call's end was not confirmed")
        return Ended("failure", 0, "its end was not confirmed", self._leg.quality())

    async def _stop(self) -> None:
        if self._recording is not None:
            self._recording.end()
        for task in self._tasks:
            if not task.get_name().startswith("recording"):
                task.cancel()
        await asyncio.wait(self._tasks, timeout=self._limits.stop_s)
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                logger.opt(exception=error).error("{} failed", task.get_name())


def _log(info: CallInfo, ended: Ended) -> None:
    """One line on how it was."""
    if not ended.quality.codec:
        logger.info("the call ended by {}: {}", ended.by, _why(ended))
        return
    logger.info("the call ended by {}: {}; {}", ended.by, ended.reason, _figures(ended.quality))


def _why(ended: Ended) -> str:
    """The reason, with the status in front once."""
    status = str(ended.status or "")
    if status in ended.reason:
        return ended.reason
    return f"{status} {ended.reason}"


def _figures(quality: CallQuality) -> str:
    expected = max(1, quality.received + quality.lost)
    return (
        f"{quality.duration_s:.1f} s of {quality.codec}"
        f"{' over ' + quality.encrypted if quality.encrypted else ''}, "
        f"{f'MOS {quality.mos:.2f}, ' if quality.mos else ''}"  # it needs audio that came
        f"{100 * quality.lost / expected:.2f} % lost, "
        f"{100 * quality.lost_there / max(1, quality.sent):.2f} % lost there, "
        f"jitter {quality.jitter_ms:.1f} ms, round trip {quality.round_trip_ms:.1f} ms, "
        f"buffer {quality.buffer_ms:.0f} ms, longest underrun {quality.underrun_ms:.0f} ms"
    )
