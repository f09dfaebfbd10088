"""Last but not late: documents and the query in one sequence, compared by the states of the tokens that end them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerank import checkpoints
from rerank.engine.loading import Loading
from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.engine.translated import projected
from rerank.errors import CheckpointError, InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.causal_text import CausalText
from rerank.judges.prompted import PromptedJudge
from rerank.judges.text_models import TextModel
from rerank.prompts.prompt import Prompt
from rerank.questions import GradedSet, GradeSet, Question

__all__ = ["ListwiseEmbedding"]

DOCUMENT_END, QUERY_END = "<|embed_token|>", "<|rerank_token|>"
DOCUMENTS = 64
PROJECTED_ROWS = 128
"""Rows that the projector always sees, so that a vector's bits do not depend on how many there are."""


class ListwiseEmbedding(PromptedJudge):
    """jina-reranker-v3 (Wang et al., 2025, https://arxiv.org/abs/2509.25085).

    All documents stand in one sequence, in front of the query, so that the model reads each with those before it in
    mind. The state of the token that ends a document, and of the one that ends the query, go through a projector of two
    linear layers; a document's score is the cosine of its vector and the query's.

    More than 64 documents are not asked about at once: algorithm group-scores deals them into groups (`group=64`), and
    the cosine in each group is to the query's vector there. The checkpoint's own code averages these vectors over
    groups instead.

    Args:
        folder, prompt, options: as of `PromptedJudge`; `document_tokens` is 2048 by the prompt.

    Raises:
        CheckpointError: when the checkpoint is no such model, or lacks its tokens or its projector.
    """

    answers = frozenset({GradeSet})
    scoring = "listwise-embedding 1"

    def __init__(self, folder: str | Path, *, prompt: str | Path | Prompt = "jina-v3", **options: Any) -> None:
        if (kind := checkpoints.kind(folder)) != "listwise-embedding":
            raise CheckpointError(f"{folder} is of kind {kind}, which gives documents of a list no vectors")
        super().__init__(folder, prompt=prompt, **options)
        self.ends = tuple(self._token(name) for name in (DOCUMENT_END, QUERY_END))

    def _loaded(self, loading: Loading) -> TextModel:
        """The model and its projector."""
        made = projected(self.folder, loading, prefix="projector.", activation=nn.ReLU())
        self.projector = made.projector
        return CausalText(made.loaded)

    def texts(self, question: Question, *, whole: bool = False) -> dict[str, str]:
        """As of `PromptedJudge`; the two tokens that end texts are taken out of them."""
        said = super().texts(question, whole=whole)
        return {name: text.replace(DOCUMENT_END, "").replace(QUERY_END, "") for name, text in said.items()}

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`; more than 64 documents are refused.

        Raises:
            InputError: when there are more.
        """
        shown = question.documents
        if len(shown) > DOCUMENTS:
            raise InputError(
                f"{len(shown)} documents in one sequence, and {DOCUMENTS} are the most; ask in groups of them"
            )
        return super().render(question)

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One pass over the sequences."""
        assert isinstance(self.model, CausalText)
        states, cost = self.model.packed.hidden_at([self._segments(each.prompt.ids) for each in asked])
        return Given([self._scored(each) for each in states], Work.of(cost))

    @torch.inference_mode()
    def _scored(self, states: Tensor) -> GradedSet:
        """[documents + 1, dim], the query's last -> cosines."""
        rows = nn.functional.pad(states.float(), (0, 0, 0, PROJECTED_ROWS - len(states)))
        vectors = self.projector(rows)[: len(states)].double()
        *documents, query = nn.functional.normalize(vectors, dim=-1)
        return GradedSet(tuple(float(vector @ query) for vector in documents))

    def _segments(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        """The prompt up to the query's end, cut behind every token whose state is read."""
        document, query = self.ends
        places = [place + 1 for place, token in enumerate(ids) if token in (document, query)]
        return [tuple(ids[start:end]) for start, end in pairwise([0, *places])]

    def _token(self, name: str) -> int:
        found = self.tokenizer.get_vocab().get(name)
        if found is None:
            raise CheckpointError(f"the tokenizer of {self.folder} has no token {name!r}, whose state is a vector")
        return int(found)
