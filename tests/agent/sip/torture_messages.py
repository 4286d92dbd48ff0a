"""The 49 messages of RFC 4475, as its archive has them (appendix A), and what we make of each.

A message that ``parse_message`` refuses is met with silence: who sends it has no use for an
answer, and who wants to know how we take it shall not. One that it takes is passed on only where
what the edge reads of it can be read.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["TORTURE", "Torture", "torture_bytes"]

_FOLDER = Path(__file__).with_name("torture")


@dataclass(frozen=True, slots=True)
class Torture:
    """One message.

    Attributes:
        name: of its file, and in the RFC.
        why: what we make of it, and why.
        refused: a part of what ``parse_message`` says; empty where it takes the message.
        unreadable: properties that cannot be read, ``contact`` only where there is one.
    """

    name: str
    why: str
    refused: str = ""
    unreadable: frozenset[str] = frozenset()


def torture_bytes(name: str) -> bytes:
    """A message as it is sent."""
    return (_FOLDER / f"{name}.dat").read_bytes()


def _taken(name: str, why: str, *unreadable: str) -> Torture:
    return Torture(name, why, unreadable=frozenset(unreadable))


def _refused(name: str, refused: str, why: str) -> Torture:
    return Torture(name, why, refused)


TORTURE = (
    # 3.1.1 valid messages
    _taken("wsinv", "folded lines, blanks and short names everywhere are just SIP"),
    _refused("intmeth", "control character", "valid, but a zero would end a text in C behind us"),
    _taken("esc01", "escapes in a URI are the business of who owns it"),
    _taken("escnull", "an escaped zero stays escaped, so it harms nobody"),
    _taken("esc02", "a percent sign is a character of a method like others, and no escape"),
    _taken("lwsdisp", "no blank is needed between a name and its address"),
    _taken("longreq", "long, but within what we hold"),
    _taken("dblreq", "in a datagram, what follows the body's length is nobody's"),
    _taken("semiuri", "a semicolon belongs to the user part"),
    _taken("transports", "transports that we do not have are somebody else's hops"),
    _taken("mpart01", "a body of parts and zeros is bytes"),
    _taken("unreason", "a phrase may be in any script"),
    _taken("noreason", "a phrase may be empty"),
    # 3.1.2 invalid messages
    _taken("badinv01", "the top Via and Contact have empty parameters", "via", "contact"),
    _refused("clerr", "shorter than", "a body that was cut off"),
    _refused("ncl", "no number", "a negative length"),
    _taken("scalar02", "a CSeq beyond 32 bits; other numbers nobody asked for", "cseq"),
    _taken("scalarlg", "a response with a CSeq beyond 32 bits is nobody's", "cseq"),
    _taken("quotbal", "a quote that does not end hides where the address is", "to"),
    _taken("ltgtruri", "angle brackets around the target are of no URI", "target"),
    _refused("lwsruri", "neither a request", "blanks in the target: where it ends is a guess"),
    _refused("lwsstart", "neither a request", "two blanks in the first line"),
    _refused("trws", "neither a request", "blanks at the end of the first line"),
    _taken("escruri", "headers in the target could smuggle a Route", "target"),
    _taken("baddate", "a date without Greenwich is not looked at"),
    _taken("regbadct", "a contact whose parameters could be the URI's or its own", "contact"),
    _taken("badaspec", "blanks within angle brackets", "to"),
    _refused("baddn", "do not end", "the archive has it without the empty line"),
    _refused("badvers", "neither a request", "a version that we do not speak"),
    _refused("mismatch01", "another method", "who answers it answers one of two requests"),
    _refused("mismatch02", "another method", "the same for methods that nobody knows"),
    _refused("bigcode", "three digits", "a status of ten digits is no status"),
    # 3.2 to 3.4: transactions, applications, older SIP
    _taken("badbranch", "a branch of the cookie alone is the edge's to judge"),
    _taken("insuf", "without them there is no call", "call_id", "from_", "to"),
    _taken("unkscm", "a scheme that nobody knows cannot be called", "target"),
    _taken("novelsc", "a scheme that is known, and not SIP's, cannot be called", "target"),
    _taken("unksm2", "callers without SIP or telephone are nobody's", "from_", "to", "contact"),
    _taken("bext01", "what extensions are required, the worker's stack tells"),
    _taken("invut", "what kind of body it is, the worker's stack tells"),
    _taken("regaut01", "an authentication that nobody knows is as good as none"),
    _refused("multi01", "only one of", "of two From and two Call-ID each hop takes another"),
    _refused("mcl01", "no number", "two lengths that differ"),
    _taken("bcast", "a response from a broadcast address is to no request of ours"),
    _taken("zeromf", "no hops left: the edge refuses it, or answers if it is to us"),
    _taken("cparam01", "a parameter after an address without brackets is the header's"),
    _taken("cparam02", "a parameter within brackets is the URI's"),
    _taken("regescrt", "headers in a contact are refused: they could be a route", "contact"),
    _taken("sdp01", "what is acceptable in return, the worker's stack tells"),
    _taken("inv2543", "of the year 1999: no branch, no brackets, no lengths"),
)
