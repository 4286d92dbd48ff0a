"""Calls that Asterisk brings, whichever way: each channel is a session of the bot."""

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from talkpath.transports.asterisk.channel import AsteriskArguments, Channel
from talkpath.transports.sessions import Bot, Limits, Sessions, attend

__all__ = ["ChannelCalls"]


class ChannelCalls:
    """Lets a bot talk on channels.

    Args:
        bot: called once for every call.
        sessions: where they run.
        limits: times granted.
    """

    def __init__(self, bot: Bot, sessions: Sessions, limits: Limits) -> None:
        self._bot = bot
        self._sessions = sessions
        self._limits = limits

    def slot(self) -> AbstractContextManager[None]:
        """Hold a place for a call; ``start`` it inside.

        Raises:
            Refused: all places are taken, or the server is closing.
        """
        return self._sessions.slot()

    def start(self, channel: Channel, body: Mapping[str, Any]) -> asyncio.Task[None]:
        """Begin a call.

        Args:
            channel: runs as long as the call.
            body: what Asterisk told, for the bot.
        """
        session_id = uuid.uuid4().hex
        arguments = AsteriskArguments(channel=channel, session_id=session_id, body=dict(body))
        return self._sessions.start(session_id, self._attend(arguments))

    async def _attend(self, arguments: AsteriskArguments) -> None:
        channel = arguments.channel
        name = f"channel of session {arguments.session_id}"
        reading = asyncio.create_task(channel.run(), name=name)
        try:
            await attend(self._bot, arguments, channel.gone.wait(), self._limits)
        finally:
            await channel.hang_up()
            reading.cancel()
            await asyncio.wait({reading})
