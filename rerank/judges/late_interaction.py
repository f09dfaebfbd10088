"""Late interaction: every token of query and document keeps a vector, and the best matches are added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rerank.checkpoints.layouts import PUNCTUATION, Expansion, Layout, read_layout
from rerank.engine.texts.single_texts import SingleTexts, single_ids
from rerank.engine.texts.text_tokens import TextTokens
from rerank.engine.tokens import Pair
from rerank.errors import InputError
from rerank.judges.separate import SeparateJudge, check_kind
from rerank.kernels.maxsim import maxsim
from rerank.registry import unknown

__all__ = ["LateInteraction"]

EXPANSIONS = ("none", "seen", "unseen")

QUERY_STEP = 32
"""Query tokens are filled up to a multiple of it, each query by itself: bits do not depend on the other queries."""


class LateInteraction(SeparateJudge):
    """ColBERT (Khattab and Zaharia, 2020, https://arxiv.org/abs/2004.12832) and its kin.

    The score is Σ over query tokens of the greatest product with a document token's vector. The [MASK] tokens that a
    query is filled up with count; punctuation of documents does not, where the checkpoint says so.

    Args:
        folder: sentence-transformers' multi-vector layout, PyLate's, ColBERT's own, lightning-ir's; or any encoder,
            whose tokens' states are compared as they are.
        expansion: "unseen" fills queries up with [MASK] at which the other tokens do not look, "seen" at which they
            do, "none" leaves them as they are; as the checkpoint says by default. `query_tokens` says how far.
        punctuation: whether a document's punctuation counts; as the checkpoint says by default.
        options: of `SeparateJudge`.
    """

    kinds: ClassVar = ("late-interaction", "bi-encoder", "encoder")
    scoring: ClassVar = "late-interaction 1"

    def __init__(
        self, folder: str | Path, *, expansion: str | None = None, punctuation: bool | None = None, **options: Any
    ) -> None:
        check_kind(folder, self.kinds, "late-interaction")
        layout = _with_expansion(read_layout(Path(folder)), expansion, options.get("query_tokens"))
        if punctuation is not None:
            layout = replace(layout, skipped=() if punctuation else PUNCTUATION)
        # pooled texts are what these vectors are not, and cosines are products of vectors of length 1
        layout = replace(layout, pooling=(), normalised=layout.normalised or bool(layout.pooling))
        super().__init__(folder, layout, pooling="none", **options)
        tokenizer = self.documents.tokenizer
        self.skipped = single_ids(tokenizer, layout.skipped)
        self.skipped_of_queries = single_ids(tokenizer, layout.skipped_of_queries)
        self.device = self.embedder.device

    def of_document(self, text: Pair, states: Tensor) -> Tensor:
        """The vectors that count: [tokens, dim]."""
        counted = ~np.isin(text.ids, self.skipped)
        if self.layout.kept_only:
            counted &= np.isin(text.ids, self.layout.kept_only)
        return states[torch.from_numpy(counted)]

    def of_query(self, text: Pair, states: Tensor) -> Tensor:
        """The same of a query, whose punctuation counts as a rule."""
        return states[torch.from_numpy(~np.isin(text.ids, self.skipped_of_queries))]

    def compare(self, queries: Sequence[Tensor], documents: Sequence[Tensor]) -> list[float]:
        """MaxSim of each pair."""
        scores = [0.0] * len(queries)
        rooms: dict[int, list[int]] = {}
        for place, query in enumerate(queries):
            rooms.setdefault(-(-len(query) // QUERY_STEP) * QUERY_STEP, []).append(place)
        for room, places in rooms.items():
            found = self._maxsim(room, [queries[place] for place in places], [documents[place] for place in places])
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        if self.layout.similarity == "meanmaxsim":
            return [score / max(1, len(query)) for score, query in zip(scores, queries, strict=True)]
        return scores

    def _maxsim(self, room: int, queries: Sequence[Tensor], documents: Sequence[Tensor]) -> list[float]:
        """Queries that are filled up to `room` tokens."""
        distinct = {id(query): query for query in queries}
        numbers = {name: number for number, name in enumerate(distinct)}
        owners = torch.tensor([numbers[id(query)] for query in queries], device=self.device)
        lengths = torch.tensor([len(query) for query in distinct.values()])
        filled = torch.stack([pad(query, (0, 0, 0, room - len(query))) for query in distinct.values()])
        ends = pad(torch.tensor([len(document) for document in documents]).cumsum(0), (1, 0)).to(torch.int32)
        mask = torch.arange(room) < lengths[:, None]
        with torch.inference_mode():
            vectors = torch.cat(list(documents)).to(self.device)
            ends, mask, filled = ends.to(self.device), mask.to(self.device), filled.to(self.device)
            scores: list[float] = maxsim(filled, vectors, ends, mask, owners).tolist()
        return scores

    def _query_texts(self, texts: TextTokens, prompt: str, most: int, asked: int | None) -> SingleTexts:
        expansion = self.layout.expansion
        if expansion is None:
            return SingleTexts(texts, prompt=prompt, max_tokens=most)
        token = _filling(texts.tokenizer, expansion)
        length = expansion.tokens if expansion.cut else most
        fill = (token, expansion.tokens, expansion.seen)
        return SingleTexts(texts, prompt=prompt, max_tokens=length, fill=fill)


def _with_expansion(layout: Layout, asked: str | None, tokens: int | None) -> Layout:
    """What the checkpoint says, and the user wants, of queries that are filled up."""
    if asked is not None and asked not in EXPANSIONS:
        raise unknown("expansion", asked, EXPANSIONS)
    if asked == "none":
        return replace(layout, expansion=None)
    said = layout.expansion
    if asked is not None:
        said = replace(said or Expansion(layout.query_tokens or 32), seen=asked == "seen")
    if said is not None and tokens is not None:
        said = replace(said, tokens=tokens)
    return replace(layout, expansion=said)


def _filling(tokenizer: Any, expansion: Expansion) -> int:
    """The token that queries are filled up with."""
    if expansion.token:
        found = single_ids(tokenizer, [expansion.token])
        if not len(found):
            raise InputError(f"the tokenizer has no token {expansion.token!r} to fill queries up with")
        return int(found[0])
    token = tokenizer.mask_token_id if tokenizer.mask_token_id is not None else tokenizer.eos_token_id
    if token is None:
        raise InputError("the tokenizer has no mask to fill queries up with; say expansion='none'")
    return int(token)
