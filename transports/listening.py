"""Input whose audio is fetched by a task of its own, from the caller's arrival to the bot's end.

It hears nothing more once the bot is about to leave: what is said then interrupts no farewell.
"""

import asyncio
from abc import abstractmethod

from pipecat.frames.frames import CancelFrame, EndFrame, StartFrame
from pipecat.transports.base_input import BaseInputTransport

__all__ = ["ListeningInput"]


class ListeningInput(BaseInputTransport):
    """What inputs have in common that listen; a transport's own class says how, in ``_listen``."""

    _listening: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        """Be ready for the caller's voice."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    def listen(self) -> None:
        """Take what the caller says from now on."""
        if self._listening is None:
            self._listening = self.create_task(self._listen())

    async def stop(self, frame: EndFrame) -> None:
        """Hear nothing more."""
        await self._stop_listening()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Hear nothing more."""
        await self._stop_listening()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Hear nothing more."""
        await self._stop_listening()
        await super().cleanup()  # type: ignore[no-untyped-call]

    @abstractmethod
    async def _listen(self) -> None:
        """Push the caller's audio until this is cancelled, or there is no more."""

    async def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            await self.cancel_task(listening)
