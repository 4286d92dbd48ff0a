"""A receptionist's desk in a pipeline: the language model's tools, and the desk's ears.

`CallerWords` stands before the user turns and tells the desk what the caller said, `PlayedWords`
behind the transport's output and tells it what the caller heard. The tools say their own
sentences, word for word, and the model is not asked to put them in words of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    Frame,
    FunctionCallResultProperties,
    TranscriptionFrame,
    TTSSpeakFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import FunctionCallParams, LLMService

from talkpath.agent.front_desk import Answer, FrontDesk
from talkpath.processors.idle_prompts import hang_up

__all__ = ["CallerWords", "PlayedWords", "desk_tools", "refuse_unknown_tools"]

_CANNOT = "Sorry, I cannot do that. I can book, move or cancel an appointment."
_PHONE = "The caller's phone number, as the caller said it."
_DAY = "The day as the caller said it, such as 'tomorrow', 'Tuesday' or '24 November'."
_CURRENT_DAY = "The day on which the appointment is now, if the caller said it."
_TIME = "The time as the caller said it, such as '10:30' or '3 pm'."


class CallerWords(FrameProcessor):
    """Tells the desk what the caller said.

    Args:
        desk: the call's.
    """

    def __init__(self, desk: FrontDesk) -> None:
        super().__init__()
        self._desk = desk

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note the words, then forward the frame: the desk knows them before the model does."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            self._desk.heard(frame.text)
        await self.push_frame(frame, direction)


class PlayedWords(FrameProcessor):
    """Tells the desk what was played to the caller.

    Args:
        desk: the call's.
    """

    def __init__(self, desk: FrontDesk) -> None:
        super().__init__()
        self._desk = desk

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note the words and forward the frame."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            self._desk.spoken(frame.text)
        await self.push_frame(frame, direction)


def desk_tools(desk: FrontDesk, farewell: str) -> ToolsSchema:
    """The functions that a language model may call.

    Args:
        desk: the call's.
        farewell: said when the model ends the call.
    """
    propose = "It reads the details to the caller and asks; it writes nothing yet."

    def argument(params: FunctionCallParams, name: str) -> str:
        value = params.arguments.get(name)
        return value.strip() if isinstance(value, str) else "" if value is None else str(value)

    def tool(
        name: str, description: str, work: Callable[..., Awaitable[Answer]], /, **fields: str
    ) -> FunctionSchema:
        async def handle(params: FunctionCallParams) -> None:
            await _say(params, desk, work(**{key: argument(params, key) for key in fields}))

        properties = {key: {"type": "string", "description": text} for key, text in fields.items()}
        required = [key for key in fields if key != "current_day"]
        return FunctionSchema(name, description, properties, required, handle)

    async def end_call(params: FunctionCallParams) -> None:
        first = desk.before_the_end()
        if first is not None:
            await _tell(params, first)
            return
        await params.result_callback({"status": "done"}, properties=_SILENT)
        await hang_up(params.llm, farewell)

    tools = [
        tool(
            "free_times",
            "Tells the caller which times are free.",
            desk.free_times,
            service="The service that the caller wants.",
            day=_DAY,
        ),
        tool(
            "propose_booking",
            f"Proposes a new appointment once the caller has said everything. {propose}",
            desk.propose_booking,
            name="The caller's name, as the caller said it.",
            phone=_PHONE,
            service="The service that the caller wants.",
            day=_DAY,
            time=_TIME,
        ),
        tool(
            "propose_move",
            f"Proposes another time for an appointment. {propose}",
            desk.propose_move,
            phone=_PHONE,
            day=_DAY,
            time=_TIME,
            current_day=_CURRENT_DAY,
        ),
        tool(
            "propose_cancellation",
            f"Proposes to cancel an appointment. {propose}",
            desk.propose_cancellation,
            phone=_PHONE,
            current_day=_CURRENT_DAY,
        ),
        tool("confirm", "Writes what was proposed, after the caller said yes.", desk.confirm),
        FunctionSchema(
            "end_call", "Says goodbye, once the caller wants nothing else.", {}, [], end_call
        ),
    ]
    return ToolsSchema(standard_tools=tools)


def refuse_unknown_tools(llm: FrameProcessor, words: str = _CANNOT) -> None:
    """Let a model that calls a tool which does not exist say what it can do.

    Pipecat would ask the model again at once, and a small one calls the same tool for ever.

    Args:
        llm: the model's processor.
        words: what is said.
    """

    async def handle(params: FunctionCallParams) -> None:
        await _tell(params, Answer("problem", words))

    assert isinstance(llm, LLMService)
    llm.register_function(None, handle)


_SILENT = FunctionCallResultProperties(run_llm=False)


async def _say(params: FunctionCallParams, desk: FrontDesk, work: Awaitable[Answer]) -> None:
    """Do the work and speak its answer; who interrupts hears of what was written later."""
    before = desk.outcome
    try:
        answer = await work
    except asyncio.CancelledError:
        if desk.outcome not in (before, ""):
            note = f"This was done, and the caller was not told: {desk.outcome}"
            params.context.add_message({"role": "developer", "content": note})
        raise
    await _tell(params, answer)


async def _tell(params: FunctionCallParams, answer: Answer) -> None:
    result = {"status": answer.status, "told_the_caller": answer.say}
    await params.result_callback(result, properties=_SILENT)
    if answer.say:
        await params.llm.push_frame(TTSSpeakFrame(answer.say))
