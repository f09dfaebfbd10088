"""TREC runs: read as trec_eval reads them, written so that it sees the same order."""

from __future__ import annotations

import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rerank.errors import FileError, InputError
from rerank.io import read_run, run_scores, write_run
from rerank.io.float32 import shortest, strictly_falling
from rerank.types import Candidate, Document, Query, Ranking

LARGEST = float(np.finfo(np.float32).max)
TINIEST = float(np.finfo(np.float32).smallest_subnormal)

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([0.0, -0.0, TINIEST, -TINIEST, LARGEST, -LARGEST, 1e300, -1e300, 1e10, -1e10, 0.1, 1.0]),
)
score_lists = st.tuples(st.lists(numbers, max_size=12), st.integers(0, 6)).map(
    lambda parts: [*sorted(parts[0], reverse=True), *[None] * parts[1]]
)
words = st.text(min_size=1, max_size=6).filter(lambda word: word.split() == [word] and "\0" not in word)


def ranking(scores, query_id="q", doc_ids=None):
    doc_ids = doc_ids or [f"d{index}" for index in range(len(scores))]
    documents = [Document(doc_id, "text") for doc_id in doc_ids]
    return Ranking(Query(query_id, "text"), tuple(map(Candidate, documents, scores)))


def file_of(tmp_path, text, name="run.trec"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_order_is_by_float32_score_then_by_descending_id_and_the_rank_column_is_nothing(tmp_path):
    path = file_of(
        tmp_path,
        "q Q0 a 1 1.00000001 t\nq Q0 c 2 1.0 t\nq Q0 b 3 1 t\nq Q0 é 9 1e0 t\nq Q0 last 0 -3 t\nq Q0 top 7 2 t\n",
    )

    run = read_run(path)

    assert list(run["q"].items()) == [("top", 2.0), ("é", 1.0), ("c", 1.0), ("b", 1.0), ("a", 1.0), ("last", -3.0)]


def test_queries_keep_the_order_of_the_file_even_when_their_lines_are_mixed(tmp_path):
    path = file_of(tmp_path, "9 Q0 a 1 1 t\n10 Q0 a 1 1 t\n9 Q0 b 1 3 t\n")

    assert read_run(path) == {"9": {"b": 3.0, "a": 1.0}, "10": {"a": 1.0}}
    assert list(read_run(path)) == ["9", "10"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("q Q0 d 1 1.0", "6 fields make a line of a run, not 5: 'q Q0 d 1 1.0'"),
        ("q Q0 d e 1 1.0 t", "not 7"),
        ("q Q0 d 1 high t", "the score 'high' is no finite number: 'q Q0 d 1 high t'"),
        ("q Q0 d 1 nan t", "the score 'nan' is no finite number"),
        ("q Q0 d 1 -inf t", "the score '-inf' is no finite number"),
        ("q Q0 d 1 1_0 t", "the score '1_0' is no finite number"),
        ("q Q0 d 1 1e39 t", "too large for float32"),
        (b"q Q0 \xff 1 1.0 t", "no UTF-8"),
        ("q Q0 264", "not 3"),  # a torn last line
    ],
)
def test_a_malformed_line_is_named_and_shown(line, says, tmp_path):
    line = line if isinstance(line, bytes) else line.encode()
    path = file_of(tmp_path, b"q Q0 fine 1 1.0 t\n\n" + line)

    with pytest.raises(FileError) as caught:
        read_run(path)

    assert str(caught.value).startswith(f"{path}:3: ")
    assert says in str(caught.value)


def test_a_document_that_stands_twice_is_named_with_both_lines(tmp_path):
    path = file_of(tmp_path, "q Q0 a 1 3 t\nr Q0 b 1 3 t\nq Q0 b 2 2 t\nq Q0 c 2 2 t\nq Q0 b 3 1 t\n")

    with pytest.raises(FileError, match=r":5: document 'b' stands under query 'q' in line 3 too"):
        read_run(path)


def test_a_run_by_hand_is_written_as_trec_wants_it(tmp_path):
    write_run(tmp_path / "run.trec", [ranking([0.5, 0.5, None, None]), ranking([None, None], "r")], tag="mine")

    assert (tmp_path / "run.trec").read_text() == (
        "q Q0 d0 1 0.5 mine\nq Q0 d1 2 0.49999997 mine\nq Q0 d2 3 -0.5 mine\nq Q0 d3 4 -1.5 mine\n"
        "r Q0 d0 1 2.0 mine\nr Q0 d1 2 1.0 mine\n"
    )


@given(score_lists)
@example([-1e300] * 5)
@example([-LARGEST, -LARGEST, None, None])
@example([TINIEST, 0.0, -0.0, -TINIEST, None])
@example([1e10, None, None])
def test_written_scores_fall_strictly_in_float32_and_stay_as_near_as_they_can(scores):
    fallen = strictly_falling(scores)

    assert all(np.float32(better) > np.float32(worse) for better, worse in pairwise(fallen))
    assert all(np.isfinite(np.float32(score)) and float(np.float32(score)) == score for score in fallen)
    distinct = [float(np.clip(score, -LARGEST, LARGEST)) for score in scores if score is not None]
    distinct = [float(np.float32(score)) for score in distinct]
    if len(set(distinct)) == len(distinct) == len(scores):
        assert fallen == distinct


@given(st.integers(0, 2**32 - 1))
def test_the_text_of_a_score_gives_back_the_same_float32(bits):
    [number] = struct.unpack("<f", struct.pack("<I", bits))
    if number - number != 0:  # nan, infinity
        return

    text = shortest(number)

    assert np.float32(float(text)) == np.float32(number)
    assert len(text) <= len(repr(number))


@given(st.dictionaries(words, score_lists.filter(bool), min_size=1, max_size=2), st.data())
@settings(max_examples=60)
def test_what_was_written_is_read_in_the_same_order_by_us_and_by_trec_eval(run, data):
    rankings = []
    for query_id, scores in run.items():
        doc_ids = data.draw(st.lists(words, min_size=len(scores), max_size=len(scores), unique=True))
        rankings.append(ranking(scores, query_id, doc_ids))

    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder) / "run.trec.gz", rankings)
        read = read_run(Path(folder) / "run.trec.gz")

    assert [(query_id, list(scores)) for query_id, scores in read.items()] == [
        (each.query.query_id, [document.doc_id for document in each.documents]) for each in rankings
    ]
    assert [list(scores.items()) for scores in read.values()] == [
        list(s.items()) for s in run_scores(rankings).values()
    ]
    for query_id, scores in read.items():
        assert_trec_eval_sees(query_id, scores)


def assert_trec_eval_sees(query_id, scores):
    """The reciprocal rank of each document, were it the only relevant one, tells where trec_eval puts it."""
    for rank, doc_id in enumerate(scores, start=1):
        evaluator = pytrec_eval.RelevanceEvaluator({query_id: {doc_id: 1}}, {"recip_rank"})
        [measured] = evaluator.evaluate({query_id: scores}).values()
        assert measured["recip_rank"] == 1 / rank


def test_trec_eval_puts_a_run_that_was_read_in_the_same_order(shared):
    run = read_run(shared / "trec-dl19" / "runs" / "rep_llama.trec")  # three digits: full of ties

    query_id, scores = next(iter(run.items()))

    assert len(set(scores.values())) < len(scores)
    assert_trec_eval_sees(query_id, scores)


def test_the_bm25_run_of_dl19_is_read_whole_and_best_first(shared):
    run = read_run(shared / "trec-dl19" / "runs" / "bm25.trec")

    assert len(run) == 43
    assert {len(scores) for scores in run.values()} == {100}
    first = list(run["264014"].items())
    assert first[:2] == [("5611210", 15.780599594116211), ("6641238", 15.090800285339355)]
    for scores in run.values():
        assert list(scores.items()) == sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)


def test_a_real_run_survives_writing_and_reading(shared, tmp_path):
    run = read_run(shared / "trec-dl19" / "runs" / "rep_llama.trec")
    rankings = [ranking(list(scores.values()), query_id, list(scores)) for query_id, scores in run.items()]

    write_run(tmp_path / "again.trec", rankings)

    again = read_run(tmp_path / "again.trec")
    assert {query_id: list(scores) for query_id, scores in again.items()} == {
        query_id: list(scores) for query_id, scores in run.items()
    }
    write_run(tmp_path / "twice.trec", [ranking(list(s.values()), q, list(s)) for q, s in again.items()])
    assert (tmp_path / "twice.trec").read_bytes() == (tmp_path / "again.trec").read_bytes()


@pytest.mark.parametrize("word", ["", " ", "a b", "a\tb", "a\nb", "a\u00a0b", "a\u2028", "a\0b"])
def test_no_id_and_no_tag_may_part_the_columns(word, tmp_path):
    for rankings, tag in [
        ([ranking([1.0], query_id=word)], "t"),
        ([ranking([1.0], doc_ids=[word])], "t"),
        ([ranking([1.0])], word),
    ]:
        with pytest.raises(InputError, match="is empty or holds white space"):
            write_run(tmp_path / "run.trec", rankings, tag)
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_comes_twice_is_refused_and_leaves_no_file(tmp_path):
    with pytest.raises(InputError, match="two rankings are of query 'q'"):
        write_run(tmp_path / "run.trec", [ranking([1.0]), ranking([2.0])])
    with pytest.raises(InputError, match="two rankings are of query 'q'"):
        run_scores([ranking([1.0]), ranking([2.0])])
    assert list(tmp_path.iterdir()) == []


def test_a_ranking_without_candidates_leaves_no_trace_but_a_run_of_such_is_refused(tmp_path):
    assert run_scores([ranking([]), ranking([1.0], "r")]) == {"r": {"d0": 1.0}}
    with pytest.raises(InputError, match="there is no candidate to write"):
        write_run(tmp_path / "run.trec", [ranking([])])
    assert list(tmp_path.iterdir()) == []
