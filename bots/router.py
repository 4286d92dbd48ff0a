"""router: sends callers where they want to go, by what they say or press.

The target goes out as a ``TransferFrame``, on which a transport for telephones acts, and as a
server message of RTVI, on which a page or a program does; then the call ends. Run it with
``talkpath run router``, or under Pipecat's runner with ``python -m talkpath.bots.router``.
"""

from pipecat.runner.types import RunnerArguments

from talkpath.agent.departments import Department, Directory, Routing, load_directory
from talkpath.agent.runtime import runtime
from talkpath.bots.plans import read_plan
from talkpath.bots.session import greet, make_worker, prepare_speech, run_under_pipecat, run_worker
from talkpath.bots.stages import hearing, prepare_speaking, speaking, user_turns
from talkpath.processors.idle_prompts import IdlePrompts
from talkpath.processors.scripted_dialogue import ScriptedDialogue
from talkpath.transports.factory import create_transport

__all__ = ["MODELS", "bot", "prepare"]

MODELS = ("whisper", "voice")
EXAMPLE = Directory(
    greeting="Hello. Do you want an appointment, give us your opinion, or just talk?",
    departments=(
        Department(
            name="appointments",
            words=("appointment", "book", "cancel", "receptionist"),
            target="receptionist",
            key="1",
        ),
        Department(
            name="the survey",
            words=("opinion", "survey", "feedback"),
            target="survey",
            key="2",
        ),
        Department(
            name="the assistant",
            words=("talk", "assistant", "chat"),
            target="assistant",
            key="0",
            fallback=True,
        ),
    ),
)


async def prepare() -> None:
    """Load the models and the departments before the first caller is let in."""
    await _directory()
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_speaking()


async def _directory() -> Directory:
    file = runtime().config.router.departments
    return await read_plan(load_directory, file) if file else EXAMPLE


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    routing = Routing(await _directory())
    transport = await create_transport(runner_args)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(),
            await user_turns(),
            ScriptedDialogue(routing),
            IdlePrompts(runtime().config.idle, prompt=routing.silent),
            await speaking(),
            transport.output(),
        ],
    )
    greet(transport, worker, routing.start().say)
    await run_worker(runner_args, worker)


if __name__ == "__main__":
    run_under_pipecat(prepare)
