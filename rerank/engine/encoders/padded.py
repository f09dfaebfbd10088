"""Passes through a model's own forward: padded to a rectangle, or one text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank.engine.encoders.flops import ForwardCost
from rerank.engine.encoders.layers import HEAD_ROWS, in_fixed_rows
from rerank.engine.encoders.packed import Head, Output, Pooling
from rerank.engine.tokens import Pair

__all__ = ["PaddedPass", "StatesPass", "StockPass", "rectangle", "single"]


class PaddedPass:
    """The backbone's own forward over a rectangle, and a float32 head on what it gives.

    Args:
        model: a classifier.
        mean: whether texts are pooled by their mean, not by their first token.
        head: of the family.
        why: the reason for it, for the ledger.
    """

    packs = False

    def __init__(self, model: Any, *, mean: bool, head: Head, why: str | None = None) -> None:
        self.model, self.mean, self.head = model, mean, head
        self.execution = f"padded ({why})" if why else "padded"
        self.cost = ForwardCost.of_model(model)

    def run(self, texts: Sequence[Pair]) -> Output:
        """Compute a batch."""
        lengths = [len(text.ids) for text in texts]
        hidden = self.model.base_model(**rectangle(self.model, texts)).last_hidden_state  # [texts, longest, hidden]
        logits = in_fixed_rows(self.head, self._pooled(hidden, lengths).float())
        heads = -(-len(texts) // HEAD_ROWS) * HEAD_ROWS
        return _output(logits, self.cost, lengths, heads)

    def _pooled(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        if not self.mean:
            return hidden[:, 0]
        return torch.stack([hidden[index, :length].float().mean(0) for index, length in enumerate(lengths)])


class StockPass:
    """The whole model's own forward.

    Args:
        model: a classifier.
        why: the reason for it, for the ledger.
        alone: one text at a time, without padding, instead of a rectangle.
    """

    def __init__(self, model: Any, *, why: str | None, alone: bool) -> None:
        self.model, self.packs = model, alone
        self.cost = ForwardCost.of_model(model)
        self.execution = ("single" if alone else "stock") + (f" ({why})" if why else "")

    def run(self, texts: Sequence[Pair]) -> Output:
        """Compute a batch."""
        lengths = [len(text.ids) for text in texts]
        if self.packs:
            return Output(
                single(self.model, texts).float().cpu(), 0, self.cost.flops(sum(lengths), lengths, len(texts))
            )
        return _output(self.model(**rectangle(self.model, texts)).logits, self.cost, lengths, len(texts))


class StatesPass:
    """The hidden states that a backbone's own forward gives.

    Args:
        model: a backbone.
        pooling: what is read of each text.
        head: applied to what was pooled (without pooling, to every token's state), or None.
        head_size: weights of the head, for the bill.
        why: the reason for it, for the ledger.
        alone: one text at a time, without padding, instead of a rectangle.
    """

    def __init__(
        self,
        model: Any,
        pooling: Pooling,
        head: Head | None = None,
        head_size: int = 0,
        *,
        why: str | None,
        alone: bool,
    ) -> None:
        self.model, self.pooling, self.packs, self.head = model, pooling, alone, head
        self.cost = replace(ForwardCost.of_model(model), per_text=2 * head_size)
        self.execution = ("single" if alone else "stock") + (f" ({why})" if why else "")

    def run(self, texts: Sequence[Pair]) -> Output:
        """Compute a batch."""
        lengths = [len(text.ids) for text in texts]
        several = [[text] for text in texts] if self.packs else [texts]
        hidden = [states for part in several for states in self.model(**rectangle(self.model, part)).last_hidden_state]
        pooled = torch.cat([self._pooled(states[:length]) for states, length in zip(hidden, lengths, strict=True)])
        values = (pooled if self.head is None else in_fixed_rows(self.head, pooled)).cpu()
        heads = -(-len(pooled) // HEAD_ROWS) * HEAD_ROWS
        if self.packs:
            return Output(values, 0, self.cost.flops(sum(lengths), lengths, heads))
        return _output(values, self.cost, lengths, heads)

    def _pooled(self, states: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens or 1, hidden], float32."""
        if self.pooling == "mean":
            return states.float().mean(0, keepdim=True)
        return (states if self.pooling == "none" else states[:1]).float()


def single(model: Any, texts: Sequence[Pair]) -> Tensor:
    """Logits by the model's own forward, one unpadded text at a time."""
    return torch.cat([model(**rectangle(model, [text])).logits for text in texts])


def rectangle(model: Any, texts: Sequence[Pair]) -> dict[str, Tensor]:
    """What a model's own forward reads: [texts, longest]."""
    longest = max(len(text.ids) for text in texts)
    ids = np.full((len(texts), longest), getattr(model.config, "pad_token_id", None) or 0)
    types, mask = np.zeros_like(ids), np.zeros_like(ids)
    for index, text in enumerate(texts):
        ids[index, : len(text.ids)] = text.ids
        types[index, : len(text.ids)] = text.types
        mask[index, : text.seen or len(text.ids)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(model.config, "type_vocab_size", 0) > 1 and model.config.model_type != "modernbert":
        inputs["token_type_ids"] = types
    return {name: torch.from_numpy(value).to(model.device) for name, value in inputs.items()}


def _output(logits: Tensor, cost: ForwardCost, lengths: Sequence[int], heads: int) -> Output:
    longest = max(lengths)
    rows = longest * len(lengths)
    flops = cost.flops(rows, [longest] * len(lengths), heads)
    return Output(logits.float().cpu(), rows - sum(lengths), flops)
