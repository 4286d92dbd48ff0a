"""The small models of a local reply and a local voice, for tests that run them.

They come from the model store, which `make test` fills; without them these tests are skipped.
"""

from pathlib import Path

import pytest

from talkpath.agent.models import ModelStore

__all__ = ["reply_model", "voice_model"]


def reply_model() -> Path:
    """Path of the GGUF file."""
    pytest.importorskip("xllamacpp")
    return _stored("smollm2-135m")


def voice_model() -> Path:
    """Path of the voice's .onnx file."""
    pytest.importorskip("piper")
    return _stored("piper-en-us-joe")


def _stored(name: str) -> Path:
    path = ModelStore().path(name)
    if path is None:
        pytest.skip(f"the model {name} is not here: talkpath models pull {name}")
    return path
