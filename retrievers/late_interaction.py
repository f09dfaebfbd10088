"""Late interaction as a first stage: every token of every document keeps a vector, and all of them are compared.

For collections that fit: 96 numbers for each of 250 tokens are 48 KB a document in float16.

>>> colbert = LateInteraction.build(documents, folder, model="answerdotai/answerai-colbert-small-v1")
>>> colbert.retrieve([Query("q", "which birds?")], cutoff=10)[0][0].document.doc_id
'2'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank import checkpoints, config
from rerank.datasets import Dataset
from rerank.errors import FileError, InputError
from rerank.pipeline import NO_EXCLUSIONS, Stage, check_cutoff
from rerank.registry import unknown
from rerank.types import Document, Query, Ranking
from retrievers.documents import DocumentStore, DocumentWriter
from retrievers.exclusions import excluded
from retrievers.index import Manifest, cached_index, check_corpus, growing_folder, read_manifest, write_manifest
from retrievers.progress import tracked
from retrievers.rankings import Rankings
from retrievers.shards import Shards, written
from retrievers.token_vectors import TokenVectors, exact_search, join, save_shard
from retrievers.vectors import PRECISIONS

if TYPE_CHECKING:
    from rerank.judges.late_interaction import LateInteraction as Judge

__all__ = ["LateInteraction", "Options"]

FORMAT = 1

SHARD = 1024
"""Documents that are encoded, and written, together: their vectors are in memory as float32."""


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the vectors and how they are kept.

    Args:
        model: a name, a hub id or a folder: sentence-transformers' multi-vector layout, PyLate's, ColBERT's own, or any
            encoder, whose tokens' states are compared as they are.
        precision: how vectors are kept: float16, float32 or int8.
        max_tokens: the most tokens of a document; 0 for as many as the model says.
        query_tokens: the most tokens of a query; 0 for as many as the model says.
        expansion: how queries are filled up with [MASK]: "unseen", "seen" or "none"; "" for what the model says.
        punctuation: whether a document's punctuation counts; None for what the model says.
        query_prompt, document_prompt: put in front of texts; None for what the model says.

    Raises:
        InputError: when a value is outside its range.
    """

    model: str
    precision: str = "float16"
    max_tokens: int = 0
    query_tokens: int = 0
    expansion: str = ""
    punctuation: bool | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        for name in ("max_tokens", "query_tokens"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}; it must be at least 0")


class LateInteraction(Stage):
    """Retrieves by MaxSim from an index on disk; `build` makes one, `open` opens it.

    ColBERT (Khattab and Zaharia, 2020, https://arxiv.org/abs/2004.12832) and its kin, as the judge of that name reads
    them. The search is exact: scores are sums over query tokens of the greatest product with a document's token, in
    float32, those of the judge up to what the vectors lose in float16 or int8. Equal scores keep the order of the
    collection. A query's instruction is not read; put it into `query_prompt`.
    """

    name = "late-interaction"

    def __init__(self, folder: str | Path, *, device: str | None = None) -> None:
        """Open an index; see `open`."""
        self.folder, self.device = Path(folder), device
        self.manifest = read_manifest(self.folder, self.name, FORMAT)
        self.options = config.build(Options, self.manifest.options, f"{self.folder}: options")
        self.documents = DocumentStore(self.folder)
        self.vectors = TokenVectors(self.folder)

    @classmethod
    def open(cls, folder: str | Path, *, device: str | None = None) -> LateInteraction:
        """Open an index that `build` made; the model is loaded when the first query is asked.

        Args:
            folder: where it lies.
            device: of the model and of the search: "cpu", "cuda" …; CUDA where there is one.

        Raises:
            FileError: when there is no index, or it is torn, of another kind or from an incompatible version.
        """
        return cls(folder, device=device)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        model: str,
        precision: str = "float16",
        max_tokens: int = 0,
        query_tokens: int = 0,
        expansion: str = "",
        punctuation: bool | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        device: str | None = None,
        source: str = "",
        total: int | None = None,
        progress: bool | None = None,
    ) -> LateInteraction:
        """Encode documents and open the index.

        What was encoded is on the disk shard by shard: the same call after an interruption goes on from there.

        Args:
            documents: with distinct ids; texts may be empty.
            folder: where the index will lie, whole or not at all; must not exist, or be empty.
            model, precision, max_tokens, query_tokens, expansion, punctuation, query_prompt, document_prompt: see
                `Options`.
            device: of the model.
            source: where the documents come from, for the manifest.
            total: how many there are, to show the time left.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when there are no documents, an id occurs twice, or an option is wrong.
            FileError: when the folder is taken or cannot be written.
            CheckpointError: when the model cannot be had, or is no encoder.
        """
        of_queries = (query_tokens, expansion, punctuation, query_prompt, document_prompt)
        options = Options(model, precision, max_tokens, *of_queries)
        encoder = _encoder(options, device)
        made_from = {"format": FORMAT, "encoder": encoder.key, **dataclasses.asdict(options)}
        with growing_folder(Path(folder), made_from) as part:
            shards = Shards(part, ".npz")
            with DocumentWriter(part) as writer:
                shown = tracked(documents, "encoding", total=total, show=progress)
                for path, texts in shards.missing(written(shown, writer), SHARD):
                    made = encoder.kept_of(texts)
                    with shards.writing(path) as place:
                        save_shard(place, [each.tensor for each in made], sum(each.cut > 0 for each in made), precision)
            if not len(writer):
                raise InputError(f"there are no documents to index{f' in {source}' if source else ''}")
            notes = {"encoder": encoder.key, **join(shards.paths, part, precision)}
            shards.remove()
            write_manifest(part, _manifest(options, writer, notes, source))
        return cls.open(folder, device=device)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        model: str,
        index: str | Path | None = None,
        precision: str = "float16",
        max_tokens: int = 0,
        query_tokens: int = 0,
        expansion: str = "",
        punctuation: bool | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        device: str | None = None,
        progress: bool | None = None,
    ) -> LateInteraction:
        """The index of a dataset: opened where it lies already, built first where it does not.

        Args:
            dataset: what to index.
            model: see `Options`, as for the others that it describes.
            index: a folder; None means one in the cache, which changes with the corpus and the options.
            device, progress: see `build`.

        Raises:
            FileError: when the index at `index` cannot be read, or was built with other options, or of another corpus.
        """
        of_queries = (query_tokens, expansion, punctuation, query_prompt, document_prompt)
        options = Options(model, precision, max_tokens, *of_queries)
        given = dataclasses.asdict(options)
        folder = Path(index) if index is not None else cached_index(cls.name, FORMAT, dataset, given)
        if not folder.exists():
            more: dict[str, Any] = {"device": device, "progress": progress}
            cls.build(dataset.documents(), folder, **given, **more, source=dataset.name, total=dataset.count)
        opened = cls.open(folder, device=device)
        check_corpus(opened.manifest, dataset, folder)
        if opened.options != options:
            raise FileError(f"{folder} was built with {opened.options}, not with {options}; name another folder")
        return opened

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The best `cutoff` documents of each query; see `rerank.pipeline.Retriever`."""
        check_cutoff(self.name, cutoff)
        without = [excluded(exclude, query.query_id) for query in queries]
        if not queries:
            return []
        counts = [min(int(cutoff) + len(each), len(self)) for each in without]
        made = [kept.tensor for kept in self.encoder.kept_of([query.text for query in queries], queries=True)]
        found = exact_search(self.vectors, made, counts, self.encoder.device)
        rankings = Rankings(self.documents, cutoff)
        return [
            rankings.of(query, indices.tolist(), self._scores(scores, len(tokens)), each)
            for query, tokens, (indices, scores), each in zip(queries, made, found, without, strict=True)
        ]

    @cached_property
    def encoder(self) -> Judge:
        """Of queries.

        Raises:
            FileError: when the model is not the one that made the vectors.
        """
        encoder = _encoder(self.options, self.device)
        if encoder.key != self.manifest.notes.get("encoder"):
            raise FileError(
                f"{self.folder} was made by {self.manifest.notes.get('encoder')}, and {self.options.model} is "
                f"{encoder.key} here: other weights, or another version; build the index again"
            )
        return encoder

    def __len__(self) -> int:
        return self.manifest.documents

    def __repr__(self) -> str:
        return f"<LateInteraction {self.options.model} of {len(self):,} documents in {self.folder}>"

    def _scores(self, sums: Any, tokens: int) -> list[float]:
        """Sums, or means over the query's tokens where the model compares by these."""
        means = self.encoder.layout.similarity == "meanmaxsim"
        scores: list[float] = (sums / max(1, tokens) if means else sums).tolist()
        return scores


def _encoder(options: Options, device: str | None) -> Judge:
    from rerank.judges.late_interaction import LateInteraction as Judge

    asked: dict[str, Any] = {
        "max_tokens": options.max_tokens or None,
        "query_tokens": options.query_tokens or None,
        "expansion": options.expansion or None,
        "punctuation": options.punctuation,
        "query_prompt": options.query_prompt,
        "document_prompt": options.document_prompt,
        "device": device,
    }
    return Judge(checkpoints.fetch(options.model), kept_megabytes=0, **asked)


def _manifest(options: Options, writer: DocumentWriter, notes: Mapping[str, Any], source: str) -> Manifest:
    return Manifest(
        kind=LateInteraction.name,
        format=FORMAT,
        options=dataclasses.asdict(options),
        documents=len(writer),
        fingerprint=writer.fingerprint,
        source=source,
        versions={name: version(name) for name in ("rerank-toolkit", "torch", "transformers")},
        notes=notes,
    )
