"""Profiles: how patient a bot is, in numbers."""

from dataclasses import dataclass, replace

from talkpath.agent.config import TurnConfig

__all__ = ["PROFILES", "TurnProfile", "turn_profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnProfile:
    """When a turn is over, and what stops a bot that is speaking.

    Attributes:
        threshold: completeness, 0 to 1, from which a turn is over at the stop of speech.
        wait_s: seconds of silence after which a turn is over however unfinished it sounds; in
            between, the less finished, the longer (``required_silence_s``).
        eager: whether the reply is begun on the speculative final.
        min_words: words of a partial that stop a bot that is speaking; what a final says counts
            from one word on, unless it is a backchannel.
        grace_s: seconds of speech for which a bot speaks on before it falls silent to listen; 0
            falls silent at the onset.
    """

    threshold: float
    wait_s: float
    eager: bool
    min_words: int
    grace_s: float


# The first two numbers of each are a choice on the curve that `talkpath bench turns` draws:
# false cut-offs against delay. Half a second of grace lets most backchannels pass unheard.
PROFILES = {
    "snappy": TurnProfile(threshold=0.5, wait_s=0.7, eager=True, min_words=1, grace_s=0.0),
    "balanced": TurnProfile(threshold=0.9, wait_s=2.0, eager=False, min_words=2, grace_s=0.0),
    "patient": TurnProfile(threshold=0.97, wait_s=3.0, eager=False, min_words=3, grace_s=0.5),
}


def turn_profile(config: TurnConfig, usual: str = "balanced") -> TurnProfile:
    """The profile that the settings name, with what they override.

    Args:
        config: the settings.
        usual: the bot's own profile, where the settings name none.

    Raises:
        KeyError: there is no profile ``usual``.
    """
    own = {
        name: value
        for name in ("threshold", "wait_s", "eager", "min_words", "grace_s")
        if (value := getattr(config, name)) is not None
    }
    return replace(PROFILES[usual if config.profile == "auto" else config.profile], **own)
