"""Causal language models as transformers has them: which can be run over packed rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rerank.errors import CheckpointError

__all__ = ["FAMILIES", "check_causal", "context_limit", "vocabulary", "why_not_packed"]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
"""Model types whose layers have `input_layernorm` and `self_attn` with q, k, v and o, and obey AttentionInterface."""

PLACED = ("default", "linear", "llama3", "yarn", "proportional")
"""Kinds of rotary embedding that depend on a token's position alone, and not on how long the prompt gets."""


def why_not_packed(model: Any) -> str | None:
    """Why a causal model is not run over packed rows, in a few words; None when it is.

    Such a model is run by its own forward instead, one prompt at a time (`rerank.engine.plain`).
    """
    config = model.config
    if config.model_type not in FAMILIES:
        return f"model type {config.model_type!r} is run by its own forward"
    if getattr(config, "use_bidirectional_attention", False):
        return "it attends in both directions"
    if odd := sorted(_rope_kinds(config) - {*PLACED}):
        return f"its rotary embedding is {odd[0]!r}"
    if found := next(_odd_layers(model), None):
        return f"its layers are of class {found[1]}"
    return None


def check_causal(model: Any) -> None:
    """Refuse what cannot be run here.

    Raises:
        CheckpointError: when the model is of another family, in training, quantised, has no head, or its positions
            depend on the length of a prompt.
    """
    name, config = type(model).__name__, model.config
    if config.model_type not in FAMILIES or not (hasattr(model, "lm_head") or hasattr(model, "score")):
        raise CheckpointError(
            f"{name} (model type {config.model_type!r}) is no causal language model that is known here; "
            f"use a …ForCausalLM or …ForSequenceClassification of {', '.join(FAMILIES)}"
        )
    if model.training:
        raise CheckpointError(f"this {name} is in training mode, its dropout would change scores; call .eval()")
    if getattr(config, "use_bidirectional_attention", False):
        raise CheckpointError(f"this {name} attends in both directions: its prompts share nothing")
    for kind in sorted(_rope_kinds(config) - {*PLACED}):
        raise CheckpointError(
            f"the rotary embedding of this {name} is {kind!r}, which changes with the length of a prompt, so that "
            f"prompts could share nothing; known are {', '.join(PLACED)}"
        )
    _check_layers(model)


def context_limit(config: Any) -> int:
    """The most tokens of a prompt that the model's positions allow."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 10**9)


def vocabulary(config: Any) -> int:
    """How many tokens the model knows."""
    return int(config.get_text_config().vocab_size)


def _rope_kinds(config: Any) -> set[str]:
    parameters = getattr(config, "rope_parameters", None) or {}
    if "rope_type" not in parameters and all(isinstance(value, dict | None) for value in parameters.values()):
        return {str(value["rope_type"]) for value in parameters.values() if value}  # by kind of layer, as in Gemma 3
    return {str(parameters.get("rope_type", "default"))}


def _check_layers(model: Any) -> None:
    for path, kind in _odd_layers(model):
        raise CheckpointError(
            f"layer {path} of this {type(model).__name__} is a {kind}, not a plain linear layer; "
            "merge adapters, and load the model unquantised and afresh"
        )
    if model.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise CheckpointError(f"this {type(model).__name__} is in {model.dtype}; use float32, bfloat16 or float16")


def _odd_layers(model: Any) -> Iterator[tuple[str, str]]:
    """Projections that are no plain linear layers: where, and of which class."""
    for path, module in model.base_model.layers.named_modules():
        if path.rpartition(".")[2].endswith("_proj") and type(module) is not nn.Linear:
            yield path, type(module).__name__
