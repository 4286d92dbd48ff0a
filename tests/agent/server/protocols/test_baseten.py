"""The Baseten codec: configurations of real clients, every key, conversations, and rubbish."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from talkpath.agent.errors import DecodeFailed
from talkpath.agent.server.protocols.baseten import BasetenCodec
from talkpath.agent.server.protocols.codec import (
    Audio,
    Close,
    Codec,
    Command,
    Configure,
    Encoding,
    Finish,
    Send,
    SessionSettings,
    TurnDetection,
    VoiceActivity,
)
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import (
    Final,
    Partial,
    Segment,
    StreamFailure,
    Transcript,
    Word,
)
from tests.baseten_peer import (
    DEFAULTS,
    LIVEKIT,
    OLDER,
    SAMPLE,
    TRANSCRIPTION_KEYS,
    Watch,
)

FRAME = bytes(1024)  # 512 samples, as clients send them


def open_codec(configuration: Any = None, languages: tuple[str, ...] = ()) -> BasetenCodec:
    """A codec that has its configuration."""
    codec = BasetenCodec(languages)
    (command,) = codec.text(json.dumps(SAMPLE if configuration is None else configuration))
    assert isinstance(command, Configure)
    return codec


def session(configuration: Any, languages: tuple[str, ...] = ()) -> SessionSettings:
    (command,) = BasetenCodec(languages).text(json.dumps(configuration))
    assert isinstance(command, Configure), command
    return command.settings


def decode(**whisper_params: Any) -> DecodeOptions:
    return session({"whisper_params": whisper_params}).decode


def refusal(configuration: Any, languages: tuple[str, ...] = ()) -> str:
    """What a refused configuration is answered with, and that nothing follows."""
    codec = BasetenCodec(languages)
    error, close = codec.text(json.dumps(configuration))
    assert isinstance(close, Close)
    assert close.code == 1008
    text = message_of(error)["message"]
    assert isinstance(text, str)
    assert text.startswith(close.reason)
    assert codec.text("{}") == codec.binary(FRAME) == codec.closing("late") == []
    return text


def message_of(command: Command) -> dict[str, Any]:
    assert isinstance(command, Send)
    message = json.loads(command.text)
    assert isinstance(message, dict)
    return message


def messages(commands: list[Command]) -> list[dict[str, Any]]:
    return [message_of(command) for command in commands]


def only(commands: list[Command]) -> dict[str, Any]:
    (command,) = commands
    return message_of(command)


def partial(text: str = "hello", utterance: int = 1, duration_s: float = 0.5) -> Partial:
    return Partial(utterance, text, "", "en", duration_s)


def final(text: str = "Hello there.", utterance: int = 1, **values: Any) -> Final:
    segments = (Segment(0.3, 1.1, text),) if text else ()
    transcript = {"text": text, "segments": segments, "duration_s": 1.4, "avg_logprob": -0.25}
    return Final(utterance, Transcript(**{**transcript, **values}))


def set_path(configuration: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one key, given by its dotted path, set."""
    changed = copy.deepcopy(configuration)
    *sections, name = path.split(".")
    target = changed
    for section in sections:
        target = target.setdefault(section, {})
    target[name] = value
    return changed


# Configurations


def test_it_is_a_codec_and_lets_the_client_speak_first() -> None:
    codec: Codec = BasetenCodec()
    assert codec.opened() == []


def test_the_sample_clients_configuration_is_taken() -> None:
    assert session(SAMPLE) == SessionSettings(
        decode=DecodeOptions(language="en"),
        partials=True,
        activity=VoiceActivity(threshold=0.5, min_silence_s=0.3, pad_s=0.03),
    )


def test_a_telephone_clients_configuration_with_detection_is_taken() -> None:
    assert session(LIVEKIT) == SessionSettings(
        encoding=Encoding.MULAW,
        sample_rate_hz=8000,
        decode=DecodeOptions(languages=("en", "de"), word_timestamps=True),
        partials=True,
        partial_interval_s=1.0,
        activity=VoiceActivity(threshold=0.4, min_silence_s=0.2, pad_s=0.03),
    )


def test_the_older_names_mean_the_same() -> None:
    assert session(OLDER) == SessionSettings(
        decode=DecodeOptions(language="en", word_timestamps=True),
        activity=VoiceActivity(threshold=0.6, min_silence_s=0.5, pad_s=0.01),
    )


def test_an_empty_configuration_means_the_documented_defaults() -> None:
    assert session({}) == session(DEFAULTS)
    assert session({}) == SessionSettings(decode=DecodeOptions(language="en"))
    assert session({}).turns is TurnDetection.SILENCE


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("whisper_params.prompt", None),
        ("whisper_params.prefix", None),
        ("whisper_params.output_language", None),
        ("whisper_params.output_language", "en"),
        ("whisper_params.enable_diarization", False),
        ("whisper_params.enable_chunk_level_language_detection", None),
        ("whisper_params.diarization_granularity", "word"),
        ("whisper_params.missing_chunk_wpm_threshold", 80.0),
        ("whisper_params.whisper_sampling_params.length_penalty", 1),
        ("whisper_params.whisper_sampling_params.repetition_penalty", 1.0),
        ("whisper_params.whisper_sampling_params.no_repeat_ngram_size", 0),
        ("whisper_params.whisper_sampling_params.beam_search_diversity_rate", 0),
        ("whisper_params.whisper_sampling_params.max_new_tokens", 448),
        ("streaming_params.prioritize_latency", False),
        ("streaming_params.sample_rate", 16000.0),
        ("streaming_params.final_transcript_max_duration_s", 28.5),
        ("streaming_whisper_params.whisper_sampling_params.beam_width", 1),
        ("include_timing_info", True),
    ],
)
def test_other_ways_to_ask_for_nothing_change_nothing(path: str, value: Any) -> None:
    assert session(set_path({}, path, value)) == session({})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("prompt", "Ruth and Boaz", DecodeOptions(language="en", prompt="Ruth and Boaz")),
        ("audio_language", "de", DecodeOptions(language="de")),
        ("audio_language", "pt-BR", DecodeOptions(language="pt")),
        ("audio_language", "auto", DecodeOptions()),
        (
            "language_options",
            ["en", "DE", "en"],
            DecodeOptions(language="en", languages=("en", "de")),
        ),
        ("show_word_timestamps", True, DecodeOptions(language="en", word_timestamps=True)),
        ("whisper_sampling_params", {"beam_width": 5}, DecodeOptions(language="en", beam_size=5)),
        (
            "whisper_sampling_params",
            {"sampling_temperatures": [0, 0.5]},
            DecodeOptions(language="en", temperatures=(0.0, 0.5)),
        ),
    ],
)
def test_what_concerns_the_decoding_gets_there(
    path: str, value: Any, expected: DecodeOptions
) -> None:
    assert decode(**{path: value}) == expected


@pytest.mark.parametrize(
    ("spoken", "written", "task"),
    [
        ("de", "de", "transcribe"),
        ("de", "de-AT", "transcribe"),
        ("de", "auto", "transcribe"),
        ("de", "", "transcribe"),
        ("de", "en", "translate"),
        ("auto", "en", "translate"),
        ("auto", "auto", "transcribe"),
        ("en", "en", "transcribe"),
    ],
)
def test_another_output_language_than_the_spoken_one_is_english_or_nothing(
    spoken: str, written: str, task: str
) -> None:
    assert decode(audio_language=spoken, output_language=written).task == task


def test_shorter_finals_may_be_asked_for_but_not_longer_ones_than_the_engine_has() -> None:
    def longest(seconds: float, language: str = "en") -> float:
        return session(
            {
                "whisper_params": {"audio_language": language},
                "streaming_params": {"final_transcript_max_duration_s": seconds},
            }
        ).longest_utterance_s

    assert longest(12) == 12.0
    assert longest(30) == 28.0
    assert longest(30, "hi") < 15  # one answer has no room for more of it


def test_the_clients_name_for_the_stream_is_kept() -> None:
    assert session({"stream_id": "call 7"}).stream_id == "call 7"


REFUSALS = [
    # Unknown keys
    ("whisper_parms", {}, "there is no key 'whisper_parms' in the configuration"),
    ("", {}, "there is no key '' in the configuration"),
    ("whisper_params.langauge", "en", "there is no key 'langauge' in whisper_params"),
    ("streaming_vad_config.treshold", 0.5, "there is no key 'treshold' in streaming_vad_config"),
    (
        "whisper_params.whisper_sampling_params.beams",
        2,
        "there is no key 'beams' in whisper_params.whisper_sampling_params",
    ),
    ("type", "config", "there is no key 'type' in the configuration"),
    # What cannot be done
    ("whisper_params.prefix", "So", "whisper_params.prefix is 'So'; this server cannot"),
    ("whisper_params.show_beam_results", True, "must be false"),
    ("whisper_params.enable_vad", False, "must be true"),
    ("whisper_params.enable_diarization", True, "must be false or null"),
    ("whisper_params.enable_diarization", 0, "must be false or null"),
    ("whisper_params.enable_final_diarization", True, "must be false"),
    ("whisper_params.enable_word_level_diarization", True, "must be false"),
    ("whisper_params.enable_sentence_level_diarization", True, "must be false"),
    ("whisper_params.use_dynamic_preprocessing", True, "must be false"),
    ("whisper_params.use_missing_chunk_retry", True, "must be false"),
    ("streaming_params.skip_partial_if_hallucination", False, "must be true"),
    ("streaming_diarization_config", {"tau": 1}, "cannot tell speakers apart"),
    ("diarization_config", None, "cannot tell speakers apart"),
    ("whisper_params.whisper_sampling_params.length_penalty", 0.5, "must be 2.0 or 1.0"),
    ("whisper_params.whisper_sampling_params.repetition_penalty", 1.2, "must be 1.01 or 1.0"),
    ("whisper_params.whisper_sampling_params.no_repeat_ngram_size", 3, "must be null or 0"),
    ("whisper_params.whisper_sampling_params.beam_search_diversity_rate", 0.4, "null or 0.0"),
    ("whisper_params.whisper_sampling_params.max_new_tokens", 100, "400 or more"),
    ("whisper_params.output_language", "de", "output_language is 'de'; speech is written in"),
    # Wrong types
    ("whisper_params", None, "whisper_params is null; it must be an object"),
    ("whisper_params.whisper_sampling_params", [], "is a list; it must be an object"),
    ("whisper_params.prompt", 5, "whisper_params.prompt is 5; it must be text"),
    ("whisper_params.prompt", "\ud800", "whisper_params.prompt is '?'; it must be text"),
    ("whisper_params.audio_language", None, "is null; it must be a language code or 'auto'"),
    ("whisper_params.language_options", "de", "must be a list of language codes"),
    ("whisper_params.language_options", ["de", 1], "must be a list of language codes"),
    ("whisper_params.show_word_timestamps", 1, "is 1; it must be true or false"),
    ("whisper_params.enable_chunk_level_language_detection", 0, "must be true or false"),
    ("whisper_params.show_word_timestamps", {}, "is an object; it must be true or false"),
    ("streaming_params.enable_partial_transcripts", "true", "must be true or false"),
    ("streaming_params.partial_transcript_interval_s", "1", "is '1'; it must be a number"),
    ("streaming_params.partial_transcript_interval_s", True, "is true; it must be a number"),
    ("whisper_params.whisper_sampling_params.beam_width", 1.5, "a whole number, 1 to 10"),
    ("whisper_params.whisper_sampling_params.beam_width", True, "a whole number, 1 to 10"),
    ("include_timing_info", None, "include_timing_info is null; it must be true or false"),
    ("stream_id", 7, "stream_id is 7; it must be text"),
    # Wrong values
    ("whisper_params.audio_language", "english", "audio_language is 'english'; the model does"),
    ("whisper_params.audio_language", "", "audio_language is ''; the model does not know"),
    ("whisper_params.language_options", ["en", "auto"], "language_options is 'auto'; the model"),
    ("whisper_params.language_options", ["de", "fr"], "'en' is not among de, fr"),
    ("whisper_params.whisper_sampling_params.beam_width", 11, "a whole number, 1 to 10"),
    ("whisper_params.whisper_sampling_params.sampling_temperatures", [], "1 to 10 temperatures"),
    ("whisper_params.whisper_sampling_params.sampling_temperatures", 0.2, "a list of 1 to 10"),
    (
        "whisper_params.whisper_sampling_params.sampling_temperatures",
        [0.0, 1.5],
        "every temperature must lie between 0 and 1",
    ),
    ("whisper_params.diarization_granularity", "letter", "'word' or 'segment' or 'sentence'"),
    ("streaming_params.encoding", "opus", "must be 'pcm_s16le' or 'pcm_mulaw'"),
    ("streaming_params.sample_rate", 44101, "streaming_params.sample_rate is 44101; it must be"),
    ("streaming_params.partial_transcript_interval_s", 0, "between 0.1 and 30 seconds"),
    ("streaming_params.final_transcript_max_duration_s", 31, "between 1 and 30 seconds"),
    ("streaming_vad_config.threshold", 0, "must lie above 0 and below 1"),
    ("streaming_vad_config.threshold", 1.0, "must lie above 0 and below 1"),
    ("streaming_vad_config.threshold", -0.1, "must lie between 0 and 1"),
    ("streaming_vad_config.min_silence_duration_ms", -1, "between 0 and 10000 milliseconds"),
    ("streaming_vad_config.speech_pad_ms", 10**400, "between 0 and 2000 milliseconds"),
    ("stream_id", "a\nb", "at most 200 printable characters"),
    ("stream_id", "x" * 201, "at most 200 printable characters"),
    ("whisper_params.show_beam_results", "x" * 1000, "x..."),
]


@pytest.mark.parametrize(("path", "value", "reason"), REFUSALS)
def test_what_cannot_be_honoured_is_refused_by_name(path: str, value: Any, reason: str) -> None:
    text = refusal(set_path(SAMPLE, path, value))
    assert reason in text
    assert path.split(".")[-1] in text
    assert len(text) < 250


def test_a_number_that_json_makes_infinite_is_refused() -> None:
    codec = BasetenCodec()
    error, _ = codec.text('{"streaming_vad_config": {"speech_pad_ms": 1e999}}')
    assert "speech_pad_ms is inf; it must lie between" in message_of(error)["message"]


def test_a_key_under_its_older_name_too_is_refused() -> None:
    text = refusal({**SAMPLE, "vad_params": {"threshold": 0.4}})
    assert text == "vad_params.threshold is given twice, under an older name too"


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    configuration = {"whisper_params": {"audio_language": "de"}}
    assert "audio_language is 'de'" in refusal(configuration, ("en",))
    assert session(configuration, ("en", "de")).decode.language == "de"


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("{", "not JSON"),
        ('{"stream_id": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("[]", "this one is a list"),
        ('"config"', "this one is 'config'"),
        ("null", "this one is null"),
    ],
)
def test_what_can_be_no_configuration_ends_the_connection(frame: str, what: str) -> None:
    error, close = BasetenCodec().text(frame)
    assert what in message_of(error)["message"]
    assert isinstance(close, Close)
    assert close.code == 1003
    assert what in close.reason


def test_audio_before_the_configuration_ends_the_connection() -> None:
    codec = BasetenCodec()
    error, close = codec.binary(FRAME)
    assert "the first frame must be the configuration" in message_of(error)["message"]
    assert isinstance(close, Close)
    assert close.code == 1003
    assert codec.text(json.dumps(SAMPLE)) == []


def test_a_reason_is_cut_at_a_character_of_at_most_123_bytes() -> None:
    codec = open_codec()
    _, close = codec.closing("é" * 100)
    assert close == Close(1001, "é" * 61)


# Audio and its end


def test_audio_goes_through_in_frames_of_any_size() -> None:
    codec = open_codec()
    assert codec.binary(FRAME) == [Audio(FRAME)]
    assert codec.binary(b"\x01") == [Audio(b"\x01")]
    assert codec.binary(b"") == []


def test_speech_has_no_messages_of_its_own() -> None:
    codec = open_codec()
    assert codec.speech_started(0.5) == codec.speech_stopped(1.5) == []


def test_the_end_is_acknowledged_at_once_and_finished_after_the_last_final() -> None:
    codec = open_codec()
    codec.binary(FRAME)
    acknowledged, finish = codec.text('{"type": "end_audio", "trace_id": "t1"}')
    assert message_of(acknowledged) == {
        "type": "end_audio",
        "trace_id": "t1",
        "body": {"status": "acknowledged"},
    }
    assert finish == Finish()
    assert only(codec.final(final(), 0.0, 0.1))["is_final"]
    assert only(codec.finished()) == {
        "type": "end_audio",
        "trace_id": "t1",
        "body": {"status": "finished"},
    }
    assert codec.finished() == []


def test_an_end_without_a_trace_id_has_none() -> None:
    acknowledged, _ = open_codec().text('{"type": "end_audio"}')
    assert message_of(acknowledged)["trace_id"] is None


def test_audio_after_its_end_is_dropped_and_the_client_told_once() -> None:
    codec = open_codec()
    codec.text('{"type": "end_audio"}')
    assert "audio came after end_audio" in only(codec.binary(FRAME))["message"]
    assert codec.binary(FRAME) == []
    assert len(codec.finished()) == 1
    assert codec.binary(FRAME) == []
    assert only(codec.text('{"type": "health_check"}'))["body"] == {"healthy": True}


def test_a_second_end_is_an_error_and_changes_nothing() -> None:
    codec = open_codec()
    codec.text('{"type": "end_audio", "trace_id": "first"}')
    again = only(codec.text('{"type": "end_audio", "trace_id": "second"}'))
    assert again["message"] == "end_audio came already"
    assert again["trace_id"] == "second"
    assert only(codec.finished())["trace_id"] == "first"
    assert only(codec.text('{"type": "end_audio"}'))["message"] == "end_audio came already"


def test_terminating_brings_out_what_is_due_and_closes() -> None:
    codec = open_codec()
    assert codec.text('{"terminate_session": true}') == [Finish()]
    assert only(codec.final(final(), 0.0, 0.1))["is_final"]
    assert codec.finished() == [Close(1000, "the session was terminated")]
    assert codec.text('{"type": "health_check"}') == []


def test_terminating_while_the_audio_ends_closes_after_the_end() -> None:
    codec = open_codec()
    codec.text('{"type": "end_audio"}')
    assert codec.text('{"terminate_session": true}') == []
    finished, close = codec.finished()
    assert message_of(finished)["body"] == {"status": "finished"}
    assert close == Close(1000, "the session was terminated")


def test_an_end_while_terminating_is_answered_too() -> None:
    codec = open_codec()
    codec.text('{"terminate_session": true}')
    assert only(codec.text('{"type": "end_audio"}'))["body"] == {"status": "acknowledged"}
    assert len(codec.finished()) == 2


@pytest.mark.parametrize("configured", [True, False])
def test_terminating_with_nothing_due_closes_at_once(configured: bool) -> None:
    codec = open_codec() if configured else BasetenCodec()
    if configured:
        codec.text('{"type": "end_audio"}')
        codec.finished()
    assert codec.text('{"terminate_session": true}') == [Close(1000, "the session was terminated")]


def test_the_end_before_the_configuration_ends_the_connection() -> None:
    error, close = BasetenCodec().text('{"type": "end_audio", "trace_id": "t"}')
    assert message_of(error)["message"] == "end_audio came before the configuration"
    assert message_of(error)["trace_id"] == "t"
    assert isinstance(close, Close)
    assert close.code == 1008


# Other messages


def test_a_health_check_is_answered_with_its_trace_id() -> None:
    expected = {"type": "health_check", "trace_id": "é", "body": {"healthy": True}}
    frame = '{"type": "health_check", "trace_id": "é", "timestamp": 1.5, "body": {}}'
    assert only(open_codec().text(frame)) == expected
    assert only(BasetenCodec().text(frame)) == expected


def test_half_a_character_in_a_trace_id_comes_back_as_a_question_mark() -> None:
    (answer,) = open_codec().text('{"type": "health_check", "trace_id": "\\ud800"}')
    assert message_of(answer)["trace_id"] == "?"
    assert isinstance(answer, Send)
    assert answer.text.encode("utf-8")


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        ("rubbish", "this one is not JSON"),
        ("[1]", "this one is a list"),
        ("{}", "the message's type is null; it must be 'end_audio' or 'health_check'"),
        ('{"type": "end"}', "the message's type is 'end'; it must be"),
        ('{"type": ["end_audio"]}', "the message's type is a list; it must be"),
        ('{"type": "health_check", "trace_id": 5}', "trace_id is 5; it must be text"),
        ('{"terminate_session": false}', "terminate_session is false; it must be true"),
        (json.dumps(SAMPLE), "the configuration came already"),
        ('{"vad_params": {}}', "the configuration came already"),
    ],
)
def test_a_mistake_is_named_and_the_connection_stays(frame: str, what: str) -> None:
    codec = open_codec()
    error = only(codec.text(frame))
    assert what in error["message"]
    assert error == {
        "type": "error",
        "trace_id": None,
        "body": {"error": error["message"]},
        "message": error["message"],
    }
    assert codec.binary(FRAME) == [Audio(FRAME)]


def test_the_hundredth_mistake_ends_the_connection() -> None:
    codec = open_codec()
    for _ in range(99):
        assert len(codec.text("rubbish")) == 1
    error, close = codec.text("rubbish")
    assert "not JSON" in message_of(error)["message"]
    assert close == Close(1008, "too many errors")
    assert codec.text("rubbish") == []


def test_the_server_says_why_it_ends_the_connection() -> None:
    for codec in (open_codec(), BasetenCodec()):
        error, close = codec.closing("the server stops")
        assert message_of(error)["body"] == {"error": "the server stops"}
        assert close == Close(1001, "the server stops")
        assert codec.closing("once more") == []


# Transcriptions


def test_partials_and_their_final_share_a_number_and_have_the_documented_keys() -> None:
    codec = open_codec()
    first = only(codec.partial(partial("hello", duration_s=0.8), 3.0))
    last = only(codec.final(final("Hello there."), 3.0, 0.2))
    assert set(first) == set(last) == TRANSCRIPTION_KEYS
    assert first["transcription_num"] == last["transcription_num"] == 1
    assert first == {
        **last,
        "is_final": False,
        "audio_length_sec": 0.8,
        "segments": [
            {
                **last["segments"][0],
                "start_time": 3.0,
                "end_time": 3.8,
                "text": "hello",
                "log_prob": None,
            }
        ],
    }
    assert last == {
        "type": "transcription",
        "is_final": True,
        "transcription_num": 1,
        "segments": [
            {
                "start_time": 3.3,
                "end_time": 4.1,
                "text": "Hello there.",
                "log_prob": -0.25,
                "word_timestamps": [],
                "speaker": None,
                "speaker_confidence": None,
                "possible_hallucination": False,
                "beam_results": None,
                "language_code": "en",
                "language_prob": 1.0,
            }
        ],
        "language_code": "en",
        "language_prob": 1.0,
        "diarization": [],
        "timing_info": None,
        "enable_chunk_level_language_detection": False,
        "audio_length_sec": 1.4,
        "next_partial": None,
        "pipeline_latency": None,
    }


def test_words_have_their_times_in_the_stream() -> None:
    codec = open_codec(LIVEKIT)
    words = (Word(0.3, 0.6, "Hello", 0.9), Word(0.6, 1.1, "there.", 0.8))
    segments = (Segment(0.3, 1.1, "Hello there.", words), Segment(1.1, 1.1, ""))
    message = only(codec.final(final(segments=segments), 10.0, 0.2))
    (segment,) = message["segments"]
    assert segment["word_timestamps"] == [
        {"start_time": 10.3, "end_time": 10.6, "word": "Hello", "prob": 0.9, "speaker": None},
        {"start_time": 10.6, "end_time": 11.1, "word": "there.", "prob": 0.8, "speaker": None},
    ]


def test_text_without_segments_is_one_segment() -> None:
    message = only(open_codec().final(final(segments=()), 2.0, 0.2))
    (segment,) = message["segments"]
    assert (segment["text"], segment["start_time"], segment["end_time"]) == (
        "Hello there.",
        2.0,
        3.4,
    )


def test_an_empty_final_comes_without_segments_and_takes_the_partials_back() -> None:
    codec = open_codec()
    codec.partial(partial("um"), 1.0)
    message = only(codec.final(final(""), 1.0, 0.2))
    assert message["is_final"] is True
    assert message["segments"] == []
    assert message["transcription_num"] == 1


def test_what_may_be_made_up_is_marked() -> None:
    codec = open_codec()
    message = only(codec.final(final("you you you", possible_hallucination=True), 0.0, 0.1))
    assert message["segments"][0]["possible_hallucination"] is True


def test_the_latency_is_said_when_asked_for() -> None:
    asked = {"streaming_params": {"include_pipeline_latency_metric": True}}
    codec = open_codec(set_path(SAMPLE, "streaming_params.include_pipeline_latency_metric", True))
    assert only(codec.partial(partial(), 0.0))["pipeline_latency"] is None
    assert only(codec.final(final(), 0.0, 0.123456))["pipeline_latency"] == 0.1235
    assert only(open_codec(asked).final(final(), 0.0, 0.2))["pipeline_latency"] == 0.2


def test_the_cost_is_said_when_asked_for() -> None:
    codec = open_codec({"include_timing_info": True})
    timing = only(codec.final(final(cost_s=0.25), 2.0, 0.1))["timing_info"]
    assert {key: value for key, value in timing.items() if value is not None} == {
        "transcription_duration_s": 0.25,
        "audio_start_s": 2.0,
        "audio_end_s": 3.4,
        "ends_speech": True,
        "speculative": False,
    }


def test_whoever_asks_for_timing_is_told_what_ends_the_speech_and_what_failed() -> None:
    codec = open_codec({"include_timing_info": True})
    silence = Final(1, Transcript(text="", duration_s=0.8))
    cut = Final(2, Transcript(text=""), ends_speech=False, speculative=True)
    assert only(codec.final(silence, 1.0, 0.1))["timing_info"]["audio_end_s"] == 1.8
    timing = only(codec.final(cut, 2.0, 0.1))["timing_info"]
    assert (timing["ends_speech"], timing["speculative"]) == (False, True)
    error = only(codec.failed(StreamFailure(3, DecodeFailed("it stumbled"), ends_speech=False)))
    assert (error["body"]["transcription_num"], error["body"]["ends_speech"]) == (3, False)
    (failed,) = messages(open_codec().failed(StreamFailure(1, DecodeFailed("it stumbled"))))
    assert set(failed["body"]) == {"error"}


def test_whoever_asks_for_timing_is_told_when_nothing_more_is_to_come() -> None:
    codec = open_codec({"include_timing_info": True})

    def quiet() -> object:
        return only(codec.text('{"type": "health_check"}'))["body"]["quiet"]

    assert quiet() is True
    codec.speech_started(1.0)
    assert quiet() is False
    codec.final(Final(1, Transcript(text="A piece"), ends_speech=False), 1.0, 0.1)
    codec.speech_stopped(3.0)
    assert quiet() is False
    codec.speech_started(3.5)
    codec.final(final(utterance=2), 2.0, 0.1)
    assert quiet() is False
    codec.speech_stopped(4.0)
    codec.failed(StreamFailure(3, DecodeFailed("it stumbled")))
    assert quiet() is True


def test_partials_come_only_when_asked_for() -> None:
    assert open_codec({}).partial(partial(), 0.0) == []


def test_a_partial_that_says_nothing_is_not_sent() -> None:
    assert open_codec().partial(partial(""), 0.0) == []


def test_the_language_of_a_partial_is_sure_only_where_it_was_given() -> None:
    codec = open_codec(LIVEKIT)
    message = only(codec.partial(partial(), 0.0))
    assert message["language_code"] == "en"
    assert message["language_prob"] is None
    message = only(codec.final(final(language="de", language_probability=0.75), 0.0, 0.1))
    assert (message["language_code"], message["language_prob"]) == ("de", 0.75)
    assert message["segments"][0]["language_code"] == "de"


def test_detection_only_says_the_language_and_no_words() -> None:
    configuration = set_path(SAMPLE, "whisper_params.language_detection_only", True)
    wanted = session(configuration)
    assert wanted.decode.language is None
    assert not wanted.partials
    codec = open_codec(configuration)
    assert codec.partial(partial(), 0.0) == []
    message = only(codec.final(final(language="fr", language_probability=0.9), 0.0, 0.1))
    assert message["segments"] == []
    assert (message["language_code"], message["language_prob"]) == ("fr", 0.9)


def test_detection_by_utterance_is_repeated_in_the_messages() -> None:
    codec = open_codec({"whisper_params": {"enable_chunk_level_language_detection": True}})
    assert only(codec.final(final(), 0.0, 0.1))["enable_chunk_level_language_detection"] is True


def test_older_clients_find_the_text_in_the_transcript() -> None:
    segments = (Segment(0.0, 1.0, "Hello"), Segment(1.0, 1.4, "there."))
    message = only(open_codec(OLDER).final(final(segments=segments), 0.0, 0.1))
    assert message["transcript"] == "Hello there."
    assert set(message) == TRANSCRIPTION_KEYS | {"transcript"}


def test_what_is_no_number_goes_out_as_null() -> None:
    odd = final(avg_logprob=math.nan, language_probability=math.inf, duration_s=-math.inf)
    (command,) = open_codec().final(odd, 0.0, 0.1)
    message = message_of(command)
    assert message["segments"][0]["log_prob"] is None
    assert message["language_prob"] is None
    assert message["audio_length_sec"] is None


def test_messages_are_compact_and_in_the_letters_of_the_language() -> None:
    (command,) = open_codec().final(final("日本語"), 0.0, 0.1)
    assert isinstance(command, Send)
    assert "日本語" in command.text
    assert '": ' not in command.text
    assert ', "' not in command.text


def test_a_partial_waits_for_the_final_of_the_utterance_before() -> None:
    codec = open_codec()
    codec.partial(partial("one", 1), 0.0)
    assert codec.partial(partial("t", 2), 2.0) == []
    assert codec.partial(partial("two", 2), 2.0) == []
    first, second = messages(codec.final(final("One.", 1), 0.0, 0.3))
    assert (first["transcription_num"], first["is_final"]) == (1, True)
    assert (second["transcription_num"], second["is_final"]) == (2, False)
    assert second["segments"][0]["text"] == "two"
    assert only(codec.partial(partial("two words", 2), 2.0))["transcription_num"] == 2


def test_nothing_comes_of_an_utterance_after_its_final() -> None:
    codec = open_codec()
    codec.final(final(utterance=1), 0.0, 0.1)
    assert codec.partial(partial("late", 1), 0.0) == []
    assert codec.final(final("again", 1), 0.0, 0.1) == []
    assert codec.failed(StreamFailure(1, RuntimeError("late"))) == []
    assert only(codec.final(final(utterance=2), 2.0, 0.1))["transcription_num"] == 2


def test_an_utterance_that_never_came_holds_nobody_up_after_the_next_final() -> None:
    codec = open_codec()
    assert only(codec.final(final(utterance=3), 9.0, 0.1))["transcription_num"] == 3
    assert codec.final(final(utterance=2), 5.0, 0.1) == []
    assert only(codec.partial(partial("four", 4), 12.0))["transcription_num"] == 4


def test_a_failed_utterance_is_an_error_and_the_next_one_goes_on() -> None:
    codec = open_codec()
    codec.partial(partial("two", 2), 2.0)
    error, held = messages(codec.failed(StreamFailure(1, DecodeFailed("the model stumbled"))))
    assert error["body"]["error"] == ("utterance 1 could not be transcribed: the model stumbled")
    assert held["transcription_num"] == 2
    assert only(codec.final(final(utterance=2), 2.0, 0.1))["is_final"]


def test_the_words_of_an_unexpected_error_stay_in_the_server() -> None:
    error = only(open_codec().failed(StreamFailure(1, RuntimeError("/home/alice/model.bin"))))
    assert error["message"] == "utterance 1 could not be transcribed: an internal error"


def test_no_result_goes_out_before_the_configuration_or_after_the_end() -> None:
    ended = open_codec()
    ended.text('{"type": "end_audio"}')
    ended.finished()
    for codec in (BasetenCodec(), ended):
        assert codec.partial(partial(), 0.0) == []
        assert codec.final(final(), 0.0, 0.1) == []
        assert codec.failed(StreamFailure(1, RuntimeError("lost"))) == []
        assert codec.finished() == []


# Rubbish

numbers = st.floats() | st.integers(-3, 40).map(float)
texts = st.sampled_from(["", "hello", "日本", "\ud83d", 'a "quoted" one'])
utterances = st.integers(-1, 5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PATHS = [
    *(path for path, _, _ in REFUSALS if path),
    *(f"{section}.{key}" for section in ("whisper_params", "streaming_params") for key in "ab"),
    "trace_id",
    "terminate_session",
    "vad_params.threshold",
    "streaming_whisper_params.audio_language",
]
near: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 1, 2, 0.5, 300, 16000, "", "en", "auto", "de-DE", "\ud800", [], {}]
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Valid ones, with a few keys changed."""
    configuration: dict[str, Any] = draw(st.sampled_from([SAMPLE, LIVEKIT, OLDER, DEFAULTS, {}]))
    changes = draw(st.lists(st.tuples(st.sampled_from(PATHS), near | values), max_size=4))
    for path, value in changes:
        try:
            configuration = set_path(configuration, path, value)
        except (AttributeError, TypeError):
            continue  # an earlier change put something else where a section was
    return configuration


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[str]) -> str:
    """Text with a piece cut out and another one put in."""
    frame = draw(frames)
    start = draw(st.integers(0, len(frame)))
    end = draw(st.integers(start, len(frame)))
    return frame[:start] + draw(st.sampled_from(["", "{", '"', "NaN", "\x00"])) + frame[end:]


valid = configurations().map(json.dumps)
frames = st.one_of(
    valid,
    damaged(valid),
    st.text(max_size=20),
    values.map(json.dumps),
    st.sampled_from(
        [
            '{"type": "end_audio"}',
            '{"type": "end_audio", "trace_id": "t"}',
            '{"type": "health_check"}',
            '{"type": "error"}',
            '{"terminate_session": true}',
        ]
    ),
    st.builds(
        lambda kind, value: json.dumps({"type": kind, "trace_id": value}),
        st.sampled_from(["end_audio", "health_check"]) | values,
        values,
    ),
)
words = st.builds(Word, numbers, numbers, texts, numbers)
segments = st.builds(Segment, numbers, numbers, texts, st.lists(words, max_size=2).map(tuple))
transcripts = st.builds(
    Transcript,
    text=texts,
    segments=st.lists(segments, max_size=2).map(tuple),
    duration_s=numbers,
    avg_logprob=numbers,
    language_probability=numbers,
    possible_hallucination=st.booleans(),
    cost_s=numbers,
)
partials = st.builds(Partial, utterances, texts, texts, st.sampled_from(["en", "de"]), numbers)
failures = st.builds(
    StreamFailure,
    utterances,
    st.sampled_from([RuntimeError("no memory"), DecodeFailed("the model stumbled")]),
)
Step = Callable[[BasetenCodec], list[Command]]
from_client: st.SearchStrategy[Step] = st.one_of(
    frames.map(lambda frame: lambda codec: codec.text(frame)),
    st.binary(max_size=9).map(lambda frame: lambda codec: codec.binary(frame)),
)
from_stream: st.SearchStrategy[Step] = st.one_of(
    numbers.map(lambda at_s: lambda codec: codec.speech_started(at_s)),
    numbers.map(lambda at_s: lambda codec: codec.speech_stopped(at_s)),
    st.builds(lambda value, at_s: lambda codec: codec.partial(value, at_s), partials, numbers),
    st.builds(
        lambda value, number, at_s: lambda codec: codec.final(Final(number, value), at_s, at_s),
        transcripts,
        utterances,
        numbers,
    ),
    failures.map(lambda failure: lambda codec: codec.failed(failure)),
    st.just(lambda codec: codec.finished()),
)
closing: st.SearchStrategy[Step] = st.just(lambda codec: codec.closing("the server stops"))


@given(st.lists(from_client | from_stream | from_client | from_stream | closing, max_size=30))
@settings(deadline=None, max_examples=200)
def test_nothing_that_comes_in_any_order_raises_or_breaks_the_protocol(steps: list[Step]) -> None:
    codec, watch = BasetenCodec(), Watch()
    for step in steps:
        watch(step(codec))


@given(
    st.sampled_from([SAMPLE, LIVEKIT, OLDER, DEFAULTS]),
    st.lists(from_client | from_stream, max_size=30),
)
@settings(deadline=None, max_examples=200)
def test_neither_does_it_once_there_is_a_configuration(
    configuration: dict[str, Any], steps: list[Step]
) -> None:
    codec, watch = BasetenCodec(), Watch()
    watch(codec.text(json.dumps(configuration)))
    for step in steps:
        watch(step(codec))


@given(configurations())
@example(SAMPLE)
@settings(deadline=None, max_examples=300)
def test_a_changed_configuration_is_taken_within_limits_or_refused(
    configuration: dict[str, Any],
) -> None:
    commands = BasetenCodec().text(json.dumps(configuration))
    Watch()(commands)
    match commands:
        case [Configure(wanted)]:
            assert 0 < wanted.activity.threshold < 1
            assert 0 <= wanted.activity.min_silence_s <= 10
            assert 0 <= wanted.activity.pad_s <= 2
            assert 0.1 <= wanted.partial_interval_s <= 30
            assert 1 <= wanted.longest_utterance_s <= 28
            assert 8_000 <= wanted.sample_rate_hz <= 48_000
            assert wanted.encoding in (Encoding.PCM_S16LE, Encoding.MULAW)
            assert wanted.decode.prompt.encode("utf-8") is not None
        case [Send(), Close()] | [Close()]:
            pass
        case _:
            raise AssertionError(commands)
