"""Orders decoded over vectors: each step chooses one of the vectors that are left, and reads it as its next token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rerank.engine.causal import CausalLM
from rerank.engine.decoders.kv_pool import Run, joined
from rerank.engine.decoders.model import Ask, Row
from rerank.engine.decoders.prompts import Prompt
from rerank.engine.decoders.run import Cost
from rerank.engine.decoders.vectors import Vectors
from rerank.engine.t5.encoder import Work
from rerank.errors import InputError, JudgeError

__all__ = ["Decoded", "VectorDecoder"]


@dataclass(frozen=True)
class Decoded:
    """Orders of vectors, best first, by their index in each prompt's list; and what they took."""

    orders: list[tuple[int, ...]]
    cost: Cost


@dataclass
class _Text:
    """An order while it is decoded."""

    whose: list[int]  # the numbers of its vectors
    path: tuple[Run, ...]
    slot: int
    order: list[int]

    @property
    def left(self) -> list[int]:
        """Indices that are not chosen yet."""
        return [index for index in range(len(self.whose)) if index not in self.order]

    def row(self) -> Row:
        """What was chosen last, to be read next."""
        read = len(self.order) - 1
        return Row([self.whose[self.order[-1]]], self.slot + read, joined((*self.path, (self.slot, read))))


class VectorDecoder:
    """A causal model whose output vocabulary, at every step, is the vectors that are left (PE-Rank's constrained
    decoding; Liu et al., 2024, https://arxiv.org/abs/2406.14848).

    Args:
        engine: which runs the model; its table of embeddings is wrapped.
    """

    def __init__(self, engine: CausalLM) -> None:
        self.engine = engine
        base = engine.model.base
        self.table = Vectors(base.embed_tokens)
        base.embed_tokens = self.table

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], vectors: Sequence[Tensor], places: Sequence[Sequence[int]]) -> Decoded:
        """The order in which each prompt's vectors are chosen, greedily: h · v is a vector's logit, h the state of the
        last token; equal ones keep their order.

        Args:
            prompts: their segments, with the model's own tokens; those at `places` stand for vectors.
            vectors: of each prompt, [vectors, dim], at least one.
            places: where in each prompt its vectors stand, in their order.

        Raises:
            InputError: when places and vectors are not as many, and as `CausalLM.score`.
            JudgeError: when a logit is no number.
        """
        for index, (own, where) in enumerate(zip(vectors, places, strict=True)):
            if len(own) != len(where) or not len(own):
                raise InputError(f"prompt {index} has {len(where)} places for {len(own)} vectors")
        starts = [self.table.count + sum(len(own) for own in vectors[:index]) for index in range(len(vectors))]
        whose = [[start + place for place in range(len(own))] for start, own in zip(starts, vectors, strict=True)]
        with self._known(vectors):
            held = [_with(prompt, where, ids) for prompt, where, ids in zip(prompts, places, whose, strict=True)]
            with self.engine.held(held) as done:
                return self._decoded(done.hidden, done.paths, whose, done.cost)

    def _decoded(self, hidden: Tensor, paths: Sequence[tuple[Run, ...]], whose: list[list[int]], cost: Cost) -> Decoded:
        pool, work, calls = self.engine.pool, Work(), 0
        texts = [_Text(ids, path, pool.allocate(len(ids)), []) for ids, path in zip(whose, paths, strict=True)]
        try:
            self._choose(texts, hidden, work)
            while open_ := [text for text in texts if len(text.left) > 1]:
                rows = [text.row() for text in open_]
                hidden = self.engine.model.forward(rows, [Ask(index) for index in range(len(rows))], pool, work)
                calls += 1
                self._choose(open_, hidden, work)
        finally:
            for text in texts:
                pool.free(text.slot, len(text.whose))
        read = sum(max(len(text.whose) - 2, 0) for text in texts)  # the last is not chosen, the one before not read
        whole = Cost(
            cost.tokens + read, cost.reused, cost.kept, cost.padded + work.rows - read, cost.flops + work.flops,
            cost.calls + calls,
        )  # fmt: skip
        return Decoded([(*text.order, *text.left) for text in texts], whole)

    def _choose(self, texts: Sequence[_Text], hidden: Tensor, work: Work) -> None:
        """Choose one of what is left, for each text: [texts, dim]."""
        assert self.table.extra is not None
        for text, state in zip(texts, hidden, strict=True):
            left = text.left
            numbers = torch.tensor([text.whose[index] - self.table.count for index in left], device=state.device)
            logits = (self.table.extra[numbers].float() * state.float()).sum(-1)
            work.products(len(left), state.shape[0])
            if not logits.isfinite().all():
                raise JudgeError("the model gave no finite number for a passage's vector: its weights or its dtype?")
            values = logits.tolist()
            text.order.append(left[values.index(max(values))])  # of equal ones the first that was shown

    @contextmanager
    def _known(self, vectors: Sequence[Tensor]) -> Iterator[None]:
        """Vectors as tokens behind the vocabulary, while the block runs."""
        limits, model = self.engine.limits, self.engine.model
        self.table.extra = torch.cat([own.to(model.device, model.dtype) for own in vectors])
        self.engine.limits = replace(limits, vocab=self.table.count + len(self.table.extra))
        try:
            yield
        finally:
            self.engine.limits, self.table.extra = limits, None


def _with(prompt: Prompt, places: Sequence[int], ids: Sequence[int]) -> list[tuple[int, ...]]:
    """A prompt with numbers of vectors in some places, cut in front of the first of them."""
    whole = [token for segment in prompt for token in segment]
    for place, number in zip(places, ids, strict=True):
        whole[place] = number
    return [part for part in (tuple(whole[: places[0]]), tuple(whole[places[0] :])) if part]
