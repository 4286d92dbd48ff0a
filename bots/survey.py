"""survey: runs a fixed questionnaire, by voice or keys, with no language model at all.

Run it with ``talkpath run survey``, or under Pipecat's runner with
``python -m talkpath.bots.survey``.
"""

import asyncio
import datetime
import uuid
from pathlib import Path

from pipecat.runner.types import RunnerArguments

from talkpath.agent.json_lines import append_line, make_file
from talkpath.agent.questionnaire import Interview, Question, Questionnaire, load_questionnaire
from talkpath.agent.runtime import runtime
from talkpath.bots.plans import read_plan
from talkpath.bots.session import greet, make_worker, prepare_speech, run_under_pipecat, run_worker
from talkpath.bots.stages import hearing, prepare_speaking, speaking, user_turns
from talkpath.processors.idle_prompts import IdlePrompts
from talkpath.processors.scripted_dialogue import ScriptedDialogue
from talkpath.transports.factory import create_transport

__all__ = ["MODELS", "bot", "prepare"]

MODELS = ("whisper", "voice")
EXAMPLE = Questionnaire(
    greeting="Hello, thank you for taking part. I have three short questions.",
    questions=(
        Question(id="visited", kind="yes_no", text="Have you called us before?"),
        Question(
            id="satisfaction",
            kind="number",
            text="How satisfied are you, from one to ten?",
            again="Please say a number from one to ten, or type it and press the hash key.",
            low=1,
            high=10,
            confirm=True,
        ),
        Question(id="wish", text="What could we do better?"),
    ),
)


async def prepare() -> None:
    """Load the models and the questions, and try the results, before anybody is asked."""
    await _questionnaire()
    await asyncio.to_thread(make_file, _results())
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_speaking()


async def _questionnaire() -> Questionnaire:
    file = runtime().config.survey.questions
    return await read_plan(load_questionnaire, file) if file else EXAMPLE


def _results() -> Path:
    return Path(runtime().config.survey.results).expanduser()


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    interview = Interview(await _questionnaire())
    transport = await create_transport(runner_args)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(),
            await user_turns(),
            ScriptedDialogue(interview),
            IdlePrompts(runtime().config.idle, prompt=interview.silent),
            await speaking(),
            transport.output(),
        ],
    )
    greet(transport, worker, interview.start().say)
    call = {"call": str(uuid.uuid4()), "started_at": _now()}
    try:
        await run_worker(runner_args, worker)
    finally:  # one line a call, broken off or not
        ended = {"ended_at": _now(), "complete": interview.complete, "answers": interview.answers}
        await asyncio.to_thread(append_line, _results(), call | ended)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    run_under_pipecat(prepare)
