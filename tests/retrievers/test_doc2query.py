"""doc2query: queries that a real T5 writes, drawn alike whatever is around; a build that goes on; what is searched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerank.datasets import Dataset
from rerank.errors import CheckpointError, FileError, InputError
from rerank.pipeline import Pipeline
from rerank.types import Document, Query
from retrievers import doc2query as module
from retrievers import query_writer
from retrievers.bm25 import BM25
from retrievers.doc2query import Doc2Query
from retrievers.query_writer import Drawing, QueryWriter

DOCUMENTS = [
    Document("boat", "The ferry crosses the river twice a day, in winter too.", "Ferries"),
    Document("fish", "Trout and salmon live in cold water and swim upstream."),
    Document("sky", "Grey clouds bring rain to the coast."),
    Document("empty", ""),
    Document("lone", "half a character \ud800"),
]
SMALL = {"expansions": 3, "new_tokens": 6, "seed": 5}


@pytest.fixture(scope="module")
def built(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Doc2Query:
    return Doc2Query.build(DOCUMENTS, tmp_path_factory.mktemp("doc2query") / "index", model=str(flan), **SMALL)


def test_a_document_has_so_many_queries_and_comes_back_as_it_was(built):
    assert [len(built.written(document.doc_id)) for document in DOCUMENTS] == [3] * 5
    assert len({*built.written("boat")}) > 1
    [ranking] = built.retrieve([Query("q", "salmon")], 5)
    assert ranking[0].document == DOCUMENTS[1]
    with pytest.raises(InputError, match="holds no document 'ship'"):
        built.written("ship")


def test_it_is_bm25_over_texts_with_their_queries_behind(built, tmp_path):
    texts = [" ".join([d.full_text, *built.written(d.doc_id)]) for d in DOCUMENTS]
    by_hand = BM25.build([Document(d.doc_id, t) for d, t in zip(DOCUMENTS, texts, strict=True)], tmp_path / "bm25")
    queries = [Query(str(n), text) for n, text in enumerate((*texts, "the river in winter", "rain"))]

    for one, other in zip(built.retrieve(queries, 5), by_hand.retrieve(queries, 5), strict=True):
        assert [(c.document.doc_id, c.score) for c in one] == [(c.document.doc_id, c.score) for c in other]


def test_what_is_written_depends_on_text_and_seed_alone(built, flan):
    writer = QueryWriter(Drawing(str(flan), **SMALL))
    other = QueryWriter(Drawing(str(flan), **{**SMALL, "seed": 6}))

    alone = writer.write([DOCUMENTS[1].full_text])[0]

    assert tuple(alone) == built.written("fish")
    assert other.write([DOCUMENTS[1].full_text])[0] != alone


def test_a_build_that_is_killed_goes_on_where_it_was_and_writes_the_same(built, flan, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD", 2)
    write, asked = QueryWriter.write, []

    def killed(writer: QueryWriter, texts: list[str]) -> list[list[str]]:
        asked.append(len(texts))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return write(writer, texts)

    monkeypatch.setattr(QueryWriter, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        Doc2Query.build(DOCUMENTS, tmp_path / "index", model=str(flan), **SMALL)
    assert not (tmp_path / "index").exists()

    resumed = Doc2Query.build(DOCUMENTS, tmp_path / "index", model=str(flan), **SMALL)

    assert asked == [2, 2, 2, 1]  # the first shard was there
    assert [resumed.written(d.doc_id) for d in DOCUMENTS] == [built.written(d.doc_id) for d in DOCUMENTS]
    assert (resumed.folder / module.QUERIES).read_bytes() == (built.folder / module.QUERIES).read_bytes()
    assert not (resumed.folder / "shards").exists()


def test_of_a_dataset_it_is_built_once_and_the_manifest_says_by_what(flan, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    dataset = dataset_of(tmp_path / "made")
    table = {"retriever": "doc2query", "model": str(flan), **SMALL, "expansions": 1}
    first = Pipeline.build([table], dataset).steps[0].stage

    monkeypatch.setattr(query_writer.QueryWriter, "write", None)
    again = Pipeline.build([{**table, "feedback": "rm3"}], dataset).steps[0].stage

    assert again.folder == first.folder
    assert first.manifest.notes["drawing"]["seed"] == 5
    with pytest.raises(FileError, match=r"was built with .*seed=5.*not with .*seed=7.*; name another folder"):
        Doc2Query.of(dataset, model=str(flan), index=first.folder, **{**SMALL, "expansions": 1, "seed": 7})
    with pytest.raises(FileError, match="is an index for 'doc2query', not for 'bm25'"):
        BM25.open(first.folder)


def dataset_of(folder: Path) -> Dataset:
    folder.mkdir()
    lines = (json.dumps({"_id": d.doc_id, "text": d.text, "title": d.title}) for d in DOCUMENTS[:4])
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "queries.jsonl").write_text('{"_id": "one", "text": "boats"}\n')
    return Dataset.load(folder)


def test_expando_mono_duo_runs_from_its_file_with_small_checkpoints(flan, tmp_path, monkeypatch):
    """configs/expando-mono-duo.toml with other models, numbers and methods' names in place of the checkpoints'."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    written = (Path(__file__).parents[2] / "configs/expando-mono-duo.toml").read_text()
    smaller = {
        'model = "castorini/doc2query-t5-base-msmarco"': f'model = "{flan}"\nnew_tokens = 6',
        "expansions = 40": "expansions = 2",
        'reranker = "castorini/monot5-base-msmarco"\ncutoff = 50': f'reranker = "monot5"\nmodel = "{flan}"\ncutoff = 2',
        'reranker = "castorini/duot5-base-msmarco"': f'reranker = "duot5"\nmodel = "{flan}"',
    }
    for before, after in smaller.items():
        assert before in written
        written = written.replace(before, after)
    (tmp_path / "small.toml").write_text(written)

    pipeline = Pipeline.load(tmp_path / "small.toml", dataset_of(tmp_path / "made"))
    [ranking] = pipeline.run([Query("q", "the river and cold water and rain")])

    assert {document.doc_id for document in ranking.documents} == {"boat", "fish", "sky"}
    scores = [candidate.score for candidate in ranking]
    assert None not in scores[:2]  # the two that duoT5 compared
    assert scores[2] is None
    assert sum(scores[:2]) == pytest.approx(2.0)  # sym-sum: P(a beats b) + 1 − P(b beats a), and the other's share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expansions": 0}, "expansions=0; it must be at least 1"),
        ({"new_tokens": 0}, "new_tokens=0; it must be at least 1"),
        ({"max_tokens": -1}, "max_tokens=-1; it must be at least 1"),
        ({"seed": -1}, "seed=-1; it may not be below 0"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"top_k": -1}, "top_k=-1 must be at least 1, or 0 for all tokens"),
        ({"k1": -1.0}, "k1 is -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_a_model_is_looked_for(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        Doc2Query.build(DOCUMENTS, tmp_path / "index", model="nobody/has-this", **options)


def test_a_model_that_is_no_encoder_decoder_is_refused(sentences, tmp_path):
    with pytest.raises(CheckpointError, match="queries are written by an encoder-decoder"):
        Doc2Query.build(DOCUMENTS, tmp_path / "index", model=str(sentences))


def test_nothing_to_index_is_refused(flan, tmp_path):
    with pytest.raises(InputError, match="there are no documents to index in made"):
        Doc2Query.build([], tmp_path / "index", model=str(flan), source="made")
