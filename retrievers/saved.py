"""A saved run as a first stage, or a folder of them, one for each dataset."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path

from rerank.datasets import Dataset
from rerank.errors import FileError
from rerank.io import read_run
from rerank.pipeline import NO_EXCLUSIONS, Stage, check_cutoff
from rerank.types import Candidate, Query, Ranking
from retrievers.exclusions import excluded

__all__ = ["SavedRun"]


class SavedRun(Stage):
    """Retrieves what a TREC run says, in trec_eval's order: `SavedRun("bm25.trec", dataset) % 100 >> reranker`.

    Args:
        path: the run; or a folder of runs, of which the one is taken that is called like the dataset: `scifact.trec`,
            `bright-biology.trec.gz`. A slash in the dataset's name is a hyphen in the file's.
        dataset: where its documents' texts are.

    Raises:
        FileError: when the run cannot be read or is malformed, or the folder has none for the dataset, or several.
    """

    def __init__(self, path: str | Path, dataset: Dataset) -> None:
        chosen = _of_dataset(Path(path), dataset.name) if Path(path).is_dir() else Path(path)
        self.name = chosen.name
        self._dataset, self._run = dataset, read_run(chosen)

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The first `cutoff` documents of each query in the run; a query that the run lacks has an empty ranking.

        Args:
            queries: found in the run by their ids; their texts may differ from the dataset's.
            cutoff: how many documents, at least 1; fewer where the run holds fewer.
            exclude: query_id -> ids of documents to leave out; the next in the run take their places.

        Raises:
            InputError: when the cutoff is no whole number of at least 1, an exclusion is one str, or the dataset lacks
                a document of the run.
        """
        check_cutoff(self.name, cutoff)
        best = [self._best(query.query_id, cutoff, excluded(exclude, query.query_id)) for query in queries]
        documents = self._dataset.look_up({doc_id for scored in best for doc_id in scored})
        return [
            Ranking(query, tuple(Candidate(documents[doc_id], score) for doc_id, score in scored.items()))
            for query, scored in zip(queries, best, strict=True)
        ]

    def _best(self, query_id: str, cutoff: int, without: frozenset[str]) -> dict[str, float]:
        scored = self._run.get(query_id, {}).items()
        return dict(islice((item for item in scored if item[0] not in without), cutoff))


def _of_dataset(folder: Path, name: str) -> Path:
    stem = name.replace("/", "-")
    found = [path for path in sorted(folder.iterdir()) if path.name.removesuffix(".gz") in _names(stem)]
    if len(found) == 1:
        return found[0]
    if found:
        raise FileError(f"{folder} holds {' and '.join(path.name for path in found)} for {name!r}; keep one of them")
    there = ", ".join(path.name for path in sorted(folder.iterdir())[:5]) or "nothing"
    raise FileError(f"{folder} holds no run called {stem}.trec, for the dataset {name!r}; it holds {there}")


def _names(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}{ending}" for ending in (".trec", ".run", ".txt"))
