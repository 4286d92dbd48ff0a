"""Outputs of telephone calls, and the transfers that are refused.

Where a transfer is refused, ``TransferRefusedFrame`` goes both ways, and the end of the session
that was to follow right behind it does not count: the call goes on.
"""

from loguru import logger
from pipecat.frames.frames import EndWorkerFrame, Frame, OutputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport

from talkpath.processors.frames import TransferFrame, TransferRefusedFrame

__all__ = ["TransferRefusals", "WithoutTransfers"]


class TransferRefusals(BaseOutputTransport):
    """What an output needs to refuse transfers; comes before the transport's own class."""

    _refused = False

    async def refuse_transfer(self, target: str, reason: str) -> None:
        """Tell of a refusal; an end right behind it does not count."""
        logger.warning("the call was not transferred: {}", reason)
        self._refused = True
        await self.broadcast_frame(TransferRefusedFrame, target=target, reason=reason)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Write a chunk; an end that comes after it counts."""
        self._refused = False
        return await super().write_audio_frame(frame)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Push a frame; but the end that was to follow a transfer does not follow a refusal."""
        if self._refused and isinstance(frame, EndWorkerFrame):
            self._refused = False
            return
        await super().push_frame(frame, direction)


class WithoutTransfers(TransferRefusals):
    """Refuses every transfer, where a line has no means for it."""

    async def write_transport_frame(self, frame: Frame) -> None:
        """Refuse a transfer in its turn."""
        if isinstance(frame, TransferFrame):
            await self.refuse_transfer(frame.target, "this line cannot transfer calls")
        else:
            await super().write_transport_frame(frame)
