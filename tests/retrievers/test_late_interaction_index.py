"""The index of token vectors: its scores are the judge's, its blocks change nothing, and a build goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_models import answers
from multi_vector_models import TEXTS, stanford

import retrievers.late_interaction
import retrievers.token_vectors
from rerank.datasets import Dataset
from rerank.errors import FileError, InputError, UnknownName
from rerank.evaluate import evaluate
from rerank.judges.late_interaction import LateInteraction as Judge
from rerank.questions import Grade
from rerank.types import Document, Query
from retrievers.late_interaction import LateInteraction

pytestmark = pytest.mark.filterwarnings("ignore")

QUERIES = [Query("people", "how many people live in Berlin?"), Query("one", "museums"), Query("wall", "danced " * 40)]
DOCUMENTS = [Document(f"d{n}", f"{text} {n}") for n, text in enumerate([*TEXTS, *TEXTS, "a longer one " * 60])]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """ColBERT's own layout: markers, queries filled up with [MASK], no punctuation of documents, a projection."""
    folder = tmp_path_factory.mktemp("colbert")
    return stanford(folder / "model", minilm, query_maxlen=32, doc_maxlen=60, mask_punctuation=True)


@pytest.fixture(scope="module")
def by_the_judge(model: Path) -> dict[tuple[str, str], float]:
    """(query_id, doc_id) -> what the judge says."""
    grades = [Grade(query, document) for query in QUERIES for document in DOCUMENTS]
    scores = [answer.score for answer in answers(Judge(model), grades)]
    keys = [(grade.query.query_id, grade.document.doc_id) for grade in grades]
    return dict(zip(keys, scores, strict=True))


def found(index: LateInteraction) -> dict[tuple[str, str], float | None]:
    rankings = index.retrieve(QUERIES, 100)
    return {(ranking.query.query_id, one.document.doc_id): one.score for ranking in rankings for one in ranking}


@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-5), ("float16", 1e-3), ("int8", 2e-2)])
def test_scores_are_those_of_the_judge(
    model: Path, by_the_judge: Any, tmp_path: Path, precision: str, within: float
) -> None:
    index = LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(model), precision=precision)

    assert found(index) == pytest.approx(by_the_judge, rel=within)
    assert max(by_the_judge.values()) - min(by_the_judge.values()) > 3
    bytes_of_a_number = {"float32": 4, "float16": 2, "int8": 1}[precision]
    numbers = index.manifest.notes["vectors"] * index.manifest.notes["dim"]
    assert index.manifest.files["vectors.npy"] == pytest.approx(numbers * bytes_of_a_number, abs=200)
    assert index.manifest.notes["cut_documents"] == 3  # two walls and the longer one are longer than 60 tokens


@pytest.mark.parametrize("tokens", [1, 50, 130])
def test_blocks_change_no_bit(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    index = LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(model))
    whole = index.retrieve(QUERIES, 4, exclude={"one": ["d1"]})

    monkeypatch.setattr(retrievers.token_vectors, "BLOCK", tokens)

    assert len(list(index.vectors.blocks())) > 1
    assert index.retrieve(QUERIES, 4, exclude={"one": ["d1"]}) == whole


def test_several_queries_at_once_as_on_a_gpu_score_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU queries of the same room go together; so they are made to here."""
    index = LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(model))
    made = [kept.tensor for kept in index.encoder.kept_of([query.text for query in QUERIES], queries=True)]
    alone = retrievers.token_vectors.exact_search(index.vectors, made, [11] * 3, torch.device("cpu"))
    groups = retrievers.token_vectors._groups

    monkeypatch.setattr(retrievers.token_vectors, "_groups", lambda queries, most: groups(queries, 64))
    together = retrievers.token_vectors.exact_search(index.vectors, made, [11] * 3, torch.device("cpu"))

    for (_, one), (_, other) in zip(alone, together, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_queries_longer_than_others_are_not_filled_up_for_them(tmp_path: Path, minilm: Path) -> None:
    """Without [MASK] a query has its own number of tokens: 3 to 90 here."""
    plain = str(stanford(tmp_path / "model", minilm, query_maxlen=120, doc_maxlen=60))
    index = LateInteraction.build(DOCUMENTS, tmp_path / "index", model=plain, expansion="none", precision="float32")
    judge = Judge(plain, expansion="none")
    long = [Query("long", "which wall fell, and why did people dance? " * 8), *QUERIES]

    [ranking, *_] = index.retrieve(long, 20)

    scores = [answer.score for answer in answers(judge, [Grade(long[0], each) for each in ranking.documents])]
    assert [candidate.score for candidate in ranking] == pytest.approx(scores, abs=1e-4)
    assert index.retrieve(long, 20) == [index.retrieve([query], 20)[0] for query in long]


def test_an_interrupted_build_goes_on_where_it_was(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrievers.late_interaction, "SHARD", 4)
    whole = LateInteraction.build(DOCUMENTS, tmp_path / "whole", model=str(model))

    def broken() -> Any:
        yield from DOCUMENTS[:9]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LateInteraction.build(broken(), tmp_path / "index", model=str(model))
    assert not (tmp_path / "index").exists()
    read: list[int] = []
    kept_of = Judge.kept_of
    monkeypatch.setattr(Judge, "kept_of", lambda self, texts, **more: read.append(len(texts)) or kept_of(self, texts))
    index = LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(model))

    assert read == [3]
    for name in ("vectors.npy", "ends.npy", "documents.jsonl"):
        assert (tmp_path / "index" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(index) == len(whole) == 11


def test_what_is_wrong_is_one_line(model: Path, tmp_path: Path, minilm: Path) -> None:
    with pytest.raises(UnknownName, match="no precision is called 'float8'"):
        LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(model), precision="float8")
    with pytest.raises(InputError, match="max_tokens=-1; it must be at least 0"):
        LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(model), max_tokens=-1)
    with pytest.raises(InputError, match="there are no documents to index in nothing"):
        LateInteraction.build([], tmp_path / "index", model=str(model), source="nothing")
    copy = stanford(tmp_path / "copy", minilm, query_maxlen=32, doc_maxlen=50)
    LateInteraction.build(DOCUMENTS, tmp_path / "index", model=str(copy))
    (copy / "artifact.metadata").write_text(json.dumps({"query_maxlen": 32, "doc_maxlen": 60}))
    with pytest.raises(FileError, match="other weights, or another version; build the index again"):
        LateInteraction.open(tmp_path / "index").retrieve(QUERIES, 3)


def test_a_real_model_finds_the_passages_of_a_real_collection(colbert: Path, tmp_path: Path) -> None:
    """Five questions of NovelEval over their own 100 passages: recorded once, and the judge says the same scores."""
    dataset = Dataset.load("noveleval")
    queries = dataset.queries[:5]
    judged = {doc_id for query in queries for doc_id in dataset.qrels[query.query_id]}
    documents = [document for document in dataset.documents() if document.doc_id in judged]

    index = LateInteraction.build(documents, tmp_path / "index", model=str(colbert), max_tokens=64, expansion="none")
    rankings = index.retrieve(queries, 20)

    qrels = {query.query_id: dataset.qrels[query.query_id] for query in queries}
    means = evaluate(qrels, {ranking.query.query_id: ranking for ranking in rankings}).means
    assert means["nDCG@10"] > 0.6
    judge = Judge(colbert, max_tokens=64, expansion="none")
    again = [answer.score for answer in answers(judge, [Grade(queries[0], each) for each in rankings[0].documents])]
    assert [candidate.score for candidate in rankings[0]] == pytest.approx(again, abs=1e-3)
