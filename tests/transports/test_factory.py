"""The factory with arguments of other runners."""

import asyncio
import base64
import json

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.runner.types import RunnerArguments, WebSocketRunnerArguments
from websockets.asyncio.client import connect

from talkpath.transports.factory import create_transport
from tests.browser import eventually
from tests.transports.stage import StageBot
from tests.transports.test_websocket import tone


async def test_a_telephone_provider_is_recognised_by_its_first_messages() -> None:
    bot = StageBot()
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await bot(WebSocketRunnerArguments(websocket=websocket))

    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="websockets-sansio")
    )
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started, "the server's start")
    port = server.servers[0].sockets[0].getsockname()[1]
    async with connect(f"ws://127.0.0.1:{port}/ws") as socket:
        start = {"stream_sid": "s", "call_sid": "c", "account_sid": "a", "from": "1", "to": "2"}
        await socket.send(json.dumps({"event": "connected"}))
        await socket.send(json.dumps({"event": "start", "stream_sid": "s", "start": start}))
        scene = await bot.scene()
        assert scene.arguments.transport_type == "exotel"
        assert scene.arguments.call_data.from_number == "1"
        for number in range(50):
            payload = base64.b64encode(tone(8_000, at_s=number * 0.02)).decode()
            message = {"event": "media", "stream_sid": "s", "media": {"payload": payload}}
            await socket.send(json.dumps(message))
        await eventually(lambda: scene.ears.heard_s > 0.999, "the audio, none of it held back")
        assert 0.3 < scene.ears.loudest < 0.45
    await eventually(lambda: bot.open == 0, "the end of the call")
    server.should_exit = True
    await running


async def test_arguments_of_an_unknown_kind_are_an_error() -> None:
    with pytest.raises(ValueError, match="Unsupported runner arguments"):
        await create_transport(RunnerArguments())
