"""A saved run as a first stage."""

from __future__ import annotations

import numpy as np
import pytest

from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.io import write_beir
from rerank.pipeline import Pipeline, Retriever
from rerank.types import Candidate, Document, Query, Ranking
from retrievers.saved import SavedRun

A, B, C = (Document(doc_id, f"text of {doc_id}") for doc_id in "abc")
ONE, TWO = Query("1", "one?"), Query("2", "two?")


@pytest.fixture
def dataset(tmp_path):
    write_beir(tmp_path / "mine", [A, B, C], [ONE, TWO], {"1": {"a": 1}})
    return Dataset.load(tmp_path / "mine")


@pytest.fixture
def saved(tmp_path, dataset):
    (tmp_path / "bm25.trec").write_text("1 Q0 a 1 1.0 t\n1 Q0 b 2 3.0 t\n1 Q0 c 3 1.0 t\n9 Q0 x 1 1.0 t\n")
    return SavedRun(tmp_path / "bm25.trec", dataset)


def test_it_retrieves_what_the_run_says_in_trec_evals_order(saved):
    [ranking] = saved.retrieve([ONE], 10)

    assert ranking == Ranking(ONE, (Candidate(B, 3.0), Candidate(C, 1.0), Candidate(A, 1.0)))


def test_a_query_that_the_run_lacks_has_an_empty_ranking(saved):
    assert saved.retrieve([TWO, ONE], 1) == [Ranking(TWO), Ranking(ONE, (Candidate(B, 3.0),))]


def test_excluded_documents_give_way_to_the_next(saved):
    [ranking] = saved.retrieve([ONE], 2, exclude={"1": ["b"], "2": ["a"]})

    assert ranking.documents == (C, A)


def test_the_query_comes_out_as_it_went_in(saved):
    expanded = Query("1", "one? one!", "an instruction")

    assert saved.retrieve([expanded], 1)[0].query is expanded


@pytest.mark.parametrize("cutoff", [0, -3, 1.5, True, np.int64(0)])
def test_a_cutoff_that_is_no_whole_number_above_zero_is_refused(saved, cutoff):
    with pytest.raises(InputError, match=r"the cutoff is .*; it must be a whole number of at least 1"):
        saved.retrieve([ONE], cutoff)


def test_a_document_that_the_dataset_lacks_is_named(saved):
    with pytest.raises(InputError, match="dataset 'mine' lacks document 'x'"):
        saved.retrieve([Query("9", "nine?")], 10)


def test_a_run_that_is_not_there_is_told_at_once(tmp_path, dataset):
    with pytest.raises(FileError, match="cannot read"):
        SavedRun(tmp_path / "nothing", dataset)


def test_it_stands_in_a_pipeline(saved, tmp_path, dataset):
    assert isinstance(saved, Retriever)
    assert [ranking.documents for ranking in (saved % 1 % 2).run([ONE])] == [(B,)]
    (tmp_path / "pipeline.toml").write_text(
        f'[[stage]]\nretriever = "saved"\npath = "{(tmp_path / "bm25.trec").as_posix()}"\ncutoff = 2\n'
    )
    assert [ranking.documents for ranking in Pipeline.load(tmp_path / "pipeline.toml", dataset).run([ONE])] == [(B, C)]


def test_a_real_run_is_retrieved_with_its_texts(shared):
    dataset = Dataset.load(shared / "trec-dl19")

    rankings = SavedRun(shared / "trec-dl19" / "runs" / "bm25.trec", dataset).retrieve(dataset.queries, 5)

    assert [ranking.query for ranking in rankings] == dataset.queries
    assert {len(ranking) for ranking in rankings} == {5}
