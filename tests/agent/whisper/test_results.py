"""Results: values that are put together and moved in time."""

from talkpath.agent.whisper.results import Partial, Segment, Transcript, Word

ONE = Segment(1.0, 2.0, "one", (Word(1.0, 2.0, "one", 0.9),))
TWO = Segment(2.0, 3.5, "two", (Word(2.5, 3.5, "two", 0.8),))


def test_a_transcripts_words_are_those_of_its_segments() -> None:
    transcript = Transcript(text="one two", segments=(ONE, TWO))
    assert [word.text for word in transcript.words] == ["one", "two"]
    assert Transcript(text="one", segments=(Segment(0, 1, "one"),)).words == ()


def test_a_segment_moves_with_its_words_and_never_before_zero() -> None:
    later = TWO.shifted(10.0)
    assert (later.start_s, later.end_s, later.text) == (12.0, 13.5, "two")
    assert later.words == (Word(12.5, 13.5, "two", 0.8),)
    assert ONE.shifted(-1.5) == Segment(0.0, 0.5, "one", (Word(0.0, 0.5, "one", 0.9),))


def test_a_partials_text_is_what_is_stable_and_the_rest() -> None:
    assert Partial(1, "one two", "three", "en", 2.0).text == "one two three"
    assert Partial(1, "", "three", "en", 2.0).text == "three"


def test_results_can_be_kept_in_sets() -> None:
    results = {Transcript(text="one", language_probabilities={"en": 0.9, "de": 0.1})}
    assert Transcript(text="one", language_probabilities={"en": 0.9, "de": 0.1}) in results
