"""What a language model can do with a call: end it, hand it over, press keys.

The model sees the names of those to whom a call may go, never an address: it can invent neither.
``TransferApology`` stands before the voice and tells the caller if a transfer was refused.
"""

from collections.abc import Awaitable, Callable, Mapping

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    Frame,
    FunctionCallResultProperties,
    OutputDTMFFrame,
    OutputTransportMessageFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi import models as rtvi
from pipecat.services.llm_service import FunctionCallParams

from talkpath.processors.frames import TransferFrame, TransferRefusedFrame
from talkpath.processors.idle_prompts import hang_up

__all__ = ["SORRY", "TransferApology", "call_tools", "put_through"]

SORRY = "I am sorry, nobody can be reached there now. What else can I do for you?"

_Handler = Callable[[FunctionCallParams], Awaitable[None]]
_KEYS = frozenset("0123456789*#")
_MOST_KEYS = 32
_SILENT = FunctionCallResultProperties(run_llm=False)


class TransferApology(FrameProcessor):
    """Tells the caller that a transfer was refused.

    Args:
        words: what is said.
    """

    def __init__(self, words: str = SORRY) -> None:
        super().__init__()
        self._words = words

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Forward the frame; after a refusal, apologise."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, TransferRefusedFrame) and direction is FrameDirection.UPSTREAM:
            await self.push_frame(TTSSpeakFrame(self._words, append_to_context=True))


async def put_through(processor: FrameProcessor, name: str, target: str) -> None:
    """Say that the caller is put through, then hand the call over.

    A telephone's transport transfers the call. A page or a program gets RTVI's server message
    ``{"type": "transfer", "target": ...}`` and connects there, and the call ends.

    Args:
        processor: one before the voice.
        name: whom the caller will talk to.
        target: where they are.
    """
    message = rtvi.ServerMessage(data={"type": "transfer", "target": target})
    await hang_up(
        processor,
        f"I will put you through to {name}.",
        TransferFrame(target=target),
        OutputTransportMessageFrame(message=message.model_dump()),
    )


def call_tools(
    transfers: Mapping[str, str], *, farewell: str, press_keys: bool = False
) -> ToolsSchema:
    """The functions that a language model may call.

    Args:
        transfers: where calls may go: addresses by the names that the model sees.
        farewell: said when the model ends the call.
        press_keys: whether the model may press keys, for a bot that calls machines.
    """
    tools = [
        FunctionSchema(
            "end_call",
            "Says goodbye, once the caller wants nothing else.",
            {},
            [],
            _ender(farewell),
        )
    ]
    if transfers:
        names = list(transfers)
        to = {"type": "string", "enum": names, "description": "Whom the caller wants to talk to."}
        tools.append(
            FunctionSchema(
                "transfer_call",
                f"Puts the caller through to {', '.join(names)}, once the caller asks for it.",
                {"to": to},
                ["to"],
                _transferrer(transfers),
            )
        )
    if press_keys:
        keys = {"type": "string", "description": "Digits, * and #, in the order to press them."}
        tools.append(
            FunctionSchema("press_keys", "Presses keys.", {"keys": keys}, ["keys"], _press)
        )
    return ToolsSchema(standard_tools=list(tools))


def _ender(farewell: str) -> _Handler:
    async def end_call(params: FunctionCallParams) -> None:
        await params.result_callback({"status": "done"}, properties=_SILENT)
        await hang_up(params.llm, farewell)

    return end_call


def _transferrer(transfers: Mapping[str, str]) -> _Handler:
    known = {name.casefold(): (name, target) for name, target in transfers.items()}

    async def transfer_call(params: FunctionCallParams) -> None:
        wanted = str(params.arguments.get("to", "")).strip().casefold()
        if wanted not in known:
            await params.result_callback({"status": "unknown", "known": list(transfers)})
            return
        await params.result_callback({"status": "done"}, properties=_SILENT)
        await put_through(params.llm, *known[wanted])

    return transfer_call


async def _press(params: FunctionCallParams) -> None:
    keys = "".join(str(params.arguments.get("keys", "")).split())
    if not keys or len(keys) > _MOST_KEYS or not set(keys) <= _KEYS:
        await params.result_callback({"status": "these are no keys"})
        return
    await params.result_callback({"status": "done"}, properties=_SILENT)
    await params.llm.push_frame(OutputDTMFFrame.from_string(keys))
