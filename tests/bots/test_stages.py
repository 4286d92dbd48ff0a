"""What a bot's stages say before the first caller is let in."""

from typing import Any

import pytest
from loguru import logger

from talkpath.agent.config import load_config
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.bots.stages import prepare_thinking
from tests.llm_server import Say, llm_server
from tests.local_models import reply_model


@pytest.mark.parametrize(
    ("elsewhere", "tools", "warnings"),
    [(False, True, 1), (False, False, 0), (True, True, 0)],
)
async def test_a_bot_with_tools_warns_of_a_model_that_calls_none(
    elsewhere: bool, tools: bool, warnings: int
) -> None:
    reply_model()
    told: list[str] = []
    sink = logger.add(lambda message: told.append(str(message)), level="WARNING")
    async with llm_server(lambda _: Say("Yes.")) as server:
        settings: dict[str, Any] = {"reply.url": server.url} if elsewhere else {}
        runtime = Runtime(load_config(settings, environ={}))
        set_runtime(runtime)
        try:
            await prepare_thinking(tools=tools)
        finally:
            logger.remove(sink)
            set_runtime(None)
            await runtime.aclose()
    assert len(told) == warnings
    assert all("smollm2-135m in this process calls none: --llm-url" in line for line in told)
