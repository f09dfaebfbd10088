"""Cross-encoders: a classifier reads the query and one document together and says how relevant it is."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rerank import checkpoints
from rerank.checkpoints.modules import Module, modules_of
from rerank.engine import batches, packing
from rerank.engine.encoder import Encoder, usual_budget
from rerank.engine.encoders.modular import Readout
from rerank.engine.flops_estimate import Shape, estimated_flops
from rerank.engine.loading import Loaded, Loading, Shaped, load, longest_input
from rerank.engine.texts.text_tokens import store_for
from rerank.engine.tokens import Pair, PairTokens
from rerank.engine.windows import document_windows
from rerank.errors import CheckpointError, InputError, JudgeError
from rerank.questions import Answer, Bill, Compare, Grade, Graded, Question
from rerank.types import Document, Query

if TYPE_CHECKING:
    from rerank.engine.encoders.openvino import OpenvinoEncoder

__all__ = ["CrossEncoder", "checked_budget", "scale_of", "score_of"]

INT8_BUDGET = 4096
"""Tokens that the passes of int8, several at once and each of texts of similar length, are cut from."""


class CrossEncoder:
    """Every `AutoModelForSequenceClassification` checkpoint with one logit or two, and what sentence-transformers saves
    in modules to the same effect (backbone, pooling, dense layers).

    The score is the raw logit of a one-logit head, and log P(relevant) = log softmax(logits)[1] of a two-logit head
    (monoBERT; Nogueira & Cho, 2019, https://arxiv.org/abs/1901.04085).

    Args:
        folder: the checkpoint, as `rerank.checkpoints.fetch` gives it.
        max_tokens: the most tokens of query, document and special tokens together; what does not fit is cut from the
            end of the document and counted. By default as many as the model reads.
        token_budget: the most tokens in a forward pass; changes speed and memory, never a bit of a float32 CPU score.
        device: "cpu", "cuda", "cuda:1" …; CUDA where there is one by default.
        dtype: "float32", "bfloat16" or "float16"; float32 on the CPU and bfloat16 on CUDA by default. "int8" runs on
            the CPU through OpenVINO (the `openvino` extra), faster and not exactly; see docs/int8.md.
        token_store: a folder in which the token ids of texts are kept for later runs; in memory by default.
        compile: torch.compile the model, which takes half a minute at load; see docs/encoders.md for what it gives.
        deterministic: a score's bits do not depend on its batch on CUDA either, at a price; on the CPU in float32 they
            never do, and in int8 it sees to it.
        quantize: "8bit" or "4bit", by bitsandbytes (the `quantize` extra); run by the model's own forward.
        adapter: folder or hub id of a LoRA adapter, merged at load (the `lora` extra).
        device_map: "auto", "balanced" or "sequential": spread the layers over all GPUs; run by the model's own forward.

    Raises:
        CheckpointError: when the folder holds no cross-encoder.
        InputError: when an option does not fit the model or the machine.
    """

    answers: ClassVar[frozenset[type]] = frozenset({Grade})
    reads_ids: ClassVar[bool] = False
    scoring: ClassVar[str] = "cross-encoder 3"
    """Name and version; changes when the same model and texts would give other answers. Part of every journal key."""

    def __init__(
        self,
        folder: str | Path,
        *,
        max_tokens: int | None = None,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        token_store: str | Path | None = None,
        compile: bool = False,
        deterministic: bool = False,
        quantize: str | None = None,
        adapter: str | Path | None = None,
        device_map: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        if (kind := checkpoints.kind(self.folder)) != "cross-encoder":
            raise CheckpointError(f"{self.folder} is no cross-encoder but of kind {kind}, which is asked by a prompt")
        int8 = dtype == "int8"
        if int8:
            device, dtype = _for_int8(device, compile=compile, quantize=quantize, device_map=device_map), "float32"
        modules = modules_of(self.folder)
        if int8 and modules is not None:
            raise InputError(f"dtype='int8', but {self.folder.name} is saved in modules, for which it is not there")
        loaded = _loaded(self.folder, modules, Loading(device, dtype, quantize, adapter, device_map))
        model, tokenizer = loaded.model, loaded.tokenizer
        self.loaded_as, self._identity = loaded.choices, loaded.identity
        target = model.device
        self.max_tokens = _checked_tokens(max_tokens, longest_input(model, tokenizer), self.folder)
        self.budget = batches.Budget(checked_budget(token_budget, INT8_BUDGET if int8 else usual_budget(target.type)))
        self.shape = Shape.of(model.config)
        self.tokens = PairTokens(tokenizer, self.max_tokens, store_for(tokenizer, token_store))
        self.notes: dict[str, str] = {}
        readout = None if modules is None else Readout.of(modules, model.device)
        self.scale = scale_of(model.config.num_labels if readout is None else readout.labels)
        self.encoder: Encoder | OpenvinoEncoder
        if int8:
            self.encoder = _int8_encoder(model, self.tokens, self.folder, deterministic)
            self.notes = {"dtype": "int8", **self.encoder.notes}
        else:
            self.encoder = self.made(model, readout, compile, deterministic)
        self.dtype = self.notes.get("dtype") or str(model.dtype).removeprefix("torch.")
        self.key = self._key()

    def made(self, model: Any, readout: Readout | None, compile: bool, deterministic: bool) -> Any:
        """What scores a batch of pairs: an `Encoder`, or what a subclass has in its place."""
        return Encoder(model, compile=compile, deterministic=deterministic, rows=self.budget.tokens, readout=readout)

    def read(self, questions: Sequence[Question]) -> list[Pair | InputError]:
        """Each question as the model reads it, or the error that says why it cannot."""
        texts = [document.full_text for question in questions for document in question.documents]
        return self.tokens.pairs([question.query.text for question in questions], texts)

    def said(self, logits: list[float]) -> Answer:
        """What one question's logits say."""
        return Graded(score_of(logits))

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """Answer questions, batch by batch."""
        for index, logits in self.logits(questions, bill):
            yield index, logits if isinstance(logits, Exception) else self.said(logits)

    def logits(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, list[float] | Exception]]:
        """What the model gives for each question, batch by batch."""
        for name, value in self.choices.items():
            bill.note(name, value)
        encoded = self.read(questions)
        pairs = {index: pair for index, pair in enumerate(encoded) if isinstance(pair, Pair)}
        for index, error in enumerate(encoded):
            if isinstance(error, InputError):
                yield index, error
        indices = list(pairs)
        pack = packing.in_order if self.encoder.packs else packing.by_length
        lengths = [len(pairs[index].ids) for index in indices]

        def score(batch: list[int]) -> tuple[Any, float]:
            started = time.perf_counter()
            return self.encoder.score([pairs[indices[place]] for place in batch]), time.perf_counter() - started

        for batch, (scored, seconds) in batches.run(lengths, self.budget, pack, score, bill):
            asked = [(indices[place], questions[indices[place]], pairs[indices[place]]) for place in batch]
            self._charge(asked, scored.padded, scored.flops, seconds, bill)
            for (index, _, _), logits in zip(asked, scored.logits.tolist(), strict=True):
                yield index, _checked(logits)

    def check_queries(self, queries: Sequence[Query]) -> None:
        """Refuse queries that leave no room for a document, before any work is done.

        Raises:
            InputError: naming the first, and how many there are.
        """
        encoded = self.read([_smallest(next(iter(self.answers)), query) for query in queries])
        errors = [(query, pair) for query, pair in zip(queries, encoded, strict=True) if isinstance(pair, InputError)]
        if errors:
            query, error = errors[0]
            more = f" ({len(errors)} of {len(queries)} queries cannot be read)" if len(errors) > 1 else ""
            raise InputError(f"query {query.query_id!r}: {error}{more}")

    def windows(
        self, query: Query, document: Document, *, max_tokens: int | None = None, stride: int | None = None
    ) -> list[Document]:
        """The document in pieces that fit beside the query; see `rerank.engine.windows.document_windows`."""
        return document_windows(self.tokens, query, document, window=max_tokens, stride=stride)

    @property
    def token_budget(self) -> int:
        """The most tokens in a forward pass, as it is now: halved when memory ran out."""
        return self.budget.tokens

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen at load, for the ledger."""
        return {
            "weights": checkpoints.origin(self.folder),
            **self.loaded_as,
            "execution": self.encoder.execution,
            **self.notes,
            "max tokens": str(self.max_tokens),
            "token budget": str(self.token_budget),
            "tokens": "query and document once each" if self.tokens.segments else "whole pairs",
            "token store": self.tokens.texts.store.place if self.tokens.segments else "none",
        }

    def _charge(
        self, batch: list[tuple[int, Question, Pair]], padded: int, flops: int, seconds: float, bill: Bill
    ) -> None:
        """Each query pays for its tokens; the call and its filler are charged to the first query in it."""
        total = sum(len(pair.ids) for _, _, pair in batch)
        bill.charge(batch[0][1].query.query_id, calls=1, tokens_padded=padded)
        left = flops
        for place, (_, question, pair) in enumerate(batch, start=1):
            share = left if place == len(batch) else flops * len(pair.ids) // total
            left -= share
            amounts = {"tokens_real": len(pair.ids), "flops": share, "seconds": seconds * len(pair.ids) / total}
            if pair.recalled:
                amounts["tokens_recalled"] = pair.recalled
            if self.shape is not None:
                amounts["flops_estimated"] = estimated_flops(self.shape, len(pair.ids))
            if pair.cut:
                amounts |= {"truncated_documents": 1, "truncated_tokens": pair.cut}
            if pair.defused:
                amounts["special_tokens_defused"] = pair.defused
            bill.charge(question.query.query_id, **amounts)

    def _key(self) -> str:
        parts = [
            self.scoring,
            checkpoints.fingerprint(self.folder),
            f"max_tokens={self.max_tokens}",
            f"dtype={self.dtype}",
            f"device={self.encoder.device.type}",
            f"execution={self.encoder.execution}",
            *(f"{name}={value}" for name, value in self.notes.items()),
            *([self._identity] if self._identity else []),
        ]
        return f"{self.scoring.partition(' ')[0]}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}"


def _loaded(folder: Path, modules: Sequence[Module] | None, loading: Loading) -> Loaded:
    """A classifier, or the backbone of one in modules, whose pooler nobody reads."""
    if modules is None:
        return load(folder, "classifier", loading)
    return load(folder, "backbone", loading, Shaped(unread=("pooler.",)))


def _checked(logits: list[float]) -> list[float] | Exception:
    finite = all(map(math.isfinite, logits))
    return logits if finite else JudgeError(f"the model gave {logits}; a score must be finite")


def _smallest(kind: type, query: Query) -> Question:
    """A question of a kind that takes no room beside its query."""
    document = Document("a", "a")
    return Compare(query, document, document) if kind is Compare else Grade(query, document)


def score_of(logits: list[float]) -> float:
    """The logit of a head with one, and log P(second) of one with two."""
    if len(logits) == 1:
        return logits[0]
    first, second = logits
    top = max(first, second)
    return second - (top + math.log(math.exp(first - top) + math.exp(second - top)))


def scale_of(labels: int) -> str:
    """What `score_of` so many logits is."""
    return "logit" if labels == 1 else "log-probability"


def _for_int8(device: str | None, **others: object) -> str:
    """The device for int8, or the error that says what it cannot be joined with."""
    if device not in (None, "cpu"):
        raise InputError(f"dtype='int8' runs on the CPU alone, and device={device!r}; leave one of the two out")
    for name, value in others.items():
        if value:
            raise InputError(f"dtype='int8' cannot be joined with {name}={value!r}; leave one of the two out")
    return "cpu"


def _int8_encoder(model: Any, tokens: PairTokens, folder: Path, deterministic: bool) -> OpenvinoEncoder:
    """Calibrated on the texts that ship for it."""
    from rerank.engine.encoders.int8_calibration import sample
    from rerank.engine.encoders.openvino import OpenvinoEncoder

    pairs = [pair for pair in tokens.pairs(*sample()) if isinstance(pair, Pair)]
    return OpenvinoEncoder(model, pairs, fingerprint=checkpoints.fingerprint(folder), deterministic=deterministic)


def _checked_tokens(asked: int | None, longest: int, folder: Path) -> int:
    if asked is None:
        return longest
    if not 1 <= asked <= longest:
        raise InputError(f"max_tokens={asked}, but {folder.name} reads from 1 to {longest} tokens")
    return asked


def checked_budget(asked: int | None, default: int) -> int:
    """The token budget.

    Raises:
        InputError: when a forward pass would hold nothing.
    """
    if asked is not None and asked < 1:
        raise InputError(f"token_budget={asked}; a forward pass needs at least 1 token")
    return default if asked is None else asked
