"""A decoder of transformers run over one packed row: many prompts' new tokens, the rest of each read from a pool.

The model's own modules compute everything but attention. Attention goes through transformers' `AttentionInterface` to
`decoders.attention`, which first writes the row's keys and values into the pool and then reads each prompt's tokens
from there. All tokens of a row have their keys of a layer before any of them attends in it, so that a prompt's pieces,
and whole tries of prompts, may lie in the same row, in any order.

The last layer computes keys and values of every token, and all else for the tokens whose hidden states are asked for.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rerank.engine import linear
from rerank.engine.decoders.attention import View, Views
from rerank.engine.decoders.families import check_causal
from rerank.engine.decoders.kv_pool import KeyValues
from rerank.engine.decoders.step import Ask, Row, Step, Watch, attend
from rerank.engine.packing import settled_rows
from rerank.engine.t5.encoder import Work, weights
from rerank.errors import InputError

__all__ = ["Ask", "CausalModel", "Row"]

ATTENTION = "rerank_causal"

FEWEST_ROWS = 8
"""Fewer than the encoder's `linear.FEWEST_ROWS`, because a step of writing, and a last layer, often have a few rows
only; and still above the one row that oneDNN treats differently."""


class CausalModel:
    """A Llama, Mistral, Qwen or Gemma over packed rows and a pool.

    The model that it is given is changed: its attention, its last layer, and on x86 CPUs in float32 its linear layers
    (`linear.py`).

    In float32 on the CPU what comes out for an ask has the same bits whatever else is in the step, if its row is the
    same: the same ids, behind the same number of tokens. Rows are what attention is computed for at once.

    A decode step is one row a running sequence: `Row([token], slot, path)` where `slot` is the next free slot of the
    run that was allocated for what the sequence will write, and `path` names its prompt's runs and the part of its own
    run that is written; with `Ask(index)` for each. Sequences that end leave the list, others come in, and rows of
    whole prompts may stand beside them. For instance, after `start = pool.allocate(100)` and `n` tokens written:

        hidden = model.forward([Row([token], start + n, (*prompt, (start, n)))], [Ask(0)], pool, work)

    Args:
        model: a transformers `…ForCausalLM` or `…ForSequenceClassification` in evaluation mode, on its device.
        mode: "sdpa" or "kernel", see `decoders.attention`; by default chosen by the device.

    Raises:
        CheckpointError: when the model cannot be run this way.
    """

    def __init__(self, model: Any, *, mode: str | None = None) -> None:
        from transformers import AttentionInterface

        check_causal(model)
        if mode not in (None, "sdpa", "kernel"):
            raise InputError(f"mode={mode!r}; it may be 'sdpa' or 'kernel'")
        self.model = model
        self.base = model.base_model
        self.config = model.config
        self.device: torch.device = model.device
        self.mode = mode or ("sdpa" if self.device.type == "cpu" else "kernel")
        self._widths = _widths(self.base)
        layers = self.base.layers
        self._weights = [weights(layer) for layer in layers]
        self._last_keys = weights(layers[-1].self_attn.k_proj, layers[-1].self_attn.v_proj)
        self.fused = linear.available(model)
        if self.fused:
            linear.fuse(layers)
        layers[-1] = _LastLayer(layers[-1])
        AttentionInterface.register(ATTENTION, attend)
        model.set_attn_implementation(ATTENTION)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"packed, {self.mode}{', fused linear layers' if self.fused else ''}"

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, hidden states, keys and values."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def settles(self) -> bool:
        """True where bits do not depend on the batch: in float32 on the CPU."""
        return self.device.type == "cpu" and self.dtype == torch.float32

    @property
    def fewest_rows(self) -> int:
        """Token rows of a pass, filler included, from which bits do not depend on their number."""
        if not self.settles:
            return 1
        return FEWEST_ROWS if self.fused else linear.SAFE_ROWS

    def pool(self, slots: int = 1024) -> KeyValues:
        """A pool for this model's keys and values."""
        heads = self.config.num_key_value_heads
        return KeyValues(
            len(self.base.layers), heads, _head_dim(self.config),
            dtype=self.dtype, device=self.device, slots=slots,
        )  # fmt: skip

    @torch.inference_mode()
    def forward(
        self, rows: Sequence[Row], asks: Sequence[Ask], pool: KeyValues, work: Work, watch: Watch | None = None
    ) -> Tensor:
        """Compute rows: their keys and values go into the pool, the hidden states that are asked for come back.

        Args:
            rows: new tokens of prompts, at least one row.
            asks: whose last hidden states are wanted (after the model's last norm).
            pool: of this model.
            work: is charged with the token rows and the floating-point operations. What is counted: every matrix
                product over the rows it is executed for, filler included; attention as `Views.pairs` says.
            watch: is shown the queries of every ask in every layer.

        Returns:
            [sum of counts, dim], ask by ask, in the model's dtype.
        """
        step, count = self._step(rows, asks, pool, work, watch)
        ids = [token for row in rows for token in row.ids]
        positions = [row.position + place for row in rows for place in range(len(row.ids))]
        hidden: Tensor = self.base(
            input_ids=self._row(ids, count), position_ids=self._row(positions, count), use_cache=False, step=step
        ).last_hidden_state
        self._charge(step, count)
        return hidden[0, : sum(ask.count for ask in asks)]

    def _step(
        self, rows: Sequence[Row], asks: Sequence[Ask], pool: KeyValues, work: Work, watch: Watch | None
    ) -> tuple[Step, int]:
        """What attention is told, and the number of token rows."""
        ends = list(itertools.accumulate(len(row.ids) for row in rows))
        asked = [token for ask in asks for token in range(ends[ask.row] - ask.count, ends[ask.row])]
        whole = Views([View(len(row.ids), (*row.path, row.run)) for row in rows], pool, self.mode)
        last = [View(ask.count, (*rows[ask.row].path, rows[ask.row].run)) for ask in asks]
        slots = torch.tensor([slot for row in rows for slot in range(row.slot, row.slot + len(row.ids))])
        filled = self._row(asked, self._settled(len(asked)))[0] if asked else torch.empty(0, dtype=torch.int64)
        step = Step(whole, slots.to(self.device), Views(last, pool, self.mode) if last else None, filled, work, watch)
        return step, self._settled(ends[-1])

    def _settled(self, rows: int) -> int:
        if not self.settles:
            return rows
        return settled_rows(max(rows, self.fewest_rows), self._widths, torch.get_num_threads())

    def _row(self, values: list[int], count: int) -> Tensor:
        return torch.tensor([values + [0] * (count - len(values))], dtype=torch.int64, device=self.device)

    def _charge(self, step: Step, count: int) -> None:
        step.work.rows += count
        step.work.products(count, sum(self._weights[:-1]) + self._last_keys)
        if len(step.asked):
            step.work.products(len(step.asked), self._weights[-1])


class _LastLayer(nn.Module):
    """A last layer: keys and values of every token, all else for the tokens that are asked for alone."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        attention = layer.self_attn
        self._rotate: Any = sys.modules[type(attention).__module__].apply_rotary_pos_emb

    def forward(
        self, hidden: Tensor, *, position_embeddings: tuple[Tensor, Tensor], step: Step, **options: Any
    ) -> Tensor:
        """[1, rows, dim] -> [1, asked, dim]."""
        attention = self.layer.self_attn
        normed = self.layer.input_layernorm(hidden)
        shape = (*normed.shape[:2], -1, attention.head_dim)
        keys, values = attention.k_proj(normed).view(shape), attention.v_proj(normed).view(shape)
        if hasattr(attention, "k_norm"):
            keys = attention.k_norm(keys)
        _, keys = self._rotate(keys, keys, *position_embeddings, unsqueeze_dim=2)
        step.write(attention.layer_idx, keys[0], values[0])
        if step.last is None:
            return hidden[:, :0]
        places = tuple(each[:, step.asked] for each in position_embeddings)
        step.is_last = True
        output: Tensor = self.layer(hidden[:, step.asked], position_embeddings=places, step=step, **options)
        return output


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _widths(base: Any) -> frozenset[int]:
    """Of everything an activation or a rotary embedding may be computed over."""
    return frozenset({_head_dim(base.config), *_outputs(base)})


def _outputs(base: Any) -> Iterator[int]:
    return (module.out_features for module in base.modules() if isinstance(module, nn.Linear))
