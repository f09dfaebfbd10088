"""Approximate search over weights of terms, through Seismic: it opens the blocks of documents that promise most.

Bruch et al., 2024, https://arxiv.org/abs/2404.18812. Which documents are found is its choice; what they score is
computed from the postings, so that it is what the exact search says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank.errors import InputError
from rerank.registry import extra_for
from retrievers.postings import Postings, Rows, best, load_rows

if TYPE_CHECKING:
    from retrievers.splade import Options, Weighed

__all__ = ["ApproximateTerms", "build", "check"]

NAME = "terms"
ENDING = ".index.seismic"

SMALL_VOCABULARY = 2**16
"""Terms that Seismic's usual index tells apart; another one takes more, and more room."""


class ApproximateTerms:
    """Seismic's index of a folder.

    Args:
        folder: of the index.
        postings: the weights, by which what is found is scored.
        options: how much of it a search opens.

    Raises:
        MissingExtra: when Seismic is not installed.
    """

    def __init__(self, folder: Path, postings: Postings, options: Options) -> None:
        self._postings, self._options = postings, options
        self._seismic = _seismic()
        self._index = self._kind.load(str(folder / f"{NAME}{ENDING}"))

    @property
    def _kind(self) -> Any:
        return _kinds(self._seismic, len(self._postings.starts) - 1)[1]

    def search(self, queries: Sequence[Weighed], counts: Sequence[int]) -> list[tuple[list[int], list[float]]]:
        """Indices and scores of what is found for each query, best first; equal scores by their index."""
        found: list[tuple[list[int], list[float]]] = [([], []) for _ in queries]
        asked = [place for place, terms in enumerate(queries) if terms]
        if not asked:
            return found
        width = self._seismic.get_seismic_string()
        said = self._index.batch_search(
            np.array([str(place) for place in asked], width),
            [np.array([str(term) for term, _ in queries[place]], width) for place in asked],
            [np.array([weight for _, weight in queries[place]], np.float32) for place in asked],
            max(counts),
            self._options.query_cut,
            self._options.heap_factor,
        )
        for near in filter(None, said):  # in any order; each names its query
            place = int(near[0][0])
            documents = np.array(sorted(int(document) for _, _, document in near))
            scores = self._postings.scores_of(queries[place], documents)
            order, exact = best(scores, counts[place])
            found[place] = documents[order].tolist(), exact
        return found


def check(options: Options) -> None:
    """Refuse what cannot be built, before anything is encoded.

    Raises:
        MissingExtra: when Seismic is asked for and not installed.
    """
    if options.search == "seismic":
        _seismic()


def build(shards: Sequence[Path], folder: Path, options: Options, terms: int) -> None:
    """Build the index beside the postings; nothing for exact search."""
    if options.search != "seismic":
        return
    dataset_of, index_of = _kinds(_seismic(), terms)
    dataset, first = dataset_of(dim=terms), 0
    for rows in map(load_rows, shards):
        _add(dataset, rows, first)
        first += len(rows.counts)
    if not dataset.len:
        raise InputError(
            "no document has a term that weighs anything, and there is nothing to build Seismic's index of"
        )
    with _silent():
        index_of.build_from_dataset(dataset, n_postings=options.postings).save(str(folder / NAME))


def _add(dataset: Any, rows: Rows, first: int) -> None:
    """The documents of a shard, called by their indices."""
    starts = np.concatenate([[0], rows.counts.cumsum()]).astype(np.int64)
    names = [str(index) for index in range(first, first + len(rows.counts))]
    dataset.add_documents_by_id(names, rows.terms.astype(np.int64), rows.weights, starts)


def _kinds(seismic: Any, terms: int) -> tuple[Any, Any]:
    """What holds documents, and the index of them, for a vocabulary of this size."""
    if terms <= SMALL_VOCABULARY:
        return seismic.SeismicDataset, seismic.SeismicIndex
    return seismic.SeismicDatasetLV, seismic.SeismicIndexLV


@contextmanager
def _silent() -> Iterator[None]:
    """Seismic tells standard output what it does, where the result of a command belongs; nobody hears it here."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _seismic() -> Any:
    try:
        import seismic
    except ModuleNotFoundError as error:
        raise extra_for("approximate search of terms", "seismic") from error
    return seismic
