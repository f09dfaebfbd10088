"""MaxSim over ragged documents in Triton: no padding, and no [query_tokens, doc_tokens] in memory."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from rerank.kernels.maxsim.reference import best
from rerank.kernels.products import in_float32, inner_products, size
from rerank.kernels.tile import runs_here

__all__ = ["maxsim", "maxsim_top", "supports"]

QUERY_TOKENS = size(32)  # ColBERT's queries are 32 tokens; longer ones take several rounds
DOC_TOKENS = size(64)
DIM = size(64)


def supports(
    queries: Tensor,
    documents: Tensor,
    cu_seqlens: Tensor,
    query_mask: Tensor | None = None,
    owners: Tensor | None = None,
    **options: Any,
) -> bool:
    """Whether the kernel can take these."""
    dtypes = {torch.float32, torch.float16, torch.bfloat16, torch.int8}
    return (
        queries.dtype == documents.dtype
        and queries.dtype in dtypes
        and runs_here(queries, documents, cu_seqlens, query_mask, owners)
    )


@triton.jit
def _maxsim(
    queries, documents, cu_seqlens, query_mask, owners, scores, matches, query_count, docs, query_tokens, dim,
    FLOAT32: tl.constexpr, QUERY_TOKENS: tl.constexpr, DOC_TOKENS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    # One program a pair. Neighbours share a document, which is what is long, while it is still in the cache.
    program = tl.program_id(0).to(tl.int64)
    if owners is None:
        doc = program // query_count
        query = program % query_count
        pair = query * docs + doc
    else:
        doc = program
        query = tl.load(owners + doc).to(tl.int64)
        pair = program
    start = tl.load(cu_seqlens + doc).to(tl.int64)
    stop = tl.load(cu_seqlens + doc + 1).to(tl.int64)

    score = 0.0
    for first in range(0, query_tokens, QUERY_TOKENS):
        token = first + tl.arange(0, QUERY_TOKENS)
        counted = token < query_tokens
        place = query * query_tokens + token
        largest = tl.full([QUERY_TOKENS], float("-inf"), tl.float32)
        match = tl.full([QUERY_TOKENS], -1, tl.int64)
        for begin in range(start, stop, DOC_TOKENS):
            other = begin + tl.arange(0, DOC_TOKENS)
            live = other < stop
            found = inner_products(queries + place * dim, counted, documents + other * dim, live, dim, FLOAT32, DIM)
            found = tl.where(found == found, found, float("inf"))  # a maximum would drop NaN; infinity stays to be seen
            found = tl.where(live[None, :], found, float("-inf"))
            top, index = tl.max(found, 1, return_indices=True)
            match = tl.where(top > largest, begin + index, match)  # >: of equal matches the first one stays
            largest = tl.maximum(largest, top)
        if matches is not None:
            tl.store(matches + pair * query_tokens + token, match, mask=counted)
        if query_mask is not None:
            counted = counted & (tl.load(query_mask + place, mask=counted, other=0) != 0)
        score += tl.sum(tl.where(counted, largest, 0.0), 0)
    tl.store(scores + pair, tl.where(start < stop, score, float("-inf")))


class _MaxSim(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, documents: Tensor, cu_seqlens: Tensor, mask: Tensor | None, owners: Tensor | None
    ) -> Tensor:
        queries, documents = queries.contiguous(), documents.contiguous()
        query_count, query_tokens, dim = queries.shape
        docs = len(cu_seqlens) - 1
        pairs = docs if owners is not None else query_count * docs
        scores = torch.empty(pairs, device=queries.device)
        trained = any(ctx.needs_input_grad)
        matches = torch.empty(pairs, query_tokens, dtype=torch.int64, device=queries.device) if trained else None
        _maxsim[(pairs,)](
            queries, documents, cu_seqlens, None if mask is None else mask.contiguous(), owners, scores, matches,
            query_count, docs, query_tokens, dim,
            FLOAT32=in_float32(queries, documents), QUERY_TOKENS=QUERY_TOKENS, DOC_TOKENS=DOC_TOKENS, DIM=DIM,
        )  # fmt: skip
        ctx.save_for_backward(queries, documents, mask, owners, matches)
        return scores if owners is not None else scores.view(query_count, docs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Both gradients are products with one sparse matrix, which has an entry a pair and query token: its match."""
        queries, documents, mask, owners, matches = ctx.saved_tensors
        chosen = _choices(gradient, queries, len(documents), mask, owners, matches)
        to_queries = torch.sparse.mm(chosen, documents.float()).view(queries.shape).to(queries.dtype)
        to_documents = torch.sparse.mm(chosen.t(), queries.float().flatten(0, 1)).to(documents.dtype)
        return to_queries, to_documents, None, None, None


def _choices(
    gradient: Tensor, queries: Tensor, doc_tokens: int, mask: Tensor | None, owners: Tensor | None, matches: Tensor
) -> Tensor:
    """Each pair's gradient where its query tokens meet their matches: sparse [queries * query_tokens, doc_tokens]."""
    query_count, query_tokens = queries.shape[:2]
    pairs = torch.arange(len(matches), device=matches.device)
    query = owners if owners is not None else pairs // max(gradient.shape[-1], 1)
    counted = matches >= 0  # not so for a document without tokens
    if mask is not None:
        counted = counted & mask[query]
    pair, token = counted.nonzero(as_tuple=True)
    places = torch.stack([query[pair] * query_tokens + token, matches[pair, token]])
    shape = (query_count * query_tokens, doc_tokens)
    return torch.sparse_coo_tensor(places, gradient.flatten()[pair], shape, check_invariants=False)


def maxsim(
    queries: Tensor,
    documents: Tensor,
    cu_seqlens: Tensor,
    query_mask: Tensor | None = None,
    owners: Tensor | None = None,
) -> Tensor:
    """As the reference, one program a pair of query and document."""
    return _MaxSim.apply(queries, documents, cu_seqlens, query_mask, owners)


def maxsim_top(
    queries: Tensor, documents: Tensor, cu_seqlens: Tensor, query_mask: Tensor | None = None, *, cutoff: int
) -> tuple[Tensor, Tensor]:
    """As the reference. Only the scores stand between the two steps, four bytes for thousands read to make them."""
    return best(maxsim(queries, documents, cu_seqlens, query_mask), cutoff)
