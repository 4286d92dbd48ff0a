"""Conversation: who says what to a bot, and what came of it. No input or output.

A script depends on its numbers and seed alone, so all sides of a comparison get the same.
Times of results are Unix seconds, the one clock that caller and bot share on a machine.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from talkpath.agent.audio import SAMPLE_RATE_HZ, FloatArray, float_to_pcm16

__all__ = [
    "BLOCK_S",
    "SENTENCES",
    "TurnResult",
    "Utterance",
    "blocks",
    "script",
    "speech_end_s",
    "turn_result",
]

BLOCK_S = 0.02
"""Seconds of audio in one message, as a browser sends it."""

SENTENCES: tuple[tuple[str, ...], ...] = (
    ("Hello, how are you today?",),
    ("What is the capital of France?",),
    ("Can you tell me a short joke?",),
    ("What should I cook for dinner tonight?",),
    ("Do you know a good book about history?",),
    ("How long does it take to fly to Madrid?",),
    ("Thank you, that was very helpful.",),
    ("Could you explain to me what a voice agent is?",),
    ("Please tell me something about the sea.",),
    ("I would like to know more about your opening hours.",),
    ("Yes, please.",),
    ("Is there a train to London this evening?",),
    ("I would like to book a table,", "for two people on Friday evening."),
    ("My order has not arrived yet,", "can you find out where it is?"),
    ("Well, I was going to ask you", "whether it will rain tomorrow."),
    ("I am looking for a present,", "something for a boy of ten."),
)
"""What callers say where there are no recordings; those in two pieces pause in between."""

_PAUSE_S = (0.3, 0.7)
_THINK_S = (0.4, 1.0)
_LEVEL_STEP_S = 0.01
_SPEECH_DB = -35.0  # below the loudest: the noise of the recordings and a voice's decay are lower


@dataclass(frozen=True, slots=True)
class Utterance:
    """One turn of a caller.

    Attributes:
        pieces: indices of what is said, in order.
        pauses_s: silence after each piece but the last.
        think_s: silence between the end of what the bot said and this.
    """

    pieces: tuple[int, ...]
    pauses_s: tuple[float, ...]
    think_s: float


def script(
    conversations: int, choices: Sequence[Sequence[int]], *, seed: int = 1
) -> list[tuple[Utterance, ...]]:
    """Plan conversations of one to three turns.

    Args:
        conversations: how many.
        choices: what a turn may be: indices of its pieces. Each is used once before any is
            used again.
        seed: of all that is drawn.
    """
    draw = random.Random(seed)
    left: list[Sequence[int]] = []
    planned = []
    for _ in range(conversations):
        turns = []
        for _ in range(draw.randint(1, 3)):
            if not left:
                left = draw.sample(list(choices), len(choices))
            pieces = left.pop()
            pauses = tuple(draw.uniform(*_PAUSE_S) for _ in pieces[1:])
            turns.append(Utterance(tuple(pieces), pauses, draw.uniform(*_THINK_S)))
        planned.append(tuple(turns))
    return planned


def speech_end_s(audio: FloatArray) -> float:
    """Where the speech in a recording ends: its last 10 ms that are not 35 dB below the loudest.

    Args:
        audio: float32 ``[n]``, 16 kHz.
    """
    step = round(_LEVEL_STEP_S * SAMPLE_RATE_HZ)
    steps = audio[: len(audio) // step * step].reshape(-1, step)
    levels = np.sqrt(np.mean(np.square(steps), axis=1))
    heard = np.flatnonzero(levels > levels.max(initial=0.0) * 10 ** (_SPEECH_DB / 20))
    return float(heard[-1] + 1) * _LEVEL_STEP_S if len(heard) else 0.0


def blocks(utterance: Utterance, recordings: Sequence[FloatArray]) -> tuple[list[bytes], float]:
    """An utterance in blocks of 20 ms, 16-bit PCM, and where in it the speech ends, in seconds."""
    parts: list[FloatArray] = []
    silences = (*utterance.pauses_s, 0.0)
    for piece, pause_s in zip(utterance.pieces, silences, strict=True):
        audio = recordings[piece]
        parts.append(audio[: round(speech_end_s(audio) * SAMPLE_RATE_HZ)])
        parts.append(np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32))
    whole = np.concatenate(parts)
    # The rest of the last recording, its breath and room, is silence of the caller's.
    tail = recordings[utterance.pieces[-1]][len(parts[-2]) :]
    return list(_cut(np.concatenate([whole, tail]))), len(whole) / SAMPLE_RATE_HZ


def _cut(audio: FloatArray) -> Iterator[bytes]:
    samples = round(BLOCK_S * SAMPLE_RATE_HZ)
    for at in range(0, len(audio), samples):
        yield float_to_pcm16(audio[at : at + samples]).ljust(2 * samples, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What became of one turn.

    Attributes:
        kind: ``answered``, ``unanswered`` (no sound in time), or ``talked-over`` (the bot was
            speaking when the caller came to the end, so nothing can be timed).
        cut_offs: how often the bot held the turn for over before its end.
        whole_ms: from the true end of speech to the arrival of the answer's first audio, at
            the caller's.
        sound_ms: the same to the first sound that can be heard: a voice begins with some
            silence.
        parts: (name, milliseconds) as the bot told them, but the first from the true end of
            speech instead of the detector's; empty where it told none.
        detector_ms: the end of speech by the detector less the true one.
        eager_ms: see ``TurnLatency``.
    """

    kind: str
    cut_offs: int = 0
    whole_ms: float | None = None
    sound_ms: float | None = None
    parts: tuple[tuple[str, float], ...] = ()
    detector_ms: float | None = None
    eager_ms: float | None = None

    @property
    def apart_ms(self) -> float | None:
        """The whole, measured by the caller, less the parts, told by the bot: the way."""
        if self.whole_ms is None or not self.parts:
            return None
        return self.whole_ms - sum(ms for _, ms in self.parts)


def turn_result(
    end_s: float,
    *,
    first_audio_s: float | None,
    first_sound_s: float | None = None,
    told: Sequence[Mapping[str, Any]] = (),
    cut_offs: int = 0,
    talked_over: bool = False,
) -> TurnResult:
    """Put one turn together.

    Args:
        end_s: true end of speech.
        first_audio_s: arrival of the first audio after it; None where none came.
        first_sound_s: arrival of the first of it that can be heard.
        told: the bot's ``turn-latency`` messages since the turn began.
        cut_offs: decisions that came before the end.
        talked_over: the bot was speaking at the end.
    """
    if talked_over:
        return TurnResult(kind="talked-over", cut_offs=cut_offs)
    if first_audio_s is None:
        return TurnResult(kind="unanswered", cut_offs=cut_offs)
    measured = TurnResult(
        kind="answered",
        cut_offs=cut_offs,
        whole_ms=(first_audio_s - end_s) * 1000,
        sound_ms=None if first_sound_s is None else (first_sound_s - end_s) * 1000,
    )
    whole = [item for item in told if _names(item)[-1:] == ["first-packet"]]
    if not whole:
        return measured
    latency = whole[-1]
    ended_at: float = latency["ended_at"]
    detector_ms = (ended_at - end_s) * 1000
    parts = [(part["name"], part["ms"]) for part in latency["parts"]]
    return TurnResult(
        kind=measured.kind,
        cut_offs=cut_offs,
        whole_ms=measured.whole_ms,
        sound_ms=measured.sound_ms,
        parts=((parts[0][0], parts[0][1] + detector_ms), *parts[1:]),
        detector_ms=detector_ms,
        eager_ms=latency["eager_ms"],
    )


def _names(latency: Mapping[str, Any]) -> list[str]:
    return [part["name"] for part in latency["parts"]]
