"""Dense retrieval: vectors on disk, exact and approximate search, builds that go on where they were."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import tiny_bert

from rerank.datasets import Dataset
from rerank.errors import CheckpointError, FileError, InputError, MissingExtra, UnknownName
from rerank.pipeline import Pipeline
from rerank.types import Document, Query
from retrievers import dense as module
from retrievers import vectors
from retrievers.dense import Dense
from retrievers.vectors import Vectors, exact_search

WORDS = ("red", "green", "blue", "grey", "fish", "bird", "stone", "river", "cloud", "tree")


def some_documents(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    return [Document(f"d{n}", " ".join(draw.choices(WORDS, k=draw.randint(1, 20)))) for n in range(count)]


DOCUMENTS = some_documents(60)
QUERIES = [Query("one", "blue fish"), Query("two", "a river"), Query("three", "grey stone tree")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def index(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Dense:
    return Dense.build(DOCUMENTS, tmp_path_factory.mktemp("dense") / "index", model=str(model))


def by_hand(model: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """Unit means of the last hidden states, one text at a time, by transformers."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    bert = transformers.AutoModel.from_pretrained(model).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:
            states = bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(states.mean(0), dim=0).numpy())
    return np.stack(rows)


def test_scores_are_the_cosines_of_the_models_own_vectors(index: Dense, model: Path) -> None:
    expected = by_hand(model, [query.text for query in QUERIES]) @ by_hand(model, [d.text for d in DOCUMENTS]).T

    rankings = index.retrieve(QUERIES, len(DOCUMENTS))

    for row, ranking in zip(expected, rankings, strict=True):
        scores = {candidate.document.doc_id: candidate.score for candidate in ranking}
        assert [scores[document.doc_id] for document in DOCUMENTS] == pytest.approx(row.tolist(), abs=1e-5)


def test_the_bits_of_a_score_do_not_depend_on_the_queries_beside_it(index: Dense) -> None:
    many = [Query(f"q{n}", " ".join(random.Random(n).choices(WORDS, k=3))) for n in range(70)]

    together = index.retrieve(many, 10)

    assert [index.retrieve([query], 10)[0] for query in many] == together


@pytest.mark.parametrize(("precision", "close"), [("float16", 1e-3), ("int8", 2e-2)])
def test_smaller_vectors_are_nearly_the_same(
    index: Dense, model: Path, tmp_path: Path, precision: str, close: float
) -> None:
    small = Dense.build(DOCUMENTS, tmp_path / "index", model=str(model), precision=precision)
    scores = [
        {candidate.document.doc_id: candidate.score for candidate in made.retrieve(QUERIES, 60)[0]}
        for made in (index, small)
    ]

    assert small.vectors.rows.dtype == precision
    assert max(abs(scores[0][doc_id] - scores[1][doc_id]) for doc_id in scores[0]) < close


def test_blocks_of_documents_and_ties_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)[[0, 1, 0, 2, 0, 1, 3, 0]]
    np.save(tmp_path / "vectors.npy", rows)
    queries = np.array([[1, 0.5, 0, 0], [0, 0, 1, 0]], np.float32)
    expected = [([0, 2, 4, 7, 1], [1, 1, 1, 1, 0.5]), ([3, 0], [1, 0])]

    for block in (3, 100):
        monkeypatch.setattr(vectors, "DOCUMENT_ROWS", block)
        found = exact_search(Vectors(tmp_path), queries, [5, 2], torch.device("cpu"))

        assert [(indices.tolist(), scores.tolist()) for indices, scores in found] == expected


def test_an_interrupted_build_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, index: Dense
) -> None:
    monkeypatch.setattr(module, "SHARD", 16)
    encoded: list[int] = []
    read = iter(DOCUMENTS)

    def until(count: int) -> Any:
        for number, document in enumerate(DOCUMENTS):
            if number == count:
                raise KeyboardInterrupt
            yield document

    from retrievers import encoding

    plain = encoding._unit

    def counted(found: Any, similarity: str) -> Any:
        encoded.append(len(found))
        return plain(found, similarity)

    monkeypatch.setattr(encoding, "_unit", counted)
    with pytest.raises(KeyboardInterrupt):
        Dense.build(until(40), tmp_path / "index", model=str(model))
    assert not (tmp_path / "index").exists()
    assert encoded == [16, 16]

    again = Dense.build(read, tmp_path / "index", model=str(model))

    assert encoded == [16, 16, 16, 12]
    assert again.retrieve(QUERIES, 60) == index.retrieve(QUERIES, 60)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_texts_that_changed_between_two_tries_are_encoded_anew(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "SHARD", 16)
    changed = [Document(d.doc_id, "red stone" if d.doc_id == "d3" else d.text) for d in DOCUMENTS]

    def broken() -> Any:
        yield from DOCUMENTS[:40]
        raise OSError("the disk is gone")

    with pytest.raises(FileError, match="cannot write the index"):
        Dense.build(broken(), tmp_path / "index", model=str(model))
    made = Dense.build(changed, tmp_path / "index", model=str(model))

    assert made.retrieve(QUERIES, 60) == Dense.build(changed, tmp_path / "new", model=str(model)).retrieve(QUERIES, 60)


def test_several_processes_make_the_same_vectors(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, index: Dense
) -> None:
    monkeypatch.setattr(module, "SHARD", 16)

    made = Dense.build(DOCUMENTS, tmp_path / "index", model=str(model), processes=2)

    assert np.array_equal(made.vectors.rows, index.vectors.rows)


def test_another_model_than_the_one_that_made_the_vectors_is_noticed(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "bert", WORDS)
    made = Dense.build(DOCUMENTS, tmp_path / "index", model=str(model))
    tiny_bert(model, WORDS, seed=1)

    with pytest.raises(FileError, match=r"was made by .*: other weights, or another version; build the index again"):
        Dense.open(made.folder).retrieve(QUERIES, 1)


def test_it_stands_in_a_pipeline_file(model: Path, tmp_path: Path) -> None:
    from rerank.io import write_beir

    write_beir(tmp_path / "data", DOCUMENTS, QUERIES, {"one": {"d1": 1}})
    dataset = Dataset.load(tmp_path / "data")
    file = tmp_path / "p.toml"
    file.write_text(
        f'[[stage]]\nretriever = "dense"\nmodel = {json.dumps(str(model))}\n'
        f"index = {json.dumps(str(tmp_path / 'index'))}\ncutoff = 7\n"
    )

    [ranking] = Pipeline.load(file, dataset).run(dataset.queries)
    again = Dense.of(dataset, model=str(model), index=tmp_path / "index")

    assert len(ranking) == 7
    assert again.retrieve(dataset.queries, 7) == [ranking]
    with pytest.raises(FileError, match="was built with"):
        Dense.of(dataset, model=str(model), index=tmp_path / "index", precision="int8")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"search": "hsnw"}, UnknownName, "no search is called 'hsnw'; did you mean 'hnsw'"),
        ({"precision": "int4"}, UnknownName, "no precision is called 'int4'"),
        ({"similarity": "manhattan"}, UnknownName, "no similarity is called 'manhattan'"),
        ({"probes": 0}, InputError, "probes=0; it must be at least 1"),
        ({"processes": 0}, InputError, "processes=0; at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(
    model: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Dense.build(DOCUMENTS, tmp_path / "index", model=str(model), **options)

    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_kind_is_refused(tmp_path: Path, minilm: Path) -> None:
    with pytest.raises(CheckpointError, match="is of kind cross-encoder"):
        Dense.build(DOCUMENTS, tmp_path / "index", model=str(minilm))


def test_approximate_search_finds_nearly_what_exact_search_finds(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("faiss", reason="approximate search needs faiss: pip install 'rerank-toolkit[dense]'")
    documents = some_documents(1500, seed=3)
    exact = Dense.build(documents, tmp_path / "flat", model=str(model)).retrieve(QUERIES, 50)
    for search, least, options in (("hnsw", 0.9, {}), ("ivf-pq", 0.5, {"code_bytes": 16, "probes": 64})):
        made = Dense.build(documents, tmp_path / search, model=str(model), search=search, **options)
        found = made.retrieve(QUERIES, 50, exclude={"one": [exact[0].documents[0].doc_id]})

        assert [len(ranking) for ranking in found] == [50, 50, 50]
        assert exact[0].documents[0] not in found[0].documents
        for ranking, best in zip(found[1:], exact[1:], strict=True):
            assert len(set(ranking.documents) & set(best.documents)) >= least * 50
        assert Dense.open(tmp_path / search).retrieve(QUERIES, 50) == made.retrieve(QUERIES, 50)


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)

    with pytest.raises(MissingExtra, match="'dense' extra"):
        Dense.build(DOCUMENTS, tmp_path / "index", model=str(model), search="hnsw")


def test_a_language_model_is_an_encoder_by_its_last_token(tmp_path, smollm):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(tokenizer), **shape))
    model.save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    documents = [Document(f"d{n}", text) for n, text in enumerate(["one text", "another", ""])]

    given = {"model": str(tmp_path / "llama"), "query_prompt": "passage: ", "document_prompt": "passage: "}
    index = Dense.build(documents, tmp_path / "index", precision="int8", **given, progress=False)

    [ranking] = index.retrieve([Query("q", "another")], 3)
    assert ranking[0].document.doc_id == "d1"
    assert ranking[0].score == pytest.approx(1, abs=1e-2)
