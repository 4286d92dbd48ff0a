"""Transcripts in every format, whatever the segments say."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talkpath.agent.conversation import BOT, CALLER, SpokenTurn, TurnKeeper
from talkpath.agent.subtitles import FORMATS, TranscriptWriter, cues
from talkpath.agent.whisper.results import Segment, Word

SPEECH = [
    Segment(0.0, 2.5, "A gold ring will please most any girl."),
    Segment(3661.0041, 3663.9999, "Tom & Jerry said: <b>5 > 3</b> --> no?"),
]


def write(form: str, segments: list[Segment], name: str = "talk.wav") -> str:
    writer = TranscriptWriter(form)
    parts = [writer.begin(name), *(writer.segment(item) for item in segments)]
    return "".join([*parts, writer.end(language="en", duration_s=4000.12345)])


def test_text_has_a_line_for_each_segment() -> None:
    assert write("text", SPEECH) == (
        "A gold ring will please most any girl.\nTom & Jerry said: <b>5 > 3</b> --> no?\n"
    )


def test_subrip() -> None:
    assert write("srt", SPEECH) == (
        "1\n00:00:00,000 --> 00:00:02,500\nA gold ring will please most any girl.\n"
        "\n2\n01:01:01,004 --> 01:01:04,000\nTom & Jerry said: <b>5 > 3</b> -> no?\n"
    )


def test_webvtt_escapes_what_is_markup_there() -> None:
    assert write("vtt", SPEECH) == (
        "WEBVTT\n"
        "\n00:00:00.000 --> 00:00:02.500\nA gold ring will please most any girl.\n"
        "\n01:01:01.004 --> 01:01:04.000\n"
        "Tom &amp; Jerry said: &lt;b&gt;5 &gt; 3&lt;/b&gt; --&gt; no?\n"
    )


def test_json_is_one_object() -> None:
    document = json.loads(write("json", SPEECH, name='a "quoted" näme.wav'))
    assert document == {
        "file": 'a "quoted" näme.wav',
        "segments": [
            {"start_s": 0.0, "end_s": 2.5, "text": SPEECH[0].text},
            {"start_s": 3661.004, "end_s": 3664.0, "text": SPEECH[1].text},
        ],
        "text": f"{SPEECH[0].text} {SPEECH[1].text}",
        "language": "en",
        "duration_s": 4000.123,
    }


@pytest.mark.parametrize("form", FORMATS)
def test_no_speech_is_still_a_whole_file(form: str) -> None:
    expected = {"text": "", "srt": "", "vtt": "WEBVTT\n"}
    written = write(form, [Segment(1.0, 2.0, " \n")])
    if form == "json":
        assert json.loads(written)["segments"] == []
    else:
        assert written == expected[form]


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="docx"):
        TranscriptWriter("docx")


def test_a_long_segment_is_split_at_a_sentence_and_shares_its_time() -> None:
    text = (
        "She saw a cat in the neighbour's house on Monday. "
        "A pink shell was found on the sandy beach, and nobody knew why."
    )
    first, second = cues(Segment(10.0, 20.0, text))
    assert " ".join(first.lines) == "She saw a cat in the neighbour's house on Monday."
    assert (first.start_ms, second.end_ms) == (10_000, 20_000)
    assert first.end_ms == second.start_ms
    assert 13_500 < first.end_ms < 15_000


def test_a_script_without_spaces_is_broken_between_letters() -> None:
    text = "我们今天在这里讨论语音识别系统的质量以及它在电话中的应用" * 3
    parts = list(cues(Segment(0.0, 12.0, text)))
    assert "".join("".join(cue.lines) for cue in parts) == text
    assert all(len(line) <= 21 for cue in parts for line in cue.lines)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=0, max_size=60)


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.floats(0, 40), st.lists(words, max_size=30).map(" ".join)),
        max_size=6,
    )
)
def test_cues_never_overlap_and_lose_no_letter(items: list[tuple[float, float, str]]) -> None:
    start_s, segments = 0.0, []
    for gap_s, length_s, text in items:
        segments.append(Segment(start_s + gap_s, start_s + gap_s + length_s, text))
        start_s += gap_s + length_s
    last_ms = 0
    for segment in segments:
        found = list(cues(segment, not_before_ms=last_ms))
        for cue in found:
            assert last_ms <= cue.start_ms < cue.end_ms
            assert 1 <= len(cue.lines) <= 2
            assert all(cue.lines) and not any("\n" in line for line in cue.lines)
            last_ms = cue.end_ms
        letters = "".join(json.loads(write("json", [segment]))["text"].split())
        assert "".join("".join("".join(cue.lines).split()) for cue in found) == letters


@given(st.lists(words, min_size=1, max_size=8))
def test_a_subrip_reader_finds_as_many_cues_as_were_written(texts: list[str]) -> None:
    segments = [Segment(index, index + 1.0, text) for index, text in enumerate(texts)]
    blocks = [block for block in write("srt", segments).split("\n\n") if block]
    for number, block in enumerate(blocks, 1):
        head, times, *lines = block.rstrip("\n").split("\n")
        assert int(head) == number
        assert re.fullmatch(r"\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}", times)
        assert 1 <= len(lines) <= 2


# -- words -------------------------------------------------------------------------------------


def spoken(text: str, *starts_s: float, end_s: float) -> Segment:
    """A segment whose words last until the next one, or for a second."""
    words = tuple(
        Word(start_s, min(start_s + 1.0, following_s), word, 0.51234)
        for word, start_s, following_s in zip(
            text.split(), starts_s, (*starts_s[1:], end_s), strict=True
        )
    )
    return Segment(starts_s[0], end_s, text, words)


def test_json_lists_words_where_there_are_any() -> None:
    document = json.loads(write("json", [spoken("Two words", 0.12345, 0.5, end_s=1.0)]))
    assert document["segments"][0]["words"] == [
        {"start_s": 0.123, "end_s": 0.5, "text": "Two", "probability": 0.512},
        {"start_s": 0.5, "end_s": 1.0, "text": "words", "probability": 0.512},
    ]


def test_subtitles_begin_and_end_with_their_words() -> None:
    text = "It was a bright cold day in April, and the clocks were striking thirteen times, oh."
    starts_s = [at * 0.4 for at in range(8)] + [7.0 + at * 0.4 for at in range(8)]
    found = list(cues(spoken(text, *starts_s, end_s=11.0)))
    times = {" ".join(cue.lines): (cue.start_ms, cue.end_ms) for cue in found}
    assert times["It was a bright cold day in April,"] == (0, 3800)
    assert times["and the clocks were striking thirteen times, oh."] == (7000, 10_800)


def test_words_that_are_not_those_of_the_text_do_not_time_it() -> None:
    other = Segment(0.0, 2.0, "One two", (Word(0.5, 0.7, "Three", 1.0),))
    (cue,) = cues(other)
    assert (cue.start_ms, cue.end_ms) == (0, 2000)


@given(
    st.lists(st.tuples(st.text("ab \u3042", max_size=30), st.floats(0, 5)), max_size=12),
    st.integers(0, 20_000),
)
def test_cues_with_words_follow_on_each_other(
    parts: list[tuple[str, float]], not_before_ms: int
) -> None:
    at_s, words = 1.0, []
    for text, length_s in parts:
        words.append(Word(at_s, at_s + length_s, text, 1.0))
        at_s += length_s
    segment = Segment(1.0, at_s, " ".join(text for text, _ in parts), tuple(words))
    last_ms = not_before_ms
    for cue in cues(segment, not_before_ms=not_before_ms):
        assert last_ms <= cue.start_ms < cue.end_ms
        last_ms = cue.end_ms


TALK = [
    SpokenTurn(BOT, (Segment(0.0, 1.5, "Hello, who is it?"),)),
    SpokenTurn(
        CALLER,
        (Segment(1.2, 2.0, "It is me.", (Word(1.3, 1.9, "me", 0.9),)), Segment(2.0, 3.0, "<Joe>.")),
        "en",
    ),
    SpokenTurn(CALLER, (Segment(5.0, 6.0, "Still me."),), "en"),
    SpokenTurn(BOT, (Segment(7.0, 8.0, " "),)),
]


def write_turns(form: str) -> str:
    writer = TranscriptWriter(form)
    parts = [writer.begin("call"), *(writer.turn(turn) for turn in TALK)]
    return "".join([*parts, writer.end(language="en", duration_s=8.0)])


def test_a_conversation_as_text_has_a_line_for_each_turn() -> None:
    assert write_turns("text") == (
        "Bot: Hello, who is it?\nCaller: It is me. <Joe>.\nCaller: Still me.\n"
    )


def test_subrip_names_a_speaker_where_that_changes_and_speakers_may_overlap() -> None:
    assert write_turns("srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nBot: Hello, who is it?\n\n"
        "2\n00:00:01,200 --> 00:00:02,000\nCaller: It is me.\n\n"
        "3\n00:00:02,000 --> 00:00:03,000\n<Joe>.\n\n"
        "4\n00:00:05,000 --> 00:00:06,000\nStill me.\n"
    )


def test_webvtt_has_a_voice_for_each_cue() -> None:
    text = write_turns("vtt")
    assert "\n00:00:00.000 --> 00:00:01.500\n<v Bot>Hello, who is it?\n" in text
    assert "\n00:00:02.000 --> 00:00:03.000\n<v Caller>&lt;Joe&gt;.\n" in text


def test_json_numbers_the_turns() -> None:
    segments = json.loads(write_turns("json"))["segments"]
    assert [(one["turn"], one["speaker"]) for one in segments] == [
        (1, "bot"),
        (2, "caller"),
        (2, "caller"),
        (3, "caller"),
    ]


def test_a_single_speaker_has_no_name() -> None:
    writer = TranscriptWriter("srt")
    turn = SpokenTurn("", (Segment(0.0, 1.0, "Alone."),))
    assert writer.turn(turn) == "1\n00:00:00,000 --> 00:00:01,000\nAlone.\n"


def test_turns_are_kept_apart_by_speaker_and_none_grows_for_ever() -> None:
    keeper = TurnKeeper()
    assert keeper.end(CALLER) is None
    keeper.add(CALLER, [Segment(0.0, 1.0, "One"), Segment(1.0, 1.5, "")], "de")
    keeper.add(BOT, [Segment(0.5, 2.0, "Two.")])
    keeper.add(CALLER, [Segment(2.0, 3.0, "three.", (Word(2.4, 2.9, "three.", 0.8),))])
    turn = keeper.end(CALLER)
    assert turn is not None
    assert (turn.text, turn.language, turn.start_s, turn.end_s) == ("One three.", "de", 0.0, 2.9)
    assert [turn.text for turn in keeper.end_all()] == ["Two."]
    turns = [keeper.add(CALLER, [Segment(at, at + 1.0, "word")]) for at in range(1200)]
    assert len([turn for turn in turns if turn]) == 2
