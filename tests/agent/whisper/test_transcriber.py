"""Transcriber: every option takes effect, and what went wrong is decoded again, apart."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import AudioError, ConfigError
from talkpath.agent.models import ModelStore
from talkpath.agent.whisper.backend import Decoded, Item, TimedText
from talkpath.agent.whisper.ctranslate import CTranslate2Backend
from talkpath.agent.whisper.requests import Again, DecodeOptions, Priority, Request
from talkpath.agent.whisper.results import Transcript
from talkpath.agent.whisper.transcriber import Transcriber
from talkpath.agent.whisper.windows import WindowPolicy
from tests.agent.whisper.helpers import Wrapper, backend
from tests.speech import clip, silence, word_error_rate

SENTENCE = "librivox-0880"


def request(audio: FloatArray, priority: Priority = Priority.FINAL, **options: Any) -> Request:
    return Request(audio, priority, DecodeOptions(**options))


def settle(model: str, audio: FloatArray, **options: Any) -> Transcript:
    return Transcriber(backend(model)).settle([request(audio, **options)])[0]


class Answering(Wrapper):
    """Gives these texts and log probabilities instead of what the model heard, in turn."""

    def __init__(self, answers: Sequence[tuple[str, float]]) -> None:
        super().__init__(backend("tiny.en"))
        self._answers = list(answers)
        self.asked: list[tuple[int, float]] = []
        self._bucket = 0
        self._tokens: tuple[int, ...] = ()

    def encode(self, audio: Sequence[FloatArray], bucket: int, padding: str = "silence") -> Any:
        self._bucket = bucket
        return super().encode(audio, bucket, padding)

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        self.asked.append((self._bucket, options["temperature"]))
        text, logprob = self._answers.pop(0)
        segments = (TimedText(0.0, 1.0, text),) if text else ()
        tokens = self._tokens or self._real.tokenize(text)
        return [Decoded(segments, logprob, 0.0, tokens) for _ in items]

    def give(self, text: str, tokens: tuple[int, ...]) -> None:
        """Answer this next."""
        self._answers.append((text, -0.1))
        self._tokens = tokens


LOOP = "and so on " * 6
UNSURE = "I am not at all sure that anybody has ever said this."


def attempts(
    answers: Sequence[tuple[str, float]], first: Request
) -> tuple[Transcript, list[Request], list[tuple[int, float]]]:
    """Decode until there is a transcript; gives the requests and windows on the way, too."""
    model = Answering(answers)
    transcriber = Transcriber(model)
    made = [transcriber.prepare(first)]
    while True:
        (outcome,) = transcriber.transcribe(made[-1:])
        if isinstance(outcome, Transcript):
            return outcome, made, model.asked
        made.append(outcome.request)


# -- attempts ----------------------------------------------------------------------------------


def test_what_passes_at_first_is_decoded_once() -> None:
    audio = clip(SENTENCE).samples()
    transcript, made, asked = attempts([("All is well.", -0.3)], request(audio))
    assert (transcript.text, transcript.temperature) == ("All is well.", 0.0)
    assert not transcript.longer_window
    assert len(made) == len(asked) == 1


@pytest.mark.parametrize("wrong", [(UNSURE, -1.2), (LOOP, -0.1), ("so " * 99, -0.2)])
def test_what_looks_wrong_is_tried_in_a_longer_window_and_then_at_temperatures(
    wrong: tuple[str, float],
) -> None:
    audio = clip(SENTENCE).samples()
    transcript, made, asked = attempts([wrong, wrong, wrong, ("Fine.", -0.5)], request(audio))
    assert asked == [(768, 0.0), (1536, 0.0), (1536, 0.2), (1536, 0.4)]
    assert (transcript.text, transcript.temperature) == ("Fine.", 0.4)
    assert transcript.longer_window
    assert not transcript.possible_hallucination
    assert [item.priority for item in made] == [Priority.FINAL] + [Priority.AGAIN] * 3


def test_the_best_attempt_counts_where_none_passes() -> None:
    answers = [(f"{UNSURE} One.", -1.5), (f"{UNSURE} Two.", -1.1), (f"{UNSURE} Three.", -1.3)]
    audio = clip(SENTENCE).samples()
    transcript, made, _ = attempts(answers, request(audio, temperatures=(0.0, 0.5)))
    assert (transcript.text, transcript.temperature) == (f"{UNSURE} Two.", 0.0)
    assert not transcript.possible_hallucination
    assert [item.best.text[-4:] for item in made if item.best] == ["One.", "Two."]


def test_a_loop_is_worse_than_any_doubt_and_says_so_where_there_is_nothing_else() -> None:
    audio = clip(SENTENCE).samples()
    first = request(audio, temperatures=(0.0,))
    transcript, _, _ = attempts([(LOOP, -0.1), ("Two.", -1.9)], first)
    assert transcript.text == "Two."
    transcript, _, _ = attempts([(LOOP, -0.2), (LOOP, -0.1)], first)
    assert transcript.text.startswith("and so on and so on")
    assert transcript.possible_hallucination


def test_words_that_nobody_can_have_said_are_dropped() -> None:
    audio = clip(SENTENCE).samples()[:8000]
    text = "Thank you for watching, and see you in the next video."
    transcript, _, asked = attempts([(text, -0.1)] * 2, request(audio, temperatures=(0.0,)))
    assert (transcript.text, transcript.segments) == ("", ())
    assert transcript.possible_hallucination
    assert len(asked) == 2


def test_a_word_or_two_that_it_is_unsure_of_are_taken() -> None:
    transcript, made, _ = attempts([("Nine.", -1.3)], request(clip(SENTENCE).samples()))
    assert transcript.text == "Nine."
    assert len(made) == 1


@pytest.mark.parametrize("astray", ["", "He was young he said.", "All is well, all is well."])
def test_a_context_that_misleads_is_left_out_in_the_same_window(astray: str) -> None:
    audio = clip(SENTENCE).samples()
    first = dataclasses.replace(request(audio), context="<|0.00|> he was young<|1.00|>")
    transcript, made, asked = attempts([(astray, -0.3), ("All is well.", -0.3)], first)
    assert transcript.text == "All is well."
    assert len(made) == 1
    assert [window for window, _ in asked] == [768, 768]


class Misleading(Wrapper):
    """Hears nothing in the second item of a batch while that has a context."""

    def generate(
        self, encoded: Any, items: Sequence[Item], *, max_tokens: int, **options: Any
    ) -> list[Decoded]:
        answers = super().generate(encoded, items, max_tokens=max_tokens, **options)
        if items[1].context:
            answers[1] = Decoded((), -0.1, 0.0)
        return answers


@pytest.mark.parametrize("beam_size", [1, 2])
@pytest.mark.parametrize("drafting", [True, False])
def test_a_misled_item_of_a_batch_is_put_right_and_the_others_stay(
    beam_size: int, drafting: bool
) -> None:
    folder = ModelStore().pull("tiny.en")
    real = (
        backend("tiny.en")
        if drafting
        else CTranslate2Backend(folder, device="cpu", workers=1, drafting=False)
    )
    names = (SENTENCE, "librivox-0930")
    requests = [
        replace(
            request(clip(name).samples(), beam_size=beam_size), context="<|0.00|> He said<|1.00|>"
        )
        for name in names
    ]
    together = Transcriber(Misleading(real)).settle(requests)
    assert word_error_rate([clip(name).text for name in names], [it.text for it in together]) < 0.3


def test_what_lacks_its_end_is_better_than_a_loop() -> None:
    audio = clip(SENTENCE).samples()
    model = Answering([])
    first = replace(request(audio, temperatures=(0.0,)), context="<|0.00|> he was young<|1.00|>")
    model.give("All is well.", tokens=(1,) * 444)
    (outcome,) = Transcriber(model).transcribe([first])
    assert isinstance(outcome, Again)
    model.give(LOOP, tokens=(1,) * 60)
    (transcript,) = Transcriber(model).settle([outcome.request])
    assert transcript.text == "All is well."
    assert not transcript.possible_hallucination


def test_a_partial_is_decoded_once_whatever_it_says() -> None:
    audio = clip(SENTENCE).samples()
    transcript, _, asked = attempts([(LOOP, -1.5)], request(audio, Priority.PARTIAL))
    assert transcript.possible_hallucination
    assert asked == [(768, 0.0)]


def test_no_words_are_believed_at_the_second_attempt_only() -> None:
    audio = clip(SENTENCE).samples()
    transcript, _, asked = attempts([("", -0.1), ("", -2.0)], request(audio))
    assert transcript.text == ""
    assert not transcript.possible_hallucination
    assert asked == [(768, 0.0), (1536, 0.0)]


def test_offline_work_stays_behind_live_work_when_it_is_done_again() -> None:
    audio = clip(SENTENCE).samples()
    (outcome,) = Transcriber(Answering([(LOOP, 0.0)])).transcribe(
        [replace(request(audio, Priority.OFFLINE), draft=(1, 2))]
    )
    assert isinstance(outcome, Again)
    assert outcome.request.priority is Priority.OFFLINE
    # A draft of what went wrong would lead there again.
    assert outcome.request.draft == ()


def test_all_attempts_are_paid_for() -> None:
    audio = clip(SENTENCE).samples()
    transcript, made, _ = attempts([(UNSURE, -1.1), (UNSURE, -1.5)] * 3 + [("", 0)], request(audio))
    spent = [item.best.cost_s for item in made if item.best]
    assert spent == sorted(spent)
    assert transcript.cost_s > spent[-1] > spent[0] > 0


def test_an_answer_as_long_as_whispers_can_be_lacks_its_end() -> None:
    audio = clip(SENTENCE).samples()
    model = Answering([])
    for count, truncated in ((440, False), (444, True)):
        model.give("All is well.", tokens=(1,) * count)
        (transcript,) = Transcriber(model).settle([request(audio)])
        assert transcript.truncated is truncated


def test_an_answer_that_had_no_room_is_given_more_by_leaving_the_context_out() -> None:
    audio = clip(SENTENCE).samples()
    model = Answering([])
    first = dataclasses.replace(request(audio), context="<|0.00|> he was young<|1.00|>")
    model.give("All is well.", tokens=(1,) * 444)
    (outcome,) = Transcriber(model).transcribe([first])
    assert isinstance(outcome, Again)
    assert (outcome.request.context, outcome.request.context_tokens) == ("", None)
    model.give("All is well, he said.", tokens=(1,) * 440)
    (transcript,) = Transcriber(model).settle([outcome.request])
    assert transcript.text == "All is well, he said."


# -- language ----------------------------------------------------------------------------------


def test_a_detected_language_comes_with_all_probabilities() -> None:
    transcript = settle("base", clip(SENTENCE).samples())
    assert transcript.language == "en"
    assert transcript.language_probability == transcript.language_probabilities["en"] > 0.8
    assert set(transcript.language_probabilities) == backend("base").languages
    assert sum(transcript.language_probabilities.values()) == pytest.approx(1.0, abs=0.01)


def test_only_the_languages_of_the_list_can_be_detected() -> None:
    audio = clip(SENTENCE).samples()
    transcript = settle("base", audio, languages=("fr", "nl"), temperatures=(0.0,))
    assert set(transcript.language_probabilities) == {"fr", "nl"}
    assert sum(transcript.language_probabilities.values()) == pytest.approx(1.0)
    assert transcript.language in ("fr", "nl")


def test_a_list_of_one_language_needs_no_detection() -> None:
    transcript = settle("base", clip(SENTENCE).samples(), languages=("en",))
    assert dict(transcript.language_probabilities) == {"en": 1.0}


def test_given_and_detected_languages_share_a_batch() -> None:
    audio = clip(SENTENCE).samples()
    given, detected = Transcriber(backend("base")).settle(
        [request(audio, language="en"), request(audio)]
    )
    assert given.language == detected.language == "en"
    assert given.text == detected.text
    assert given.language_probability == 1.0 > detected.language_probability


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("tiny.en", {"task": "translate"}, "cannot translate"),
        ("base", {"language": "xx"}, "does not know the language 'xx'"),
        ("base", {"languages": ("en", "yy")}, "does not know the language 'yy'"),
        ("base", {"language": "yue"}, "'yue'"),  # came with large-v3
    ],
)
def test_what_the_model_cannot_do_is_refused(
    model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Transcriber(backend(model)).prepare(request(silence(1.0), **options))


# -- task, prompt, beam, temperature -----------------------------------------------------------


def test_a_translation_is_english_where_the_transcript_is_not() -> None:
    # Whisper puts English speech into the language that it is told it hears.
    audio = clip(SENTENCE).samples()
    options = {"language": "fr", "temperatures": (0.0,)}
    assert "homme" in settle("base", audio, **options).text
    assert "young man" in settle("base", audio, task="translate", **options).text


def test_a_prompt_and_hotwords_change_the_spelling() -> None:
    audio = clip("librivox-0870").samples()
    assert "Dashwood" in settle("tiny.en", audio).text
    for options in ({"prompt": "Mister Jon Dashwoode, of Norland."}, {"hotwords": "Jon Dashwoode"}):
        assert "Dashwoode" in settle("tiny.en", audio, **options).text, options


def test_what_was_said_before_counts_like_a_prompt() -> None:
    audio = clip("librivox-0870").samples()
    before = replace(request(audio), context="Mister Jon Dashwoode.")
    (transcript,) = Transcriber(backend("tiny.en")).settle([before])
    assert "Dashwoode" in transcript.text


def test_the_longest_context_leaves_room_for_the_answer() -> None:
    audio = clip("librivox-0870").samples()
    prepared = Transcriber(backend("tiny.en")).prepare(
        replace(request(audio), context="We went to the house by the sea again. " * 40)
    )
    assert prepared.context_tokens is not None
    assert 216 <= len(prepared.context_tokens) <= 223
    assert "prudently" in Transcriber(backend("tiny.en")).settle([prepared])[0].text


def test_contexts_of_different_lengths_are_not_searched_with_a_beam_together() -> None:
    audio = clip(SENTENCE).samples()
    beam = request(audio, beam_size=2)
    requests = [beam, replace(beam, context="one two three")]
    with pytest.raises(ValueError, match="one batch"):
        Transcriber(backend("tiny.en")).transcribe(requests)


def test_a_request_is_prepared_once() -> None:
    transcriber = Transcriber(backend("tiny.en"))
    prepared = transcriber.prepare(request(silence(1.0)))
    assert prepared.windows == backend("tiny.en").windows
    assert transcriber.prepare(prepared) is prepared
    own = WindowPolicy(floor_frames=1024)
    assert transcriber.prepare(replace(request(silence(1.0)), windows=own)).bucket == 1024


def test_a_beam_and_mel_padding_understand_the_sentence_too() -> None:
    audio = clip(SENTENCE).samples()
    beam = settle("tiny.en", audio, beam_size=5)
    assert "young man" in beam.text
    padded = replace(request(audio), windows=WindowPolicy(padding="zeros"))
    assert "young man" in Transcriber(backend("tiny.en")).settle([padded])[0].text


def test_a_temperature_draws_and_the_transcript_tells_it() -> None:
    audio = clip(SENTENCE).samples()
    transcript = settle("tiny.en", audio, temperatures=(0.2,))
    assert transcript.temperature == 0.2
    assert "young man" in transcript.text


# -- words -------------------------------------------------------------------------------------


def test_words_have_times_and_probabilities_where_they_are_asked_for() -> None:
    audio = clip("librivox-0870").samples()
    transcript = settle("tiny.en", audio, word_timestamps=True)
    words = transcript.words
    assert " ".join(word.text for word in words) == transcript.text
    assert all(0 < word.probability <= 1 for word in words)
    times = [time_s for word in words for time_s in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[-1] <= transcript.duration_s
    assert (transcript.segments[0].start_s, transcript.segments[-1].end_s) == (times[0], times[-1])
    without = settle("tiny.en", audio)
    assert without.words == ()
    assert without.text == transcript.text


def test_the_window_and_what_precedes_the_speech_do_not_move_the_words() -> None:
    audio = clip("librivox-0870").samples()
    short = settle("tiny.en", audio, word_timestamps=True)
    later = settle("tiny.en", np.concatenate([silence(1.0), audio]), word_timestamps=True)
    (full,) = Transcriber(backend("tiny.en")).settle(
        [replace(request(audio, word_timestamps=True), windows=WindowPolicy(floor_frames=3000))]
    )
    assert short.text == later.text == full.text
    starts = [np.array([word.start_s for word in item.words]) for item in (short, later, full)]
    # A first word may stretch into the silence before it.
    assert np.abs(starts[1] - 1.0 - starts[0])[1:].max() < 0.2
    assert np.abs(starts[2] - starts[0])[1:].max() < 0.2


def test_a_batch_in_two_languages_has_the_words_of_each() -> None:
    audio = clip(SENTENCE).samples()
    options: dict[str, Any] = {"word_timestamps": True, "temperatures": (0.0,)}
    together = Transcriber(backend("base")).settle(
        [request(audio, language=code, **options) for code in ("en", "fr", "zh")]
    )
    assert [item.language for item in together] == ["en", "fr", "zh"]
    for transcript in together[:2]:
        assert " ".join(word.text for word in transcript.words) == transcript.text
        assert len(transcript.words) > 5


# -- audio -------------------------------------------------------------------------------------


def test_numbers_that_are_none_are_refused() -> None:
    audio = clip(SENTENCE).samples().copy()
    audio[100] = np.nan
    with pytest.raises(AudioError, match="finite"):
        Transcriber(backend("tiny.en")).transcribe([request(audio)])


@pytest.mark.parametrize("samples", [0, 1, 160, 1000])
def test_a_click_of_audio_is_no_failure(samples: int) -> None:
    audio = np.zeros(samples, dtype=np.float32)
    transcript = settle("tiny.en", audio, word_timestamps=True, temperatures=(0.0,))
    assert transcript.duration_s == samples / 16_000


def test_a_batch_of_several_windows_gives_what_each_item_gives_alone() -> None:
    transcriber = Transcriber(backend("tiny.en"))
    short, other = clip(SENTENCE).samples(), clip("librivox-0930").samples()
    long = np.concatenate([short, silence(0.5), other])
    requests = [
        transcriber.prepare(replace(request(audio), context=context))
        for audio, context in ((long, ""), (short, ""), (other, "He said:"), (long, ""))
    ]
    assert len({item.bucket for item in requests}) > 1
    assert len({item.batch_key for item in requests}) == 1
    together = transcriber.settle(requests)
    alone = [transcriber.settle([item])[0] for item in requests]
    assert [item.text for item in together] == [item.text for item in alone]
