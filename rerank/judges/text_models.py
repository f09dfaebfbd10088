"""A T5 and a causal language model behind one face: logits of tokens, likelihoods and texts, given prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from rerank import checkpoints
from rerank.engine import packing
from rerank.engine.loading import Loaded, Loading, load, longest_input
from rerank.engine.texts.chat import chat
from rerank.engine.texts.prompt_tokens import Prompt, Slot, Template
from rerank.errors import CheckpointError, JudgeError
from rerank.prompts import Blank, Message

if TYPE_CHECKING:
    from torch import Tensor

    from rerank.engine.causal import CausalLM
    from rerank.engine.seq2seq import EncoderDecoder

__all__ = ["CausalText", "SequenceText", "TextModel", "Work", "Wrote", "loaded_text_model"]

T5_TOKENS = 512
"""What a T5 reads by default: its positions have no end, and it was trained on so many."""

TOGETHER = 16
"""Passes of a causal model whose prompts are given to it at once, for what they begin with is computed once a call."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a call took; the names are those of `rerank.cost.UNITS`."""

    tokens: int
    padded: int
    flops: int
    calls: int = 1
    reused: int = 0


@dataclass(frozen=True, slots=True)
class Wrote:
    """An answer from its beginning, without special tokens; and how many tokens were written, the end included."""

    text: str
    tokens: int


Outcome: TypeAlias = "Wrote | Exception"


class TextModel(Protocol):
    """What judges ask.

    Attributes:
        loaded: the model, its tokenizer and how it was loaded.
        longest: the most tokens of a prompt; what is written counts where one model reads both.
        usual: how many a prompt has at most when the user names no other number.
        budget: the most tokens in a forward pass by default.
        writes_behind: whether an answer is read behind the prompt's text, as one text, or begins a text of its own.
    """

    loaded: Loaded
    longest: int
    usual: int
    budget: int
    writes_behind: bool

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""

    def template(self, messages: Sequence[Message]) -> Template:
        """A rendered prompt as this model reads it."""

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """Which prompts are asked about at once."""

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of each prompt's own target tokens: float32 [targets] each."""

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The log-probability of each token of each continuation."""

    def write(self, prompts: Sequence[Prompt], limits: Sequence[int]) -> tuple[list[Outcome], Work]:
        """What the model writes, greedily, at most so many tokens each; or what went wrong with one."""


class CausalText:
    """A causal language model. The answer's beginning stands at the end of its prompt."""

    writes_behind = True

    def __init__(self, loaded: Loaded, answer: str = "") -> None:
        from rerank.engine.causal import CausalLM

        self.loaded = loaded
        self.answer = answer
        self._begun = _begun(loaded, answer)
        self.lm: CausalLM = CausalLM(loaded.model)
        self.longest = self.lm.limits.context
        self.usual = min(self.longest, longest_input(loaded.model, loaded.tokenizer))
        self.budget = self.lm.budget

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.lm.execution

    def template(self, messages: Sequence[Message]) -> Template:
        """A conversation by the checkpoint's chat template; a plain prompt as it is."""
        if _plain(messages):
            return Template((*_slots(messages[0][1]), *filter(None, [self.answer])))
        return chat(self.loaded.tokenizer, [(role, _slots(parts)) for role, parts in messages], answer=self.answer)

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """Several passes at once, which the model cuts itself."""
        self.lm.budget = budget
        return packing.in_order(lengths, budget * TOGETHER)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of each prompt's own target tokens."""
        scored = self.lm.score([prompt.segments for prompt in prompts], targets)
        rows = [row[: len(own)] for row, own in zip(scored.logits, targets, strict=True)]
        return rows, _work(scored.cost)

    def classify(self, prompts: Sequence[Prompt]) -> tuple[list[Tensor], Work]:
        """What the model's own score head says: float32 [labels] each."""
        scored = self.lm.classify([prompt.segments for prompt in prompts])
        return list(scored.logits), _work(scored.cost)

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The log-probability of each token of each continuation."""
        likely = self.lm.likelihood([prompt.segments for prompt in prompts], texts)
        return likely.log_probs, _work(likely.cost)

    def write(self, prompts: Sequence[Prompt], limits: Sequence[int]) -> tuple[list[Outcome], Work]:
        """What the model writes, greedily."""
        from rerank.engine.generation import Request, Writer

        writer = Writer(self.lm, self.loaded.tokenizer)
        asked = [Request(prompt=prompt.segments, max_tokens=most) for prompt, most in zip(prompts, limits, strict=True)]
        done = writer.write(asked)
        cost = done.cost
        texts: list[Outcome] = [
            text if isinstance(text, Exception) else Wrote(self._decoded(text.ids), text.generated)
            for text in done.texts
        ]
        return texts, Work(cost.tokens, cost.padded, cost.flops, cost.calls, cost.reused)

    def _decoded(self, ids: Sequence[int]) -> str:
        """Together with the answer's beginning: by itself a piece in the middle may lose the space in front of it."""
        return str(self.loaded.tokenizer.decode([*self._begun, *ids], skip_special_tokens=True))


class SequenceText:
    """A T5: the encoder reads the prompt, and the answer's beginning is the decoder's."""

    writes_behind = False

    def __init__(self, loaded: Loaded, answer: str = "") -> None:
        from rerank.engine.seq2seq import EncoderDecoder

        self.loaded = loaded
        self.model: EncoderDecoder = EncoderDecoder(loaded.model)
        self.longest = 10**9
        self.usual = min(T5_TOKENS, longest_input(loaded.model, loaded.tokenizer))
        self.budget = 1024 if loaded.model.device.type == "cpu" else 16_384
        self.prefix = [loaded.model.config.decoder_start_token_id, *_begun(loaded, answer)]

    @property
    def execution(self) -> str:
        """How it runs, for the ledger."""
        return self.model.execution

    def template(self, messages: Sequence[Message]) -> Template:
        """What is said, one turn a paragraph; the tokenizer adds its end token."""
        parts: list[str | Slot] = []
        for index, (_, said) in enumerate(messages):
            parts += [*(["\n\n"] if index else []), *_slots(said)]
        return Template(tuple(parts))

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """One pass of the encoder each."""
        return (packing.in_order if self.model.packs else packing.by_length)(lengths, budget)

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of each prompt's own target tokens, which are the beginning of the longest list of them."""
        longest = max(targets, key=len)
        scored = self.model.score([prompt.ids for prompt in prompts], longest, prefix=self.prefix)
        where = {token: place for place, token in enumerate(longest)}
        rows = [row[[where[token] for token in own]] for row, own in zip(scored.logits, targets, strict=True)]
        return rows, Work(scored.tokens, scored.padded, scored.flops)

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The log-probability of each token of each continuation."""
        likely = self.model.likelihood([prompt.ids for prompt in prompts], texts, prefix=self.prefix)
        return list(likely.log_probs), Work(likely.tokens, likely.padded, likely.flops)

    def write(self, prompts: Sequence[Prompt], limits: Sequence[int]) -> tuple[list[Outcome], Work]:
        """What the decoder writes, greedily."""
        written = self.model.generate([[prompt.ids] for prompt in prompts], max_tokens=max(limits), prefix=self.prefix)
        texts: list[Outcome] = [
            Wrote(self._decoded(ids[:most]), len(ids[:most])) for ids, most in zip(written.texts, limits, strict=True)
        ]
        return texts, Work(written.tokens, written.padded, written.flops, calls=1 + written.steps)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.loaded.tokenizer.decode([*self.prefix, *ids], skip_special_tokens=True))


def loaded_text_model(folder: Path, loading: Loading, answer: str = "") -> TextModel:
    """The model of a checkpoint, by what its config says it is.

    Args:
        folder, loading: as of `rerank.engine.loading.load`.
        answer: how answers begin.

    Raises:
        CheckpointError: when it writes no text.
    """
    kind = checkpoints.kind(folder)
    if kind == "encoder-decoder":
        return SequenceText(load(folder, "encoder-decoder", loading), answer)
    if kind == "causal":
        return CausalText(load(folder, "causal", loading), answer)
    if kind == "score-head":
        return CausalText(load(folder, "classifier", loading), answer)
    raise CheckpointError(f"{folder} is a {kind}, which answers no prompt; leave out judge and prompt")


def _begun(loaded: Loaded, answer: str) -> list[int]:
    """An answer's beginning as tokens."""
    return list(loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]) if answer else []


def _plain(messages: Sequence[Message]) -> bool:
    plain = [role == "plain" for role, _ in messages]
    if any(plain) and len(plain) > 1:
        raise JudgeError("a plain prompt is one text; say all of it in one turn, or make a conversation of it")
    return all(plain)


def _slots(parts: Sequence[str | Blank]) -> tuple[str | Slot, ...]:
    return tuple(Slot(part.name, part.document) if isinstance(part, Blank) else part for part in parts)


def _work(cost: Any) -> Work:
    return Work(cost.tokens, cost.padded, cost.flops, cost.calls, cost.reused)
