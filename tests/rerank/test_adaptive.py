"""Adaptive reranking: what comes in along a graph, what is asked in which order, and budgets kept to the letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.adaptive import Adjacency, gar, ladr, ladr_adaptive
from rerank.engine.scheduler import Scheduler
from rerank.errors import InputError
from rerank.judges.fake import Oracle
from rerank.pipeline import Pipeline, Stage
from rerank.rerankers.reranker import Reranker
from rerank.serve.settings import Served
from rerank.types import Candidate, Document, Query, Ranking
from retrievers.bm25 import BM25
from retrievers.graph import CorpusGraph

CORPUS = [Document(f"d{number}", f"text {number}") for number in range(40)]
QUERY = Query("q", "words")


def listed(*numbers: int) -> Ranking:
    return Ranking.unscored(QUERY, [CORPUS[number] for number in numbers])


def graph(near: dict[int, list[int]]) -> Adjacency:
    return Adjacency(CORPUS, {f"d{n}": [f"d{each}" for each in some] for n, some in near.items()})


def oracle(**relevances: int) -> Oracle:
    return Oracle({"q": relevances})


def ranked(algorithm: Any, ranking: Ranking, judge: Oracle, **options: Any) -> tuple[list[str], list[float | None]]:
    with Scheduler(judge) as scheduler:
        [found] = scheduler.run([algorithm(ranking, **options)])
    return [document.doc_id for document in found.documents], [candidate.score for candidate in found]


def asked(play: Any, algorithm: Any, ranking: Ranking, judge: Oracle, **options: Any) -> list[list[str]]:
    """The ids that each round asks about."""
    _, rounds = play(algorithm(ranking, **options), judge)
    return [[question.document.doc_id for question in questions] for questions in rounds]


@pytest.mark.parametrize("algorithm", [gar, ladr, ladr_adaptive])
def test_a_relevant_document_that_only_a_neighbour_leads_to_is_found(algorithm: Any) -> None:
    """d9 is in no list; d1 is relevant, and d9 its neighbour."""
    near = graph({1: [9], 0: [20], 2: [21], 9: [22]})

    ids, scores = ranked(algorithm, listed(0, 1, 2), oracle(d1=1, d9=3), graph=near, budget=6)

    assert ids[:2] == ["d9", "d1"]
    assert scores[:2] == [3.0, 1.0]


def test_gar_takes_turns_and_follows_the_best_first(play: Any) -> None:
    """By hand: batches of two. The list's d0, d1; then what d1, which is better, leads to, before what d0 does; then
    the list again; then the neighbours of d10, the best of all."""
    near = graph({0: [30, 31], 1: [10, 11], 10: [12, 13], 11: [14], 2: [15]})

    rounds = asked(play, gar, listed(0, 1, 2, 3, 4), oracle(d1=1, d10=2, d2=1), graph=near, budget=8, batch=2)

    assert rounds == [["d0", "d1"], ["d10", "d11"], ["d2", "d3"], ["d12", "d13"]]


def test_a_frontier_document_has_the_best_grade_that_leads_to_it(play: Any) -> None:
    """d20 is found by d0 (grade 0) and again by d3 (grade 2), d21 by d0 and d1 (grade 1)."""
    near = graph({0: [20, 21], 1: [21], 2: [22], 3: [20]})

    rounds = asked(play, gar, listed(0, 1, 2, 3), oracle(d1=1, d3=2), graph=near, budget=7, batch=4)

    assert rounds == [["d0", "d1", "d2", "d3"], ["d20", "d21", "d22"]]


def test_gar_goes_on_with_one_where_the_other_is_empty(play: Any) -> None:
    lonely = asked(play, gar, listed(0, 1, 2, 3, 4), oracle(), graph=graph({}), budget=99, batch=2)
    path = asked(play, gar, listed(0), oracle(), graph=graph({n: [n + 1] for n in range(39)}), budget=5, batch=2)

    assert lonely == [["d0", "d1"], ["d2", "d3"], ["d4"]]
    assert path == [["d0"], ["d1"], ["d2"], ["d3"], ["d4"]]


def test_what_nobody_graded_stays_below_in_its_order_and_unscored() -> None:
    ids, scores = ranked(gar, listed(0, 1, 2, 3, 4), oracle(d7=1), graph=graph({0: [7, 8]}), budget=4, batch=2)

    assert ids == ["d7", "d0", "d1", "d8", "d2", "d3", "d4"]  # equal grades: the list's first, then as they were found
    assert scores == [1.0, 0.0, 0.0, 0.0, None, None, None]


def test_proactive_ladr_asks_once_about_seeds_and_all_their_neighbours(play: Any) -> None:
    near = graph({0: [10, 1], 1: [11, 12], 2: [13], 10: [14]})

    rounds = asked(play, ladr, listed(0, 1, 2), oracle(d10=1), graph=near, seeds=2, neighbours=1)
    limited = asked(play, ladr, listed(0, 1, 2), oracle(), graph=near, budget=4)

    assert rounds == [["d0", "d1", "d10", "d11"]]
    assert limited == [["d0", "d1", "d2", "d10"]]


def test_adaptive_ladr_goes_on_until_the_best_bring_nothing_new(play: Any) -> None:
    """d0 leads to d10, that to d11, that to d12: each better than the one before; d1's d20 is worse than the best two
    by the time that d10 and d11 stand there, and its neighbour d21 is never asked about."""
    near = graph({0: [10], 1: [20], 10: [11], 11: [12], 20: [21]})
    judge = oracle(d0=2, d1=1, d10=3, d11=4, d12=5)

    rounds = asked(play, ladr_adaptive, listed(0, 1), judge, graph=near, depth=2)

    assert rounds == [["d0", "d1"], ["d10", "d20"], ["d11"], ["d12"]]


@given(data=st.data())
def test_a_budget_is_spent_to_the_last_document_and_never_overspent(data: st.DataObject) -> None:
    near = data.draw(st.dictionaries(st.integers(0, 39), st.lists(st.integers(0, 39), max_size=5, unique=True)))
    some = data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=20, unique=True))
    budget = data.draw(st.integers(1, 50))
    judge = Oracle({"q": {f"d{n}": n % 5 for n in range(40)}}, noise=1.0)
    reached, edge = set(some), set(some)
    while edge := {each for n in edge for each in near.get(n, [])} - reached:
        reached |= edge

    for algorithm, options in ((gar, {"batch": data.draw(st.integers(1, 9))}), (ladr_adaptive, {"depth": 50})):
        with Scheduler(judge) as scheduler:
            [found] = scheduler.run([algorithm(listed(*some), graph=graph(near), budget=budget, **options)])

        graded = [candidate for candidate in found if candidate.score is not None]
        assert scheduler.ledger.total["questions"] == len(graded) == min(budget, len(reached))
        assert {document.doc_id for document in found.documents} >= {f"d{n}" for n in some}


def test_queries_are_asked_side_by_side() -> None:
    """Eight queries of four batches each, and a judge that is called less often than that: batches go together."""
    near = graph({n: [n + 10] for n in range(30)})
    rankings = [Ranking.unscored(Query(f"q{n}", f"words {n}"), CORPUS[:8]) for n in range(8)]
    judge = Rounds({ranking.query.query_id: {} for ranking in rankings})

    with Scheduler(judge) as scheduler:
        scheduler.run([gar(ranking, graph=near, budget=16, batch=4) for ranking in rankings])

    assert sum(judge.sizes) == 8 * 16
    assert max(judge.sizes) > 4
    assert len(judge.sizes) < 8 * 4


class Rounds(Oracle):
    """An oracle that remembers how many questions it was given at once."""

    def __init__(self, qrels: Any) -> None:
        super().__init__(qrels)
        self.sizes: list[int] = []

    def answer(self, questions: Any, bill: Any) -> Any:
        self.sizes.append(len(questions))
        return super().answer(questions, bill)


# -- through a reranker and a pipeline -------------------------------------------------------------------------------


class Given(Stage):
    """A first stage that finds what it was told, less what is excluded."""

    name = "given"

    def retrieve(self, queries: Any, cutoff: int, *, exclude: Any = {}) -> list[Ranking]:  # noqa: B006
        return [
            Ranking(
                query,
                tuple(
                    Candidate(document, float(9 - place))
                    for place, document in enumerate(CORPUS[:4])
                    if document.doc_id not in exclude.get(query.query_id, ())
                )[:cutoff],
            )
            for query in queries
        ]


def reranker(judge: Oracle, **options: Any) -> Reranker:
    return Reranker("gar", judge=judge, options={"batch": 2, **options})


def test_documents_from_outside_the_list_go_through_a_pipeline() -> None:
    near = graph({0: [9], 1: [2, 3]})
    first = reranker(oracle(d9=3, d3=2), graph=near, budget=4)
    second = Reranker(judge=oracle(d0=2, d9=1))

    [ranking] = (Given() % 4 >> first % 3 >> second).run([QUERY])
    [shortened] = (Given() % 4 >> first % 1).run([QUERY])

    assert [document.doc_id for document in ranking.documents] == ["d0", "d9", "d1", "d2", "d3"]
    assert [document.doc_id for document in shortened.documents] == ["d9"]


def test_a_document_below_the_cutoff_that_the_graph_brings_in_stands_once() -> None:
    near = graph({0: [3, 9]})

    [ranking] = reranker(oracle(d3=1), graph=near, budget=4).rerank([listed(0, 1, 2, 3)], cutoff=2)

    assert [document.doc_id for document in ranking.documents] == ["d3", "d0", "d1", "d9", "d2"]


def test_what_a_query_must_not_find_does_not_come_in_along_the_graph() -> None:
    pipeline = Given() % 4 >> reranker(oracle(d9=3, d2=2), graph=graph({0: [9, 10], 1: [2]}), budget=9)

    [free] = pipeline.run([QUERY])
    [kept] = pipeline.run([QUERY], exclude={"q": ["d9", "d2"]})

    assert {document.doc_id for document in free.documents} == {"d0", "d1", "d2", "d3", "d9", "d10"}
    assert {document.doc_id for document in kept.documents} == {"d0", "d1", "d3", "d10"}


def test_scores_mean_the_graph_too() -> None:
    made = reranker(oracle(), graph=graph({}), budget=7)

    assert made.fetches
    assert "gar(batch=2,budget=7,graph=a graph of 40 documents in memory)" in made.scores_key
    assert not Reranker(judge=oracle()).fetches


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "gar follows a graph of the corpus: give the option graph= a folder of `rerank graph`"),
        ({"graph": "nowhere"}, "there is no index at nowhere"),
        ({"graph": 7}, "option 'graph' is 7; it must be of type str or Graph"),
        ({"graph": graph({}), "budget": 0}, "budget=0; choose at least 1"),
        ({"graph": graph({}), "batch": 0}, "batch=0; choose at least 1"),
        ({"graph": graph({}), "neighbours": -1}, "neighbours=-1; choose at least 0"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_work_starts(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        reranker(oracle(), **options)

    assert "\n" not in str(caught.value)


def test_the_graph_of_another_corpus_is_told(tmp_path: Any) -> None:
    other = Adjacency([Document("x", "elsewhere"), Document("y", "too")], {})

    with pytest.raises(InputError, match="document 'd0' is not in the graph; give the graph of its corpus"):
        reranker(oracle(), graph=other).rerank([listed(0, 1)])


def test_windows_of_documents_are_refused() -> None:
    with pytest.raises(InputError, match="gar follows documents, and would not find windows of them"):
        Reranker("gar", judge=oracle(), options={"graph": graph({})}, long_documents="max")


def test_a_pipeline_of_rerankers_alone_excludes_too() -> None:
    alone = Pipeline((*(reranker(oracle(d9=3), graph=graph({0: [9]}), budget=9) % 9).steps,))

    [ranking] = alone.rerank([listed(0, 1)], exclude={"q": ["d9"]})

    assert [document.doc_id for document in ranking.documents] == ["d0", "d1"]


def test_a_server_that_ranks_what_it_is_sent_refuses_to_bring_in_more(minilm: Path, tmp_path: Path) -> None:
    index = BM25.build(CORPUS, tmp_path / "bm25")
    CorpusGraph.build(index, tmp_path / "graph", neighbours=2)
    served = Served(str(minilm), name="mine", method="gar", arguments={"options": {"graph": str(tmp_path / "graph")}})

    with pytest.raises(InputError, match="model 'mine': gar brings in documents that a request did not send"):
        served.recipe()
