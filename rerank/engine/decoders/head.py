"""What reads the last hidden states: a few tokens' rows of the output head, a score head, or one token's likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rerank.kernels.target_logits import target_logits, token_log_probs

__all__ = ["HEAD_ROWS", "Head"]

HEAD_ROWS = 32
"""Rows of a product where bits are settled: always so many, so that they do not depend on how many there are."""


@dataclass(frozen=True)
class Head:
    """An output head; it answers in float32.

    Args:
        weight: [vocab or labels, dim].
        bias: [vocab or labels], or None.
        softcap: the c of c · tanh(logit / c), or None.
        labels: True when it scores labels, False when tokens of the vocabulary.
        settled: whether a row's bits must not depend on other rows.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    labels: bool
    settled: bool

    @classmethod
    def of(cls, model: Any) -> Head:
        """The head of a causal model."""
        settled = model.device.type == "cpu" and model.dtype == torch.float32
        if not hasattr(model, "lm_head"):
            return cls(model.score.weight, model.score.bias, None, labels=True, settled=settled)
        softcap = getattr(model.config, "final_logit_softcapping", None)
        return cls(model.lm_head.weight, model.lm_head.bias, softcap, labels=False, settled=settled)

    def logits(self, hidden: Tensor, targets: Sequence[int]) -> Tensor:
        """Raw logits of some tokens or labels: [rows, dim] -> [rows, targets]."""
        ids = torch.tensor(list(targets), device=hidden.device)

        def read(rows: Tensor) -> Tensor:
            logits: Tensor = target_logits(rows, self.weight, ids, self.bias, softcap=self.softcap)[0]
            return logits

        return self._by_rows(read, hidden)

    def all_logits(self, hidden: Tensor) -> Tensor:
        """Raw logits of the whole vocabulary: [rows, dim] -> [rows, vocab]."""

        def read(rows: Tensor) -> Tensor:
            logits = nn.functional.linear(rows, self.weight, self.bias).float()
            return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

        return self._by_rows(read, hidden)

    def log_probs(self, hidden: Tensor, ids: Sequence[int]) -> Tensor:
        """The log-probability over the vocabulary of one token a row, in nats: [rows, dim] -> [rows]."""
        chosen = torch.tensor(list(ids), dtype=torch.int64, device=hidden.device)[:, None]

        def read(rows: Tensor, tokens: Tensor) -> Tensor:
            log_probs: Tensor = token_log_probs(rows, self.weight, tokens[:, 0], self.bias, softcap=self.softcap)
            return log_probs

        return self._by_rows(read, hidden, chosen)

    def flops(self, rows: int, targets: int) -> int:
        """Of reading so many targets from so many rows."""
        executed = -(-rows // HEAD_ROWS) * HEAD_ROWS if self.settled else rows
        return 2 * executed * targets * self.weight.shape[1]

    def _by_rows(self, read: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Read `HEAD_ROWS` rows at a time, the last of them filled up with zeros."""
        if not self.settled:
            return read(*inputs)
        outputs = []
        for parts in zip(*(torch.split(rows, HEAD_ROWS) for rows in inputs), strict=True):
            count = len(parts[0])
            outputs.append(read(*(nn.functional.pad(part, (0, 0, 0, HEAD_ROWS - count)) for part in parts))[:count])
        return torch.cat(outputs)
