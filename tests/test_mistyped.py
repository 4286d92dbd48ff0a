"""What a user mistypes: settings, bots and models, and what is said of it."""

from pathlib import Path

import pytest

from talkpath.agent.config import Config, load_config
from talkpath.agent.errors import ConfigError, UnknownModel
from talkpath.agent.sections import ReplyConfig, VoiceConfig
from talkpath.bots.loader import load_bot
from talkpath.bots.models_command import models_of


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[whisper]\nmodell = 'base'", "there is no setting 'whisper.modell', did you mean"),
        ("[wisper]\nmodel = 'base'", "'wisper.model', did you mean 'whisper.model'?"),
        ("[whisper]\nbeam_size = 'big'", "whisper.beam_size is 'big'; it must be of type int"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "talkpath.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(environ={}, file=file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigError, match=r"WISPER_MODEL, did you mean 'TALKPATH_WHISPER_MODEL'\?"):
        load_config(environ={"TALKPATH_WISPER_MODEL": "base"})
    with pytest.raises(ConfigError, match=r"^TALKPATH_WHISPER_BEAM_SIZE: whisper\.beam_size is"):
        load_config(environ={"TALKPATH_WHISPER_BEAM_SIZE": "big"})


def test_a_bot_of_a_similar_name_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean assistant\\?"):
        load_bot("asistant")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(reply=ReplyConfig(model="qwen")), "no language model 'qwen'; known are smollm2-"),
        (Config(reply=ReplyConfig(model="base")), "no language model 'base'; known are smollm2-"),
        (Config(voice=VoiceConfig(model="base")), "no Piper voice 'base'; known are piper-en-us-"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_those_that_there_are(
    config: Config, message: str
) -> None:
    with pytest.raises(UnknownModel) as caught:
        models_of(config, ("whisper", "reply", "voice"))
    assert message in str(caught.value)
    assert "tiny.en" not in str(caught.value)
