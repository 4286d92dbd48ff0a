"""How a server begins: its port is bound, the bot made ready, and then callers are let in."""

import contextlib
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from loguru import logger

from talkpath.agent.sections import ServerConfig
from talkpath.agent.web import announce, bind, listen, url_of
from talkpath.transports.sessions import Bot

__all__ = ["opened"]


@contextlib.asynccontextmanager
async def opened(
    bot: Bot,
    config: ServerConfig,
    *,
    scheme: str,
    prepare: Callable[[], Awaitable[None]] | None,
    name: str | None,
    on_listening: Callable[[str], None] | None,
) -> AsyncIterator[socket.socket]:
    """A socket that callers can connect to, and have been told of.

    Args:
        bot: gives the name where there is none: its module's.
        config: where to listen.
        scheme: of the URL that is announced.
        prepare: awaited before the first caller is let in; callers before are refused.
        name: the bot's name.
        on_listening: called with the URL instead of writing it to standard output.

    Raises:
        ConfigError: the port is taken.
    """
    name = name or getattr(bot, "__module__", "bot").rpartition(".")[2]
    with contextlib.closing(bind(config.host, config.port)) as listener:
        if prepare is not None:
            logger.info("{} is starting; it loads its models", name)
            await prepare()
        # What was loaded stays: no later collection needs to look at it.
        gc.collect()
        gc.freeze()
        try:
            listen(listener)
            url = url_of(listener, config.host).replace("http", scheme, 1)
            announce(name, url, on_listening)
            yield listener
        finally:
            gc.unfreeze()
