"""Several first stages as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank.datasets import Dataset
from rerank.errors import ConfigError, FileError, InputError, UnknownName
from rerank.io import write_beir, write_run
from rerank.pipeline import Pipeline, Stage
from rerank.types import Candidate, Document, Query, Ranking
from retrievers.bm25 import BM25
from retrievers.hybrid import Hybrid
from retrievers.saved import SavedRun

DOCUMENTS = [Document(name, f"text of {name}") for name in "abcdef"]
QUERY = Query("q", "text")


class Fixed(Stage):
    """Retrieves the same documents for every query."""

    def __init__(self, names: str, *, texts: str = "text of") -> None:
        self.name, self._texts = f"fixed-{names}", texts
        self._names = names

    def retrieve(self, queries, cutoff, *, exclude=None):
        found = [Document(name, f"{self._texts} {name}") for name in self._names]
        return [
            Ranking(query, tuple(Candidate(document, float(9 - n)) for n, document in enumerate(found)))[:cutoff]
            for query in queries
        ]


def ids(ranking: Ranking) -> str:
    return "".join(document.doc_id for document in ranking.documents)


def test_reciprocal_ranks_are_summed():
    [ranking] = Hybrid([Fixed("abc"), Fixed("cbd")]).retrieve([QUERY], 10)

    assert ids(ranking) == "cbad"
    assert ranking[0].score == pytest.approx(1 / 63 + 1 / 61)
    assert ranking[1].score == pytest.approx(1 / 62 + 1 / 62)


def test_weights_and_methods_are_those_of_fusion():
    hybrid = Hybrid([Fixed("abc"), Fixed("cbd")], method="weighted", weights=[1.0, 0.1])

    assert ids(hybrid.retrieve([QUERY], 2)[0]) == "ab"
    assert hybrid.name == "fixed-abc+fixed-cbd"


def test_it_asks_each_for_more_than_it_gives():
    assert ids(Hybrid([Fixed("abcd"), Fixed("dcba")], cutoff=2).retrieve([QUERY], 1)[0]) == "a"
    assert len(Hybrid([Fixed("abc"), Fixed("def")], cutoff=1).retrieve([QUERY], 6)[0]) == 6


def test_a_query_that_one_retriever_knows_nothing_of_gets_what_the_other_finds():
    assert ids(Hybrid([Fixed(""), Fixed("ab")]).retrieve([QUERY], 5)[0]) == "ab"
    assert len(Hybrid([Fixed(""), Fixed("")]).retrieve([QUERY], 5)[0]) == 0


@pytest.mark.parametrize(
    ("retrievers", "options", "error", "says"),
    [
        ([], {}, InputError, "two retrievers or more; there are none"),
        ([Fixed("a")], {}, InputError, "there is 1"),
        ([Fixed("a"), Fixed("b")], {"method": "rff"}, UnknownName, "did you mean 'rrf'"),
        ([Fixed("a"), Fixed("b")], {"weights": [1.0]}, InputError, "there are 2 runs but 1 weights"),
        ([Fixed("a"), Fixed("b")], {"method": "weighted"}, InputError, "needs weights"),
        ([Fixed("a"), Fixed("b")], {"cutoff": 0}, InputError, "hybrid: the cutoff is 0"),
    ],
)
def test_what_cannot_be_fused_is_refused_at_once(retrievers, options, error, says):
    with pytest.raises(error, match=says):
        Hybrid(retrievers, **options)


def test_two_collections_with_the_same_ids_are_noticed():
    hybrid = Hybrid([Fixed("ab"), Fixed("ba", texts="words of another")])

    with pytest.raises(InputError, match=r"two retrievers call different documents '.': .*; give retrievers over the"):
        hybrid.retrieve([QUERY], 5)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    write_beir(tmp_path / "small", DOCUMENTS, [QUERY], {"q": {"a": 1}})
    return Dataset.load(tmp_path / "small")


def test_a_pipeline_file_names_its_parts(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))
    write_run(tmp_path / "other.trec", BM25.of(dataset).retrieve([QUERY], 3), tag="x")
    parts = f'{{retriever = "bm25", k1 = 1.2}}, {{retriever = "saved", path = "{tmp_path / "other.trec"}"}}'
    (tmp_path / "p.toml").write_text(f'[[stage]]\nretriever = "hybrid"\nretrievers = [{parts}]\ncutoff = 4\n')

    pipeline = Pipeline.load(tmp_path / "p.toml", dataset)
    (tmp_path / "again.toml").write_text(pipeline.dump())

    assert len(pipeline.run([QUERY])[0]) == 4
    assert Pipeline.load(tmp_path / "again.toml", dataset).run([QUERY]) == pipeline.run([QUERY])
    assert pipeline.steps[0].name == "bm25+other.trec"


def test_a_part_that_is_no_retriever_is_named(dataset):
    with pytest.raises(ConfigError, match=r"retriever 2 of the hybrid is .*; write"):
        Hybrid.of(dataset, retrievers=[{"retriever": "bm25"}, {"model": "x"}])


def test_a_folder_of_runs_has_one_for_the_dataset(dataset, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    write_run(runs / "small.trec", BM25.of(dataset).retrieve([QUERY], 3), tag="x")
    write_run(runs / "other.trec", BM25.of(dataset).retrieve([QUERY], 1), tag="x")

    assert len(SavedRun(runs, dataset).retrieve([QUERY], 10)[0]) == 3

    (runs / "small.run").write_bytes((runs / "small.trec").read_bytes())
    with pytest.raises(FileError, match=r"holds small\.run and small\.trec for 'small'; keep one"):
        SavedRun(runs, dataset)
    (runs / "small.run").unlink()
    (runs / "small.trec").unlink()
    with pytest.raises(
        FileError, match=r"holds no run called small\.trec, for the dataset 'small'; it holds other\.trec"
    ):
        SavedRun(runs, dataset)
