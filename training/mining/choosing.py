"""From one ranking to its examples: which documents are positives, which are negatives beside them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rerank.errors import InputError
from rerank.types import Candidate, Document, Ranking
from training.examples.record import BadExample, Example
from training.examples.stream import Note, Read
from training.mining.rules import Rules

__all__ = ["Judged", "choose"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A ranking and what else is known of its query.

    Args:
        ranking: the candidates, best first.
        positives: the relevant documents, also those that were not retrieved.
        relevant: the ids that must not become negatives: judged at all above 0.
        teacher: doc_id -> the teacher's score, for candidates and positives; None without a teacher.
    """

    ranking: Ranking
    positives: tuple[Document, ...]
    relevant: frozenset[str]
    teacher: Mapping[str, float] | None = None

    @property
    def scores(self) -> Mapping[str, float | None]:
        """By which margins are kept."""
        if self.teacher is not None:
            return self.teacher
        return {one.document.doc_id: one.score for one in self.ranking}

    def rank(self, doc_id: str) -> int | None:
        """From 1, by the teacher where there is one; None when it was not retrieved."""
        ids = [candidate.document.doc_id for candidate in self.ranking]
        if self.teacher is not None:
            ids = sorted(self.teacher, key=lambda one: -(self.teacher or {})[one])
        return ids.index(doc_id) + 1 if doc_id in ids else None


def choose(judged: Judged, rules: Rules, corpus: Sequence[Document], seed: str) -> Read:
    """The examples of one query.

    Args:
        judged: its ranking and judgments.
        rules: which negatives.
        corpus: a sample of the collection, for random negatives.
        seed: of what is drawn for this query.
    """
    dice = random.Random(seed)
    groups = [(one,) for one in judged.positives] if rules.positives == "each" else [judged.positives]
    for group in groups:
        fit, refused = _fit(group, judged, rules)
        yield from refused
        if fit:
            yield from _example(fit, judged, rules, corpus, dice)


def _fit(group: Sequence[Document], judged: Judged, rules: Rules) -> tuple[tuple[Document, ...], list[BadExample]]:
    """Those positives that can be trained on, and why others cannot."""
    fit, refused = [], []
    for positive in group:
        error = _unfit(positive, judged, rules)
        if error is None:
            fit.append(positive)
        else:
            refused.append(error)
    return tuple(fit), refused


def _unfit(positive: Document, judged: Judged, rules: Rules) -> BadExample | None:
    where = f"query {judged.ranking.query.query_id}"
    score = judged.scores.get(positive.doc_id)
    if rules.by_positive and score is None:
        return BadExample("positive without a score", f"{positive.doc_id!r} is not in the ranking", where)
    if rules.relative_margin is not None and score is not None and score <= 0:
        detail = f"{positive.doc_id!r} scores {score:.3f}; a relative margin needs scores above 0: use margin"
        return BadExample("positive without a score", detail, where)
    if rules.positive_min is not None and score is not None and score < rules.positive_min:
        return BadExample("positive ranked too low", f"{positive.doc_id!r} scores {score:.3f}", where)
    if rules.consistent_within is not None:
        rank = judged.rank(positive.doc_id)
        if rank is None or rank > rules.consistent_within:
            return BadExample("positive ranked too low", f"{positive.doc_id!r} at rank {rank or 'none'}", where)
    return None


def _example(
    positives: tuple[Document, ...], judged: Judged, rules: Rules, corpus: Sequence[Document], dice: random.Random
) -> Read:
    query = judged.ranking.query
    seen = {_plain(positive) for positive in (*positives, *judged.positives)}
    fit, notes = _candidates(positives, judged, rules, seen)
    drawn = _drawn(fit, rules, dice)
    taken = {candidate.document.doc_id for candidate in judged.ranking} | judged.relevant
    negatives = [*drawn, *_randoms(corpus, rules.randoms, taken, seen, dice)]
    yield from notes
    wanted = rules.negatives + rules.randoms
    if len(negatives) < rules.least:
        detail = f"{len(negatives)} beside {positives[0].doc_id!r}, at least {rules.least} are wanted"
        yield BadExample("too few negatives", detail, f"query {query.query_id}")
        return
    if len(negatives) < wanted:
        yield Note("negatives fewer than asked for", wanted - len(negatives))
    documents = (*positives, *negatives)
    teacher = judged.teacher or {}
    scores = tuple(teacher[one.doc_id] for one in documents if one.doc_id in teacher)
    try:
        yield Example(
            query.text,
            tuple(document.full_text for document in documents),
            relevance=(1.0,) * len(positives) + (0.0,) * len(negatives),
            scores=scores if len(scores) == len(documents) else None,
            query_id=query.query_id,
            doc_ids=tuple(document.doc_id for document in documents),
            where=f"query {query.query_id}",
        )
    except BadExample as error:
        yield error


def _candidates(
    positives: Sequence[Document], judged: Judged, rules: Rules, seen: set[str]
) -> tuple[list[Candidate], list[Note]]:
    """Those that may be chosen, best first, and how many may not, by reason; adds their texts to `seen`."""
    reference = _reference(positives, judged) if rules.by_positive else None
    left_out: Counter[str] = Counter()
    fit = []
    for rank, candidate in enumerate(judged.ranking, start=1):
        if candidate.document.doc_id in judged.relevant:
            continue
        reason = _reason(rank, candidate, judged, rules, reference, seen)
        if reason:
            left_out[reason] += 1
        else:
            seen.add(_plain(candidate.document))
            fit.append(candidate)
    return fit, [Note(reason, count) for reason, count in left_out.items()]


def _reason(
    rank: int, candidate: Candidate, judged: Judged, rules: Rules, reference: float | None, seen: Collection[str]
) -> str:
    if not rules.first_rank <= rank <= (rules.last_rank or rank):
        return "candidates outside of the ranks"
    plain = _plain(candidate.document)
    if plain in seen or not plain:
        return "candidates without a text of their own"
    if not rules.by_score:
        return ""
    score = judged.scores.get(candidate.document.doc_id)
    if score is None:
        raise InputError(
            f"document {candidate.document.doc_id!r} of query {judged.ranking.query.query_id!r} has no score, which a "
            "margin needs; leave margins out, or give a teacher that scores"
        )
    return rules.refuses(score, reference)


def _reference(positives: Sequence[Document], judged: Judged) -> float | None:
    scores = [judged.scores.get(positive.doc_id) for positive in positives]
    return min((score for score in scores if score is not None), default=None)


def _drawn(fit: Sequence[Candidate], rules: Rules, dice: random.Random) -> Iterator[Document]:
    """The best, or some of them in their order."""
    chosen: Sequence[int] = range(len(fit))
    if rules.sampling == "random" and len(fit) > rules.negatives:
        chosen = sorted(dice.sample(range(len(fit)), rules.negatives))
    for index in chosen[: rules.negatives]:
        yield fit[index].document


def _randoms(
    corpus: Sequence[Document], count: int, taken: Collection[str], seen: set[str], dice: random.Random
) -> Iterator[Document]:
    """Documents of the sample that were not retrieved, each with a text of its own."""
    left = count
    for document in dice.sample(corpus, len(corpus)) if count else ():
        if left == 0:
            return
        plain = _plain(document)
        if document.doc_id not in taken and plain and plain not in seen:
            seen.add(plain)
            left -= 1
            yield document


def _plain(document: Document) -> str:
    """A text without what makes no difference: two passages that differ in case or spaces are one."""
    return " ".join(document.full_text.casefold().split())
