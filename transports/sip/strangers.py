"""Who was met with silence: told in the log, so that who set this up finds out."""

from loguru import logger

from talkpath.agent.sip.edge_actions import Silence

__all__ = ["Strangers"]

_WHY = {
    "stranger": "its address is in no network of sip.allow, and of no trunk (it got no "
    "answer); --sip-allow NETWORK lets it in",
    "scanner": "it says that it is a scanner (it got no answer)",
    "rate": "it calls too often (it got no answer)",
    "locked": "too many wrong passwords (it got no answer)",
    "password": "its password is wrong",
}
_MOST = 100


class Strangers:
    """Tells of an address once, and of a hundred of them at most: no flood shall fill the log."""

    def __init__(self) -> None:
        self._met: set[str] = set()

    def met(self, silence: Silence) -> None:
        """Somebody's call was not taken."""
        if silence.address not in self._met and len(self._met) < _MOST:
            self._met.add(silence.address)
            why = _WHY.get(silence.why, silence.why)
            logger.warning("a call from {} was not taken: {}", silence.address, why)
