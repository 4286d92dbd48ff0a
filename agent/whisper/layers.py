"""Layers: Whisper's text decoder in int8, on the rows of several items at once.

In the part of Python that TorchScript compiles, as a part of ``greedy``. Without it two workers
side by side are hardly faster than one (measured: 77 ms an item instead of 83), for each waits for
the other between any two of some 350 operations.
"""

import logging
import warnings
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from talkpath.agent.errors import ModelError
from talkpath.agent.whisper.weights import Weights

__all__ = ["DecoderLayers", "Int8Linear", "compiled", "tensor"]

_log = logging.getLogger(__name__)

_Module = TypeVar("_Module", bound=nn.Module)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, a scale for each row of them, and int8 activations.

    PyTorch's kernel takes one range for all rows it is given. Each row is brought to the range
    from -1 to 1 before, so that what comes out for a row does not depend on its neighbours: a
    drafted token is judged as it would be alone. A last row with both ends of the range in it
    keeps the range the same.

    Raises:
        ModelError: this build of PyTorch has no int8 kernels.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        try:
            with warnings.catch_warnings():
                # Creation of quantized tensors is to go from PyTorch some day. The engine then
                # falls back to CTranslate2's decoder.
                warnings.simplefilter("ignore")
                quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
                self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        except (AttributeError, RuntimeError) as error:
            raise ModelError(f"PyTorch has no int8 kernels here: {error}") from error
        self.reduce_range = not _has_vnni()
        self.bias = torch.zeros(len(weight)) if bias is None else bias
        self.ends = torch.zeros(1, weight.shape[1])
        self.ends[0, 0], self.ends[0, 1] = -1.0, 1.0

    def forward(self, rows: Tensor) -> Tensor:
        """Multiply ``[n, in]``; the result is ``[n, out]``."""
        scale = rows.abs().amax(dim=1, keepdim=True).clamp_(min=1e-8)
        ranged = torch.cat((rows / scale, self.ends))
        product = torch.ops.quantized.linear_dynamic(ranged, self.packed, self.reduce_range)
        return torch.addcmul(self.bias, product[:-1], scale)


class _Norm(nn.Module):
    """Layer normalisation."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.gamma = tensor(weights, f"{name}/gamma")
        self.beta = tensor(weights, f"{name}/beta")

    def forward(self, rows: Tensor) -> Tensor:
        """Normalise each row of ``[n, width]``."""
        return F.layer_norm(rows, self.gamma.shape, self.gamma, self.beta)


class _Layer(nn.Module):
    """One layer: attention to the text so far, attention to the audio, feed-forward."""

    def __init__(self, weights: Weights, name: str, heads: int) -> None:
        super().__init__()

        def linear(part: str) -> Int8Linear:
            weight = tensor(weights, f"{name}/{part}/weight")
            return Int8Linear(weight, tensor(weights, f"{name}/{part}/bias"))

        self.heads = heads
        self.text_norm = _Norm(weights, f"{name}/self_attention/layer_norm")
        self.text_in = linear("self_attention/linear_0")
        self.text_out = linear("self_attention/linear_1")
        self.audio_norm = _Norm(weights, f"{name}/attention/layer_norm")
        self.audio_in = linear("attention/linear_0")
        self.audio_out = linear("attention/linear_2")
        self.wide_norm = _Norm(weights, f"{name}/ffn/layer_norm")
        self.wide_in = linear("ffn/linear_0")
        self.wide_out = linear("ffn/linear_1")

    def forward(
        self,
        hidden: Tensor,
        texts: list[Tensor],
        memories: list[Tensor],
        pasts: list[int],
        lengths: list[int],
        masks: list[Tensor],
    ) -> Tensor:
        """Take new tokens of several items through the layer.

        Args:
            hidden: ``[rows, width]``, the items one behind the other.
            texts: for each item the keys and values ``[2, heads, capacity, head width]`` of its
                tokens so far; those of the new ones are written into it.
            memories: likewise of its audio.
            pasts: tokens of each item so far.
            lengths: new ones.
            masks: which tokens each new one may see, ``[new, all]``.
        """
        rows = self.text_in(self.text_norm(hidden)).view(hidden.shape[0], 3, self.heads, -1)
        parts = torch.split(rows.permute(1, 2, 0, 3), lengths, dim=2)
        heard: list[Tensor] = []
        for index, part in enumerate(parts):
            end = pasts[index] + lengths[index]
            texts[index][:, :, pasts[index] : end] = part[1:]
            known = texts[index][:, :, :end]
            heard.append(_attend(part[0], known, masks[index] if lengths[index] > 1 else None))
        hidden = hidden + self.text_out(torch.cat(heard))
        rows = self.audio_in(self.audio_norm(hidden)).view(hidden.shape[0], self.heads, -1)
        heard = []
        for index, part in enumerate(torch.split(rows.transpose(0, 1), lengths, dim=1)):
            heard.append(_attend(part, memories[index], None))
        hidden = hidden + self.audio_out(torch.cat(heard))
        wide = F.gelu(self.wide_in(self.wide_norm(hidden)))
        result: Tensor = hidden + self.wide_out(wide)
        return result


class DecoderLayers(nn.Module):
    """All of the decoder: from tokens to what may follow each of them.

    Args:
        weights: of the model.
        count: layers.

    Raises:
        ModelError: something is missing in the weights, or there are no int8 kernels.
    """

    def __init__(self, weights: Weights, count: int) -> None:
        super().__init__()
        heads = weights.number("decoder/num_heads")
        self.embeddings = tensor(weights, "decoder/embeddings/weight").half()
        self.positions = tensor(weights, "decoder/position_encodings/encodings")
        self.layers = nn.ModuleList(
            [_Layer(weights, f"decoder/layer_{index}", heads) for index in range(count)]
        )
        self.norm = _Norm(weights, "decoder/layer_norm")
        self.projection = Int8Linear(tensor(weights, "decoder/projection/weight"), None)

    def forward(
        self,
        tokens: Tensor,
        texts: list[list[Tensor]],
        memories: list[list[Tensor]],
        pasts: list[int],
        lengths: list[int],
        wanted: Tensor,
    ) -> Tensor:
        """Take new tokens of several items through all layers.

        Args:
            tokens: int64, ``[rows]``, the items one behind the other.
            texts: keys and values of the text so far, by layer and item; see the layer.
            memories: likewise of the audio.
            pasts: tokens of each item so far.
            lengths: new ones.
            wanted: int64, the rows to project.

        Returns:
            Logits, ``[wanted, vocabulary]``.
        """
        places: list[Tensor] = []
        masks: list[Tensor] = []
        for past, length in zip(pasts, lengths):  # noqa: B905 - TorchScript has no strict
            places.append(torch.arange(past, past + length))
            masks.append(torch.ones(length, past + length, dtype=torch.bool).tril(past))
        hidden = self.embeddings[tokens].float() + self.positions[torch.cat(places)]
        for index, layer in enumerate(self.layers):
            hidden = layer(hidden, texts[index], memories[index], pasts, lengths, masks)
        logits: Tensor = self.projection(self.norm(hidden[wanted]))
        return logits


def _attend(queries: Tensor, known: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of queries ``[heads, n, width]`` to keys and values ``[2, heads, m, width]``.

    The result is ``[n, heads * width]``.
    """
    heard = F.scaled_dot_product_attention(queries[None], known[:1], known[1:], attn_mask=mask)
    return heard[0].transpose(0, 1).reshape(queries.shape[1], -1)


def compiled(module: _Module) -> _Module:
    """The module in TorchScript; or as it is, where PyTorch has none any more."""
    try:
        with warnings.catch_warnings():
            # It is deprecated in favour of compilers that need a C++ toolchain at run time.
            warnings.simplefilter("ignore")
            return cast(_Module, torch.jit.script(module))
    except Exception as error:  # TorchScript names no class for what it cannot compile
        _log.info("the decoder is not compiled, and slower in several workers: %s", error)
        return module


def tensor(weights: Weights, name: str) -> Tensor:
    """An array of the model, float32."""
    return torch.from_numpy(weights.floats(name))


def _has_vnni() -> bool:
    """Whether int8 products add up in 32 bits; without, 7 bits of activation must do."""
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # before PyTorch 2.11 or so
        return False
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
