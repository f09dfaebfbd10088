"""Sequence classifiers, run without padding: one row of tokens, attention within each text, the head on first tokens.

Three ways of running a model, the best of which is chosen when it is loaded:

- `packed` (CPU, families in `FAMILIES`): all texts of a batch in one row, positions restarting, attention per text.
- `padded` (CUDA, families in `FAMILIES`): a rectangle of texts of similar length, through torch's SDPA.
- `single` (CPU, any other family) and `stock` (CUDA, any other family): the model's own forward, one text at a time or
  padded.

In float32 on the CPU the bits of a score do not depend on its batch: every pass has at least `fewest_rows` rows (below
that the blocking of matrix products depends on their number; see `linear.py`), attention sees one text at a time, the
head always sees `HEAD_ROWS` rows, and filler rows make every thread's share of an activation end with a whole vector
(`settled_rows`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rerank.engine import linear
from rerank.engine.families import FAMILIES, check_encoder
from rerank.engine.flops import ForwardCost
from rerank.engine.packing import settled_rows
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["HEAD_ROWS", "Encoder"]

HEAD_ROWS = 32
ATTENTION = "rerank_packed"


@dataclass(frozen=True)
class Scored:
    """What a forward pass gave: logits float32 [texts, labels], and what it computed."""

    logits: Tensor
    padded: int
    flops: int


class Encoder:
    """A sequence classifier that scores batches of pairs.

    Args:
        model: a transformers `…ForSequenceClassification`, in evaluation mode, on its device.
        mode: `packed`, `padded`, `single` or `stock`; chosen from family and device by default.

    Raises:
        CheckpointError: when the packed pass disagrees with the stock one; it is tried on two texts at load.
    """

    def __init__(self, model: Any, *, mode: str | None = None) -> None:
        check_encoder(model)
        self.model = model
        self.device: torch.device = model.device
        self.family = FAMILIES.get(model.config.model_type)
        self.mode = mode or self._choose()
        self._typed = getattr(model.config, "type_vocab_size", 0) > 1 and model.config.model_type != "modernbert"
        self._widths = _widths(model)
        self._cost = ForwardCost.of(model, self.family)
        self.fused = False
        if self.mode == "packed":
            self._attend_by_text()
        elif self.mode == "padded":
            self._keep_head_in_float32()

    @property
    def fewest_rows(self) -> int:
        """Token rows of a packed pass, filler included, from which bits do not depend on their number."""
        return linear.FEWEST_ROWS if self.fused else linear.SAFE_ROWS

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"{self.mode}, fused linear layers" if self.fused else self.mode

    @property
    def packs(self) -> bool:
        """True when a batch costs what its tokens cost, whatever their lengths."""
        return self.mode in ("packed", "single")

    @torch.inference_mode()
    def score(self, pairs: Sequence[Pair]) -> Scored:
        """Logits of a batch, float32 on the CPU, in the order given."""
        run = {"packed": self._packed, "padded": self._padded, "single": self._single, "stock": self._stock}[self.mode]
        logits, rows = run(pairs)
        lengths = [len(pair.ids) for pair in pairs]
        sides = [max(lengths)] * len(lengths) if self.mode in ("padded", "stock") else lengths
        heads = -(-len(lengths) // HEAD_ROWS) * HEAD_ROWS if self.mode in ("packed", "padded") else len(lengths)
        return Scored(logits.float().cpu(), rows - sum(lengths), self._cost.flops(rows, sides, heads))

    def _choose(self) -> str:
        if self.device.type == "cpu":
            return "packed" if self.family else "single"
        return "padded" if self.family else "stock"

    # -- packed --------------------------------------------------------------------------------------------------

    def _packed(self, pairs: Sequence[Pair]) -> tuple[Tensor, int]:
        assert self.family is not None
        lengths = [len(pair.ids) for pair in pairs]
        real = sum(lengths)
        filler = settled_rows(max(real, self.fewest_rows), self._widths, torch.get_num_threads()) - real
        first = self.family.first_position(self.model.config)
        inputs = {
            "input_ids": self._row([pair.ids for pair in pairs], filler),
            "position_ids": self._row([np.arange(first, first + length) for length in lengths], filler),
        }
        if self._typed:
            inputs["token_type_ids"] = self._row([pair.types for pair in pairs], filler)
        hidden = self._backbone(**inputs, lengths=lengths)[0]  # [tokens, hidden]
        last = getattr(self.model, "last_layer", None)
        pooled = self._pool(hidden, lengths) if last is None else first_tokens(last, hidden, lengths)
        return self._head(pooled), real + filler

    def _row(self, parts: Sequence[NDArray[Any]], filler: int) -> Tensor:
        row = np.concatenate([*parts, np.zeros(filler, np.int64)])
        return torch.from_numpy(row)[None].to(self.device)

    def _backbone(self, **inputs: Any) -> Tensor:
        assert self.family is not None
        hidden: Tensor = getattr(self.model, self.family.backbone)(**inputs).last_hidden_state
        return hidden

    def _pool(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """[tokens, hidden] -> [texts, hidden]."""
        assert self.family is not None
        if self.family.mean(self.model.config):
            return torch.stack([text.float().mean(0) for text in torch.split(hidden[: sum(lengths)], list(lengths))])
        starts = [0, *itertools.accumulate(lengths)][:-1]
        return hidden[torch.tensor(starts, device=hidden.device)]

    def _head(self, pooled: Tensor) -> Tensor:
        """Logits, float32, from a head that always sees the same number of rows."""
        head = self.family.head if self.family else None
        assert head is not None
        return in_fixed_rows(lambda rows: head(self.model, rows), pooled.float())

    def _keep_head_in_float32(self) -> None:
        """Half precision in the last layer makes ties: everything beside the backbone's layers is float32.

        A pooler is moved from the backbone to the head, where it belongs: the backbone would run it on every pass.
        """
        assert self.family is not None
        backbone = getattr(self.model, self.family.backbone)
        if (pooler := getattr(backbone, "pooler", None)) is not None:
            self.model.first_token_pooler = pooler
            backbone.pooler = None
        for name, module in self.model.named_children():
            if name != self.family.backbone:
                module.float()

    def _attend_by_text(self) -> None:
        """Switch the model to attention within texts, and see on two of them that it obeys."""
        from transformers import AttentionInterface

        probes = [Pair.of([5, 6, 7, 8, 9], [0, 0, 1, 1, 1]), Pair.of([9, 8, 7], [0, 1, 1])]
        with torch.inference_mode():
            expected = torch.cat([self._single([probe])[0] for probe in probes]).float()
            self._keep_head_in_float32()
            self._cut_last_layer()
            self._cost = ForwardCost.of(self.model, self.family)
            self._fuse()
            AttentionInterface.register(ATTENTION, _attend)
            self.model.set_attn_implementation(ATTENTION)
            got, _ = self._packed(probes)
        if not torch.allclose(got, expected, rtol=1e-2, atol=1e-2 if got.dtype == torch.float32 else 1e-1):
            raise CheckpointError(
                f"packed attention changes the scores of this {type(self.model).__name__} "
                f"({got.tolist()} for {expected.tolist()}); please report it with the version of transformers"
            )

    def _fuse(self) -> None:
        assert self.family is not None
        if linear.available(self.model):
            linear.fuse(getattr(self.model, self.family.backbone))
            if (last := getattr(self.model, "last_layer", None)) is not None:
                linear.fuse(last)
            self.fused = True

    def _cut_last_layer(self) -> None:
        """Take the last layer out of the backbone: only first tokens are read of what it gives."""
        assert self.family is not None
        if self.family.layers:
            owner = getattr(self.model, self.family.backbone).get_submodule(self.family.layers.rpartition(".")[0])
            name = self.family.layers.rpartition(".")[2]
            layers = getattr(owner, name)
            self.model.last_layer = layers[-1]
            setattr(owner, name, layers[:-1])

    # -- the model's own ways ------------------------------------------------------------------------------------

    def _padded(self, pairs: Sequence[Pair]) -> tuple[Tensor, int]:
        assert self.family is not None
        inputs, lengths, rows = self._rectangle(pairs)
        hidden = self._backbone(**inputs)  # [texts, longest, hidden]
        if self.family.mean(self.model.config):
            texts = [hidden[index, :length] for index, length in enumerate(lengths)]
            return self._head(self._pool(torch.cat(texts), lengths)), rows
        return self._head(hidden[:, 0]), rows

    def _stock(self, pairs: Sequence[Pair]) -> tuple[Tensor, int]:
        inputs, _, rows = self._rectangle(pairs)
        return self.model(**inputs).logits, rows

    def _single(self, pairs: Sequence[Pair]) -> tuple[Tensor, int]:
        logits = [self._stock([pair])[0] for pair in pairs]
        return torch.cat(logits), sum(len(pair.ids) for pair in pairs)

    def _rectangle(self, pairs: Sequence[Pair]) -> tuple[dict[str, Tensor], list[int], int]:
        lengths = [len(pair.ids) for pair in pairs]
        longest = max(lengths)
        padding = getattr(self.model.config, "pad_token_id", None) or 0
        inputs = {
            "input_ids": _filled([pair.ids for pair in pairs], longest, padding),
            "attention_mask": _filled([np.ones(length) for length in lengths], longest, 0),
        }
        if self._typed:
            inputs["token_type_ids"] = _filled([pair.types for pair in pairs], longest, 0)
        return {name: value.to(self.device) for name, value in inputs.items()}, lengths, longest * len(pairs)


def _filled(texts: Sequence[NDArray[Any]], longest: int, filler: int) -> Tensor:
    """A rectangle of texts, filled up at their ends: int64 [texts, longest]."""
    rows = np.full((len(texts), longest), filler, np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = text
    return torch.from_numpy(rows)


def _widths(model: Any) -> frozenset[int]:
    """Of everything an activation or a rotary embedding may be computed over."""
    linear = [module for module in model.base_model.modules() if isinstance(module, nn.Linear)]
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return frozenset({head, *(module.out_features for module in linear)})


def in_fixed_rows(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Apply a function of rows to `HEAD_ROWS` of them at a time, so that bits do not depend on how many there are.

    What is missing from the last `HEAD_ROWS` is filled up with zeros: [rows, …] -> [rows, …].
    """
    outputs = []
    for parts in zip(*(torch.split(rows, HEAD_ROWS) for rows in inputs), strict=True):
        count = len(parts[0])
        filled = [nn.functional.pad(part, (0, 0, 0, HEAD_ROWS - count)) for part in parts]
        outputs.append(function(*filled)[:count])
    return torch.cat(outputs)


def first_tokens(layer: Any, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """A last layer of BERT's shape, computed for the first token of each text: [tokens, hidden] -> [texts, hidden].

    Keys and values are needed of every token; queries, the output projection and the feed-forward part are not.
    """
    attention = layer.attention.self
    starts = torch.tensor([0, *itertools.accumulate(lengths)][:-1], device=hidden.device)
    first = hidden[starts]
    shape = (-1, attention.num_attention_heads, attention.attention_head_size)
    keys = attention.key(hidden).view(shape).transpose(0, 1)  # [heads, tokens, dim]
    values = attention.value(hidden).view(shape).transpose(0, 1)
    queries = in_fixed_rows(attention.query, first).view(shape)
    read = []
    for query, start, length in zip(queries, starts.tolist(), lengths, strict=True):
        text = slice(start, start + length)
        read.append(scaled_dot_product_attention(query[None, :, None], keys[None, :, text], values[None, :, text]))
    context = torch.cat(read).flatten(1)  # [texts, hidden]

    def rest(context: Tensor, first: Tensor) -> Tensor:
        attended = layer.attention.output(context, first)
        output: Tensor = layer.output(layer.intermediate(attended), attended)
        return output

    return in_fixed_rows(rest, context, first)


def _attend(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: Sequence[int],
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention within each text of a row: [1, heads, tokens, dim] -> [1, tokens, heads, dim].

    Tokens beyond the texts are filler and come back as zeros.
    """
    heads, tokens, dim = query.shape[1:]
    outputs = []
    start = 0
    for length in lengths:
        text = slice(start, start + length)
        attended = scaled_dot_product_attention(
            query[:, :, text],
            key[:, :, text],
            value[:, :, text],
            attn_mask=_near(length, sliding_window, query.device),
            scale=scaling,
        )
        outputs.append(attended.transpose(1, 2))
        start += length
    outputs.append(query.new_zeros(1, tokens - start, heads, dim))
    return torch.cat(outputs, 1), None


def _near(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which tokens see each other under a local window: [length, length], or None when all do."""
    if window is None or length <= window:
        return None
    places = torch.arange(length, device=device)
    return (places[:, None] - places[None, :]).abs() < window
