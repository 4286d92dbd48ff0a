"""A bot for tests: it says back each turn, and writes down what it understood.

The words of a call go to a file in a folder named after the dialled number.
"""

from pathlib import Path

from pipecat.runner.types import RunnerArguments

from talkpath.agent.notes import CaptionsFile
from talkpath.agent.runtime import runtime
from talkpath.bots.session import make_worker, prepare_speech, run_worker
from talkpath.bots.stages import hearing, user_turns
from talkpath.processors.echo import Echo
from talkpath.processors.recorder import Recorder
from talkpath.transports.factory import create_transport


async def prepare() -> None:
    await prepare_speech()
    await runtime().smart_turn()


async def bot(runner_args: RunnerArguments) -> None:
    transport = await create_transport(runner_args)
    number = (runner_args.body or {})["number"]
    folder = Path(runtime().config.captions.folder) / number
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(words=True, everybody=True),
            await user_turns(),
            *([] if "silent" in folder.name else [Echo()]),
            transport.output(),
            Recorder(CaptionsFile(folder, "text"), audio=False, caller=""),
        ],
        finish=True,
    )
    await run_worker(runner_args, worker)
