"""The line that the log has of a call at its end."""

import pytest

from talkpath.transports.sip.leg import CallQuality, Ended
from talkpath.transports.sip.session import _figures, _why


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (404, "404 Not Found", "404 Not Found"),
        (486, "refused with 486", "refused with 486"),
        (603, "busy", "603 busy"),
        (0, "the peer hung up", "the peer hung up"),
    ],
)
def test_the_reason_stands_there_once(status: int, reason: str, line: str) -> None:
    assert _why(Ended("peer", status, reason, CallQuality())) == line


def test_a_call_without_audio_has_no_score() -> None:
    codec = "PCMU/8000"
    assert "MOS" not in _figures(CallQuality(codec=codec))
    assert ", MOS 4.40, 0.00 % lost," in _figures(CallQuality(codec=codec, mos=4.4))
