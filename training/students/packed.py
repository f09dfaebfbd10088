"""Training without padding: the texts of a batch in one row of tokens, through transformers' own model.

The model keeps its modules, so that dropout, gradient checkpointing, LoRA, FSDP and saving are transformers'. Attention
alone is ours: registered with `AttentionInterface`, it attends text by text, those of one length in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine.encoders.row import Run, runs_of

__all__ = ["ATTENTION", "Rows", "attend", "register", "rows_of", "run_packed"]

ATTENTION = "rerank-packed"
"""What transformers knows it by."""


@dataclass(frozen=True)
class Rows:
    """Texts side by side, the shortest first.

    Args:
        ids, types, places: int64 [tokens]; places count from 0 in each text.
        lengths: int64 [texts].
        slots: int64 [texts], which of the texts given each is.
    """

    ids: Tensor
    types: Tensor
    places: Tensor
    lengths: Tensor
    slots: Tensor

    def as_inputs(self) -> dict[str, Tensor]:
        """For a forward pass."""
        return {name: getattr(self, name) for name in ("ids", "types", "places", "lengths", "slots")}


def rows_of(ids: Sequence[Any], types: Sequence[Any] | None = None) -> Rows:
    """Texts in one row.

    Args:
        ids: of each text, at least one token: a sequence or an array of whole numbers.
        types: of each text; zeros by default.
    """
    lengths = np.array([len(text) for text in ids])
    order = np.argsort(lengths, kind="stable")
    flat = np.concatenate([np.asarray(ids[index], np.int64) for index in order])
    kinds = np.zeros_like(flat) if types is None else np.concatenate([np.asarray(types[i], np.int64) for i in order])
    sizes = lengths[order]
    places = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return Rows(*(torch.from_numpy(part) for part in (flat, kinds, places, sizes, order)))


@cache
def register() -> str:
    """Make `ATTENTION` known to transformers, once."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    return ATTENTION


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    runs: Sequence[Run],
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention within each text of a row.

    Args:
        module: transformers' attention module, which knows whether it is causal.
        query, key, value: [1, heads, tokens, dim].
        attention_mask: None; a row has no padding.
        scaling, dropout, sliding_window, is_causal: as transformers gives them.
        runs: the texts of the row.
        options: what else transformers gives, which changes nothing here.

    Returns:
        [1, tokens, heads, dim], and no weights.
    """
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal
    sizes = [run.count * run.length for run in runs]
    # split, because its backward pass joins all parts once; that of a slice fills a whole row for each
    parts = (torch.split(tensor.squeeze(0), sizes, 1) for tensor in (query, key, value))
    outputs = []
    for run, *rows in zip(runs, *parts, strict=True):
        queries, keys, values = (_texts(part, run) for part in rows)
        mask = _window(run.length, sliding_window, causal, query.device)
        attended = scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal and mask is None and run.length > 1,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # [tokens, heads, dim]
    return torch.cat(outputs)[None], None


def run_packed(
    backbone: Any,
    ids: Tensor,
    types: Tensor,
    places: Tensor,
    lengths: Tensor,
    *,
    typed: bool,
    embed: Callable[[Tensor], Tensor] | None = None,
    **options: Any,
) -> Tensor:
    """The last hidden states of a row: [tokens, hidden].

    Args:
        backbone: of transformers, with `ATTENTION`.
        ids, types, places, lengths: as of `Rows`; places begin where the model's do.
        typed: whether the model reads token types.
        embed: gives ids their embeddings, [1, tokens] -> [1, tokens, hidden]; the model's own by default.
        options: of the model's forward.
    """
    runs = runs_of(lengths.tolist())
    read = {"token_type_ids": types[None]} if typed else {}
    read |= {"input_ids": ids[None]} if embed is None else {"inputs_embeds": embed(ids[None])}
    outputs = backbone(position_ids=places[None], runs=runs, **read, **options)
    states: Tensor = outputs.last_hidden_state
    return states[0]


def _texts(part: Tensor, run: Run) -> Tensor:
    """A run's [heads, tokens, dim] -> [texts, heads, length, dim]."""
    heads, _, dim = part.shape
    return part.reshape(heads, run.count, run.length, dim).transpose(0, 1)


def _window(length: int, window: int | None, causal: bool, device: torch.device) -> Tensor | None:
    """Which tokens see which, where not all do: bool [length, length]."""
    if window is None or length <= window:
        return None
    back = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (back < window) & (back >= 0) if causal else back.abs() < window
