"""TCT-ColBERT: a dense student beside its teacher, which compares every query of a batch with all of its documents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rerank import checkpoints
from rerank.engine.loading import explained, quiet
from training.losses import LOSSES

__all__ = ["LOSS", "TightlyCoupled", "teacher_of", "with_texts"]

LOSS = "tightly-coupled"
TEXTS = "texts"
"""What a column's texts are called beside the student's tokens of them: the teacher has tokens of its own."""


class TightlyCoupled(nn.Module):
    """The loss of Lin et al. (2020, https://arxiv.org/abs/2010.11386), as sentence-transformers' trainers take one.

    Args:
        model: the student, of sentence-transformers; compared by products of its vectors.
        teacher: a multi-vector encoder of sentence-transformers, which is not trained.
        options: of the loss `tightly-coupled`.
    """

    def __init__(self, model: Any, teacher: Any, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.options = model, dict(options)
        self._teacher = (teacher,)  # in a tuple it is no part of what is trained, saved or divided

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        """The mean over queries; the documents of a column stand together, the positive ones first."""
        columns = [dict(features) for features in sentence_features]
        texts = [features.pop(TEXTS) for features in columns]
        queries, *documents = [self.model(features)["sentence_embedding"] for features in columns]
        scores = queries @ torch.cat(documents).T  # [queries, docs]
        taught = self._taught(texts[0], [text for column in texts[1:] for text in column]).to(scores)
        right = torch.eye(*scores.shape, device=scores.device)
        whole = torch.ones_like(scores, dtype=torch.bool)
        return LOSSES[LOSS](scores, taught, whole, relevance=right, **self.options).mean()

    @torch.no_grad()
    def _taught(self, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
        """What the teacher makes of every query with every document: [queries, docs]."""
        [teacher] = self._teacher
        shown: dict[str, Any] = {"show_progress_bar": False, "batch_size": 64}
        read = teacher.encode_query(list(queries), **shown), teacher.encode_document(list(documents), **shown)
        scores: Tensor = teacher.similarity(*read)
        return scores


def teacher_of(name: str, device: str) -> Any:
    """A multi-vector encoder by name, hub id or folder.

    Raises:
        CheckpointError: when it cannot be loaded.
    """
    from sentence_transformers import MultiVectorEncoder

    folder = checkpoints.fetch(name)
    with quiet(), explained(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MultiVectorEncoder(str(folder), device=device).eval().requires_grad_(False)


def with_texts(preprocess: Callable[..., Mapping[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A student's way of reading a column, which keeps its texts."""

    def reads(texts: Sequence[str], **options: Any) -> dict[str, Any]:
        return {**preprocess(texts, **options), TEXTS: list(texts)}

    return reads
