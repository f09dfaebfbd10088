"""Queries expanded by what a model writes: what is searched by, what is kept, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_models import tiny_bert

from rerank.cli.main import main
from rerank.datasets import Dataset
from rerank.errors import ConfigError, InputError, JudgeError, UnknownName
from rerank.judges.writer import Writer
from rerank.pipeline import Pipeline
from rerank.questions import Answer, Bill, Grade, Graded, Question, Write, Written
from rerank.types import Document, Query
from retrievers.bm25 import BM25
from retrievers.dense import Dense
from retrievers.expansion import Expansion

DOCUMENTS = [
    Document("boat", "a boat on a river"),
    Document("fish", "trout and salmon"),
    Document("sky", "grey clouds"),
]
QUERIES = [Query("one", "boat", "find boats"), Query("two", "clouds")]


class Says:
    """Writes what it was told to, by the query's text and the draw."""

    key, answers, reads_ids = "says", frozenset({Write}), False

    def __init__(self, **texts: Sequence[str]) -> None:
        self.texts, self.asked = texts, 0

    def answer(self, questions: Sequence[Question], ledger: Bill) -> Iterator[tuple[int, Answer]]:
        for index, question in enumerate(questions):
            self.asked += 1
            assert isinstance(question, Write)
            text = self.texts[question.query.text][question.draw]
            yield index, Written(text, () if text else ("nothing was written",))


@pytest.fixture
def bm25(tmp_path: Path) -> BM25:
    return BM25.build(DOCUMENTS, tmp_path / "bm25", source="made")


def test_append_searches_by_the_query_some_times_and_the_texts(bm25):
    judge = Says(boat=["trout swim", "salmon"], clouds=["", ""])

    one, two = Expansion(bm25, judge, texts=2, repeat=3).retrieve(QUERIES, 10)

    [by_hand] = bm25.retrieve([Query("one", "boat boat boat trout swim salmon")], 10)
    assert [(c.document.doc_id, c.score) for c in one] == [(c.document.doc_id, c.score) for c in by_hand]
    assert one.query == QUERIES[0]
    assert two == bm25.retrieve(QUERIES[1:], 10)[0]


def test_replace_searches_by_the_texts_alone(bm25):
    one, two = Expansion(bm25, Says(boat=["trout"], clouds=[""]), way="replace").retrieve(QUERIES, 10)

    assert [document.doc_id for document in one.documents] == ["fish"]
    assert [document.doc_id for document in two.documents] == ["sky"]


def test_mean_searches_by_the_mean_vector_by_hand(tmp_path):
    words = sorted({word for document in DOCUMENTS for word in document.text.split()})
    dense = Dense.build(DOCUMENTS, tmp_path / "dense", model=str(tiny_bert(tmp_path / "bert", words)))
    judge = Says(boat=["trout and salmon", "a river"], clouds=["", "grey"])

    rankings = Expansion(dense, judge, way="mean", texts=2).retrieve(QUERIES, 3)

    vectors = {d.doc_id: dense.encoder.texts([d.text])[0] for d in DOCUMENTS}
    for ranking, texts in zip(rankings, (["trout and salmon", "a river"], ["grey"]), strict=True):
        own = dense.encoder.queries([ranking.query.text])[0]
        mean = np.mean([own, *dense.encoder.texts(texts)], axis=0)
        scores = {doc_id: float(vector @ mean) for doc_id, vector in vectors.items()}
        assert {c.document.doc_id: c.score for c in ranking} == pytest.approx(scores, abs=1e-6)


def test_what_was_written_is_journalled_and_not_asked_again(bm25, tmp_path):
    with Expansion(bm25, Says(boat=["trout"], clouds=["fish"]), journal=tmp_path / "j") as first:
        expected = first.retrieve(QUERIES, 10)
    silent = Says()

    with Expansion(bm25, silent, journal=tmp_path / "j") as again:
        assert again.retrieve(QUERIES, 10) == expected

    assert silent.asked == 0


def test_an_empty_text_is_a_repair_in_the_ledger(bm25):
    expansion = Expansion(bm25, Says(boat=[""], clouds=["sky"]))

    expansion.retrieve(QUERIES, 10)

    assert expansion.ledger.total["repairs"] == 1


def test_excluded_documents_stay_out(bm25):
    expansion = Expansion(bm25, Says(boat=["trout"], clouds=["sky"]))

    one, _ = expansion.retrieve(QUERIES, 10, exclude={"one": ["boat"]})

    assert [document.doc_id for document in one.documents] == ["fish"]


def test_a_judge_that_does_not_write_is_refused(bm25):
    class Grades(Says):
        answers = frozenset({Grade})

    with pytest.raises(InputError, match="Grades writes no texts; give a judge that answers Write"):
        Expansion(bm25, Grades())


def test_an_answer_of_another_kind_is_the_judges_error(bm25):
    class Wrong(Says):
        def answer(self, questions: Sequence[Question], ledger: Bill) -> Iterator[tuple[int, Answer]]:
            return ((index, Graded(1.0)) for index, _ in enumerate(questions))

    with pytest.raises(JudgeError, match="Write"):
        Expansion(bm25, Wrong()).retrieve(QUERIES, 10)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"way": "means"}, UnknownName, "no way to expand is called 'means'; did you mean 'mean'"),
        ({"texts": 0}, InputError, "texts=0 and repeat=5; both are at least 1"),
        ({"texts": 3}, InputError, "texts=3 without a temperature would be the same; say temperature=0.7"),
        ({"over": {"k1": 1}}, ConfigError, r'over is .*; write {retriever = "bm25"}'),
        ({"over": {"retriever": "bm26"}}, UnknownName, "no retriever is called 'bm26'; did you mean 'bm25'"),
        ({"over": {"retriever": "bm25"}, "way": "mean"}, InputError, "way='mean' averages vectors, and bm25 has none"),
    ],
)
def test_what_no_model_could_make_good_is_refused_before_one_is_loaded(options, kind, message, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    made = {"over": {"retriever": "bm25"}, "model": "nobody/has-this", **options}

    with pytest.raises(kind, match=message):
        Expansion.of(dataset(tmp_path / "made"), **made)


def dataset(folder: Path) -> Dataset:
    folder.mkdir()
    lines = (json.dumps({"_id": document.doc_id, "text": document.text}) for document in DOCUMENTS)
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    asked = (json.dumps({"_id": query.query_id, "text": query.text}) for query in QUERIES)
    (folder / "queries.jsonl").write_text("\n".join(asked) + "\n")
    return Dataset.load(folder)


def test_a_real_t5_writes_in_a_pipelines_file_and_several_texts_differ(flan, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    given = {"over": {"retriever": "bm25"}, "model": str(flan), "prompt": "hyde", "texts": 3, "temperature": 1.0}
    tables = [{"retriever": "expansion", **given, "new_tokens": 6, "seed": 3}]

    pipeline = Pipeline.build(tables, dataset(tmp_path / "made"))

    texts = pipeline.steps[0].stage.written(QUERIES)
    assert len({*texts[0]}) > 1
    assert texts == Expansion(
        BM25.build(DOCUMENTS, tmp_path / "x"),
        Writer(flan, prompt="hyde", new_tokens=6, temperature=1.0, seed=3),
        texts=3,
    ).written(QUERIES)
    assert pipeline.run(QUERIES)[0].documents[0].doc_id == "boat"
    assert 'retriever = "expansion"' in pipeline.dump()


def test_from_the_command_line_a_journal_is_kept_beside_the_run_and_read_again(flan, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    dataset(tmp_path / "made")
    command = ["retrieve", "--dataset", str(tmp_path / "made"), "--retriever", "expansion", "--option"]
    command += ['over={retriever="bm25"}', "--option", f"model={flan}", "--option", "new_tokens=4", "--output"]
    run = CliRunner()

    first = run.invoke(main, [*command, str(tmp_path / "run.trec")])
    again = run.invoke(main, [*command, str(tmp_path / "run.trec")])

    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert "run.trec.journal keeps every answer" in first.output
    assert "2 answers of earlier runs" in again.output


def test_a_pipeline_keeps_a_journal_for_the_expansion(flan, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    dataset(tmp_path / "made")
    file = tmp_path / "p.toml"
    file.write_text(
        f'[[stage]]\nretriever = "expansion"\nover = {{retriever = "bm25"}}\nmodel = "{flan}"\nnew_tokens = 4\n'
    )

    done = CliRunner().invoke(
        main, ["run", str(file), "--dataset", str(tmp_path / "made"), "-o", str(tmp_path / "o.trec")]
    )

    assert done.exit_code == 0, done.output
    assert (tmp_path / "o.trec.journal").read_text().count("Written") == 2
