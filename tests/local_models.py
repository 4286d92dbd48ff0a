"""The small models of a local reply and a local voice, for tests that run them.

They are fetched into this machine's own store at first; without their runtimes, which are an
optional extra, these tests are skipped.
"""

from pathlib import Path

import pytest

from talkpath.agent.models import ModelStore

__all__ = ["reply_model", "voice_model"]


def reply_model() -> Path:
    """Path of the GGUF file."""
    pytest.importorskip("xllamacpp")
    return ModelStore().pull("smollm2-135m")


def voice_model() -> Path:
    """Path of the voice's .onnx file."""
    pytest.importorskip("piper")
    return ModelStore().pull("piper-en-us-joe")
