"""Dense retrieval: one vector a text, by inner product or cosine; exact, or approximate through faiss.

>>> dense = Dense.build(documents, folder, model="sentence-transformers/all-MiniLM-L6-v2")
>>> dense.retrieve([Query("q", "which birds?")], cutoff=10)[0][0].document.doc_id
'2'
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank import checkpoints, config
from rerank.datasets import Dataset
from rerank.distributed import Crew  # not for the type checker alone: hints of options are looked up
from rerank.errors import FileError, InputError
from rerank.pipeline import NO_EXCLUSIONS, Stage, check_cutoff
from rerank.registry import unknown
from rerank.types import Document, Query, Ranking
from retrievers import approximate
from retrievers.documents import DocumentStore, DocumentWriter
from retrievers.exclusions import excluded
from retrievers.index import Manifest, cached_index, check_corpus, growing_folder, read_manifest, write_manifest
from retrievers.progress import tracked, waiting
from retrievers.rankings import Rankings
from retrievers.shards import SHARD, Shards, written
from retrievers.vectors import PRECISIONS, Floats, Vectors, exact_search, join

if TYPE_CHECKING:
    from retrievers.encoding import Encoder

__all__ = ["SEARCHES", "Dense", "Options"]

FORMAT = 1

STORE = "carried"
"""Inside an index that is being built: what a crew has encoded."""

SEARCHES = ("flat", "hnsw", "ivf-pq")
"""flat leaves no document out; the others, through faiss, look at a part of them."""

SIMILARITIES = ("cosine", "dot")


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the vectors and how they are searched.

    Args:
        model: the encoder: a name, a hub id or a folder, in sentence-transformers' layout, a plain encoder, or a plain
            language model, which is read by the token that ends a text.
        search: one of `SEARCHES`.
        precision: how vectors are kept: float32, float16 or int8.
        similarity: "cosine" or "dot"; "" for what the model says.
        max_tokens: the most tokens of a document; 0 for as many as the model says.
        query_prompt, document_prompt: put in front of texts; None for what the model says.
        links: hnsw: neighbours of a vector.
        effort: hnsw: how many vectors a search looks at, and a build.
        lists: ivf-pq: parts that the collection is divided into; 0 for four times the root of the documents.
        probes: ivf-pq: parts that a search looks at.
        code_bytes: ivf-pq: bytes that a vector is kept in.
        adapter: merged into the model's weights: a folder or hub id of peft's LoRA; "" for none.

    Raises:
        InputError: when a value is outside its range.
    """

    model: str
    search: str = "flat"
    precision: str = "float32"
    similarity: str = ""
    max_tokens: int = 0
    query_prompt: str | None = None
    document_prompt: str | None = None
    links: int = 32
    effort: int = 200
    lists: int = 0
    probes: int = 16
    code_bytes: int = 48
    adapter: str = ""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("search", self.search, SEARCHES),
            ("precision", self.precision, PRECISIONS),
            ("similarity", self.similarity, ("", *SIMILARITIES)),
        ):
            if value not in known:
                raise unknown(name, value, [each for each in known if each])
        for name, least in (("max_tokens", 0), ("links", 2), ("effort", 1), ("lists", 0), ("probes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}; it must be at least {least}")
        if self.code_bytes < 1:
            raise InputError(f"code_bytes={self.code_bytes}; it must be at least 1")


class Dense(Stage):
    """Retrieves by vectors from an index on disk; `build` makes one, `open` opens it.

    Scores are inner products in float32 (cosines, where vectors are brought to length 1). Equal scores keep the order
    of the collection. Every query gets as many documents as it asks for. A query's instruction is not read; put it into
    `query_prompt`.
    """

    name = "dense"

    def __init__(self, folder: str | Path, *, device: str | None = None) -> None:
        """Open an index; see `open`."""
        self.folder, self.device = Path(folder), device
        self.manifest = read_manifest(self.folder, self.name, FORMAT)
        self.options = config.build(Options, self.manifest.options, f"{self.folder}: options")
        self.documents = DocumentStore(self.folder)
        self.vectors = Vectors(self.folder)
        self._approximate = (
            None if self.options.search == "flat" else approximate.opened(self.folder, self.options, device)
        )

    @classmethod
    def open(cls, folder: str | Path, *, device: str | None = None) -> Dense:
        """Open an index that `build` made; the model is loaded when the first query is asked.

        Args:
            folder: where it lies.
            device: of the model and, in exact search, of the products: "cpu", "cuda" …; CUDA where there is one.

        Raises:
            FileError: when there is no index, or it is torn, of another kind or from an incompatible version.
            MissingExtra: when it needs faiss, which is not installed.
        """
        return cls(folder, device=device)

    @classmethod
    def build(
        cls,
        documents: Iterable[Document],
        folder: str | Path,
        *,
        model: str,
        search: str = "flat",
        precision: str = "float32",
        similarity: str = "",
        max_tokens: int = 0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        links: int = 32,
        effort: int = 200,
        lists: int = 0,
        probes: int = 16,
        code_bytes: int = 48,
        adapter: str = "",
        device: str | None = None,
        processes: int = 1,
        crew: Crew | None = None,
        store: str | None = None,
        source: str = "",
        total: int | None = None,
        progress: bool | None = None,
    ) -> Dense:
        """Encode documents and open the index.

        What was encoded is on the disk shard by shard: the same call after an interruption goes on from there.

        Args:
            documents: with distinct ids; texts may be empty.
            folder: where the index will lie, whole or not at all; must not exist, or be empty.
            model, search, precision, similarity, max_tokens, query_prompt, document_prompt, links, effort, lists,
                probes, code_bytes, adapter: see `Options`.
            device: of the model.
            processes: that encode side by side, each with its share of the threads, or a GPU of its own.
            crew: who encodes in their place, on whichever machines.
            store: where a crew keeps what it has encoded, a folder or URL that all of it sees; beside the index, and
                until that is whole, when None.
            source: where the documents come from, for the manifest.
            total: how many there are, to show the time left.
            progress: show a bar on standard error; None means when that is a terminal.

        Raises:
            InputError: when there are no documents, an id occurs twice, or an option is wrong.
            FileError: when the folder is taken or cannot be written.
            CheckpointError: when the model cannot be had, or makes no vectors.
        """
        options = Options(
            *(model, search, precision, similarity, max_tokens, query_prompt, document_prompt),
            *(links, effort, lists, probes, code_bytes, adapter),
        )
        approximate.check(options)
        with _encoder(options, device, processes) as encoder:
            made_from = {"format": FORMAT, "encoder": encoder.key, **dataclasses.asdict(options)}
            with growing_folder(Path(folder), made_from) as part:
                shards = Shards(part)
                with DocumentWriter(part) as writer:
                    shown = tracked(documents, "encoding", total=total, show=progress)
                    missing = shards.missing(written(shown, writer), SHARD)
                    for path, vectors in _encoded(missing, encoder, options, device, crew, store or str(part / STORE)):
                        with shards.writing(path) as place:
                            np.save(place, vectors)
                if not len(writer):
                    raise InputError(f"there are no documents to index{f' in {source}' if source else ''}")
                join(shards.paths, part, precision)
                shards.remove()
                shutil.rmtree(part / STORE, ignore_errors=True)
                with waiting(f"building {search} over {len(writer):,} vectors", show=progress):
                    approximate.build(part, options)
                write_manifest(part, _manifest(options, writer, encoder.key, source))
        return cls.open(folder, device=device)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        *,
        model: str,
        index: str | Path | None = None,
        search: str = "flat",
        precision: str = "float32",
        similarity: str = "",
        max_tokens: int = 0,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        links: int = 32,
        effort: int = 200,
        lists: int = 0,
        probes: int = 16,
        code_bytes: int = 48,
        adapter: str = "",
        device: str | None = None,
        processes: int = 1,
        progress: bool | None = None,
    ) -> Dense:
        """The index of a dataset: opened where it lies already, built first where it does not.

        Args:
            dataset: what to index.
            model: see `Options`, as for the others that it describes.
            index: a folder; None means one in the cache, which changes with the corpus and the options.
            device, processes, progress: see `build`.

        Raises:
            FileError: when the index at `index` cannot be read, or was built with other options, or of another corpus.
        """
        options = Options(
            *(model, search, precision, similarity, max_tokens, query_prompt, document_prompt),
            *(links, effort, lists, probes, code_bytes, adapter),
        )
        given = dataclasses.asdict(options)
        folder = Path(index) if index is not None else cached_index(cls.name, FORMAT, dataset, given)
        if not folder.exists():
            more: dict[str, Any] = {"device": device, "processes": processes, "progress": progress}
            cls.build(dataset.documents(), folder, **given, **more, source=dataset.name, total=dataset.count)
        opened = cls.open(folder, device=device)
        check_corpus(opened.manifest, dataset, folder)
        if opened.options != options:
            raise FileError(f"{folder} was built with {opened.options}, not with {options}; name another folder")
        return opened

    def retrieve(
        self, queries: Sequence[Query], cutoff: int, *, exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS
    ) -> list[Ranking]:
        """The nearest `cutoff` documents of each query; see `rerank.pipeline.Retriever`."""
        check_cutoff(self.name, cutoff)
        for query in queries:
            excluded(exclude, query.query_id)  # a slip shows before anything is encoded
        if not queries:
            return []
        return self.nearest(queries, self.encoder.queries([query.text for query in queries]), cutoff, exclude=exclude)

    def nearest(
        self,
        queries: Sequence[Query],
        vectors: Floats,
        cutoff: int,
        *,
        exclude: Mapping[str, Collection[str]] = NO_EXCLUSIONS,
    ) -> list[Ranking]:
        """The same by vectors that stand for the queries: float32 [queries, dim].

        Raises:
            InputError: when there are not as many vectors as queries.
        """
        check_cutoff(self.name, cutoff)
        without = [excluded(exclude, query.query_id) for query in queries]
        counts = [min(int(cutoff) + len(each), len(self)) for each in without]
        if len(vectors) != len(queries):
            raise InputError(f"there are {len(vectors)} vectors for {len(queries)} queries; give one for each")
        found = self._search(vectors, counts)
        rankings = Rankings(self.documents, cutoff)
        return [
            rankings.of(query, indices.tolist(), scores.tolist(), each)
            for query, (indices, scores), each in zip(queries, found, without, strict=True)
        ]

    @cached_property
    def encoder(self) -> Encoder:
        """Of queries.

        Raises:
            FileError: when the model is not the one that made the vectors.
        """
        encoder = _encoder(self.options, self.device, 1)
        if encoder.key != self.manifest.notes.get("encoder"):
            raise FileError(
                f"{self.folder} was made by {self.manifest.notes.get('encoder')}, and {self.options.model} is "
                f"{encoder.key} here: other weights, or another version; build the index again"
            )
        return encoder

    def near(self, start: int, stop: int, count: int) -> list[list[int]]:
        """Indices of the nearest documents of the documents from `start` to `stop`, each without itself.

        Their vectors are compared, and no model is loaded.
        """
        from rerank.engine.loading import choose_device

        rows = self.vectors.block(start, min(stop, len(self)))
        counts = [min(count + 1, len(self))] * len(rows)
        if self._approximate is not None:
            found = self._approximate.search(rows, counts)
        else:
            found = list(exact_search(self.vectors, rows, counts, choose_device(self.device)))
        return [
            [place for place in indices.tolist() if place != own][:count]
            for own, (indices, _) in enumerate(found, start)
        ]

    def __len__(self) -> int:
        return self.manifest.documents

    def __repr__(self) -> str:
        return f"<Dense {self.options.model}, {self.options.search}, of {len(self):,} documents in {self.folder}>"

    def _search(self, queries: Floats, counts: Sequence[int]) -> list[tuple[Any, Any]]:
        if self._approximate is not None:
            return self._approximate.search(queries, counts)
        return list(exact_search(self.vectors, queries, counts, self.encoder.device))


def _encoder(options: Options, device: str | None, processes: int) -> Encoder:
    from retrievers.encoding import Encoder

    return Encoder(checkpoints.fetch(options.model), _asked(options, device), processes)


def _encoded(
    shards: Iterator[tuple[Path, list[str]]],
    encoder: Encoder,
    options: Options,
    device: str | None,
    crew: Crew | None,
    store: str,
) -> Iterator[tuple[Path, Floats]]:
    """Vectors of shards, from this machine or from a crew."""
    if crew is None:
        return encoder.documents(shards)
    from retrievers.carried import Encoding, carried

    return carried(shards, crew, store, Encoding(options.model, _asked(options, device), encoder.key))


def _asked(options: Options, device: str | None) -> dict[str, Any]:
    return {
        "similarity": options.similarity or None,
        "max_tokens": options.max_tokens or None,
        "query_prompt": options.query_prompt,
        "document_prompt": options.document_prompt,
        "adapter": options.adapter or None,
        "device": device,
    }


def _manifest(options: Options, writer: DocumentWriter, encoder: str, source: str) -> Manifest:
    libraries = ("rerank-toolkit", "torch", "transformers", *(("faiss-cpu",) if options.search != "flat" else ()))
    return Manifest(
        kind=Dense.name,
        format=FORMAT,
        options=dataclasses.asdict(options),
        documents=len(writer),
        fingerprint=writer.fingerprint,
        source=source,
        versions={name: number for name in libraries if (number := _version(name))},
        notes={"encoder": encoder},
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return ""
