"""What a peer that should be an Asterisk may do wrong."""

from talkpath.agent.errors import TalkpathError

__all__ = ["WrongMessage"]


class WrongMessage(TalkpathError):
    """A message that makes no sense in its protocol."""
