"""Greedy: the search for the likeliest next token, again and again, with a draft to check.

In the part of Python that TorchScript compiles: a batch is then decoded from its first token to
its last in one call that does not hold Python's global lock. With the loop in Python a worker
asks for that lock again after every pass, and waits for another worker or a busy event loop.
Measured on two cores, without an event loop: 61 ms an item instead of 80 with one worker, 39
instead of 45 with two.
"""

import torch
from torch import Tensor, nn

from talkpath.agent.whisper.layers import DecoderLayers
from talkpath.agent.whisper.rules import TokenRules

__all__ = ["GreedySearch", "goes_in_circles"]


class GreedySearch(nn.Module):
    """Decodes a batch greedily.

    Args:
        layers: the decoder.
        rules: the model's special tokens and what may follow what.
        no_speech: its token for "nobody speaks".
        longest_draft: tokens of a draft that is taken up again, at most.
        look_ahead: tokens of it among which the last word is looked for.
    """

    def __init__(
        self,
        layers: DecoderLayers,
        rules: TokenRules,
        *,
        no_speech: int,
        longest_draft: int,
        look_ahead: int,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.rules = rules
        self.no_speech = no_speech
        self.longest_draft = longest_draft
        self.look_ahead = look_ahead

    def forward(
        self,
        memories: list[list[Tensor]],
        prompts: list[list[int]],
        starts: list[int],
        drafts: list[list[int]],
        most: list[int],
        last_stamps: list[int],
    ) -> tuple[list[list[int]], list[list[float]], list[float], list[list[int]]]:
        """Decode.

        Args:
            memories: keys and values of the audio, ``[2, heads, positions, head width]``, by
                item and layer.
            prompts: tokens before the answer, of each item.
            starts: where in it the start of transcript is.
            drafts: tokens that the answer may begin with.
            most: most tokens of the answer.
            last_stamps: a time stamp after text from this token on ends the answer.

        Returns:
            Of each item the tokens without the end of text, the log probability of each and of
            the end of text where it came, the probability that nobody speaks, and the numbers
            of drafted tokens, of those that held, and of passes.
        """
        jobs: list[_Job] = []
        for item in range(len(prompts)):
            jobs.append(
                _Job(
                    memories[item],
                    prompts[item],
                    starts[item],
                    drafts[item],
                    most[item],
                    last_stamps[item],
                    self.longest_draft,
                )
            )
        while True:
            active: list[_Job] = []
            for job in jobs:
                if not job.done:
                    active.append(job)
            if len(active) == 0:
                break
            self._pass(active)
        tokens: list[list[int]] = []
        logprobs: list[list[float]] = []
        no_speech: list[float] = []
        counts: list[list[int]] = []
        for job in jobs:
            tokens.append(job.tokens)
            logprobs.append(job.logprobs)
            no_speech.append(job.no_speech_probability)
            counts.append([job.drafted, job.accepted, job.passes])
        return tokens, logprobs, no_speech, counts

    def _pass(self, jobs: list["_Job"]) -> None:
        """Take items through the decoder once: each gains a token, or more of its draft."""
        fed: list[int] = []
        lengths: list[int] = []
        pasts: list[int] = []
        wanted: list[int] = []
        counts: list[int] = []
        for job in jobs:
            start, before = len(fed), len(wanted)
            known = job.prompt if job.passes == 0 else job.tokens[-1:]
            fed += known
            fed += job.proposal
            lengths.append(len(fed) - start)
            pasts.append(job.length)
            job.length += len(fed) - start
            if job.passes == 0:
                wanted.append(start + job.start)
            # After the last known token and after each drafted one.
            for row in range(start + len(known) - 1, len(fed)):
                wanted.append(row)
            counts.append(len(wanted) - before)
        texts: list[list[Tensor]] = []
        memories: list[list[Tensor]] = []
        for layer in range(len(jobs[0].memory)):
            texts.append([job.texts[layer] for job in jobs])
            memories.append([job.memory[layer] for job in jobs])
        logits = self.layers(
            torch.tensor(fed), texts, memories, pasts, lengths, torch.tensor(wanted)
        )
        parts = torch.split(logits, counts)
        for index in range(len(jobs)):
            self._take(jobs[index], parts[index])

    def _take(self, job: "_Job", logits: Tensor) -> None:
        """Choose tokens as far as the draft holds, and the one after it."""
        if job.passes == 0:
            job.no_speech_probability = float(torch.softmax(logits[0], dim=0)[self.no_speech])
            logits = logits[1:]
        job.passes += 1
        proposed = len(job.proposal)
        job.drafted += proposed
        self.rules(logits, job.tokens + job.proposal, len(job.tokens))
        best, chosen = logits.max(dim=1)
        logprobs: list[float] = (best - torch.logsumexp(logits, dim=1)).tolist()
        tokens: list[int] = chosen.tolist()
        held = 0
        going = True
        while going:
            token = tokens[held]
            job.add(token, logprobs[held], self.rules.end_of_text)
            if held < proposed and token == job.proposal[held]:
                held += 1
                going = not job.done
            else:
                going = False
        job.accepted += held
        # What was computed for the part of the draft that did not hold is written over.
        job.length -= proposed - held
        job.propose(held, self.longest_draft, self.look_ahead)


class _Job:
    """The decoding of one item: what was answered, and what of the draft is left."""

    def __init__(
        self,
        memory: list[Tensor],
        prompt: list[int],
        start: int,
        draft: list[int],
        most: int,
        last_stamp: int,
        spare: int,
    ) -> None:
        self.memory = memory
        self.prompt = prompt
        self.start = start
        self.draft = draft
        self.most = most
        self.last_stamp = last_stamp
        self.proposal = draft[:most]
        self.cursor = len(self.proposal)  # the draft from here on may still fit
        heads, width = memory[0].shape[1], memory[0].shape[3]
        capacity = len(prompt) + most + spare
        self.texts = [torch.empty(2, heads, capacity, width) for _ in memory]
        self.length = 0  # tokens whose keys and values are known
        self.done = most <= 0
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.no_speech_probability = 0.0
        self.drafted = 0
        self.accepted = 0
        self.passes = 0

    def add(self, token: int, logprob: float, end_of_text: int) -> None:
        """Take a token, and look whether it is the last."""
        self.logprobs.append(logprob)
        if token == end_of_text:
            self.done = True
            return
        after_text = len(self.tokens) > 0 and self.tokens[-1] < end_of_text
        self.tokens.append(token)
        audio_is_over = after_text and token >= self.last_stamp
        full = len(self.tokens) >= self.most
        self.done = audio_is_over or full or goes_in_circles(self.tokens)

    def propose(self, held: int, longest: int, look_ahead: int) -> None:
        """Take the draft up again behind the last token, where that comes in it again soon."""
        if len(self.proposal) > 0:
            self.cursor += held - len(self.proposal)
        self.proposal = self.draft[:0]
        if self.done or len(self.tokens) == 0:
            return
        last = self.tokens[-1]
        for at in range(self.cursor, min(self.cursor + look_ahead, len(self.draft))):
            if self.draft[at] == last:
                self.cursor = at + 1
                room = min(longest, self.most - len(self.tokens))
                self.proposal = self.draft[self.cursor : self.cursor + room]
                self.cursor += len(self.proposal)
                return


def goes_in_circles(tokens: list[int]) -> bool:
    """Whether the last tokens are the same few again and again: more of them help nobody.

    So many repeats that ``guard.is_loop`` will find a loop in the text, too: eight of up to
    three tokens, which may be a single word, five of what is longer, up to twelve.
    """
    for period in range(1, 13):
        count = period * (8 if period <= 3 else 5)
        if len(tokens) >= count:
            at = 1
            while at <= count - period and tokens[-at] == tokens[-at - period]:
                at += 1
            if at > count - period:
                return True
    return False
