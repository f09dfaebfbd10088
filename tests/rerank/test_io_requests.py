"""JSONL requests, of our own shape and of rank_llm's."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.errors import FileError, InputError
from rerank.io import read_requests, run_scores, write_requests
from rerank.types import Candidate, Document, Query, Ranking

OURS = {"query": {"query_id": "q", "text": "t"}, "candidates": [{"doc_id": "a", "text": "x", "score": 2}]}
THEIRS = {"query": {"qid": 7, "text": "t"}, "candidates": [{"docid": 3, "score": 1.5, "doc": {"contents": "x"}}]}

texts = st.text(max_size=9)
ids = st.text(min_size=1, max_size=5)
floats = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def ranking_lists(draw):
    queries = draw(
        st.lists(
            st.builds(Query, ids, texts.filter(str.strip), texts),
            min_size=1,
            max_size=3,
            unique_by=lambda q: q.query_id,
        )
    )
    return [draw(rankings_of(query)) for query in queries]


@st.composite
def rankings_of(draw, query):
    documents = draw(
        st.lists(st.builds(Document, ids, texts, texts), min_size=1, max_size=5, unique_by=lambda d: d.doc_id)
    )
    scored = draw(st.integers(0, len(documents)))
    scores = sorted(draw(st.lists(floats, min_size=scored, max_size=scored)), reverse=True)
    return Ranking(query, tuple(map(Candidate, documents, [*scores, *[None] * (len(documents) - scored)])))


def file_of(tmp_path, *records):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def changed(record, path, value):
    """The record with one value, named by its path, replaced; taken out when the value is `...`."""
    record = json.loads(json.dumps(record))
    *parents, last = path
    part = record
    for key in parents:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return record


def test_both_shapes_are_read_from_one_file(tmp_path):
    ours, theirs = read_requests(file_of(tmp_path, OURS, THEIRS))

    assert ours == Ranking(Query("q", "t"), (Candidate(Document("a", "x"), 2.0),))
    assert type(ours[0].score) is float
    assert theirs == Ranking(Query("7", "t"), (Candidate(Document("3", "x"), 1.5),))


@pytest.mark.parametrize("key", ["contents", "text", "segment", "body", "passage", "content"])
def test_rank_llms_texts_are_found_wherever_they_stand(key, tmp_path):
    doc = {"title": "a title", key: "the text", "url": "https://example.org"}

    [ranking] = read_requests(file_of(tmp_path, changed(THEIRS, ["candidates", 0, "doc"], doc)))

    assert ranking[0].document == Document("3", "the text", "a title")


def test_the_order_of_the_file_is_kept_and_scores_may_be_left_out(tmp_path):
    candidates = [{"doc_id": "b", "text": "x"}, {"doc_id": "a", "text": "x", "score": None}]

    [ranking] = read_requests(file_of(tmp_path, changed(OURS, ["candidates"], candidates)))

    assert [(candidate.document.doc_id, candidate.score) for candidate in ranking] == [("b", None), ("a", None)]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (changed(OURS, ["query"], ...), "'query' is None; a JSON object is wanted"),
        (changed(OURS, ["query", "query_id"], ...), "a query has a 'query_id' (our shape) or a 'qid' (rank_llm's)"),
        (changed(OURS, ["query", "qid"], "1"), "a query has a 'query_id' (our shape) or a 'qid' (rank_llm's)"),
        (changed(OURS, ["query", "query_id"], 1.5), "'query_id' is 1.5; an id"),
        (changed(OURS, ["query", "text"], " "), "query 'q' has no text"),
        (changed(OURS, ["query", "text"], ...), "'text' is missing"),
        (changed(OURS, ["candidates"], []), "'candidates' is []; a list of at least one is wanted"),
        (changed(OURS, ["candidates"], ...), "'candidates' is None"),
        (changed(OURS, ["candidates", 0], "a"), "candidate 1 is 'a'; a JSON object is wanted"),
        (changed(OURS, ["candidates", 0, "text"], ...), "candidate 1: 'text' is missing"),
        (changed(OURS, ["candidates", 0, "score"], "2"), "candidate 1: 'score' is '2'; a number is wanted"),
        (changed(OURS, ["candidates", 0, "score"], float("nan")), "scores are finite"),
        (changed(OURS, ["candidates", 0, "score"], 10**400), "is too large for a float"),
        (changed(OURS, ["candidates"], OURS["candidates"] * 2), "document 'a' occurs twice"),
        (
            changed(OURS, ["candidates"], [*OURS["candidates"], {"doc_id": "b", "text": "", "score": 3}]),
            "not best first: 'b' (3.0) stands below 'a' (2.0); sort the candidates or leave the scores out",
        ),
        (
            changed(OURS, ["candidates"], [{"doc_id": "b", "text": ""}, *OURS["candidates"]]),
            "not best first: 'a' (2.0) stands below 'b' (None); sort",
        ),
        (changed(THEIRS, ["candidates", 0, "doc"], {"html": ""}), "'doc' has none of 'text', 'segment', 'contents'"),
        (changed(THEIRS, ["candidates", 0, "doc"], "x"), "'doc' is 'x'; a JSON object is wanted"),
        (changed(OURS, ["query", "query_id"], "fine"), "the query id 'fine' stands in line 1 too"),
    ],
)
def test_a_wrong_request_is_told_with_path_and_line(record, says, tmp_path):
    path = file_of(tmp_path, changed(OURS, ["query", "query_id"], "fine"), record)

    with pytest.raises(FileError) as caught:
        list(read_requests(path))

    assert str(caught.value).startswith(f"{path}:2: ")
    assert str(caught.value).count(str(path)) == 1
    assert says in str(caught.value)


@given(ranking_lists())
@settings(max_examples=30)
def test_our_shape_gives_back_what_was_written(rankings):
    with tempfile.TemporaryDirectory() as folder:
        write_requests(Path(folder) / "requests.jsonl.gz", iter(rankings))

        assert list(read_requests(Path(folder) / "requests.jsonl.gz")) == rankings


@given(ranking_lists())
@settings(max_examples=30)
def test_rank_llms_shape_gives_back_what_was_written_and_a_score_for_all(rankings):
    with tempfile.TemporaryDirectory() as folder:
        write_requests(Path(folder) / "requests.jsonl", rankings, shape="rank_llm")
        again = list(read_requests(Path(folder) / "requests.jsonl"))

    assert [(each.query, each.documents) for each in again] == [(each.query, each.documents) for each in rankings]
    for read, written in zip(again, rankings, strict=True):
        scores = [candidate.score for candidate in written]
        assert None in scores or [candidate.score for candidate in read] == scores
        assert None not in [candidate.score for candidate in read]


def test_a_file_for_rank_llm_by_hand(tmp_path):
    documents = (Candidate(Document("a", "x", "title"), 1.5), Candidate(Document("b", "y")))
    ranking = Ranking(Query("7", "grüße"), documents)

    write_requests(tmp_path / "requests.jsonl", [ranking], shape="rank_llm")

    assert (tmp_path / "requests.jsonl").read_text(encoding="utf-8") == (
        '{"query": {"qid": "7", "text": "grüße"}, "candidates": ['
        '{"docid": "a", "score": 1.5, "doc": {"title": "title", "contents": "x"}}, '
        '{"docid": "b", "score": 0.5, "doc": {"contents": "y"}}]}\n'
    )
    assert run_scores([ranking]) == {"7": {"a": 1.5, "b": 0.5}}


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    ranking = Ranking(Query("q", "t"), (Candidate(Document("a", "x")),))
    for rankings, shape, says in [
        ([ranking, ranking], "rerank", "query 'q' has no candidate or comes twice"),
        ([Ranking(Query("q", "t"))], "rerank", "query 'q' has no candidate or comes twice"),
        ([], "rerank", "there is no ranking to write"),
        ([ranking], "rankllm", "no shape 'rankllm'; there is 'rerank', 'rank_llm'"),
    ]:
        with pytest.raises(InputError, match=says):
            write_requests(tmp_path / "requests.jsonl", rankings, shape)
    assert list(tmp_path.iterdir()) == []
