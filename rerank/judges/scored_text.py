"""Models with a score head that read every prompt as a whole: nothing is shared between prompts, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rerank.engine import packing
from rerank.engine.bidirectional import BUDGETS, BidirectionalLM
from rerank.engine.decoders.families import context_limit
from rerank.engine.loading import Loaded, longest_input
from rerank.engine.texts.prompt_tokens import Prompt, Template
from rerank.engine.translated import Bidirectional
from rerank.judges.bills import Work
from rerank.judges.causal_text import causal_template
from rerank.judges.text_models import Wordless
from rerank.prompts import Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BidirectionalText", "ScoredText"]


class ScoredText(Wordless):
    """What is the same for all of them, as `TextModel` says.

    Args:
        loaded: the model.
        execution: how it runs, for the ledger.
        answer: how answers begin.
    """

    refusal = "has no head over the vocabulary; ask it by the judge of its score head"
    writes_behind = True

    def __init__(self, loaded: Loaded, execution: str, answer: str = "") -> None:
        self.loaded, self.execution, self.answer = loaded, execution, answer
        self.longest = context_limit(loaded.model.config)
        self.usual = min(self.longest, longest_input(loaded.model, loaded.tokenizer))
        self.budget = BUDGETS.get(loaded.model.device.type, BUDGETS["cpu"])

    def template(self, messages: Sequence[Message], *, thinking: bool = False) -> Template:
        """As of a causal model."""
        return causal_template(self.loaded.tokenizer, messages, self.answer, thinking=thinking)

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """One pass each."""
        return packing.in_order(lengths, budget)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """There are none."""
        self._refuse()


class BidirectionalText(ScoredText):
    """A Llama that sees both ways.

    Args:
        made: as `rerank.engine.translated.bidirectional` gives it.
        answer: how answers begin.
    """

    def __init__(self, made: Bidirectional, answer: str = "") -> None:
        self.lm = BidirectionalLM(made.loaded.model, pooling=made.pooling, temperature=made.temperature)
        super().__init__(made.loaded, f"{self.lm.execution}, {made.pooling} pooling", answer)

    def classify(self, prompts: Sequence[Prompt]) -> tuple[list[Tensor], Work]:
        """What the score head says: float32 [labels] each."""
        scored = self.lm.classify([prompt.ids for prompt in prompts])
        return list(scored.logits), Work.of(scored.cost)
