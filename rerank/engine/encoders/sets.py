"""Encoders of sets: every text is a sequence of its own, and sees one token of each other text of its set.

The texts of a set are computed in an order of their own, by content, and their scores put back: what is added up over
the others is then added in the same order whatever order they came in, and no bit depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rerank.engine import linear
from rerank.engine.encoders.attention import whole
from rerank.engine.encoders.choice import check_agreement, probes
from rerank.engine.encoders.families import taken_apart
from rerank.engine.encoders.flops import ForwardCost
from rerank.engine.encoders.layers import HEAD_ROWS, Backbone, in_fixed_rows
from rerank.engine.encoders.packed import Output, inverse, keep_freed_memory, rows_for, widths_of
from rerank.engine.encoders.padded import rectangle
from rerank.engine.encoders.row import Row, moved, row_of
from rerank.engine.streams import parts_of, side_by_side
from rerank.engine.tokens import Pair
from rerank.kernels.set_attention import first_token_set_attention, set_attention

__all__ = ["SetAttention", "SetEncoding", "Texts"]

Texts = Sequence[Pair]
"""Of a set, in any order."""


class SetAttention(nn.Module):
    """A text's own tokens, and one token of each other text of its set, without positions (Set-Encoder).

    Args:
        interaction: the index of that token in its text.
    """

    window = None

    def __init__(self, interaction: int) -> None:
        super().__init__()
        self.interaction = interaction

    def forward(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[rows, heads, dim] -> [rows, width]."""
        return whole(set_attention(q, k, v, row.ends, row.longest, row.sets, interaction=self.interaction), row)

    def first(self, q: Tensor, k: Tensor, v: Tensor, row: Row) -> Tensor:
        """[texts, heads, dim], [rows, heads, dim] -> [texts, width]."""
        output: Tensor = first_token_set_attention(
            q, k, v, row.ends, row.longest, row.sets, interaction=self.interaction
        )
        return output.flatten(1)

    def products(self, side: tuple[int, int]) -> int:
        """Multiply-adds for each channel, of (tokens of a text, others that it sees)."""
        length, others = side
        return 2 * length * (length + others)

    def first_products(self, side: tuple[int, int]) -> int:
        """Those of the first token alone."""
        return 2 * sum(side)


class SetEncoding:
    """A forward pass over sets of texts, which are never split.

    Args:
        model: a backbone of BERT's shape with a `linear` on its first token's state, in evaluation mode, on its
            device; taken apart.
        interaction: the index of the token that other texts see.

    Raises:
        CheckpointError: when a text alone is scored differently than by the model's own forward, or texts together
            than by the definition of their attention; both are tried at load.
    """

    def __init__(self, model: Any, *, interaction: int) -> None:
        self.device: torch.device = model.device
        with torch.inference_mode():
            several = probes(model)
            expected = torch.cat([_alone(model, text) for text in several]).float()
            self.head, self.widths = model.linear.float(), widths_of(model)
            self.backbone = _taken_apart(model, interaction, cut=self.device.type == "cpu")
            self.cost = ForwardCost.of_backbone(self.backbone, self.head.weight.numel(), first=True)
            self.fused = linear.available(model)
            if self.fused:
                linear.fuse(self.backbone)
            self.attention = self._provider()
            check_agreement(model, self.run([[text] for text in several]).values, expected)
            self._check_together(model, several)
        keep_freed_memory()

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"sets in one row{', fused linear layers' if self.fused else ''}, {self.attention} attention"

    @torch.inference_mode()
    def run(self, sets: Sequence[Texts]) -> Output:
        """Logits [texts, labels] of all sets in turn; computed side by side where threads find enough to do."""
        threads = torch.get_num_threads() if self.fused and self.attention == "native" else 1
        parts = parts_of([sum(len(text.ids) for text in texts) for texts in sets], threads)
        if len(parts) < 2:
            return self._run(sets)
        outputs = side_by_side(self._run, [sets[part] for part in parts], threads)
        return Output(
            torch.cat([output.values for output in outputs]),
            sum(output.padded for output in outputs),
            sum(output.flops for output in outputs),
        )

    def _run(self, sets: Sequence[Texts]) -> Output:
        orders = [_order(texts) for texts in sets]
        texts = [each[index] for each, order in zip(sets, orders, strict=True) for index in order]
        lengths = [len(text.ids) for text in texts]
        real = sum(lengths)
        rows = rows_for(real, linear.FEWEST_ROWS if self.fused else linear.SAFE_ROWS, self.widths)
        row = row_of(texts, rows, [len(each) for each in sets])
        pooled = self.backbone.first(row if self.device.type == "cpu" else moved(row, self.device)).float()
        values = in_fixed_rows(self.head, pooled).cpu()
        starts = [sum(map(len, sets[:place])) for place in range(len(sets))]
        back = torch.cat([inverse(order) + start for order, start in zip(orders, starts, strict=True)])
        others = [len(each) - 1 for each in sets for _ in each]
        heads = -(-len(texts) // HEAD_ROWS) * HEAD_ROWS
        flops = self.cost.flops(rows, list(zip(lengths, others, strict=True)), heads)
        return Output(values[back], rows - real, flops)

    def _provider(self) -> str:
        """Who computes attention here."""
        layer: Any = self.backbone.layers[0]
        weight = next(self.backbone.parameters())
        part = torch.empty(2, layer.heads, layer.width // layer.heads, dtype=weight.dtype, device=self.device)
        ends = torch.tensor([0, 2], dtype=torch.int32, device=self.device)
        sets = torch.tensor([0, 1], dtype=torch.int32, device=self.device)
        return set_attention.pick(part, part, part, ends, 2, sets).name

    def _check_together(self, model: Any, texts: Texts) -> None:
        with set_attention.using("reference"), first_token_set_attention.using("reference"):
            expected = self._run([texts]).values
        check_agreement(model, self._run([texts]).values, expected)


def _taken_apart(model: Any, interaction: int, *, cut: bool) -> Backbone:
    """The backbone with attention to sets; `cut` for a last layer of first tokens alone, as on the CPU."""
    backbone = taken_apart(model, varlen=False)
    for layer in backbone.layers:
        layer.attention = SetAttention(interaction)
    if cut:
        backbone.layers[-1].cut()  # type: ignore[operator]
    return backbone


def _alone(model: Any, text: Pair) -> Tensor:
    """What the model's own forward says of a text that knows of no other: [1, labels]."""
    states = model(**rectangle(model, [text])).last_hidden_state[:, 0]
    logits: Tensor = model.linear(states)
    return logits


def _order(texts: Texts) -> list[int]:
    """By content alone, so that it is the same for any order in which the texts came."""
    return sorted(range(len(texts)), key=lambda index: (len(texts[index].ids), texts[index].ids.tobytes()))
