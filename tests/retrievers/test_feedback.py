"""RM3 and Rocchio: by hand, as Anserini has them, and on real queries."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from math import sqrt
from pathlib import Path

import pytest

from rerank.datasets import Dataset
from rerank.errors import InputError, UnknownName
from rerank.types import Document, Query
from retrievers.bm25 import BM25
from retrievers.feedback import Feedback, expanded
from retrievers.lucene import Lucene

FOUND = [(Counter(fish=2, river=1, trout=1), 3.0), (Counter(fish=1, salmon=3), 1.0)]
"""Terms of the first two documents, and their scores."""


def held_by(term: str) -> int:
    return 2 if term == "river" else 1


def test_rm3_by_hand():
    # P is proportional to 3 · tf / 4 and 1 · tf / 4: fish 1.5 + .25, river .75, trout .75, salmon .75; the best 2 of
    # equal ones are the first in the alphabet
    weights = expanded(Feedback("rm3", terms=4, original_weight=0.4), ["fish", "fish", "boat"], FOUND, held_by, 20)

    total = 1.75 + 0.75 * 3
    assert weights == pytest.approx(
        {
            "fish": 0.4 * 2 / 3 + 0.6 * 1.75 / total,
            "boat": 0.4 / 3,
            **dict.fromkeys(("river", "salmon", "trout"), 0.6 * 0.75 / total),
        }
    )
    assert list(weights) == ["fish", "boat", "river", "salmon", "trout"]


def test_rm3_reads_of_a_document_only_as_many_terms_as_it_takes():
    weights = expanded(Feedback("rm3", terms=1), ["fish"], FOUND, held_by, 20)

    # the first document is its two fish, the second its three salmon: 3 against 1
    assert weights == {"fish": 1.0}


def test_rocchio_by_hand():
    weights = expanded(Feedback("rocchio", terms=2, beta=0.5), ["boat", "boat"], FOUND, held_by, 20)

    fish, salmon = 2 / sqrt(6) + 1 / sqrt(10), 3 / sqrt(10)
    length = sqrt(fish**2 + salmon**2)
    assert weights == pytest.approx({"boat": 1.0, "fish": 0.5 * fish / length, "salmon": 0.5 * salmon / length})


def test_what_every_tenth_document_holds_is_not_added_and_neither_are_letters_and_long_words():
    found = [(Counter({"river": 5, "x": 5, "a" * 21: 5, "na\u00efve": 5, "trout": 1}), 1.0)]

    assert set(expanded(Feedback("rm3"), ["fish"], found, held_by, 19)) == {"fish", "trout"}
    assert set(expanded(Feedback("rocchio"), ["fish"], found, held_by, 19)) == {"fish", "trout", "na\u00efve"}
    assert "river" in expanded(Feedback("rm3"), ["fish"], found, held_by, 20)


def test_only_so_many_documents_are_read():
    assert "salmon" not in expanded(Feedback("rm3", documents=1), ["fish"], FOUND, held_by, 20)


def test_an_original_weight_of_one_and_a_beta_of_nothing_change_nothing():
    assert expanded(Feedback("rm3", original_weight=1), ["fish"], FOUND, held_by, 20) == {"fish": 1.0}
    assert expanded(Feedback("rocchio", beta=0), ["fish"], FOUND, held_by, 20) == {"fish": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"documents": 0}, "feedback_documents is 0; it must be at least 1"),
        ({"terms": -1}, "feedback_terms is -1; it must be at least 1"),
        ({"original_weight": 1.5}, "original_weight is 1.5; it must be a number from 0 to 1"),
        ({"beta": -0.5}, "beta is -0.5; it must be a number of at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Feedback("rm3", **options)


def test_an_unknown_feedback_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="no feedback is called 'rm-3'; did you mean 'rm3'"):
        Feedback("rm-3")


RIVERS = [
    Document("a", "trout river"),
    Document("b", "trout salmon"),
    Document("c", "salmon lake"),
    *(Document(f"x{n}", f"stone number{n}") for n in range(30)),
]


@pytest.mark.parametrize("method", ["rm3", "rocchio"])
def test_a_document_without_any_word_of_the_query_is_found_through_the_others(method, tmp_path):
    plain = BM25.build(RIVERS, tmp_path / "index")

    fed = BM25.open(tmp_path / "index", feedback=method)

    assert [d.doc_id for d in plain.retrieve([Query("q", "river")], 10)[0].documents] == ["a"]
    assert [d.doc_id for d in fed.retrieve([Query("q", "river")], 10)[0].documents] == ["a", "b"]
    assert not fed.retrieve([Query("q", "unheard of")], 10)[0]


def test_feedback_does_not_depend_on_the_cutoff(tmp_path):
    BM25.build(RIVERS, tmp_path / "index")
    fed = BM25.open(tmp_path / "index", feedback="rm3")

    assert fed.retrieve([Query("q", "trout")], 1)[0] == fed.retrieve([Query("q", "trout")], 10)[0][:1]


def test_feedback_and_query_side_exclude_each_other(tmp_path):
    BM25.build(RIVERS, tmp_path / "index")

    with pytest.raises(InputError, match="query_side and feedback='rm3' weigh a query each in its own way"):
        BM25.open(tmp_path / "index", feedback="rm3", query_side=True)


def test_weights_are_those_of_an_index_with_feedback(tmp_path):
    bm25 = BM25.build(RIVERS, tmp_path / "index")

    with pytest.raises(InputError, match="opened without feedback; say feedback='rm3'"):
        bm25.weights("trout")


@pytest.fixture(scope="module")
def novel(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """A real collection, and where it is indexed by both."""
    dataset, folder = Dataset.load(shared / "noveleval"), tmp_path_factory.mktemp("novel")
    BM25.build(dataset.documents(), folder / "bm25")
    Lucene.build(dataset.documents(), folder / "lucene")
    return dataset, folder


@pytest.mark.skipif(find_spec("pyserini") is None, reason="needs the 'lucene' extra")
@pytest.mark.parametrize("method", ["rm3", "rocchio"])
def test_weights_and_the_first_ten_are_those_of_anserini(method, novel):
    """What is left is the length of a document, which Lucene rounds: other scores, and other documents near ties."""
    dataset, folder = novel
    ours = BM25.open(folder / "bm25", feedback=method)
    theirs = Lucene.open(folder / "lucene", feedback=method)
    queries = dataset.queries

    gaps = [_gap(ours.weights(query.text), theirs.weights(query.text)) for query in queries]
    pairs = zip(ours.retrieve(queries, 10), theirs.retrieve(queries, 10), strict=True)
    alike = [len({*_ids(one)} & {*_ids(other)}) for one, other in pairs]

    assert sum(gap < 0.005 for gap in gaps) >= len(queries) * 0.6
    assert sum(alike) >= len(queries) * 9.5


def _gap(one: dict[str, float], other: dict[str, float]) -> float:
    return max(abs(one.get(term, 0.0) - other.get(term, 0.0)) for term in one | other)


def _ids(ranking) -> list[str]:
    return [document.doc_id for document in ranking.documents]
