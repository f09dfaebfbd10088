"""Fusion in decoder: a text for each document, one decoder that reads them all and writes their order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import BaseModelOutput

from rerank import checkpoints, prompts
from rerank.engine.texts.borders import Borders
from rerank.engine.texts.fused_tokens import fused
from rerank.engine.texts.prompt_tokens import Prompt, PromptTokens
from rerank.engine.texts.text_tokens import TextTokens, store_for
from rerank.errors import InputError
from rerank.judges.sequence_text import paragraphs
from rerank.prompts.prompt import identifiers
from rerank.types import Document, Query
from training.examples import BadExample, Example
from training.students.causal import load_model
from training.students.listwise import order_of, token_ranks
from training.students.student import Lora, Student, with_lora

__all__ = ["FusionInDecoder"]


class FusionInDecoder(Student):
    """ListT5 (https://arxiv.org/abs/2402.15838) and LiT5-Distill (https://arxiv.org/abs/2312.16098), from a T5.

    The prompt says how an order is written: bare numbers, the best last (ListT5), or "[2] > [1]" (LiT5).
    Losses: `lm`, `importance-weighted-lm`.

    Args:
        name: a T5's name, hub id or folder.
        prompt: of the toolkit, that makes a text of each document: "listt5" or "lit5".
        group: documents of a list, at most, and of what it is asked about at once; by default 5 where the best is
            written last, else 20.
        max_tokens: of each text: query, identifier and document; documents are cut at their ends.
        lora: train adapters alone.
        dtype: of the weights.

    Raises:
        InputError: when it is no T5, or the prompt asks for something else.
    """

    wants: ClassVar[str] = "tokens"
    measured: ClassVar[bool] = False

    def __init__(
        self,
        name: str | Path,
        *,
        prompt: str = "listt5",
        group: int | None = None,
        max_tokens: int = 256,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        asked = prompts.find(prompt)
        if not asked.fused or asked.asks != "permute":
            raise InputError(f"prompt {prompt!r} makes no text of each document, to be put in order")
        folder = checkpoints.fetch(name)
        if (kind := checkpoints.kind(folder)) != "encoder-decoder":
            raise InputError(f"{folder.name} is a {kind}; fusion in decoder takes a T5")
        model, tokenizer = load_model(folder, "AutoModelForSeq2SeqLM", dtype, lora)
        super().__init__(with_lora(model, lora), tokenizer)
        self.prompt, self.max_tokens = asked, max_tokens
        self.group = group or (5 if asked.best_last else 20)
        if self.group < 2:
            raise InputError(f"group={group}; an order takes at least 2 documents")
        self._borders = Borders(TextTokens(tokenizer, store_for(tokenizer, None)))
        self._texts = lru_cache(maxsize=128)(self._text_of)

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return "padded (a T5)"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks: by a tournament of groups, or by windows."""
        windows = {"window": self.group, "step": max(1, self.group // 2)}
        return {
            "judge": "fusion-in-decoder",
            "algorithm": "tournament" if self.prompt.best_last else "sliding-windows",
            "prompt": self.prompt.name,
            "max_tokens": self.max_tokens,
            "options": {"group": self.group} if self.prompt.best_last else windows,
        }

    def check(self, examples: Iterable[Example]) -> None:
        """See that lists are as short as groups, before the first step.

        Raises:
            BadExample: the first that is longer.
        """
        for example in examples:
            if len(example) > self.group:
                detail = f"{len(example)}, and a group is of {self.group}; say schedule.sample={self.group}"
                raise BadExample("too many documents", detail, example.where)

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """All texts of all lists in one rectangle, and what should be written about each list."""
        shown = [self._prompt(example) for example in examples]
        written = [self._answer(example) for example in examples]
        texts = [torch.tensor(text) for prompt in shown for text in prompt.texts]
        answers = [torch.tensor(ids) for ids, _ in written]
        return {
            "input_ids": pad_sequence(texts, batch_first=True, padding_value=self.core.config.pad_token_id),
            "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
            "counts": torch.tensor([len(example) for example in examples]),
            "written": pad_sequence(answers, batch_first=True),
            "token_mask": pad_sequence([torch.ones_like(answer) for answer in answers], batch_first=True).bool(),
            "ranks": pad_sequence([torch.tensor(ranks) for _, ranks in written], batch_first=True),
            "cut": torch.tensor(sum(len(prompt.cut or ()) for prompt in shown)),
        }

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """`log_probs` of what should be written, `token_mask` and `ranks` [lists, tokens]; no `letters`."""
        model, mask = self.core, inputs["attention_mask"].bool()
        states = model.get_encoder()(input_ids=inputs["input_ids"], attention_mask=mask.long()).last_hidden_state
        sizes = [int(part.sum()) for part in torch.split(mask, inputs["counts"].tolist())]
        lists = torch.split(states[mask], sizes)  # the texts of a list, one behind the other, without padding
        seen = pad_sequence([torch.ones(size, device=mask.device) for size in sizes], batch_first=True)
        start = torch.full_like(inputs["written"][:, :1], model.config.decoder_start_token_id)
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=pad_sequence(list(lists), batch_first=True)),
            attention_mask=seen,
            decoder_input_ids=torch.cat([start, inputs["written"][:, :-1]], 1),
            use_cache=False,
        ).logits
        log_probs = logits.float().log_softmax(-1).gather(-1, inputs["written"][..., None])[..., 0]
        return {
            "log_probs": log_probs,
            "token_mask": inputs["token_mask"],
            "ranks": inputs["ranks"],
            "letters": log_probs.new_zeros(0),
        }

    def _prompt(self, example: Example) -> Prompt:
        shown = [Document(str(index), text) for index, text in enumerate(example.documents)]
        asked = Query("query", example.query)
        texts, whole = self.prompt.texts(asked, shown), self.prompt.texts(asked, shown, whole=True)
        own = [self._texts(index) for index in range(len(shown))]
        return fused(own, texts, whole=whole, max_tokens=self.max_tokens, document_tokens=self.prompt.tokens)

    def _text_of(self, index: int) -> PromptTokens:
        return PromptTokens(self._borders, paragraphs(self.prompt.render(index + 1)[index:]))

    def _answer(self, example: Example) -> tuple[list[int], list[int]]:
        """What should be written, its end included, and the rank that each token belongs to."""
        names = identifiers(self.prompt.identifiers, len(example))
        bracketed = "[" in self.prompt.complete_list(1)
        labels = [f"[{names[index]}]" if bracketed else names[index] for index in order_of(example, self.target)]
        if self.prompt.best_last:
            labels.reverse()
        text, spans = "", []
        for label in labels:
            text += (" > " if bracketed else " ") if text else ""
            spans.append((len(text), len(text) + len(label)))
            text += label
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ranks = token_ranks(self.tokenizer, text, 0, spans, len(ids))
        if self.prompt.best_last:
            ranks = [len(labels) + 1 - rank if rank else 0 for rank in ranks]
        return [*ids, self.tokenizer.eos_token_id], [*ranks, 0]
