"""Bi-encoders: one vector for a text, and how near two of them are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from rerank import checkpoints
from rerank.checkpoints.layouts import Layout, read_layout
from rerank.engine.encoders.heads import Head
from rerank.engine.encoders.layers import in_fixed_rows
from rerank.engine.encoders.packed import Pooling
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError
from rerank.judges.separate import SeparateJudge, check_kind
from rerank.questions import Bill
from rerank.registry import unknown

__all__ = ["BiEncoder"]

SIMILARITIES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda one, other: (normalize(one, dim=-1) * normalize(other, dim=-1)).sum(-1),
    "dot": lambda one, other: (one * other).sum(-1),
    "euclidean": lambda one, other: -(one - other).square().sum(-1).sqrt(),
    "manhattan": lambda one, other: -(one - other).abs().sum(-1),
}
"""[pairs, dim] twice -> [pairs]; the higher, the nearer."""


class BiEncoder(SeparateJudge):
    """Sentence-transformers' dense encoders (Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084).

    Args:
        folder: in sentence-transformers' layout; of a plain encoder, the mean of the tokens' states; of a plain
            language model, the state of the end token behind a text (RepLLaMA, Ma et al., 2023,
            https://arxiv.org/abs/2310.08319: say its prompts, "query: " and "passage: ").
        similarity: "cosine", "dot", "euclidean" or "manhattan" (the negative distance); as the checkpoint says by
            default.
        pooling: how a text's states become its vector, "mean", "cls", "lasttoken" …; as the checkpoint says by default.
        options: of `SeparateJudge`.
    """

    kinds: ClassVar = ("bi-encoder", "encoder", "causal")
    scoring: ClassVar = "bi-encoder 1"

    def __init__(
        self, folder: str | Path, *, similarity: str | None = None, pooling: str | None = None, **options: Any
    ) -> None:
        check_kind(folder, self.kinds, "bi-encoder")
        layout = read_layout(Path(folder))
        ended = not layout.pooling and checkpoints.kind(folder) == "causal"
        if not layout.pooling:
            layout = replace(layout, pooling=("lasttoken" if ended else "mean",), similarity="cosine")
        if similarity is not None and similarity not in SIMILARITIES:
            raise unknown("similarity", similarity, SIMILARITIES)
        if pooling is not None and pooling not in POOLS:
            raise unknown("pooling", pooling, POOLS)
        layout = replace(layout, pooling=(pooling,) if pooling else layout.pooling)
        self.pooling = _checked_pooling(layout, Path(folder))
        super().__init__(
            folder,
            replace(layout, similarity=similarity or layout.similarity),
            pooling=self.pooling,
            **{"ended": ended, **options},
        )

    def of_document(self, text: Pair, states: Tensor) -> Tensor:
        """Its vector: [1, dim]."""
        return self._vector(text, states, self.documents.prompt_tokens if self.documents.prompt else 0)

    def of_query(self, text: Pair, states: Tensor) -> Tensor:
        """The same."""
        return self._vector(text, states, self.queries.prompt_tokens if self.queries.prompt else 0)

    def compare(self, queries: Sequence[Tensor], documents: Sequence[Tensor]) -> list[float]:
        """How near each pair is."""
        of = SIMILARITIES[self.layout.similarity]
        return [of(query, document).item() for query, document in zip(queries, documents, strict=True)]

    def vectors(self, texts: Sequence[str], bill: Bill | None = None, *, queries: bool = False) -> NDArray[np.float32]:
        """Vectors of documents, or of queries, [texts, dim]: what `rerank.rerankers.feedback` and retrievers want.

        Raises:
            InputError: when a text cannot be read.
        """
        return np.concatenate([kept.tensor.numpy() for kept in self.kept_of(texts, bill, queries=queries)])

    def _head(self, head: Head) -> Head | None:
        self._behind = super()._head(head)
        return self._behind if self.pooling != "none" else None

    def _vector(self, text: Pair, states: Tensor, prompt: int) -> Tensor:
        """[1, dim], or every token's state where it is pooled here."""
        if self.pooling != "none":
            return states
        skipped = 0 if self.layout.prompt_pooled else prompt
        pooled = torch.cat([POOLS[name](states[skipped:], skipped) for name in self.layout.pooling], -1)[None]
        if self._behind is None:
            return pooled
        device = self.embedder.device
        return in_fixed_rows(self._behind, pooled.to(device)).cpu()


def _weighted(states: Tensor, before: int) -> Tensor:
    """Later tokens count more: by their place, from 1 on."""
    weights = torch.arange(before + 1, before + len(states) + 1, dtype=torch.float32)[:, None]
    return (states * weights).sum(0) / weights.sum()


POOLS: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "cls": lambda states, before: states[0],
    "mean": lambda states, before: states.mean(0),
    "max": lambda states, before: states.amax(0),
    "mean_sqrt_len_tokens": lambda states, before: states.sum(0) / len(states) ** 0.5,
    "weightedmean": _weighted,
    "lasttoken": lambda states, before: states[-1],
}
"""(states [tokens, hidden], tokens that were left out before them) -> [hidden]"""


def _checked_pooling(layout: Layout, folder: Path) -> Pooling:
    """What the engine pools itself, or "none"."""
    for name in layout.pooling:
        if name not in POOLS:
            raise CheckpointError(f"{folder} pools texts by {name!r}; it may be {', '.join(POOLS)}")
    if not layout.prompt_pooled:
        return "none"
    if layout.pooling == ("cls",):
        return "first"
    return "mean" if layout.pooling == ("mean",) else "none"
