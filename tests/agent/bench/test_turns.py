"""The bench of turn taking: its arithmetic, and its set on real speech."""

import pytest

from talkpath.agent.bench.clips import Clip
from talkpath.agent.bench.turn_set import Place, TurnSet, is_whole
from talkpath.agent.bench.turns import PAUSES_S, curve, figures
from talkpath.agent.smart_turn import SmartTurn, load_smart_turn
from talkpath.agent.speech import SileroVad
from talkpath.agent.turns import PROFILES
from talkpath.agent.whisper.results import Word
from tests import speech
from tests.agent.whisper.helpers import engine


def place(finished: bool, completeness: float) -> Place:
    return Place("clip", finished, 0.02, 0.22, completeness, "Hello there.")


def test_a_timeout_cuts_off_all_longer_pauses() -> None:
    item = figures("timeout", [place(True, 0.9), place(False, 0.9)], 0.8)
    longer = [pause for pause in PAUSES_S if pause > 0.82]
    assert item.false_cut_offs == len(longer) / len(PAUSES_S)
    assert item.median_s == pytest.approx(0.82)


def test_a_profile_tells_finished_from_unfinished() -> None:
    places = [place(True, 0.99), place(False, 0.01)]
    item = figures("balanced", places, PROFILES["balanced"])
    assert item.false_cut_offs == 0 and item.median_s == pytest.approx(0.22)


def test_a_curve_trades_cut_offs_for_delay() -> None:
    places = [place(True, p) for p in (0.6, 0.97)] + [place(False, p) for p in (0.1, 0.5, 0.93)]
    items = curve(places, 2.0)
    cut_offs = [item.false_cut_offs for item in items]
    delays = [item.mean_s for item in items]
    assert cut_offs == sorted(cut_offs, reverse=True) and delays == sorted(delays)
    assert cut_offs[0] > cut_offs[-1]


def test_figures_need_both_kinds() -> None:
    with pytest.raises(ValueError, match="whole sentences and cuts"):
        figures("one kind", [place(True, 0.9)], 0.5)


def test_references_that_end_in_mid_sentence_are_not_whole() -> None:
    assert is_whole("It is done.") and is_whole('"Is it?"') and is_whole("five five")
    assert not is_whole("as an example of fine typography,") and not is_whole("First, the book")


async def test_real_speech_has_its_end_and_its_cuts() -> None:
    clip = speech.clip("librivox-0920")
    # Where the words are does not matter here: so many seconds each.
    words = [Word(0.5 * n, 0.5 * n + 0.4, text, 1.0) for n, text in enumerate("abcdefghij")]
    async with engine() as whisper:
        turn_set = TurnSet(whisper, SileroVad(), SmartTurn(load_smart_turn()), cuts=2)
        of = Clip(clip.id, clip.path, "had he married a more amiable woman", "en")
        places = [item async for item in turn_set.places(of, words)]
    assert [item.finished for item in places] == [True, False, False]
    assert all(item.stop_s >= item.detected_s + 0.19 for item in places)
    assert all(abs(item.detected_s) < 0.3 for item in places)
