"""The reranker: names, options, cutoffs and what is refused before any work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rerank import Document, Query, Ranking, Reranker
from rerank.algorithms.pointwise import pointwise
from rerank.errors import FileError, InputError, UnknownName
from rerank.judges.fake import Oracle
from rerank.questions import Algorithm, Grade, Graded, Write


def oracle(**relevance: int) -> Oracle:
    return Oracle({"q": relevance})


def ranking_of(*ids: str) -> Ranking:
    documents = [Document(doc_id, f"text {doc_id}") for doc_id in ids]
    return Ranking.by_score(Query("q", "query"), documents, [float(-place) for place in range(len(ids))])


def ids(ranking: Ranking) -> list[str]:
    return [candidate.document.doc_id for candidate in ranking]


def test_texts_get_their_index_as_id_and_inputs_are_not_changed():
    texts = ["one", "two", "three"]
    reranker = Reranker(judge=Oracle({"query": {"2": 3, "0": 1}}))

    ranking = reranker.rank("what?", texts, top=2)

    assert ids(ranking) == ["2", "0"]
    assert [candidate.score for candidate in ranking] == [3.0, 1.0]
    assert texts == ["one", "two", "three"]


def test_what_is_beyond_the_cutoff_stays_below_in_its_order_and_unscored():
    [ranking] = Reranker(judge=oracle(a=0, b=1, c=9, d=5)).rerank([ranking_of("a", "b", "c", "d")], cutoff=2)

    assert ids(ranking) == ["b", "a", "c", "d"]
    assert [candidate.score for candidate in ranking] == [1.0, 0.0, None, None]


def test_many_queries_come_back_in_the_order_given():
    rankings = [
        Ranking.unscored(Query(f"q{number}", "?"), [Document("a", "x"), Document("b", "y")]) for number in range(50)
    ]
    judge = Oracle({f"q{number}": {"b": number % 2} for number in range(50)})

    ranked = Reranker(judge=judge).rerank(rankings)

    assert [ranking.query.query_id for ranking in ranked] == [f"q{number}" for number in range(50)]
    assert [ids(ranking)[0] for ranking in ranked] == ["a", "b"] * 25


def test_a_generator_of_rankings_is_as_good_as_a_list():
    ranked = Reranker(judge=oracle(b=1)).rerank(ranking for ranking in [ranking_of("a", "b")] * 2)

    assert [ids(ranking) for ranking in ranked] == [["b", "a"], ["b", "a"]]


def test_one_reranker_may_be_used_from_many_threads():
    reranker = Reranker(judge=oracle(b=1))
    results: list[list[str]] = []

    def work():
        for _ in range(20):
            results.append(ids(reranker.rerank([ranking_of("a", "b")])[0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [["b", "a"]] * 80
    assert reranker.ledger.total["calls"] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda reranker: reranker.rank("q", []), "no candidates"),
        (lambda reranker: reranker.rank(" ", ["text"]), "no text"),
        (lambda reranker: reranker.rank("q", ["text"], top=0), "at least 1"),
        (lambda reranker: reranker.rerank([ranking_of("a")], cutoff=0), "cutoff is 0"),
        (lambda reranker: reranker.rank("q", [Document("a", "x"), Document("a", "y")]), "occurs twice"),
        (lambda reranker: reranker.rank("q", "abc"), "one text"),
        (lambda reranker: reranker.rank("q", ["a", None]), "document 1 is None"),
        (lambda reranker: reranker.rerank(ranking_of("a")), "one Ranking"),
        (lambda reranker: reranker.rerank({"q": ranking_of("a")}), "one dict"),
        (lambda reranker: reranker.rerank([["a"]]), "no Ranking"),
    ],
)
def test_bad_input_is_refused_before_any_work(call, message):
    reranker = Reranker(judge=oracle())

    with pytest.raises(InputError, match=message):
        call(reranker)

    assert reranker.ledger.total == {}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Reranker(), InputError, "needs a checkpoint's name, or a judge"),
        (lambda: Reranker("ms-marco-MiniLM-L12"), UnknownName, "did you mean 'ms-marco-MiniLM-L12-v2'"),
        (lambda: Reranker(judge=oracle(), algorithm="pointwize"), UnknownName, "did you mean 'pointwise'"),
        (lambda: Reranker("ms-marco-MiniLM-L12-v2", judge="oracle"), InputError, "needs judgments"),
        (lambda: Reranker(judge=oracle(), max_tokens=3), InputError, "max_tokens cannot change a judge"),
    ],
)
def test_what_does_not_fit_together_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_algorithm_that_asks_what_the_judge_cannot_answer_is_refused():
    writing = Algorithm("writing", pointwise.plan, asks=frozenset({Write}), exact=lambda count: 0)

    judge = oracle()
    judge.answers = frozenset({Grade})

    with pytest.raises(InputError, match="writing asks Write, and Oracle answers only Grade"):
        Reranker(judge=judge, algorithm=writing)


def test_a_journal_carries_answers_from_one_reranker_to_the_next(tmp_path: Path):
    with Reranker(judge=oracle(b=2), journal=tmp_path / "j") as first:
        expected = first.rerank([ranking_of("a", "b")])
        with pytest.raises(FileError, match="in use"):
            Reranker(judge=oracle(b=2), journal=tmp_path / "j")

    with Reranker(judge=oracle(b=2), journal=tmp_path / "j") as second:
        assert second.rerank([ranking_of("a", "b")]) == expected
        assert second.ledger.total == {"questions": 2, "journal_hits": 2, "rounds": 1}
        assert second.ledger.notes["journal"] == "2 answers of earlier runs"


def test_a_journal_is_let_go_when_its_reranker_is_forgotten(tmp_path: Path):
    import gc

    reranker = Reranker(judge=oracle(), journal=tmp_path / "j")
    reranker.rerank([ranking_of("a", "b")])
    del reranker
    gc.collect()

    with Reranker(judge=oracle(), journal=tmp_path / "j") as again:
        assert again.journal is not None
        assert len(again.journal) == 2


def test_equal_scores_keep_the_incoming_order():
    class Constant:
        key, answers, reads_ids = "constant", frozenset({Grade}), False

        def answer(self, questions, bill):
            for index in reversed(range(len(questions))):
                yield index, Graded(0.5)

    [ranking] = Reranker(judge=Constant()).rerank([ranking_of("c", "a", "b")])

    assert ids(ranking) == ["c", "a", "b"]


def test_the_checkpoint_files_max_tokens_is_the_default(minilm: Path, monkeypatch):
    from dataclasses import replace

    from rerank import checkpoints
    from rerank.rerankers import recipe as module

    located = checkpoints.find("ms-marco-MiniLM-L12-v2")
    shorter = replace(located, checkpoint=replace(located.checkpoint, max_tokens=99))
    monkeypatch.setattr(module.checkpoints, "find", lambda name: shorter)
    monkeypatch.setattr(module.checkpoints, "fetch", lambda name: minilm)

    assert Reranker("ms-marco-MiniLM-L12-v2").judge.max_tokens == 99
    assert Reranker("ms-marco-MiniLM-L12-v2", max_tokens=50).judge.max_tokens == 50


def test_perfect_judge_puts_as_many_in_order_as_the_algorithm_promises():
    relevance = {str(number): number * 7 % 31 for number in range(30)}
    [ranking] = Reranker(judge=oracle(**relevance)).rerank([ranking_of(*relevance)])

    grades = [relevance[doc_id] for doc_id in ids(ranking)]
    assert pointwise.exact(30) == 30
    assert grades == sorted(grades, reverse=True)
