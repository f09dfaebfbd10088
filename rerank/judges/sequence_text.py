"""A T5 that answers prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rerank.engine import packing
from rerank.engine.loading import Loaded, longest_input
from rerank.engine.seq2seq import EncoderDecoder, Sampling
from rerank.engine.t5.across import Across
from rerank.engine.t5.choice import Allowed
from rerank.engine.texts.prompt_tokens import Prompt, Slot, Template
from rerank.judges.bills import Work
from rerank.judges.text_models import GREEDY, Manner, Outcome, Wrote, answer_ids, slots
from rerank.prompts import Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SequenceText", "paragraphs"]

USUAL = 512
"""What a T5 reads by default: its positions have no end, and it was trained on so many."""

DRAWS = 2**32
"""Draws of a seed that are told apart from those of the next."""

BUDGETS = {"cpu": 4096, "cuda": 16_384}


class SequenceText:
    """A T5 as `TextModel` says. The encoder reads the prompt; the answer's beginning is the decoder's.

    Args:
        loaded: with its output head.
        answer: how answers begin.
        across: lets texts that are fused see each other in the encoder.
    """

    writes_behind = False

    def __init__(self, loaded: Loaded, answer: str = "", across: Across | None = None) -> None:
        self.loaded = loaded
        self.model = EncoderDecoder(loaded.model, across=across)
        self.longest = 10**9
        self.usual = min(USUAL, longest_input(loaded.model, loaded.tokenizer))
        self.budget = BUDGETS.get(loaded.model.device.type, BUDGETS["cpu"])
        self.prefix = [loaded.model.config.decoder_start_token_id, *answer_ids(loaded, answer)]

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.model.execution

    def template(self, messages: Sequence[Message], *, thinking: bool = False) -> Template:
        """What is said, one turn a paragraph; the tokenizer adds its end token. There is no template to ask."""
        return paragraphs(messages)

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """One pass of the encoder each."""
        return (packing.in_order if self.model.packs else packing.by_length)(lengths, budget)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of each prompt's own target tokens; one call for those that share them, since the number of
        targets must not change how a neighbour's are computed."""
        each = [tuple(own) for own in targets]
        rows: dict[int, Tensor] = {}
        works = []
        for ids in sorted(set(each)):
            whose = [index for index, own in enumerate(each) if own == ids]
            scored = self.model.score_groups([prompts[index].texts for index in whose], ids, prefix=self.prefix)
            rows.update(zip(whose, scored.logits, strict=True))
            works.append(Work(scored.tokens, scored.padded, scored.flops))
        return [rows[index] for index in range(len(each))], Work.total(works)

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The log-probability of each token of each continuation."""
        likely = self.model.likelihood([prompt.ids for prompt in prompts], texts, prefix=self.prefix)
        return list(likely.log_probs), Work(likely.tokens, likely.padded, likely.flops)

    def write(
        self,
        prompts: Sequence[Prompt],
        limits: Sequence[int],
        manner: Manner = GREEDY,
        draws: Sequence[int] = (),
        *,
        allowed: Allowed | None = None,
    ) -> tuple[list[Outcome], Work]:
        """What the decoder writes. It goes on behind a string that ends an answer, which costs and changes nothing.

        `allowed` is as of `EncoderDecoder.generate`.
        """
        seeds = [manner.seed * DRAWS + draw for draw in draws or [0] * len(prompts)]
        sampling = Sampling(seeds, manner.temperature, manner.top_p) if manner.temperature else None
        groups = [prompt.texts for prompt in prompts]
        written = self.model.generate(
            groups, max_tokens=max(limits), allowed=allowed, prefix=self.prefix, sampling=sampling
        )
        texts = [self._wrote(ids, most, manner.stop) for ids, most in zip(written.texts, limits, strict=True)]
        return [*texts], Work(written.tokens, written.padded, written.flops, calls=1 + written.steps)

    def _wrote(self, ids: Sequence[int], most: int, stop: Sequence[str]) -> Wrote:
        text = self._decoded(ids[:most])
        found = min((each for each in stop if each in text), key=text.index, default=None)
        if found is not None:
            text = text[: text.index(found)]
        return Wrote(text, len(ids[:most]), tuple(ids[:most]), found, found is None and len(ids) >= most)

    def _decoded(self, ids: Sequence[int]) -> str:
        """Together with the answer's beginning, whose spaces it keeps."""
        return str(self.loaded.tokenizer.decode([*self.prefix, *ids], skip_special_tokens=True))


def paragraphs(messages: Sequence[Message]) -> Template:
    """What is said, one turn a paragraph."""
    parts: list[str | Slot] = []
    for index, (_, said) in enumerate(messages):
        parts += [*(["\n\n"] if index else []), *slots(said)]
    return Template(tuple(parts))
