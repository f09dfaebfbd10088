"""Judgments and BEIR folders."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank.errors import FileError, InputError
from rerank.io import read_corpus, read_qrels, read_queries, write_beir, write_qrels
from rerank.types import Document, Query

WRONG_QRELS = [
    ("q\td\n", ":1: 2 columns where 3 (BEIR) or 4 (TREC) are wanted"),
    ("q\td\t1\nq 0 e 1\n", ":2: 4 columns where 3 are wanted"),
    ("q 0 d 1\nq 0 e\n", ":2: 3 columns where 4 are wanted"),
    ("q 0 d 1.5\n", ":1: the relevance '1.5' is no whole number: 'q 0 d 1.5'"),
    ("query-id\tcorpus-id\tscore\nq\td\thigh\n", ":2: the relevance 'high' is no whole number"),
    ("q 0 d 1000000\nq 0 e -1000001\n", ":2: the relevance '-1000001' is beyond ±1,000,000: 'q 0 e -1000001'"),
    ("q\td\t99999999999999999999\n", ":1: the relevance '99999999999999999999' is beyond ±1,000,000"),
    ("q 0 d " + "9" * 6000, ":1: the relevance '999"),
    ("topic\tdocument\trelevance\nq\td\t1\n", ":1: the relevance 'relevance' is no whole number"),
    ("q\t\t1\n", ":1: 3 columns"),
    ("q 0 d 1\n\nr 0 d 1\nq 0 d 1\n", ":4: document 'd' is judged for query 'q' in line 1 too"),
    ("query-id\tcorpus-id\tscore\n", "holds a header line and no judgment"),
]
WRONG_CORPORA = [
    ('{"text": "t"}\n', ":1: '_id' is missing; an id"),
    ('{"_id": "", "text": "t"}\n', ":1: '_id' is ''"),
    ('{"_id": true, "text": "t"}\n', ":1: '_id' is True"),
    ('{"_id": "a"}\n', ":1: 'text' is missing; a text is wanted"),
    ('{"_id": "a", "text": "t"}\n{"_id": "b", "text": null}\n', ":2: 'text' is None; a text is wanted"),
    ('{"_id": "a", "text": "t", "title": 3}\n', ":1: 'title' is 3; a text is wanted"),
    ('{"_id": "a", "text": "t"}\n\n{"_id": "a", "text": "u"}\n', ":3: the document id 'a' stands in line 1 too"),
    ('{"_id": "a", "text": "t"}\n{"_id": "b", "te', ":2: no JSON (Unterminated string"),
    ('{"_id": ' + "9" * 6000 + ', "text": "t"}', ":1: no JSON (Exceeds the limit"),
    ('{"_id": "a", "text": "t"}\n["b"]\n', """:2: a JSON object should stand here: '["b"]'"""),
    (b'{"_id": "a", "text": "\xff"}\n', ":1: no UTF-8 (byte 23 of the text)"),
]
WRONG_QUERIES = [
    ('{"_id": "a", "text": "t"}\n{"_id": "b", "text": ""}\n', ":2: query 'b' has no text"),
    ('{"_id": "a"}\n', ":1: query 'a' has no text"),
    ('{"text": "t"}\n', ":1: '_id' is missing"),
    ('{"_id": "a", "text": "t"}\n{"_id": "a", "text": "u"}\n', ":2: the query id 'a' stands in line 1 too"),
]

ids = st.text(min_size=1, max_size=5).filter(lambda word: word.split() == [word])
texts = st.text(max_size=9)


def file_of(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq é\t1\t2\nq é\t2\t-1\n",
        "q é\t1\t2\nq é\t2\t-1\n",
        "q é\t0\t1\t2\r\nq é\t0\t2\t-1\r\n",
        b"\xef\xbb\xbf" + "query-id\tcorpus-id\tscore\nq é\t1\t2\nq é\t2\t-1".encode(),
        gzip.compress("q é\t1\t+2\nq é\t2\t-1\n".encode()),
    ],
)
def test_qrels_of_every_shape_say_the_same(content, tmp_path):
    assert read_qrels(file_of(tmp_path, content)) == {"q é": {"1": 2, "2": -1}}


def test_qrels_with_blanks_between_the_columns_are_trecs(tmp_path):
    assert read_qrels(file_of(tmp_path, "q 0 a 1\nq  0  b  0\nr Q0 a 3\n")) == {"q": {"a": 1, "b": 0}, "r": {"a": 3}}


@pytest.mark.parametrize(("content", "says"), WRONG_QRELS)
def test_wrong_qrels_are_told_with_path_and_line(content, says, tmp_path):
    assert_refused(read_qrels, content, says, tmp_path)


@pytest.mark.parametrize(("content", "says"), WRONG_CORPORA)
def test_a_wrong_corpus_is_told_with_path_and_line(content, says, tmp_path):
    assert_refused(read_corpus, content, says, tmp_path)


@pytest.mark.parametrize(("content", "says"), WRONG_QUERIES)
def test_wrong_queries_are_told_with_path_and_line(content, says, tmp_path):
    assert_refused(read_queries, content, says, tmp_path)


def assert_refused(reader, content, says, tmp_path):
    path = file_of(tmp_path, content)

    with pytest.raises(FileError) as caught:
        list(reader(path))

    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_document_may_have_no_title_no_words_and_a_number_for_an_id(tmp_path):
    path = file_of(tmp_path, '{"_id": 7, "text": "", "title": null, "metadata": {}}\n{"_id": "x", "text": "t"}')

    assert list(read_corpus(path)) == [Document("7", ""), Document("x", "t")]


def test_readers_hold_one_line_at_a_time(tmp_path):
    documents = read_corpus(file_of(tmp_path, '{"_id": "a", "text": "t"}\nnonsense\n'))

    assert next(documents) == Document("a", "t")
    with pytest.raises(FileError):
        next(documents)


@pytest.mark.parametrize("name", ["qrels.tsv", "qrels.tsv.gz", "qrels.txt"])
@given(qrels=st.dictionaries(ids, st.dictionaries(ids, st.integers(-9, 9), min_size=1), min_size=1))
@settings(max_examples=15)
def test_written_qrels_are_read_back(name, qrels):
    with tempfile.TemporaryDirectory() as folder:
        write_qrels(Path(folder) / name, qrels)

        assert read_qrels(Path(folder) / name) == qrels


@given(
    documents=st.lists(st.builds(Document, ids, texts, texts), min_size=1, unique_by=lambda document: document.doc_id),
    queries=st.lists(
        st.builds(Query, ids, texts.filter(str.strip), texts), min_size=1, unique_by=lambda query: query.query_id
    ),
)
@settings(max_examples=25)
def test_a_written_folder_is_read_back(documents, queries):
    qrels = {queries[0].query_id: {documents[0].doc_id: 1}}
    with tempfile.TemporaryDirectory() as folder:
        write_beir(Path(folder) / "new", iter(documents), iter(queries), qrels, "dev")

        assert list(read_corpus(Path(folder) / "new" / "corpus.jsonl")) == documents
        assert list(read_queries(Path(folder) / "new" / "queries.jsonl")) == queries
        assert read_qrels(Path(folder) / "new" / "qrels" / "dev.tsv") == qrels


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    document, query = Document("a", "t"), Query("q", "t")
    for documents, queries, qrels in [
        ([document, document], [query], {"q": {"a": 1}}),
        ([Document("", "t")], [query], {"q": {"a": 1}}),
        ([], [query], {"q": {"a": 1}}),
        ([document], [], {"q": {"a": 1}}),
        ([document], [query], {}),
        ([document], [query], {"q q": {"a": 1}}),
        ([document], [query], {"q": {"a": 1_000_001}}),
        ([document], [query], {"q": {"a": 0.5}}),
        ([document], [query], {"q": {"a": True}}),
    ]:
        with pytest.raises(InputError):
            write_beir(tmp_path, documents, queries, qrels)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(FileError, match="cannot make the folder"):
        write_beir(tmp_path / "file", [Document("a", "t")], [Query("q", "t")], {"q": {"a": 1}})


REAL = [  # folder, ids of the first, middle and last document, documents, queries, queries judged, judgments
    ("noveleval", ("0-0", "10-10", "20-19"), 420, 21, 21, 420),
    ("scifact", ("4983", "16119973", "198309074"), 5183, 1109, 300, 339),
    ("trec-dl19", ("5611210", "7756780", "5107039"), 14581, 43, 43, 9260),
    ("cranfield", ("1", "701", "1400"), 1400, 225, 225, 1837),
]


@pytest.mark.parametrize(("name", "doc_ids", "documents", "queries", "judged", "judgments"), REAL)
def test_real_collections_are_read_whole(shared, name, doc_ids, documents, queries, judged, judgments):
    corpus = list(read_corpus(shared / name / "corpus.jsonl"))
    qrels = read_qrels(shared / name / "qrels" / "test.tsv")

    assert len(corpus) == documents
    assert tuple(corpus[index].doc_id for index in (0, documents // 2, -1)) == doc_ids
    assert len(list(read_queries(shared / name / "queries.jsonl"))) == queries
    assert (len(qrels), sum(map(len, qrels.values()))) == (judged, judgments)
