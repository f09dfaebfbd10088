"""An encoder-decoder of Gemmas whose encoder reads the passage and whose decoder reads what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rerank.engine import packing
from rerank.engine.kept import KeptTensors
from rerank.engine.loading import Loaded
from rerank.engine.pooled import PooledPassages
from rerank.engine.texts.prompt_tokens import Prompt, Template
from rerank.judges.bills import Work
from rerank.judges.text_models import Wordless, slots
from rerank.prompts import Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PassageText"]

USUAL = 1024
"""Tokens of a passage by default, as in the published code."""

TOGETHER = 16
"""Passes of the model whose prompts are given to it at once."""


class PassageText(Wordless):
    """A KaLM-Reranker-V1 as `TextModel` says. A prompt is two texts: the passage's, and what is asked of it.

    Args:
        loaded: with its output head; what it has for images is given up.
        chunk, kept: as of `PooledPassages`.
    """

    refusal = "says yes or no of a passage; ask it by judge='pooled-passage'"
    writes_behind = False

    def __init__(self, loaded: Loaded, *, chunk: int, kept: KeptTensors) -> None:
        encoder = loaded.model.get_encoder()
        encoder.vision_tower = encoder.multi_modal_projector = None  # larger than the text model of the smallest
        self.loaded = loaded
        self.lm = PooledPassages(loaded.model, chunk=chunk, kept=kept)
        self.longest = self.lm.longest
        self.usual = min(USUAL, self.longest)
        self.budget = self.lm.budget

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.lm.execution

    def template(self, messages: Sequence[Message], *, thinking: bool = False) -> Template:
        """What one of the two reads; special tokens stand in the prompt."""
        return Template(tuple(part for _, said in messages for part in slots(said)), special_tokens=False)

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """Several passes at once, which the model cuts itself."""
        self.lm.budget = budget
        return packing.in_order(lengths, budget * TOGETHER)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of target tokens, which all prompts share."""
        passages, asked = zip(*(prompt.texts for prompt in prompts), strict=True)
        scored = self.lm.score(passages, asked, targets[0])
        return list(scored.logits), Work.of(scored.cost)
