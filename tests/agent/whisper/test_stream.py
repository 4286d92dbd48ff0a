"""A stream's sessions, scripted: audio and speech events in, jobs and results out."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.audio import FloatArray
from talkpath.agent.whisper.agreement import Flicker
from talkpath.agent.whisper.requests import DecodeOptions, Priority, Request
from talkpath.agent.whisper.results import (
    Final,
    Likely,
    Partial,
    StreamFailure,
    StreamResult,
    Transcript,
)
from talkpath.agent.whisper.stream import (
    Cancel,
    Decode,
    Promote,
    Stream,
    StreamAction,
    StreamOptions,
)
from talkpath.agent.whisper.windows import MAX_AUDIO_S

RATE_HZ = 16_000


class Session:
    """A stream, with what it wanted and gave so far.

    Every sample fed is its own number, so that a decode's audio tells where it comes from.
    """

    def __init__(
        self,
        *,
        language: str | None = "en",
        partials: bool = True,
        interval_s: float = 0.5,
        language_mode: str = "utterance",
    ) -> None:
        self.stream = Stream(
            StreamOptions(
                decode=DecodeOptions(language=language),
                partials=partials,
                partial_interval_s=interval_s,
                language_mode=language_mode,
            )
        )
        self.fed = 0
        self.busy = False  # a worker has every decode at once, so that none can be replaced
        self.open: dict[int, Decode] = {}
        self.decodes: list[Decode] = []
        self.promoted: list[int] = []
        self.cancelled: list[int] = []
        self.results: list[StreamResult] = []

    def feed(self, seconds: float, block_s: float = 0.02) -> None:
        """Feed so much audio, in blocks of 20 ms as it comes from a microphone."""
        end = self.fed + round(seconds * RATE_HZ)
        while self.fed < end:
            count = min(round(block_s * RATE_HZ), end - self.fed)
            self.stream.feed(np.arange(self.fed, self.fed + count, dtype=np.float32))
            self.fed += count
            self.collect()

    def start(self, ago_s: float = 0.2) -> None:
        self.stream.speech_started(ago_s)
        self.collect()

    def pause(self) -> None:
        self.stream.early_pause()
        self.collect()

    def resume(self) -> None:
        self.stream.speech_resumed()
        self.collect()

    def stop(self, silence_s: float = 0.2) -> None:
        self.stream.speech_stopped(silence_s)
        self.collect()

    def close(self) -> None:
        self.stream.close()
        self.collect()

    def answer(self, job: Decode, text: str = "words", **values: object) -> None:
        transcript = Transcript(text=text, duration_s=len(job.request.audio) / RATE_HZ)
        if values:
            transcript = Transcript(**{"text": text, **values})  # type: ignore[arg-type]
        self.open.pop(job.ticket, None)
        self.stream.transcript(job.ticket, transcript)
        self.collect()

    def fail(self, job: Decode) -> None:
        self.open.pop(job.ticket, None)
        self.stream.failed(job.ticket, RuntimeError("the model stumbled"))
        self.collect()

    def collect(self) -> list[StreamAction]:
        actions = self.stream.actions()
        for action in actions:
            match action:
                case Decode():
                    if action.replaces is not None and not self.busy:
                        del self.open[action.replaces]
                    self.open[action.ticket] = action
                    self.decodes.append(action)
                case Promote(ticket):
                    assert self.open[ticket].request.priority is Priority.SPECULATIVE
                    self.promoted.append(ticket)
                case Cancel(ticket):
                    assert ticket in self.open, "what came back already cannot be cancelled"
                    del self.open[ticket]
                    self.cancelled.append(ticket)
        self.results += self.stream.results()
        return actions

    def waiting(self, *priorities: Priority) -> list[Decode]:
        return [job for job in self.open.values() if job.request.priority in priorities]

    @property
    def partial(self) -> Decode:
        (job,) = self.waiting(Priority.PARTIAL, Priority.FIRST_PARTIAL)
        return job

    @property
    def final(self) -> Decode:
        (job,) = self.waiting(Priority.FINAL, Priority.SPECULATIVE)
        return job


def stretch(audio: FloatArray) -> tuple[float, float]:
    """Where in what was fed a decode's audio lies, in seconds; it must lie there in one piece."""
    assert np.array_equal(audio, np.arange(audio[0], audio[0] + len(audio), dtype=np.float32))
    return audio[0] / RATE_HZ, (audio[-1] + 1) / RATE_HZ


def draft(job: Decode) -> tuple[int, ...]:
    return job.request.draft


def test_of_a_partial_that_failed_nothing_more_is_heard() -> None:
    session = Session()
    session.busy = True
    session.start(ago_s=0.0)
    session.feed(1.1)
    first, second = session.waiting(Priority.PARTIAL, Priority.FIRST_PARTIAL)
    session.fail(first)
    session.answer(first, "too late")
    assert session.results == []
    session.answer(second, "in time")
    assert len(session.results) == 1


# Beginning and end of an utterance


def test_silence_asks_for_nothing() -> None:
    session = Session()
    session.feed(20)
    assert session.decodes == []
    assert not session.stream.speaking


def test_an_utterance_reaches_back_to_its_beginning_and_a_little_before() -> None:
    session = Session()
    session.feed(10)
    session.start(ago_s=0.2)
    session.feed(1)
    session.stop()
    assert stretch(session.final.request.audio) == pytest.approx((9.5, 11.0))


def test_an_utterance_at_the_very_beginning_has_what_there_is() -> None:
    session = Session()
    session.feed(0.1)
    session.start(ago_s=0.2)
    session.feed(0.4)
    session.stop()
    assert stretch(session.final.request.audio) == pytest.approx((0.0, 0.5))


def test_the_next_utterance_does_not_hold_the_end_of_the_last_one() -> None:
    session = Session()
    session.feed(3)
    session.start()
    session.feed(1)
    session.stop(silence_s=0.2)
    first = stretch(session.final.request.audio)
    session.answer(session.final)
    session.feed(0.1)
    session.start(ago_s=0.1)
    session.feed(1)
    session.stop(silence_s=0.2)
    second = stretch(session.final.request.audio)
    assert first[1] == pytest.approx(4.0)
    assert second[0] == pytest.approx(3.8)  # where the silence behind the first one began


@pytest.mark.parametrize(("silence_s", "end_s"), [(0.2, 5.0), (0.6, 5.0), (3.0, 2.6), (9.0, 0.6)])
def test_little_of_the_silence_behind_the_words_is_decoded(silence_s: float, end_s: float) -> None:
    session = Session(partials=False)
    session.start(ago_s=0.0)
    session.feed(5)
    session.stop(silence_s)
    assert stretch(session.final.request.audio) == pytest.approx((0.0, end_s))


def test_audio_before_a_mute_does_not_join_what_follows_it() -> None:
    session = Session()
    session.feed(1)
    session.stream.forget()
    session.feed(0.1)
    session.start(ago_s=0.1)
    session.stream.forget()
    session.feed(0.4)
    session.stop()
    assert stretch(session.final.request.audio) == pytest.approx((1.0, 1.5))


def test_results_tell_where_in_the_stream_their_audio_begins() -> None:
    session = Session()
    starts = []
    for _ in range(2):
        session.feed(1.5)
        session.start(ago_s=0.2)
        session.feed(0.4)
        for job in (session.partial, None):
            if job is None:
                session.stop()
                job = session.final
            starts.append(float(job.request.audio[0]) / RATE_HZ)
            session.answer(job)
    assert [result.start_s for result in session.results] == pytest.approx(starts)  # type: ignore[union-attr]


def test_of_an_abandoned_utterance_nothing_more_comes() -> None:
    session = Session()
    session.start(ago_s=0.0)
    session.feed(1.1)
    session.pause()
    session.stream.abandon()
    session.collect()
    assert not session.open
    assert not session.stream.speaking
    session.feed(0.2)
    session.start(ago_s=0.2)
    session.stop(silence_s=0.0)
    # Nothing of the audio before joins it, either.
    assert stretch(session.final.request.audio) == pytest.approx((1.1, 1.3))
    session.answer(session.final)
    assert [result.utterance for result in session.results] == [2]


def test_other_options_hold_from_the_next_utterance_on() -> None:
    session = Session(language="en")
    session.start(ago_s=0.0)
    session.feed(0.4)
    session.stream.configure(StreamOptions(decode=DecodeOptions(language="de"), partials=False))
    session.feed(0.2)
    assert session.partial.request.options.language == "en"
    session.stop()
    assert session.final.request.options.language == "en"
    session.answer(session.final)
    session.start()
    session.feed(0.6)
    assert not session.waiting(Priority.PARTIAL, Priority.FIRST_PARTIAL)
    session.stop()
    assert session.final.request.options.language == "de"


@pytest.mark.parametrize("split", [False, True])
def test_what_was_known_of_the_language_ends_where_other_ones_are_possible(split: bool) -> None:
    session = Session(language=None)
    session.start(ago_s=0.0)
    session.feed(3)
    session.answer(session.partial, "words", language="en", language_probability=0.99)
    other = StreamOptions(decode=DecodeOptions(languages=("de", "fr")), longest_utterance_s=5)
    if split:
        session.stream.configure(other)
        session.feed(26)
    else:
        session.stop()
        session.answer(session.final, "words", language="en", language_probability=0.99)
        session.stream.configure(other)
        session.start()
        session.feed(0.6)
    assert session.partial.request.options.language is None
    assert session.partial.request.options.languages == ("de", "fr")


def test_a_stream_may_be_split_sooner_and_reach_back_further() -> None:
    session = Session(partials=False)
    session.stream.configure(StreamOptions(partials=False, pre_roll_s=1, longest_utterance_s=5))
    session.feed(2)
    session.start(ago_s=0.2)
    session.feed(4)
    (piece,) = session.waiting(Priority.FINAL)
    start_s, end_s = stretch(piece.request.audio)
    assert start_s == pytest.approx(0.8)
    assert end_s <= 5.8


def test_events_out_of_season_change_nothing() -> None:
    session = Session()
    session.feed(1)
    session.pause()
    session.resume()
    session.stop()
    assert session.decodes == []
    session.start()
    session.start(ago_s=0.0)
    session.resume()
    session.feed(1)
    session.pause()
    session.pause()
    assert len(session.waiting(Priority.SPECULATIVE)) == 1
    session.stop()
    session.stop()
    session.answer(session.final)
    (final,) = session.results
    assert isinstance(final, Final)
    assert final.speculative


def test_a_speculation_that_was_not_begun_at_the_stop_is_a_final_like_others() -> None:
    session = Session()
    session.start()
    session.feed(1)
    session.pause()
    job = session.final
    session.stop()
    session.stream.not_begun_at_stop(job.ticket)
    session.answer(job, "all words")
    (final,) = session.results
    assert isinstance(final, Final)
    assert not final.speculative
    session.stream.not_begun_at_stop(job.ticket)  # it has gone out


def test_a_speculation_is_told_of_before_the_stop_where_that_is_wanted() -> None:
    session = Session()
    session.stream.configure(StreamOptions(likely=True, partials=False))
    session.start()
    session.feed(1)
    session.pause()
    session.answer(session.final, "all words")
    (likely,) = session.results
    assert isinstance(likely, Likely) and likely.transcript.text == "all words"
    session.stop()
    (_, final) = session.results
    assert isinstance(final, Final) and final.transcript == likely.transcript


def test_after_a_breath_the_partial_that_it_withdrew_is_asked_for_again() -> None:
    session = Session()
    session.start(ago_s=0.0)
    session.feed(0.5)
    session.answer(session.partial, "well")
    session.feed(0.5)
    withdrawn = session.partial
    session.pause()
    assert withdrawn.ticket in session.cancelled
    session.resume()
    session.feed(0.02)
    assert session.partial is not withdrawn
    assert len(session.partial.request.audio) == round(1.02 * RATE_HZ)


# Partials


def test_partials_come_every_half_second_of_speech() -> None:
    session = Session()
    session.feed(1)
    session.start(ago_s=0.2)
    ends = []
    for _ in range(100):  # 2 s in blocks of 20 ms
        session.feed(0.02)
        for job in session.waiting(Priority.PARTIAL, Priority.FIRST_PARTIAL):
            ends.append(stretch(job.request.audio)[1])
            session.answer(job)
    assert ends[0] == pytest.approx(1.02)  # there is enough speech right after the start
    assert np.diff(ends) == pytest.approx(0.5)
    assert len(ends) == 4


def test_the_first_partial_is_more_urgent_than_the_later_ones() -> None:
    session = Session()
    session.start(ago_s=0.0)
    priorities = []
    for _ in range(3):
        session.feed(0.5)
        priorities.append(session.partial.request.priority)
        session.answer(session.partial)
    assert priorities == [Priority.FIRST_PARTIAL, Priority.PARTIAL, Priority.PARTIAL]


def test_a_partial_that_is_still_out_is_replaced_by_a_newer_one() -> None:
    session = Session()
    session.start()
    session.feed(1.5)
    first, second, third = session.decodes
    assert [job.replaces for job in session.decodes] == [None, first.ticket, second.ticket]
    assert session.partial is third
    assert third.request.priority is Priority.FIRST_PARTIAL  # there is no text yet
    session.answer(third)
    session.feed(0.5)
    assert session.partial.replaces is None


def test_a_replaced_partial_that_a_worker_had_already_is_shown() -> None:
    session = Session()
    session.busy = True
    session.start()
    session.feed(1.0)
    first, second = session.decodes
    session.answer(first, "to be")
    session.answer(second, "to be or")
    partials = [(item.stable, item.rest) for item in session.results if isinstance(item, Partial)]
    assert partials == [("", "to be"), ("to be", "or")]


def test_a_replaced_partial_that_comes_after_the_newer_one_is_not_shown() -> None:
    session = Session()
    session.busy = True
    session.start()
    session.feed(1.5)
    first, second, third = session.decodes
    session.answer(second, "to be or")
    session.answer(first, "to be")
    session.answer(third, "to be or not")
    session.answer(second, "to be or")
    partials = [(item.stable, item.rest) for item in session.results if isinstance(item, Partial)]
    assert partials == [("", "to be or"), ("to be or", "not")]


def test_a_replaced_partial_of_the_last_utterance_is_not_shown_in_the_next() -> None:
    session = Session()
    session.busy = True
    session.start()
    session.feed(1.0)
    old = session.decodes[0]
    session.stop()
    session.start()
    session.feed(1.0)
    session.answer(old, "stale")
    assert session.results == []


def test_the_partials_come_less_often_under_load_and_return_to_their_pace() -> None:
    session = Session()
    session.start(ago_s=0.0)
    ends = []
    for block in range(200):  # 4 s
        if block == 50:
            session.stream.set_partial_interval(1.0)
        if block == 150:
            session.stream.set_partial_interval(0.5)
        session.feed(0.02)
        for job in session.waiting(Priority.PARTIAL, Priority.FIRST_PARTIAL):
            ends.append(stretch(job.request.audio)[1])
            session.answer(job)
    assert ends == pytest.approx([0.5, 1.0, 2.0, 3.0, 3.5, 4.0])


# Drafts


def test_each_decode_drafts_from_the_newest_answer_of_its_utterance() -> None:
    session = Session()
    session.start()
    session.feed(0.5)
    assert draft(session.partial) == ()
    session.answer(session.partial, "to", tokens=(1, 2))
    session.feed(0.5)
    assert draft(session.partial) == (1, 2)
    session.answer(session.partial, "to be", tokens=(1, 2, 3))
    session.pause()
    assert draft(session.final) == (1, 2, 3)
    session.answer(session.final, "to be or", tokens=(1, 2, 3, 4))
    session.resume()
    session.feed(0.5)
    assert draft(session.partial) == (1, 2, 3, 4)
    session.stop()
    assert draft(session.final) == (1, 2, 3, 4)
    session.start()
    session.feed(0.5)
    assert draft(session.partial) == ()


def test_an_answer_to_a_partial_that_was_withdrawn_is_a_draft_but_not_shown() -> None:
    session = Session()
    session.start()
    session.feed(0.6)
    partial = session.partial
    session.pause()
    session.answer(partial, "to", tokens=(1, 2))
    assert session.results == []
    session.resume()
    session.stop()
    assert draft(session.final) == (1, 2)


def test_no_draft_comes_from_an_older_answer_a_loop_or_another_utterance() -> None:
    session = Session()
    session.busy = True
    session.start()
    session.feed(1.5)
    first, second, third = session.decodes
    session.answer(second, "to be", tokens=(1, 2))
    session.answer(first, "to", tokens=(1,))
    session.answer(third, "to be " * 9, tokens=(1, 2) * 9, possible_hallucination=True)
    session.stop()
    assert draft(session.final) == (1, 2)
    last = session.final
    session.start()
    session.answer(last, "to be", tokens=(5,))
    session.feed(0.5)
    assert draft(session.decodes[-1]) == ()


def test_a_split_starts_the_draft_anew() -> None:
    session = Session()
    session.start(ago_s=0.0)
    session.feed(27.9)
    session.answer(session.partial, "to", tokens=(1, 2))
    session.feed(0.2)
    (piece,) = session.waiting(Priority.FINAL)
    assert draft(piece) == (1, 2)
    session.answer(piece, tokens=(3,))
    session.feed(1)
    assert draft(session.partial) == ()


def test_partials_that_nobody_wants_are_not_asked_for() -> None:
    session = Session(partials=False)
    session.start()
    session.feed(5)
    assert session.decodes == []
    session.stop()
    session.answer(session.final, "all words")
    assert [type(result) for result in session.results] == [Final]


def test_a_partial_tells_stable_words_from_the_rest() -> None:
    session = Session()
    session.start()
    for text in ("to be or", "to be or not two", "to be or not to be"):
        session.feed(0.5)
        session.answer(session.partial, text)
    partials = [result for result in session.results if isinstance(result, Partial)]
    assert [(item.stable, item.rest) for item in partials] == [
        ("", "to be or"),
        ("to be or", "not two"),
        ("to be or not", "to be"),
    ]
    assert [item.text for item in partials][-1] == "to be or not to be"
    assert {item.utterance for item in partials} == {1}
    assert [item.duration_s for item in partials] == pytest.approx([0.5, 1.0, 1.5])


def test_partials_without_words_and_hallucinations_are_kept_back() -> None:
    session = Session()
    session.start()
    session.feed(0.5)
    session.answer(session.partial, "")
    session.feed(0.5)
    session.answer(session.partial, "thank you " * 9, possible_hallucination=True)
    assert session.results == []
    session.feed(0.5)
    session.answer(session.partial, "right words")
    assert [type(result) for result in session.results] == [Partial]


def test_a_partial_in_an_unlikely_language_is_kept_back() -> None:
    session = Session(language=None)
    session.start()
    session.feed(0.5)
    session.answer(session.partial, "goede", language="nl", language_probability=0.3)
    assert session.results == []
    session.feed(0.5)
    session.answer(session.partial, "good morning", language="en", language_probability=0.7)
    (partial,) = session.results
    assert isinstance(partial, Partial)
    assert (partial.stable, partial.rest) == ("", "good morning")


def test_a_lost_partial_is_made_up_for_by_the_next() -> None:
    session = Session()
    session.start()
    session.feed(0.5)
    session.fail(session.partial)
    assert session.results == []
    session.feed(0.5)
    session.answer(session.partial)
    assert [type(result) for result in session.results] == [Partial]


# Early pauses


def test_a_final_that_was_speculated_on_goes_out_at_the_stop() -> None:
    session = Session()
    session.start()
    session.feed(1)
    session.pause()
    job = session.final
    assert job.request.priority is Priority.SPECULATIVE
    session.answer(job, "all words")
    assert not [result for result in session.results if isinstance(result, Final)]
    assert not session.stream.pending
    session.feed(0.1)
    session.stop()
    (final,) = (result for result in session.results if isinstance(result, Final))
    assert (final.utterance, final.transcript.text) == (1, "all words")
    assert final.speculative
    assert final.ends_speech
    assert session.promoted == []
    assert not session.open


def test_a_speculation_still_out_at_the_stop_becomes_urgent() -> None:
    session = Session()
    session.start()
    session.feed(1)
    session.pause()
    job = session.final
    session.stop()
    assert session.promoted == [job.ticket]
    assert session.stream.pending
    session.answer(job, "all words")
    assert not session.stream.pending
    assert [type(result) for result in session.results] == [Final]


@pytest.mark.parametrize("answered", [False, True])
def test_resumed_speech_voids_the_speculation(answered: bool) -> None:
    session = Session(partials=False)
    session.start()
    session.feed(1)
    session.pause()
    job = session.final
    if answered:
        session.answer(job, "half of it")
    session.resume()
    assert session.cancelled == ([] if answered else [job.ticket])
    session.feed(1)
    session.stop()
    assert session.final.request.priority is Priority.FINAL
    assert stretch(session.final.request.audio)[1] == pytest.approx(2.0)
    session.answer(job, "half of it")  # too late
    session.answer(session.final, "all of it")
    (final,) = session.results
    assert isinstance(final, Final)
    assert final.transcript.text == "all of it"
    assert not final.speculative


def test_an_early_pause_withdraws_the_partial_and_keeps_others_away() -> None:
    session = Session()
    session.start()
    session.feed(0.6)
    partial = session.partial
    session.pause()
    assert session.cancelled == [partial.ticket]
    session.feed(0.1)
    assert len(session.open) == 1
    session.resume()
    session.feed(0.5)
    assert session.partial.request.priority is Priority.FIRST_PARTIAL  # there was no text yet
    session.answer(partial, "stale")
    assert session.results == []


def test_a_failed_speculation_is_tried_again_at_the_stop() -> None:
    session = Session()
    session.start()
    session.feed(1)
    session.pause()
    session.fail(session.final)
    session.stop()
    assert session.final.request.priority is Priority.FINAL
    session.answer(session.final)
    assert [type(result) for result in session.results] == [Final]


# Finals


def test_a_failed_final_is_reported_and_the_next_utterance_is_heard() -> None:
    session = Session()
    session.start()
    session.feed(1)
    session.stop()
    session.fail(session.final)
    session.start()
    session.feed(1)
    session.stop()
    session.answer(session.final)
    failure, final = session.results
    assert isinstance(failure, StreamFailure)
    assert failure.utterance == 1
    assert str(failure.error) == "the model stumbled"
    assert isinstance(final, Final)
    assert final.utterance == 2


def test_a_failed_piece_of_long_speech_says_that_it_goes_on() -> None:
    session = Session(partials=False)
    session.start()
    session.feed(30)
    session.stop()
    for job in session.waiting(Priority.FINAL):
        session.fail(job)
    failures = [result for result in session.results if isinstance(result, StreamFailure)]
    assert [failure.ends_speech for failure in failures] == [False, True]


@pytest.mark.parametrize("fails", [(), (1,), (0, 2), (0, 1, 2)])
def test_finals_go_out_in_the_order_of_the_speech(fails: Sequence[int]) -> None:
    session = Session(partials=False)
    for _ in range(3):
        session.feed(1)
        session.start()
        session.feed(1)
        session.stop()
    jobs = session.waiting(Priority.FINAL)
    for index in (1, 2, 0):
        assert not session.results
        assert session.stream.pending
        if index in fails:
            session.fail(jobs[index])
        else:
            session.answer(jobs[index], f"utterance {index}")
    assert [
        (result.utterance, isinstance(result, StreamFailure)) for result in session.results
    ] == [(index + 1, index in fails) for index in range(3)]
    assert not session.stream.pending


def test_tickets_that_nobody_waits_for_are_ignored() -> None:
    session = Session()
    stranger = Decode(99, Request(np.zeros(1, dtype=np.float32), Priority.FINAL))
    session.answer(stranger)
    session.fail(stranger)
    session.start()
    session.feed(1)
    session.stop()
    job = session.final
    session.answer(job, "once")
    session.answer(job, "twice")
    session.fail(job)
    (final,) = session.results
    assert isinstance(final, Final)
    assert final.transcript.text == "once"


# Languages


def test_a_given_language_is_kept_and_a_new_one_holds_from_the_next_utterance() -> None:
    session = Session(language="de")
    session.start()
    session.feed(0.5)
    session.stream.set_language("fr")
    session.stop()
    assert [job.request.options.language for job in session.decodes] == ["de", "de"]
    session.start()
    session.feed(0.5)
    session.stop()
    assert [job.request.options.language for job in session.decodes[2:]] == ["fr", "fr"]


def test_a_language_is_detected_until_it_is_sure_and_anew_in_each_utterance() -> None:
    session = Session(language=None)
    session.start()
    session.feed(0.5)
    assert session.partial.request.options.language is None
    session.answer(session.partial, "hm", language="nl", language_probability=0.6)
    session.feed(0.5)
    assert session.partial.request.options.language is None
    session.answer(session.partial, "guten", language="de", language_probability=0.95)
    session.feed(0.5)
    assert session.partial.request.options.language == "de"
    session.stop()
    assert session.final.request.options.language == "de"
    session.start()
    session.feed(0.5)
    assert session.partial.request.options.language is None


def test_a_language_is_detected_once_a_stream_and_kept() -> None:
    session = Session(language=None, language_mode="stream")
    session.start()
    session.feed(0.5)
    session.answer(session.partial, "hm", language="nl", language_probability=0.9, duration_s=0.5)
    session.stop()
    session.answer(session.final, "", language="nl", language_probability=0.9, duration_s=1.5)
    session.start()
    session.feed(1.5)
    assert session.partial.request.options.language is None
    job = session.partial
    session.answer(job, "guten tag", language="de", language_probability=0.7, duration_s=1.5)
    session.feed(0.5)
    assert session.partial.request.options.language == "de"
    session.stop()
    session.answer(session.final, "guten tag", language="de")
    session.start()
    session.feed(3)
    assert session.partial.request.options.language == "de"
    session.stop()
    session.stream.set_language(None)
    session.start()
    session.feed(3)
    assert session.partial.request.options.language is None


# The turn


def say(session: Session, text: str, *, pause_s: float = 0.4, speech_s: float = 1.0) -> Decode:
    """An utterance behind a pause, and its final's answer; gives the final's decode."""
    session.feed(max(0.0, pause_s - 0.2))
    session.start(ago_s=0.0)
    session.feed(speech_s)
    session.stop(silence_s=0.2)
    job = session.final
    session.answer(job, text)
    return job


def context(job: Decode) -> str:
    return job.request.context


def test_a_decode_is_told_what_was_said_before_a_short_pause() -> None:
    session = Session(partials=False)
    assert context(say(session, "Had he married,")) == ""
    assert context(say(session, "a more amiable woman.")) == "<|0.00|> Had he married<|0.90|>"
    assert context(say(session, "he might")) == "<|0.00|> a more amiable woman<|1.20|>"


def test_a_long_pause_or_the_end_of_the_turn_ends_the_context() -> None:
    session = Session(partials=False)
    say(session, "Had he married")
    assert context(say(session, "He might", pause_s=2.6)) == ""
    session.stream.end_turn()
    assert context(say(session, "even have been")) == ""
    assert context(say(session, "made")) != ""


def test_until_a_final_is_back_its_stable_words_are_what_was_said() -> None:
    session = Session()
    session.start(ago_s=0.0)
    for text in ("had he", "had he married"):
        session.feed(0.5)
        session.answer(session.partial, text)
    session.stop()
    late = session.final
    session.feed(0.4)
    session.start(ago_s=0.0)
    session.feed(0.5)
    assert context(session.partial) == "<|0.00|> had he<|0.60|>"
    session.answer(late, "had he married")
    session.feed(0.5)
    assert context(session.partial) == "<|0.00|> had he married<|0.90|>"


def test_a_loop_is_not_told() -> None:
    session = Session(partials=False)
    session.start()
    session.feed(1)
    session.stop()
    session.answer(session.final, "thank you " * 9, possible_hallucination=True)
    assert context(say(session, "well")) == ""


# Speech longer than the window


def _noise_with_gaps(seconds: float, every_s: float) -> FloatArray:
    """Noise with a quiet moment of a quarter second every so often."""
    audio = np.random.default_rng(5).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    for at in np.arange(every_s, seconds, every_s):
        audio[round(at * RATE_HZ) : round((at + 0.25) * RATE_HZ)] *= 0.001
    return audio


@pytest.mark.parametrize("block", [320, 8_192, 16_000 * 100])
@pytest.mark.parametrize("paused", [False, True])
def test_long_speech_is_split_and_nothing_lost_or_doubled(block: int, paused: bool) -> None:
    audio = _noise_with_gaps(90, every_s=4)
    stream = Stream(StreamOptions())
    stream.speech_started(0.0)
    jobs: list[Decode] = []
    for at in range(0, len(audio), block):
        stream.feed(audio[at : at + block])
        if paused:
            stream.early_pause()
        jobs += [action for action in stream.actions() if isinstance(action, Decode)]
    if paused:
        stream.speech_resumed()
    stream.speech_stopped(0.0)
    jobs += [action for action in stream.actions() if isinstance(action, Decode)]
    finals = [job for job in jobs if job.request.priority is Priority.FINAL]
    assert np.array_equal(np.concatenate([job.request.audio for job in finals]), audio)
    assert all(len(job.request.audio) <= MAX_AUDIO_S * RATE_HZ for job in jobs)
    position = 0
    for job in finals[:-1]:
        position += len(job.request.audio)
        assert 23 * RATE_HZ <= len(job.request.audio)
        into_gap_s = position / RATE_HZ % 4
        assert into_gap_s <= 0.25, "the cut lies in a quiet moment"
    for job in reversed(finals):
        stream.transcript(job.ticket, Transcript(text=f"piece {job.ticket}"))
    results = stream.results()
    pieces = [result for result in results if isinstance(result, Final)]
    assert len(pieces) == len(results) == len(finals) == 4
    assert [piece.utterance for piece in pieces] == [1, 2, 3, 4]
    assert [piece.transcript.text for piece in pieces] == [f"piece {job.ticket}" for job in finals]
    assert [piece.ends_speech for piece in pieces] == [False, False, False, True]


def test_a_split_keeps_the_language_and_starts_the_partials_anew() -> None:
    session = Session(language=None)
    session.start(ago_s=0.0)
    session.feed(0.5)
    session.answer(session.partial, "guten tag", language="de", language_probability=0.99)
    session.feed(27.4)
    session.answer(session.partial, "guten tag zusammen", language="de")
    session.feed(0.3)
    (piece,) = session.waiting(Priority.FINAL)
    assert piece.request.options.language == "de"
    session.feed(0.6)
    assert session.partial.request.priority is Priority.FIRST_PARTIAL
    assert session.partial.request.options.language == "de"
    session.answer(session.partial, "und")
    partial = session.results[-1]
    assert isinstance(partial, Partial)
    audio = session.decodes[-1].request.audio
    start_s, length_s = float(audio[0]) / RATE_HZ, len(audio) / RATE_HZ
    assert partial == Partial(2, "", "und", "en", length_s, start_s)


@pytest.mark.parametrize(("language", "longest_s"), [("en", 28), ("hi", 14), ("ka", 6)])
def test_speech_that_takes_many_tokens_is_split_sooner(language: str, longest_s: float) -> None:
    session = Session(partials=False, language=language)
    session.start(ago_s=0.0)
    session.feed(longest_s - 0.1)
    assert session.waiting(Priority.FINAL) == []
    session.feed(1.0)
    (piece,) = session.waiting(Priority.FINAL)
    assert longest_s / 2 <= len(piece.request.audio) / RATE_HZ <= longest_s + 1


def test_long_speech_is_split_at_a_pause_and_the_speculation_is_its_final() -> None:
    session = Session(partials=False)
    session.start(ago_s=0.0)
    session.feed(20)
    session.pause()
    job = session.final
    session.feed(0.12)
    session.resume()
    assert session.promoted == [job.ticket]
    assert not session.cancelled
    session.feed(1)
    session.stop(silence_s=0.2)
    rest = session.waiting(Priority.FINAL)[0]
    assert stretch(rest.request.audio) == pytest.approx((20.0, 21.12))
    session.answer(rest, "and the rest")
    assert session.results == []
    session.answer(job, "the first twenty seconds")
    finals = [result for result in session.results if isinstance(result, Final)]
    assert [(final.utterance, final.ends_speech) for final in finals] == [(1, False), (2, True)]
    assert finals[0].speculative


def test_a_split_at_a_pause_gives_a_speculation_that_is_there_at_once() -> None:
    session = Session(partials=False)
    session.start(ago_s=0.0)
    session.feed(20)
    session.pause()
    session.answer(session.final, "the first twenty seconds")
    assert session.results == []
    session.feed(0.12)
    session.resume()
    (final,) = session.results
    assert isinstance(final, Final)
    assert not final.ends_speech
    assert session.promoted == []


@pytest.mark.parametrize(("speech_s", "pause_s"), [(10.0, 0.15), (16.0, 0.07), (21.0, 0.04)])
def test_shorter_speech_or_a_shorter_pause_is_no_reason_to_split(
    speech_s: float, pause_s: float
) -> None:
    session = Session(partials=False)
    session.start(ago_s=0.0)
    session.feed(speech_s)
    session.pause()
    session.feed(pause_s)
    session.resume()
    assert len(session.cancelled) == 1
    session.stop()
    assert stretch(session.final.request.audio)[0] == 0.0


# The end


def test_closing_withdraws_all_that_is_out() -> None:
    session = Session()
    for _ in range(2):
        session.start()
        session.feed(1)
        session.stop()
    session.answer(session.waiting(Priority.FINAL)[1])
    session.start()
    session.feed(1)
    session.pause()
    before = list(session.results)
    session.close()
    assert not session.open
    assert not session.stream.pending
    assert not session.stream.speaking
    for job in session.decodes:
        session.stream.transcript(job.ticket, Transcript(text="too late"))
        session.stream.failed(job.ticket, RuntimeError("too late"))
    assert session.collect() == []
    assert session.results == before
    session.close()


def test_closing_in_the_middle_of_speech_withdraws_the_partial() -> None:
    session = Session()
    session.start()
    session.feed(1)
    session.close()
    assert len(session.cancelled) == 1
    assert not session.open


# Anything in any order

EVENTS = st.sampled_from(
    "feed feed feed long start pause resume stop answer fail stale turn pace".split()
)
WORDS = "no no no never to be or not well I think so too my friend".split()


@given(st.lists(st.tuples(EVENTS, st.integers(0, 100)), max_size=80), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_each_utterance_that_stopped_gets_one_final_or_failure_in_order(
    events: list[tuple[str, int]], partials: bool, busy: bool
) -> None:
    session = Session(partials=partials)
    session.busy = busy
    answered: list[Decode] = []

    def come_back(index: int, fails: bool) -> None:
        job = list(session.open.values())[index % len(session.open)]
        answered.append(job)
        session.fail(job) if fails else session.answer(job, " ".join(WORDS[: index % 17]))

    stopped = 0
    for name, number in events:
        match name:
            case "feed":
                session.feed((number + 1) / 50, block_s=0.5)
            case "long":
                session.feed(number / 4, block_s=5)
            case "start":
                session.start(number / 100)
            case "pause":
                session.pause()
            case "resume":
                session.resume()
            case "stop":
                stopped += session.stream.speaking
                session.stop(number / 100)
            case "turn":
                session.stream.end_turn()
            case "pace":
                session.stream.set_partial_interval((number + 1) / 50)
            case "stale" if answered:
                session.answer(answered[number % len(answered)], "stale")
            case "answer" | "fail" if session.open:
                come_back(number, name == "fail")
        assert busy or len(session.waiting(Priority.PARTIAL, Priority.FIRST_PARTIAL)) <= 1
        assert all(len(job.request.audio) <= MAX_AUDIO_S * RATE_HZ for job in session.open.values())
        assert all("stale" not in str(result) for result in session.results)
    stopped += session.stream.speaking
    session.stop()
    while session.open:
        come_back(0, fails=False)
    ended = [result for result in session.results if not isinstance(result, Partial)]
    assert [result.utterance for result in ended] == list(range(1, len(ended) + 1))
    # The pieces of one long utterance, all but its last, do not end the speech. A failure
    # does not tell.
    finals = [result for result in ended if isinstance(result, Final)]
    failures = len(ended) - len(finals)
    ends = sum(final.ends_speech for final in finals)
    assert ends <= stopped <= ends + failures
    assert not session.stream.pending
    seen = 0
    flicker = Flicker()
    for result in session.results:  # no partial comes behind its utterance's end
        if isinstance(result, Partial):
            assert result.utterance == seen + 1 or result.utterance > seen
            flicker.update(result.utterance, result.stable, result.rest)
        else:
            seen = result.utterance
    assert flicker.retracted == 0
