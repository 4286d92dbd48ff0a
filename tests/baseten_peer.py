"""A peer of the Baseten codec: what its clients send, and what must be true of what they get."""

import json
import re
from typing import Any

from talkpath.agent.server.protocols.codec import Audio, Close, Command, Configure, Finish, Send

# What the service's own sample client sends.
SAMPLE: dict[str, Any] = {
    "streaming_vad_config": {
        "threshold": 0.5,
        "min_silence_duration_ms": 300,
        "speech_pad_ms": 30,
    },
    "streaming_params": {
        "encoding": "pcm_s16le",
        "sample_rate": 16000,
        "enable_partial_transcripts": True,
    },
    "whisper_params": {"audio_language": "en"},
}

# LiveKit's plugin for Python, with detection among the agent's languages.
LIVEKIT: dict[str, Any] = {
    "whisper_params": {
        "audio_language": "auto",
        "show_word_timestamps": True,
        "language_options": ["en", "de"],
    },
    "streaming_params": {
        "encoding": "pcm_mulaw",
        "sample_rate": 8000,
        "enable_partial_transcripts": True,
        "partial_transcript_interval_s": 1.0,
        "final_transcript_max_duration_s": 30,
    },
    "streaming_vad_config": {
        "threshold": 0.4,
        "min_silence_duration_ms": 200,
        "speech_pad_ms": 30,
    },
}

# LiveKit's plugin for JavaScript: the older names.
OLDER: dict[str, Any] = {
    "vad_params": {"threshold": 0.6, "min_silence_duration_ms": 500, "speech_pad_ms": 10},
    "streaming_whisper_params": {
        "encoding": "pcm_s16le",
        "sample_rate": 16000,
        "enable_partial_transcripts": False,
        "audio_language": "en",
        "show_word_timestamps": True,
    },
}

# Every key there is, at the value that the service documents as its default or that changes
# nothing.
DEFAULTS: dict[str, Any] = {
    "whisper_params": {
        "prompt": "",
        "prefix": "",
        "audio_language": "en",
        "output_language": "auto",
        "language_options": [],
        "language_detection_only": False,
        "enable_chunk_level_language_detection": False,
        "show_word_timestamps": False,
        "show_beam_results": False,
        "enable_vad": True,
        "use_dynamic_preprocessing": False,
        "use_missing_chunk_retry": False,
        "missing_chunk_wpm_threshold": 100,
        "enable_diarization": None,
        "diarization_granularity": "sentence",
        "enable_word_level_diarization": False,
        "enable_sentence_level_diarization": False,
        "enable_final_diarization": False,
        "whisper_sampling_params": {
            "beam_width": 1,
            "length_penalty": 2.0,
            "repetition_penalty": 1.01,
            "beam_search_diversity_rate": None,
            "no_repeat_ngram_size": None,
            "sampling_temperatures": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            "max_new_tokens": 400,
        },
    },
    "streaming_params": {
        "encoding": "pcm_s16le",
        "sample_rate": 16000,
        "enable_partial_transcripts": False,
        "partial_transcript_interval_s": 0.5,
        "final_transcript_max_duration_s": 30,
        "prioritize_latency": True,
        "skip_partial_if_hallucination": True,
        "include_pipeline_latency_metric": False,
    },
    "streaming_vad_config": {
        "threshold": 0.5,
        "min_silence_duration_ms": 300,
        "speech_pad_ms": 0,
    },
    "streaming_diarization_config": {},
    "diarization_config": {},
    "stream_id": None,
    "include_timing_info": False,
}

TRANSCRIPTION_KEYS = {
    "type",
    "is_final",
    "transcription_num",
    "segments",
    "language_code",
    "language_prob",
    "diarization",
    "timing_info",
    "enable_chunk_level_language_detection",
    "audio_length_sec",
    "next_partial",
    "pipeline_latency",
}
SEGMENT_KEYS = {
    "start_time",
    "end_time",
    "text",
    "log_prob",
    "word_timestamps",
    "speaker",
    "speaker_confidence",
    "possible_hallucination",
    "beam_results",
    "language_code",
    "language_prob",
}

# Every error that there is; the parts in the middle are what the client sent.
ERRORS = re.compile(
    r"a text frame must be an object in JSON; this one is .+"
    r"|the first frame must be the configuration, as text; this one is binary"
    r"|there is no key .+ in [a-z_.]+( configuration)?"
    r"|[a-z_.]+ is .+; it must be (an object|text|a number|true or false|true|a list of .+|'.+)"
    r"|[a-z_.]+ is .+; it must (be a whole number, .+|be a language code or 'auto'|lie .+)"
    r"|[a-z_.]+ is .+; it must be (at most 200 printable characters|\d+ or .+)"
    r"|[a-z_.]+ is .+; this server cannot .+, so it must be .+"
    r"|[a-z_.]+ is .+; every temperature must lie between 0 and 1"
    r"|[a-z_.]+ is given twice, under an older name too"
    r"|[a-z_]+ is .+; the model does not know that language"
    r"|output_language is .+; speech is written in its own language .+"
    r"|audio_language and language_options contradict: .+"
    r"|the configuration came already and holds for this connection; open another one"
    r"|the message's type is .+; it must be 'end_audio' or 'health_check'"
    r"|end_audio came (before the configuration|already)"
    r"|audio came after end_audio and is dropped; open another connection"
    r"|utterance -?\d+ could not be transcribed: .+"
    r"|the server stops|no room: é+"
)


CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    SAMPLE,
    LIVEKIT,
    OLDER,
    DEFAULTS,
    {},
    {**SAMPLE, "include_timing_info": True},
)
TIMING_KEYS = {
    "read_audio_duration_s",
    "chunking_duration_s",
    "language_detection_duration_s",
    "transcription_duration_s",
    "diarization_duration_s",
    "speaker_assignment_duration_s",
    "total_duration_s",
    "audio_start_s",
    "audio_end_s",
    "ends_speech",
    "speculative",
}
OF_UTTERANCE = {"transcription_num", "ends_speech"}
WORD_KEYS = {"start_time", "end_time", "word", "prob", "speaker"}
LONGEST_ERROR = 400  # letters


class Watch:
    """What must be true of all that a codec ever commands.

    Attributes:
        messages: all that was sent.
        finals: the numbers of the final ones.
    """

    def __init__(self) -> None:
        self.configured = self.finishing = self.closed = False
        self.number = -1
        self.messages: list[dict[str, Any]] = []
        self.finals: list[int] = []

    def __call__(self, commands: list[Command]) -> None:
        for command in commands:
            assert not self.closed, "nothing follows a Close"
            match command:
                case Configure():
                    assert not self.configured
                    self.configured = True
                case Audio(data):
                    assert data
                    assert self.configured and not self.finishing
                case Finish():
                    assert self.configured and not self.finishing
                    self.finishing = True
                case Send(text):
                    self.message(text)
                case Close(code, reason):
                    assert code in (1000, 1001, 1003, 1008, 1012, 1013)
                    assert 0 < len(reason.encode("utf-8")) <= 123
                    self.closed = True
                case _:
                    raise AssertionError(f"the protocol has no use for {command}")

    def message(self, text: str) -> None:
        assert text.encode("utf-8")
        message = json.loads(text, parse_constant=refuse_constant)
        self.messages.append(message)
        match message["type"]:
            case "error":
                assert set(message) == {"type", "trace_id", "body", "message"}
                assert message["body"]["error"] == message["message"]
                assert set(message["body"]) in ({"error"}, {"error", *OF_UTTERANCE})
                assert ERRORS.fullmatch(message["message"]), message["message"]
                assert len(message["message"]) < LONGEST_ERROR
            case "health_check":
                assert set(message) == {"type", "trace_id", "body"}
                assert set(message["body"]) in ({"healthy"}, {"healthy", "quiet"})
            case "end_audio":
                assert set(message) == {"type", "trace_id", "body"}
                assert message["body"]["status"] in ("acknowledged", "finished")
            case "transcription":
                assert self.configured
                self.transcription(message)
            case other:
                raise AssertionError(f"there is no message {other!r}")

    def transcription(self, message: dict[str, Any]) -> None:
        assert set(message) - {"transcript"} == TRANSCRIPTION_KEYS
        assert set(message["timing_info"] or TIMING_KEYS) == TIMING_KEYS
        for segment in message["segments"]:
            assert set(segment) == SEGMENT_KEYS
            assert all(set(word) == WORD_KEYS for word in segment["word_timestamps"])
        assert message["transcription_num"] >= self.number
        assert message["transcription_num"] not in self.finals
        self.number = message["transcription_num"]
        if message["is_final"]:
            self.finals.append(self.number)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")
