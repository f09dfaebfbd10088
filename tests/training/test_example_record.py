"""The record of an example, the stream that counts what it refuses, and Arrow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.errors import FileError, InputError
from training.examples import BadExample, Example, Examples, open_arrow, read_arrow, write_arrow

TWO = ("one text", "another text")


@pytest.mark.parametrize(
    ("reason", "values"),
    [
        ("empty query", {"query": " "}),
        ("no document", {"documents": ()}),
        ("empty document", {"documents": ("a text", "")}),
        ("document twice", {"documents": ("same", "same")}),
        ("document twice", {"doc_ids": ("1", "1")}),
        ("positive among the negatives", {"documents": ("same", "same"), "relevance": (1, 0)}),
        ("positive among the negatives", {"documents": ("same", "same"), "doc_ids": ("1", "2"), "relevance": (0, 1)}),
        ("positive among the negatives", {"doc_ids": ("1", "1"), "relevance": (1, 0)}),
        ("relevance is no number", {"relevance": (1, "yes")}),
        ("teacher score is no number", {"scores": (math.nan, 1.0)}),
        ("teacher score is no number", {"scores": (0.0, math.inf)}),
        ("teacher score is no number", {"scores": (0.0, None)}),
        ("order is no permutation", {"order": (0, 2)}),
        ("order is no permutation", {"order": (0,)}),
        ("pair of no two documents", {"pairs": ((0, 0, 1.0),)}),
        ("pair of no two documents", {"pairs": ((0, 2, 1.0),)}),
        ("pair of no two documents", {"pairs": ((0, 1, 1.5),)}),
        ("pair of no two documents", {"pairs": ((0, 1, math.nan),)}),
        ("other number of labels", {"relevance": (1,)}),
        ("other number of labels", {"doc_ids": ("1",)}),
        ("malformed line", {"documents": "one text"}),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_reason_and_place(reason: str, values: dict[str, Any]) -> None:
    with pytest.raises(BadExample) as caught:
        Example(**{"query": "words", "documents": TWO, "where": "file:7"} | values)

    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"file:7: {reason}: ")


def test_equal_texts_under_two_ids_may_stand_in_a_list_when_their_labels_agree() -> None:
    example = Example("words", ("same", "same"), relevance=(1, 1), doc_ids=("1", "2"))

    assert example.labels == {"relevance"}


def test_labels_become_pythons_own_numbers() -> None:
    example = Example("words", list(TWO), scores=np.array([1.5, 2.5]), order=[1, 0], pairs=[(0, 1, np.float32(0.5))])  # type: ignore[arg-type]

    assert (example.documents, example.scores, example.order) == (TWO, (1.5, 2.5), (1, 0))
    assert [type(value) for value in (*(example.scores or ()), *(example.pairs or ())[0])] == [float] * 2 + [
        int,
        int,
        float,
    ]
    assert example.labels == {"scores", "order", "pairs"}


def test_a_stream_counts_what_it_refuses_and_says_where() -> None:
    bad = [BadExample("empty query", "query '1' has no text", f"file:{line}") for line in range(2, 7)]
    stream = Examples(lambda: [Example("words", TWO, scores=(1, 2)), *bad, Example("words", TWO)], needs=["scores"])

    kept = list(stream)

    assert (len(kept), stream.counts.kept, stream.counts.read) == (1, 1, 7)
    assert stream.counts.refused == {"empty query": 5, "labels of the wrong kind": 1}
    assert stream.counts.places["empty query"] == [str(error) for error in bad[:3]]
    assert stream.counts.lines() == [
        "1 examples, 2 documents; 1 with scores",
        "refused 5: empty query (first: file:2: empty query: query '1' has no text)",
        "refused 1: labels of the wrong kind "
        "(first: labels of the wrong kind: query 'words' has none; scores is needed)",
    ]
    assert list(stream) == kept  # again, from the start
    assert stream.counts.read == 7


def test_a_strict_stream_stops_at_the_first_bad_example() -> None:
    stream = Examples(lambda: [Example("words", TWO, where="file:1")], max_documents=1, strict=True)

    with pytest.raises(FileError, match=r"file:1: too many documents: 2 under query 'words'; at most 1 are wanted"):
        list(stream)


def test_a_stream_without_any_good_example_is_an_error() -> None:
    stream = Examples(lambda: [Example("words", TWO, where="file:1")], needs=["pairs"], source="file")

    with pytest.raises(FileError, match=r"file holds no example that can be used: refused 1: labels of the wrong kind"):
        list(stream)


@pytest.mark.parametrize("options", [{"needs": ["labels"]}, {"max_documents": 0}])
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Examples.of([], **options)


numbers = st.floats(-1e300, 1e300)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    count = draw(st.integers(1, 4))
    several = {
        "relevance": st.lists(numbers, min_size=count, max_size=count),
        "scores": st.lists(numbers, min_size=count, max_size=count),
        "order": st.permutations(range(count)),
        "doc_ids": st.just([f"d{index}" for index in range(count)]),
    }
    chosen = {name: draw(values) for name, values in several.items() if draw(st.booleans())}
    pairs = ((0, 1, draw(st.floats(0, 1))),) if count > 1 and draw(st.booleans()) else None
    texts = tuple(f"{draw(st.text(max_size=5))} text {index}" for index in range(count))
    return Example(f"words {draw(st.text(max_size=5))}", texts, pairs=pairs, where="file:1", **chosen)


@settings(max_examples=10, deadline=None)
@given(st.lists(examples(), min_size=1, max_size=5))
def test_arrow_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, given: list[Example]) -> None:
    folder = tmp_path_factory.mktemp("arrow") / "examples"

    written = write_arrow(iter(given), folder)

    back = list(read_arrow(folder))
    assert (written, back) == (len(given), given)
    assert [one.where for one in back if isinstance(one, Example)] == ["file:1"] * len(given)
    assert [path.name for path in folder.parent.iterdir()] == ["examples"]  # nothing else is left


def test_arrow_is_a_dataset_that_others_read(tmp_path: Path) -> None:
    write_arrow([Example("words", TWO, relevance=(0, 2))], tmp_path / "examples")

    rows = datasets.load_from_disk(str(tmp_path / "examples"))

    assert rows[0] == open_arrow(tmp_path / "examples")[0]
    assert (rows[0]["documents"], rows[0]["relevance"], rows[0]["scores"]) == (list(TWO), [0.0, 2.0], None)


def test_arrow_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def breaking() -> Iterator[Example]:
        yield Example("words", TWO)
        raise BadExample("empty query", "query '2' has no text", "file:2")

    with pytest.raises(BadExample, match=r"^file:2: empty query"):
        write_arrow(breaking(), tmp_path / "examples")
    with pytest.raises(InputError, match="no example"):
        write_arrow([], tmp_path / "examples")

    assert list(tmp_path.iterdir()) == []


def test_arrow_leaves_alone_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(FileError, match="exists already"):
        write_arrow([Example("words", TWO)], tmp_path)
    with pytest.raises(FileError, match="holds no examples"):
        open_arrow(tmp_path)
