"""Layers: Whisper's decoder layers in int8, on rows of several items at once."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from talkpath.agent.errors import ModelError
from talkpath.agent.whisper.weights import Weights

__all__ = ["Int8Linear", "Layer", "Memory", "Norm", "Run", "causal_mask", "tensor"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values of one item's encoded audio, ``[2, heads, positions, width]`` a layer."""

    layers: tuple[torch.Tensor, ...]


@dataclass(slots=True)
class Run:
    """What the decoder has seen of one item: keys and values of the text, and the audio's."""

    memory: Memory
    text: list[torch.Tensor]
    length: int = 0

    @classmethod
    def of(cls, memory: Memory, capacity: int) -> "Run":
        """Begin with nothing, and room for so many tokens."""
        _, heads, _, width = memory.layers[0].shape
        return cls(memory, [torch.empty(2, heads, capacity, width) for _ in memory.layers])

    def extend(self, index: int, new: torch.Tensor) -> torch.Tensor:
        """Add the keys and values ``[2, heads, n, width]`` of new tokens; give all so far."""
        end = self.length + new.shape[2]
        self.text[index][:, :, self.length : end] = new
        return self.text[index][:, :, :end]


class Int8Linear:
    """A linear layer with int8 weights, a scale for each row of them, and int8 activations.

    PyTorch's kernel takes one range for all rows it is given. Each row is brought to the range
    from -1 to 1 before, so that what comes out for a row does not depend on its neighbours: a
    drafted token is judged as it would be alone. A last row with both ends of the range in it
    keeps the range the same.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        scales = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        try:
            with warnings.catch_warnings():
                # Creation of quantized tensors is to go from PyTorch some day. The engine then
                # falls back to CTranslate2's decoder.
                warnings.simplefilter("ignore")
                quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
                self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        except (AttributeError, RuntimeError) as error:
            raise ModelError(f"PyTorch has no int8 kernels here: {error}") from error
        self._apply = torch.ops.quantized.linear_dynamic.default
        self._reduce = not _has_vnni()
        self._bias = torch.zeros(len(weight)) if bias is None else bias
        self._range = torch.zeros(1, weight.shape[1])
        self._range[0, 0], self._range[0, 1] = -1.0, 1.0

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply ``[n, in]``; the result is ``[n, out]``."""
        scale = rows.abs().amax(dim=1, keepdim=True).clamp_(min=1e-8)
        ranged = torch.cat((rows / scale, self._range))
        product = self._apply(ranged, self._packed, self._reduce)[:-1]
        return torch.addcmul(self._bias, product, scale)


class Norm:
    """Layer normalisation."""

    def __init__(self, weights: Weights, name: str) -> None:
        self._gamma = tensor(weights, f"{name}/gamma")
        self._beta = tensor(weights, f"{name}/beta")

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Normalise each row of ``[n, width]``."""
        return F.layer_norm(rows, self._gamma.shape, self._gamma, self._beta)


class Layer:
    """One layer: attention to the text so far, attention to the audio, feed-forward."""

    def __init__(self, weights: Weights, name: str) -> None:
        def linear(part: str) -> Int8Linear:
            weight = tensor(weights, f"{name}/{part}/weight")
            return Int8Linear(weight, tensor(weights, f"{name}/{part}/bias"))

        self._text_norm = Norm(weights, f"{name}/self_attention/layer_norm")
        self._text_in = linear("self_attention/linear_0")
        self._text_out = linear("self_attention/linear_1")
        self._audio_norm = Norm(weights, f"{name}/attention/layer_norm")
        self._audio_in = linear("attention/linear_0")
        self._audio_out = linear("attention/linear_2")
        self._wide_norm = Norm(weights, f"{name}/ffn/layer_norm")
        self._wide_in = linear("ffn/linear_0")
        self._wide_out = linear("ffn/linear_1")

    def __call__(
        self,
        hidden: torch.Tensor,
        runs: Sequence[Run],
        index: int,
        lengths: list[int],
        masks: Sequence[torch.Tensor | None],
        heads: int,
    ) -> torch.Tensor:
        """Take new tokens of several items through the layer.

        Args:
            hidden: ``[rows, width]``, the items one behind the other.
            runs: the items.
            index: number of this layer.
            lengths: rows of each item.
            masks: which tokens each row of an item may see; None where it is one row.
            heads: attention heads.
        """
        rows = self._text_in(self._text_norm(hidden))
        parts = rows.view(len(rows), 3, heads, -1).permute(1, 2, 0, 3)
        heard = [
            _attend(part[0], run.extend(index, part[1:]), mask)
            for run, part, mask in zip(runs, torch.split(parts, lengths, dim=2), masks, strict=True)
        ]
        hidden = hidden + self._text_out(_together(heard))
        rows = self._audio_in(self._audio_norm(hidden))
        queries = rows.view(len(rows), heads, -1).transpose(0, 1)
        heard = [
            _attend(query, run.memory.layers[index], None)
            for run, query in zip(runs, torch.split(queries, lengths, dim=1), strict=True)
        ]
        hidden = hidden + self._audio_out(_together(heard))
        wide = F.gelu(self._wide_in(self._wide_norm(hidden)))
        return hidden + self._wide_out(wide)


def _attend(queries: torch.Tensor, known: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention of queries ``[heads, n, width]`` to keys and values ``[2, heads, m, width]``.

    The result is ``[n, heads * width]``.
    """
    heard = F.scaled_dot_product_attention(queries[None], known[:1], known[1:], attn_mask=mask)
    return heard[0].transpose(0, 1).reshape(queries.shape[1], -1)


def _together(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def causal_mask(past: int, length: int) -> torch.Tensor | None:
    """Which tokens each of ``length`` new ones may see, ``[length, past + length]``."""
    if length == 1:
        return None
    return torch.ones(length, past + length, dtype=torch.bool).tril(past)


def tensor(weights: Weights, name: str) -> torch.Tensor:
    """An array of the model, float32."""
    return torch.from_numpy(weights.floats(name))


def _has_vnni() -> bool:
    """Whether int8 products add up in 32 bits; without, 7 bits of activation must do."""
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # before PyTorch 2.11 or so
        return False
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
