"""receptionist: books, moves and cancels appointments, and writes only what the caller agreed to.

Run it with ``talkpath run receptionist``, or under Pipecat's runner with
``python -m talkpath.bots.receptionist``.
"""

import asyncio
import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.runner.types import RunnerArguments

from talkpath.agent.answers import says_farewell
from talkpath.agent.appointments import AppointmentBook, OpeningHours
from talkpath.agent.calendar_words import say_day
from talkpath.agent.config import ReceptionistConfig
from talkpath.agent.front_desk import FrontDesk
from talkpath.agent.runtime import runtime
from talkpath.bots.session import greet, make_worker, prepare_speech, run_under_pipecat, run_worker
from talkpath.bots.stages import (
    conversation,
    hearing,
    prepare_speaking,
    prepare_thinking,
    speaking,
    thinking,
    user_turns,
)
from talkpath.processors.front_desk import (
    CallerWords,
    PlayedWords,
    desk_tools,
    refuse_unknown_tools,
)
from talkpath.processors.idle_prompts import IdlePrompts, hang_up
from talkpath.processors.turn_texts import TurnTexts
from talkpath.transports.factory import create_transport

__all__ = ["MODELS", "bot", "prepare"]

MODELS = ("whisper", "reply", "voice")
PROFILE = "patient"  # people think while they say names, numbers and days
GREETING = "Hello, this is {business}. Would you like to book, move or cancel an appointment?"
FAREWELL = "Thank you for calling. Goodbye."
CLOSED = "I am sorry, I cannot take appointments just now. Please call again later."
PROMPT = """\
You are the receptionist of {business}. You are on the telephone: one short sentence at a time.
Today is {today}. Services: {services}. Open {opens} to {closes}.
To book you need the name, the phone number, the service, the day and the time: ask for what is
missing, one thing at a time. To move or cancel you need the phone number.
Only the functions know and change appointments. Call a propose function as soon as you have what
it needs; it speaks to the caller itself. When the caller has said yes to it, call confirm. When
the caller changes anything, call the propose function again. When the caller wants nothing else,
call end_call. Never say that something is booked, moved or cancelled."""


_books: dict[Path, AppointmentBook] = {}
"""Opened once in a process: a database that is away for a moment costs an apology, no call."""


async def prepare() -> None:
    """Load the models and open the database before the first caller is let in."""
    await _book()
    await prepare_speech()
    await runtime().smart_turn()
    await prepare_thinking(_prompt(), tools=True)
    await prepare_speaking()


async def _book() -> AppointmentBook:
    return await asyncio.to_thread(_open_book, runtime().config.receptionist)


def _open_book(config: ReceptionistConfig) -> AppointmentBook:
    path, hours = Path(config.database).expanduser(), OpeningHours.of(config)
    if path not in _books or _books[path].hours != hours:
        _books[path] = AppointmentBook(path, hours)
    return _books[path]


def _prompt() -> str:
    """What the model is told; the same all day, so that it is read once."""
    config = runtime().config.receptionist
    today = datetime.datetime.now(ZoneInfo(config.timezone)).date()
    return PROMPT.format(
        business=config.business,
        today=f"{say_day(today)} {today.year}",
        services=", ".join(config.services),
        opens=config.opens,
        closes=config.closes,
    )


async def _turn_away(runner_args: RunnerArguments) -> None:
    """A session without a model that calls functions: it would promise what nobody writes down."""
    transport = await create_transport(runner_args)

    async def answer(text: str) -> str | None:
        if says_farewell(text):
            await hang_up(listener, FAREWELL)
            return None
        return CLOSED

    listener = TurnTexts(answer)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(profile=PROFILE),
            await user_turns(profile=PROFILE),
            listener,
            IdlePrompts(runtime().config.idle),
            await speaking(),
            transport.output(),
        ],
    )
    greet(transport, worker, f"Hello, this is {runtime().config.receptionist.business}. {CLOSED}")
    await run_worker(runner_args, worker)


async def bot(runner_args: RunnerArguments) -> None:
    """One session."""
    if not runtime().config.reply.calls_functions:
        await _turn_away(runner_args)
        return
    book = await _book()
    desk = FrontDesk(book, lambda: datetime.datetime.now(book.hours.timezone))
    transport = await create_transport(runner_args)
    context = await conversation(LLMContext(tools=desk_tools(desk, FAREWELL)), profile=PROFILE)
    model, *text = await thinking(_prompt())
    refuse_unknown_tools(model)
    worker = make_worker(
        runner_args,
        transport,
        [
            transport.input(),
            *await hearing(profile=PROFILE),
            DTMFAggregator(),
            CallerWords(desk),
            context.user(),
            model,
            *text,
            IdlePrompts(runtime().config.idle),
            await speaking(),
            transport.output(),
            PlayedWords(desk),
            context.assistant(),
        ],
    )
    greet(transport, worker, GREETING.format(business=runtime().config.receptionist.business))
    await run_worker(runner_args, worker)


if __name__ == "__main__":
    run_under_pipecat(prepare)
