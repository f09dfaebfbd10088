"""A T5 and a causal language model behind one face: logits of tokens, likelihoods and texts, given prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol, TypeAlias

from rerank import checkpoints
from rerank.engine.loading import Loaded, Loading, Shaped, load
from rerank.engine.texts.prompt_tokens import Prompt, Slot, Template
from rerank.errors import CheckpointError
from rerank.judges.bills import Work
from rerank.prompts import Blank, Message

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "GREEDY",
    "Manner",
    "Outcome",
    "TextModel",
    "Wordless",
    "Wrote",
    "answer_ids",
    "loaded_text_model",
    "slots",
    "template_of",
]


@dataclass(frozen=True, slots=True)
class Manner:
    """How texts are written.

    Args:
        temperature: 0 takes the likeliest token; anything above draws.
        top_p: draws from the likeliest tokens that have this much probability together.
        seed: of what is drawn.
        stop: strings at which a text ends, themselves left out of it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


GREEDY = Manner()


@dataclass(frozen=True, slots=True)
class Wrote:
    """What was written.

    Args:
        text: an answer from its beginning, without special tokens and without the string that ended it.
        tokens: how many were written, the end included.
        ids: those of them that are text, the tokens of the string that ended it among them.
        stop: the string that ended it, or None.
        cut: it ended because there were no more tokens for it.
    """

    text: str
    tokens: int
    ids: tuple[int, ...] = ()
    stop: str | None = None
    cut: bool = False


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

    def template(self, messages: Sequence[Message], *, thinking: bool = False) -> Template:
        """A rendered prompt as this model reads it; `thinking` as of `rerank.engine.texts.chat`."""

    def pack(self, lengths: Sequence[int], budget: int) -> list[list[int]]:
        """Which prompts are asked about at once."""

    def logits(self, prompts: Sequence[Prompt], targets: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The logits of each prompt's own target tokens: float32 [targets] each."""

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """The log-probability of each token of each continuation."""

    def write(
        self, prompts: Sequence[Prompt], limits: Sequence[int], manner: Manner = GREEDY, draws: Sequence[int] = ()
    ) -> tuple[list[Outcome], Work]:
        """What the model writes, at most so many tokens each; or what went wrong with one.

        Args:
            prompts, limits: one of each for a text.
            manner: how all of them are written.
            draws: which draw each is; 0 by default. Another draw is another sample.
        """


class Wordless:
    """What is the same for every `TextModel` that writes nothing and tells no likelihoods."""

    loaded: Loaded
    refusal: ClassVar[str]
    """What it has instead, and by which judge it is asked."""

    def likelihood(self, prompts: Sequence[Prompt], texts: Sequence[Sequence[int]]) -> tuple[list[Tensor], Work]:
        """There is none."""
        self._refuse()

    def write(
        self, prompts: Sequence[Prompt], limits: Sequence[int], manner: Manner = GREEDY, draws: Sequence[int] = ()
    ) -> tuple[list[Outcome], Work]:
        """Nothing."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise CheckpointError(f"this {type(self.loaded.model).__name__} {self.refusal}")


def loaded_text_model(folder: Path, loading: Loading, answer: str = "") -> TextModel:
    """The model of a checkpoint, by what its config says it is.

    Args:
        folder, loading: as of `rerank.engine.loading.load`.
        answer: how answers begin.

    Raises:
        CheckpointError: when it answers no prompt.
    """
    from rerank.judges.causal_text import CausalText
    from rerank.judges.sequence_text import SequenceText

    kind = checkpoints.kind(folder, loading.adapter)
    if kind == "encoder-decoder":
        return SequenceText(load(folder, "encoder-decoder", loading), answer)
    if kind == "causal":
        return CausalText(load(folder, "causal", loading), answer)
    if kind == "score-head":
        return CausalText(load(folder, "classifier", loading, _headed(folder)), answer)
    if kind == "encoder-head":
        from rerank.engine.t5.score_model import load_score_encoder
        from rerank.judges.encoder_text import EncoderText

        return EncoderText(*load_score_encoder(folder, loading))
    if kind == "bidirectional":
        from rerank.engine.translated import bidirectional
        from rerank.judges.scored_text import BidirectionalText

        return BidirectionalText(bidirectional(folder, loading), answer)
    raise CheckpointError(f"{folder} is a {kind}, which answers no prompt; leave out judge and prompt")


def _headed(folder: Path) -> Shaped | None:
    """A causal model with the score head that only its adapter has: one logit, RankLLaMA's shape."""
    if checkpoints.kind(folder) != "causal":
        return None
    from transformers import AutoConfig

    return Shaped(config=AutoConfig.from_pretrained(folder, num_labels=1), unread=("score.",))


def template_of(
    folder: Path, tokenizer: Any, messages: Sequence[Message], answer: str, *, thinking: bool = False
) -> Template:
    """A rendered prompt as a checkpoint reads it, by what its config says it is; no weight is loaded for it.

    The beginning of an answer stands behind a causal model's prompt; a T5's is its decoder's.

    Raises:
        CheckpointError: when it answers no prompt.
        InputError: when its chat template refuses the prompt.
    """
    from rerank.judges.causal_text import causal_template
    from rerank.judges.sequence_text import paragraphs

    kind = checkpoints.kind(folder)
    if kind == "encoder-decoder":
        return paragraphs(messages)
    if kind in ("causal", "score-head"):
        return causal_template(tokenizer, messages, answer, thinking=thinking)
    raise CheckpointError(f"{folder} is a {kind}, which answers no prompt; leave out judge and prompt")


def answer_ids(loaded: Loaded, answer: str) -> list[int]:
    """An answer's beginning as tokens."""
    return list(loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]) if answer else []


def slots(parts: Sequence[str | Blank]) -> tuple[str | Slot, ...]:
    """What one side says, blanks as the engine's slots."""
    return tuple(Slot(part.name, part.document) if isinstance(part, Blank) else part for part in parts)
