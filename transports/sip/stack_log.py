"""What the SIP stack says: its log goes into ours, and its trace tells what calls negotiated.

The stack's events tell neither a call's codec nor whether its audio is encrypted; the messages in
its trace do.
"""

import logging
import re
import time
from collections.abc import Callable

from loguru import logger

__all__ = ["StackLog"]

_LINES = 20
_WITHIN_S = 10.0
"""So many lines in that time; a peer that sends rubbish must not fill the disk."""

_HARMLESS = ("failed to decrypt RTCP packet", "invalid ts_arrive header")
"""What the stack says of packets that peers may send, and that it then does without."""

_CALL_ID = re.compile(r"^(?:call-id|i)\s*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


class StackLog(logging.Handler):
    """Takes the log of the stack as long as it is open.

    Warnings and worse go into our log, the rest nowhere; SIP messages are only looked at, for they
    carry passwords' digests and keys of audio.

    Args:
        described: told of each session description that a peer sent: Call-ID, and the message
            with it. Called on a thread of the stack's.
    """

    def __init__(self, described: Callable[[str, str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._described = described
        self._since_s = 0.0
        self._lines = 0

    def open(self) -> None:
        """Take the log, and keep it from all others."""
        for name, level in (("baresip", logging.WARNING), ("baresip.native.sip", logging.DEBUG)):
            log = logging.getLogger(name)
            log.setLevel(level)
            log.propagate = False
            log.addHandler(self)

    def close(self) -> None:
        """Take it no more."""
        for name in ("baresip", "baresip.native.sip"):
            logging.getLogger(name).removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line, or one message below a line that tells its direction."""
        text = record.getMessage()
        if record.name != "baresip.native.sip":
            self._forward(record.levelname, text)
            return
        call_id = _CALL_ID.search(text)
        if text.startswith("RX") and "\nm=audio " in text and call_id is not None:
            self._described(call_id[1], text)

    def _forward(self, level: str, text: str) -> None:
        now = time.monotonic()
        if now - self._since_s > _WITHIN_S:
            if self._lines > _LINES:
                logger.warning("SIP stack: {} lines were left out", self._lines - _LINES)
            self._since_s, self._lines = now, 0
        self._lines += 1
        if self._lines <= _LINES:
            harmless = any(part in text for part in _HARMLESS)
            logger.log("DEBUG" if harmless else level, "SIP stack: {}", text.strip())
