"""Documents with the words that a query for them might hold, before their words are weighed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rerank import checkpoints
from rerank.engine import batches, packing
from rerank.engine.encoder import usual_budget
from rerank.engine.encoders.embed import Embedded, Embedder
from rerank.engine.loading import Loading, load
from rerank.engine.texts.token_store import Ids
from rerank.engine.tokens import Pair
from rerank.errors import InputError
from rerank.judges.stop_tokens import unwritable_ids
from rerank.questions import Bill

__all__ = ["Expander"]

PASSAGE = 1
"""The id that stands in the place of [CLS] and says that a passage follows."""

MOST_READ = 128
"""Tokens of a document that TILDE reads, special tokens included."""


class Expander:
    """TILDE (Zhuang and Zuccon, 2021, https://doi.org/10.1145/3404835.3462922): the likeliest tokens of a query.

    They are those of the greatest logits at the first token, less those that the document holds, stop words and
    symbols; they are put behind the document's end token, in the order of their ids, as the authors' code does.

    Args:
        name: a checkpoint's name, hub id or folder: a BERT with its masked-language head (`ielab/TILDE`).
        tokens: how many are looked at, before those are left out.
        room: the most tokens of an expanded document.
        device, dtype: as of a judge.

    Raises:
        CheckpointError: when the folder holds no such model.
        InputError: when a number is below 1.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        tokens: int = 200,
        room: int = 512,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if tokens < 1:
            raise InputError(f"a document is expanded by at least 1 token, not {tokens}")
        self.folder, self.tokens, self.room = checkpoints.fetch(name), tokens, room
        loaded = load(self.folder, "masked", Loading(device, dtype))
        head = loaded.model.get_submodule("cls").float()
        size = sum(part.weight.numel() for part in head.modules() if isinstance(part, torch.nn.Linear))
        self.budget = batches.Budget(usual_budget(loaded.model.device.type))
        self.embedder = Embedder(loaded.model.base_model, pooling="first", head=head, head_size=size)
        self.left_out = unwritable_ids(loaded.tokenizer)

    @property
    def key(self) -> str:
        """What decides the expansions, for the key of a judge."""
        return f"{checkpoints.fingerprint(self.folder)} {self.tokens} {self.room} {self.embedder.execution}"

    def expanded(self, documents: Mapping[str, Pair], paying: Mapping[str, str], bill: Bill) -> dict[str, Pair]:
        """Documents as the model will read them, with their expansions; longer ones lose those that do not fit."""
        found: dict[str, Pair] = {}
        read = {text: _passage(pair) for text, pair in documents.items()}
        for text, words in self._words(read, paying, bill):
            pair = documents[text]
            added = np.array([*words[: max(0, self.room - len(pair.ids) - 1)], pair.ids[-1]], np.int32)
            ids = np.concatenate([pair.ids, added]) if len(added) > 1 else pair.ids
            found[text] = replace(pair, ids=ids, types=np.zeros_like(ids))
        return found

    def _words(self, read: Mapping[str, Pair], paying: Mapping[str, str], bill: Bill) -> Iterator[tuple[str, Ids]]:
        texts = list(read)

        def run(batch: list[int]) -> tuple[Embedded, float]:
            started = time.perf_counter()
            return self.embedder.run([read[texts[place]] for place in batch]), time.perf_counter() - started

        lengths = [len(read[text].ids) for text in texts]
        pack = packing.in_order if self.embedder.packs else packing.by_length
        for batch, (embedded, seconds) in batches.run(lengths, self.budget, pack, run, bill):
            bill.charge(paying[texts[batch[0]]], calls=1, tokens_padded=embedded.padded, flops=embedded.flops)
            for place, logits in zip(batch, embedded.states, strict=True):
                share = seconds * lengths[place] / sum(embedded.lengths)
                bill.charge(paying[texts[place]], tokens_real=lengths[place], seconds=share)
                yield texts[place], self._chosen(logits, read[texts[place]].ids)

    def _chosen(self, logits: Tensor, ids: Ids) -> Ids:
        best = logits.topk(min(self.tokens, len(logits))).indices.numpy().astype(np.int32)
        return np.setdiff1d(np.setdiff1d(best, ids), self.left_out)


def _passage(pair: Pair) -> Pair:
    """As TILDE reads it: marked, and cut."""
    ids = pair.ids if len(pair.ids) <= MOST_READ else np.append(pair.ids[: MOST_READ - 1], pair.ids[-1])
    ids = ids.copy()
    ids[0] = PASSAGE
    return Pair(ids, np.zeros_like(ids))
