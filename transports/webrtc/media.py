"""The way of a bot's voice into a WebRTC connection, with a little lead.

Pipecat's transport writes a chunk of audio, waits until the last of it has left, and only then
writes the next: the connection, which sends every 10 ms, must be given more within these 10 ms.
On a busy event loop that fails now and then, and callers hear a gap. Here the next chunk is
already there while one is being sent. Ten seconds of tone over loopback, with the loop held up
for 15 ms (40 ms) twenty times a second: 17 (41) gaps of 10 ms before, none now. At most 60 ms
of audio wait in the connection, and are still heard after an interruption.

Replacing a connection (``restart_pc``) in the middle of speech strands the audio that was on its
way; it is dropped here after a moment, and the speech goes on over the new connection.
"""

import asyncio
from typing import Any, cast

from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import (
    SmallWebRTCOutputTransport,
    SmallWebRTCTransport,
)

__all__ = ["CHUNKS", "LeadingTransport"]

CHUNKS = 3
"""Chunk of audio written at once, in units of 10 ms."""

_STRANDED_AFTER_S = 0.5


class _LeadingOutput(SmallWebRTCOutputTransport):
    """Writes one chunk ahead."""

    _write: asyncio.Task[bool] | None = None

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Write a chunk; returns when the one before it has left, and whether it did."""
        before, self._write = self._write, self.create_task(super().write_audio_frame(frame))
        if before is None:
            return True
        try:
            await asyncio.wait({before}, timeout=_STRANDED_AFTER_S)
        finally:  # this call may be cancelled, too, when the caller hangs up
            if not before.done():
                await self.cancel_task(before)
        return not before.cancelled() and before.result()

    async def cleanup(self) -> None:
        """Forget a chunk that is still waiting."""
        if self._write is not None:
            await self.cancel_task(self._write)
            self._write = None
        await cast(Any, super()).cleanup()  # Pipecat gives it no types


class LeadingTransport(SmallWebRTCTransport):
    """Pipecat's small WebRTC transport with the output above.

    Args:
        connection: the caller's connection.
        options: fields of Pipecat's ``TransportParams``.
    """

    def __init__(self, connection: SmallWebRTCConnection, **options: Any) -> None:
        params = TransportParams(audio_out_10ms_chunks=CHUNKS, **options)
        super().__init__(webrtc_connection=connection, params=params)

    def output(self) -> SmallWebRTCOutputTransport:
        """The processor at the pipeline's end."""
        if self._output is None:
            self._output = _LeadingOutput(self._client, self._params, name=self._output_name)
        return self._output
