"""Term weights: a document says how much each of its words matters, and a query is only looked up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rerank.checkpoints.layouts import Layout, Projection
from rerank.engine.kept import Kept
from rerank.engine.tokens import Pair
from rerank.judges.expansion import Expander
from rerank.judges.separate import SeparateJudge, check_kind
from rerank.judges.stop_tokens import stop_ids
from rerank.questions import Bill

__all__ = ["TermWeights"]


class TermWeights(SeparateJudge):
    """TILDEv2 (Zhuang and Zuccon, 2021, https://arxiv.org/abs/2108.08513).

    A token's weight is ReLU(w · state + b), a document's weight of a token the greatest over its occurrences, and the
    score Σ over the query's tokens of the document's weight of them. Special tokens and stop words count nothing, a
    token that occurs twice in the query counts twice. No model reads the query.

    Args:
        folder: a BERT with `tok_proj`, a linear layer from a token's state to its weight.
        expander: a TILDE, whose likely words are put behind each document first (`rerank.judges.expansion`); the
            published checkpoints were trained on documents that were expanded. None: as they are.
        expander_tokens: how many likely words it looks at.
        stop_words: whether stop words of English are left out, as in the authors' code.
        options: of `SeparateJudge`; a query has as many tokens as it has.
    """

    kinds: ClassVar = ("term-weights",)
    scoring: ClassVar = "term-weights 1"

    def __init__(
        self,
        folder: str | Path,
        *,
        expander: str | Path | None = None,
        expander_tokens: int = 200,
        stop_words: bool = True,
        **options: Any,
    ) -> None:
        check_kind(folder, self.kinds, "term-weights")
        weights = Projection(Path(folder), prefix="tok_proj.", activation="ReLU")
        layout = Layout(projections=(weights,), normalised=False, similarity="dot")
        self.expander = None
        super().__init__(folder, layout, pooling="none", **options)
        tokenizer = self.documents.tokenizer
        if expander is not None:
            places = {name: options.get(name) for name in ("device", "dtype")}
            self.expander = Expander(expander, tokens=expander_tokens, room=self.longest, **places)
            self.key += f"-{hashlib.sha256(self.expander.key.encode()).hexdigest()[:16]}"
        stopped = stop_ids(tokenizer) if stop_words else np.empty(0, np.int32)
        self.ignored = np.union1d(stopped, np.array(tokenizer.all_special_ids, np.int32))
        self.key += "" if stop_words else "-with-stop-words"

    def of_document(self, text: Pair, states: Tensor) -> Tensor:
        """Its distinct tokens and their weights: [tokens, 2], float64, which holds ids exactly."""
        counted = ~np.isin(text.ids, self.ignored)
        ids, place = np.unique(text.ids[counted], return_inverse=True)
        weights = np.zeros(len(ids))
        np.maximum.at(weights, place, states.squeeze(1).double().numpy()[counted])
        return torch.from_numpy(np.stack([ids.astype(np.float64), weights], 1))

    def of_query(self, text: Pair, states: Tensor) -> Tensor:
        """Its tokens that count, repeated ones too: [tokens]."""
        return torch.from_numpy(text.ids[~np.isin(text.ids, self.ignored)])

    def compare(self, queries: Sequence[Tensor], documents: Sequence[Tensor]) -> list[float]:
        """Weights of the query's tokens, added up."""
        return [_looked_up(query.numpy(), document.numpy()) for query, document in zip(queries, documents, strict=True)]

    def compare_flops(self, query: Tensor, document: Tensor) -> int:
        """An addition for each token of the query."""
        return len(query)

    def _prepared(self, pairs: dict[str, Pair], paying: Mapping[str, str], bill: Bill) -> dict[str, Pair]:
        return pairs if self.expander is None else self.expander.expanded(pairs, paying, bill)

    def _made_of_queries(
        self, pairs: Mapping[str, Pair], asking: Mapping[str, str], bill: Bill
    ) -> Iterator[dict[str, Kept]]:
        nothing = torch.empty(0)
        yield {text: Kept(self.of_query(pair, nothing), 0) for text, pair in pairs.items()}


def _looked_up(query: np.ndarray[Any, Any], document: np.ndarray[Any, Any]) -> float:
    """Both sorted by id: [tokens], [tokens, 2]."""
    if not len(query) or not len(document):
        return 0.0
    ids, weights = document[:, 0], document[:, 1]
    places = np.minimum(np.searchsorted(ids, query), len(ids) - 1)
    return float(np.where(ids[places] == query, weights[places], 0.0).sum())
