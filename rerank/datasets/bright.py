"""BRIGHT (Su et al., 2024, https://arxiv.org/abs/2407.12883) in the layout in which it is published: parquet files.

`documents/SUBSET-….parquet` and `long_documents/SUBSET-….parquet` hold id and content, `examples/SUBSET-….parquet` the
queries with the ids of their gold documents and of those that must not be retrieved for them. `gpt4_reason/` and its
like hold the same examples with a query that a language model wrote.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from rerank.errors import FileError, InputError
from rerank.registry import extra_for, unknown
from rerank.types import Document, Qrels, Query

__all__ = ["REPOSITORY", "SUBSETS", "Bright", "is_bright"]

REPOSITORY = "xlangai/BRIGHT"

SUBSETS = (
    "aops",
    "biology",
    "earth_science",
    "economics",
    "leetcode",
    "pony",
    "psychology",
    "robotics",
    "stackoverflow",
    "sustainable_living",
    "theoremqa_questions",
    "theoremqa_theorems",
)

WITHOUT_LONG = ("aops", "leetcode", "theoremqa_questions", "theoremqa_theorems")
"""Subsets whose documents are never cut up: they have no long split."""

NONE = "N/A"
"""What stands in a list of ids that is empty."""


class Bright:
    """One subset.

    Args:
        subset: of `SUBSETS`.
        split: "long" for whole pages in place of their passages; the name of another folder of examples, such as
            "gpt4_reason", for its queries; or both, "long/gpt4_reason". None: passages, and the queries as people
            asked them.
        folder: where the files are; None: the hub's cache, and the hub.

    Raises:
        UnknownName: when there is no such subset.
        InputError: when it has no long documents.
    """

    def __init__(self, subset: str, split: str | None = None, *, folder: Path | None = None) -> None:
        if subset not in SUBSETS:
            raise unknown("subset of BRIGHT", subset, SUBSETS)
        parts = [part for part in (split or "").split("/") if part]
        self.long = "long" in parts
        others = [part for part in parts if part not in ("long", "standard")]
        if len(others) > 1:
            raise InputError(f"a split of BRIGHT names one folder of queries, and {split!r} names {len(others)}")
        if self.long and subset in WITHOUT_LONG:
            raise InputError(f"BRIGHT's {subset} has no long documents; leave out the split 'long'")
        self.subset, self.folder = subset, folder
        self.examples = others[0] if others else "examples"

    def documents(self) -> Iterator[Document]:
        """All documents, one at a time."""
        for row in self._rows(self._kind, ["id", "content"]):
            yield Document(str(row["id"]), str(row["content"]))

    def corpus_key(self) -> str:
        """The files, their sizes, and when they were last changed."""
        stats = [(path, path.stat()) for path in self._files(self._kind)]
        return " ".join(f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)

    def find(self, doc_ids: Collection[str]) -> dict[str, Document]:
        """Those of these documents that there are, in one pass that keeps no others."""
        return {document.doc_id: document for document in self.documents() if document.doc_id in doc_ids}

    def queries(self) -> list[Query]:
        """All queries."""
        return [Query(str(row["id"]), str(row["query"])) for row in self._examples]

    def qrels(self) -> Qrels:
        """Every gold document is worth 1."""
        gold = "gold_ids_long" if self.long else "gold_ids"
        return {str(row["id"]): dict.fromkeys(_ids(row[gold]), 1) for row in self._examples if _ids(row[gold])}

    def excluded(self) -> Mapping[str, frozenset[str]]:
        """query_id -> documents that must not be retrieved for it: near copies of the query."""
        return {str(row["id"]): frozenset(_ids(row["excluded_ids"])) for row in self._examples}

    @property
    def _kind(self) -> str:
        return "long_documents" if self.long else "documents"

    @cached_property
    def _examples(self) -> list[dict[str, Any]]:
        gold = "gold_ids_long" if self.long else "gold_ids"
        return list(self._rows(self.examples, ["id", "query", "excluded_ids", gold]))

    def _rows(self, kind: str, columns: list[str]) -> Iterator[dict[str, Any]]:
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            raise extra_for("BRIGHT", "pyarrow") from error
        for path in self._files(kind):
            try:
                with parquet.ParquetFile(path) as file:
                    _check_columns(path, columns, file.schema_arrow.names)
                    for batch in file.iter_batches(batch_size=1024, columns=columns):
                        yield from batch.to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                raise FileError(f"{path} cannot be read as a parquet file of BRIGHT: {_first_line(error)}") from error

    def _files(self, kind: str) -> list[Path]:
        place = self.folder if self.folder is not None else self._fetched(kind)
        found = sorted([*place.glob(f"{kind}/{self.subset}-*.parquet"), *place.glob(f"{kind}/{self.subset}.parquet")])
        if not found:
            raise FileError(
                f"{place} holds no {kind}/{self.subset}-00000-of-00001.parquet; get it from "
                f"https://huggingface.co/datasets/{REPOSITORY}"
            )
        return found

    def _fetched(self, kind: str) -> Path:
        """The hub's own cache; asked over the network only for what is not there."""
        from huggingface_hub import snapshot_download

        wanted: dict[str, Any] = {"repo_type": "dataset", "allow_patterns": [f"{kind}/{self.subset}*.parquet"]}
        try:
            place = Path(snapshot_download(REPOSITORY, local_files_only=True, **wanted))
            if any(place.glob(f"{kind}/{self.subset}*.parquet")):
                return place
        except (OSError, ValueError):  # nothing of it is here
            pass
        try:
            return Path(snapshot_download(REPOSITORY, etag_timeout=4.0, **wanted))
        except Exception as error:  # transport errors are of other libraries' kinds, which change with their versions
            raise FileError(
                f"BRIGHT's {kind}/{self.subset} cannot be had from the hub ({_first_line(error)}); without it, copy "
                f"documents/, long_documents/ and examples/ of https://huggingface.co/datasets/{REPOSITORY} into a "
                f"folder, and name that: --dataset FOLDER --split {self.subset}"
            ) from error


def is_bright(folder: Path) -> bool:
    """Whether a folder holds BRIGHT's files."""
    return any(folder.glob("examples/*.parquet")) and any(folder.glob("*documents/*.parquet"))


def _check_columns(path: Path, wanted: list[str], found: list[str]) -> None:
    if missing := [column for column in wanted if column not in found]:
        raise FileError(f"{path} lacks the column {missing[0]!r}; it has {', '.join(found)}")


def _ids(given: Any) -> list[str]:
    """Each once, in the order given."""
    return [name for name in dict.fromkeys(map(str, given or [])) if name != NONE]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
