"""Which model is meant at a server with OpenAI's chat completions."""

import logging

import pytest

from talkpath.agent.errors import ConfigError
from talkpath.agent.reply_client import reply_endpoints
from talkpath.agent.sections import ReplyConfig
from tests.llm_server import Say, llm_server

NOWHERE = "http://127.0.0.1:1/v1"


async def test_a_model_that_is_not_named_is_the_only_one_of_each_server() -> None:
    async with llm_server(lambda _: Say("Yes.")) as one, llm_server(lambda _: Say("Yes.")) as two:
        one.models, two.models = ["qwen"], ["llama"]
        config = ReplyConfig(url=one.url, fallback_url=two.url)
        first, second = await reply_endpoints(config)
        assert first is not None and second is not None
        assert (first.model, second.model) == ("qwen", "llama")

        two.models = ["llama", "phi"]
        with pytest.raises(ConfigError, match=r"\(--llm-fallback-model\);.* has llama, phi$"):
            await reply_endpoints(config)

        one.models = []
        with pytest.raises(ConfigError, match=r"\(--llm-model\); the server at 127.* has none$"):
            await reply_endpoints(config)


async def test_a_name_is_taken_whatever_the_server_has(caplog: pytest.LogCaptureFixture) -> None:
    async with llm_server(lambda _: Say("Yes.")) as server:
        first, second = await reply_endpoints(
            ReplyConfig(url=server.url, model="mine", fallback_url=server.url)
        )
    assert first is not None and second is not None
    assert (first.model, second.model) == ("mine", "mine")
    assert not caplog.records


async def test_a_server_out_of_reach_is_a_warning_where_the_model_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, _ = await reply_endpoints(ReplyConfig(url=NOWHERE, model="mine"))
    assert first is not None and first.model == "mine"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == "the language model: the server at 127.0.0.1:1 cannot be reached"
    with pytest.raises(ConfigError, match=r"is not named \(--llm-model\), and .* cannot be reach"):
        await reply_endpoints(ReplyConfig(url=NOWHERE))


async def test_a_server_that_tells_nothing_says_with_which_status() -> None:
    async with llm_server(lambda _: Say("Yes.")) as server:
        url = server.url.removesuffix("/v1")  # a path forgotten
        with pytest.raises(ConfigError, match=r"does not say which models it has \(status 404\)"):
            await reply_endpoints(ReplyConfig(url=url))
