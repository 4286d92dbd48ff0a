"""What a bot's server counts, for whoever watches over it."""

import aiohttp

from talkpath.agent.config import Config
from talkpath.agent.metrics import PROMETHEUS
from talkpath.agent.runtime import Runtime, set_runtime
from talkpath.agent.turn_counts import TurnEvent
from tests.transports.stage import StageBot, served


async def test_the_turns_of_all_sessions_are_there_for_prometheus() -> None:
    runtime = Runtime(Config())
    runtime.turns.happened(TurnEvent.BARGE_IN)
    set_runtime(runtime)
    try:
        async with served(StageBot()) as url, aiohttp.ClientSession(url) as http:
            async with http.get("/metrics") as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == PROMETHEUS
                text = await answer.text()
    finally:
        set_runtime(None)
    assert 'talkpath_turn_events_total{event="barge_ins"} 1\n' in text
    assert "talkpath_whisper" not in text  # nothing is loaded here
