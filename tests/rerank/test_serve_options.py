"""Every option of a request changes the answer, to what the library itself gives with that option."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_server import Live, bert, live
from small_folders import WORDS

from rerank import Document, Query, Ranking, Reranker
from rerank.calibration import Calibration
from rerank.calibration.curves import Sigmoid
from rerank.engine.scheduler import Scheduler
from rerank.judges.cross_encoder import CrossEncoder
from rerank.judges.fake import Oracle
from rerank.questions import Grade, Graded
from rerank.serve.asked import Asked
from rerank.serve.cutting import count_tokens, text_tokens
from rerank.serve.scores import relevances

QUERY = "how many people live in berlin"
LONG = " ".join(WORDS[place % len(WORDS)] for place in range(0, 900, 7))
SHORT = ["a wall of art", "new york is far away"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder that reads 64 tokens."""
    return bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def asks_instructions(lm: Path) -> Reranker:
    """A model whose prompt has a place for an instruction."""
    return Reranker("qwen3-reranker", model=lm)


@pytest.fixture(scope="module")
def server(folder: Path, asks_instructions: Reranker) -> Iterator[Live]:
    """One model that reads no instruction, and one that does."""
    with live(Reranker(folder), asks_instructions) as running:
        yield running


def scores(server: Live, documents: list[str], **options: Any) -> dict[int, float]:
    body = {"query": QUERY, "documents": documents, "raw_scores": True, **options}
    answer = server.post("/v1/rerank", body)
    assert answer.status_code == 200, answer.text
    return {result["index"]: result["relevance_score"] for result in answer.json()["results"]}


def offline(reranker: Reranker, documents: list[str], query: str = QUERY, instruction: str = "") -> dict[int, float]:
    ranking = reranker.rank(Query("q", query, instruction), documents)
    return {int(candidate.document.doc_id): candidate.score or 0.0 for candidate in ranking}


def test_top_n_keeps_the_best(server: Live, folder: Path) -> None:
    assert scores(server, [LONG, *SHORT], top_n=2) == dict([*offline(Reranker(folder), [LONG, *SHORT]).items()][:2])


@pytest.mark.parametrize("policy", ["max", "first", "mean", "sum", "k-max"])
def test_long_documents_are_read_as_the_request_says(server: Live, folder: Path, policy: str) -> None:
    expected = offline(Reranker(folder, long_documents=policy), [LONG, *SHORT])

    assert scores(server, [LONG, *SHORT], long_documents=policy) == expected
    assert policy == "first" or expected != scores(server, [LONG, *SHORT])


def test_windows_are_as_long_as_the_request_says_and_the_best_is_shown(server: Live, folder: Path) -> None:
    reranker = Reranker(folder, long_documents="max", window_tokens=12, stride_tokens=6)
    expected = offline(reranker, [LONG, *SHORT])
    options = {"long_documents": "max", "window_tokens": 12, "stride_tokens": 6}

    assert scores(server, [LONG, *SHORT], **options) == expected
    body = {"query": QUERY, "documents": [LONG], "return_documents": True, **options}
    [result] = server.post("/v1/rerank", body).json()["results"]
    assert result["document"]["passage"] == reranker.passages["q"]["0"].text
    assert scores(server, [LONG], long_documents="max") != scores(server, [LONG], **options)


def test_documents_are_cut_to_their_tokens(server: Live, folder: Path) -> None:
    words = LONG.split()[:5]

    assert scores(server, [LONG], max_tokens_per_doc=5) == offline(Reranker(folder), [" ".join(words)])
    assert scores(server, [LONG], max_tokens_per_doc=5) != scores(server, [LONG], max_tokens_per_doc=6)


def test_queries_are_cut_to_their_tokens(server: Live, folder: Path) -> None:
    assert scores(server, SHORT, max_tokens_per_query=3) == offline(Reranker(folder), SHORT, "how many people")


def test_what_does_not_fit_is_cut_and_said_or_refused(server: Live) -> None:
    body = {"query": QUERY, "documents": [SHORT[0], LONG + " who won"]}

    cut = server.post("/v1/rerank", body)
    refused = server.post("/v1/rerank", body | {"truncate": False})
    of_tei = server.post("/rerank", {"query": QUERY, "texts": [LONG], "truncate": False})

    assert cut.json()["meta"]["warnings"] == ["1 documents were longer than the model reads, and cut"]
    assert refused.status_code == of_tei.status_code == 413
    assert "document 1 is longer" in refused.json()["message"]
    assert of_tei.json()["error_type"] == "Validation"
    assert server.post("/v1/rerank", {"query": QUERY, "documents": SHORT, "truncate": False}).status_code == 200


def test_tei_may_keep_the_end_of_a_document(server: Live) -> None:
    words = ["wall"] * 80 + ["art"] * 80
    body = {"query": QUERY, "texts": [" ".join(words)], "raw_scores": True}

    [left] = server.post("/rerank", body | {"truncation_direction": "Left"}).json()
    [right] = server.post("/rerank", body).json()

    kept = 64 - 3 - len(QUERY.split())
    assert {0: left["score"]} == scores(server, [" ".join(words[-kept:])])
    assert left != right


def test_an_instruction_reaches_the_model_that_reads_one(server: Live, asks_instructions: Reranker) -> None:
    told = scores(server, SHORT, model="second", instruction="find walls")

    assert told == offline(asks_instructions, SHORT, instruction="find walls")
    assert told != scores(server, SHORT, model="second")
    refused = server.post("/v1/rerank", {"query": QUERY, "documents": SHORT, "instruction": "find walls"})
    assert refused.status_code == 422
    assert refused.json()["message"] == "model 'first' reads no instruction; leave it out"


def test_probabilities_of_two_words_are_those_that_were_measured(server: Live, asks_instructions: Reranker) -> None:
    answer = server.post("/v2/rerank", {"model": "second", "query": QUERY, "documents": SHORT}).json()

    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    expected = {index: math.exp(score) for index, score in offline(asks_instructions, SHORT).items()}
    assert found == expected


def test_calibrated_probabilities_come_first_and_hold_for_the_servers_windows_alone(folder: Path) -> None:
    key = Reranker(folder).scores_key
    reranker = Reranker(folder, calibration=Calibration("platt", Sigmoid(0.5, -0.25), key), threshold=0.3)
    expected = [(int(candidate.document.doc_id), candidate.score) for candidate in reranker.rank(QUERY, [LONG, *SHORT])]
    body = {"query": QUERY, "documents": [LONG, *SHORT]}

    with live(reranker) as server:
        usual = server.post("/v1/rerank", body).json()
        other = server.post("/v1/rerank", body | {"long_documents": "max"}).json()
        named = server.client.get("/v1/models").json()["data"][0]["scores"]

    assert named == "calibrated"
    assert [(result["index"], result["relevance_score"]) for result in usual["results"]] == expected
    assert "not calibrated" in other["meta"]["warnings"][0]


class Declared:
    """A judge that says what its grades are."""

    key, answers, reads_ids = "declared", frozenset({Grade}), True

    def __init__(self, scale: str) -> None:
        self.scale = scale


@pytest.mark.parametrize(
    ("scale", "expected"), [("logit", [0.5, 0.25]), ("log-probability", [1.0, 1 / 3]), ("", [1.0, 0.5])]
)
def test_numbers_of_one_ranking_by_hand(scale: str, expected: list[float]) -> None:
    reranker = Reranker(judge=Declared(scale))
    ranking = Ranking.by_score(Query("q", "q"), [Document("0", "a"), Document("1", "b")], [0.0, -math.log(3)])

    numbers, means = relevances(ranking, reranker)

    assert np.allclose(numbers, expected)
    assert means == (scale or "rank only")


def test_a_ranking_with_unscored_candidates_is_by_rank_alone() -> None:
    ranking = Ranking.by_score(Query("q", "q"), [Document("0", "a")], [3.0]).then([Document("1", "b")])

    assert relevances(ranking, Reranker(judge=Declared("logit"))) == ([1.0, 0.5], "rank only")


def test_a_sorting_algorithm_is_by_rank_alone() -> None:
    reranker = Reranker(judge=Oracle({}), algorithm="heapsort")
    ranking = Ranking.by_score(Query("q", "q"), [Document("0", "a"), Document("1", "b")], [2.0, 1.0])

    assert relevances(ranking, reranker) == ([1.0, 0.5], "rank only")


def test_judges_say_what_their_scores_are(folder: Path, tmp_path: Path, lm: Path) -> None:
    assert CrossEncoder(folder).scale == "logit"
    assert CrossEncoder(bert(tmp_path / "two", labels=2)).scale == "log-probability"
    assert Reranker("qwen3-reranker", model=lm).judge.scale == "log-probability"
    assert not hasattr(Reranker("graded-relevance", model=lm).judge, "scale")  # a grade is on a scale of its own


def test_a_plan_of_ones_own_scheduler_ends_as_rerank_does(folder: Path) -> None:
    reranker = Reranker(folder, long_documents="max")
    ranking = Ranking.unscored(Query("q", QUERY), [Document("0", LONG), Document("1", SHORT[0])])

    with Scheduler(reranker.judge) as scheduler:
        found = scheduler.submit(reranker.plan(ranking, ledger=scheduler.ledger)).result()

    assert found == reranker.rerank([ranking])[0]


class Threads:
    """Grades by nothing, and notes who asked."""

    key, answers, reads_ids = "threads", frozenset({Grade}), False

    def __init__(self) -> None:
        self.seen: list[int] = []

    def answer(self, questions: Any, bill: Any) -> Iterator[tuple[int, Graded]]:
        self.seen.append(threading.get_ident())
        yield from ((index, Graded(0.0)) for index, _ in enumerate(questions))


def test_a_servers_scheduler_computes_in_one_thread_whatever_the_pauses() -> None:
    judge = Threads()
    reranker = Reranker(judge=judge)

    with Scheduler(judge, lingers=True) as scheduler:
        for number in range(3):
            ranking = Ranking.unscored(Query("q", f"query {number}"), [Document("0", "a")])
            scheduler.submit(reranker.plan(ranking, ledger=scheduler.ledger)).result()
            time.sleep(0.05)  # a thread that does not linger has ended by then
        [thread] = [each for each in threading.enumerate() if each.ident == judge.seen[0]]

    assert len(judge.seen) == 3
    assert len(set(judge.seen)) == 1
    assert not thread.is_alive()


@pytest.mark.parametrize("place", [0, 1])
def test_a_server_keeps_the_tokens_of_some_texts_alone(folder: Path, asks_instructions: Reranker, place: int) -> None:
    reranker = (Reranker(folder), asks_instructions)[place]
    with live(reranker, tokens_kept=500) as running:
        for word in WORDS[:12]:
            scores(running, [f"{word} of art", f"{word} is far away"])
        store = running.models.all[0].tokens.store

        assert store.max_tokens == 500
        assert 0 < len(store) < 24
        assert store.tokens <= 500


def test_tokens_are_counted_until_there_are_too_many(folder: Path) -> None:
    tokens = text_tokens(Reranker(folder).judge)
    words = Asked("berlin", ("art " * 1_000, "wall"))
    letters = Asked("berlin", ("?" * 250_000,))

    assert count_tokens(tokens, words, 5_000) == 1_002
    assert count_tokens(tokens, words, 100) == 1_002
    assert count_tokens(tokens, letters, 300_000) == 250_001
    assert 120_000 < count_tokens(tokens, letters, 120_000) < 250_000
