"""Servers that cannot be reached, and what is said about them."""

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from talkpath.agent.client import (
    ClientConfig,
    ClientEvent,
    Connected,
    Disconnected,
    TranscriptionClient,
)
from talkpath.agent.errors import ServersRefused
from tests.agent.server.serving import serving
from tests.agent.whisper.helpers import WAIT_S, until
from tests.certificate import Certificate

ENGLISH = ClientConfig(language="en")
CLIENT = "talkpath.agent.client.client"


def said(caplog: pytest.LogCaptureFixture, about: str, level: int) -> list[str]:
    """What the client's log says about a server at a level."""
    return [
        text
        for name, at, text in caplog.record_tuples
        if (name, at) == (CLIENT, level)
        if about in text
    ]


async def test_a_certificate_that_is_not_trusted_is_a_refusal(tmp_path: Path) -> None:
    file = Certificate(tmp_path, "mine").both
    async with serving({"serve.tls_cert": str(file)}) as url:
        async with TranscriptionClient([url], ENGLISH) as client:
            with pytest.raises(ServersRefused, match=r"certificate is not trusted.*self-signed"):
                await asyncio.wait_for(client.drain(), WAIT_S)
        trusting = ssl.create_default_context(cafile=str(file))
        async with TranscriptionClient([url], ENGLISH, tls=trusting) as client:
            await asyncio.wait_for(client.drain(), WAIT_S)


async def test_one_problem_of_a_server_is_warned_of_once_until_it_was_there(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, CLIENT)
    events: list[ClientEvent] = []

    def lost() -> int:
        return sum(isinstance(event, Disconnected) for event in events)

    name = f"127.0.0.1:{free_port}"
    client = TranscriptionClient([f"ws://{name}"], ENGLISH, on_event=events.append)
    async with client:
        await until(lambda: lost() >= 3)
        assert len(said(caplog, name, logging.WARNING)) == 1
        assert len(said(caplog, name, logging.DEBUG)) >= 2
        caplog.clear()
        async with serving({"serve.port": free_port}):
            await until(lambda: any(isinstance(event, Connected) for event in events))
        before = lost()
        await until(lambda: lost() >= before + 2)
        assert said(caplog, "cannot be reached", logging.WARNING)


async def test_a_full_server_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, CLIENT)
    events: list[ClientEvent] = []
    async with serving({"whisper.max_streams": 1}) as url:
        guest: list[ClientEvent] = []
        async with TranscriptionClient([url], ENGLISH, on_event=guest.append):
            await until(lambda: guest)
            caplog.clear()
            async with TranscriptionClient([url], ENGLISH, on_event=events.append):
                await until(lambda: len(events) >= 3)
    warned = said(caplog, "in use", logging.WARNING)
    assert 1 <= len(warned) == len(set(warned))
    assert len(said(caplog, "in use", logging.DEBUG)) >= 2
