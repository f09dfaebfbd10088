"""The encoder of a T5 with a score head, which reads prompts and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from rerank.engine import packing
from rerank.engine.encoders.layers import HEAD_ROWS, in_fixed_rows
from rerank.engine.loading import Loaded, longest_input
from rerank.engine.t5.score_model import ScoreReading
from rerank.engine.t5.texts import TextEncoder
from rerank.engine.texts.prompt_tokens import Prompt, Slot, Template
from rerank.errors import CheckpointError
from rerank.judges.bills import Work
from rerank.judges.sequence_text import BUDGETS, USUAL
from rerank.judges.text_models import GREEDY, Manner, Outcome, slots
from rerank.prompts import Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EncoderText"]


class EncoderText:
    """RankT5's encoder-only shape (Zhuang et al., 2022, https://arxiv.org/abs/2210.10634) as `TextModel` says.

    Args:
        loaded: the encoder.
        reading: how its score is read.
    """

    writes_behind = False

    def __init__(self, loaded: Loaded, reading: ScoreReading) -> None:
        self.loaded, self.reading = loaded, reading
        self.model = TextEncoder(loaded.model)
        self.longest = 10**9
        self.usual = min(USUAL, longest_input(loaded.model, loaded.tokenizer))
        self.budget = BUDGETS.get(loaded.model.device.type, BUDGETS["cpu"])

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return f"{self.model.execution}, {self.reading.pooling} pooled"

    def template(self, messages: Sequence[Message], *, thinking: bool = False) -> Template:
        """What is said, one turn a paragraph; the tokenizer adds its end token."""
        parts: list[str | Slot] = []
        for index, (_, said) in enumerate(messages):
            parts += [*(["\n\n"] if index else []), *slots(said)]
        return Template(tuple(parts))

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """One pass of the encoder each."""
        return (packing.in_order if self.model.packs else packing.by_length)(lengths, budget)

    @torch.inference_mode()
    def classify(self, prompts: Sequence[Prompt]) -> tuple[list[Tensor], Work]:
        """What the score head says: float32 [labels] each."""
        encoded = self.model.encode([prompt.ids for prompt in prompts])
        texts = torch.split(encoded.states, list(encoded.lengths))
        pooled = torch.stack([self._pooled(text.float()) for text in texts]) * self.reading.scale
        logits = in_fixed_rows(self.reading.linear, pooled).cpu()
        rows = -(-len(prompts) // HEAD_ROWS) * HEAD_ROWS
        flops = encoded.flops + 2 * rows * self.reading.linear.weight.numel()
        return list(logits), Work(encoded.tokens, encoded.padded, flops)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """There are none."""
        raise self._silent()

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """There is none."""
        raise self._silent()

    def write(
        self, prompts: Sequence[Prompt], limits: Sequence[int], manner: Manner = GREEDY, draws: Sequence[int] = ()
    ) -> tuple[list[Outcome], Work]:
        """Nothing can be."""
        raise self._silent()

    def _pooled(self, states: Tensor) -> Tensor:
        return states[0] if self.reading.pooling == "first" else states.mean(0)

    def _silent(self) -> CheckpointError:
        return CheckpointError("an encoder with a score head has no words to be asked for; use judge='score-head'")
