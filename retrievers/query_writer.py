"""The queries that a document might answer, as an encoder-decoder writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rerank import checkpoints
from rerank.engine.loading import Loading, load
from rerank.engine.seq2seq import EncoderDecoder, Sampling
from rerank.errors import CheckpointError, InputError
from retrievers.analysis import readable

__all__ = ["Drawing", "QueryWriter", "key_of"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How queries are written.

    Args:
        model: a T5 that writes queries (`castorini/doc2query-t5-base-msmarco`), by name, hub id or folder.
        expansions: queries a document.
        top_k: each token is drawn among so many of the likeliest; 0 for all.
        temperature: what logits are divided by, above 0.
        seed: with the document's text it decides what is drawn.
        max_tokens: the most tokens of a document that are read.
        new_tokens: the most tokens of a query.
        document_prompt: put in front of a document, for a model that wants to be told.

    Raises:
        InputError: when a number is outside its range.
    """

    model: str
    expansions: int = 40
    top_k: int = 10
    temperature: float = 1.0
    seed: int = 0
    max_tokens: int = 512
    new_tokens: int = 64
    document_prompt: str = ""

    def __post_init__(self) -> None:
        for name in ("expansions", "max_tokens", "new_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise InputError(f"seed={self.seed}; it may not be below 0")
        Sampling([], self.temperature, top_k=self.top_k)


class QueryWriter:
    """doc2query (Nogueira et al., 2019, https://arxiv.org/abs/1904.08375), with a T5 as in docTTTTTquery.

    What is written about a document depends on its text and the seed, and on no other document.

    Args:
        drawing: how.
        device: of the model.

    Raises:
        CheckpointError: when the model cannot be had, or is no encoder-decoder.
    """

    def __init__(self, drawing: Drawing, device: str | None = None) -> None:
        folder = checkpoints.fetch(drawing.model)
        if (kind := checkpoints.kind(folder)) != "encoder-decoder":
            raise CheckpointError(f"{drawing.model} is of kind {kind}, and queries are written by an encoder-decoder")
        loaded = load(folder, "encoder-decoder", Loading(device))
        self._drawing, self._tokenizer, self._model = drawing, loaded.tokenizer, EncoderDecoder(loaded.model)

    def write(self, texts: Sequence[str]) -> list[list[str]]:
        """So many queries for each text, in the order in which they were drawn."""
        drawing = self._drawing
        read = [readable(drawing.document_prompt + text) for text in texts]
        ids = [self._tokenizer(text, truncation=True, max_length=drawing.max_tokens).input_ids for text in read]
        seeds = [_seed(drawing.seed, text, number) for text in texts for number in range(drawing.expansions)]
        written = self._model.generate(
            [[each] for each in ids],
            max_tokens=drawing.new_tokens,
            sampling=Sampling(seeds, drawing.temperature, top_k=drawing.top_k),
            samples=drawing.expansions,
        )
        queries = [str(self._tokenizer.decode(each, skip_special_tokens=True)).strip() for each in written.texts]
        return [queries[at : at + drawing.expansions] for at in range(0, len(queries), drawing.expansions)]


def key_of(drawing: Drawing) -> str:
    """What makes the written queries the same, besides the options: the model's files; it is not loaded to say it."""
    return f"doc2query 1 {checkpoints.fingerprint(checkpoints.fetch(drawing.model))}"


def _seed(seed: int, text: str, number: int) -> int:
    named = f"{seed} {number} {text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(named).digest()[:8], "big")
