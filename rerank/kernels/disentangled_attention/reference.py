"""DeBERTa's attention over packed sequences: the definition."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["disentangled_attention", "position_rows"]


def disentangled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos_key: Tensor | None,
    pos_query: Tensor | None,
    cu_seqlens: Tensor,
    longest: int,
    *,
    buckets: int = 256,
    max_distance: int = 512,
) -> Tensor:
    """Attention to content, and between content and relative positions.

    score(i, j) = (q_i · k_j + q_i · pos_key_r + k_j · pos_query_r) · scale, where r is the row for the distance i - j
    and scale is 1 / sqrt(dim · terms), the terms being those of the three that are there (He et al., 2021,
    https://arxiv.org/abs/2006.03654).

    Args:
        q, k, v: [tokens, heads, dim].
        pos_key, pos_query: [2 * span, heads, dim], projected embeddings of relative positions; None: the model has no
            such term ("c2p", "p2c" in its pos_att_type). span is `buckets`, or `max_distance` without buckets.
        cu_seqlens: int32 [sequences + 1], where sequences start, and at last the number of tokens.
        longest: tokens of the longest sequence, or more; known on the host.
        buckets: DeBERTa-v2's position_buckets; 0 or less: a row for each distance.
        max_distance: its max_relative_positions, or max_position_embeddings where those are below 1.

    Returns:
        [tokens, heads, dim] in q's dtype, computed in float32.
    """
    scale = (q.shape[-1] * (1 + (pos_key is not None) + (pos_query is not None))) ** -0.5
    rows = position_rows(longest, buckets, max_distance).to(q.device)
    outputs = []
    for start, end in pairwise(cu_seqlens.tolist()):
        queries, keys, values = (part[start:end].float() for part in (q, k, v))
        places = torch.arange(end - start, device=q.device)
        row = rows[places[:, None] - places[None, :] + longest - 1]  # [queries, keys]
        scores = torch.einsum("qhd,khd->hqk", queries, keys)
        if pos_key is not None:
            to_position = torch.einsum("qhd,rhd->hqr", queries, pos_key.float())
            scores = scores + to_position.gather(2, row.expand(len(scores), -1, -1))
        if pos_query is not None:
            from_position = torch.einsum("khd,rhd->hrk", keys, pos_query.float())
            scores = scores + from_position.gather(1, row.expand(len(scores), -1, -1))
        outputs.append(torch.einsum("hqk,khd->qhd", (scores * scale).softmax(-1), values))
    return torch.cat(outputs).to(q.dtype)


def position_rows(longest: int, buckets: int, max_distance: int) -> Tensor:
    """Which row of the position tables is for each distance, from 1 - longest to longest - 1.

    A distance is the query's place minus the key's. Those up to half the buckets have a row each; longer ones share
    rows that grow as a logarithm does.
    """
    distance = torch.arange(1 - longest, longest)
    if buckets <= 0:
        return (distance + max_distance).clamp(0, 2 * max_distance - 1)
    middle = buckets // 2
    # in float32 and in this order as in transformers, so that no distance falls on the other side of an edge
    far = distance.abs().clamp(min=middle)
    steps = torch.log(far / middle) / torch.log(torch.tensor((max_distance - 1) / middle)) * (middle - 1)
    wide = (torch.ceil(steps) + middle).long() * distance.sign()
    return (torch.where(distance.abs() <= middle, distance, wide) + buckets).clamp(0, 2 * buckets - 1)
