"""Documents that are longer than a judge reads: asked about in windows, and their scores made one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from rerank.errors import InputError
from rerank.pipeline import Reranks
from rerank.questions import Bill, Plan
from rerank.registry import unknown
from rerank.types import Document, Query, Ranking

__all__ = ["POLICIES", "LongDocuments", "Passage", "Windows"]

Scores = Sequence[float]


@runtime_checkable
class Windows(Protocol):
    """What a judge may also have: its own way to cut documents."""

    def windows(
        self, query: Query, document: Document, *, max_tokens: int | None = None, stride: int | None = None
    ) -> list[Document]:
        """The document in pieces that the judge reads whole; itself alone when it is short enough."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The window of a document that scored best.

    Args:
        text: its words; the whole text of a document that is no longer than a window.
        number: which window of the document it is, from 1.
        windows: how many the document has.
        score: what the judge gave it.
    """

    text: str
    number: int
    windows: int
    score: float


def _k_max(scores: Scores, best: int, weights: Scores | None) -> float:
    """The weighted mean of the best few."""
    top = sorted(scores, reverse=True)[:best]
    shares = list(weights or [1.0] * best)[: len(top)]
    return math.fsum(share * score for share, score in zip(shares, top, strict=True)) / math.fsum(shares)


POLICIES: Mapping[str, Callable[[Scores, int, Scores | None], float]] = {
    "first": lambda scores, best, weights: scores[0],
    "max": lambda scores, best, weights: max(scores),
    "sum": lambda scores, best, weights: math.fsum(scores),
    "mean": lambda scores, best, weights: math.fsum(scores) / len(scores),
    "k-max": _k_max,
}
"""How the scores of a document's windows become one; "truncate" asks about what fits and makes nothing of the rest."""


@dataclass(frozen=True)
class LongDocuments:
    """FirstP, MaxP and SumP (Dai & Callan, 2019, https://arxiv.org/abs/1905.09217), the mean, and the best few.

    Args:
        policy: a name in `POLICIES`.
        window: the most tokens of a window, by the judge's tokenizer; what fits beside the query by default.
        stride: tokens from one window's beginning to the next one's; the window by default.
        best: of k-max: how many windows count.
        weights: of k-max: what the best, the second … counts for; all the same by default.
        preselect: a cheap reranker that chooses which windows are asked about, as IDCM's first stage does
            (https://arxiv.org/abs/2105.09816).
        preselected: how many windows of a document it chooses.

    Raises:
        UnknownName: when there is no such policy.
        InputError: when a number makes no sense.
    """

    policy: str = "max"
    window: int | None = None
    stride: int | None = None
    best: int = 3
    weights: tuple[float, ...] | None = None
    preselect: Reranks | None = field(default=None, repr=False)
    preselected: int = 4

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise unknown("policy for long documents", self.policy, [*POLICIES, "truncate"])
        for name in ("window", "stride", "best", "preselected"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name}={value}; it must be at least 1")
        if self.weights is not None and self.policy != "k-max":
            raise InputError(f"weights are of k-max, and of no use to {self.policy!r}")
        if self.preselect is not None and self.policy == "first":
            raise InputError("'first' asks about the first window, so there is nothing to preselect; leave it out")
        if self.weights is not None and (len(self.weights) != self.best or not all(w > 0 for w in self.weights)):
            raise InputError(f"weights={self.weights}; give one above 0 for each of the {self.best} best windows")

    @property
    def description(self) -> str:
        """All that scores depend on, for keys and ledgers."""
        parts = [self.policy, f"window {self.window or 'all that fits'}", f"stride {self.stride or 'window'}"]
        if self.policy == "k-max":
            parts.append(f"best {self.best} weights {self.weights or 'equal'}")
        if self.preselect is not None:
            name = getattr(self.preselect, "scores_key", type(self.preselect).__name__)
            parts.append(f"{self.preselected} preselected by {name}")
        return ", ".join(parts)

    def rank(
        self,
        rankings: Sequence[Ranking],
        judge: object,
        score: Callable[[list[Ranking]], list[Ranking]],
        bill: Bill,
    ) -> tuple[list[Ranking], dict[str, dict[str, Passage]]]:
        """Rerank by the scores of windows.

        Args:
            rankings: candidates with whole documents.
            judge: who cuts them.
            score: reranks rankings of windows, and scores every one.
            bill: what was asked, and left out, is charged here.

        Returns:
            The rankings; and query_id -> doc_id -> the passage that scored best.

        Raises:
            InputError: when the judge cannot cut documents, or windows come back without scores.
        """
        cuts = self._cuts(rankings, judge, bill)
        answered = score([cut.pieces(cut.asked) for cut in cuts])
        joined = [self._joined(cut, _scores(ranked)) for cut, ranked in zip(cuts, answered, strict=True)]
        return [ranking for ranking, _ in joined], {
            cut.ranking.query.query_id: passages for cut, (_, passages) in zip(cuts, joined, strict=True)
        }

    def plan(
        self,
        ranking: Ranking,
        judge: object,
        asking: Callable[[Ranking], Plan],
        bill: Bill,
        passages: dict[str, Passage] | None = None,
    ) -> Plan:
        """The same for one ranking, as a plan: for whoever has a scheduler of his own.

        Args:
            ranking: candidates with whole documents.
            judge, bill: as of `rank`.
            asking: an algorithm at work on a ranking of windows, which scores every one.
            passages: doc_id -> the passage that scored best; filled in.
        """
        [cut] = self._cuts([ranking], judge, bill)
        ranked = yield from asking(cut.pieces(cut.asked))
        joined, best = self._joined(cut, _scores(ranked))
        if passages is not None:
            passages.update(best)
        return joined

    def _cuts(self, rankings: Sequence[Ranking], judge: object, bill: Bill) -> list[_Cut]:
        """Their documents in windows, with those marked that are asked about."""
        if not isinstance(judge, Windows):
            raise InputError(f"{type(judge).__name__} cannot cut documents into windows; use long_documents='truncate'")
        bill.note("long documents", self.description)
        cuts = [_Cut.of(ranking, judge, self.window, self.stride) for ranking in rankings]
        if self.policy == "first":
            cuts = [replace(cut, asked=[[0] for _ in cut.asked]) for cut in cuts]
        elif self.preselect is not None:
            cuts = self._preselected(cuts, self.preselect)
        for cut in cuts:
            cut.charge(bill)
        return cuts

    def _preselected(self, cuts: list[_Cut], preselect: Reranks) -> list[_Cut]:
        """The windows that the cheap reranker puts first, of documents that have more than it may choose."""
        many = [[numbers if len(numbers) > self.preselected else [] for numbers in cut.asked] for cut in cuts]
        places = [place for place, numbers in enumerate(many) if any(numbers)]
        ranked = preselect.rerank([cuts[place].pieces(many[place]) for place in places]) if places else []
        chosen = list(cuts)
        for place, ranking in zip(places, ranked, strict=True):
            chosen[place] = cuts[place].keeping(ranking, self.preselected)
        return chosen

    def _joined(self, cut: _Cut, scores: Mapping[str, float]) -> tuple[Ranking, dict[str, Passage]]:
        """The documents by their windows' scores, and the best window of each."""
        totals, passages = [], {}
        for place, (document, numbers) in enumerate(zip(cut.ranking.documents, cut.asked, strict=True)):
            given = [scores[_name(place, number)] for number in numbers]
            totals.append(POLICIES[self.policy](given, self.best, self.weights))
            top = max(range(len(given)), key=given.__getitem__)
            windows = cut.windows[place]
            text = windows[numbers[top]].text
            passages[document.doc_id] = Passage(text, numbers[top] + 1, len(windows), given[top])
        return Ranking.by_score(cut.ranking.query, cut.ranking.documents, totals), passages


@dataclass(frozen=True)
class _Cut:
    """A ranking whose documents are cut: the windows of each, and the indices of those that are asked about."""

    ranking: Ranking
    windows: list[list[Document]]
    asked: list[list[int]]

    @classmethod
    def of(cls, ranking: Ranking, judge: Windows, window: int | None, stride: int | None) -> _Cut:
        windows = [
            judge.windows(ranking.query, document, max_tokens=window, stride=stride) for document in ranking.documents
        ]
        return cls(ranking, windows, [list(range(len(some))) for some in windows])

    def pieces(self, chosen: Sequence[Sequence[int]]) -> Ranking:
        """These windows as documents of their own, in the order of the documents."""
        return Ranking.unscored(
            self.ranking.query,
            [
                replace(self.windows[place][number], doc_id=_name(place, number))
                for place, numbers in enumerate(chosen)
                for number in numbers
            ],
        )

    def keeping(self, ranked: Ranking, count: int) -> _Cut:
        """The first `count` windows of each document that stands in this ranking of windows."""
        best: dict[int, list[int]] = {}
        for document in ranked.documents:
            place, number = map(int, document.doc_id.split("#"))
            if len(best.setdefault(place, [])) < count:
                best[place].append(number)
        return replace(self, asked=[sorted(best.get(place, numbers)) for place, numbers in enumerate(self.asked)])

    def charge(self, bill: Bill) -> None:
        """Windows of documents that have several, and those of them that nobody reads."""
        long = [
            (len(windows), len(numbers))
            for windows, numbers in zip(self.windows, self.asked, strict=True)
            if len(windows) > 1
        ]
        if long:
            asked = sum(numbers for _, numbers in long)
            left = sum(windows for windows, _ in long) - asked
            bill.charge(self.ranking.query.query_id, windows=asked, **({"windows_left_out": left} if left else {}))


def _name(place: int, number: int) -> str:
    return f"{place}#{number}"


def _scores(ranked: Ranking) -> dict[str, float]:
    found = {candidate.document.doc_id: candidate.score for candidate in ranked if candidate.score is not None}
    if len(found) < len(ranked):
        raise InputError(
            f"windows of query {ranked.query.query_id!r} came back without scores, so documents have none; use an "
            "algorithm that scores every document, such as pointwise"
        )
    return found
