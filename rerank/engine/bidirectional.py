"""Llamas that see both ways: no prompt shares its beginning, for a beginning sees what follows.

A batch is one row of tokens without padding. On the CPU attention is computed text by text, on CUDA in one kernel over
all of them. In float32 on the CPU a score's bits do not depend on its batch: rows are settled as in `decoders.model`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine import linear
from rerank.engine.decoders.answers import Scored, finite
from rerank.engine.decoders.families import check_causal, context_limit
from rerank.engine.decoders.head import Head
from rerank.engine.decoders.prompts import Limits
from rerank.engine.decoders.run import Cost
from rerank.engine.encoders.packed import widths_of
from rerank.engine.packing import in_order, settled_rows
from rerank.engine.t5.encoder import Work, weights
from rerank.errors import CheckpointError
from rerank.kernels.varlen_attention import varlen_attention

__all__ = ["BidirectionalLM"]

ATTENTION = "rerank_bidirectional"
BUDGETS = {"cpu": 2048, "cuda": 16_384}
PROBES = ((5, 6, 7, 8, 9), (5, 6, 7, 4))


@dataclass(frozen=True)
class Row:
    """Where the texts of a row end, and who pays for their attention."""

    ends: Tensor
    longest: int
    work: Work

    @property
    def lengths(self) -> list[int]:
        """Of the texts."""
        return [int(length) for length in self.ends.diff().tolist()]


class BidirectionalLM:
    """A Llama with a score head whose tokens all see each other.

    Args:
        model: a transformers `LlamaForSequenceClassification` in evaluation mode, on its device. It is changed.
        pooling: which states the head reads: "avg" the mean of all, "cls" the first token's, "last" the last one's.
        temperature: that logits are divided by.
        budget: tokens of a forward pass, at most; a longer text goes alone. By default by the device.

    Attributes:
        limits: what the model can read.

    Raises:
        CheckpointError: when the model cannot be run packed, or scores otherwise than its own layers do with all tokens
            in sight, which is tried at load.
    """

    def __init__(
        self, model: Any, *, pooling: str = "avg", temperature: float = 1.0, budget: int | None = None
    ) -> None:
        from transformers import AttentionInterface

        check_causal(model)
        self.model, self.pooling, self.temperature = model, pooling, temperature
        self.device: torch.device = model.device
        self.budget = budget or BUDGETS.get(model.device.type, BUDGETS["cpu"])
        self.limits = Limits(type(model).__name__, model.config.vocab_size, context_limit(model.config))
        self.head = Head.of(model)
        self._widths = widths_of(model)
        self._weights = weights(model.base_model.layers)
        expected = [_stock(model, probe) for probe in PROBES]
        self.fused = linear.available(model)
        if self.fused:
            linear.fuse(model.base_model.layers)
        AttentionInterface.register(ATTENTION, attend)
        model.set_attn_implementation(ATTENTION)
        self._compare(expected)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"packed, both ways{', fused linear layers' if self.fused else ''}"

    @torch.inference_mode()
    def classify(self, texts: Sequence[Sequence[int]]) -> Scored:
        """What the score head says of each text: [texts, labels].

        Raises:
            InputError: when a text is empty or longer than the model's context, or a token is not in the vocabulary.
            JudgeError: when a logit is no number.
        """
        paths = self.limits.paths([[ids] for ids in texts])
        self.limits.check_lengths(paths)
        work = Work()
        parts = in_order([len(ids) for [ids] in paths], self.budget)
        pooled = [self._pooled(states) for part in parts for states in self._states([paths[i][0] for i in part], work)]
        labels = range(len(self.head.weight))
        states = torch.stack(pooled).to(self.model.dtype) if pooled else self.head.weight[:0]
        logits = finite(self.head.logits(states, labels) / self.temperature, range(len(texts)))
        real = sum(len(ids) for [ids] in paths)
        flops = work.flops + self.head.flops(len(texts), len(labels))
        return Scored(logits.cpu(), Cost(real, 0, 0, work.rows - real, flops, len(parts)))

    def _states(self, texts: Sequence[Sequence[int]], work: Work) -> list[Tensor]:
        """The hidden states of each text after the last norm: [tokens, dim] each."""
        lengths = [len(text) for text in texts]
        count = self._rows(sum(lengths))
        ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=self.device)
        row = Row(ends, max(lengths), work)
        ids = self._filled([token for text in texts for token in text], count)
        places = self._filled([place for length in lengths for place in range(length)], count)
        hidden: Tensor = self.model.base_model(
            input_ids=ids, position_ids=places, use_cache=False, row=row
        ).last_hidden_state[0]
        work.rows += count
        work.products(count, self._weights)
        return list(torch.split(hidden[: sum(lengths)], lengths))

    def _pooled(self, states: Tensor) -> Tensor:
        if self.pooling == "avg":
            return states.float().mean(0)
        return states[0 if self.pooling == "cls" else -1].float()

    def _rows(self, real: int) -> int:
        if self.device.type != "cpu" or self.model.dtype != torch.float32:
            return real
        fewest = linear.FEWEST_ROWS if self.fused else linear.SAFE_ROWS
        return settled_rows(max(real, fewest), self._widths, torch.get_num_threads())

    def _filled(self, values: list[int], count: int) -> Tensor:
        return torch.tensor([values + [0] * (count - len(values))], dtype=torch.int64, device=self.device)

    def _compare(self, expected: Sequence[Tensor]) -> None:
        tolerance = 1e-2 if self.model.dtype == torch.float32 else 1e-1
        with torch.inference_mode():
            for states, stock in zip(self._states(PROBES, Work()), expected, strict=True):
                if not torch.allclose(states.float(), stock.float(), rtol=tolerance, atol=tolerance):
                    raise CheckpointError(
                        f"packed rows change the hidden states of this {self.limits.name} by up to "
                        f"{(states - stock).abs().max().item():.2g}; please report it with the version of transformers"
                    )


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    row: Row,
    scaling: float,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: [1, heads, rows, dim] -> [1, rows, heads, dim]; filler becomes zeros."""
    heads, dim = query.shape[1], query.shape[3]
    row.work.attend(sum(length * length for length in row.lengths), heads * dim)
    output = query.new_zeros(1, query.shape[2], heads, dim)
    real = int(row.ends[-1])
    if query.device.type == "cuda":
        parts = (each[0, :, :real].transpose(0, 1) for each in (query, key, value))
        output[0, :real] = varlen_attention(*parts, row.ends, row.longest, scale=scaling)
        return output, None
    for start, end in itertools.pairwise(row.ends.tolist()):
        queries, keys, values = (each[:, :, start:end] for each in (query, key, value))
        grouped = heads != key.shape[1]
        seen = scaled_dot_product_attention(queries, keys, values, scale=scaling, enable_gqa=grouped)
        output[:, start:end] = seen.transpose(1, 2)
    return output, None


@torch.inference_mode()
def _stock(model: Any, ids: Sequence[int]) -> Tensor:
    """The hidden states of the model's own layers when all tokens see each other: [tokens, dim]."""
    sees = torch.zeros(1, 1, len(ids), len(ids), dtype=model.dtype, device=model.device)
    states: Tensor = model.base_model(
        torch.tensor([ids], device=model.device), attention_mask=sees, use_cache=False
    ).last_hidden_state
    return states[0]
