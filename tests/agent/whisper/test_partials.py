"""Partials of real speech, each answered before the next block of audio comes."""

from talkpath.agent.audio import FloatArray
from talkpath.agent.speech import (
    WINDOW_SAMPLES,
    EarlyPause,
    SpeechResumed,
    SpeechStarted,
    SpeechStopped,
    SpeechTracker,
)
from talkpath.agent.whisper.agreement import Flicker
from talkpath.agent.whisper.requests import DecodeOptions
from talkpath.agent.whisper.results import Final, Partial, StreamResult
from talkpath.agent.whisper.stream import Decode, Stream, StreamOptions
from talkpath.agent.whisper.transcriber import Transcriber
from tests.agent.whisper.helpers import backend, vad
from tests.speech import clip, join, word_error_rate


def listen(audio: FloatArray, options: StreamOptions) -> list[StreamResult]:
    """What a stream gives of audio, with a real model that takes no time."""
    stream, tracker = Stream(options), SpeechTracker(vad())
    transcriber = Transcriber(backend("tiny.en"))
    for at in range(0, len(audio), WINDOW_SAMPLES):
        block = audio[at : at + WINDOW_SAMPLES]
        stream.feed(block)
        for event in tracker.process(block):
            match event:
                case SpeechStarted(ago_s):
                    stream.speech_started(ago_s)
                case EarlyPause():
                    stream.early_pause()
                case SpeechResumed():
                    stream.speech_resumed()
                case SpeechStopped(silence_s):
                    stream.speech_stopped(silence_s)
        while jobs := [action for action in stream.actions() if isinstance(action, Decode)]:
            for job in jobs:
                stream.transcript(job.ticket, transcriber.settle([job.request])[0])
    return stream.results()


CLIPS = ["librivox-0870", "librivox-0890", "librivox-0920", "cards-005"]


def test_no_stable_word_is_ever_taken_back() -> None:
    options = StreamOptions(decode=DecodeOptions(language="en"), partial_interval_s=0.3)
    results = listen(join(CLIPS), options)
    partials = [result for result in results if isinstance(result, Partial)]
    finals = [result for result in results if isinstance(result, Final)]
    flicker = Flicker()
    for partial in partials:
        flicker.update(partial.utterance, partial.stable, partial.rest)
    assert len(partials) > 40
    assert any(partial.stable for partial in partials)
    assert flicker.retracted == 0
    assert flicker.rate < 0.2
    words = " ".join(clip(name).text for name in CLIPS)
    said = " ".join(final.transcript.text for final in finals)
    assert word_error_rate([words], [said]) < 0.2
