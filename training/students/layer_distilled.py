"""Cross-encoders of few layers that learn what each layer of a BERT does: Simplified TinyBERT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as dropped

from rerank import checkpoints
from rerank.errors import InputError
from training.losses.layers import layer_mse
from training.losses.pointwise import bce
from training.students.cross_encoder import CrossEncoder
from training.students.student import Lora, kept_randomness

__all__ = ["LayerDistilled", "attend", "taught_by"]

ATTENTION = "rerank-shown"
"""What transformers knows its attention by."""

PROJECTION = "projection.pt"
"""What a checkpoint keeps beside the student: which is no part of it."""


class LayerDistilled(CrossEncoder):
    """Simplified TinyBERT (Chen et al., 2020, https://arxiv.org/abs/2009.07531): all of TinyBERT's losses in one stage.

    Beside the recipe's loss over labels, which is the hard cross-entropy with `bce`, the student learns from a teacher
    of N layers, its own M taking after every (N / M)-th: attention scores before the softmax, hidden states (the
    embeddings among them) through one projection, and the teacher's probabilities (cross-entropy at `temperature`).

    Args:
        name: the student to begin with: a small BERT, or a large one of which `layers` are kept.
        teacher: a trained cross-encoder of as many heads, with the same tokenizer: name, hub id or folder.
        attention, hidden, soft: what each part weighs beside the loss over labels.
        temperature: of the soft cross-entropy.
        max_tokens, layers, dtype: as of `CrossEncoder`.
        lora: not for these students, whose every weight is new.

    Raises:
        CheckpointError: when transformers cannot load one of them.
        InputError: when they do not fit: layers, heads or tokenizers.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        teacher: str = "",
        max_tokens: int | None = None,
        layers: int | None = None,
        attention: float = 1.0,
        hidden: float = 1.0,
        soft: float = 1.0,
        temperature: float = 1.0,
        lora: Lora | None = None,
        dtype: str = "float32",
    ) -> None:
        _check(teacher, temperature, lora)
        super().__init__(name, max_tokens=max_tokens, layers=layers, packed=False, dtype=dtype)
        with kept_randomness():
            taught = CrossEncoder(checkpoints.fetch(teacher), max_tokens=self.max_tokens, packed=False, dtype=dtype)
        self.steps = _steps(self, taught)
        self.weights = {"attention": attention, "hidden": hidden, "soft": soft}
        self.temperature = temperature
        self.teacher = taught.model.requires_grad_(False).eval()
        self.projection = _projection(self.config.hidden_size, self.teacher.config.hidden_size)
        for model in (self.model, self.teacher):
            model.set_attn_implementation(_register())

    @property
    def execution(self) -> str:
        """How it runs, for the card."""
        return f"padded (layers 1 to {len(self.steps) - 1} learn from {self.steps[1:]} of the teacher)"

    def gradient_checkpointing_enable(self) -> None:
        """Refused: what it would not keep is what is compared."""
        raise InputError("the states of all layers are compared; leave out gradient_checkpointing")

    def train(self, mode: bool = True) -> LayerDistilled:
        """The student alone; a teacher has no dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, *, cut: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        """`scores` [texts], and in training what each part of the teacher is away from: attention, hidden, soft."""
        if not self.training:
            return {"scores": super().forward(**inputs)}
        scores, attended, states = taught_by(self.model, inputs)
        with torch.no_grad():
            whole, their_attention, their_states = taught_by(self.teacher, inputs)
        real = inputs["attention_mask"].bool()
        pairs = (real[:, :, None] & real[:, None, :])[:, None]  # [texts, 1, tokens, tokens]
        ends = [step - 1 for step in self.steps[1:]]
        parts = {
            "attention": layer_mse(attended, their_attention[ends], pairs),
            "hidden": layer_mse(self.projection(states), their_states[list(self.steps)], real[..., None]),
            "soft": _soft(scores / self.temperature, whole / self.temperature),
        }
        return {"scores": scores, **parts}

    def scores_of(self, outputs: dict[str, Tensor]) -> Tensor:
        """float [texts]."""
        return outputs["scores"]

    def loss_beside(self, outputs: dict[str, Tensor]) -> Tensor | None:
        """The weighted sum of its parts."""
        return sum((weight * outputs[name] for name, weight in self.weights.items()), torch.zeros(()))

    def save(self, folder: str | Path, state: dict[str, Tensor] | None = None) -> None:
        """The student, and in a checkpoint its projection."""
        super().save(folder, state)
        torch.save(self.projection.state_dict(), Path(folder) / PROJECTION)

    def restore(self, folder: str | Path) -> None:
        """Take over both."""
        super().restore(folder)
        self.projection.load_state_dict(torch.load(Path(folder) / PROJECTION))

    def finish(self, folder: str | Path) -> None:
        """Write what users load."""
        super().finish(folder)
        (Path(folder) / PROJECTION).unlink()


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    shown: list[Tensor] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Plain attention that shows its scores, before mask and softmax.

    Args:
        module, options: as transformers gives them, unread.
        query, key, value: [texts, heads, tokens, dim].
        attention_mask, scaling, dropout: as transformers gives them.
        shown: takes the scores, [texts, heads, tokens, tokens], layer by layer.

    Returns:
        [texts, tokens, heads, dim], and no weights.
    """
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if shown is not None:
        shown.append(scores)
    if attention_mask is not None:
        masked = attention_mask.dtype == torch.bool
        scores = scores.masked_fill(~attention_mask, float("-inf")) if masked else scores + attention_mask
    return (dropped(scores.softmax(-1), dropout) @ value).transpose(1, 2), None


def taught_by(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What there is to learn from a model.

    Returns:
        Scores [texts], attention scores [layers, texts, heads, tokens, tokens] and states [layers + 1, texts, tokens,
        dim], the embeddings first.
    """
    shown: list[Tensor] = []
    outputs = model(**inputs, output_hidden_states=True, shown=shown)
    logits = outputs.logits
    scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    return scores, torch.stack(shown), torch.stack(outputs.hidden_states)


@cache
def _register() -> str:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    return ATTENTION


def _soft(scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """The cross-entropy of two answers, relevant or not: [texts] each."""
    return bce(scores[None], teacher_scores.sigmoid()[None], torch.ones_like(scores[None], dtype=torch.bool))[0]


def _projection(size: int, teacher_size: int) -> nn.Linear:
    """From the student's states to the teacher's; where they are as wide, it begins as the identity."""
    made = nn.Linear(size, teacher_size, bias=False)
    if size == teacher_size:
        nn.init.eye_(made.weight)
    return made


def _check(teacher: str, temperature: float, lora: Lora | None) -> None:
    if not teacher:
        raise InputError("a layer-distilled student needs a teacher; say student.options.teacher")
    if temperature <= 0:
        raise InputError(f"temperature={temperature}; it must be above 0")
    if lora is not None:
        raise InputError("a layer-distilled student is trained whole; leave out lora")


def _steps(student: CrossEncoder, teacher: CrossEncoder) -> Sequence[int]:
    """g(m) = m · N / M of m = 0 … M; 0 are the embeddings.

    Raises:
        InputError: when the models do not fit.
    """
    own, theirs = student.config, teacher.config
    many, few = theirs.num_hidden_layers, own.num_hidden_layers
    if many % few:
        raise InputError(f"{few} layers cannot learn from {many}: the teacher's must be a multiple of the student's")
    if own.num_attention_heads != theirs.num_attention_heads:
        raise InputError(
            f"the student has {own.num_attention_heads} heads and the teacher {theirs.num_attention_heads}; their "
            "attention is compared head by head, and must be of as many"
        )
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise InputError("student and teacher must read the same tokens; their tokenizers differ")
    return [number * many // few for number in range(few + 1)]
