"""Decoder: Whisper's text decoder on a CPU, in int8, that can check a draft in one pass.

A streaming transcript is decoded again and again over a growing stretch of audio, and nearly all
of its words are known from the last time. A decoder that takes one token a step pays for each
of them anew. This one is given the last answer as a draft: it computes all of its tokens in one
pass, keeps those that it would have chosen itself, and goes on from the first that it would not
have (speculative decoding: https://arxiv.org/abs/2211.17192; with greedy decoding and exact
arithmetic the result is that of decoding without a draft). Further on, a draft that fits again is
taken up again.

The rows of all items of a batch, whatever their number, go through each linear layer together;
attention is computed item by item, so that no item is padded and windows of several sizes can
share a batch.

Weights and activations are int8, each row with a scale of its own, through
PyTorch's own kernels. Measured with ``base`` on one core of an AMD EPYC 9004 (VNNI): 5 ms a
step where CTranslate2 takes 7, and a draft of 29 tokens checked in 25 ms, all 29 of them.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from talkpath.agent.audio import FloatArray
from talkpath.agent.errors import ModelError
from talkpath.agent.whisper.rules import TokenRules
from talkpath.agent.whisper.weights import Weights

__all__ = ["Answer", "DraftingDecoder", "Memory", "Task"]

# After a word that the draft had otherwise, it is taken up again where one of its next eight
# tokens has come, for up to eight more. Over 341 partials of the reference clips (4,791 tokens)
# that takes 1,667 passes, without it 1,968; longer ones gain nothing.
_LONGEST_DRAFT = 8
_LOOK_AHEAD = 8
_GELU = 3  # CTranslate2's number of the activation that Whisper has


@dataclass(frozen=True, slots=True)
class Memory:
    """Keys and values of one item's encoded audio, ``[2, heads, positions, width]`` a layer."""

    layers: tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to decode of one item.

    Attributes:
        prompt: tokens before the answer: context, start of transcript, language, task.
        start: where in it the start of transcript is.
        draft: tokens that the answer may begin with.
        max_tokens: most tokens of the answer.
        last_stamp: a time stamp after text from this token on ends the answer: the audio is over.
    """

    prompt: tuple[int, ...]
    start: int
    draft: tuple[int, ...]
    max_tokens: int
    last_stamp: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the decoder says to one item.

    Attributes:
        tokens: without the end of text.
        logprobs: natural log probability of each, and of the end of text where it came.
        no_speech_probability: at the start of transcript.
        drafted: draft tokens that were checked.
        accepted: those that held.
        passes: how often the item went through the decoder.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    no_speech_probability: float
    drafted: int
    accepted: int
    passes: int


class DraftingDecoder:
    """Whisper's decoder. Read-only once made: any number of threads may call it.

    PyTorch computes with one thread in the threads that call it, which are the engine's workers,
    one a core; threads that other code of the process starts later begin with one, too.

    Args:
        weights: of the model.
        rules: its special tokens and what may follow what.
        no_speech: its token for "nobody speaks".

    Raises:
        ModelError: the weights are not those of a Whisper model, or this build of PyTorch has no
            int8 kernels.
    """

    def __init__(self, weights: Weights, rules: TokenRules, no_speech: int) -> None:
        if weights.number("decoder/activation") != _GELU:
            raise ModelError("the model's activation is not Whisper's")
        self._rules = rules
        self._no_speech = no_speech
        self._heads = weights.number("decoder/num_heads")
        self._embeddings = _tensor(weights, "decoder/embeddings/weight").half()
        self._positions = _tensor(weights, "decoder/position_encodings/encodings")
        self._width = self._embeddings.shape[1]
        count = 0
        while f"decoder/layer_{count}/ffn/linear_0/weight" in weights:
            count += 1
        layers = [f"decoder/layer_{index}" for index in range(count)]
        self._layers = [_Layer(weights, name) for name in layers]
        # One product for the keys and values of all layers: the audio is quantized once.
        self._memory = _Linear(
            torch.cat([_tensor(weights, f"{name}/attention/linear_1/weight") for name in layers]),
            torch.cat([_tensor(weights, f"{name}/attention/linear_1/bias") for name in layers]),
        )
        self._norm = _Norm(weights, "decoder/layer_norm")
        self._projection = _Linear(_tensor(weights, "decoder/projection/weight"), None)

    @property
    def positions(self) -> int:
        """Most tokens, prompt included (448 for Whisper)."""
        return len(self._positions)

    @torch.inference_mode()
    def remember(self, encoded: FloatArray) -> list[Memory]:
        """Prepare encoded audio, float32 ``[items, positions, width]``, for decoding."""
        torch.set_num_threads(1)
        items, positions, _ = encoded.shape
        both = self._memory(torch.from_numpy(encoded).reshape(items * positions, self._width))
        both = both.view(items, positions, len(self._layers), 2, self._heads, -1)
        return [
            Memory(tuple(layer.contiguous() for layer in item.permute(1, 2, 3, 0, 4)))
            for item in both
        ]

    @torch.inference_mode()
    def next_probabilities(
        self, memories: Sequence[Memory], prompt: Sequence[int], candidates: Sequence[int]
    ) -> list[list[float]]:
        """Probability of each candidate, among them, to follow a prompt; for each item."""
        torch.set_num_threads(1)
        runs = [_Run.of(memory, len(prompt)) for memory in memories]
        last = [len(prompt) - 1]
        logits = self._forward(runs, [prompt] * len(runs), [last] * len(runs))
        chosen = torch.softmax(logits[:, list(candidates)], dim=1)
        return [row.tolist() for row in chosen]

    @torch.inference_mode()
    def decode(self, memories: Sequence[Memory], tasks: Sequence[Task]) -> list[Answer]:
        """Decode a batch greedily.

        Args:
            memories: what ``remember`` gave, one for each item.
            tasks: one for each item; a prompt and its answer must fit ``positions``.
        """
        torch.set_num_threads(1)
        jobs = [_Job.of(*pair) for pair in zip(tasks, memories, strict=True)]
        active = [job for job in jobs if not job.done]
        while active:
            fed = [job.next_input() for job in active]
            wanted = [job.wanted(len(tokens)) for job, tokens in zip(active, fed, strict=True)]
            logits = self._forward([job.run for job in active], fed, wanted)
            parts = torch.split(logits, [len(rows) for rows in wanted])
            for job, part in zip(active, parts, strict=True):
                job.take(part, self._rules, self._no_speech)
            active = [job for job in active if not job.done]
        return [job.answer() for job in jobs]

    def _forward(
        self,
        runs: Sequence["_Run"],
        fed: Sequence[Sequence[int]],
        wanted: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        """Feed each item its next tokens; logits ``[rows, vocabulary]`` of the wanted ones."""
        lengths = [len(tokens) for tokens in fed]
        places = [
            run.length + offset
            for run, length in zip(runs, lengths, strict=True)
            for offset in range(length)
        ]
        ids = torch.tensor([token for tokens in fed for token in tokens])
        hidden = self._embeddings[ids].float() + self._positions[torch.tensor(places)]
        masks = [
            _causal_mask(run.length, length) for run, length in zip(runs, lengths, strict=True)
        ]
        for index, layer in enumerate(self._layers):
            hidden = layer(hidden, runs, index, lengths, masks, self._heads)
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        rows = [start + row for start, part in zip(starts, wanted, strict=True) for row in part]
        for run, length in zip(runs, lengths, strict=True):
            run.length += length
        return self._projection(self._norm(hidden[rows]))


class _Linear:
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
        scale = rows.abs().amax(dim=1, keepdim=True).clamp_(min=1e-8)
        ranged = torch.cat((rows / scale, self._range))
        product = self._apply(ranged, self._packed, self._reduce)[:-1]
        return torch.addcmul(self._bias, product, scale)


class _Norm:
    """Layer normalisation."""

    def __init__(self, weights: Weights, name: str) -> None:
        self._gamma = _tensor(weights, f"{name}/gamma")
        self._beta = _tensor(weights, f"{name}/beta")

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(rows, self._gamma.shape, self._gamma, self._beta)


class _Layer:
    """One layer: attention to the text so far, attention to the audio, feed-forward."""

    def __init__(self, weights: Weights, name: str) -> None:
        def linear(part: str) -> _Linear:
            weight = _tensor(weights, f"{name}/{part}/weight")
            return _Linear(weight, _tensor(weights, f"{name}/{part}/bias"))

        self._text_norm = _Norm(weights, f"{name}/self_attention/layer_norm")
        self._text_in = linear("self_attention/linear_0")
        self._text_out = linear("self_attention/linear_1")
        self._audio_norm = _Norm(weights, f"{name}/attention/layer_norm")
        self._audio_in = linear("attention/linear_0")
        self._audio_out = linear("attention/linear_2")
        self._wide_norm = _Norm(weights, f"{name}/ffn/layer_norm")
        self._wide_in = linear("ffn/linear_0")
        self._wide_out = linear("ffn/linear_1")

    def __call__(
        self,
        hidden: torch.Tensor,
        runs: Sequence["_Run"],
        index: int,
        lengths: list[int],
        masks: Sequence[torch.Tensor | None],
        heads: int,
    ) -> torch.Tensor:
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


@dataclass(slots=True)
class _Run:
    """What the decoder has seen of one item: keys and values of the text, and the audio's."""

    memory: Memory
    text: list[torch.Tensor]
    length: int = 0

    @classmethod
    def of(cls, memory: Memory, capacity: int) -> "_Run":
        _, heads, _, width = memory.layers[0].shape
        return cls(memory, [torch.empty(2, heads, capacity, width) for _ in memory.layers])

    def extend(self, index: int, new: torch.Tensor) -> torch.Tensor:
        """Add the keys and values ``[2, heads, n, width]`` of new tokens; give all so far."""
        end = self.length + new.shape[2]
        self.text[index][:, :, self.length : end] = new
        return self.text[index][:, :, :end]


@dataclass(slots=True)
class _Job:
    """The decoding of one item: what was answered, and what of the draft is left."""

    task: Task
    run: _Run
    done: bool
    _proposal: tuple[int, ...]
    _cursor: int  # the draft from here on may still fit
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    no_speech_probability: float = 0.0
    drafted: int = 0
    accepted: int = 0
    passes: int = 0

    @classmethod
    def of(cls, task: Task, memory: Memory) -> "_Job":
        run = _Run.of(memory, len(task.prompt) + task.max_tokens + _LONGEST_DRAFT)
        draft = task.draft[: task.max_tokens]
        return cls(task, run, task.max_tokens <= 0, draft, len(draft))

    def next_input(self) -> list[int]:
        """The prompt or the last token, and the draft that is believed to follow."""
        known = list(self.task.prompt) if not self.passes else self.tokens[-1:]
        return [*known, *self._proposal]

    def wanted(self, fed: int) -> list[int]:
        """Rows whose logits are needed: after the last known token and after each drafted one."""
        rows = list(range(fed - len(self._proposal) - 1, fed))
        return [self.task.start, *rows] if not self.passes else rows

    def take(self, logits: torch.Tensor, rules: TokenRules, no_speech: int) -> None:
        """Choose tokens as far as the draft holds, and the one after it."""
        if not self.passes:
            self.no_speech_probability = float(torch.softmax(logits[0], dim=0)[no_speech])
            logits = logits[1:]
        self.passes += 1
        self.drafted += len(self._proposal)
        rules.apply(logits, [*self.tokens, *self._proposal], len(self.tokens))
        best, chosen = logits.max(dim=1)
        logprobs = (best - torch.logsumexp(logits, dim=1)).tolist()
        held = 0
        for token, logprob in zip(chosen.tolist(), logprobs, strict=True):
            self._add(token, logprob, rules)
            if held == len(self._proposal) or token != self._proposal[held]:
                break
            held += 1
            if self.done:
                break
        self.accepted += held
        # What was computed for the part of the draft that did not hold is written over.
        self.run.length -= len(self._proposal) - held
        self._propose(held)

    def _add(self, token: int, logprob: float, rules: TokenRules) -> None:
        self.logprobs.append(logprob)
        if token == rules.end_of_text:
            self.done = True
            return
        after_text = bool(self.tokens) and self.tokens[-1] < rules.end_of_text
        self.tokens.append(token)
        audio_is_over = after_text and token >= self.task.last_stamp
        self.done = audio_is_over or len(self.tokens) >= self.task.max_tokens

    def _propose(self, held: int) -> None:
        """Take the draft up again behind the last token, where that comes in it again soon."""
        draft = self.task.draft
        if self._proposal:
            self._cursor += held - len(self._proposal)
        self._proposal = ()
        if self.done or not self.tokens:
            return
        soon = draft[self._cursor : self._cursor + _LOOK_AHEAD]
        if self.tokens[-1] in soon:
            self._cursor += soon.index(self.tokens[-1]) + 1
            room = self.task.max_tokens - len(self.tokens)
            self._proposal = draft[self._cursor : self._cursor + min(_LONGEST_DRAFT, room)]
            self._cursor += len(self._proposal)

    def answer(self) -> Answer:
        return Answer(
            tuple(self.tokens),
            tuple(self.logprobs),
            self.no_speech_probability,
            self.drafted,
            self.accepted,
            self.passes,
        )


def _attend(queries: torch.Tensor, known: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention of queries ``[heads, n, width]`` to keys and values ``[2, heads, m, width]``.

    The result is ``[n, heads * width]``.
    """
    heard = F.scaled_dot_product_attention(queries[None], known[:1], known[1:], attn_mask=mask)
    return heard[0].transpose(0, 1).reshape(queries.shape[1], -1)


def _together(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _causal_mask(past: int, length: int) -> torch.Tensor | None:
    """Which tokens each of ``length`` new ones may see, ``[length, past + length]``."""
    if length == 1:
        return None
    return torch.ones(length, past + length, dtype=torch.bool).tril(past)


def _tensor(weights: Weights, name: str) -> torch.Tensor:
    return torch.from_numpy(weights.floats(name))


def _has_vnni() -> bool:
    """Whether int8 products add up in 32 bits; without, 7 bits of activation must do."""
    try:
        capabilities = torch.cpu.get_capabilities()
    except AttributeError:  # before PyTorch 2.11 or so
        return False
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
