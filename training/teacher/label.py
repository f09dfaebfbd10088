"""Labels from a teacher: any reranker of the toolkit says how relevant, in which order, or which of two."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeAlias

from rerank.errors import InputError
from rerank.questions import Compare, Grade, Graded, Plan
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking
from training.examples.record import Example, Pair
from training.examples.stream import Examples, Read
from training.mining.mining import Scoring
from training.teacher.pairs import PairSampler, asking

__all__ = ["KINDS", "label", "scored_by"]

KINDS = ("scores", "order", "pairs", "logits")
"""What a teacher may be asked for."""

AT_ONCE = 256
"""Examples that are labelled together, which is where the speed is."""

OnAnswer: TypeAlias = Callable[[int, int], None]

Found: TypeAlias = Callable[[tuple[str, ...]], tuple[Any, ...]]
"""Labels, once the ids of an example's documents say where each belongs."""


@dataclass(frozen=True, slots=True)
class _How:
    teacher: Reranker
    sampler: PairSampler
    soft: bool
    passes: int
    full_list: bool
    on_answer: OnAnswer | None


def label(
    examples: Iterable[Example],
    teacher: Reranker,
    labels: str = "scores",
    *,
    sampler: PairSampler | None = None,
    soft: bool = False,
    passes: int = 1,
    full_list: bool = False,
    shuffle: int | None = None,
    on_answer: OnAnswer | None = None,
) -> Examples:
    """The same examples with a teacher's labels; other labels stay.

    All questions of many examples are merged into full batches. A teacher with a journal keeps every answer, so that
    the same call goes on where it was interrupted; its ledger holds the bill.

    Args:
        examples: what is labelled, gone through once for each reading of the result.
        teacher: scores each document, or orders lists, or (for pairs) has a judge that compares, or (for logits) one
            that grades by two words and keeps their logits: `options={"keep_logits": True}`.
        labels: "scores", "order", "pairs" or "logits".
        sampler: of pairs: which; 2 % of them, uniform, by default.
        soft: of pairs: probabilities in place of 1, 0.5 and 0.
        passes: of an order: give the teacher its own order to improve, so many times in all or until nothing changes.
        full_list: of an order: keep only as many heads of a pass as the algorithm puts in order (`exact`), and go on
            with the rest until the whole list is in order: nine passes of windows of 20 that move by 10 over 100
            documents (Liu et al., 2024, https://arxiv.org/abs/2412.14574).
        shuffle: a seed by which each list is shown in another order than it has; None shows it as it stands. Mined
            examples have their relevant documents first: a teacher that prefers first places must not see that.
        on_answer: called after every answer with (answered, asked so far) of the lists at work.

    Raises:
        InputError: when there are no such labels, an option belongs to others, or the teacher cannot give them.
    """
    _check(teacher, labels, sampler is not None or soft, passes, full_list)
    how = _How(teacher, sampler or PairSampler(), soft, passes, full_list, on_answer)
    ask = {"scores": _scores, "order": _order, "pairs": _pairs, "logits": _logits}[labels]

    def read() -> Read:
        number = 0
        for chunk in _chunks(examples):
            rankings = [_ranking(one, number + place, shuffle) for place, one in enumerate(chunk)]
            number += len(chunk)
            for example, found in zip(chunk, ask(rankings, how), strict=True):
                given: dict[str, Any] = {labels: found(_ids(example))}
                yield replace(example, **given)

    return Examples(read, source="labelling")


def scored_by(teacher: Reranker, on_answer: OnAnswer | None = None) -> Scoring:
    """The teacher as a function of rankings, as `training.mining.mine` takes it."""

    def scoring(rankings: Sequence[Ranking]) -> list[dict[str, float]]:
        return [_by_id(ranked, teacher) for ranked in teacher.rerank(list(rankings), on_answer=on_answer)]

    return scoring


def _check(teacher: Reranker, labels: str, of_pairs: bool, passes: int, full_list: bool) -> None:
    if labels not in KINDS:
        raise InputError(f"labels={labels!r}; a teacher gives {', '.join(map(repr, KINDS))}")
    if of_pairs and labels != "pairs":
        raise InputError(f"sampler and soft are for pairs, and {labels} are asked for")
    if (passes != 1 or full_list) and labels != "order":
        raise InputError(f"passes and full_list are for an order, and {labels} are asked for")
    if passes < 1:
        raise InputError(f"passes={passes}; the teacher is asked at least once")
    if labels == "pairs" and Compare not in teacher.judge.answers:
        raise InputError(
            f"the judge of {teacher.name} compares no two documents; pairs want one that does, as prp-allpair's"
        )
    if labels == "logits" and len(getattr(teacher.judge, "targets", ())) != 2:
        raise InputError(
            f"the judge of {teacher.name} does not answer by two words; logits want one that does, as monot5's"
        )
    if labels == "logits" and not getattr(teacher.judge, "keeps_logits", False):
        raise InputError(f"the judge of {teacher.name} keeps no logits; load it with options={{'keep_logits': True}}")


def _ids(example: Example) -> tuple[str, ...]:
    return example.doc_ids or tuple(map(str, range(len(example))))


def _ranking(example: Example, number: int, shuffle: int | None) -> Ranking:
    """The documents under their ids, else their numbers, in the order in which the teacher is shown them."""
    query = Query(example.query_id or str(number), example.query)
    documents = [Document(doc_id, text) for doc_id, text in zip(_ids(example), example.documents, strict=True)]
    if shuffle is not None:
        random.Random(f"{shuffle} {query.query_id} {query.text}").shuffle(documents)
    return Ranking.unscored(query, documents)


def _scores(rankings: Sequence[Ranking], how: _How) -> list[Found]:
    def found(scores: Mapping[str, float]) -> Found:
        return lambda ids: tuple(scores[one] for one in ids)

    return [found(scores) for scores in scored_by(how.teacher, how.on_answer)(rankings)]


def _order(rankings: Sequence[Ranking], how: _How) -> list[Found]:
    def found(ranked: Ranking) -> Found:
        return lambda ids: tuple(ids.index(document.doc_id) for document in ranked.documents)

    return [found(ranked) for ranked in (_in_full if how.full_list else _in_passes)(rankings, how)]


def _pairs(rankings: Sequence[Ranking], how: _How) -> list[Found]:
    def found(ranking: Ranking, pairs: Sequence[Pair]) -> Found:
        shown = [document.doc_id for document in ranking.documents]
        return lambda ids: tuple((ids.index(shown[i]), ids.index(shown[j]), wins) for i, j, wins in pairs)

    said: list[list[Pair]] = [[] for _ in rankings]
    plans = []
    for ranking, pairs in zip(rankings, said, strict=True):
        chosen = how.sampler.sample(len(ranking), f"{ranking.query.query_id} {ranking.query.text}")
        plans.append(asking(ranking, chosen, pairs, soft=how.soft))
    how.teacher.carry(plans, on_answer=how.on_answer)
    return [found(ranking, pairs) for ranking, pairs in zip(rankings, said, strict=True)]


def _logits(rankings: Sequence[Ranking], how: _How) -> list[Found]:
    def found(ranking: Ranking, rows: Sequence[tuple[float, ...]]) -> Found:
        shown = {document.doc_id: row for document, row in zip(ranking.documents, rows, strict=True)}
        return lambda ids: tuple(shown[one] for one in ids)

    told: list[list[tuple[float, ...]]] = [[] for _ in rankings]
    how.teacher.carry(map(_telling, rankings, told), on_answer=how.on_answer)
    return [found(ranking, rows) for ranking, rows in zip(rankings, told, strict=True)]


def _telling(ranking: Ranking, told: list[tuple[float, ...]]) -> Plan:
    """Grade all documents, and say by which logits."""
    answers = yield [Grade(ranking.query, document) for document in ranking.documents]
    told += [answer.logits for answer in answers if isinstance(answer, Graded)]
    return ranking


def _in_passes(rankings: Sequence[Ranking], how: _How) -> Sequence[Ranking]:
    """Each pass begins with the order of the one before; one that changes nothing is the last."""
    ranked = list(rankings)
    for _ in range(how.passes):
        given = [Ranking.unscored(one.query, one.documents) for one in ranked]
        ranked = how.teacher.rerank(given, on_answer=how.on_answer)
        if [one.documents for one in ranked] == [one.documents for one in given]:
            break
    return ranked


def _in_full(rankings: Sequence[Ranking], how: _How) -> Sequence[Ranking]:
    """Pass after pass, each over what is not in order yet."""
    heads: list[list[Document]] = [[] for _ in rankings]
    rests: list[Sequence[Document]] = [ranking.documents for ranking in rankings]
    while open_lists := [index for index, rest in enumerate(rests) if rest]:
        given = [Ranking.unscored(rankings[index].query, rests[index]) for index in open_lists]
        for index, ranked in zip(open_lists, how.teacher.rerank(given, on_answer=how.on_answer), strict=True):
            kept = _kept(how.teacher, len(ranked))
            heads[index] += ranked.documents[:kept]
            rests[index] = ranked.documents[kept:]
    return [Ranking.unscored(one.query, head) for one, head in zip(rankings, heads, strict=True)]


def _kept(teacher: Reranker, count: int) -> int:
    """How many heads of a pass over so many documents are in order."""
    if count == 1:
        return 1
    kept: int = teacher.algorithm.exact(count, **teacher.recipe.asking)
    if kept < 1:
        raise InputError(f"{teacher.algorithm.name} promises no head in order, so that no list gets full; use passes")
    return min(kept, count)


def _by_id(ranked: Ranking, teacher: Reranker) -> dict[str, float]:
    scores = {one.document.doc_id: one.score for one in ranked if one.score is not None}
    if len(scores) < len(ranked):
        raise InputError(f"{teacher.name} puts documents in order and scores none; ask it for labels='order'")
    return scores


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    stream = iter(examples)
    while chunk := list(islice(stream, AT_ONCE)):
        yield chunk
