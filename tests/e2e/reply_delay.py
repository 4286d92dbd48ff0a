"""How long the echo takes to answer by telephone and in the browser, clip by clip in turn.

``python -m tests.e2e.reply_delay --data FOLDER --clips 20`` runs the bot twice, behind SIP and
behind WebRTC. A caller by hand and headless Chromium call it at the same time and say the same
clips, first the one, then the other, so that a slow moment of the machine is so for both. It takes
5.4 s a clip, and twice the clip's length. Both bots have the settings of this process: with
``TALKPATH_TURN_THRESHOLD=0.02`` each stop of speech ends a turn, and what is left is the line.

Measured is the time from the last sound of the clip, as it leaves the caller's microphone, to the
first sound of the bot at the caller's ear. The telephone's ear is the arrival of a packet: it has
no jitter buffer. Chromium's is the track in the page, behind its jitter buffer, whose mean is
printed. Both microphones hear a room: the echo begins with what was before the words.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talkpath.agent.bench.clips import (
    Clip,
    add_clip_arguments,
    clip_errors,
    english_clips,
    load_manifest,
    read_clip,
)
from talkpath.agent.bench.figures import show, spread, table, to_json
from talkpath.agent.bench.telephone import (
    PACKET_S,
    TELEPHONE_CODECS,
    CallRecord,
    TelephoneCodec,
    packets,
    returned,
)
from talkpath.agent.bench.telephone_call import call
from tests.browser import chromium, eventually, microphone_wav
from tests.e2e.bots import running
from tests.e2e.two_ears import RATE_HZ, BothEars, listening
from tests.e2e.witnessed_echo import FILE
from tests.sip.telephone import telephone
from tests.speech import resample

__all__ = ["Turn", "browser_turns", "places", "speech_end_s", "telephone_turns"]

Sound = NDArray[np.float32]

_BOT = Path(__file__).with_name("witnessed_echo.py")
_CLIP_HZ = 16_000
_LEAD_S = 8.0  # both calls are up, and nobody speaks
_ANSWER_S = 2.7  # the longest turn waits 2 s
_ROOM = 10 ** (-55 / 20)  # of a microphone in a quiet room
_PEAK = 0.5
_STEP_S = 0.002
_AUDIBLE = 10 ** (-72 / 20)  # packets of silence are not, the room is
_SEARCH_HZ = 8000
_SEARCH_S = 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of a clip. NaN where it was not answered, or the bot spoke already.

    An answer to the first part of a clip, before a pause, that is heard just behind its end counts
    as an answer: such delays are shorter than the silence that ends speech.

    Attributes:
        clip: what was said.
        began_s: when its first sample left the microphone (Unix time).
        ended_s: when its last sound did.
        heard_s: when the bot's first sound was at the ear.
    """

    clip: Clip
    began_s: float
    ended_s: float
    heard_s: float

    @property
    def delay_ms(self) -> float:
        """From the one to the other."""
        return 1000 * (self.heard_s - self.ended_s)


@dataclass(frozen=True, slots=True)
class _Note:
    """A line of the witness."""

    at: float
    kind: str
    text: str


def _levels(sound: Sound, rate_hz: int, step_s: float) -> NDArray[np.float64]:
    step = round(step_s * rate_hz)
    steps = sound[: len(sound) // step * step].reshape(-1, step).astype(np.float64)
    levels: NDArray[np.float64] = np.sqrt(np.mean(np.square(steps), axis=1))
    return levels


def speech_end_s(sound: Sound, rate_hz: int = _CLIP_HZ) -> float:
    """When the last sound of a clip ends: 40 dB below its loudest 10 ms, to 10 ms."""
    levels = _levels(sound, rate_hz, 0.01)
    return float(np.flatnonzero(levels > levels.max() * 10 ** (-40 / 20))[-1] + 1) * 0.01


def _reply_s(bot: Sound, rate_hz: int, after_s: float) -> float:
    """When the bot begins to be heard; NaN where it does not in time, or is heard already."""
    before, until = after_s - 0.05, after_s + _ANSWER_S
    first = max(0, round(before * rate_hz))
    loud = _levels(bot[first : round(until * rate_hz)], rate_hz, _STEP_S) > _AUDIBLE
    if not loud.any() or loud[: round(0.05 / _STEP_S)].any():
        return float("nan")
    return first / rate_hz + int(np.argmax(loud)) * _STEP_S


def places(
    clips: Sequence[Sound], answer_s: float = _ANSWER_S
) -> tuple[list[float], list[float], float]:
    """When the browser says each clip, when the telephone does, and the end: seconds.

    Args:
        clips: their sound, 16 kHz.
        answer_s: seconds after a clip until the other caller speaks.
    """
    browser, phone, at_s = [], [], _LEAD_S
    for clip in clips:
        length_s = len(clip) / _CLIP_HZ + answer_s
        browser.append(at_s)
        phone.append(at_s + length_s)
        at_s += 2 * length_s
    return browser, phone, at_s


def _microphone(clips: Sequence[Sound], starts: Sequence[float], end_s: float) -> Sound:
    """A quiet room, and the clips in it: 16 kHz."""
    room = np.random.default_rng(6).normal(0.0, _ROOM, round(end_s * _CLIP_HZ)).astype(np.float32)
    for clip, start in zip(clips, starts, strict=True):
        first = round(start * _CLIP_HZ)
        room[first : first + len(clip)] += clip
    return room


def browser_turns(
    ears: BothEars, began_s: float, said: Sequence[tuple[Clip, Sound]], starts: Sequence[float]
) -> list[Turn]:
    """What became of the clips in Chromium, where they are found in what was recorded.

    Args:
        ears: what was recorded.
        began_s: when that began (Unix time).
        said: clips and their sound at 16 kHz.
        starts: about where they are, in seconds.
    """
    caller, bot = (side.astype(np.float32) / np.float32(32768) for side in (ears.caller, ears.bot))
    caller = resample(caller, RATE_HZ, _SEARCH_HZ)
    turns = []
    for (clip, sound), about_s in zip(said, starts, strict=True):
        first = round(max(0.0, about_s - _SEARCH_S) * _SEARCH_HZ)
        wanted = resample(sound, _CLIP_HZ, _SEARCH_HZ)
        window = caller[first : first + len(wanted) + round(2 * _SEARCH_S * _SEARCH_HZ)]
        size = 1 << (len(window) + len(wanted)).bit_length()
        match = np.fft.irfft(np.fft.rfft(window, size) * np.conj(np.fft.rfft(wanted, size)), size)
        start = (first + int(np.argmax(match[: len(window)]))) / _SEARCH_HZ
        end = start + speech_end_s(sound)
        heard = _reply_s(bot, RATE_HZ, end)
        turns.append(Turn(clip, began_s + start, began_s + end, began_s + heard))
    return turns


def telephone_turns(
    record: CallRecord,
    codec: TelephoneCodec,
    said: Sequence[tuple[Clip, Sound]],
    starts: Sequence[float],
) -> list[Turn]:
    """What became of the clips in a call by telephone.

    A sample leaves the microphone with the last one of its packet, less what lies between.

    Args:
        record: of the call.
        codec: its codec.
        said: clips and their sound at 16 kHz.
        starts: where they are in what was sent, in seconds.
    """
    sound, firsts = returned(codec, record.arrivals)
    times = [arrival.at_s for arrival in record.arrivals]

    def spoken(at_s: float) -> float:
        packet, offset = divmod(at_s, PACKET_S)
        return record.sent_s[int(packet)] - PACKET_S + offset

    turns = []
    for (clip, samples), start in zip(said, starts, strict=True):
        ended = spoken(start + speech_end_s(samples))
        next_packet = int(np.searchsorted(times, ended))
        heard = _reply_s(sound, codec.rate_hz, firsts[next_packet] / codec.rate_hz)
        if not np.isnan(heard):
            place = heard * codec.rate_hz
            index = int(np.searchsorted(firsts, place, side="right")) - 1
            heard = times[index] + (place - firsts[index]) / codec.rate_hz
        turns.append(Turn(clip, spoken(start), ended, heard))
    return turns


def _notes(folder: Path) -> list[_Note]:
    lines = (folder / FILE).read_text().splitlines()
    return [_Note(**json.loads(line)) for line in lines]


def _between(notes: Sequence[_Note], kind: str, after_s: float, until_s: float) -> float:
    """The last note of a kind in a time; NaN if there is none."""
    found = [note.at for note in notes if note.kind == kind and after_s <= note.at <= until_s]
    return found[-1] if found else float("nan")


def _figures(turns: Sequence[Turn], notes: Sequence[_Note]) -> dict[str, Any]:
    """Figures of one side, in milliseconds, and its word errors."""
    answered = [turn for turn in turns if turn.delay_ms == turn.delay_ms]
    detected, decided, brought = [], [], []
    for turn in answered:
        end = _between(notes, "end", turn.ended_s - 0.5, turn.heard_s + 0.01)
        stop = _between(notes, "stop", turn.ended_s - 0.5, end)
        if np.isnan(stop):  # what was said last was taken for a turn of its own, or for nothing
            continue
        detected.append(1000 * (stop - turn.ended_s))
        decided.append(1000 * (end - stop))
        brought.append(1000 * (turn.heard_s - end))
    limits = [*(turn.began_s for turn in turns[1:]), float("inf")]
    heard = [
        (turn.clip, " ".join(n.text for n in notes if n.text and turn.began_s <= n.at < limit))
        for turn, limit in zip(turns, limits, strict=True)
    ]
    return {
        "turns": len(turns),
        "answered": len(answered),
        "delays_ms": {turn.clip.id: turn.delay_ms for turn in turns},
        "words": {clip.id: text for clip, text in heard},
        "word_error_rate": clip_errors(heard).rate,
        "delay_p50_ms": spread([turn.delay_ms for turn in answered]).p50,
        "delay_p95_ms": spread([turn.delay_ms for turn in answered]).p95,
        "stop_p50_ms": spread(detected).p50,
        "decision_p50_ms": spread(decided).p50,
        "voice_p50_ms": spread(brought).p50,
    }


async def _call_both(
    url: str,
    port: int,
    codec: TelephoneCodec,
    said: Sequence[tuple[Clip, Sound]],
    answer_s: float,
    folder: Path,
) -> tuple[list[Turn], list[Turn], float]:
    """Turns in the browser and by telephone, and the browser's jitter buffer in ms."""
    sounds = [sound for _, sound in said]
    starts, phone_starts, end_s = places(sounds, answer_s)
    spoken = _microphone(sounds, phone_starts, end_s)
    ready = packets(codec, resample(spoken, _CLIP_HZ, codec.rate_hz))
    microphone = microphone_wav(
        folder / "mic.wav", resample(_microphone(sounds, starts, end_s), _CLIP_HZ, RATE_HZ)
    )
    program = shutil.which("chromium")
    assert program is not None, "chromium is not installed"
    async with chromium(program, microphone=microphone) as browser, listening(browser, url) as page:

        async def begun() -> bool:
            return await page.seconds() > 0

        await eventually(begun, "the microphone is on")
        record = await call("127.0.0.1", port, codec, ready)
        assert not record.failure, record.failure
        ears, began_s = await page.so_far(), await page.began_s()
        jitter_buffer_ms = await page.jitter_buffer_ms()
    return (
        browser_turns(ears, began_s, said, starts),
        telephone_turns(record, codec, said, phone_starts),
        jitter_buffer_ms,
    )


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run both, call both, and give the figures."""
    chosen = []
    for clip in english_clips(load_manifest(args.data)):
        sound = read_clip(clip)
        if len(sound) <= args.longest * _CLIP_HZ:
            chosen.append((clip, sound * np.float32(_PEAK / np.abs(sound).max())))
    chosen = chosen[: args.clips or None]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for side in ("browser", "telephone"):
            (folder / side).mkdir()
        line = stack.enter_context(
            telephone(str(_BOT), folder / "log", captions__folder=folder / "telephone")
        )
        browser_settings = {"TALKPATH_CAPTIONS_FOLDER": str(folder / "browser")}
        async with running(str(_BOT), environ=browser_settings) as url:
            codec = TELEPHONE_CODECS[args.codec]
            browser, phone, jitter_buffer_ms = await _call_both(
                url, line.port, codec, chosen, args.answer, folder
            )
        pairs = zip(phone, browser, strict=True)
        differences = [there.delay_ms - here.delay_ms for there, here in pairs]
        return {
            "browser": _figures(browser, _notes(folder / "browser")),
            "telephone": _figures(phone, _notes(folder / "telephone")),
            "jitter_buffer_ms": jitter_buffer_ms,
            "differences_ms": [one for one in differences if one == one],
        }


def _table(codec: str, figures: dict[str, Any]) -> str:
    sides = [figures["browser"], figures["telephone"]]
    names = {
        "end of speech to voice p50, ms": ("delay_p50_ms", ".0f"),
        "  p95": ("delay_p95_ms", ".0f"),
        "  until the stop is detected p50": ("stop_p50_ms", ".0f"),
        "  until the turn is over p50": ("decision_p50_ms", ".0f"),
        "  until the voice is heard p50": ("voice_p50_ms", ".0f"),
        "word errors": ("word_error_rate", ".1%"),
        "turns": ("turns", "d"),
        "  answered": ("answered", "d"),
    }
    rows = [["", "browser", f"telephone, {codec}"]]
    for name, (key, form) in names.items():
        rows.append([name, *(show(side[key], form) for side in sides)])
    rows.append(["in Chromium's jitter buffer, ms", f"{figures['jitter_buffer_ms']:.0f}", "-"])
    found = spread(figures["differences_ms"])
    difference = f"p50 {found.p50:.0f}, p95 {found.p95:.0f}, most {found.most:.0f}"
    return table(rows) + f"telephone less browser, clip by clip, ms: {difference}\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_clip_arguments(parser)
    parser.add_argument(
        "--longest",
        type=float,
        default=4.6,
        metavar="S",
        help="no clip longer than this (default: 4.6)",
    )
    parser.add_argument(
        "--answer",
        type=float,
        default=_ANSWER_S,
        metavar="S",
        help=f"from a clip to the other caller's (default: {_ANSWER_S})",
    )
    parser.add_argument("--codec", choices=tuple(TELEPHONE_CODECS), default="pcmu")
    args = parser.parse_args()
    figures = asyncio.run(measure(args))
    sys.stdout.write(to_json(figures) if args.json else _table(args.codec, figures))


if __name__ == "__main__":
    main()
