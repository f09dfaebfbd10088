"""A causal language model that answers prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rerank.engine import packing
from rerank.engine.causal import CausalLM
from rerank.engine.decoders.families import why_not_packed
from rerank.engine.generation import Request, Writer, Written
from rerank.engine.loading import Loaded, longest_input
from rerank.engine.plain import PlainLM
from rerank.engine.texts.chat import chat
from rerank.engine.texts.prompt_tokens import Prompt, Template
from rerank.engine.writing.plain import PlainWriter
from rerank.errors import CheckpointError, InputError
from rerank.judges.bills import Work
from rerank.judges.text_models import GREEDY, Manner, Outcome, Wrote, answer_ids, slots
from rerank.prompts import Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CausalText", "causal_template"]

TOGETHER = 16
"""Passes of the model whose prompts are given to it at once, for what they begin with is computed once a call."""


class CausalText:
    """A causal language model as `TextModel` says. The answer's beginning stands at the end of its prompt.

    Prompts are packed and share their beginnings where the model's family allows it; any other is run by its own
    forward, one prompt at a time.

    Args:
        loaded: with a head over the vocabulary, or a score head.
        answer: how answers begin.
    """

    writes_behind = True

    def __init__(self, loaded: Loaded, answer: str = "") -> None:
        self.loaded = loaded
        self.answer = answer
        self.lm: CausalLM | PlainLM
        self._writer: Writer | PlainWriter
        if (why := why_not_packed(loaded.model)) is None:
            self.lm = CausalLM(loaded.model)
            self._writer = Writer(self.lm, loaded.tokenizer)
        else:
            self.lm = PlainLM(loaded.model, why=why)
            self._writer = PlainWriter(self.lm, loaded.tokenizer)
        self.longest = self.lm.limits.context
        self.usual = min(self.longest, longest_input(loaded.model, loaded.tokenizer))
        self.budget = self.lm.budget
        self._begun = answer_ids(loaded, answer)

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.lm.execution

    @property
    def packed(self) -> CausalLM:
        """The engine of packed rows, for what no other gives: hidden states, attention, orders over vectors.

        Raises:
            CheckpointError: when the model is not run by it.
        """
        if not isinstance(self.lm, CausalLM):
            name = type(self.loaded.model).__name__
            raise CheckpointError(
                f"this {name} is {self.execution}, and attention and hidden states are read off packed rows alone; ask "
                "it by a judge that reads words or likelihoods"
            )
        return self.lm

    def template(self, messages: Sequence[Message], *, thinking: bool = False) -> Template:
        """A conversation by the checkpoint's chat template; a plain prompt as it is.

        Raises:
            InputError: when there is no chat template, or the tokenizer ends every text, so that nothing goes on.
        """
        return causal_template(self.loaded.tokenizer, messages, self.answer, thinking=thinking)

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """Several passes at once, which the model cuts itself."""
        self.lm.budget = budget
        return packing.in_order(lengths, budget * TOGETHER)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of each prompt's own target tokens."""
        scored = self.lm.score([prompt.segments for prompt in prompts], targets)
        rows = [row[: len(own)] for row, own in zip(scored.logits, targets, strict=True)]
        return rows, Work.of(scored.cost)

    def classify(self, prompts: Sequence[Prompt]) -> tuple[list[Tensor], Work]:
        """What the model's own score head says: float32 [labels] each."""
        scored = self.lm.classify([prompt.segments for prompt in prompts])
        return list(scored.logits), Work.of(scored.cost)

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The log-probability of each token of each continuation."""
        likely = self.lm.likelihood([prompt.segments for prompt in prompts], texts)
        return likely.log_probs, Work.of(likely.cost)

    def write(
        self, prompts: Sequence[Prompt], limits: Sequence[int], manner: Manner = GREEDY, draws: Sequence[int] = ()
    ) -> tuple[list[Outcome], Work]:
        """What the model writes, many texts at once."""
        each = zip(prompts, limits, draws or [0] * len(prompts), strict=True)
        asked = [_request(prompt, most, manner, draw) for prompt, most, draw in each]
        done = self._writer.write(asked)
        texts: list[Outcome] = [text if isinstance(text, Exception) else self._wrote(text) for text in done.texts]
        return texts, Work.of(done.cost)

    def _wrote(self, text: Written) -> Wrote:
        """Together with the answer's beginning: by itself a piece in the middle may lose the space in front of it."""
        said = str(self.loaded.tokenizer.decode([*self._begun, *text.ids], skip_special_tokens=True))
        if text.stop is not None:
            said = said[: said.rfind(text.stop)]
        return Wrote(said, text.generated, text.ids, text.stop, text.end == "max tokens")


def _request(prompt: Prompt, most: int, manner: Manner, draw: int) -> Request:
    return Request(
        prompt=prompt.segments,
        max_tokens=most,
        temperature=manner.temperature,
        top_p=manner.top_p,
        seed=manner.seed,
        draw=draw,
        stop=manner.stop,
    )


def causal_template(tokenizer: Any, messages: Sequence[Message], answer: str, *, thinking: bool = False) -> Template:
    """As of `CausalText.template`; the answer's beginning stands at its end."""
    plain = [role == "plain" for role, _ in messages]
    if not any(plain):
        return chat(tokenizer, [(role, slots(said)) for role, said in messages], thinking=thinking, answer=answer)
    if len(messages) > 1:
        raise InputError("a plain prompt is one text: say all of it in one turn, or make it a conversation")
    _check_end(tokenizer)
    return Template((*slots(messages[0][1]), *filter(None, [answer])))


def _check_end(tokenizer: Any) -> None:
    """Refuse a tokenizer that ends every text: the model would be asked what comes behind the end."""
    last = tokenizer("a", verbose=False)["input_ids"][-1]
    if last == tokenizer.eos_token_id:
        raise InputError(
            f"the tokenizer ends every text with {tokenizer.eos_token!r}, behind which no answer stands; "
            "set 'add_eos_token' to false in its tokenizer_config.json"
        )
