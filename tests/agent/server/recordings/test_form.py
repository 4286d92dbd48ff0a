"""The fields of a form become a wish, or one is refused by its name."""

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkpath.agent.server.protocols.fields import Refused
from talkpath.agent.server.recordings.form import TranscriptionWish, read_form
from talkpath.agent.server.recordings.languages import language_code, language_name
from talkpath.agent.whisper import DecodeOptions, WhisperEngine
from tests.agent.whisper.helpers import backend, engine

USUAL = DecodeOptions(languages=("en", "de"), prompt="usual", hotwords="words")


@pytest.fixture
async def multilingual() -> AsyncIterator[WhisperEngine]:
    async with engine("base") as running:
        yield running


async def test_nothing_given_is_what_the_server_does_usually(multilingual: WhisperEngine) -> None:
    for empty in ((), (("language", ""), ("prompt", ""), ("temperature", ""))):
        wish = read_form(empty, multilingual, USUAL)
        assert wish == TranscriptionWish(language=None, options=USUAL, segments=True)


@pytest.mark.parametrize(
    ("fields", "language", "languages"),
    [
        ([("language", "auto")], None, ("en", "de")),
        ([("language", "fr")], "fr", ()),
        ([("language", " French ")], "fr", ()),
        ([("language", "pt-BR")], "pt", ()),
        ([("languages[]", "fr"), ("languages", "spanish")], None, ("fr", "es")),
        ([("language", "auto"), ("languages[]", "fr")], None, ("fr",)),
        ([("language", "it"), ("languages[]", "fr")], "it", ()),
    ],
)
async def test_languages(
    multilingual: WhisperEngine,
    fields: Sequence[tuple[str, str]],
    language: str | None,
    languages: tuple[str, ...],
) -> None:
    wish = read_form(fields, multilingual, USUAL)
    assert (wish.language, wish.options.language, wish.options.languages) == (
        language,
        language,
        languages,
    )


async def test_a_temperature_is_the_only_one_but_for_zero(multilingual: WhisperEngine) -> None:
    def temperatures(text: str) -> tuple[float, ...]:
        return read_form([("temperature", text)], multilingual, USUAL).options.temperatures

    assert temperatures("0.4") == (0.4,)
    assert temperatures("1") == (1.0,)
    assert temperatures("0") == temperatures("0.0") == USUAL.temperatures


async def test_lists_are_repeated_fields(multilingual: WhisperEngine) -> None:
    fields = [("keywords[]", "Ann"), ("keywords", "Bob"), ("include[]", "logprobs")]
    wish = read_form(fields, multilingual, USUAL)
    assert wish.options.hotwords == "Ann, Bob"
    assert wish.logprobs and wish.options.word_timestamps


async def test_a_threshold_is_the_one_of_the_chunking_strategy(
    multilingual: WhisperEngine,
) -> None:
    for fields in (
        [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "0.7")],
        [("chunking_strategy", '{"type": "server_vad", "threshold": 0.7}')],
    ):
        assert read_form(fields, multilingual, USUAL).threshold == 0.7


def test_every_language_of_the_model_has_a_name() -> None:
    names = {code: language_name(code) for code in backend("base").languages}
    assert all(name != code for code, name in names.items())
    assert len(set(names.values())) == len(names)
    for code, name in names.items():
        assert language_code(name) == language_code(name.title()) == code
    assert language_name("xx") == language_code("xx") == "xx"


NAMES = [
    *("language", "languages[]", "prompt", "keywords[]", "response_format", "temperature"),
    *("timestamp_granularities[]", "stream", "include[]", "chunking_strategy", "diarize"),
    *("chunking_strategy[type]", "chunking_strategy[threshold]", "chunking_strategy[", "model"),
]
VALUES = ["json", "verbose_json", "true", "0.5", "word", "logprobs", "auto", "en", "{}", "[]"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES) | st.text(max_size=9), st.sampled_from(VALUES) | st.text())
    )
)
def test_whatever_is_given_only_refusals_come_out(fields: list[tuple[str, str]]) -> None:
    running = WhisperEngine(backend("tiny.en"))
    try:
        read_form(fields, running, DecodeOptions())
    except Refused as refused:
        assert refused.param is None or len(refused.param) <= 100
    finally:
        running.close()
