"""In-context reranking: how much attention the query pays to each document, calibrated by a query that says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank.engine.causal import CausalLM
from rerank.engine.texts.prompt_tokens import Prompt as Rendered
from rerank.engine.texts.prompt_tokens import Slot
from rerank.errors import CheckpointError, InputError
from rerank.judges.bills import Asked, Given, Work
from rerank.judges.causal_text import CausalText
from rerank.judges.prompted import PromptedJudge
from rerank.prompts.prompt import Prompt, identifiers
from rerank.questions import GradedSet, GradeSet, Question

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Attention", "Spans", "calibrated"]

NO_QUERY = "N/A"

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spans:
    """A prompt cut for attention.

    Args:
        context: all tokens in front of the instruction.
        documents: (first token, token behind the last) of each document with its label, in the order asked.
        query, nothing: the tokens behind the context with the query, and with "N/A" in its place.
    """

    context: Ids
    documents: tuple[tuple[int, int], ...]
    query: Ids
    nothing: Ids

    @property
    def segments(self) -> list[Ids]:
        """The context, cut where documents begin."""
        ends = sorted({0, len(self.context), *(start for start, _ in self.documents)})
        return [self.context[start:end] for start, end in pairwise(ends)]


class Attention(PromptedJudge):
    """In-context reranking (Chen et al., 2024, https://arxiv.org/abs/2410.02642).

    One context holds all documents. A token's number is the attention that it gets from the instruction, the query and
    what follows them to the prompt's end: the mean over these, the sum over all heads and layers. The same for the
    query "N/A" is taken from it. A document's score is the sum over its tokens, label included, of what is left,
    without tokens that lie two standard deviations and more below their document's mean.

    Args:
        folder, prompt, options: as of `PromptedJudge`. A causal model that attends everywhere in all its layers.
        reverse: show the documents in reverse, the first of them next to the query, as published.

    Raises:
        CheckpointError: when the checkpoint is no causal language model.
    """

    answers = frozenset({GradeSet})
    scoring = "attention 1"

    def __init__(
        self, folder: str | Path, *, prompt: str | Path | Prompt = "icr", reverse: bool = True, **options: Any
    ) -> None:
        self.reverse = reverse
        super().__init__(folder, prompt=prompt, **options)
        if not isinstance(self.model, CausalText):
            raise CheckpointError(f"{folder} is no causal language model, whose attention is asked for")
        self.lm: CausalLM = self.model.packed
        slots = self.templates(2).slots
        self.late = "instruction" if "instruction" in slots else "query"

    @property
    def options(self) -> dict[str, str]:
        """In which order documents are shown."""
        return {"order": "reversed" if self.reverse else "as asked"}

    def render(self, question: Question) -> Rendered:
        """As of `PromptedJudge`, of the documents in the order shown."""
        assert isinstance(question, GradeSet)
        return super().render(self._shown(question))

    def ask(self, asked: Sequence[Asked]) -> Given:
        """One pass for each question, over a context and two queries."""
        found = [self._scores(each) for each in asked]
        return Given([answer for answer, _ in found], Work.total(work for _, work in found))

    def spans(self, asked: Asked) -> Spans:
        """Where in the prompt everything stands, by the offsets of its whole text.

        Raises:
            InputError: when the tokenizer has no offsets, or reads the query together with the documents.
        """
        question = asked.question
        assert isinstance(question, GradeSet)
        shown = self._shown(question)
        plain, _ = self.templates(len(shown.documents)).plain(self.texts(shown))
        texts = self._fitted(plain, asked.prompt)
        ids, offsets, places, late = self._whole(texts)
        nothing, _, _, _ = self._whole({**texts, "query": NO_QUERY})
        start = next(index for index, (_, end) in enumerate(offsets) if end > late)
        documents = [
            (_token(offsets, begin), max(_token(offsets, end), _token(offsets, begin) + 1)) for begin, end in places
        ]
        if ids[:start] != nothing[:start] or documents[-1][1] > start:
            raise InputError("the tokenizer reads the documents together with the query; change what parts them")
        return Spans(ids[:start], tuple(documents[::-1] if self.reverse else documents), ids[start:], nothing[start:])

    def _shown(self, question: GradeSet) -> GradeSet:
        documents = question.documents[::-1] if self.reverse else question.documents
        return GradeSet(question.query, documents, question.draw)

    def _scores(self, asked: Asked) -> tuple[GradedSet, Work]:
        spans = self.spans(asked)
        mass = self.lm.attention(spans.segments, [spans.query, spans.nothing])
        scores = calibrated(mass.tokens, spans)
        return GradedSet(scores), Work.of(mass.cost)

    def _fitted(self, texts: dict[str, str], prompt: Rendered) -> dict[str, str]:
        """Documents as they were cut to fit."""
        tokens = self.templates(sum(name.startswith("document ") for name in texts)).borders.texts
        lengths = {name: len(tokens.encode([texts[name]])[0]) - lost for name, lost in (prompt.cut or {}).items()}
        return texts | {name: tokens.beginning(texts[name], length) for name, length in lengths.items()}

    def _whole(self, texts: dict[str, str]) -> tuple[Ids, list[tuple[int, int]], list[tuple[int, int]], int]:
        """Ids and offsets of a prompt's text, (start, end) of each document, and where the query's part begins."""
        count = sum(name.startswith("document ") for name in texts)
        template = self.templates(count).template
        text, places, late = "", [], -1
        labels = iter(self._labels(count))
        for part in template.parts:
            if not isinstance(part, Slot):
                text += part
                continue
            if part.name == self.late and late < 0:
                late = len(text)
            if part.cut:
                places.append((len(text) - len(next(labels)), len(text) + len(texts[part.name])))
            text += texts[part.name]
        encoded = self.tokenizer(
            text, add_special_tokens=template.special_tokens, return_offsets_mapping=True, verbose=False
        )
        return tuple(encoded["input_ids"]), encoded["offset_mapping"], places, late

    def _labels(self, count: int) -> Iterator[str]:
        """What stands in front of each document's text and is counted with it: "[1] "."""
        before = self.prompt.document.partition("{text}")[0]
        yield from (before.format(identifier=name) for name in identifiers(self.prompt.identifiers, count))


def calibrated(mass: Tensor, spans: Spans) -> tuple[float, ...]:
    """Document scores out of the attention mass of two queries: [2, context tokens], summed over query tokens."""
    means = mass.double() / mass.new_tensor([[len(spans.query)], [len(spans.nothing)]]).double()
    left = means[0] - means[1]
    return tuple(_kept(left[start:end]).sum().item() for start, end in spans.documents)


def _kept(tokens: Tensor) -> Tensor:
    """Without tokens two standard deviations and more below the mean."""
    if len(tokens) < 2:
        return tokens
    return tokens[tokens > tokens.mean() - 2 * tokens.std()]


def _token(offsets: Sequence[tuple[int, int]], place: int) -> int:
    """The first token that ends behind a place in the text."""
    return next((index for index, (_, end) in enumerate(offsets) if end > place), len(offsets))
