"""Recorded answers of real listwise models, through the algorithm, the judge and the scheduler that anybody uses."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from judge_models import tiny_lm

from rerank import Dataset
from rerank.engine.texts.prompt_tokens import Prompt
from rerank.evaluate import evaluate
from rerank.judges.bills import Work
from rerank.judges.permutation import Permutation
from rerank.judges.text_models import Manner, Wrote
from rerank.rerankers.reranker import Reranker
from rerank.types import Ranking


@pytest.fixture(scope="module")
def lm(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm(tmp_path_factory.mktemp("lm"), smollm, max_position_embeddings=8192)


@pytest.fixture(scope="module")
def first_stage(shared: Path) -> tuple[Dataset, list[Ranking]]:
    """BM25's 100 best for each query of TREC DL 2019, ties in the order that the recorded windows saw."""
    dataset = Dataset.load(shared / "trec-dl19")
    run = in_file_order(shared / "trec-dl19" / "runs" / "bm25.trec")
    scores = {query_id: {doc_id: -float(place) for place, doc_id in enumerate(ids)} for query_id, ids in run.items()}
    return dataset, dataset.rankings(scores)


def in_file_order(path: Path) -> dict[str, list[str]]:
    """A run as its authors wrote it."""
    run: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        query_id, _, doc_id, *_ = line.split()
        run[query_id].append(doc_id)
    return run


def recorded(path: Path) -> Iterator[str]:
    """What a model wrote, window after window."""
    text, decoder, at = path.read_text(), json.JSONDecoder(), 0
    while at < len(text):  # objects one after the other, with ", " between them
        entry, at = decoder.raw_decode(text, at)
        yield str(entry["response"])
        between = re.compile(r"[\s,]*").match(text, at)
        at = between.end() if between else at


class Replayed:
    """A model that says what was recorded, one text after the other."""

    def __init__(self, path: Path) -> None:
        self.texts = recorded(path)

    def __call__(
        self, prompts: Sequence[Prompt], limits: Sequence[int], manner: Manner, draws: Sequence[int]
    ) -> tuple[list[Wrote], Work]:
        return [Wrote(next(self.texts), 80) for _ in prompts], Work(1, 0, 0)


def reranked(lm: Path, path: Path, given: Sequence[Ranking]) -> tuple[Reranker, list[Ranking], Counter[str]]:
    """The rankings, query after query as they were recorded; what had to be repaired."""
    judge = Permutation(lm, prompt="rankzephyr")
    judge.model.write = Replayed(path)  # type: ignore[method-assign]
    told: Counter[str] = Counter()
    read = judge.read

    def reading(question: object, text: str) -> object:
        answer = read(question, text)  # type: ignore[arg-type]
        told.update(re.sub(r"\d+ ", "", repair) for repair in answer.repairs)
        return answer

    judge.read = reading  # type: ignore[assignment,method-assign]
    reranker = Reranker(judge=judge, algorithm="sliding-windows")
    return reranker, [reranker.rerank([ranking])[0] for ranking in given], told


def test_recorded_answers_of_rankvicuna_give_the_recorded_ranking(
    lm: Path, shared: Path, first_stage: tuple[Dataset, list[Ranking]]
) -> None:
    dataset, given = first_stage
    expected = in_file_order(shared / "replay-dl19" / "rank_vicuna_7b.trec")
    reranker, rankings, _ = reranked(lm, shared / "replay-dl19" / "rank_vicuna_7b.json", given)
    ranked = {ranking.query.query_id: ranking for ranking in rankings}
    same = [
        query_id
        for query_id, ids in expected.items()
        if [document.doc_id for document in ranked[query_id].documents] == ids
    ]

    assert len(same) == len(expected) == 43
    assert evaluate(dataset.qrels, ranked).means["nDCG@10"] == pytest.approx(0.6682, abs=5e-5)
    assert reranker.ledger.total["questions"] == 387


@pytest.mark.parametrize(
    ("name", "repaired"), [("vicuna_7b_half_trained.json", 166), ("vicuna_13b_malformed.json", 380)]
)
def test_recorded_malformed_answers_are_read_and_their_repairs_counted(
    name: str, repaired: int, lm: Path, shared: Path, first_stage: tuple[Dataset, list[Ranking]]
) -> None:
    _, given = first_stage
    reranker, rankings, told = reranked(lm, shared / "replay-dl19" / name, given)

    for before, after in zip(given, rankings, strict=True):
        assert sorted(document.doc_id for document in after.documents) == sorted(
            document.doc_id for document in before.documents
        )
    assert reranker.ledger.total["repairs"] == told.total() >= repaired
    assert told["not named"] > 0
