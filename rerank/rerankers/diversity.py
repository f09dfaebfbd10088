"""After relevance: documents that say something new, and documents that are new. No model is asked."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeAlias

from rerank.errors import FileError, InputError
from rerank.pipeline import Stage
from rerank.types import Document, Ranking

__all__ = ["MMR", "Recency", "Similarity", "cosine", "overlap"]

Similarity: TypeAlias = Callable[[Document, Document], float]
"""How alike two documents are, from 0 to 1."""

_WORD = re.compile(r"\w+")


def words(document: Document) -> Counter[str]:
    """How often each word occurs, whatever its case."""
    return Counter(_WORD.findall(document.full_text.casefold()))


def cosine(one: Counter[str], other: Counter[str]) -> float:
    """The cosine of two texts' word counts; 0 when one has no word."""
    shared = sum(count * other[word] for word, count in one.items() if word in other)
    norm = math.sqrt(sum(c * c for c in one.values())) * math.sqrt(sum(c * c for c in other.values()))
    return min(1.0, shared / norm) if norm else 0.0


def overlap(one: Counter[str], other: Counter[str]) -> float:
    """The share of distinct words of both that both have (Jaccard); 0 when neither has a word."""
    union = len(one.keys() | other.keys())
    return len(one.keys() & other.keys()) / union if union else 0.0


TEXTS: Mapping[str, Callable[[Counter[str], Counter[str]], float]] = {"cosine": cosine, "overlap": overlap}
"""Similarities that a pipeline's file can name."""


class MMR(Stage):
    """Maximal marginal relevance (Carbonell & Goldstein, 1998, https://doi.org/10.1145/290941.291025).

    The next document is the one of the highest

        weight · relevance − (1 − weight) · (its greatest similarity to a document that is above it),

    where relevance is the score, moved to 0 … 1 within the ranking; equal values keep the incoming order. Candidates
    without a score stay below, in their order.

    Args:
        weight: λ, from 0 (novelty alone) to 1 (relevance alone, which changes nothing).
        similarity: "cosine" of word counts, "overlap" of words, or a function of two documents from 0 to 1.

    Raises:
        InputError: when the weight is not between 0 and 1, or there is no such similarity.
    """

    name = "mmr"

    def __init__(self, weight: float = 0.7, similarity: str | Similarity = "cosine") -> None:
        if not 0 <= weight <= 1:
            raise InputError(f"the weight of relevance is {weight}; it must lie between 0 and 1")
        if isinstance(similarity, str) and similarity not in TEXTS:
            raise InputError(f"no similarity is called {similarity!r}; there is {', '.join(map(repr, TEXTS))}")
        self.weight, self.similarity = weight, similarity

    def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        """Each ranking in its new order, unscored: what decided was a value given what stood above.

        Raises:
            InputError: when a ranking has no scores.
        """
        return [self._reranked(ranking) for ranking in rankings]

    def _reranked(self, ranking: Ranking) -> Ranking:
        relevance = _relevance(ranking)
        alike = self._alike(ranking.documents[: len(relevance)])
        left, chosen = list(range(len(relevance))), list[int]()
        nearest = [0.0] * len(relevance)  # each document's greatest similarity to one that is chosen
        while left:
            best = max(left, key=lambda i: (self.weight * relevance[i] - (1 - self.weight) * nearest[i], -i))
            left.remove(best)
            chosen.append(best)
            for other in left:
                nearest[other] = max(nearest[other], alike(best, other))
        documents = ranking.documents
        return Ranking.unscored(ranking.query, [documents[i] for i in chosen] + list(documents[len(relevance) :]))

    def _alike(self, documents: Sequence[Document]) -> Callable[[int, int], float]:
        """The similarity of two documents by their indices; words are counted once."""
        if not isinstance(self.similarity, str):
            of = self.similarity
            return lambda one, other: of(documents[one], documents[other])
        counted = [words(document) for document in documents]
        measure = TEXTS[self.similarity]
        return lambda one, other: measure(counted[one], counted[other])


class Recency(Stage):
    """Score times how recent: what is one half-life older counts half.

    The prior is 2 ** (−age / half_life). Scores must be at least 0 (probabilities, say): a prior would lift a negative
    one. Candidates without a score stay below, in their order.

    Args:
        dates: doc_id -> date, as a date, a datetime or ISO 8601 text ("2024-05-31"); or a file whose lines are doc_id,
            a tab and the date.
        half_life: days after which a document counts half.
        now: the day that ages are counted to; the latest of the dates by default, so that nothing depends on the
            clock. A later document counts as one of that day.
        undated: what a document without a date counts: from 0 to 1; None refuses it.

    Raises:
        InputError: when a date cannot be read, or a number makes no sense.
        FileError: when the file cannot be read.
    """

    name = "recency"

    def __init__(
        self,
        dates: str | Path | Mapping[str, str | date],
        half_life: float,
        now: str | date | None = None,
        undated: float | None = None,
    ) -> None:
        if not (math.isfinite(half_life) and half_life > 0):
            raise InputError(f"the half-life is {half_life} days; it must be above 0")
        if undated is not None and not 0 <= undated <= 1:
            raise InputError(f"undated={undated}; what an undated document counts lies between 0 and 1")
        given = _read(Path(dates)) if isinstance(dates, str | Path) else dates
        if not given:
            raise InputError("there is no date; give doc_id -> date")
        self.days = {doc_id: _day(when, f"document {doc_id!r}") for doc_id, when in given.items()}
        self.half_life, self.undated = half_life, undated
        self.now = max(self.days.values()) if now is None else _day(now, "now")

    def prior(self, document: Document) -> float:
        """What its score is multiplied by, from 0 to 1.

        Raises:
            InputError: when it has no date, and undated documents are refused.
        """
        if document.doc_id in self.days:
            return float(2 ** (-max(0.0, self.now - self.days[document.doc_id]) / self.half_life))
        if self.undated is None:
            raise InputError(f"document {document.doc_id!r} has no date; give one, or say what `undated` ones count")
        return self.undated

    def rerank(self, rankings: Sequence[Ranking]) -> list[Ranking]:
        """Each ranking by score times prior.

        Raises:
            InputError: when a ranking has no scores, a score is below 0, or a date is missing.
        """
        return [self._reranked(ranking) for ranking in rankings]

    def _reranked(self, ranking: Ranking) -> Ranking:
        scores = _scores(ranking)
        for candidate, score in zip(ranking, scores, strict=False):
            if score < 0:
                raise InputError(
                    f"document {candidate.document.doc_id!r} of query {ranking.query.query_id!r} has the score "
                    f"{score}; a prior wants scores of at least 0: calibrate them first (docs/calibration.md)"
                )
        documents = ranking.documents[: len(scores)]
        weighed = [score * self.prior(document) for score, document in zip(scores, documents, strict=True)]
        return Ranking.by_score(ranking.query, documents, weighed).then(ranking.documents[len(scores) :])


def _scores(ranking: Ranking) -> list[float]:
    scores = [candidate.score for candidate in ranking if candidate.score is not None]
    if ranking and not scores:
        raise InputError(
            f"the ranking of query {ranking.query.query_id!r} has an order and no scores; put a stage that scores "
            "in front"
        )
    return scores


def _relevance(ranking: Ranking) -> list[float]:
    """Scores from 0 to 1; all 1 where they are equal."""
    scores = _scores(ranking)
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)
    if low == high:
        return [1.0] * len(scores)
    return [(score / 2 - low / 2) / (high / 2 - low / 2) for score in scores]  # halves: no difference is infinite


def _day(when: str | date, of: str) -> float:
    """Days since 1970, parts of days included; a datetime without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError as error:
        raise InputError(f"the date of {of} is {when!r}; write it like 2024-05-31") from error
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.timestamp() / 86_400


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read the dates {path}: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        doc_id, tab, when = line.partition("\t")
        if not tab or doc_id in found:
            raise FileError(f"{path}, line {number}: {line!r} is no new document, tab and date")
        found[doc_id] = when.strip()
    return found
