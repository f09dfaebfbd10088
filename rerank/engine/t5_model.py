"""T5 and its kin as transformers has them: which can be run here, and where they differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rerank.errors import CheckpointError

__all__ = ["FAMILIES", "check_encoder_of_t5", "check_t5", "head_scale", "quicken"]

FAMILIES = ("t5", "mt5", "umt5")
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


def quicken(model: Any) -> None:
    """Give gated feed-forwards torch's own GELU: `gelu_new` written out takes three times as long (2e-7 apart)."""
    from transformers.activations import NewGELUActivation

    for module in model.modules():
        if isinstance(getattr(module, "act", None), NewGELUActivation):
            module.act = nn.GELU(approximate="tanh")


def head_scale(config: Any) -> float:
    """What hidden states are multiplied by before the head, as transformers decides it for each family."""
    flags = {"t5": "scale_decoder_outputs", "umt5": "tie_word_embeddings"}  # mT5 never scales
    flag = flags.get(config.model_type)
    return float(config.d_model**-0.5) if flag and getattr(config, flag) else 1.0
