"""The way of a bot's voice into a WebRTC connection, and of the caller's out of it.

Pipecat's transport writes a chunk of audio, waits until the last of it has left, and only then
writes the next: the connection must be given more within the 10 ms until it sends again.
On a busy event loop that fails now and then, and callers hear a gap. Here the next chunk is
already there while one is being sent. Ten seconds of tone over loopback, with the loop held up
for 15 ms (40 ms) twenty times a second: 17 (41) gaps of 10 ms before, none now. At most 60 ms
of audio wait in this way; a hold keeps them, an interruption drops them.
"""

from typing import Any

from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import (
    SmallWebRTCClient,
    SmallWebRTCOutputTransport,
    SmallWebRTCTransport,
)

from talkpath.transports.holding import HoldingOutput
from talkpath.transports.webrtc.packet_order import listen_at_once
from talkpath.transports.webrtc.voice_track import Voice, VoiceTrack

__all__ = ["CHUNKS", "WebRTCTransport"]

CHUNKS = 3
"""Chunk of audio written at once, in units of 10 ms."""


class _Output(SmallWebRTCOutputTransport):
    """Writes into a voice that the connection reads from."""

    def __init__(self, client: SmallWebRTCClient, params: TransportParams, **options: Any) -> None:
        super().__init__(client, params, **options)
        self.voice = Voice()

    async def setup(self, setup: Any) -> None:  # a FrameProcessorSetup
        """Learn the sample rate, and connect."""
        self.voice.start(self._params.audio_out_sample_rate or setup.audio_out_sample_rate)
        await super().setup(setup)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Write a chunk; returns when the next may come, and whether this one was taken."""
        if self._client.is_closing or not self._client.is_connected:
            return False
        return await self.voice.write(frame.audio, interruptible=frame.interruptible)


class _HoldingOutput(HoldingOutput, _Output):
    """Holds what has not been sent yet, too."""

    def on_hold(self) -> None:
        self.voice.hold()

    def on_resume(self) -> None:
        self.voice.resume()

    def on_drop(self) -> None:
        self.voice.drop()


class WebRTCTransport(SmallWebRTCTransport):
    """Pipecat's small WebRTC transport with the output above, and without its jitter buffer.

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
            self._output = _HoldingOutput(self._client, self._params, name=self._output_name)
        return self._output

    async def _on_client_connected(self, webrtc_connection: SmallWebRTCConnection) -> None:
        """Give every new connection the voice, in place of the track that Pipecat just set.

        Nothing of the caller's audio has been taken yet: the receiver is off until it is read.
        """
        listen_at_once(webrtc_connection.pc.getTransceivers()[0].receiver)
        if isinstance(self._output, _Output) and self._params.audio_out_enabled:
            webrtc_connection.replace_audio_track(VoiceTrack(self._output.voice))
        await super()._on_client_connected(webrtc_connection)  # type: ignore[no-untyped-call]
