"""duoT5: pairs in both orders, true or false, and a folder that compares."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lists_to_learn import lists
from small_students import first_ranks, learned, still_t5

from rerank import Document, Query, Ranking, Reranker
from rerank.errors import InputError
from rerank.questions import Compare
from training.checks import check_recipe
from training.comparisons import comparisons
from training.evaluation import Development
from training.examples import BadExample, Example
from training.losses import pairwise
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students.duo_token import DuoToken, sym_sum


@pytest.fixture(scope="module")
def t5(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return still_t5(tmp_path_factory.mktemp("t5"), flan)


def test_labels_become_pairs_in_both_orders() -> None:
    example = Example("q", ("a", "b", "c"), (1, 0, 0), pairs=((0, 1, 0.9), (1, 0, 0.3), (2, 0, 0.5)))

    assert comparisons(example) == [(0, 1, 1), (0, 2, 1), (1, 0, 0), (2, 0, 0)]
    judged = sorted(comparisons(example, "pairs"))
    assert judged == [(0, 1, 0.9), (0, 2, 0.5), (1, 0, 0.3), (2, 0, 0.5)]
    assert {(one, two) for one, two, wins in comparisons(Example("q", ("a", "b"), order=(1, 0))) if wins} == {(1, 0)}
    assert all(math.isnan(wins) for _, _, wins in comparisons(Example("q", ("a", "b"))))


def test_the_loss_is_cross_entropy_of_what_was_compared() -> None:
    logits = torch.tensor([[[9.0, 2.0, math.nan], [-1.0, 9.0, 9.0], [9.0, 9.0, 9.0]]])
    wins = torch.full((1, 3, 3), math.nan)
    wins[0, 0, 1], wins[0, 1, 0] = 1.0, 0.25

    [value] = pairwise.comparison(logits, wins, torch.tensor([[True, True, False]])).tolist()

    expected = (math.log1p(math.exp(-2)) + 0.25 * math.log1p(math.exp(1)) + 0.75 * math.log1p(math.exp(-1))) / 2
    assert value == pytest.approx(expected, abs=1e-6)


def test_sym_sum_is_what_the_house_adds_up() -> None:
    wins = torch.tensor([[0.0, 0.9, 0.6], [0.2, 0.0, 0.7], [0.1, 0.4, 0.0]])

    assert sym_sum(wins).tolist() == pytest.approx(
        [0.9 + 0.8 + 0.6 + 0.9, 0.2 + 0.1 + 0.7 + 0.6, 0.1 + 0.4 + 0.4 + 0.3]
    )


def test_duot5_learns_a_few_queries_and_is_asked_as_it_was_trained(t5: Path, tmp_path: Path) -> None:
    losses = learned(
        t5, tmp_path / "student", "duo-token", "comparison", {"max_tokens": 96}, steps=80, rate=1e-3, count=4
    )

    assert losses[-1] < losses[0] / 3
    assert first_ranks(tmp_path / "student", 4) == [0] * 4
    example = lists(1, documents=3)[0]
    student = DuoToken(tmp_path / "student", max_tokens=96).eval()
    unlabelled = Example(example.query, example.documents)
    with torch.no_grad():
        scores = student.scores_of(student(**student.read([unlabelled])))
    with Reranker(tmp_path / "student") as reranker:
        assert Compare in cast(Any, reranker.judge).answers
        ranked = reranker.rank(example.query, [Document(str(i), text) for i, text in enumerate(example.documents)])
    assert {c.document.doc_id: c.score for c in ranked} == pytest.approx(
        {str(place): value for place, value in enumerate(scores.tolist())}, abs=1e-3
    )


def test_what_is_measured_while_it_trains_is_what_is_asked_and_it_goes_on_where_it_stopped(
    t5: Path, tmp_path: Path
) -> None:
    examples = lists(2, documents=7)  # 84 pairs: more than one pass
    rankings = [
        Ranking.unscored(
            Query(one.query_id, one.query), [Document(str(i), text) for i, text in enumerate(one.documents)]
        )
        for one in examples
    ]
    qrels = {one.query_id: {str(i): int(g) for i, g in enumerate(one.relevance or ())} for one in examples}
    schedule = Schedule(max_steps=2, lists=2, sample=2, warmup=0, save_every=1, evaluate_every=1)
    recipe = Recipe(StudentTable("duo-token", str(t5), {"max_tokens": 64}), Objective("comparison"), schedule)

    first, again = (
        run_training(recipe, tmp_path / "out", examples=examples, development=Development(rankings, qrels))
        for _ in range(2)
    )

    assert again.resumed == 2
    assert again.measures == first.measures
    with Reranker(tmp_path / "out") as reranker:
        places = [
            1 + [qrels[ranked.query.query_id][c.document.doc_id] for c in ranked].index(1)
            for ranked in reranker.rerank(rankings)
        ]
    assert first.measures["RR@10"] == pytest.approx(sum(1 / place for place in places) / 2)


def test_what_cannot_be_compared_is_refused(t5: Path) -> None:
    with pytest.raises(InputError, match="must ask to compare by two target words"):
        DuoToken(t5, prompt="monot5")
    with pytest.raises(BadExample, match="tells no two documents apart"):
        Objective("comparison").check([Example("q", ("a", "b"), (1, 1))])
    with pytest.raises(InputError, match="learns from losses over comparisons, and 'bce' is one over lists"):
        check_recipe(Recipe(StudentTable("duo-token", str(t5)), Objective("bce")))
