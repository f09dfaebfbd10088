"""The output head of a T5, a few rows of it or the likelihood of one id a position."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rerank.engine.t5.encoder import Work
from rerank.engine.t5.model import head_scale
from rerank.kernels.target_logits import token_log_probs

__all__ = ["OutputHead"]

LIKELIHOOD_ROWS = 64  # rows that the whole output head sees at a time, so that bits do not depend on how many there are


class OutputHead:
    """The output head of a T5, read in float32 at the rows that are wanted."""

    def __init__(self, model: Any) -> None:
        self._layer = model.lm_head
        self._scale = head_scale(model.config)
        self.size: int = model.lm_head.out_features

    def rows(self, ids: Sequence[int] | None) -> Tensor:
        """The rows of some ids, or of all: float32 [ids, dim]."""
        weight: Tensor = self._layer.weight
        if ids is not None:
            weight = weight[torch.tensor(list(ids), dtype=torch.long, device=weight.device)]
        return weight.float()

    def read(self, hidden: Tensor, rows: Tensor, work: Work) -> Tensor:
        """Raw logits, float32 [positions, ids]."""
        work.flops += 2 * len(hidden) * rows.numel()
        return nn.functional.linear(hidden.float() * self._scale, rows)

    def log_probs(self, hidden: Tensor, chosen: Sequence[Sequence[int]], work: Work) -> Tensor:
        """The log-probability of each chosen id at its position: [positions, dim] -> float32 [positions]."""
        weight = self._layer.weight
        ids = torch.tensor([*itertools.chain.from_iterable(chosen)], device=hidden.device)
        filler = -len(ids) % LIKELIHOOD_ROWS
        hidden, ids = nn.functional.pad(hidden, (0, 0, 0, filler)), nn.functional.pad(ids, (0, filler))
        work.flops += 2 * len(hidden) * weight.numel()
        blocks = zip(torch.split(hidden, LIKELIHOOD_ROWS), torch.split(ids, LIKELIHOOD_ROWS), strict=True)
        told = [token_log_probs(rows, weight, targets, scale=self._scale) for rows, targets in blocks]
        return torch.cat(told)[: len(ids) - filler]
