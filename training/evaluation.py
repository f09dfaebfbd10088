"""Measures while training: the student ranks what a first stage found for development queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rerank.errors import InputError
from rerank.evaluate import Evaluation, evaluate
from rerank.types import Qrels, Ranking
from training.examples import Example

__all__ = ["Development"]


class Development:
    """Rankings with judgments, measured now and then.

    Args:
        rankings: of a first stage.
        qrels: query_id -> doc_id -> relevance.
        measures: by ir-measures names; the first decides which checkpoint is best.
        documents: scored in one forward pass, at most; a list is never divided.

    Raises:
        InputError: when there is no ranking, or none of them is judged.
    """

    def __init__(
        self,
        rankings: Sequence[Ranking],
        qrels: Qrels,
        measures: Sequence[str] = ("nDCG@10", "RR@10"),
        *,
        documents: int = 256,
    ) -> None:
        self.rankings = [ranking for ranking in rankings if len(ranking)]
        if not self.rankings:
            raise InputError("there is no development ranking to measure")
        self.qrels = {query_id: docs for query_id, docs in qrels.items() if docs}
        self.measures, self.documents = tuple(measures), documents
        self.examples = [_example(ranking) for ranking in self.rankings]
        evaluate(self.qrels, {ranking.query.query_id: ranking for ranking in self.rankings}, self.measures)

    def measure(self, score: Callable[[Sequence[Example]], Tensor], accelerator: Any = None) -> dict[str, float]:
        """The means.

        Args:
            score: the scores of the documents of some examples, one after the other.
            accelerator: of accelerate, whose processes share the work; None: one process.
        """
        return dict(self.evaluation(score, accelerator).means)

    def evaluation(self, score: Callable[[Sequence[Example]], Tensor], accelerator: Any = None) -> Evaluation:
        """All values, query by query."""
        rank, world = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
        found = self._scores(score, range(rank, len(self.examples), world))
        if world > 1:
            from accelerate.utils import gather_object

            found = dict(gather_object(list(found.items())))
        return evaluate(self.qrels, found, self.measures)

    @torch.no_grad()
    def _scores(
        self, score: Callable[[Sequence[Example]], Tensor], places: Sequence[int]
    ) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for batch in _batches(self.examples, places, self.documents):
            scores = score([self.examples[place] for place in batch]).float().cpu()
            parts = torch.split(scores, [len(self.examples[place]) for place in batch])
            for place, part in zip(batch, parts, strict=True):
                ids = [candidate.document.doc_id for candidate in self.rankings[place]]
                found[self.rankings[place].query.query_id] = dict(zip(ids, part.tolist(), strict=True))
        return found


def _example(ranking: Ranking) -> Example:
    texts = tuple(candidate.document.full_text for candidate in ranking)
    return Example(ranking.query.text, texts, query_id=ranking.query.query_id)


def _batches(examples: Sequence[Example], places: Sequence[int], most: int) -> list[list[int]]:
    batches: list[list[int]] = []
    size = most
    for place in places:
        if size + len(examples[place]) > most:
            batches.append([])
            size = 0
        batches[-1].append(place)
        size += len(examples[place])
    return batches
