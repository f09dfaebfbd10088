"""Files of other training tools, under their own names and in their own layouts, become examples."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank.errors import FileError, InputError, UnknownName
from rerank.io import write_beir
from rerank.types import Document, Query
from training.examples import FORMATS, Example, Examples, IndexedTexts, guess, read_examples, write_arrow, write_jsonl

DOCUMENTS = {"0": "a river", "7": "two\tbirds fly".replace("\t", " "), "10": "many stones", "é": "ünïcode text"}
QUERIES = {"100": "where is water", "200": "what flies"}


@pytest.fixture
def marco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MS MARCO's collection and queries under their own names; indexes go to a cache of the test's own."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "collection.tsv").write_text("".join(f"{one}\t{text}\n" for one, text in DOCUMENTS.items()), "utf-8")
    (tmp_path / "queries.train.tsv").write_text("".join(f"{one}\t{text}\n" for one, text in QUERIES.items()), "utf-8")
    return tmp_path


@pytest.fixture
def written(marco: Path) -> Callable[..., Path]:
    """Writes a file of this name; lists become JSON lines."""

    def write(name: str, content: str | list[Any]) -> Path:
        text = content if isinstance(content, str) else "".join(json.dumps(value) + "\n" for value in content)
        (marco / name).write_text(text, "utf-8")
        return marco / name

    return write


def by_ids(path: Path, **options: Any) -> Examples:
    return read_examples(
        path, collection=path.parent / "collection.tsv", queries=path.parent / "queries.train.tsv", **options
    )


def test_text_triples(written: Callable[..., Path]) -> None:
    path = written(
        "triples.train.small.tsv", "q one\tgood\tbad\n\nq two\tgood two\tbad two\nq\tsame\tsame\n \ta\tb\nq\ta\n"
    )

    examples = read_examples(path)
    first, second = examples

    assert first == Example("q one", ("good", "bad"), relevance=(1, 0))
    assert (first.where, second.where) == (f"{path}:1", f"{path}:3")
    assert examples.counts.refused == {"positive among the negatives": 1, "empty query": 1, "malformed line": 1}
    assert [error.split(": ")[0] for reasons in examples.counts.places.values() for error in reasons] == [
        f"{path}:4",
        f"{path}:5",
        f"{path}:6",
    ]


def test_id_triples_find_their_texts(written: Callable[..., Path]) -> None:
    path = written("qidpidtriples.train.full.2.tsv", "100\t0\té\n200\t7\t10\n200\t7\t7\n300\t7\t0\n200\t7\t999\n")

    examples = by_ids(path)
    first, second = examples

    assert first == Example(
        "where is water", ("a river", "ünïcode text"), relevance=(1, 0), query_id="100", doc_ids=("0", "é")
    )
    assert second.documents == ("two birds fly", "many stones")
    assert examples.counts.refused == {
        "positive among the negatives": 1,
        "unknown query": 1,
        "unknown document": 1,
    }
    assert examples.counts.places["unknown document"][0].startswith(f"{path}:5: unknown document: '999' is not in ")


def test_inrankers_soft_labels(written: Callable[..., Path]) -> None:
    line = {"query": "what flies", "contents": "two birds fly", "true_logit": 23.2, "false_logit": 5}
    bad = [{**line, "true_logit": None}, {**line, "contents": " "}, {"query": "q", "true_logit": 1, "false_logit": 2}]
    texts = written("inpars_beir_dataset.jsonl", [line, *bad])
    ids = written("InRanker_msmarco.tsv", "-1.5\t2\t200\t7\nx\t2\t200\t7\n1\t2\t200\n1\t2\t200\t8\n")

    examples, named = read_examples(texts), by_ids(ids)
    [of_texts], [of_ids] = examples, named

    assert of_texts == Example("what flies", ("two birds fly",), logits=((23.2, 5.0),))
    assert (of_texts.labels, of_texts.where) == ({"logits"}, f"{texts}:1")
    assert examples.counts.refused == {"teacher score is no number": 1, "empty document": 1, "malformed line": 1}
    assert of_ids == Example("what flies", ("two birds fly",), logits=((-1.5, 2.0),), query_id="200", doc_ids=("7",))
    assert named.counts.refused == {"teacher score is no number": 1, "malformed line": 1, "unknown document": 1}
    assert (guess(texts), guess(ids)) == ("inranker", "inranker-ids")


def test_margin_mse_scores(written: Callable[..., Path]) -> None:
    name = "bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv"
    path = written(name, "9.5\t-1.25\t100\t0\t10\nnan\t0\t100\t0\t10\nx\t0\t100\t0\t10\n")

    examples = by_ids(path)
    [only] = examples

    assert (only.scores, only.relevance, only.labels) == ((9.5, -1.25), (1, 0), {"scores", "relevance"})
    assert examples.counts.refused == {"teacher score is no number": 2}


def test_a_teachers_file_for_other_ids_is_an_error_that_says_so(written: Callable[..., Path]) -> None:
    path = written("scores_ids.tsv", "1\t0\tx1\td1\td2\n")

    with pytest.raises(
        FileError, match=r"holds no example that can be used: refused 1: unknown query \(first: .*ids.tsv:1: "
    ):
        list(by_ids(path))


def test_qrels_are_grouped_by_query_wherever_their_lines_stand(written: Callable[..., Path]) -> None:
    path = written("qrels.train.tsv", "200 0 7 1\n100 0 0 2\n200 0 10 0\n300 0 7 0\n")

    examples = by_ids(path)
    first, second = examples

    assert (first.query, first.doc_ids, first.relevance) == ("what flies", ("7", "10"), (1, 0))
    assert (second.doc_ids, second.relevance, second.where) == (("0",), (2,), f"{path}:2")
    assert examples.counts.refused == {"no relevant document": 1}


def test_a_document_that_is_judged_twice_is_an_error(written: Callable[..., Path]) -> None:
    with pytest.raises(FileError, match="document '7' is judged twice for query '200'"):
        list(by_ids(written("qrels.train.tsv", "200 0 7 1\n200 0 7 0\n")))


RUN = "100 Q0 0 1 1.5 x\n100 Q0 é 2 2.5 x\n100 Q0 10 3 2.5 x\n200 Q0 10 1 1 x\n100 Q0 7 1 1 x\n"


def test_a_run_with_qrels_is_read_as_trec_eval_ranks_it(written: Callable[..., Path]) -> None:
    qrels = written("train.qrels", "100 0 0 1\n")

    examples = by_ids(written("bm25.run", RUN), qrels=qrels)
    [only] = examples

    assert (only.doc_ids, only.relevance, only.labels) == (("é", "10", "0"), (0, 0, 1), {"relevance"})
    assert examples.counts.refused == {"unknown query": 1, "query comes again": 1}
    assert examples.counts.notes == {"candidates without a judgment, taken for irrelevant": 3}


def test_a_run_may_be_a_teachers_scores_or_order(written: Callable[..., Path]) -> None:
    path = written("__rankzephyr-colbert-10000-sampled-100__msmarco-passage-train-judged.run", RUN)

    scored = by_ids(path, format="run", teacher="scores")
    ordered = by_ids(path, cutoff=2)

    assert [one.scores for one in scored] == [(2.5, 2.5, 1.5), (1.0,)]
    assert [(one.order, one.doc_ids, one.scores) for one in ordered] == [
        ((0, 1), ("é", "10"), None),
        ((0,), ("10",), None),
    ]
    assert ordered.counts.notes == {"candidates below the cutoff, left out": 1}


def test_a_beir_folder_gives_its_train_judgments(marco: Path) -> None:
    documents = [Document("d1", "first text", "a title"), Document("d2", "second text")]
    for split, grades in (("train", {"q1": {"d1": 1}}), ("test", {"q2": {"d2": 1}})):
        write_beir(marco / "beir", documents, [Query("q1", "one"), Query("q2", "two")], grades, split)

    [only] = read_examples(marco / "beir", split="train")

    assert only == Example("one", ("a title first text",), relevance=(1,), query_id="q1", doc_ids=("d1",))


def test_an_ir_datasets_id_gives_its_pairs_and_else_its_judgments(marco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ir_datasets
    from ir_datasets.formats import TrecQrels, TsvDocPairs, TsvDocs, TsvQueries
    from ir_datasets.util import LocalDownload

    monkeypatch.setattr(ir_datasets.registry, "_registered", dict(ir_datasets.registry._registered))
    monkeypatch.setenv("IR_DATASETS_HOME", str(marco / "home"))
    (marco / "pairs.tsv").write_text("100\t0\t10\n")
    (marco / "judged").write_text("200 0 7 1\n")
    documents = TsvDocs(LocalDownload(marco / "collection.tsv"), namespace="mine", lang="en")
    queries = TsvQueries(LocalDownload(marco / "queries.train.tsv"))
    pairs, qrels = TsvDocPairs(LocalDownload(marco / "pairs.tsv")), TrecQrels(LocalDownload(marco / "judged"), {})
    ir_datasets.registry.register("mine/pairs", ir_datasets.Dataset(documents, queries, qrels, pairs))
    ir_datasets.registry.register("mine/judged", ir_datasets.Dataset(documents, queries, qrels))

    [pair] = read_examples("mine/pairs")
    [judged] = read_examples("mine", split="judged")

    assert (pair.query, pair.documents, pair.relevance) == ("where is water", ("a river", "many stones"), (1, 0))
    assert (judged.query, judged.documents, judged.relevance) == ("what flies", ("two birds fly",), (1,))


def test_tevatron(written: Callable[..., Path]) -> None:
    good = {"docid": 1, "title": "-", "text": "good"}
    bad = [{"docid": "2", "title": "head", "text": "bad"}, {"docid": "3", "text": "worse"}]
    line = {"query_id": 5, "query": "words", "positive_passages": [good], "negative_passages": bad}
    path = written(
        "train.jsonl", [line, line | {"negative_passages": [good]}, line | {"positive_passages": []}, {"query": "x"}]
    )

    examples = read_examples(path, "tevatron")
    [only] = examples

    assert only == Example(
        "words", ("good", "head bad", "worse"), relevance=(1, 0, 0), query_id="5", doc_ids=("1", "2", "3")
    )
    assert examples.counts.refused == {
        "positive among the negatives": 1,
        "no relevant document": 1,
        "malformed line": 1,
    }


def test_flagembedding(written: Callable[..., Path]) -> None:
    line = {"query": "words", "pos": ["good"], "neg": ["bad", "worse"], "prompt": "Judge"}
    taught = {"pos_scores": [3.5], "neg_scores": [1, -2]}
    path = written("fe.jsonl", [line | taught, line, line | {"pos_scores": [1]}, line | {"pos": "good"}])

    examples = read_examples(path)
    first, second = examples

    assert (first.relevance, first.scores) == ((1, 0, 0), (3.5, 1, -2))
    assert (second.relevance, second.scores) == ((1, 0, 0), None)
    assert examples.counts.refused == {"other number of labels": 1, "malformed line": 1}
    assert examples.counts.notes == {"lines with a 'prompt', which is not used": 4}


@pytest.mark.parametrize(
    ("line", "documents", "relevance", "scores"),
    [
        ({"query": "q", "passage": "a", "label": 1}, 1, (1,), None),
        ({"query": "q", "passage": "a", "score": 0.25}, 1, None, (0.25,)),
        ({"anchor": "q", "positive": "a"}, 1, (1,), None),
        ({"query": "q", "positive": "a", "negative": "b"}, 2, (1, 0), None),
        ({"query": "q", "positive": "a", "negative_1": "b", "negative_2": "c"}, 3, (1, 0, 0), None),
        ({"query": "q", "positive": "a", "negative": "b", "score": 4.5}, 2, (1, 0), (0, -4.5)),
        ({"query": "q", "positive": "a", "negative": "b", "label": [4, -1]}, 2, (1, 0), (4, -1)),
        ({"query": "q", "positive": "a", "n1": "b", "n2": "c", "labels": [4, 5]}, 3, (1, 0, 0), (0, -4, -5)),
        ({"query": "q", "docs": ["a", "b"], "labels": [0, 2]}, 2, (0, 2), None),
        ({"query": "q", "docs": ["a", "b"], "scores": [0.5, 2]}, 2, None, (0.5, 2)),
        ({"query": "q", "docs": ["a", "b"]}, 2, None, None),
        ({"query": "q", "positive": ["a"], "negative": ["b", "c"]}, 3, (1, 0, 0), None),
        ({"query_id": 3, "query": "q", "docs": ["a"], "labels": [1]}, 1, (1,), None),
    ],
)
def test_sentence_transformers(
    written: Callable[..., Path], line: Any, documents: int, relevance: Any, scores: Any
) -> None:
    path = written("train.jsonl", [line])

    [only] = read_examples(path)

    assert (only.query, only.documents) == ("q", ("a", "b", "c")[:documents])
    assert (only.relevance, only.scores) == (relevance, scores)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"query": "q", "docs": ["a", "b"], "labels": [0]}, "other number of labels"),
        ({"query": "q", "positive": "a", "n1": "b", "n2": "c", "label": 1}, "other number of labels"),
        ({"query": "q", "docs": ["a"], "labels": ["yes"]}, "relevance is no number"),
        ({"query": "q", "label": 1}, "malformed line"),
        ({"query": "q", "passage": "a", "label": 1, "score": 2}, "malformed line"),
        ({"query": "q", "passage": 5, "label": 1}, "empty document"),
        ([1], "malformed line"),
    ],
)
def test_lines_that_are_none_of_sentence_transformers(written: Callable[..., Path], line: Any, reason: str) -> None:
    examples = read_examples(written("train.jsonl", [{"query": "q", "passage": "a", "label": 1}, line]))

    assert len(list(examples)) == 1
    assert examples.counts.refused == {reason: 1}


PASSAGES = [{"docid": str(number), "title": "", "text": f"text {number}"} for number in range(3)]


def test_rankgpt(written: Callable[..., Path]) -> None:
    line = {"query": "words", "positive_passages": [PASSAGES[1]], "retrieved_passages": PASSAGES}
    path = written("marco-train-10k.jsonl", [line, line | {"positive_passages": []}, line])
    answers = written("marco-train-10k-gpt3.5.json", json.dumps(["[3] > [1] > [2]", [2, 3], "I cannot rank them."]))

    examples = read_examples(path, permutations=answers)
    first, second = examples

    assert (first.order, first.relevance, first.doc_ids) == ((2, 0, 1), (0, 1, 0), ("0", "1", "2"))
    assert (second.order, second.relevance) == ((1, 2, 0), None)
    assert examples.counts.refused == {"order is no permutation": 1}
    assert list(examples.counts.notes.values()) == [1]


def test_permutations_of_other_queries_are_an_error(written: Callable[..., Path]) -> None:
    path = written("marco.jsonl", [{"query": "words", "retrieved_passages": PASSAGES}])

    with pytest.raises(FileError, match=r"holds 2 permutations and .* 1 lines"):
        list(read_examples(path, permutations=written("other.json", '["[1]", "[2]"]')))


@pytest.mark.parametrize(("first", "answer"), [("1", "[2] > [1]"), ("A", "[B] > [A]")])
def test_rankzephyr(written: Callable[..., Path], first: str, answer: str) -> None:
    second = chr(ord(first) + 1)
    asked = (
        "I will provide you with 2 passages, each indicated by a numerical identifier []. Rank the passages based on "
        "their relevance to the search query: what flies?.\n\n"
        f"[{first}] a river\n[9] is not a passage\n[{second}] birds\n\n"
        "Search Query: what flies?.\nRank the 2 passages above based on their relevance to the search query."
    )
    turns = [{"from": "system", "value": "…"}, {"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
    path = written(
        "rank_zephyr_training_data.jsonl", [{"id": "rank-1", "conversations": turns}, {"conversations": turns[:2]}]
    )

    examples = read_examples(path)
    [only] = examples

    assert only == Example("what flies?", ("a river\n[9] is not a passage", "birds"), order=(1, 0), query_id="rank-1")
    assert examples.counts.refused == {"malformed line": 1}


def test_our_own_files_are_read_again(marco: Path) -> None:
    given = [
        Example("words", ("one", "two"), relevance=(1, 0), pairs=((0, 1, 0.5),), where="file:3"),
        Example("more words", ("é",), scores=(0.1,), doc_ids=("7",), query_id="1"),
    ]
    write_jsonl(given, marco / "train.jsonl.gz")
    write_arrow(given, marco / "arrow")

    for source in ("train.jsonl.gz", "arrow"):
        back = list(read_examples(marco / source))
        assert back == given
        assert back[0].where == "file:3"


def test_the_index_of_a_collection_is_kept_and_follows_the_file(marco: Path) -> None:
    path = marco / "collection.tsv"
    texts = IndexedTexts(path)

    assert texts.find(["é", "nobody", "0"]) == {"é": "ünïcode text", "0": "a river"}
    built = texts.index_path.stat().st_mtime_ns
    assert IndexedTexts(path).find(["7"]) == {"7": "two birds fly"}
    assert texts.index_path.stat().st_mtime_ns == built  # not built again
    path.write_text("0\tother words\n", "utf-8")
    assert IndexedTexts(path).find(["7", "0"]) == {"0": "other words"}
    assert len(IndexedTexts(path)) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_collections_of_other_layouts(marco: Path, zipped: bool) -> None:
    ending = ".gz" if zipped else ""

    def write(name: str, text: str) -> Path:
        path = marco / f"{name}{ending}"
        path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
        return path

    corpus = write("corpus.jsonl", '\ufeff{"_id": "a", "title": "T", "text": "x"}\n\n{"_id": 2, "text": "y"}\n')
    long = write("msmarco-docs.tsv", "D1\thttp://x\tT\tbody\r\n")

    assert IndexedTexts(corpus).find(["a", "2"]) == {"a": "T x", "2": "y"}
    assert IndexedTexts(long).find(["D1"]) == {"D1": "T body"}


def test_an_id_that_occurs_twice_in_a_collection_is_an_error_and_leaves_no_index(marco: Path) -> None:
    texts = IndexedTexts(marco / "collection.tsv")
    (marco / "collection.tsv").write_text("7\ta\n7\tb\n")

    with pytest.raises(FileError, match="the id '7' occurs twice"):
        texts.find(["7"])

    assert list(texts.index_path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("x.tsv", {"format": "msmarco-tripels"}, "did you mean 'msmarco-triples'"),
        ("x.tsv", {}, "does not say its format"),
        ("triples.train.tsv", {"qrels": "y"}, "qrels is of no use to examples in the format 'msmarco-triples'"),
        ("triples.train.tsv", {"dataset": "noveleval"}, "dataset is of no use"),
        ("x.tsv", {"format": "margin-mse"}, "give either the dataset"),
        ("x.tsv", {"format": "margin-mse", "queries": "q"}, "give either the dataset"),
        ("x.tsv", {"format": "rankgpt"}, "need permutations"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(
    marco: Path, name: str, options: dict[str, Any], said: str
) -> None:
    (marco / name).write_text("")

    with pytest.raises(InputError, match=said):
        read_examples(marco / name, **options)


@pytest.mark.parametrize("options", [{}, {"teacher": "me"}, {"teacher": "order", "cutoff": 0}])
def test_a_run_needs_labels_from_somewhere(written: Callable[..., Path], options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        list(by_ids(written("bm25.run", RUN), **options))


def test_every_format_says_what_it_is_and_an_unknown_source_is_looked_for_among_datasets() -> None:
    assert all(format.summary for format in FORMATS.values())
    assert guess("beir/scifact/train") == "dataset"
    with pytest.raises(UnknownName, match="no dataset is called 'scifactt'"):
        list(read_examples("scifactt"))
