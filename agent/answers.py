"""What a caller's words mean: yes or no, a farewell, a wish to hear it again. English.

A recognizer's text comes in with punctuation, hesitation and politeness ("Um, yeah, sure."), may
break off in mid-sentence ("Okay, and the"), and may be no answer at all ("No idea."). Therefore
phrases count where they are all of a clause, or begin or end it, and not wherever they occur. A
function that is not sure says so: to ask again is cheap, and a wrong answer is written down.
Numbers are in ``talkpath.agent.spoken_numbers``, choices in ``talkpath.agent.spoken_choices``.
"""

import re
from collections.abc import Sequence

__all__ = [
    "FILLERS",
    "UNSURE",
    "clauses",
    "clearly_yes",
    "declines",
    "listens",
    "only_refuses",
    "refuses",
    "says_farewell",
    "sequence",
    "wants_repeat",
    "words",
    "yes_no",
]

FILLERS = ("oh", "um", "uh", "er", "ah", "hm", "hmm", "mhm", "mm", "uh huh", "well")
"""Words that say nothing by themselves."""
UNSURE = (
    "i'm not sure",
    "i am not sure",
    "not sure",
    "unsure",
    "i don't know",
    "i do not know",
    "don't know",
    "do not know",
    "dunno",
    "no idea",
    "no clue",
    "no opinion",
    "no comment",
    "can't say",
    "cannot say",
    "can't remember",
    "don't remember",
    "hard to say",
    "rather not",
    "prefer not",
    "yes and no",
)
_REFUSALS = (*UNSURE, "next question", "none of your business", "no answer")
_REFUSAL = re.compile(
    r"(?:i have |i've )?(?:(?:absolutely )?no (?:idea|clue|opinion|comment|answer))"
    r"|(?:i )?(?:really )?(?:dunno|(?:don't|do not|can't) (?:know|remember|say))(?: really)?"
    r"|(?:i'm |i am )?not sure"
    r"|(?:i |i'd |i would )?(?:rather|prefer) not(?: to)?(?: say| answer)?(?: that| it)?"
    r"|(?:i )?(?:skip|pass)(?: that| this| it)?(?: one| question)?"
    r"|next question"
)
_REPEAT = re.compile(
    r"(?:(?:can|could|would|will) you )?(?:please )?"
    r"(?:repeat(?: that| it| the question)?|say (?:that|it)(?: once more| one more time)?)"
    r"(?: once more| again)?(?: for me)?"
    r"|(?:once|one time) (?:more|again)|come again|again"
    r"|pardon(?: me)?|i beg your pardon|excuse me|sorry|what|huh"
    r"|what did you(?: just)? say|what was (?:that|the question|it)(?: again)?"
    r"|i (?:didn't|did not|couldn't|could not) (?:hear|catch|understand|get)"
    r"(?: you| that| it| the question)?"
)
_YES = ("yes", "yeah", "yep", "yup", "yea", "yah")
_AGREES = (
    *_YES,
    "sure",
    "of course",
    "absolutely",
    "definitely",
    "certainly",
    "exactly",
    "indeed",
    "affirmative",
    "ok",
    "okay",
    "all right",
    "alright",
    "right",
    "correct",
    "that's right",
    "that is right",
    "that's correct",
    "that is correct",
    "sounds good",
    "sounds right",
    "that works",
    "go ahead",
    "please do",
)
_THANKS = (
    *("thank you", "thank you very much", "thank you so much", "thank you for your help"),
    *("thanks", "thanks a lot", "many thanks"),
)
_COURTESY = ("please", *_THANKS)
_PRAISE = tuple(
    f"{start}{word}"
    for start in ("", "that's ", "that is ", "that would be ")
    for word in ("fine", "good", "great", "lovely", "perfect", "wonderful")
)
_CONSENTS = ("do it", "do that", "do so", *_PRAISE)
"""What may follow a yes, and is none by itself."""
_SOFT = (
    *("fine", "perfect", "good", "great", "true", "mhm", "uh huh", "no problem", "why not"),
    *("i think so", "i guess so", "i believe so"),
)
"""Yes to a question whose answer costs little."""
_LINKS = ("it's", "it is", "that's", "that is", "very", "just")
_I_DO = re.compile(r"(?:i|we) (?:do|did|have|am|was|were|would|can|will)(?: so)?")
_NEUTRAL = (
    *("no doubt about it", "no doubt", "no worries", "no wonder", "no matter", "no one"),
    *("never mind", "don't mind", "do not mind", "not bad", "not too bad", "not so bad"),
)
"""Not a no, though there is one in it."""
_TAG = re.compile(r"\b(?:no|yes|yeah|right|okay|ok|correct)\s*\?")
"""A question at the end of a sentence, "It was late, no?", is no answer."""
_NO = ("no", "nope", "nah")
_WRONG = ("wrong", "incorrect", "negative", "false")
_PARTING = (
    *("bye", "bye bye", "goodbye", "good bye", "that's all", "that is all", "that's it"),
    *("that was all", "that was it", "that will be all", "that'll be all", "nothing else"),
    *("nothing more", "have a nice day", "have a good day", "have a good one", "you too"),
    *("see you", "see you then", "see you soon", "see you tomorrow"),
)
_DECLINES = (*_NO, "not today", "i'm good", "i am good", "i'm fine", "i'm done", "not really")


def words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation; hyphens part words."""
    plain = text.casefold().replace("\u2019", "'")
    return [word.strip("'") for word in re.findall(r"[\w']+", plain) if word.strip("'")]


def clauses(text: str) -> list[str]:
    """The words of each part of a text between punctuation marks, or before and after "but"."""
    parts = re.split(r"[.,:](?!\d)|[;!?\u2026\u2014]|\s-\s|\bbut\b", text.casefold())
    return [" ".join(spoken) for part in parts if (spoken := words(part))]


def sequence(*groups: Sequence[str]) -> str:
    """A regular expression for phrases of these groups in any number and order."""
    phrases = sorted({phrase for group in groups for phrase in group}, key=len, reverse=True)
    return rf"(?:(?:{'|'.join(map(re.escape, phrases))})(?:\s|$))*"


_ASSENT = re.compile(sequence(FILLERS, _AGREES, _COURTESY, _SOFT, _LINKS))
_LISTENS = re.compile(sequence(FILLERS, _AGREES, _COURTESY))
_REPLY = re.compile(sequence(FILLERS, _AGREES, _COURTESY, _CONSENTS, _PARTING, _DECLINES))


def yes_no(text: str) -> bool | None:
    """Whether it is a yes or a no; None if it is neither, or both."""
    if _has_any(words(text), UNSURE):
        return None
    said = [_without(clause, _NEUTRAL) for clause in clauses(_TAG.sub(".", text))]
    meanings = set()
    for clause in filter(None, said):
        meanings |= _meanings(clause)
    if not meanings and said:
        short = [clause for clause in said if not _ASSENT.fullmatch(clause)]
        if len(short) == 1 and _I_DO.fullmatch(_without(short[0], FILLERS)):
            return True
    return meanings.pop() if len(meanings) == 1 else None


def _meanings(clause: str) -> set[bool]:
    """What a clause says: yes, no, both or nothing."""
    found = set()
    if _ASSENT.fullmatch(clause) and _has_any(clause.split(), (*_AGREES, *_SOFT)):
        found.add(True)
    spoken = _without(clause, (*FILLERS, "no problem", "why not")).split()
    first_and_last = {*spoken[:1], *spoken[-1:]}
    if first_and_last.intersection(_YES):
        found.add(True)
    if first_and_last.intersection(_NO) or set(spoken[-1:]).intersection(_WRONG):
        found.add(False)
    if any(word in ("not", "never", "cannot") or word.endswith("n't") for word in spoken):
        found.add(False)
    return found


def clearly_yes(utterances: Sequence[str], verb: str = "") -> bool:
    """Whether somebody said yes and nothing else: no correction, no condition, no question.

    Args:
        utterances: all that was said. Each must be whole, and the first words the yes.
        verb: what was asked for, so that "Yes, book it" is a yes to "Shall I book it?" too.
    """
    asked = [
        f"{start}{verb}{what}"
        for start in ("", "go ahead and ")
        for what in ("", " it", " that", " this", " the appointment", " my appointment")
        if verb
    ]
    whole = sequence(_AGREES, _COURTESY, _CONSENTS, asked)
    lead = sequence(FILLERS, _PRAISE)
    said = [" ".join(words(text)) for text in utterances]
    yes = rf"{lead}(?=(?:{'|'.join(map(re.escape, _AGREES))})\b){whole}"
    return (
        not any("?" in text for text in utterances)
        and all(re.fullmatch(lead + whole, text) for text in said)
        and bool(re.fullmatch(yes, " ".join(filter(None, said))))
    )


def listens(text: str) -> bool:
    """Whether somebody only shows to be listening, or agrees."""
    return bool(_LISTENS.fullmatch(" ".join(words(text))))


def says_farewell(text: str) -> bool:
    """Whether somebody says goodbye or thanks, and nothing else."""
    said = " ".join(words(text))
    return bool(_REPLY.fullmatch(said)) and _has_any(said.split(), (*_PARTING, *_THANKS))


def declines(text: str) -> bool:
    """Whether somebody says no to an offer, and nothing else."""
    said = " ".join(words(text))
    return bool(_REPLY.fullmatch(said)) and _has_any(said.split(), _DECLINES)


def refuses(text: str) -> bool:
    """Whether somebody does not know, or does not want to say, whatever else they say."""
    return _has_any(words(text), _REFUSALS) or only_refuses(text)


def only_refuses(text: str) -> bool:
    """Whether somebody does not know or want to say, and says nothing else."""
    said = _without(" ".join(words(text)), (*FILLERS, *_COURTESY, "sorry"))
    return bool(_REFUSAL.fullmatch(said))


def wants_repeat(text: str) -> bool:
    """Whether somebody asks to hear it again, and says nothing else."""
    said = " ".join(words(text))
    rest = _without(said, (*FILLERS, *_COURTESY, "sorry", "excuse me"))
    return bool(_REPEAT.fullmatch(rest)) or said in ("sorry", "excuse me")


def _has_any(spoken: Sequence[str], phrases: Sequence[str]) -> bool:
    text = f" {' '.join(spoken)} "
    return any(f" {phrase} " in text for phrase in phrases)


def _without(clause: str, phrases: Sequence[str]) -> str:
    """A clause with phrases taken out, longest first."""
    text = f" {clause} "
    for phrase in sorted(phrases, key=len, reverse=True):
        while f" {phrase} " in text:
            text = text.replace(f" {phrase} ", " ")
    return text.strip()
