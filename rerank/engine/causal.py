"""Causal language models, run for ranking: every shared piece of the prompts once, answers read at a few places.

A prompt is a sequence of segments, tuples of token ids: instruction, query, document, the template's end. Prompts of a
call share the segments that they begin with, and a call may keep beginnings for later ones.

Whether and with whom a prompt shares changes no bit of its answer in float32 on the CPU: attention is computed for a
segment at a time (for `PIECE` tokens of long ones), linear layers over at least `fewest_rows` rows, heads over
`HEAD_ROWS`. The same tokens cut into other segments give the same answer up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rerank.engine.decoders.answers import Held, Likelihoods, Mass, Scored, finite
from rerank.engine.decoders.families import check_causal, context_limit
from rerank.engine.decoders.head import Head
from rerank.engine.decoders.kept import Kept
from rerank.engine.decoders.mass import MassReader, segment_sums
from rerank.engine.decoders.model import CausalModel
from rerank.engine.decoders.plan import Ids, Mark
from rerank.engine.decoders.prompts import Keep, Limits, Prompt, Targets, kept
from rerank.engine.decoders.run import Computation, Cost, Watch
from rerank.errors import CheckpointError, InputError

__all__ = ["CausalLM", "Cost", "Held", "Likelihoods", "Mass", "Scored"]

BUDGETS = {"cpu": 2048, "cuda": 16_384}
"""Tokens of a pass: on the CPU more do not fit its caches, on a GPU fewer do not fill it."""

KEEP_BYTES = 2**30


class CausalLM:
    """A Llama, Mistral, Qwen or Gemma that scores prompts. For one thread at a time.

    Args:
        model: a transformers `…ForCausalLM` or `…ForSequenceClassification` in evaluation mode, on its device. It is
            changed: load it afresh for anything else.
        mode: "sdpa" or "kernel", see `decoders.attention`; by default chosen by the device.
        budget: tokens of a forward pass, at most; a piece of a segment that is longer goes alone. By default by the
            device.
        keep_bytes: of keys and values that calls with `keep` may leave for later ones.

    Attributes:
        model, pool, head: what runs packed rows, where keys and values lie, and what reads hidden states: with `held`
            all that writing text needs.
        limits: what the model can read.
        keep_tokens: how many tokens may wait for later calls.

    Raises:
        CheckpointError: when the model cannot be run packed, or scores two prompts otherwise than its own forward does,
            which is tried at load.
    """

    def __init__(
        self, model: Any, *, mode: str | None = None, budget: int | None = None, keep_bytes: int = KEEP_BYTES
    ) -> None:
        if budget is not None and budget < 1:
            raise InputError(f"a budget of {budget} tokens holds no prompt; choose at least 1")
        check_causal(model)
        self.budget = budget or BUDGETS.get(model.device.type, BUDGETS["cpu"])
        self.limits = Limits(type(model).__name__, model.config.vocab_size, context_limit(model.config))
        self.head = Head.of(model)
        expected = [_stock(model, probe) for probe in PROBES]
        self.model = CausalModel(model, mode=mode)
        self.pool = self.model.pool()
        self.keep_tokens = keep_bytes // self.pool.bytes_per_token
        self._kept = Kept(self.pool, self.keep_tokens)
        self._compare(expected)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.model.execution

    @property
    def kept_tokens(self) -> int:
        """Tokens whose keys and values wait for later calls."""
        return self._kept.tokens

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], targets: Targets, *, keep: Keep = 0) -> Scored:
        """The logits of target tokens behind each prompt.

        Args:
            prompts: their segments.
            targets: token ids for all prompts, or for each its own; where some prompts have fewer than others, their
                rows are filled up with −inf.
            keep: how many of a prompt's first segments stay for later calls; one number for all, or one each. A
                prompt's last segment is always computed.

        Raises:
            InputError: when a prompt is empty or longer than the model's context, or a token is not in the vocabulary.
            JudgeError: when a logit is no number.
        """
        self._check_vocabulary_head()
        wanted = self.limits.targets(targets, len(prompts))
        hidden, cost = self.last_hidden(prompts, keep=keep)
        width = max(map(len, wanted), default=len(targets))
        logits = torch.full((len(prompts), width), float("-inf"), device=hidden.device)
        flops = 0
        for ids in sorted(set(wanted)):
            whose = [index for index, own in enumerate(wanted) if own == ids]
            logits[whose, : len(ids)] = finite(self.head.logits(hidden[whose], ids), whose)
            flops += self.head.flops(len(whose), len(ids))
        return Scored(logits.cpu(), replace(cost, flops=cost.flops + flops))

    @torch.inference_mode()
    def classify(self, prompts: Sequence[Prompt], *, keep: Keep = 0) -> Scored:
        """What the model's own score head says of each prompt's last token: [prompts, labels].

        Args and errors as of `score`.

        Raises:
            CheckpointError: when the model has no such head: it is no `…ForSequenceClassification`.
        """
        if not self.head.labels:
            raise CheckpointError(f"this {self.limits.name} has no score head; ask it for the logits of target tokens")
        hidden, cost = self.last_hidden(prompts, keep=keep)
        labels = range(len(self.head.weight))
        logits = finite(self.head.logits(hidden, labels), range(len(prompts)))
        flops = self.head.flops(len(prompts), len(labels))
        return Scored(logits.cpu(), replace(cost, flops=cost.flops + flops))

    @torch.inference_mode()
    def last_hidden(self, prompts: Sequence[Prompt], *, keep: Keep = 0) -> tuple[Tensor, Cost]:
        """The last token's hidden state, after the model's last norm: [prompts, dim] on the device; what it took.

        Args and errors as of `score`.
        """
        paths = self.limits.paths(prompts)
        marks = [Mark(index, len(path) - 1, 1) for index, path in enumerate(paths)]
        with self._computed(paths, marks, kept(keep, paths)) as done:
            return self._joined(done.hidden()), done.cost

    @torch.inference_mode()
    def hidden_at(self, prompts: Sequence[Prompt]) -> tuple[list[Tensor], Cost]:
        """The hidden states of the last token of every segment, after the model's last norm: [segments, dim] for each
        prompt, on the device; what it took.

        Args:
            prompts: their segments, none of them empty: cut behind the tokens whose states are wanted.

        Errors as of `score`.
        """
        if not all(len(segment) for prompt in prompts for segment in prompt):
            raise InputError("a segment has no tokens, and no last one whose state could be read")
        paths = self.limits.paths(prompts)
        marks = [Mark(index, place, 1) for index, path in enumerate(paths) for place in range(len(path))]
        with self._computed(paths, marks, kept(0, paths)) as done:
            states = torch.split(self._joined(done.hidden()), [len(path) for path in paths])
            return list(states), done.cost

    @torch.inference_mode()
    def likelihood(
        self, prompts: Sequence[Prompt], continuations: Sequence[Sequence[int]], *, keep: Keep = 0
    ) -> Likelihoods:
        """How likely each continuation is behind its prompt, token by token.

        Args:
            prompts: their segments.
            continuations: token ids, at least one each.
            keep: as of `score`.

        Errors as of `score`.
        """
        self._check_vocabulary_head()
        paths, ends = self.limits.paths(prompts), self.limits.paths([[ids] for ids in continuations], "continuation")
        if len(paths) != len(ends):
            raise InputError(f"there are {len(ends)} continuations for {len(paths)} prompts")
        keeping = kept(keep, paths)
        marks = []
        for index, (path, [ids]) in enumerate(zip(paths, ends, strict=True)):
            marks.append(Mark(index, len(path) - 1, 1))  # says the first token; each token of the rest says the next
            if len(ids) > 1:
                marks.append(Mark(index, len(path), len(ids) - 1))
                path.append(ids[:-1])
        with self._computed(paths, marks, keeping) as done:
            hidden, cost = self._joined(done.hidden()), done.cost
        lengths = [len(ids) for [ids] in ends]
        log_probs = self.head.log_probs(hidden, [token for [ids] in ends for token in ids])
        finite(log_probs, [index for index, length in enumerate(lengths) for _ in range(length)])
        flops = self.head.flops(len(hidden), self.limits.vocab)
        return Likelihoods([*torch.split(log_probs.cpu(), lengths)], replace(cost, flops=cost.flops + flops))

    @torch.inference_mode()
    def attention(
        self, context: Prompt, suffixes: Sequence[Sequence[int]], *, layers: Sequence[int] | None = None, keep: int = 0
    ) -> Mass:
        """How much attention suffixes pay to the tokens and segments of a context that they share.

        In-context reranking (Chen et al., 2024, https://arxiv.org/abs/2410.02642) asks with the query and with "N/A",
        and takes the second from the first.

        Args:
            context: segments, for instance the template's beginning and each document; none of them empty.
            suffixes: token ids, at least one each; they do not see each other.
            layers: whose attention counts; by default all.
            keep: how many of the context's first segments stay for later calls.

        Raises:
            InputError: when a chosen layer caps its scores or sees a part of the context alone; and as of `score`.
        """
        if not all(map(len, context)):
            raise InputError("a segment of the context has no tokens, and no attention can be paid to it")
        [path], ends = self.limits.paths([context]), self.limits.paths([[ids] for ids in suffixes], "suffix")
        marks = [Mark(index, len(path), len(ids)) for index, [ids] in enumerate(ends)]
        reader = MassReader(self.pool, sum(map(len, path)), self._layers(layers))
        paths = [[*path, ids] for [ids] in ends]
        with self._computed(paths, marks, kept(min(keep, len(path)), paths), watch=reader.see) as done:
            tokens = reader.of([done.wanted(mark) for mark in marks], self.model.device)
            cost = replace(done.cost, flops=done.cost.flops + reader.flops)
        return Mass(tokens.cpu(), segment_sums(tokens, list(map(len, path))).cpu(), cost)

    @torch.inference_mode()
    def prefill(self, beginnings: Sequence[Prompt]) -> Cost:
        """Compute beginnings of coming prompts now, and keep them: all of their segments. Errors as of `score`."""
        paths = self.limits.paths(beginnings)
        with self._computed(paths, [], list(map(len, paths))) as done:
            return done.cost

    @contextmanager
    def held(self, prompts: Sequence[Prompt], *, keep: Keep = 0) -> Iterator[Held]:
        """Prompts computed, and held in the pool while the block runs: what writing text begins with.

        Args and errors as of `score`.
        """
        paths = self.limits.paths(prompts)
        marks = [Mark(index, len(path) - 1, 1) for index, path in enumerate(paths)]
        with self._computed(paths, marks, kept(keep, paths), hold=True) as done:
            with torch.inference_mode():  # not around the block: several may be open, and close in any order
                hidden = self._joined(done.hidden())
            yield Held(hidden, [done.path(index) for index in range(len(paths))], done.cost)

    def forget(self) -> None:
        """Give up the keys and values that wait for later calls."""
        self._kept.clear()

    @contextmanager
    def _computed(
        self,
        paths: Sequence[Sequence[Ids]],
        marks: Sequence[Mark],
        keep: Sequence[int],
        *,
        hold: bool = False,
        watch: Watch | None = None,
    ) -> Iterator[Computation]:
        self.limits.check_lengths(paths)
        done = Computation(self.model, self.pool, self._kept, paths, marks, budget=self.budget, keep=keep, hold=hold)
        try:
            done.execute(watch)
            yield done
        finally:
            done.close()

    def _joined(self, states: Sequence[Tensor]) -> Tensor:
        empty = torch.empty(0, self.head.weight.shape[1], dtype=self.model.dtype, device=self.model.device)
        return torch.cat([empty, *states])

    def _layers(self, layers: Sequence[int] | None) -> frozenset[int]:
        count = len(self.pool.keys)
        chosen = frozenset(range(count) if layers is None else layers)
        if not chosen or not all(0 <= layer < count for layer in chosen):
            raise InputError(f"layers={layers}: the model has layers 0 to {count - 1}")
        return chosen

    def _check_vocabulary_head(self) -> None:
        if self.head.labels:
            raise CheckpointError(f"this {self.limits.name} has no head over the vocabulary; ask it to classify")

    def _compare(self, expected: Sequence[Tensor]) -> None:
        """See that packed rows give what the model's own forward gives."""
        got, _ = self.last_hidden([(probe[:3], probe[3:]) for probe in PROBES])
        with torch.inference_mode():
            tolerance = 1e-2 if self.model.dtype == torch.float32 else 1e-1
            for hidden, stock in zip(got, expected, strict=True):
                if not torch.allclose(hidden.float(), stock.float(), rtol=tolerance, atol=tolerance):
                    raise CheckpointError(
                        f"packed rows change the hidden states of this {self.limits.name} by up to "
                        f"{(hidden - stock).abs().max().item():.2g}; please report it with the version of transformers"
                    )


PROBES = ((5, 6, 7, 8, 9), (5, 6, 7, 4))


@torch.inference_mode()
def _stock(model: Any, ids: Sequence[int]) -> Tensor:
    """The last hidden state of the model's own forward: [dim]."""
    states: Tensor = model.base_model(torch.tensor([ids], device=model.device), use_cache=False).last_hidden_state
    return states[0, -1]
