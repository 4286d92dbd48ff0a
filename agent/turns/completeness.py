"""How much silence a turn needs to be over, by how finished it sounds.

Smart Turn hears the end of a turn in its melody. What it says is best right at the pause: the
longer the silence that it is given, the more finished anything sounds to it (of 131 cuts in
mid-sentence 41 % were above 0.5 after 32 ms of silence, 74 % after 1.5 s). So it is asked once
a pause, as early as can be, with the silence that it was trained on filled up.

It is not asked for a yes or a no: between "finished" and "unfinished" lies a wait that grows
with what is missing. The words help it out where they cannot be the end of anything.
"""

import math

from talkpath.agent.turns.profiles import TurnProfile

__all__ = ["is_unfinished", "required_silence_s"]

_UNFINISHED = 0.02  # as unfinished as it gets
# Weight of unfinished words beside the logit of Smart Turn (logistic regression on the set of
# `talkpath bench turns`: -1.9, where a unit of Smart Turn's logit weighs 0.4).
_WORDS_LOGIT = 4.0

# Articles, conjunctions, prepositions and the like that hardly ever end a turn, of the languages
# of the reference clips. Those that do end statements (in, on, over) are left out.
_OPEN_WORDS = frozenset(
    # English
    "a an the to of and or but at for from with by as is are was were be than if when while "
    "because my your his her its our their these those what every into i he she we they "
    # German
    "der die das ein eine einen dem den und oder aber weil dass mit von zu zum zur für bei ich "
    # French
    "le la les un une des du de et ou mais que qui dans avec pour par je à "
    # Spanish, Portuguese
    "el los las una unos y o pero con por para mi su em um uma os e do da dos das com meu "
    # Italian
    "il lo gli uno della delle ma con per che mio suo".split()
)
_OPEN_ENDINGS = ("...", "…", ",", ";", ":", "-", "\u2013")


def is_unfinished(text: str) -> bool:
    """Whether the words cannot be the end of a turn: a comma, dots, an article, a conjunction.

    Args:
        text: what was said, as Whisper writes it.
    """
    text = text.strip()
    if not text:
        return False
    if text.endswith(_OPEN_ENDINGS):
        return True
    if text.endswith("?"):  # "Where are you from?"
        return False
    return text.split()[-1].rstrip(".?!\"'").lower() in _OPEN_WORDS


def required_silence_s(
    completeness: float, profile: TurnProfile, stop_s: float, *, unfinished: bool = False
) -> float:
    """Seconds of silence after which the turn is over.

    The stop of speech alone from the threshold up, ``wait_s`` at the lower end, and in between
    the square root of the missing part on the scale of the logit: most of the gain in false
    cut-offs comes from short waits for what sounds almost finished.

    Args:
        completeness: Smart Turn's, 0 to 1.
        profile: threshold and longest wait.
        stop_s: seconds of silence after which speech counts as stopped: the least.
        unfinished: whether the words are (``is_unfinished``).
    """
    sound = _logit(completeness) - _WORDS_LOGIT * unfinished
    enough = _logit(profile.threshold)
    if sound >= enough:
        return stop_s
    lowest = _logit(_UNFINISHED)
    missing = 1.0 if enough <= lowest else min((enough - sound) / (enough - lowest), 1.0)
    return stop_s + max(profile.wait_s - stop_s, 0.0) * math.sqrt(missing)


def _logit(probability: float) -> float:
    bounded = min(max(probability, 0.005), 0.995)
    return math.log(bounded / (1 - bounded))
