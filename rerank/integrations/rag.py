"""A question answered from documents: what a pipeline finds, packed under a budget, in the words of a local model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rerank import checkpoints
from rerank.cost import Ledger
from rerank.errors import InputError
from rerank.integrations.context import Context, pack
from rerank.judges.writer import Writer
from rerank.pipeline import Pipeline
from rerank.questions import Write, Written
from rerank.types import Query, Ranking

__all__ = ["MODEL", "STAGES", "Answerer", "ModelTokens", "Reply"]

MODEL = "SmolLM2-135M-Instruct"
"""Who answers, when nobody else is named."""

STAGES: Sequence[Mapping[str, Any]] = (
    {"retriever": "bm25", "cutoff": 20},
    {"reranker": "cross-encoder/ms-marco-MiniLM-L12-v2", "max_tokens": 192},
)
"""What finds the passages, when no pipeline is named."""


@dataclass(frozen=True)
class ModelTokens:
    """Counts tokens as a model does.

    Args:
        model: a checkpoint's name, a hub id, or a folder.
    """

    model: str

    @cached_property
    def tokenizer(self) -> Any:
        """The model's own."""
        from transformers import AutoTokenizer

        folder = checkpoints.fetch(self.model)
        [file] = [*folder.glob("*.gguf"), None][:1]
        return AutoTokenizer.from_pretrained(folder, **({"gguf_file": file.name} if file else {}))

    def __call__(self, text: str) -> int:
        """Tokens of a text, without special ones."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    @property
    def name(self) -> str:
        """So that an index of chunks is found again."""
        return f"tokens of {self.model}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and what it is from.

    Args:
        text: what the model wrote.
        context: the passages that it was shown, numbered from 1, and what was left out.
        ranking: all that were found, best first.
        repairs: what was wrong with the answer.
    """

    text: str
    context: Context
    ranking: Ranking
    repairs: tuple[str, ...] = ()


class Answerer:
    """Retrieval-augmented generation (Lewis et al., 2020, https://arxiv.org/abs/2005.11401).

    Args:
        pipeline: finds and ranks chunks of documents.
        model: who answers: a checkpoint's name, a hub id, or a folder.
        budget: the most tokens of the passages together, by the model's tokenizer.
        new_tokens: the most tokens of an answer; as the prompt `answer-from-passages` says by default.
        packing: `order`, `repeats` and `mmr`, as of `rerank.integrations.context.pack`.

    Attributes:
        ledger: what the answers cost; the pipeline's stages have their own.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        model: str | Path = MODEL,
        budget: int = 384,
        new_tokens: int | None = None,
        **packing: Any,
    ) -> None:
        self.pipeline, self.budget, self.packing = pipeline, budget, packing
        self.count = ModelTokens(str(model))
        self.writer = Writer(checkpoints.fetch(model), prompt="answer-from-passages", new_tokens=new_tokens)
        self.ledger = Ledger()

    def ask(self, question: str) -> Reply:
        """Answer a question.

        Raises:
            InputError: when nothing is found, or none of it fits into the budget.
            JudgeError: when the model cannot answer.
        """
        ranking = self.pipeline.search(Query("question", question))
        context = pack(ranking, budget=self.budget, count=self.count, **self.packing)
        if not context.documents:
            why = f"no passage fits into {self.budget} tokens; allow more" if ranking else "no document holds its words"
            raise InputError(f"{question!r} cannot be answered: {why}")
        [(_, answer)] = self.writer.answer([Write(ranking.query, context.documents)], self.ledger)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Written)
        return Reply(answer.text, context, ranking, answer.repairs)
