"""Sessions in Together's dialect, as its own guide and Pipecat's client have them."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.errors import ConfigError
from talkpath.agent.server.protocols.codec import (
    Audio,
    Close,
    Commit,
    Configure,
    SessionSettings,
    TurnDetection,
    VoiceActivity,
)
from talkpath.agent.server.protocols.together import TogetherCodec, TogetherVad
from talkpath.agent.whisper.requests import DecodeOptions
from tests.realtime_peer import SPEECHES, Peer, Speech, kinds, operations

SECOND = base64.b64encode(bytes(32_000)).decode()
APPEND = {"type": "input_audio_buffer.append", "audio": SECOND}
COMMIT = {"type": "input_audio_buffer.commit"}
CLEAR = {"type": "input_audio_buffer.clear"}
DEFAULTS = {
    "type": "server_vad",
    "threshold": 0.3,
    "min_silence_duration_ms": 500,
    "min_speech_duration_ms": 250,
    "max_speech_duration_s": 5.0,
    "speech_pad_ms": 250,
}


def check_created(event: dict[str, Any]) -> None:
    assert event["session"].keys() == {"id", "object", "modalities", "model"}
    assert event["session"]["object"] == "realtime.session"
    assert event["session"]["modalities"] == ["audio"]


def check_updated(event: dict[str, Any]) -> None:
    assert event["session"].keys() == {"turn_detection"}
    assert (event["session"]["turn_detection"] or DEFAULTS).keys() == DEFAULTS.keys()


SESSIONS = {"session.created": check_created, "transcription_session.updated": check_updated}


def peer(**query: str) -> Peer:
    return Peer(TogetherCodec.from_query(query), SESSIONS)


def update(turns: object) -> dict[str, Any]:
    return {"type": "transcription_session.updated", "session": {"turn_detection": turns}}


def configured(other: Peer) -> SessionSettings:
    """The newest settings."""
    return [item.settings for item in other.commands if isinstance(item, Configure)][-1]


def error(events: list[dict[str, Any]]) -> dict[str, Any]:
    (event,) = events
    assert event["type"] == "error"
    error = event["error"]
    assert isinstance(error, dict)
    return error


# The query


def test_without_a_query_the_defaults_hold() -> None:
    other = Peer(TogetherCodec(name="x"), SESSIONS)
    assert other.events[0]["session"]["id"] == "sess_x"
    assert other.events[0]["session"]["model"] == "openai/whisper-large-v3"
    assert configured(other) == SessionSettings(
        sample_rate_hz=16_000,
        partials=True,
        longest_utterance_s=5.0,
        activity=VoiceActivity(threshold=0.3, min_speech_s=0.25, min_silence_s=0.5, pad_s=0.25),
    )
    assert configured(peer()) == configured(other)
    assert isinstance(other.commands[0], Configure), "the settings hold before anybody hears"


def test_the_query_of_pipecats_client_leaves_it_to_the_client_to_commit() -> None:
    other = peer(
        intent="transcription",
        model="openai/whisper-small",
        turn_detection="none",
        input_audio_format="pcm_s16le_16000",
    )
    assert other.events[0]["session"]["model"] == "openai/whisper-small"
    assert configured(other) == SessionSettings(partials=True, turns=TurnDetection.CLIENT)


def test_the_query_sets_the_voice_activity_detection() -> None:
    other = peer(
        turn_detection="server_vad",
        threshold="0.6",
        min_silence_duration_ms="700",
        min_speech_duration_ms="100",
        max_speech_duration_s="12",
        speech_pad_ms="30",
    )
    assert configured(other) == SessionSettings(
        partials=True,
        longest_utterance_s=12,
        activity=VoiceActivity(threshold=0.6, min_speech_s=0.1, min_silence_s=0.7, pad_s=0.03),
    )
    assert configured(peer(turn_detection="none", threshold="0.6")).turns is TurnDetection.CLIENT


def test_the_query_may_say_the_language() -> None:
    usual = DecodeOptions(language="en", beam_size=2)

    def decode(**query: str) -> DecodeOptions:
        codec = TogetherCodec.from_query(query, decode=usual, languages=("de", "en"))
        return configured(Peer(codec, SESSIONS)).decode

    assert decode() == usual
    assert decode(language="de") == DecodeOptions(language="de", beam_size=2)
    assert decode(language="de_AT") == DecodeOptions(language="de", beam_size=2)
    assert decode(language="auto") == DecodeOptions(beam_size=2)
    assert configured(peer(language="any")).decode.language == "any", "the engine refuses it"
    with pytest.raises(ConfigError, match="language"):
        decode(language="klingon")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("treshold", "0.3"),
        ("intent", "conversation"),
        ("input_audio_format", "pcm_s16le_8000"),
        ("input_audio_format", ""),
        ("turn_detection", "semantic_vad"),
        ("model", "\ud800"),
        ("threshold", "high"),
        ("threshold", ""),
        ("threshold", "null"),
        ("threshold", "true"),
        ("threshold", "NaN"),
        ("threshold", "0"),
        ("threshold", "1.5"),
        ("threshold", "[" * 100_000),
        ("min_silence_duration_ms", "0.5"),
        ("min_speech_duration_ms", "-1"),
        ("speech_pad_ms", "1e3"),
        ("max_speech_duration_s", "0"),
        ("max_speech_duration_s", "Infinity"),
    ],
)
def test_a_wrong_query_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as refusal:
        TogetherCodec.from_query({name: value})
    assert len(str(refusal.value)) < 200


# The session


def test_the_client_sets_the_detection_and_is_told_what_holds() -> None:
    other = peer()
    assert other.say(update({}))[0]["session"] == {"turn_detection": DEFAULTS}
    wanted = {"type": "server_vad", "threshold": 0.7, "max_speech_duration_s": 60}
    (event,) = other.say(update(wanted))
    assert event["type"] == "transcription_session.updated"
    effective = {**DEFAULTS, "threshold": 0.7, "max_speech_duration_s": 28.0}
    assert event["session"] == {"turn_detection": effective}
    assert configured(other).longest_utterance_s == 28.0
    assert configured(other).activity.threshold == 0.7
    event = {"type": "transcription_session.updated", "session": {}}
    assert other.say(event)[0]["session"] == {"turn_detection": effective}
    assert other.say(update(None))[0]["session"] == {"turn_detection": None}
    assert configured(other).turns is TurnDetection.CLIENT
    assert other.say(update({"speech_pad_ms": 0}))[0]["session"] == {
        "turn_detection": {**DEFAULTS, "speech_pad_ms": 0}
    }, "of what is not named the defaults hold"


@pytest.mark.parametrize(
    ("event", "param"),
    [
        (update({"type": "semantic_vad"}), "session.turn_detection.type"),
        (update({"silence_duration_ms": 1}), "session.turn_detection.silence_duration_ms"),
        (update({"threshold": "0.3"}), "session.turn_detection.threshold"),
        (update([]), "session.turn_detection"),
        ({"type": "transcription_session.updated", "session": {"model": "x"}}, "session.model"),
        ({"type": "transcription_session.updated"}, "session"),
        ({**update(None), "more": 1}, "more"),
        ({"type": "session.update"}, "type"),
        ({**APPEND, "audio": "?"}, "audio"),
        ({**COMMIT, "audio": ""}, "audio"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_changes_nothing(
    event: dict[str, Any], param: str
) -> None:
    other = peer()
    before = configured(other)
    refused = error(other.say({**event, "event_id": "mine"}))
    assert refused["param"] == param
    assert refused["event_id"] == "mine"
    assert configured(other) is before


def test_binary_frames_are_refused() -> None:
    other = peer()
    assert error(other.take(other.codec.binary(bytes(640))))["code"] == "invalid_value"


# What was said


def test_the_client_commits_and_has_its_transcript() -> None:
    other = peer(turn_detection="none")
    assert not other.start()
    other.say(APPEND)
    assert other.commands[-1] == Audio(bytes(32_000))
    (delta,) = other.partial(1, "one", "to")
    assert delta["transcript"] == delta["delta"] == "one to"
    (committed,) = other.say(COMMIT)
    assert Commit() in other.commands
    (completed,) = other.final(1, "one two")
    assert completed["transcript"] == "one two"
    assert completed["item_id"] == committed["item_id"] == delta["item_id"]
    assert kinds(other.say(CLEAR)) == ["cleared"]


def test_each_delta_replaces_the_one_before_it() -> None:
    other = peer()
    other.start()
    other.partial(1, "", "one too")
    assert not other.partial(1, "one", "too"), "it would say the same again"
    assert not other.partial(1, "", ""), "there is nothing to say instead"
    other.partial(1, "one", "two tree")
    item = other.stop()[0]["item_id"]
    assert kinds(other.final(1, "One, two, three.")) == ["completed"]
    assert other.deltas(item) == ["one too", "one two tree"]


def test_what_the_client_commits_is_one_item_however_long_it_is() -> None:
    other = peer(turn_detection="none")
    other.say(APPEND)
    other.partial(1, "one", "to")
    assert not other.final(1, "one two", ends=False)
    assert other.partial(2, "", "tree")[0]["transcript"] == "one two tree"
    other.say(COMMIT)
    assert other.final(2, "three")[0]["transcript"] == "one two three"


def test_pieces_of_long_speech_are_items() -> None:
    other = peer()
    first = other.start()[0]["item_id"]
    events = other.final(1, "one", ends=False)
    assert kinds(events) == ["committed", "completed"]
    assert events[-1]["item_id"] == first
    second = other.partial(2, "", "two")[0]["item_id"]
    assert second != first
    stopped, committed = other.stop()
    assert stopped["item_id"] == committed["item_id"] == second
    assert committed["previous_item_id"] == first
    assert other.final(2, "two")[0]["item_id"] == second


def test_pieces_that_come_after_the_stop_are_items_before_the_next_speech() -> None:
    other = peer()
    first = other.start(1.0)[0]["item_id"]
    other.stop(9.0)
    third = other.start(10.0)[0]["item_id"]
    completed, committed = other.final(1, "one", ends=False)
    assert completed["item_id"] == first
    assert committed["type"] == "input_audio_buffer.committed"
    assert other.final(2, "two")[0]["item_id"] == committed["item_id"]
    other.stop(11.0)
    assert other.final(3, "three")[0]["item_id"] == third


def test_a_piece_that_fails_is_an_item_that_fails() -> None:
    other = peer()
    other.start()
    assert kinds(other.fail(1, ends=False)) == ["committed", "failed"]
    other.stop()
    assert other.final(2, "two")[0]["transcript"] == "two"


def test_the_end_comes_with_its_reason_and_nothing_after_it() -> None:
    other = peer()
    assert other.take(other.codec.finished()) == []
    (last,) = other.take(other.codec.closing("idle for 60 s"))
    assert last["error"]["message"] == "idle for 60 s"
    assert other.commands[-1] == Close(1001, "idle for 60 s")
    assert not other.say(APPEND)


# Anything


VALID: list[dict[str, Any]] = [APPEND, COMMIT, CLEAR, update(None), update(DEFAULTS)]


@given(operations(VALID), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_comes_only_documented_events_go_out(
    operations: list[Callable[[Peer], object]], client_commits: bool
) -> None:
    vad = None if client_commits else TogetherVad()
    other = Peer(TogetherCodec(vad=vad), SESSIONS)
    for operation in operations:
        operation(other)
    for delta in other.of(".delta"):
        assert delta["delta"] == delta["transcript"] != ""


@given(st.dictionaries(st.sampled_from(["threshold", "model", "language"]) | st.text(), st.text()))
@settings(max_examples=200, deadline=None)
def test_a_query_is_taken_or_refused(query: dict[str, str]) -> None:
    try:
        codec = TogetherCodec.from_query(query)
    except ConfigError:
        return
    Peer(codec, SESSIONS)


@given(SPEECHES, st.booleans(), st.data())
@settings(max_examples=200, deadline=None)
def test_every_utterance_is_transcribed_once_and_in_order(
    speeches: list[Speech], client_commits: bool, data: st.DataObject
) -> None:
    other = peer(turn_detection="none" if client_commits else "server_vad")
    waiting: list[tuple[int, str, bool]] = []
    number = 0
    said: list[str] = []

    def release(at_most: int) -> None:
        for _ in range(min(at_most, len(waiting))):
            utterance, text, ends = waiting.pop(0)
            other.final(utterance, text, ends=ends)

    for speech in speeches:
        other.say(APPEND)
        other.start()
        for index, (words, late) in enumerate(zip(speech.pieces, speech.lateness, strict=False)):
            number += 1
            said += words
            for end in range(len(words)):
                other.partial(number, " ".join(words[:end]), "guess")
                release(data.draw(st.integers(0, 2)))
            ends = index == len(speech.pieces) - 1
            if ends:
                other.say(COMMIT) if client_commits else other.stop()
            waiting.append((number, " ".join(words), ends))
            release(late)
    release(len(waiting))
    transcripts = [event["transcript"] for event in other.of(".completed")]
    assert len(transcripts) == (len(speeches) if client_commits else number)
    assert "".join(transcripts).replace(" ", "") == "".join(said)
