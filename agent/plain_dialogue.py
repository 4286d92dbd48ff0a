"""A conversation as every chat template takes it: user and assistant in turn, the user first.

Templates of Gemma, Mistral and others refuse all else, and their servers answer 400 for as long
as it is part of the conversation: a greeting, two prompts to a silent caller, or a question that
was asked again because no answer came.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["OPENING", "plain_dialogue"]

OPENING = "(The call begins.)"
"""What the user said before the assistant's greeting."""


def plain_dialogue(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put messages of the same role that stand side by side into one; nothing is left out.

    Args:
        messages: OpenAI's, oldest first. Calls of tools and their results stay as they are, but
            for the words before a call, which go into its message.
    """
    plain: list[dict[str, Any]] = []
    for message in messages:
        role, before = message["role"], plain[-1] if plain else {}
        if role == before.get("role") != "tool" and not before.get("tool_calls"):
            content = _joined(before.get("content"), message.get("content"))
            plain[-1] = {**before, **message, "content": content}
            continue
        if role == "assistant" and all(each["role"] == "system" for each in plain):
            plain.append({"role": "user", "content": OPENING})
        plain.append(dict(message))
    return plain


def _joined(one: Any, other: Any) -> Any:
    if not one or not other:
        return one or other
    if isinstance(one, str) and isinstance(other, str):
        return f"{one}\n{other}"
    return [*_parts(one), *_parts(other)]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
