"""Listwise language models: RankVicuna's and RankZephyr's fine-tuning, full lists, and FIRST."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rerank import checkpoints
from rerank.engine.decoders.families import context_limit
from rerank.errors import InputError
from rerank.judges.separate import checked_tokens
from rerank.judges.target_words import continuation, target_ids
from rerank.prompts.prompt import identifiers
from training.examples import Example
from training.students.causal import answer_log_probs, answer_rows, load_model, row_states, try_packed
from training.students.prompts import PromptReader
from training.students.student import Lora, Student, with_lora
from training.students.target_token import head_rows

__all__ = ["Listwise", "order_of", "token_ranks"]


class Listwise(Student):
    """A causal language model that writes the order of a list: "[2] > [3] > [1]".

    Losses: `lm` over what should be written (https://arxiv.org/abs/2309.15088), `importance-weighted-lm`
    (https://arxiv.org/abs/2412.14574), or `first`, which ranks by the logits of the first identifier, too, and wants
    identifiers of one token each (https://arxiv.org/abs/2406.15657).

    Args:
        name: a checkpoint's name, hub id or folder.
        prompt: of the toolkit, that asks for an order: "rankzephyr", "rankgpt", "first" …
        max_tokens: of prompt and answer together; documents are cut at their ends. By default 4,096, or what the model
            reads.
        packed: without padding; None: where that gives the same.
        lora: train adapters alone.
        dtype: of the weights.

    Raises:
        InputError: when the prompt asks for something else, or the model reads fewer tokens.
    """

    wants: ClassVar[str] = "tokens"

    def __init__(
        self,
        name: str | Path,
        *,
        prompt: str = "rankzephyr",
        max_tokens: int | None = None,
        packed: bool | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        folder = checkpoints.fetch(name)
        model, tokenizer = load_model(folder, "AutoModelForCausalLM", dtype, lora)
        super().__init__(with_lora(model, lora), tokenizer)
        most = checked_tokens("max_tokens", max_tokens, 4096, context_limit(model.config), folder)
        self.reader = PromptReader(folder, tokenizer, prompt, max_tokens=most)
        if self.reader.prompt.asks != "permute":
            raise InputError(f"prompt {prompt!r} asks to {self.reader.prompt.asks}, and a listwise model writes orders")
        self.why_padded = try_packed(model, packed)

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return f"padded ({self.why_padded})" if self.why_padded else "packed"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks: by windows."""
        prompt = self.reader.prompt
        judge = "first-token" if prompt.identifiers == "letters" else "permutation"
        return {
            "judge": judge,
            "algorithm": "sliding-windows",
            "prompt": prompt.name,
            "max_tokens": self.reader.max_tokens,
        }

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A prompt and its answer a list."""
        read = [self._text(example) for example in examples]
        return {
            **answer_rows([(prompt, answer) for prompt, answer, _, _ in read]),
            "ranks": pad_sequence([torch.tensor(ranks) for _, _, ranks, _ in read], batch_first=True),
            "counts": torch.tensor([len(example) for example in examples]),
            "cut": torch.tensor(sum(lost for _, _, _, lost in read)),
        }

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """`log_probs` of what should be written, `token_mask`, `ranks` [lists, tokens], and `letters` [documents]."""
        model = self.core
        at, written, mask, ranks, counts = (
            inputs.pop(name) for name in ("at", "written", "token_mask", "ranks", "counts")
        )
        states = row_states(model, **inputs, packed=not self.why_padded)
        return {
            "log_probs": answer_log_probs(model, states, at, written, mask),
            "token_mask": mask,
            "ranks": ranks,
            "letters": self._letters(states, at, counts),
        }

    def scores_of(self, outputs: dict[str, Tensor]) -> Tensor:
        """The logits of the documents' identifiers where the first is written.

        Raises:
            InputError: when identifiers are several tokens.
        """
        letters = outputs["letters"]
        if not len(letters):
            name = self.reader.prompt.name
            raise InputError(
                f"prompt {name!r} has identifiers of several tokens, whose order is read only when it is written; "
                "measure what was trained with 'rerank rerank', or train by the prompt 'first'"
            )
        return letters

    def _text(self, example: Example) -> tuple[list[int], list[int], list[int], int]:
        """Ids of the prompt, ids of the answer, each one's rank, and how many documents were cut."""
        labels = identifiers(self.reader.prompt.identifiers, len(example))
        answer, spans = written_order([labels[index] for index in order_of(example, self.target)])
        begun = self.reader.prompt.answer
        if begun and not answer.startswith(begun):
            raise InputError(f"prompt {self.reader.prompt.name!r} begins answers with {begun!r}, and orders do not")
        behind = self.reader.tail(len(example))
        ids = [*continuation(self.tokenizer, answer[len(begun) :], behind=behind), self.tokenizer.eos_token_id]
        prompt = self.reader.read(example.query, example.documents, room=len(ids))
        ranks = token_ranks(self.tokenizer, answer, len(begun), spans, len(ids) - 1)
        return list(prompt.ids), ids, [*ranks, 0], len(prompt.cut or ())

    def _letters(self, states: Tensor, at: Tensor, counts: Tensor) -> Tensor:
        """[documents], one list after the other; empty where identifiers are several tokens."""
        found = []
        for place, count in zip(at[:, 0], counts.tolist(), strict=True):
            labels = identifiers(self.reader.prompt.identifiers, count)
            try:
                tokens = target_ids(self.tokenizer, labels, behind=self.reader.tail(count))
            except InputError:
                return states.new_zeros(0)
            found.append(head_rows(self.core, states[place][None], tokens)[0])
        return torch.cat(found)


def token_ranks(tokenizer: Any, answer: str, start: int, spans: Sequence[tuple[int, int]], count: int) -> list[int]:
    """The rank of the identifier that each token of an answer belongs to, from 1; 0 for those between.

    Args:
        tokenizer: which wrote it.
        answer: its text.
        start: where the tokens begin in it.
        spans: where each identifier stands in it, in the order written.
        count: of the tokens; where the tokenizer by itself gives others, all are 0.
    """
    encoded = tokenizer(answer[start:], add_special_tokens=False, return_offsets_mapping=True)
    places = [(begin + start, end + start) for begin, end in encoded["offset_mapping"]]
    if len(places) != count:
        return [0] * count
    return [
        next((rank for rank, (low, high) in enumerate(spans, start=1) if low <= begin and end <= high), 0)
        for begin, end in places
    ]


def order_of(example: Example, target: str | None) -> list[int]:
    """Documents best first: as a teacher's order says, its scores, or labels; as shown where nothing says it."""
    kinds = (target,) if target else ("order", "scores", "relevance")
    for kind in kinds:
        values = getattr(example, kind)
        if values is not None:
            return list(values) if kind == "order" else sorted(range(len(values)), key=lambda place: -values[place])
    return list(range(len(example)))


def written_order(labels: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """ "[2] > [1]", and where each identifier stands in it, brackets included."""
    text, spans = "", []
    for label in labels:
        text += " > " if text else ""
        spans.append((len(text), len(text) + len(label) + 2))
        text += f"[{label}]"
    return text, spans
