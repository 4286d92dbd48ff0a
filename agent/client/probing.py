"""Whether servers take a client: each is asked once, as a stream would, before there is one."""

import asyncio
import logging
import ssl
from collections.abc import Sequence

from talkpath.agent.client.client import (
    ClientConfig,
    ClientEvent,
    Connected,
    Disconnected,
    TranscriptionClient,
)
from talkpath.agent.errors import ServersRefused
from talkpath.agent.server_url import Server
from talkpath.agent.whisper.results import StreamFailure, StreamResult

__all__ = ["probe"]

_log = logging.getLogger(__name__)

_PROBE_S = 6.0  # a try to connect takes 5 s at most


async def probe(
    urls: Sequence[str],
    config: ClientConfig | None = None,
    *,
    api_key: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> bool:
    """Ask all servers at once; what is wrong with one is logged.

    Args:
        urls: as for a client.
        config: as for a client; a server that cannot do what it asks for refuses.
        api_key: as for a client.
        tls: as for a client.

    Returns:
        Whether a server takes this client now. If not, one may do so later.

    Raises:
        ConfigError: a URL is none, or a key that fits into no header.
        ServersRefused: none of them will ever take it.
    """
    answers = await asyncio.gather(*(_ask(url, config, api_key, tls) for url in urls))
    refusals = [answer for answer in answers if isinstance(answer, ServersRefused)]
    if answers and len(refusals) == len(answers):
        raise refusals[0]
    return any(answer is True for answer in answers)


async def _ask(
    url: str, config: ClientConfig | None, api_key: str | None, tls: ssl.SSLContext | None
) -> bool | ServersRefused:
    """Whether a server takes a client now, or why it never will."""
    answer: asyncio.Future[bool | ServersRefused] = asyncio.get_running_loop().create_future()

    def note(news: ClientEvent | StreamResult) -> None:
        if answer.done():
            return
        match news:
            case Connected():
                answer.set_result(True)
            case Disconnected():
                answer.set_result(False)
            case StreamFailure(error=ServersRefused() as refusal):
                answer.set_result(refusal)

    async with TranscriptionClient(
        [url], config, api_key=api_key, on_result=note, on_event=note, tls=tls
    ):
        try:
            async with asyncio.timeout(_PROBE_S):
                return await answer
        except TimeoutError:
            _log.warning(
                "speech-to-text at %s: no answer within %g s", Server.at(url).name, _PROBE_S
            )
            return False
