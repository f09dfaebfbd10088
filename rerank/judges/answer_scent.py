"""Two models as one judge: one writes an answer to the query, another says how likely a document makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rerank import checkpoints
from rerank.engine.loading import Loading
from rerank.errors import InputError
from rerank.judges.likelihood import Likelihood
from rerank.judges.text_models import TextModel
from rerank.judges.writer import NEW_TOKENS, Writer
from rerank.prompts.prompt import Prompt
from rerank.questions import Answer, Bill, Judge, Question, Write
from rerank.types import Query

__all__ = ["AnswerScent"]


class AnswerScent:
    """ASRank (Abdallah et al., 2025, https://arxiv.org/abs/2501.15245): a big model writes an answer once a query, and
    a small one gives each document the answer's log-likelihood behind it.

    Whatever is asked goes to one scheduler: what is written stands in the journal and on the bill like every grade.

    Args:
        folder: the checkpoint that grades.
        prompt: that the answer continues.
        writer: the model that writes: a checkpoint's name or folder, or a judge that answers Write. By default the one
            that grades, loaded once for both.
        writer_prompt: what the writer is told.
        new_tokens: the most tokens of an answer.
        reduction: "sum" or "mean" over the answer's tokens; they order documents alike.
        options: as of `PromptedJudge`, of the model that grades. Device, dtype and placement are the writer's too.

    Raises:
        CheckpointError, InputError: as of `Likelihood` and `Writer`; also when the writer writes nothing.
    """

    answers: ClassVar[frozenset[type]] = Likelihood.answers | Writer.answers
    answers_too: ClassVar[frozenset[type]] = Writer.answers
    reads_ids: ClassVar[bool] = False

    def __init__(
        self,
        folder: str | Path,
        *,
        prompt: str | Path | Prompt = "answer-likelihood",
        writer: str | Path | Judge | None = None,
        writer_prompt: str | Path | Prompt = "answer-scent",
        new_tokens: int = NEW_TOKENS,
        reduction: str = "sum",
        max_tokens: int | None = None,
        token_budget: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        quantize: str | None = None,
        adapter: str | Path | None = None,
        device_map: str | None = None,
        token_store: str | Path | None = None,
    ) -> None:
        placed: dict[str, Any] = {"device": device, "dtype": dtype, "quantize": quantize, "device_map": device_map}
        whole = {**placed, "max_tokens": max_tokens, "token_budget": token_budget, "token_store": token_store}
        self.scorer = Likelihood(folder, prompt=prompt, reduction=reduction, adapter=adapter, **whole)
        if self.scorer.prompt.continues != "answer":
            raise InputError(
                f"prompt {self.scorer.prompt.name!r} is continued by the query; answer scent needs one that says "
                "continues = \"answer\", such as 'answer-likelihood'"
            )
        texts: dict[str, Any] = {"prompt": writer_prompt, "new_tokens": new_tokens, "token_store": token_store}
        self.writer: Any
        if writer is None:
            self.writer = _Shared(self.scorer, adapter=adapter, **texts, **placed)
        elif isinstance(writer, str | Path):
            entry = checkpoints.find(writer).checkpoint
            own = None if entry is None else entry.adapter or None
            self.writer = Writer(checkpoints.fetch(writer), adapter=own, **texts, **placed)
        else:
            self.writer = writer
        if Write not in self.writer.answers:
            raise InputError(f"{type(self.writer).__name__} answers no Write; give a writer= that writes")
        both = f"{self.writer.key}\0{self.scorer.key}"
        self.key = f"answer-scent-{hashlib.sha256(both.encode()).hexdigest()[:32]}"

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer | Exception]]:
        """Each question by the model that it is for."""
        for judge, writes in ((self.writer, True), (self.scorer, False)):
            indices = [index for index, question in enumerate(questions) if isinstance(question, Write) == writes]
            if indices:
                for place, answer in judge.answer([questions[index] for index in indices], _Said(bill, writes)):
                    yield indices[place], answer

    def check_queries(self, queries: Sequence[Query]) -> None:
        """Refuse queries that one of both cannot read, before any work is done."""
        for judge in (self.writer, self.scorer):
            if (check := getattr(judge, "check_queries", None)) is not None:
                check(queries)


class _Shared(Writer):
    """A writer that is the model that grades."""

    def __init__(self, scorer: Likelihood, **options: Any) -> None:
        self._scorer = scorer
        super().__init__(scorer.folder, **options)
        if self.prompt.answer != scorer.prompt.answer:
            raise InputError(
                f"prompts {self.prompt.name!r} and {scorer.prompt.name!r} begin answers differently, which one model "
                "in memory cannot; give the writer by its name"
            )

    def _loaded(self, loading: Loading) -> TextModel:
        """What is loaded already."""
        return self._scorer.model


class _Said:
    """A bill on which the writer's choices do not take the place of the other's."""

    def __init__(self, bill: Bill, writes: bool) -> None:
        self._bill, self._prefix = bill, "writer's " if writes else ""

    def charge(self, query_id: str, **amounts: float) -> None:
        """As of the bill."""
        self._bill.charge(query_id, **amounts)

    def note(self, name: str, value: str) -> None:
        """As of the bill, under the writer's name."""
        self._bill.note(f"{self._prefix}{name}", value)
