"""phone: answers the telephone, talks, puts callers through, and hangs up when they are done.

Key 0 calls the operator, the star says the last sentence again, the hash hangs up; numbers that
are keyed in are read by the language model. Whom callers can ask for is in the settings
(``phone.transfers``). Run it with ``talkpath run phone --transport sip``, or without the option
for the page, or under Pipecat's runner with ``python -m talkpath.bots.phone``.
"""

from pipecat.frames.frames import TTSSpeakFrame
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.runner.types import RunnerArguments

from talkpath.agent.runtime import runtime
from talkpath.bots.session import greet, make_worker, prepare_speech, run_under_pipecat, run_worker
from talkpath.bots.stages import (
    conversation,
    hearing,
    prepare_speaking,
    prepare_thinking,
    speaking,
    thinking,
)
from talkpath.processors.call_tools import TransferApology, call_tools, put_through
from talkpath.processors.front_desk import refuse_unknown_tools
from talkpath.processors.idle_prompts import IdlePrompts, hang_up
from talkpath.processors.keys import KeyPad, LastWords
from talkpath.transports.factory import create_transport

__all__ = ["MODELS", "bot", "prepare"]

MODELS = ("whisper", "reply", "voice")
FAREWELL = "Thank you for calling. Goodbye."
NOBODY = "I am sorry, there is nobody I could put you through to."
CANNOT = "I am sorry, I cannot do that."
PROMPT = """\
You answer the telephone. Say one or two short sentences at a time, in plain words without lists or
symbols. You can put callers through to: {names}. Call transfer_call once the caller asks for one of
them, and end_call once the caller wants nothing else. "DTMF:" stands before keys that were pressed.
"""


async def prepare() -> None:
    """Load the models before the first caller is let in."""
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_thinking(_prompt(), tools=bool(runtime().config.phone.transfers))
    await prepare_speaking()


def _prompt() -> str:
    return PROMPT.format(names=", ".join(runtime().config.phone.transfers) or "nobody")


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    config = runtime().config.phone

    async def call_operator() -> None:
        if name := config.operator_name:
            await put_through(keys, name, config.transfers[name])
        else:
            await keys.push_frame(TTSSpeakFrame(NOBODY, append_to_context=True))

    async def repeat() -> None:
        await keys.push_frame(TTSSpeakFrame(last.text, append_to_context=False))

    async def leave() -> None:
        await hang_up(keys, FAREWELL)

    last = LastWords()
    keys = KeyPad({"0": call_operator, "*": repeat, "#": leave})
    transport = await create_transport(runner_args)
    tools = call_tools(config.transfers, farewell=FAREWELL)
    context = await conversation(LLMContext(tools=tools))
    model, *text = await thinking(_prompt())
    refuse_unknown_tools(model, CANNOT)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(),
            keys,
            context.user(),
            model,
            *text,
            TransferApology(),
            last,
            IdlePrompts(runtime().config.idle),
            await speaking(),
            transport.output(),
            context.assistant(),
        ],
    )
    greet(transport, worker, config.greeting)
    await run_worker(runner_args, worker)


if __name__ == "__main__":
    run_under_pipecat(prepare)
