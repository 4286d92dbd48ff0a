"""Scripts, what came of a turn, and what turns add up to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from talkpath.agent.bench.conversation import (
    SENTENCES,
    TurnResult,
    Utterance,
    blocks,
    script,
    speech_end_s,
    turn_result,
)
from talkpath.agent.bench.conversation_report import (
    ConversationReport,
    conversation_figures,
    conversation_table,
)
from talkpath.agent.bench.plot import plot_turns
from talkpath.agent.turn_counts import TurnCounts
from tests.speech import clip


def test_a_script_is_the_same_for_the_same_seed_and_uses_all_before_any_again() -> None:
    choices = [[0], [1, 2], [3]]
    first = script(20, choices, seed=7)
    assert first == script(20, choices, seed=7)
    assert first != script(20, choices, seed=8)
    assert {len(conversation) for conversation in first} == {1, 2, 3}
    said = [turn for conversation in first for turn in conversation]
    for at in range(0, len(said) - 2, 3):
        assert {turn.pieces for turn in said[at : at + 3]} == {(0,), (1, 2), (3,)}
    assert all(len(turn.pauses_s) == len(turn.pieces) - 1 for turn in said)


def test_some_callers_pause_in_the_middle_of_a_sentence() -> None:
    assert any(len(sentence) > 1 for sentence in SENTENCES)
    assert len({sentence for sentence in SENTENCES}) == len(SENTENCES)


def test_the_end_of_speech_is_found_before_the_silence_and_noise_after_it() -> None:
    speech = clip("librivox-0880").samples()
    alone = speech_end_s(speech)
    assert 2.0 < alone <= 2.99
    noise = np.random.default_rng(1).normal(0, 1e-4, 16_000).astype(np.float32)
    assert speech_end_s(np.concatenate([speech, noise])) == alone
    assert speech_end_s(np.zeros(16_000, np.float32)) == 0.0


def test_an_utterance_is_cut_into_blocks_with_its_pause_and_its_true_end() -> None:
    tone = np.full(1_600, 0.5, np.float32)
    recording = np.concatenate([tone, np.zeros(800, np.float32)])
    turn = Utterance((0, 0), (0.3,), 0.5)
    audio, end_s = blocks(turn, [recording])
    assert end_s == pytest.approx(0.1 + 0.3 + 0.1)
    assert {len(block) for block in audio} == {640}
    samples = np.frombuffer(b"".join(audio), "<i2")
    assert samples[1_599] and not samples[1_600:6_400].any() and samples[6_400:8_000].all()
    assert len(samples) == 8_960  # the last recording's silence, filled up to whole blocks


TOLD = {
    "ended_at": 100.05,
    "eager_ms": 30.0,
    "parts": [
        {"name": "stop", "ms": 200.0},
        {"name": "turn", "ms": 50.0},
        {"name": "first-packet", "ms": 100.0},
    ],
}


def test_the_parts_count_from_the_true_end_of_speech() -> None:
    result = turn_result(100.0, first_audio_s=100.41, first_sound_s=100.5, told=[TOLD], cut_offs=1)
    assert result.kind == "answered"
    assert result.whole_ms == pytest.approx(410)
    assert result.sound_ms == pytest.approx(500)
    assert result.detector_ms == pytest.approx(50)
    assert [name for name, _ in result.parts] == ["stop", "turn", "first-packet"]
    assert result.parts[0][1] == pytest.approx(250)
    assert result.apart_ms == pytest.approx(10)
    assert (result.eager_ms, result.cut_offs) == (30, 1)


def test_a_turn_without_an_answer_or_with_one_too_early_has_no_time() -> None:
    assert turn_result(1.0, first_audio_s=None).kind == "unanswered"
    over = turn_result(1.0, first_audio_s=1.1, cut_offs=1, talked_over=True)
    assert (over.kind, over.cut_offs, over.whole_ms) == ("talked-over", 1, None)


def test_an_answer_that_was_cut_off_tells_no_parts() -> None:
    cut = {**TOLD, "parts": TOLD["parts"][:2]}  # type: ignore[index]
    result = turn_result(100.0, first_audio_s=100.4, told=[cut])
    assert result.parts == () and result.apart_ms is None
    assert result.whole_ms == pytest.approx(400)


def report(side: str, slower: float) -> ConversationReport:
    turns = [
        TurnResult(
            kind="answered",
            whole_ms=slower * 400 + at,
            sound_ms=slower * 450 + at,
            parts=(("stop", slower * 200.0), ("first-packet", slower * 200.0 + at - 5)),
            detector_ms=20.0,
        )
        for at in range(10)
    ]
    return ConversationReport(
        side=side,
        conversations=5,
        turns=(*turns, TurnResult(kind="unanswered", cut_offs=2)),
        counts=TurnCounts(eager_started=4, eager_used=3, eager_discarded=1),
        processor_s=5.0,
        wall_s=10.0,
    )


def test_the_table_has_a_row_for_each_part_and_the_ratio_to_the_peer() -> None:
    table = conversation_table([report("talkpath", 1.0), report("pipecat", 2.0)])
    rows = {line.split("  ")[0].strip(): line for line in table.splitlines()}
    assert rows["stop"].split()[1:] == ["400"] * 5  # of the last side
    assert rows["first-packet"].split()[-1] == "400"
    assert "final" not in rows
    assert rows["whole less parts"].split()[3:] == ["5", "5", "5", "5", "-"]
    assert "talkpath: 5 conversations, 11 turns, 10 answered, 1 unanswered" in table
    assert "0 talked over, 1 cut off too early" in table
    assert "eager replies 4, used 3, thrown away 1" in table
    assert "pipecat by talkpath: p50 1.99, p95 1.98" in table


def test_the_figures_have_every_turn_and_the_means_of_the_parts_add_up() -> None:
    figures = conversation_figures([report("talkpath", 1.0)])["talkpath"]
    assert isinstance(figures, dict)
    assert len(figures["every_turn"]) == figures["turns"] == 11
    means = [part["mean"] for part in figures["parts_ms"].values() if part["count"]]
    assert sum(means) == pytest.approx(404.5 - 5)
    assert figures["whole_ms"]["p50"] == pytest.approx(404.5)
    assert figures["cut_offs"] == 1


def test_both_sides_are_drawn(tmp_path: Path) -> None:
    file = tmp_path / "turns.png"
    silent = replace(report("silent", 1.0), turns=(TurnResult(kind="unanswered"),))
    plot_turns([report("talkpath", 1.0), report("pipecat", 2.0), silent], file)
    assert file.read_bytes().startswith(b"\x89PNG")
