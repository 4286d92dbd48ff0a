"""Languages: Whisper's codes and the English names that OpenAI's answers have.

The names are those of the table in openai/whisper, ``tokenizer.py``.
"""

from talkpath.agent.errors import ConfigError

__all__ = ["check_setting", "language_code", "language_name"]

_NAMES = dict(
    pair.split(":")
    for pair in (
        "af:afrikaans am:amharic ar:arabic as:assamese az:azerbaijani ba:bashkir be:belarusian "
        "bg:bulgarian bn:bengali bo:tibetan br:breton bs:bosnian ca:catalan cs:czech cy:welsh "
        "da:danish de:german el:greek en:english es:spanish et:estonian eu:basque fa:persian "
        "fi:finnish fo:faroese fr:french gl:galician gu:gujarati ha:hausa haw:hawaiian he:hebrew "
        "hi:hindi hr:croatian ht:haitian_creole hu:hungarian hy:armenian id:indonesian "
        "is:icelandic it:italian ja:japanese jw:javanese ka:georgian kk:kazakh km:khmer "
        "kn:kannada ko:korean la:latin lb:luxembourgish ln:lingala lo:lao lt:lithuanian "
        "lv:latvian mg:malagasy mi:maori mk:macedonian ml:malayalam mn:mongolian mr:marathi "
        "ms:malay mt:maltese my:myanmar ne:nepali nl:dutch nn:nynorsk no:norwegian oc:occitan "
        "pa:punjabi pl:polish ps:pashto pt:portuguese ro:romanian ru:russian sa:sanskrit "
        "sd:sindhi si:sinhala sk:slovak sl:slovenian sn:shona so:somali sq:albanian sr:serbian "
        "su:sundanese sv:swedish sw:swahili ta:tamil te:telugu tg:tajik th:thai tk:turkmen "
        "tl:tagalog tr:turkish tt:tatar uk:ukrainian ur:urdu uz:uzbek vi:vietnamese yi:yiddish "
        "yo:yoruba yue:cantonese zh:chinese"
    ).split()
)
_NAMES = {code: name.replace("_", " ") for code, name in _NAMES.items()}
_CODES = {name: code for code, name in _NAMES.items()}


def check_setting(language: str | None) -> None:
    """Refuse a language that no Whisper model knows, before one is loaded.

    Args:
        language: a code, a tag such as ``en-US``, ``auto`` or None.

    Raises:
        ConfigError: it is none of these.
    """
    if language is None or language == "auto" or language.lower().startswith("en"):
        return  # English models take whatever begins so
    if language.lower().split("-")[0] not in _NAMES:
        raise ConfigError(f"Whisper does not know the language {language!r}")


def language_name(code: str) -> str:
    """English name of a language in small letters, or the code itself where there is none."""
    return _NAMES.get(code, code)


def language_code(language: str) -> str:
    """Whisper's code for an English name; anything else comes back as it is."""
    return _CODES.get(language.strip().lower(), language.strip())
