"""Transcription sessions in OpenAI's protocol, as the openai package and real clients have them."""

import base64
import json
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.beta.realtime import TranscriptionSessionUpdatedEvent
from openai.types.realtime import RealtimeServerEvent, RealtimeTranscriptionSessionCreateRequest
from pydantic import TypeAdapter

from talkpath.agent.errors import EngineClosed
from talkpath.agent.server.protocols.codec import (
    Audio,
    Clear,
    Close,
    Codec,
    Commit,
    Configure,
    Encoding,
    Send,
    SessionSettings,
    TurnDetection,
    VoiceActivity,
)
from talkpath.agent.server.protocols.openai_realtime import RealtimeCodec
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import Segment, Word
from tests.realtime_peer import EVENTS, SPEECHES, Peer, Speech, kinds, mutated, operations

LOGPROBS = "item.input_audio_transcription.logprobs"
SECOND = base64.b64encode(bytes(48_000)).decode()
APPEND = {"type": "input_audio_buffer.append", "audio": SECOND}
COMMIT = {"type": "input_audio_buffer.commit"}
CLEAR = {"type": "input_audio_buffer.clear"}


def check_flat(event: dict[str, Any]) -> None:
    """The older shape's event; the package wants a secret, which no socket is ever sent."""
    session = {**event["session"], "client_secret": {"value": "x", "expires_at": 0}}
    kind = "transcription_session.updated"
    TranscriptionSessionUpdatedEvent.model_validate({**event, "type": kind, "session": session})


FLAT = {
    "transcription_session.created": check_flat,
    "transcription_session.updated": check_flat,
}


def peer(**options: Any) -> Peer:
    return Peer(RealtimeCodec(**options), FLAT)


def update(**source: object) -> dict[str, Any]:
    """An event that changes these fields of the input."""
    return {
        "type": "session.update",
        "session": {"type": "transcription", "audio": {"input": source}},
    }


def flat_update(**fields: object) -> dict[str, Any]:
    return {"type": "transcription_session.update", "session": fields}


def by_hand() -> Peer:
    """A peer whose client commits."""
    other = peer()
    other.say(update(turn_detection=None))
    return other


def shown(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The input of the session that the only event shows."""
    (event,) = events
    shown = event["session"]["audio"]["input"]
    assert isinstance(shown, dict)
    return shown


def configured(other: Peer) -> SessionSettings:
    """The newest settings."""
    return [item.settings for item in other.commands if isinstance(item, Configure)][-1]


def error(events: list[dict[str, Any]]) -> dict[str, Any]:
    (event,) = events
    assert event["type"] == "error"
    error = event["error"]
    assert isinstance(error, dict)
    return error


# The session


def test_the_first_event_shows_the_session_as_it_is_without_an_update() -> None:
    other = peer(name="x")
    (created,) = other.events
    assert created["type"] == "session.created"
    assert created["session"] == {
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": "sess_x",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "noise_reduction": None,
                "transcription": {"model": "whisper-1", "language": None, "prompt": ""},
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 500,
                },
            }
        },
        "include": None,
    }
    assert isinstance(other.commands[0], Configure), "the settings hold before anybody hears"
    assert configured(other) == SessionSettings(
        sample_rate_hz=24_000,
        partials=True,
        activity=VoiceActivity(threshold=0.5, min_silence_s=0.5, pad_s=0.3),
    )


def test_sessions_have_names_of_their_own() -> None:
    assert peer().events[0]["session"]["id"] != peer().events[0]["session"]["id"]


def test_an_update_is_answered_with_the_session_that_holds_now() -> None:
    other = peer(decode=DecodeOptions(beam_size=3))
    events = other.say(
        update(
            format={"type": "audio/pcm", "rate": 24_000},
            noise_reduction={"type": "near_field", "strength": 0.5},
            transcription={
                "model": "gpt-4o-transcribe",
                "language": "de",
                "prompt": "Grüße",
                "keywords": ["Kyutai", "Silero"],
                "delay": "high",
            },
            turn_detection={"type": "server_vad", "threshold": 0.25, "silence_duration_ms": 200},
        )
    )
    assert events[0]["type"] == "session.updated"
    assert shown(events) == {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "noise_reduction": {"type": "near_field", "strength": 0.5},
        "transcription": {
            "model": "gpt-4o-transcribe",
            "language": "de",
            "prompt": "Grüße",
            "keywords": ["Kyutai", "Silero"],
            "delay": "high",
        },
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.25,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 200,
        },
    }
    assert configured(other) == SessionSettings(
        sample_rate_hz=24_000,
        decode=DecodeOptions(language="de", prompt="Grüße", hotwords="Kyutai, Silero", beam_size=3),
        partials=True,
        partial_interval_s=2.0,
        activity=VoiceActivity(threshold=0.25, min_silence_s=0.2, pad_s=0.3),
    )


def test_what_an_update_does_not_name_stays() -> None:
    other = peer()
    other.say(
        update(
            format={"type": "audio/pcmu"},
            noise_reduction={"type": "far_field"},
            transcription={"language": "de", "delay": "low"},
            turn_detection={"type": "server_vad", "threshold": 0.2},
        )
    )
    now = shown(
        other.say(
            update(
                noise_reduction={"strength": 1},
                transcription={"prompt": "names"},
                turn_detection={"silence_duration_ms": 900},
            )
        )
    )
    assert now["format"] == {"type": "audio/pcmu"}
    assert now["noise_reduction"] == {"type": "far_field", "strength": 1.0}
    assert now["transcription"]["language"] == "de"
    assert now["transcription"]["delay"] == "low"
    assert now["turn_detection"]["threshold"] == 0.2
    assert now["turn_detection"]["silence_duration_ms"] == 900
    empty: list[dict[str, Any]] = [{}, {"audio": None}, {"audio": {}}, {"audio": {"input": None}}]
    for session in empty:
        event = {"type": "session.update", "session": {"type": "transcription", **session}}
        assert shown(other.say(event)) == now


def test_null_puts_a_field_back() -> None:
    other = peer()
    first = shown(other.events)
    other.say(
        update(
            format={"type": "audio/pcma"},
            noise_reduction={"type": "far_field"},
            transcription={"model": "another", "language": "de", "keywords": ["a"]},
            turn_detection={"type": "server_vad", "threshold": 0.2},
        )
    )
    now = shown(
        other.say(
            update(
                format=None,
                noise_reduction=None,
                transcription={"model": None, "language": "", "keywords": None},
                turn_detection={"threshold": None},
            )
        )
    )
    assert now == first
    other.say(update(transcription={"prompt": "names"}))
    assert shown(other.say(update(transcription=None))) == first


@pytest.mark.parametrize(
    ("kind", "encoding", "rate_hz", "flat"),
    [
        ("audio/pcm", Encoding.PCM_S16LE, 24_000, "pcm16"),
        ("audio/pcmu", Encoding.MULAW, 8_000, "g711_ulaw"),
        ("audio/pcma", Encoding.ALAW, 8_000, "g711_alaw"),
    ],
)
def test_audio_comes_in_three_formats(
    kind: str, encoding: Encoding, rate_hz: int, flat: str
) -> None:
    for event in (update(format={"type": kind}), flat_update(input_audio_format=flat)):
        other = peer()
        other.say(event)
        assert configured(other).encoding is encoding
        assert configured(other).sample_rate_hz == rate_hz
    assert other.events[-1]["session"]["input_audio_format"] == flat


@pytest.mark.parametrize(
    ("eagerness", "wait_s", "threshold"),
    [("low", 8, 0.7), ("medium", 4, 0.5), ("high", 2, 0.3), ("auto", 4, 0.5), (None, 4, 0.5)],
)
def test_semantic_detection_waits_as_long_as_its_eagerness_says(
    eagerness: str | None, wait_s: float, threshold: float
) -> None:
    other = peer()
    wanted = {"type": "semantic_vad", "eagerness": eagerness}
    now = shown(other.say(update(turn_detection=wanted)))
    assert now["turn_detection"] == {"type": "semantic_vad", "eagerness": eagerness or "auto"}
    assert configured(other).turns is TurnDetection.SEMANTIC
    assert configured(other).activity == VoiceActivity(
        pad_s=0.3, semantic_wait_s=wait_s, semantic_threshold=threshold
    )
    again = shown(other.say(update(turn_detection={"interrupt_response": True})))
    assert again == now, "what is not given stays"


def test_another_kind_of_detection_begins_with_its_defaults() -> None:
    other = peer()
    other.say(update(turn_detection={"type": "semantic_vad", "eagerness": "low"}))
    other.say(update(turn_detection={"type": "server_vad", "create_response": False}))
    assert configured(other).activity == VoiceActivity(min_silence_s=0.5, pad_s=0.3)
    other.say(update(turn_detection={"type": "semantic_vad"}))
    assert configured(other).activity.semantic_wait_s == 4


def test_without_detection_the_client_commits() -> None:
    other = by_hand()
    assert shown(other.events[-1:])["turn_detection"] is None
    assert configured(other).turns is TurnDetection.CLIENT
    other.say(update(turn_detection={"threshold": 0.4, "idle_timeout_ms": None}))
    assert configured(other).turns is TurnDetection.SILENCE


@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "gpt-live-transcribe-2026-09-01"])
def test_models_that_commit_by_hand_in_the_original_do_so_until_asked(model: str) -> None:
    other = peer()
    assert shown(other.say(update(transcription={"model": model})))["turn_detection"] is None
    assert configured(other).turns is TurnDetection.CLIENT
    other.say(update(turn_detection={"type": "server_vad"}))
    assert configured(other).turns is TurnDetection.SILENCE


def test_several_languages_are_possible_ones() -> None:
    other = peer(decode=DecodeOptions(language="en"), languages=("de", "en", "fr"))
    assert configured(other).decode == DecodeOptions(language="en")
    now = shown(other.say(update(transcription={"languages": ["de", "fr"]})))
    assert now["transcription"]["languages"] == ["de", "fr"]
    assert configured(other).decode == DecodeOptions(languages=("de", "fr"))
    refused = error(other.say(update(transcription={"language": "en"})))
    assert refused["param"] == "session.audio.input.transcription"
    assert configured(other).decode == DecodeOptions(languages=("de", "fr")), "nothing changed"
    refused = error(other.say(flat_update(input_audio_transcription={"language": "en"})))
    assert refused["param"] == "session.input_audio_transcription"


def test_of_a_tag_whisper_knows_the_language() -> None:
    other = peer(languages=("de", "en"))
    now = shown(other.say(update(transcription={"language": "en-US"})))
    assert now["transcription"]["language"] == "en"
    other.say(update(transcription={"language": "", "languages": ["de-AT", "EN", "", "de"]}))
    assert configured(other).decode == DecodeOptions(languages=("de", "en"))


def test_what_looks_like_no_code_is_refused_without_a_list_of_them() -> None:
    refused = error(peer().say(update(transcription={"languages": ["en"], "language": "1" * 400})))
    assert refused["param"] == "session.audio.input.transcription.language"
    assert len(refused["message"]) < 100


def test_the_older_shape_is_answered_in_the_older_shape() -> None:
    other = peer(flat=True, name="x")
    assert kinds(other.events) == ["created"]
    assert other.events[0]["type"] == "transcription_session.created"
    events = other.say(
        flat_update(
            input_audio_format="g711_ulaw",
            input_audio_noise_reduction={"type": "near_field"},
            input_audio_transcription={"model": "whisper-1", "language": "en", "prompt": "hm"},
            turn_detection={"type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 200},
            include=[LOGPROBS],
            modalities=["text", "audio"],
        )
    )
    assert events[0]["type"] == "transcription_session.updated"
    assert events[0]["session"] == {
        "object": "realtime.transcription_session",
        "id": "sess_x",
        "input_audio_format": "g711_ulaw",
        "input_audio_noise_reduction": {"type": "near_field"},
        "input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": "hm"},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.6,
            "prefix_padding_ms": 200,
            "silence_duration_ms": 500,
        },
        "include": [LOGPROBS],
        "client_secret": None,
    }
    now = shown(other.say(update()))
    assert now["format"] == {"type": "audio/pcmu"}, "both shapes show one session"
    other.say(flat_update(input_audio_format=None, include=None))
    assert configured(other).encoding is Encoding.PCM_S16LE


# What is refused


@pytest.mark.parametrize(
    ("event", "param", "code"),
    [
        (update(turn_detecton=None), "session.audio.input.turn_detecton", "unknown_parameter"),
        (update(format={"type": "audio/pcm", "rate": 16_000}), "format.rate", "invalid_value"),
        (update(format={"type": "audio/pcm", "rate": "x"}), "format.rate", "invalid_type"),
        (update(format={"type": "audio/pcmu", "rate": 8_000}), "format.rate", "unknown_parameter"),
        (update(format={"rate": 24_000}), "format.type", "missing_required_parameter"),
        (update(format="pcm16"), "session.audio.input.format", "invalid_type"),
        (update(transcription={"model": 3}), "transcription.model", "invalid_type"),
        (update(transcription={"language": "klingon"}), "transcription.language", "invalid_value"),
        (update(transcription={"languages": ["xx"]}), "transcription.languages", "invalid_value"),
        (update(transcription={"languages": "de"}), "transcription.languages", "invalid_type"),
        (update(transcription={"keywords": [1]}), "transcription.keywords", "invalid_type"),
        (update(transcription={"prompt": "\ud800"}), "transcription.prompt", "invalid_type"),
        (update(transcription={"delay": "some"}), "transcription.delay", "invalid_value"),
        (update(transcription={"x" * 99: 1}), "transcription." + "x" * 60, "unknown_parameter"),
        (update(turn_detection={"threshold": 1}), "turn_detection.threshold", "invalid_value"),
        (update(turn_detection={"threshold": True}), "turn_detection.threshold", "invalid_type"),
        (update(turn_detection={"type": "x" * 99}), "turn_detection.type", "invalid_value"),
        (
            update(turn_detection={"silence_duration_ms": 10_001}),
            "turn_detection.silence_duration_ms",
            "invalid_value",
        ),
        (
            update(turn_detection={"prefix_padding_ms": 0.5}),
            "turn_detection.prefix_padding_ms",
            "invalid_type",
        ),
        (
            update(turn_detection={"eagerness": "low"}),
            "turn_detection.eagerness",
            "unknown_parameter",
        ),
        (
            update(turn_detection={"create_response": 1}),
            "turn_detection.create_response",
            "invalid_type",
        ),
        (
            update(turn_detection={"idle_timeout_ms": 6000}),
            "turn_detection.idle_timeout_ms",
            "invalid_value",
        ),
        (update(noise_reduction={"strength": 2}), "noise_reduction.strength", "invalid_value"),
        (flat_update(input_audio_format="pcm"), "session.input_audio_format", "invalid_value"),
        (flat_update(modalities=["video"]), "session.modalities", "invalid_value"),
        (flat_update(audio={}), "session.audio", "unknown_parameter"),
        (flat_update(include=["item.logprobs"]), "session.include", "invalid_value"),
        ({"type": "session.update"}, "session", "missing_required_parameter"),
        ({"type": "session.update", "session": 1}, "session", "invalid_type"),
        ({"type": "session.update", "session": {}}, "session.type", "missing_required_parameter"),
        (
            {"type": "session.update", "session": {"type": "realtime"}},
            "session.type",
            "invalid_value",
        ),
        ({"type": "response.create"}, "type", "invalid_value"),
        ({"type": 7}, "type", "invalid_type"),
        ({}, "type", "missing_required_parameter"),
        ({"type": "x", "event_id": "e" * 513}, "event_id", "invalid_value"),
        ({"type": "x", "event_id": 1}, "event_id", "invalid_type"),
        ({**COMMIT, "now": True}, "now", "unknown_parameter"),
        ({"type": "input_audio_buffer.append"}, "audio", "missing_required_parameter"),
        ({**APPEND, "audio": "a=b"}, "audio", "invalid_value"),
        ({**APPEND, "audio": "ü"}, "audio", "invalid_value"),
        ({**APPEND, "audio": 1}, "audio", "invalid_type"),
        ([], None, "invalid_type"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_changes_nothing(
    event: object, param: str | None, code: str
) -> None:
    other = peer(languages=("de", "en"))
    before = len(other.commands)
    refused = error(other.say(event))
    assert refused["type"] == "invalid_request_error"
    assert refused["code"] == code
    assert refused["param"] == param or str(refused["param"]).endswith(f".{param}")
    assert len(refused["message"]) < 300
    assert all(isinstance(command, Send) for command in other.commands[before:])
    assert shown(other.say(update())) == shown(other.events[:1])


def test_an_error_repeats_the_id_of_the_event_that_it_is_about() -> None:
    other = peer()
    assert error(other.say({"type": "nonsense", "event_id": "mine"}))["event_id"] == "mine"
    assert error(other.say({"type": "nonsense"}))["event_id"] is None


@pytest.mark.parametrize(
    "frame", ["", "hello", '{"type": NaN}', "[" * 100_000, '{"type": ' + "9" * 5000 + "}"]
)
def test_frames_that_are_not_json_are_refused(frame: str) -> None:
    other = peer()
    assert error(other.take(other.codec.text(frame)))["code"] == "invalid_json"


def test_binary_frames_are_refused() -> None:
    other = peer()
    assert error(other.take(other.codec.binary(bytes(640))))["code"] == "invalid_value"


# Audio


def test_audio_is_handed_on_as_it_came() -> None:
    other = peer()
    for data in (b"\x01", b"odd", bytes(960)):
        assert not other.say({**APPEND, "audio": base64.b64encode(data).decode()})
        assert other.commands[-1] == Audio(data)
    commands = len(other.commands)
    assert not other.say({**APPEND, "audio": ""})
    assert len(other.commands) == commands, "nothing is no audio"


def test_a_commit_is_announced_and_its_transcript_follows() -> None:
    other = by_hand()
    other.say(APPEND)
    (committed,) = other.say(COMMIT)
    assert committed["type"] == "input_audio_buffer.committed"
    assert committed["previous_item_id"] is None
    assert other.commands[-1] == Commit(), "the announcement goes first"
    delta, completed = other.final(1, "one two")
    assert delta["item_id"] == completed["item_id"] == committed["item_id"]
    assert delta["content_index"] == completed["content_index"] == 0
    assert delta["delta"] == completed["transcript"] == "one two"
    assert completed["usage"] == {"type": "duration", "seconds": 1.5}
    assert completed["languages"] == [{"code": "en"}]
    assert "logprobs" not in completed
    other.say(APPEND)
    (second,) = other.say(COMMIT)
    assert second["previous_item_id"] == committed["item_id"]


def test_a_committed_item_is_announced_as_the_conversations_too() -> None:
    other = by_hand()
    items = []
    for _ in range(2):
        other.say(APPEND)
        items.append(other.say(COMMIT)[0]["item_id"])
    assert [other.announced(item) for item in items] == [["added", "done"]] * 2
    assert other.of(".added")[1]["previous_item_id"] == items[0]
    assert other.of(".added")[1]["item"] == {
        "id": items[1],
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    other.say(flat_update())
    other.say(APPEND)
    (committed,) = other.say(COMMIT)
    assert other.announced(committed["item_id"]) == ["created"], "as the older shape has it"


def test_finals_find_their_commits_when_they_come_late() -> None:
    other = by_hand()
    items = []
    for _ in range(3):
        other.say(APPEND)
        items.append(other.say(COMMIT)[0]["item_id"])
    for number, text in enumerate(["one", "", "three"], 1):
        other.final(number, text)
    completed = other.of(".completed")
    assert [event["item_id"] for event in completed] == items
    assert [event["transcript"] for event in completed] == ["one", "", "three"]
    assert "languages" not in completed[1], "nothing was said in any"


@pytest.mark.parametrize("seconds", [0, 0.05, 0.0999])
def test_a_commit_of_next_to_nothing_is_refused(seconds: float) -> None:
    other = by_hand()
    other.say({**APPEND, "audio": base64.b64encode(bytes(round(seconds * 48_000))).decode()})
    refused = error(other.say({**COMMIT, "event_id": "c"}))
    assert refused["code"] == "input_audio_buffer_commit_empty"
    assert refused["event_id"] == "c"
    assert Commit() not in other.commands


def test_what_was_committed_or_cleared_is_not_there_to_commit() -> None:
    other = by_hand()
    other.say(APPEND)
    other.say(COMMIT)
    assert error(other.say(COMMIT))["code"] == "input_audio_buffer_commit_empty"
    other.say(APPEND)
    assert kinds(other.say(CLEAR)) == ["cleared"]
    assert Clear() in other.commands
    assert error(other.say(COMMIT))["code"] == "input_audio_buffer_commit_empty"


def test_many_small_frames_are_as_good_as_one() -> None:
    other = by_hand()
    for _ in range(10):
        other.say({**APPEND, "audio": base64.b64encode(bytes(480)).decode()})
    assert kinds(other.say(COMMIT)) == ["committed"]


def test_what_is_cleared_is_forgotten_and_what_was_committed_is_not() -> None:
    other = by_hand()
    other.say(APPEND)
    (committed,) = other.say(COMMIT)
    other.say(APPEND)
    other.say(CLEAR)
    assert other.final(1, "one")[-1]["item_id"] == committed["item_id"]
    other.say(APPEND)
    other.partial(2, "dropped")
    other.say(CLEAR)
    (delta,) = other.partial(3, "three")
    assert delta["item_id"] != other.deltas(committed["item_id"])
    assert delta["delta"] == "three"
    other.say(APPEND)
    other.say(COMMIT)
    assert other.final(3, "three four")[-1]["transcript"] == "three four"


# Voice activity


def test_speech_is_announced_committed_and_transcribed() -> None:
    other = peer()
    for _ in range(3):
        other.say(APPEND)
    (started,) = other.start(1.0)
    assert started["audio_start_ms"] == 700, "the padding counts"
    stopped, committed = other.stop(2.25)
    assert stopped["audio_end_ms"] == 2750, "the silence counts"
    (*_, completed) = other.final(1, "one")
    items = [event["item_id"] for event in (started, stopped, committed, completed)]
    assert len(set(items)) == 1
    assert kinds([stopped, committed]) == ["speech_stopped", "committed"]
    (second,) = other.start(2.6)
    assert second["item_id"] not in items
    assert other.stop(2.9)[0]["audio_end_ms"] == 3000, "no more than what came"


def test_speech_does_not_begin_before_the_audio() -> None:
    assert peer().start(0.1)[0]["audio_start_ms"] == 0


def test_speech_that_begins_twice_or_ends_without_a_beginning_is_no_event() -> None:
    other = peer()
    assert not other.stop()
    assert other.start()
    assert not other.start()
    assert other.stop()
    assert not other.stop()


def test_where_the_client_commits_voice_activity_is_no_event() -> None:
    other = by_hand()
    assert not other.start()
    assert not other.stop()
    other.partial(1, "one")
    assert not other.start()


def test_a_client_may_commit_in_the_middle_of_speech() -> None:
    other = peer()
    other.say(APPEND)
    (started,) = other.start()
    (committed,) = other.say(COMMIT)
    assert committed["item_id"] == started["item_id"]
    assert kinds(other.start(1.5)) == ["speech_started"]
    assert kinds(other.stop()) == ["speech_stopped", "committed"]
    assert kinds(other.stop()) == ["speech_stopped"], "of the first, which is announced already"
    other.final(1, "one")
    other.final(2, "two")
    assert [event["transcript"] for event in other.of(".completed")] == ["one", "two"]


def test_a_final_that_nothing_announced_is_announced() -> None:
    other = peer()
    assert kinds(other.final(1, "one")) == ["delta", "committed", "completed"]


# Deltas


def test_deltas_are_the_words_that_have_settled_and_then_the_rest() -> None:
    other = peer()
    item = other.start()[0]["item_id"]
    assert not other.partial(1, "", "one")
    assert other.partial(1, "one", "to")[0]["delta"] == "one"
    assert not other.partial(1, "one", "two three")
    assert other.partial(1, "one two", "tree")[0]["delta"] == " two"
    other.stop()
    assert other.final(1, "one two three.")[0]["delta"] == " three."
    assert "".join(other.deltas(item)) == "one two three."


def test_words_are_never_taken_back() -> None:
    other = peer()
    item = other.start()[0]["item_id"]
    other.partial(1, "one too")
    assert not other.partial(1, "one two three"), "the engine does not do that, but it might"
    other.stop()
    assert kinds(other.final(1, "One, two.")) == ["completed"]
    assert other.deltas(item) == ["one too"]
    assert other.of(".completed")[0]["transcript"] == "One, two."


def test_a_late_partial_says_nothing() -> None:
    other = peer()
    other.start()
    other.partial(1, "one")
    other.stop()
    assert not other.partial(1, "one two")
    other.final(1, "one two")
    other.start()
    assert not other.partial(1, "one two three")
    assert other.partial(2, "four")


def test_an_update_does_not_end_the_deltas_of_whoever_counts_anew() -> None:
    other = peer()
    for number in (1, 2, 3):
        other.final(number, "words")
    other.say(update(format={"type": "audio/pcmu"}))
    other.start()
    assert other.partial(1, "one")
    other.stop()
    assert other.final(1, "one two")[0]["delta"] == " two"


def test_the_words_of_the_next_item_wait_for_the_end_of_the_last_one() -> None:
    other = peer()
    other.start()
    other.partial(1, "one")
    other.stop()
    other.start()
    assert not other.partial(2, "three")
    assert other.final(1, "one two")
    assert other.partial(2, "three four")[0]["delta"] == "three four"


def test_long_speech_is_one_item() -> None:
    other = peer()
    item = other.start()[0]["item_id"]
    other.partial(1, "one")
    assert not other.partial(2, "three"), "the first piece has words to come"
    assert kinds(other.final(1, "one two.", ends=False)) == ["delta"]
    assert other.partial(2, "three")[0]["delta"] == " three"
    other.stop()
    completed = other.final(2, "three four.", language="de")[-1]
    assert completed["transcript"] == "one two. three four."
    assert completed["usage"]["seconds"] == 3.0
    assert completed["languages"] == [{"code": "en"}, {"code": "de"}]
    assert "".join(other.deltas(item)) == completed["transcript"]


def test_a_piece_that_ends_otherwise_does_not_silence_the_next_ones() -> None:
    other = peer()
    item = other.start()[0]["item_id"]
    other.partial(1, "one too")
    other.final(1, "one two", ends=False)
    other.stop()
    completed = other.final(2, "three")[-1]
    assert completed["transcript"] == "one two three"
    assert other.deltas(item) == ["one too", " three"]


# Failures and the end


def test_what_cannot_be_decoded_ends_in_failure_and_the_next_item_is_heard() -> None:
    other = peer()
    item = other.start()[0]["item_id"]
    other.stop()
    (failed,) = other.fail(1)
    assert failed["item_id"] == item
    assert failed["content_index"] == 0
    assert failed["error"] == {
        "type": "server_error",
        "code": "transcription_failed",
        "message": "the model stumbled",
        "param": None,
    }
    assert kinds(other.final(2, "two")) == ["delta", "committed", "completed"]


def test_an_error_of_the_inside_is_not_told() -> None:
    (_, failed) = peer().fail(1, ValueError("/home/secret"))
    assert "secret" not in failed["error"]["message"]


def test_a_loop_of_the_models_is_nobodys_words() -> None:
    other = peer()
    other.start()
    other.stop()
    loop = other.final(1, "and again and again", possible_hallucination=True)
    assert kinds(loop) == ["completed"]
    assert loop[0]["transcript"] == ""


def test_an_item_of_which_a_piece_fails_ends_in_failure_after_its_other_words() -> None:
    other = peer()
    item = other.start()[0]["item_id"]
    other.final(1, "one", ends=False)
    assert not other.fail(2, EngineClosed("closed"), ends=False)
    assert not other.fail(3, ends=False)
    other.stop()
    assert kinds(other.final(4, "four")) == ["delta", "failed"]
    assert other.deltas(item) == ["one", " four"]
    assert other.events[-1]["error"]["message"] == "closed", "the first one's reason"


def test_the_end_comes_with_its_reason_and_nothing_after_it() -> None:
    other = by_hand()
    other.say(APPEND)
    item = other.say(COMMIT)[0]["item_id"]
    other.partial(2, "two")
    assert other.take(other.codec.finished()) == []
    failed, last = other.take(other.codec.closing("no room: " + "é" * 100))
    assert failed["item_id"] == item
    assert failed["error"]["code"] == "session_closed"
    assert last["error"]["type"] == "server_error"
    assert last["error"]["message"] == "no room: " + "é" * 100
    close = other.commands[-1]
    assert isinstance(close, Close)
    assert close.code == 1001
    assert close.reason == "no room: " + "é" * 57, "as much as a close frame holds"
    assert not other.say(APPEND)
    assert not other.take(other.codec.binary(b""))
    assert not other.start()
    assert not other.stop()
    assert not other.partial(1, "one")
    assert not other.final(1, "one")
    assert not other.fail(1)
    assert not other.take(other.codec.closing("again"))


def test_an_item_that_is_not_committed_has_nothing_to_wait_for_at_the_end() -> None:
    other = peer()
    other.start()
    assert kinds(other.take(other.codec.closing("bye"))) == ["error"]


# The openai package


def test_the_openai_package_knows_every_event_for_what_it_is() -> None:
    """Its union of events is what its clients are given; an unknown one would be any of them."""
    other = with_logprobs()
    other.say({"type": "nonsense"})
    other.start()
    other.partial(1, "one")
    other.stop()
    other.final(1, "one two", segments=(Segment(0, 2, "", (Word(0, 1, "one", 0.5),)),))
    other.start(3.0)
    other.stop(4.0)
    other.fail(2)
    other.say(CLEAR)
    connection = AsyncRealtimeConnection(cast(Any, None))
    strict: TypeAdapter[RealtimeServerEvent] = TypeAdapter(RealtimeServerEvent)
    for event in other.events:
        expected = EVENTS[event["type"]]
        parsed = connection.parse_event(json.dumps(event))
        assert type(parsed) is type(strict.validate_python(event)) is expected
        assert not parsed.model_extra, "it has no field that the package does not know"
        session = getattr(parsed, "session", None)
        assert session is None or type(session) is RealtimeTranscriptionSessionCreateRequest
    assert {event["type"] for event in other.events} == EVENTS.keys() - {
        "conversation.item.created"
    }


# Log probabilities


def with_logprobs() -> Peer:
    other = peer()
    event = update()
    event["session"]["include"] = [LOGPROBS]
    other.say(event)
    assert other.events[-1]["session"]["include"] == [LOGPROBS]
    return other


def test_log_probabilities_are_those_of_the_words() -> None:
    other = with_logprobs()
    assert configured(other).decode.word_timestamps, "nothing else gives them"
    words = (
        Word(0, 1, "Grüße,", 0.5),
        Word(1, 2, "nowhere", 0.9),
        Word(1, 2, "two", 0.0),
        Word(2, 3, "two.", 1.1),
    )
    completed = other.final(1, "Grüße, two two.", segments=(Segment(0, 3, "", words),))[-1]
    found = completed["logprobs"]
    assert [item["token"] for item in found] == ["Grüße,", " two", " two."]
    assert b"".join(bytes(item["bytes"]) for item in found).decode() == "Grüße, two two."
    assert found[0]["logprob"] == pytest.approx(math.log(0.5))
    assert found[1]["logprob"] < -20
    assert found[2]["logprob"] == 0


def test_the_words_of_all_pieces_together_are_the_transcript() -> None:
    other = with_logprobs()
    other.start()
    words = (Word(0, 1, "one", 0.5), Word(1, 2, "nowhere", 0.5))
    other.final(1, "one two.", segments=(Segment(0, 2, "", words),), ends=False)
    other.stop()
    completed = other.final(2, "Three.", segments=(Segment(0, 1, "", (Word(0, 1, "Three", 0.5),)),))
    tokens = [item["token"] for item in completed[-1]["logprobs"]]
    assert tokens == ["one two.", " Three."]


def test_without_words_the_text_has_the_mean_log_probability() -> None:
    other = with_logprobs()
    (one,) = other.final(1, "one two", avg_logprob=-0.25)[-1]["logprobs"]
    assert one == {"token": "one two", "bytes": list(b"one two"), "logprob": -0.25}
    assert other.final(2, "")[-1]["logprobs"] == []


# Anything


VALID: list[dict[str, Any]] = [
    APPEND,
    COMMIT,
    CLEAR,
    {**COMMIT, "event_id": "mine"},
    update(
        format={"type": "audio/pcm", "rate": 24_000},
        noise_reduction={"type": "near_field"},
        transcription={
            "model": "whisper-1",
            "language": "en",
            "languages": ["en", "de"],
            "prompt": "names",
            "keywords": ["a"],
            "delay": "low",
        },
        turn_detection={"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
    ),
    update(turn_detection={"type": "semantic_vad", "eagerness": "low"}),
    update(turn_detection=None),
    {
        "type": "session.update",
        "session": {"type": "transcription", "include": [LOGPROBS], "audio": {"input": {}}},
    },
    flat_update(
        input_audio_format="g711_ulaw",
        input_audio_transcription={"model": "whisper-1", "language": "en", "prompt": ""},
        turn_detection={"type": "server_vad", "prefix_padding_ms": 100},
        input_audio_noise_reduction={"type": "far_field"},
        include=[LOGPROBS],
        modalities=["text"],
    ),
]


@given(operations(VALID), st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_comes_only_documented_events_go_out(
    operations: list[Callable[[Peer], object]], flat: bool
) -> None:
    codec: Codec = RealtimeCodec(flat=flat, languages=("en", "de"))

    def check(event: dict[str, Any]) -> None:
        transcription = event["session"]["input_audio_transcription"]
        check_flat({**event, "session": {**event["session"], "input_audio_transcription": None}})
        assert transcription["model"]

    other = Peer(codec, dict.fromkeys(FLAT, check))
    for operation in operations:
        operation(other)


@given(mutated(VALID))
@settings(max_examples=300, deadline=None)
def test_an_event_is_answered_or_taken_but_not_lost(frame: str) -> None:
    other = peer()
    before = len(other.commands)
    other.take(other.codec.text(frame))
    empty = '"audio": ""' in frame
    assert len(other.commands) > before or empty
    if other.events[-1]["type"] == "error":
        assert json.loads(json.dumps(other.events[-1]))["error"]["message"]


@given(SPEECHES, st.booleans(), st.data())
@settings(max_examples=200, deadline=None)
def test_deltas_are_the_beginning_of_their_transcript(
    speeches: list[Speech], client_commits: bool, data: st.DataObject
) -> None:
    other = by_hand() if client_commits else peer()
    waiting: list[tuple[int, str, bool]] = []
    number = 0

    def release(at_most: int) -> None:
        for _ in range(min(at_most, len(waiting))):
            utterance, text, ends = waiting.pop(0)
            other.final(utterance, text, ends=ends)

    for speech in speeches:
        other.say(APPEND)
        other.start()
        for index, (words, late) in enumerate(zip(speech.pieces, speech.lateness, strict=False)):
            number += 1
            for end in range(len(words)):
                other.partial(number, " ".join(words[:end]), "guess")
                release(data.draw(st.integers(0, 2)))
            ends = index == len(speech.pieces) - 1
            if ends and client_commits:
                other.say(COMMIT)
            elif ends:
                other.stop()
            waiting.append((number, " ".join(words), ends))
            release(late)
    release(len(waiting))
    completed = other.of(".completed")
    assert len(completed) == len(speeches)
    for event in completed:
        assert "".join(other.deltas(event["item_id"])) == event["transcript"]
