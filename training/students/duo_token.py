"""duoT5: which of two documents is the more relevant one, by the logits of two words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from rerank.errors import InputError
from training.comparisons import comparisons
from training.examples import Example
from training.students.target_token import TargetToken

__all__ = ["DuoToken", "sym_sum"]

AT_ONCE = 64
"""Texts in a forward pass while measuring, where a list of n documents has n (n - 1) of them."""


class DuoToken(TargetToken):
    """A T5 or a causal model that is asked by a prompt about a pair (duoT5, https://arxiv.org/abs/2101.05667).

    Both orders of each pair that the labels tell apart are read. The loss `comparison` is then duoT5's cross-entropy
    over "true" and "false". To be measured all pairs are read, and summed symmetrically: keep development lists short.

    Args:
        name, max_tokens, packed, lora, dtype: as of `TargetToken`.
        prompt: of the toolkit, that asks to compare by two target words: "duot5", "prp" …

    Raises:
        CheckpointError, InputError: as of `TargetToken`.
    """

    wants: ClassVar[str] = "comparisons"
    asks: ClassVar[str] = "compare"
    usual_prompt: ClassVar[str] = "duot5"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks: all pairs in both orders."""
        return {**super().asked_as(), "algorithm": "all-pairs", "options": {"aggregate": "sym-sum"}}

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A prompt an ordered pair, and whose it is in `pairs`: list, first, second, [texts, 3]."""
        pairs = [
            (index, one, two)
            for index, example in enumerate(examples)
            for one, two, _ in comparisons(example, self.target)
        ]
        if not pairs:
            raise InputError("no list of a batch has two documents that its labels tell apart; draw more with 'sample'")
        texts = [
            (examples[index].query, [examples[index].documents[one], examples[index].documents[two]])
            for index, one, two in pairs
        ]
        counts = torch.tensor([len(example) for example in examples])
        return {**self.prompts(texts), "pairs": torch.tensor(pairs).reshape(-1, 3), "counts": counts}

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> Any:
        """`logits`, whose sigmoid is P(the first wins) [texts], and `pairs` and `counts` as read."""
        pairs, counts = inputs.pop("pairs"), inputs.pop("counts")
        return {"logits": self._logits(inputs), "pairs": pairs, "counts": counts}

    def scores_of(self, outputs: dict[str, Tensor]) -> Tensor:
        """duoT5's SYM-SUM over all pairs: float [texts]."""
        pairs, counts = outputs["pairs"], outputs["counts"]
        width = int(counts.max())
        wins = outputs["logits"].new_zeros(len(counts), width, width)
        wins[tuple(pairs.T)] = outputs["logits"].sigmoid()
        return torch.cat([sym_sum(table[:count, :count]) for table, count in zip(wins, counts.tolist(), strict=True)])

    def _logits(self, inputs: dict[str, Tensor]) -> Tensor:
        read: Callable[..., Tensor] = super().forward

        def logit(**texts: Tensor) -> Tensor:
            return TargetToken.scores_of(self, read(**texts))

        if torch.is_grad_enabled() or not self.seq2seq or len(inputs["input_ids"]) <= AT_ONCE:
            return logit(**inputs)
        parts = zip(*(torch.split(tensor, AT_ONCE) for tensor in inputs.values()), strict=True)
        return torch.cat([logit(**dict(zip(inputs, part, strict=True))) for part in parts])


def sym_sum(wins: Tensor) -> Tensor:
    """The sum over others of p_ij + (1 - p_ji): [docs, docs] -> [docs]."""
    others = 1 - torch.eye(len(wins), device=wins.device, dtype=wins.dtype)
    summed: Tensor = ((wins + 1 - wins.T) * others).sum(-1)
    return summed
