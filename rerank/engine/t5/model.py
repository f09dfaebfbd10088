"""T5 and its kin as transformers has them: which can be run here, and where they differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rerank.errors import CheckpointError

__all__ = ["FAMILIES", "check_encoder_of_t5", "check_t5", "head_scale", "quicken"]

FAMILIES = ("t5", "mt5", "umt5")
NORMS = ("T5LayerNorm", "MT5LayerNorm", "UMT5LayerNorm")  # another's, such as apex's, stays
MATRICES = ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo", "lm_head")


def check_t5(model: Any) -> None:
    """Refuse what cannot be run here.

    Raises:
        CheckpointError: when the model is of another family, in training or in float16, or its layers are not plain.
    """
    name, kind = type(model).__name__, model.config.model_type
    if kind not in FAMILIES or not hasattr(model, "lm_head") or not hasattr(model, "encoder"):
        raise CheckpointError(
            f"{name} (model type {kind!r}) is no encoder-decoder that is known here; "
            f"use a …ForConditionalGeneration of {', '.join(FAMILIES)}"
        )
    check_encoder_of_t5(model)


def check_encoder_of_t5(model: Any) -> None:
    """The same for a model of which the encoder alone is run.

    Raises:
        CheckpointError: as `check_t5`.
    """
    name, kind = type(model).__name__, model.config.model_type
    if kind not in FAMILIES or not hasattr(model, "encoder"):
        raise CheckpointError(
            f"{name} (model type {kind!r}) has no encoder that is known here; use one of {', '.join(FAMILIES)}"
        )
    if model.training:
        raise CheckpointError(f"this {name} is in training mode, its dropout would change scores; call .eval()")
    if model.dtype == torch.float16:
        raise CheckpointError(f"this {name} is in float16, in which T5 overflows; use float32 or bfloat16")
    for path, module in model.named_modules():
        if path.rpartition(".")[2] in MATRICES and (type(module) is not nn.Linear or module.bias is not None):
            raise CheckpointError(
                f"{path} of this {name} is a {type(module).__name__}, not a plain matrix; "
                "merge adapters, and load the model unquantised and afresh"
            )


class RmsNorm(nn.Module):
    """T5's layer norm in one operation of torch instead of five; in float32 the same numbers."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.epsilon = norm.weight, norm.variance_epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        """[…, dim] -> […, dim]."""
        return torch.rms_norm(hidden, self.weight.shape, self.weight, self.epsilon)


def quicken(model: Any) -> None:
    """Have torch itself do what is written out in transformers: GELU's tanh, and in float32 layer norms.

    `gelu_new` takes three times as long (2e-7 apart), a layer norm two and a half times.
    """
    from transformers.activations import NewGELUActivation

    for module in list(model.modules()):
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = nn.GELU(approximate="tanh")
        for name, norm in module.named_children():
            if type(norm).__name__ in NORMS and model.dtype == torch.float32:
                setattr(module, name, RmsNorm(norm))


def head_scale(config: Any) -> float:
    """What hidden states are multiplied by before the head, as transformers decides it for each family."""
    flags = {"t5": "scale_decoder_outputs", "umt5": "tie_word_embeddings"}  # mT5 never scales
    flag = flags.get(config.model_type)
    return float(config.d_model**-0.5) if flag and getattr(config, flag) else 1.0
