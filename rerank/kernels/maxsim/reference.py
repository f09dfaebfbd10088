"""What late interaction computes. This is the definition; `triton.py` is faster."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["maxsim", "maxsim_top"]


def maxsim(
    queries: Tensor,
    documents: Tensor,
    cu_seqlens: Tensor,
    query_mask: Tensor | None = None,
    owners: Tensor | None = None,
) -> Tensor:
    """How well documents answer queries: each query token's best match among a document's tokens, added up.

    The score of ColBERT (Khattab and Zaharia, 2020, https://arxiv.org/abs/2004.12832), whose [MASK] tokens count as any
    other.

    Args:
        queries: a vector a query token, [queries, query_tokens, dim]; floats or int8.
        documents: all documents' token vectors, one after the other, [doc_tokens, dim]; of the same dtype.
        cu_seqlens: where each document begins, and where the last ends, integer [docs + 1], from 0 to doc_tokens.
        query_mask: bool [queries, query_tokens]; False is padding and adds nothing.
        owners: each document's query, integer [docs] below queries; without it every document meets every query.

    Returns:
        float32 scores [queries, docs], or [docs] with owners. A document without tokens matches nothing: -inf.
        Among equal matches the document's first token gets the gradient.
    """
    tokens = queries.float()
    mask = torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device) if query_mask is None else query_mask
    pieces = documents.float().split(cu_seqlens.diff().tolist())
    if owners is None:
        scores = [_score(tokens, piece, mask) for piece in pieces]
        return torch.stack(scores, 1) if scores else tokens.new_zeros(len(queries), 0)
    scores = [_score(tokens[owner], piece, mask[owner]) for owner, piece in zip(owners.tolist(), pieces, strict=True)]
    return torch.stack(scores) if scores else tokens.new_zeros(0)


def maxsim_top(
    queries: Tensor, documents: Tensor, cu_seqlens: Tensor, query_mask: Tensor | None = None, *, cutoff: int
) -> tuple[Tensor, Tensor]:
    """Each query's best documents.

    Args:
        queries, documents, cu_seqlens, query_mask: as in `maxsim`, every document meeting every query.
        cutoff: how many documents to give; all of them when there are fewer.

    Returns:
        Scores, float32, and the documents' indices, int64, both [queries, min(cutoff, docs)], best first; of equal
        scores the lower index comes first.
    """
    return best(maxsim(queries, documents, cu_seqlens, query_mask), cutoff)


def best(scores: Tensor, cutoff: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row with their indices; a stable sort, because `topk` gives ties in any order."""
    ordered, indices = scores.sort(dim=-1, descending=True, stable=True)
    return ordered[..., :cutoff], indices[..., :cutoff]


def _score(queries: Tensor, document: Tensor, mask: Tensor) -> Tensor:
    """[..., query_tokens, dim], [doc_tokens, dim], [..., query_tokens] -> [...]"""
    if not len(document):
        return queries.new_full(mask.shape[:-1], -torch.inf)
    matches = (queries @ document.T).max(-1).values
    return matches.masked_fill(~mask, 0.0).sum(-1)
