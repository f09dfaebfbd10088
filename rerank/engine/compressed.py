"""Token compression: on their way up, every few neighbouring tokens of a document become one.

bge-reranker-v2.5-gemma2-lightweight (https://huggingface.co/BAAI/bge-reranker-v2.5-gemma2-lightweight) is trained so
that its later layers read the means of 2, 4 or 8 neighbours, which stand at the places that are then left. Texts are
computed one by one by the model's own layers: what is merged shares nothing with another prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rerank.engine.t5.encoder import Work, weights

__all__ = ["CompressedPass", "Compression", "merged"]


@dataclass(frozen=True, slots=True)
class Compression:
    """How documents are compressed.

    Args:
        ratio: tokens that become one, at least 2; the last ones of a document may be fewer.
        layers: in front of which that happens, counted from 0; each time again.
    """

    ratio: int
    layers: tuple[int, ...]


def merged(hidden: Tensor, start: int, end: int, ratio: int) -> Tensor:
    """Tokens `start` to `end` as means of `ratio` neighbours, the others as they are: [tokens, dim] -> [fewer, dim]."""
    inside = hidden[start:end]
    groups = -(-len(inside) // ratio)
    sums = pad(inside, (0, 0, 0, groups * ratio - len(inside))).view(groups, ratio, hidden.shape[1]).sum(1)
    counts = torch.full((groups, 1), ratio, dtype=hidden.dtype, device=hidden.device)
    if groups:
        counts[-1] = len(inside) - (groups - 1) * ratio
    return torch.cat([hidden[:start], sums / counts, hidden[end:]])


class CompressedPass:
    """A causal model whose documents are compressed between its layers.

    Args:
        model: a transformers `…ForSequenceClassification` in evaluation mode; its attention is written out (eager).
        compression: how.
    """

    def __init__(self, model: Any, compression: Compression) -> None:
        model.set_attn_implementation("eager")
        self.model, self.base, self.compression = model, model.base_model, compression

    @torch.inference_mode()
    def classify(self, texts: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]) -> tuple[Tensor, Work]:
        """What the score head says of each text's last token: float32 [texts, labels]; and what it took.

        Args:
            texts: token ids.
            spans: (first token, token behind the last) of each document.
        """
        work = Work()
        states = [self._last(ids, start, end, work) for ids, (start, end) in zip(texts, spans, strict=True)]
        logits = torch.stack([self.model.score(state) for state in states])
        return logits.float().cpu(), work

    def _last(self, ids: Sequence[int], start: int, end: int, work: Work) -> Tensor:
        hidden = self.base.embed_tokens(torch.tensor([list(ids)], device=self.model.device))
        work.rows += len(ids)
        for index, layer in enumerate(self.base.layers):
            if index and index in self.compression.layers:
                hidden = merged(hidden[0], start, end, self.compression.ratio)[None]
                end = start - (start - end) // self.compression.ratio  # rounded up
            hidden = self._layer(index, layer, hidden)
            self._charge(layer, hidden.shape[1], work)
        last: Tensor = self.base.norm(hidden[:, -1:])[0, 0]
        return last

    def _layer(self, index: int, layer: Any, hidden: Tensor) -> Tensor:
        places = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotary = self.base.rotary_emb(hidden, places)
        mask = _mask(hidden, self._window(index))
        output: Tensor = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=places)
        return output

    def _window(self, index: int) -> int | None:
        kinds: Collection[str] = getattr(self.base.config, "layer_types", None) or ()
        sliding = list(kinds)[index] == "sliding_attention" if kinds else False
        return int(self.base.config.sliding_window) if sliding else None

    def _charge(self, layer: Any, tokens: int, work: Work) -> None:
        config = self.base.config
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        work.products(tokens, weights(layer))
        work.attend(tokens * tokens, config.num_attention_heads * dim)


def _mask(hidden: Tensor, window: int | None) -> Tensor:
    """What is added to the scores: [1, 1, tokens, tokens]."""
    count = hidden.shape[1]
    places = torch.arange(count, device=hidden.device)
    back = places[:, None] - places[None, :]
    unseen = back < 0 if window is None else (back < 0) | (back >= window)
    lowest = torch.finfo(hidden.dtype).min
    return torch.zeros(count, count, dtype=hidden.dtype, device=hidden.device).masked_fill_(unseen, lowest)[None, None]
