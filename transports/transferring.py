"""Outputs of telephone calls, and the transfers that are refused.

Where a transfer is refused, ``TransferRefusedFrame`` goes both ways, and the end of the session
that was to follow behind the transfer does not count: the call goes on.
"""

from loguru import logger
from pipecat.frames.frames import EndWorkerFrame, Frame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.utils.utils import obj_id

from talkpath.processors.frames import TransferFrame, TransferRefusedFrame

__all__ = ["TransferRefusals", "WithoutTransfers"]


class TransferRefusals(BaseOutputTransport):
    """What an output needs to refuse transfers; comes before the transport's own class."""

    _refused_id = 0  # frames' ids count up: an end with a lower one was made before the refusal

    async def refuse_transfer(self, target: str, reason: str) -> None:
        """Tell of a refusal; an end that follows by then does not count."""
        logger.warning("the call was not transferred: {}", reason)
        self._refused_id = obj_id()
        await self.broadcast_frame(TransferRefusedFrame, target=target, reason=reason)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Push a frame; but the end that was to follow a transfer does not follow a refusal."""
        if isinstance(frame, EndWorkerFrame) and frame.id < self._refused_id:
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
