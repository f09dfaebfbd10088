"""Models that think and then answer: fine-tuned on what a teacher wrote, or by what their own answers are worth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rerank import checkpoints, methods, registry
from rerank.engine.decoders.families import context_limit
from rerank.engine.texts.text_tokens import special_tokens
from rerank.errors import InputError
from rerank.judges.choosing import judge_for, keywords
from rerank.judges.separate import checked_tokens
from rerank.judges.target_words import added_ids
from training.examples import BadExample, Example
from training.students.causal import answer_log_probs, answer_rows, load_model, row_states, try_packed
from training.students.prompts import PromptReader
from training.students.student import Lora, Student, with_lora

__all__ = ["Reasoner"]

TAGS = re.compile(r"(</?(?:think|answer)>)")
USUAL_TOKENS = 1024
ALGORITHMS = {"grade": "pointwise", "pick": "setwise-heapsort", "permute": "sliding-windows"}
"""How a kind of prompt ranks, where no method has its name."""


class Reasoner(Student):
    """A causal language model that writes a thought and an answer.

    Objectives: `sft`, on completions (Rank1, https://arxiv.org/abs/2502.18418; Rank-K,
    https://arxiv.org/abs/2505.14432; ReasonRank, https://arxiv.org/abs/2508.07050), whose loss is over the completion
    alone; or `grpo`, by rewards.

    Args:
        name: a checkpoint's name, hub id or folder.
        prompt: of the toolkit: "rank1", "rank-k", "reasonrank", "rank-r1", "tfrank" …
        max_tokens: of prompt and completion together; documents are cut at their ends. By default 8,192, or what the
            model reads.
        new_tokens: of a completion, as the prompt's file says by default, or 1,024.
        packed: without padding; None: where that gives the same. What `grpo` does is padded.
        lora: train adapters alone.
        dtype: of the weights.

    Raises:
        InputError: when the completions leave no room for a prompt, the prompt asks for none, or the model reads fewer
            tokens.
    """

    wants: ClassVar[str] = "completions or rewards"

    def __init__(
        self,
        name: str | Path,
        *,
        prompt: str = "reasonrank",
        max_tokens: int | None = None,
        new_tokens: int | None = None,
        packed: bool | None = None,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        folder = checkpoints.fetch(name)
        model, tokenizer = load_model(folder, "AutoModelForCausalLM", dtype, lora)
        super().__init__(with_lora(model, lora), tokenizer)
        most = checked_tokens("max_tokens", max_tokens, 8192, context_limit(model.config), folder)
        self.reader = PromptReader(folder, tokenizer, prompt, max_tokens=most)
        self.new_tokens = new_tokens or self.reader.prompt.new_tokens or USUAL_TOKENS
        if self.reader.prompt.asks not in ALGORITHMS:
            kinds = ", ".join(ALGORITHMS)
            raise InputError(f"prompt {prompt!r} asks to {self.reader.prompt.asks}; a reasoner is asked to {kinds}")
        if self.new_tokens >= most:
            raise InputError(f"new_tokens={self.new_tokens} leaves no room for a prompt within max_tokens={most}")
        self.why_padded = try_packed(model, packed)
        self._special = special_tokens(tokenizer)

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return f"padded ({self.why_padded})" if self.why_padded else "packed"

    def asked_as(self) -> dict[str, Any]:
        """How it is asked when it ranks: as the method of its prompt's name, or as its kind of prompt usually is."""
        prompt = self.reader.prompt
        method = methods.find(prompt.name) if methods.known(prompt.name) else None
        judge = method.judge if method else judge_for(prompt)
        writes = "new_tokens" in keywords(registry.load("judge", judge))
        options = {**(method.options if method else {}), **({"new_tokens": self.new_tokens} if writes else {})}
        return {
            "judge": judge,
            "algorithm": method.algorithm if method else ALGORITHMS[prompt.asks],
            "prompt": prompt.name,
            "max_tokens": self.reader.max_tokens,
            "options": options,
        }

    def check(self, examples: Iterable[Example]) -> None:
        """See that all completions fit, before the first step.

        Raises:
            BadExample: the first that is too long, or of several documents where the prompt shows one.
        """
        for example in examples:
            if self.reader.prompt.shows not in (None, len(example)):
                detail = f"{len(example)}, and prompt {self.reader.prompt.name!r} shows {self.reader.prompt.shows}"
                raise BadExample("too many documents", detail, example.where)
            count = len(self.completion(example))
            if count > self.new_tokens:
                detail = f"a completion of {count:,} tokens, over new_tokens={self.new_tokens:,}; allow more"
                raise BadExample("completion too long", detail, example.where)

    def read(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """A prompt and its completion a list."""
        answers = [self.completion(example) for example in examples]
        prompts = [
            self.reader.read(example.query, example.documents, room=len(answer))
            for example, answer in zip(examples, answers, strict=True)
        ]
        rows = answer_rows([(prompt.ids, answer) for prompt, answer in zip(prompts, answers, strict=True)])
        return {**rows, "cut": torch.tensor(sum(len(prompt.cut or ()) for prompt in prompts))}

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """`log_probs` of what should be written, and `token_mask`: [lists, tokens]."""
        at, written, mask = (inputs.pop(name) for name in ("at", "written", "token_mask"))
        states = row_states(self.core, **inputs, packed=not self.why_padded)
        return {"log_probs": answer_log_probs(self.core, states, at, written, mask), "token_mask": mask}

    def completion(self, example: Example) -> list[int]:
        """The tokens that should be written, and the end; without the beginning that the prompt writes itself.

        `<think>`, `<answer>` and their ends are the model's own tokens where it has some; any other special token that
        a teacher spelt out is broken up.
        """
        text, begun = example.completion or "", self.reader.begun
        pieces = TAGS.split(text.removeprefix(begun))
        parts = [piece if TAGS.fullmatch(piece) else self._special.plain(piece).text for piece in pieces]
        behind = self.reader.tail(len(example))
        return [*added_ids(self.tokenizer, "".join(parts), behind=behind), self.tokenizer.eos_token_id]
