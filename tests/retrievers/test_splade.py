"""SPLADE: weights as sentence-transformers makes them, postings on disk, exact search, queries without a model."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import tiny_bert

from rerank.datasets import Dataset
from rerank.errors import CheckpointError, FileError, InputError, UnknownName
from rerank.pipeline import Pipeline
from rerank.types import Document, Query
from retrievers import splade as module
from retrievers import term_encoding
from retrievers.postings import Postings, Rows, join, save_rows
from retrievers.splade import Splade
from retrievers.term_encoding import TermEncoder

WORDS = ("red", "green", "blue", "grey", "fish", "bird", "stone", "river", "cloud", "tree")
SHAPE: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2}


def some_documents(count: int, seed: int = 0) -> list[Document]:
    draw = random.Random(seed)
    return [Document(f"d{n}", " ".join(draw.choices(WORDS, k=draw.randint(1, 20)))) for n in range(count)]


DOCUMENTS = some_documents(40)
QUERIES = [Query("one", "blue fish"), Query("two", "a river"), Query("three", "grey stone tree")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"), WORDS, kind="BertForMaskedLM")


@pytest.fixture(scope="module")
def index(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Splade:
    return Splade.build(DOCUMENTS, tmp_path_factory.mktemp("splade") / "index", model=str(model))


def of_family(folder: Path, kind: str) -> Path:
    """A masked model of another family, with the tokenizer of `tiny_bert`."""
    import transformers

    tiny_bert(folder, WORDS)
    size = {"vocab_size": 5 + len(WORDS), "pad_token_id": 0, "hidden_size": 32, "intermediate_size": 64}
    configs: dict[str, Any] = {
        "distilbert": {"vocab_size": 15, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "pad_token_id": 0},
        "electra": {**size, **SHAPE, "embedding_size": 16},
        "modernbert": {**size, **SHAPE, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
        "mpnet": {**size, **SHAPE},
        "roberta": {**size, **SHAPE},
        "xlm-roberta": {**size, **SHAPE},
    }
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **configs[kind])
    made = transformers.AutoModelForMaskedLM.from_config(config).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained(folder)
    return folder


def sparse_encoder(source: Path, folder: Path, pooling: str = "max", activation: str = "relu", **options: Any) -> Path:
    """Saved by sentence-transformers, in its layout."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    read = Transformer(str(source), transformer_task="fill-mask", max_seq_length=32)
    made = SparseEncoder(modules=[read, SpladePooling(pooling, activation)], device="cpu", **options)  # type: ignore[arg-type]
    made.save_pretrained(str(folder))
    return folder


def by_sentence_transformers(folder: Path, texts: list[str], *, queries: bool = False) -> NDArray[np.float32]:
    from sentence_transformers import SparseEncoder

    theirs = SparseEncoder(str(folder), device="cpu")
    encode = theirs.encode_query if queries else theirs.encode_document
    return np.stack([encode(text, convert_to_sparse_tensor=False).numpy() for text in texts])


def matrix(rows: Rows, terms: int) -> NDArray[np.float32]:
    dense = np.zeros((len(rows.counts), terms), np.float32)
    dense[np.repeat(np.arange(len(rows.counts)), rows.counts), rows.terms] = rows.weights
    return dense


TEXTS = [document.text for document in DOCUMENTS[:8]]


@pytest.mark.parametrize(("pooling", "activation"), [("max", "relu"), ("sum", "relu"), ("max", "log1p_relu")])
def test_weights_are_those_of_sentence_transformers(model: Path, tmp_path: Path, pooling: str, activation: str) -> None:
    prompts = {"prompts": {"query": "red ", "document": "grey stone "}}
    folder = sparse_encoder(model, tmp_path / "saved", pooling, activation, **prompts)
    encoder = TermEncoder(folder)

    for queries in (False, True):
        ours = matrix(encoder.rows([*TEXTS, "fish " * 50], queries=queries), encoder.terms)

        assert ours.max() > 0.5
        expected = by_sentence_transformers(folder, [*TEXTS, "fish " * 50], queries=queries)
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_models_damping_stays_when_its_pooling_is_said(model: Path, tmp_path: Path) -> None:
    folder = sparse_encoder(model, tmp_path / "saved", "max", "log1p_relu")

    assert np.array_equal(
        TermEncoder(folder, pooling="max").rows(TEXTS).weights, TermEncoder(folder).rows(TEXTS).weights
    )
    with pytest.raises(InputError, match=r"pooling 'sum', but the weights of .* are damped twice"):
        TermEncoder(folder, pooling="sum")


@pytest.mark.parametrize("kind", ["distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta"])
def test_weights_of_other_families_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    import transformers

    folder = of_family(tmp_path, kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    masked = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        read = [tokenizer(text, return_tensors="pt", return_token_type_ids=False) for text in TEXTS]
        expected = [masked(**inputs).logits[0].relu().log1p().amax(0).numpy() for inputs in read]
    encoder = TermEncoder(folder)

    np.testing.assert_allclose(matrix(encoder.rows(TEXTS), encoder.terms), np.stack(expected), atol=1e-4)


def test_a_family_without_a_known_head_is_refused(tmp_path: Path) -> None:
    import transformers

    tiny_bert(tmp_path, WORDS)
    config = transformers.ConvBertConfig(
        vocab_size=15, hidden_size=32, embedding_size=32, intermediate_size=64, **SHAPE
    )
    transformers.ConvBertForMaskedLM(config).save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match="is a convbert; SPLADE can be computed of bert, distilbert"):
        TermEncoder(tmp_path)


def test_parts_of_the_vocabulary_and_neighbours_change_no_bit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TermEncoder(model)
    together = encoder.rows([document.text for document in DOCUMENTS])

    alone = [encoder.rows([document.text]) for document in DOCUMENTS]
    monkeypatch.setattr(term_encoding, "TERMS", 4)
    in_parts = encoder.rows([document.text for document in DOCUMENTS])

    assert np.array_equal(np.concatenate([rows.weights for rows in alone]), together.weights)
    assert np.array_equal(np.concatenate([rows.terms for rows in alone]), together.terms)
    np.testing.assert_allclose(in_parts.weights, together.weights, atol=1e-5)


def test_scores_are_the_products_of_all_weights(index: Splade, model: Path) -> None:
    encoder = TermEncoder(model)
    of_documents = matrix(encoder.rows([document.text for document in DOCUMENTS]), encoder.terms)
    of_queries = matrix(encoder.rows([query.text for query in QUERIES], queries=True), encoder.terms)

    for row, ranking in zip(of_queries @ of_documents.T, index.retrieve(QUERIES, 40), strict=True):
        scores = {candidate.document.doc_id: candidate.score for candidate in ranking}
        assert [scores.get(document.doc_id, 0) for document in DOCUMENTS] == pytest.approx(row.tolist(), rel=1e-5)


def test_postings_by_hand(tmp_path: Path) -> None:
    shards = [
        Rows(np.array([2, 0]), np.array([1, 3], np.int32), np.array([1.0, 0.5], np.float32), 2, 1),
        Rows(np.array([1, 2]), np.array([1, 0, 3], np.int32), np.array([2.0, 4.0, 0.5], np.float32), 1, 0),
    ]
    for place, rows in enumerate(shards):
        save_rows(tmp_path / f"{place}.npz", rows)

    totals = join([tmp_path / "0.npz", tmp_path / "1.npz"], tmp_path, 5)
    postings = Postings.open(tmp_path, 4)

    assert totals == {"weights": 5, "pruned_weights": 3, "cut_documents": 1}
    assert postings.starts.tolist() == [0, 1, 3, 3, 5, 5]
    assert postings.documents.tolist() == [3, 0, 2, 0, 3]
    assert postings.weights.tolist() == [4.0, 1.0, 2.0, 0.5, 0.5]
    assert postings.scores([(1, 3.0), (3, 2.0), (4, 9.0)]).tolist() == [4.0, 0.0, 6.0, 1.0]
    assert isinstance(postings.weights.base, np.memmap)


def test_top_terms_keeps_the_greatest_and_counts_the_others(index: Splade, model: Path, tmp_path: Path) -> None:
    small = Splade.build(DOCUMENTS, tmp_path / "index", model=str(model), top_terms=3)
    encoder = TermEncoder(model, top_terms=3)
    whole, pruned = TermEncoder(model).rows(TEXTS), encoder.rows(TEXTS)
    rows = matrix(whole, encoder.terms)

    assert pruned.counts.max() == 3
    assert pruned.pruned == int(np.maximum(whole.counts - 3, 0).sum())
    for row, kept in zip(rows, matrix(pruned, encoder.terms), strict=True):
        assert sorted(kept[kept > 0]) == sorted(row[row > 0])[-3:]
    notes = small.manifest.notes
    assert notes["weights"] + notes["pruned_weights"] == index.manifest.notes["weights"]
    assert notes["weights"] <= 3 * len(DOCUMENTS)


def test_documents_that_are_cut_are_counted(model: Path, tmp_path: Path) -> None:
    short = Splade.build(DOCUMENTS, tmp_path / "index", model=str(model), max_tokens=12)

    assert short.manifest.notes["cut_documents"] == sum(len(d.text.split()) > 10 for d in DOCUMENTS) > 0


def test_queries_may_be_their_tokens_or_weighed_by_rarity(model: Path, tmp_path: Path) -> None:
    small = Splade.build(DOCUMENTS, tmp_path / "index", model=str(model), top_terms=4)
    vocabulary = {word: 5 + place for place, word in enumerate(WORDS)}
    fish, blue = vocabulary["fish"], vocabulary["blue"]
    held = small.postings.held_by(fish)
    idf = math.log(1 + (40 - held + 0.5) / (held + 0.5))
    text = "fish blue fish"

    assert Splade.open(small.folder, queries="binary").weighed([text]) == [[(blue, 1.0), (fish, 1.0)]]
    assert dict(Splade.open(small.folder, queries="idf").weighed([text])[0])[fish] == pytest.approx(idf)
    assert Splade.open(small.folder, queries="binary").retrieve([Query("q", text)], 40) != small.retrieve(
        [Query("q", text)], 40
    )


def test_a_checkpoints_own_rarity_comes_first(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "bert", WORDS, kind="BertForMaskedLM")
    (model / "idf.json").write_text(json.dumps({"fish": 2.5, "bird": 0.0}))
    made = Splade.build(DOCUMENTS, tmp_path / "index", model=str(model))

    assert Splade.open(made.folder, queries="idf").weighed(["bird fish tree"]) == [[(5 + WORDS.index("fish"), 2.5)]]
    (model / "idf.json").write_text("[]")
    with pytest.raises(FileError, match=r"idf\.json does not say token by token"):
        Splade.open(made.folder, queries="idf").retrieve(QUERIES, 1)


def test_tokens_of_queries_need_no_model(index: Splade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term_encoding, "load", lambda *_: pytest.fail("the model was loaded"))

    assert len(Splade.open(index.folder, queries="binary").retrieve(QUERIES, 3)[0]) == 3


def test_an_interrupted_build_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, index: Splade
) -> None:
    monkeypatch.setattr(module, "SHARD", 16)
    weighed: list[int] = []
    plain = TermEncoder.rows

    def counted(self: TermEncoder, texts: Any, **options: Any) -> Rows:
        weighed.append(len(texts))
        return plain(self, texts, **options)

    def until(count: int) -> Any:
        yield from DOCUMENTS[:count]
        raise KeyboardInterrupt

    monkeypatch.setattr(TermEncoder, "rows", counted)
    with pytest.raises(KeyboardInterrupt):
        Splade.build(until(35), tmp_path / "index", model=str(model))
    assert not (tmp_path / "index").exists()

    again = Splade.build(DOCUMENTS, tmp_path / "index", model=str(model))

    assert weighed == [16, 16, 8]
    assert again.retrieve(QUERIES, 40) == index.retrieve(QUERIES, 40)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_another_model_than_the_one_that_weighed_is_noticed(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "bert", WORDS, kind="BertForMaskedLM")
    made = Splade.build(DOCUMENTS, tmp_path / "index", model=str(model))
    tiny_bert(model, WORDS, kind="BertForMaskedLM", seed=1)

    for queries in ("model", "binary"):
        with pytest.raises(
            FileError, match=r"was made by .*: other weights, or another version; build the index again"
        ):
            Splade.open(made.folder, queries=queries).retrieve(QUERIES, 1)


def test_it_stands_in_a_pipeline_file(model: Path, tmp_path: Path) -> None:
    from rerank.io import write_beir

    write_beir(tmp_path / "data", DOCUMENTS, QUERIES, {"one": {"d1": 1}})
    dataset = Dataset.load(tmp_path / "data")
    file = tmp_path / "p.toml"
    place = json.dumps(str(tmp_path / "index"))
    file.write_text(
        f'[[stage]]\nretriever = "splade"\nmodel = {json.dumps(str(model))}\nindex = {place}\n'
        'queries = "idf"\ncutoff = 7\n'
    )

    [ranking] = Pipeline.load(file, dataset).run(dataset.queries)
    again = Splade.of(dataset, model=str(model), index=tmp_path / "index", queries="idf")

    assert 0 < len(ranking) <= 7
    assert again.retrieve(dataset.queries, 7) == [ranking]
    with pytest.raises(FileError, match="was built with"):
        Splade.of(dataset, model=str(model), index=tmp_path / "index", top_terms=2)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"pooling": "mean"}, UnknownName, "no pooling is called 'mean'"),
        ({"top_terms": -1}, InputError, "top_terms=-1; it must be at least 0"),
        ({"max_tokens": 65}, InputError, "max_tokens=65, but .* reads from 1 to 64 tokens"),
    ],
)
def test_options_that_cannot_be_are_refused(
    model: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Splade.build(DOCUMENTS, tmp_path / "index", model=str(model), **options)

    assert list(tmp_path.iterdir()) == []


def test_an_unknown_way_to_weigh_queries_is_refused(index: Splade) -> None:
    with pytest.raises(UnknownName, match="no way to weigh queries is called 'binray'; did you mean 'binary'"):
        Splade.open(index.folder, queries="binray")


def test_what_is_no_masked_language_model_is_refused(tmp_path: Path, minilm: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks"):
        Splade.build(DOCUMENTS, tmp_path / "index", model=str(minilm))

    folder = sparse_encoder(tiny_bert(tmp_path / "m", WORDS, kind="BertForMaskedLM"), tmp_path / "s")
    (folder / "1_SpladePooling" / "config.json").write_text('{"pooling_strategy": "mean"}')
    with pytest.raises(CheckpointError, match="pools by 'mean' of 'relu', which is not known here"):
        TermEncoder(folder)
    (folder / "modules.json").write_text('[{"type": "a.Dense", "path": ""}]')
    with pytest.raises(CheckpointError, match="is made of Dense; SPLADE is a Transformer and a SpladePooling"):
        TermEncoder(folder)
    (folder / "modules.json").write_text('[{"type": "a.Router", "path": ""}]')
    for said, complaint in (
        ('{"structure": {"query": []}, "types": {}}', "does not say what reads a document: 'document' is missing"),
        ('{"structure": {"document": ["../a"]}, "types": {"../a": "a.b"}}', "../a lie outside the checkpoint"),
        ("[]", "is no JSON object"),
    ):
        (folder / "router_config.json").write_text(said)
        with pytest.raises(CheckpointError, match=complaint):
            TermEncoder(folder)
