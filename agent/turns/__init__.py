"""Turns: when a caller has finished, and what stops a bot that is speaking."""

from talkpath.agent.turns.backchannels import is_backchannel, word_count
from talkpath.agent.turns.barge_in import (
    Answer,
    Backchannel,
    BargeIn,
    BargeInEvent,
    Begin,
    Hold,
    Interrupt,
    Resume,
)
from talkpath.agent.turns.completeness import is_unfinished, required_silence_s
from talkpath.agent.turns.end_of_turn import Eager, End, EndOfTurn, Judge, TurnEvent, Withdraw
from talkpath.agent.turns.profiles import PROFILES, TurnProfile, turn_profile
from talkpath.agent.turns.turn_audio import TurnAudio

__all__ = [
    "PROFILES",
    "Answer",
    "Backchannel",
    "BargeIn",
    "BargeInEvent",
    "Begin",
    "Eager",
    "End",
    "EndOfTurn",
    "Hold",
    "Interrupt",
    "Judge",
    "Resume",
    "TurnAudio",
    "TurnEvent",
    "TurnProfile",
    "Withdraw",
    "is_backchannel",
    "is_unfinished",
    "required_silence_s",
    "turn_profile",
    "word_count",
]
