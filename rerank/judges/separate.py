"""What judges have in common that read query and document apart: a document is read once, for all queries."""

from __future__ import annotations

import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from rerank import checkpoints
from rerank.checkpoints.layouts import Layout
from rerank.cost import Ledger
from rerank.engine import batches, packing
from rerank.engine.encoder import usual_budget
from rerank.engine.encoders.embed import Embedded, Embedder
from rerank.engine.encoders.heads import Head
from rerank.engine.encoders.lightning import backbone_config, backbone_tokenizer
from rerank.engine.encoders.packed import Pooling
from rerank.engine.flops_estimate import Shape, estimated_flops
from rerank.engine.kept import Kept, KeptTensors, content_hash
from rerank.engine.loading import Loading, Shaped, load, longest_input
from rerank.engine.texts.single_texts import SingleTexts, end_texts, keep_markers_whole, lower_texts
from rerank.engine.texts.text_tokens import TextTokens, store_for
from rerank.engine.tokens import Pair
from rerank.engine.windows import windows_within
from rerank.errors import CheckpointError, InputError, JudgeError
from rerank.questions import Bill, Grade, Graded, Question
from rerank.types import Document, Query

__all__ = ["SeparateJudge", "check_kind", "checked_tokens"]


class SeparateJudge(ABC):
    """Reads each text by itself; what became of it is kept under a hash of its words, and compared.

    Args:
        folder: the checkpoint.
        layout: what is put around texts, and what stands behind the backbone.
        pooling: of the backbone: "none" keeps every token's state.
        max_tokens: the most tokens of a document, special tokens included; as the checkpoint says by default.
        query_tokens: the most of a query. What does not fit is cut from the end and counted.
        query_prompt, document_prompt: put in front of the texts; as the checkpoint says by default.
        kept_megabytes: how much of what was made of texts is kept in memory, in MiB.
        ended: put the tokenizer's end token behind every text, where the tokenizer does not.
        token_budget, device, dtype, token_store, deterministic, quantize, adapter, device_map: as of
            `rerank.judges.cross_encoder.CrossEncoder`.

    Raises:
        CheckpointError: when the folder holds another kind of model.
        InputError: when an option does not fit the model or the machine.
    """

    answers: ClassVar[frozenset[type]] = frozenset({Grade})
    reads_ids: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]]
    """The kinds of checkpoint that it can be made of."""
    scoring: ClassVar[str]
    """Changes when the same model and texts would give other scores; part of every journal key."""

    def __init__(
        self,
        folder: str | Path,
        layout: Layout,
        *,
        pooling: Pooling = "none",
        max_tokens: int | None = None,
        query_tokens: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        kept_megabytes: int = 1024,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        token_store: str | Path | None = None,
        deterministic: bool = False,
        quantize: str | None = None,
        adapter: str | Path | None = None,
        device_map: str | None = None,
        ended: bool = False,
    ) -> None:
        self.folder, self.layout = Path(folder), layout
        loading = Loading(device, dtype, quantize, adapter, device_map)
        loaded = load(self.folder, "backbone", loading, _shaped(self.folder))
        self.loaded_as, self._identity = loaded.choices, loaded.identity
        model, tokenizer = loaded.model, loaded.tokenizer
        if token_budget is not None and token_budget < 1:
            raise InputError(f"token_budget={token_budget}; a forward pass needs at least 1 token")
        self.budget = batches.Budget(token_budget or usual_budget(model.device.type))
        self.shape, self.longest = Shape.of(model.config), longest_input(model, tokenizer)
        prompts = (
            layout.query_prompt if query_prompt is None else query_prompt,
            layout.document_prompt if document_prompt is None else document_prompt,
        )
        keep_markers_whole(tokenizer, [*layout.markers, *filter(None, (query_prompt, document_prompt))])
        if layout.lower_case:
            lower_texts(tokenizer)
        if ended:
            end_texts(tokenizer)
        self.ended = ended
        texts = TextTokens(tokenizer, store_for(tokenizer, token_store))
        most_of_query = checked_tokens("query_tokens", query_tokens, layout.query_tokens, self.longest, self.folder)
        most = checked_tokens("max_tokens", max_tokens, layout.document_tokens, self.longest, self.folder)
        self.queries = self._query_texts(texts, prompts[0], most_of_query, query_tokens)
        self.documents = SingleTexts(texts, prompt=prompts[1], max_tokens=most)
        head = self._head(Head(layout.projections, layout.normalised, model.device))
        partly_seen = bool(self.queries.fill and not self.queries.fill[2])
        self.embedder = Embedder(
            model,
            pooling=pooling,
            head=head,
            head_size=0 if head is None else head.size,
            partly_seen=partly_seen,
            deterministic=deterministic,
            rows=self.budget.tokens,
        )
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.kept = KeptTensors(kept_megabytes)
        self.key = self._key()

    @abstractmethod
    def of_document(self, text: Pair, states: Tensor) -> Tensor:
        """What is kept of a document: [tokens, dim], or [1, dim] where texts are pooled -> …"""

    @abstractmethod
    def of_query(self, text: Pair, states: Tensor) -> Tensor:
        """The same of a query."""

    @abstractmethod
    def compare(self, queries: Sequence[Tensor], documents: Sequence[Tensor]) -> list[float]:
        """The score of each pair. The same query is the same tensor."""

    def compare_flops(self, query: Tensor, document: Tensor) -> int:
        """Floating-point operations of one pair."""
        return 2 * query.numel() * (document.numel() // max(1, document.shape[-1]))

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Graded | Exception]]:
        """Grade documents, each of which is read once for all the queries that want it."""
        for name, value in self.choices.items():
            bill.note(name, value)
        grades = [question for question in questions if isinstance(question, Grade)]
        queries = self._queries(grades, bill)
        wanted: dict[str, list[int]] = {}
        for index, grade in enumerate(grades):
            query = queries[grade.query.text]
            if isinstance(query, Exception):
                yield index, query
            else:
                wanted.setdefault(grade.document.full_text, []).append(index)
        for made in self._documents(wanted, grades, bill):
            for text, document in made.items():
                if isinstance(document, Exception):
                    yield from ((index, document) for index in wanted[text])
            asked = [(index, made[text]) for text in made for index in wanted[text]]
            pairs = [(index, kept) for index, kept in asked if isinstance(kept, Kept)]
            yield from self._graded(pairs, grades, queries, bill)

    def windows(
        self, query: Query, document: Document, *, max_tokens: int | None = None, stride: int | None = None
    ) -> list[Document]:
        """The document in pieces that fit, whatever the query; see `rerank.engine.windows.windows_within`."""
        room = self.documents.max_tokens - self.documents.overhead
        return windows_within(self.documents.texts, document, room, window=max_tokens, stride=stride)

    def read(self, grades: Sequence[Grade], bill: Bill) -> dict[str, Kept | Exception]:
        """What is kept of the documents of these questions, by their text, or why one cannot be read.

        A document is read once, and paid for by the query that wants it first.
        """
        wanted: dict[str, list[int]] = {}
        for index, grade in enumerate(grades):
            wanted.setdefault(grade.document.full_text, []).append(index)
        found: dict[str, Kept | Exception] = {}
        for made in self._documents(wanted, grades, bill):
            found.update(made)
        return found

    def kept_of(self, texts: Sequence[str], bill: Bill | None = None, *, queries: bool = False) -> list[Kept]:
        """What is made of documents, or of queries, in the order of the texts: what retrievers keep.

        Raises:
            InputError: when a text cannot be read.
        """
        bill = Ledger() if bill is None else bill
        asked = list(dict.fromkeys(texts))
        side, made_of = (self.queries, self.of_query) if queries else (self.documents, self.of_document)
        keys = {text: content_hash("query" if queries else "document", text) for text in asked}
        recalled = dict(zip(asked, self.kept.recall(list(keys.values())), strict=True))
        found = {text: kept for text, kept in recalled.items() if kept is not None}
        missing = [text for text in asked if text not in found]
        pairs: dict[str, Pair] = {}
        for text, pair in zip(missing, side.of(missing), strict=True):
            if isinstance(pair, InputError):
                raise pair
            pairs[text] = pair
        for made in self._encoded(pairs, dict.fromkeys(pairs, ""), made_of, bill):
            self.kept.keep({keys[text]: kept for text, kept in made.items()})
            found.update(made)
        return [found[text] for text in texts]

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen at load, for the ledger."""
        return {
            "weights": checkpoints.origin(self.folder),
            **self.loaded_as,
            "execution": self.embedder.execution,
            "max tokens": str(self.documents.max_tokens),
            "query tokens": str(self.queries.max_tokens),
            "token budget": str(self.budget.tokens),
            "kept": f"what was made of a text, at most {self.kept.most // 2**20} MiB",
        }

    def _query_texts(self, texts: TextTokens, prompt: str, most: int, asked: int | None) -> SingleTexts:
        """How queries are read; `asked` is what the user wants, `most` what comes of it."""
        return SingleTexts(texts, prompt=prompt, max_tokens=most)

    def _head(self, head: Head) -> Head | None:
        """What is computed behind the backbone."""
        return head if len(head.projections) or head.normalised else None

    def _queries(self, grades: Sequence[Grade], bill: Bill) -> dict[str, Kept | Exception]:
        """What was made of every query."""
        asking = {grade.query.text: grade.query.query_id for grade in reversed(grades)}  # the first one pays
        keys = {text: content_hash("query", text) for text in asking}
        recalled = dict(zip(keys, self.kept.recall(list(keys.values())), strict=True))
        found: dict[str, Kept | Exception] = {text: kept for text, kept in recalled.items() if kept is not None}
        missing = [text for text in asking if text not in found]
        read = dict(zip(missing, self.queries.of(missing), strict=True))
        found |= {text: error for text, error in read.items() if isinstance(error, InputError)}
        pairs = {text: pair for text, pair in read.items() if isinstance(pair, Pair)}
        for text, pair in pairs.items():
            if pair.cut:
                bill.charge(asking[text], truncated_queries=1, truncated_tokens=pair.cut)
        for made in self._made_of_queries(pairs, asking, bill):
            self.kept.keep({keys[text]: kept for text, kept in made.items()})
            found.update(made)
        return found

    def _prepared(self, pairs: dict[str, Pair], paying: Mapping[str, str], bill: Bill) -> dict[str, Pair]:
        """Documents before the model reads them."""
        return pairs

    def _made_of_queries(
        self, pairs: Mapping[str, Pair], asking: Mapping[str, str], bill: Bill
    ) -> Iterator[dict[str, Kept]]:
        return self._encoded(pairs, asking, self.of_query, bill)

    def _documents(
        self, wanted: Mapping[str, list[int]], grades: Sequence[Grade], bill: Bill
    ) -> Iterator[Mapping[str, Kept | Exception]]:
        """What was made of documents, as it becomes known: first what was kept, then batch by batch."""
        keys = {text: content_hash("document", text) for text in wanted}
        recalled = dict(zip(wanted, self.kept.recall(list(keys.values())), strict=True))
        known = {text: kept for text, kept in recalled.items() if kept is not None}
        self._charge_reused([(index, known[text]) for text in known for index in wanted[text]], grades, bill)
        yield known
        missing = [text for text in wanted if text not in known]
        read = dict(zip(missing, self.documents.of(missing), strict=True))
        yield {text: error for text, error in read.items() if isinstance(error, InputError)}
        pairs = {text: pair for text, pair in read.items() if isinstance(pair, Pair)}
        paying = {text: grades[wanted[text][0]].query.query_id for text in pairs}
        pairs = self._prepared(pairs, paying, bill)
        for made in self._encoded(pairs, paying, self.of_document, bill):
            self.kept.keep({keys[text]: kept for text, kept in made.items()})
            first = [(wanted[text][0], kept) for text, kept in made.items()]
            _charge_cuts(first, grades, bill)
            self._charge_reused([(i, kept) for text, kept in made.items() for i in wanted[text][1:]], grades, bill)
            yield made

    def _encoded(
        self, pairs: Mapping[str, Pair], paying: Mapping[str, str], made: Callable[[Pair, Tensor], Tensor], bill: Bill
    ) -> Iterator[dict[str, Kept]]:
        """Batches of texts through the model; each is paid for by the query in `paying`."""
        texts = list(pairs)
        lengths = [len(pairs[text].ids) for text in texts]
        pack = packing.in_order if self.embedder.packs else packing.by_length

        def run(batch: list[int]) -> tuple[Embedded, float]:
            started = time.perf_counter()
            return self.embedder.run([pairs[texts[place]] for place in batch]), time.perf_counter() - started

        for batch, (embedded, seconds) in batches.run(lengths, self.budget, pack, run, bill):
            names = [texts[place] for place in batch]
            states = embedded.by_text() if self.embedder.pooling == "none" else torch.split(embedded.states, 1)
            self._charge([(paying[text], pairs[text]) for text in names], embedded, seconds, bill)
            yield {
                text: Kept(made(pairs[text], each), len(pairs[text].ids), pairs[text].cut)
                for text, each in zip(names, states, strict=True)
            }

    def _graded(
        self,
        asked: Sequence[tuple[int, Kept]],
        grades: Sequence[Grade],
        queries: Mapping[str, Kept | Exception],
        bill: Bill,
    ) -> Iterator[tuple[int, Graded | Exception]]:
        if not asked:
            return
        started = time.perf_counter()
        of_queries = [queries[grades[index].query.text] for index, _ in asked]
        known = [query.tensor for query in of_queries if isinstance(query, Kept)]
        scores = self.compare(known, [document.tensor for _, document in asked])
        seconds = (time.perf_counter() - started) / len(asked)
        for (index, document), query, score in zip(asked, known, scores, strict=True):
            flops = self.compare_flops(query, document.tensor)
            bill.charge(grades[index].query.query_id, flops=flops, seconds=seconds)
            yield index, _finite(score)

    def _charge(self, texts: Sequence[tuple[str, Pair]], embedded: Embedded, seconds: float, bill: Bill) -> None:
        """Each text is paid for by the query that wanted it first; the call and its filler by the first of them."""
        total = sum(embedded.lengths)
        bill.charge(texts[0][0], calls=1, tokens_padded=embedded.padded)
        left = embedded.flops
        for place, (query_id, pair) in enumerate(texts, start=1):
            tokens = len(pair.ids)
            share = left if place == len(texts) else embedded.flops * tokens // total
            left -= share
            amounts: dict[str, float] = {"tokens_real": tokens, "flops": share, "seconds": seconds * tokens / total}
            if pair.recalled:
                amounts["tokens_recalled"] = pair.recalled
            if pair.defused:
                amounts["special_tokens_defused"] = pair.defused
            if self.shape is not None:
                amounts["flops_estimated"] = estimated_flops(self.shape, tokens)
            bill.charge(query_id, **amounts)

    def _charge_reused(self, asked: Iterable[tuple[int, Kept]], grades: Sequence[Grade], bill: Bill) -> None:
        asked = list(asked)
        for index, kept in asked:
            bill.charge(grades[index].query.query_id, tokens_reused=kept.tokens)
        _charge_cuts(asked, grades, bill)

    def _key(self) -> str:
        parts = [
            self.scoring,
            checkpoints.fingerprint(self.folder),
            self.layout.identity,
            f"queries={self.queries.prompt!r} {self.queries.max_tokens} {self.queries.fill}",
            f"documents={self.documents.prompt!r} {self.documents.max_tokens}",
            f"dtype={self.dtype}",
            f"device={self.embedder.device.type}",
            f"execution={self.embedder.execution}",
            self._identity,
            *(["ended"] if self.ended else []),
        ]
        name = self.scoring.rpartition(" ")[0]
        return f"{name}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def check_kind(folder: str | Path, kinds: Sequence[str], judge: str) -> None:
    """Refuse a checkpoint of another kind.

    Raises:
        CheckpointError: saying which kind it is.
    """
    if (kind := checkpoints.kind(folder)) not in kinds:
        raise CheckpointError(f"{folder} is of kind {kind}; judge {judge!r} wants {' or '.join(kinds)}")


def _charge_cuts(asked: Iterable[tuple[int, Kept]], grades: Sequence[Grade], bill: Bill) -> None:
    for index, kept in asked:
        if kept.cut:
            bill.charge(grades[index].query.query_id, truncated_documents=1, truncated_tokens=kept.cut)


def _finite(score: float) -> Graded | Exception:
    return Graded(score) if math.isfinite(score) else JudgeError(f"the score is {score}; it must be finite")


def _shaped(folder: Path) -> Shaped:
    """A backbone, whose pooler nobody reads; lightning-ir's config and tokenizer are not transformers'."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (backbone := values.get("backbone_model_type")) is None:
        return Shaped(unread=("pooler.",))
    config, tokenizer = backbone_config(str(backbone), values), backbone_tokenizer(folder)
    return Shaped(config=config, tokenizer=tokenizer, unread=("pooler.",))


def checked_tokens(name: str, asked: int | None, usual: int | None, longest: int, folder: Path) -> int:
    """The most tokens of a text: what is asked for, or what the checkpoint says, or all that the model reads.

    Raises:
        InputError: when more is asked for than the model reads.
    """
    if asked is None:
        return min(usual or longest, longest)
    if not 1 <= asked <= longest:
        raise InputError(f"{name}={asked}, but {folder.name} reads from 1 to {longest} tokens")
    return asked
