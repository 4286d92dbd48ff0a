"""Settings from defaults, file, environment and flags."""

from pathlib import Path

import pytest

from talkpath.agent.config import Config, ReplyConfig, ServeConfig, load_config
from talkpath.agent.errors import ConfigError


def _file(folder: Path, text: str) -> Path:
    file = folder / "talkpath.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_given_is_the_default() -> None:
    assert load_config(environ={}) == Config()


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = _file(
        tmp_path,
        '[whisper]\nmodel = "file"\nlanguage = "de"\nworkers = 3\n[server]\nport = 1\n',
    )
    environ = {"TALKPATH_WHISPER_MODEL": "environment", "TALKPATH_WHISPER_LANGUAGE": "fr"}
    config = load_config(
        {"whisper.model": "flag", "whisper.workers": None}, environ=environ, file=file
    )
    assert config.whisper.model == "flag"
    assert config.whisper.language == "fr"
    assert config.whisper.workers == 3
    assert config.server.port == 1
    assert config.speech == Config().speech


def test_the_environment_gives_numbers_and_lists() -> None:
    config = load_config(
        environ={
            "TALKPATH_SERVER_PORT": "8080",
            "TALKPATH_SPEECH_THRESHOLD": "0.25",
            "TALKPATH_WHISPER_LANGUAGES": "en,de",
            "TALKPATH_SERVER_ICE_SERVERS": "stun:a.example:3478, turn:b.example",
        }
    )
    assert config.server.port == 8080
    assert config.speech.threshold == 0.25
    assert config.whisper.languages == ("en", "de")
    assert config.server.ice_servers == ("stun:a.example:3478", "turn:b.example")


@pytest.mark.parametrize(("text", "flag"), [("true", True), ("1", True), ("No", False)])
def test_the_environment_switches_things_on_and_off(text: str, flag: bool) -> None:
    config = load_config(environ={"TALKPATH_SERVE_INSECURE_NO_AUTH": text})
    assert config.serve.insecure_no_auth is flag


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_config(environ={"TALKPATH_WHISPER_MODEL": ""}) == Config()


def test_openai_variables_count_where_ours_are_not_set() -> None:
    environ = {"OPENAI_BASE_URL": "http://one/v1", "OPENAI_API_KEY": "secret"}
    reply = load_config(environ=environ).reply
    assert (reply.url, reply.api_key) == ("http://one/v1", "secret")
    environ["TALKPATH_REPLY_URL"] = "http://two/v1"
    assert load_config(environ=environ).reply.url == "http://two/v1"


def test_openai_variables_go_over_nothing_and_their_key_to_nobody_else(tmp_path: Path) -> None:
    environ = {"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_KEY": "secret"}
    file = _file(tmp_path, "[reply]\nurl = 'http://gpu-1/v1'\napi_key = 'own'\n")
    reply = load_config(environ=environ, file=file).reply
    assert (reply.url, reply.api_key) == ("http://gpu-1/v1", "own")
    for flags, variables in (
        ({"reply.url": "http://two/v1"}, {}),
        ({}, {"TALKPATH_REPLY_URL": "http://api.openai.com.example.org/v1"}),
        ({"reply.url": "http://[two"}, {}),
    ):
        reply = load_config(flags, environ={**environ, **variables}).reply
        assert (reply.url != environ["OPENAI_BASE_URL"], reply.api_key) == (True, None)
    flags = {"reply.url": "https://api.openai.com/v1"}
    assert load_config(flags, environ={"OPENAI_API_KEY": "secret"}).reply.api_key == "secret"


def test_a_key_does_not_show_in_the_settings_text() -> None:
    assert "secret" not in repr(ReplyConfig(api_key="secret"))
    assert "secret" not in repr(ServeConfig(api_keys=("secret",)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[serve]\napi_keys = ['4711', 4712]\n", r"serve\.api_keys"),
        ("[serve]\napi_keys = 4711\n", r"serve\.api_keys"),
        ("[reply]\napi_key = 4711\n", r"reply\.api_key"),
    ],
)
def test_a_key_of_a_wrong_type_is_not_repeated(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has a wrong value; it must be") as caught:
        load_config(environ={}, file=_file(tmp_path, text))
    assert "471" not in str(caught.value)


def test_openais_key_goes_to_openais_voice_alone() -> None:
    environ = {"OPENAI_API_KEY": "secret", "TALKPATH_VOICE_SERVICE": "openai"}
    assert load_config(environ=environ).voice.api_key == "secret"
    assert load_config(environ={"TALKPATH_VOICE_SERVICE": "openai"}).voice.api_key is None
    environ["TALKPATH_VOICE_URL"] = "http://gpu-1/v1"
    assert load_config(environ=environ).voice.api_key is None


def test_options_are_a_table_in_a_file_and_json_in_the_environment(tmp_path: Path) -> None:
    file = _file(tmp_path, "[voice.options]\nspeed = 1.5\nstyle = 'calm'\n")
    assert load_config(environ={}, file=file).voice.options == {"speed": 1.5, "style": "calm"}
    environ = {"TALKPATH_VOICE_OPTIONS": '{"speed": 2}'}
    assert load_config(environ=environ, file=file).voice.options == {"speed": 2}
    with pytest.raises(ConfigError, match="as JSON"):
        load_config(environ={"TALKPATH_VOICE_OPTIONS": "speed=2"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[whisper\n", "cannot read the settings file"),
        ("model = 1\n", "'model' must stand in a section"),
        ("[whisper]\nmodle = 'base'\n", r"no setting 'whisper\.modle'"),
        ("[wisper]\nmodel = 'base'\n", r"no setting 'wisper\.model'"),
        ("[whisper]\nmodel = 1\n", r"whisper\.model is 1; it must be of type str"),
        ("[whisper]\nworkers = true\n", "must be of type int"),
        ("[whisper]\nworkers = 1.5\n", "must be of type int"),
        ("[server]\nport = '80x'\n", r"server\.port is '80x'"),
        ("[server]\nport = 70000\n", "between 0 and 65535"),
        ("[server]\nice_servers = [1]\n", "a list of strings"),
        ("[serve]\ninsecure_no_auth = 2\n", "must be of type bool"),
        ("[serve]\ntls_key = 'key.pem'\n", "of no use without tls_cert"),
        ("[server]\ntransport = 'pigeon'\n", "webrtc, websocket, sip or audiosocket"),
        ("[whisper]\ndevice = 'tpu'\n", "auto, cpu or cuda"),
        ("[whisper]\ntask = 'summarise'\n", "transcribe or translate"),
        ("[whisper]\nlanguage_mode = 'once'\n", "utterance or stream"),
        ("[whisper]\nbeam_size = 0\n", "between 1 and 10"),
        (
            "[whisper]\nservers = ['gpu-1']\n",
            r"whisper\.servers: 'gpu-1' is no URL .*ws://HOST:PORT",
        ),
        (
            "[whisper]\nservers = ['ws://a', 'ws://b:x']\n",
            r"whisper\.servers: 'ws://b:x' is no URL",
        ),
        ("[whisper]\napi_key = 'geheim-ü'\n", r"whisper\.api_key: an API key is visible ASCII"),
        ("[speech]\nthreshold = 1\n", "between 0 and 1"),
        ("[reply]\nurl = 'gpu-1:8080/v1'\n", r"reply\.url is .*; it must begin with http://"),
        ("[reply]\nfallback_api_key = 'k'\n", "of no use without fallback_url"),
        ("[reply]\nfallback_model = 'qwen'\n", r"fallback_model needs reply\.url"),
        ("[reply]\nfirst_word_s = 0\n", r"reply\.first_word_s must lie between"),
        ("[voice]\nservice = 'espeak'\n", "piper, openai or package.module:ClassName"),
        ("[voice]\nurl = 'tts.example.org'\n", r"voice\.url is .*; it must begin with http://"),
        ("[voice.options]\nspeeds = [1, 2]\n", r"voice\.options has a wrong value; .* a table"),
        ("[speech]\nearly_pause_s = 0.5\n", "at least 0.032 and speech.stop_s at least that"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(environ={}, file=_file(tmp_path, text))


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_an_unreadable_file_is_explained(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "talkpath.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot read the settings file"):
        load_config(environ={}, file=file)


def test_servers_are_named_by_the_urls_of_their_websockets_or_of_their_pages() -> None:
    urls = ("ws://gpu-1:8000", "wss://gpu-2", "http://gpu-3:8000", "https://gpu-4/websocket")
    config = load_config(environ={"TALKPATH_WHISPER_SERVERS": ",".join(urls)})
    assert config.whisper.servers == urls


def test_an_unknown_flag_is_a_mistake_too() -> None:
    with pytest.raises(ConfigError, match="no setting"):
        load_config({"server.porth": 1}, environ={})
