"""Counted: numbers of things, for the log."""

__all__ = ["counted"]


def counted(number: int, thing: str) -> str:
    """``1 key``, ``2 keys``.

    Args:
        number: how many.
        thing: one of them; its plural has an s.
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"
