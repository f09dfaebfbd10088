"""Families of encoders: how each is taken apart into our layers, and how its classifier reads scores off the states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from rerank.engine.encoders import backbones, deberta, modernbert
from rerank.engine.encoders.layers import Backbone
from rerank.errors import CheckpointError

__all__ = [
    "FAMILIES",
    "Family",
    "check_encoder",
    "head_of",
    "head_size",
    "keep_head_in_float32",
    "taken_apart",
    "why_stock",
]


@dataclass(frozen=True)
class Family:
    """How a family of encoders is run without padding.

    Args:
        backbone: (transformers' backbone, True for one kernel over all texts, False for text by text) -> ours.
        head: (classifier, pooled hidden states [rows, hidden]) -> logits [rows, labels].
        layers: the path from transformers' backbone to its layers.
        mean: config -> True when the classifier pools texts by their mean, not by their first token.
        unsupported: config -> why a model of this family must be run by its own forward, or None.
    """

    backbone: Callable[[Any, bool], Backbone]
    head: Callable[[Any, Tensor], Tensor]
    layers: str = "encoder.layer"
    mean: Callable[[Any], bool] = lambda config: False
    unsupported: Callable[[Any], str | None] = lambda config: None


def _bert_head(model: Any, pooled: Tensor) -> Tensor:
    logits: Tensor = model.classifier(model.first_token_pooler(pooled[:, None]))
    return logits


def _first_token_head(model: Any, pooled: Tensor) -> Tensor:
    logits: Tensor = model.classifier(pooled[:, None])
    return logits


def _modernbert_head(model: Any, pooled: Tensor) -> Tensor:
    logits: Tensor = model.classifier(model.head(pooled))
    return logits


def _distilbert_head(model: Any, pooled: Tensor) -> Tensor:
    logits: Tensor = model.classifier(model.pre_classifier(pooled).relu())
    return logits


def _deberta_head(model: Any, pooled: Tensor) -> Tensor:
    logits: Tensor = model.classifier(model.pooler(pooled[:, None]))
    return logits


_ROBERTA = Family(backbones.roberta, _first_token_head)

FAMILIES: Mapping[str, Family] = {
    "bert": Family(backbones.bert, _bert_head),
    "electra": Family(backbones.bert, _first_token_head),
    "distilbert": Family(backbones.distilbert, _distilbert_head, layers="transformer.layer"),
    "roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "modernbert": Family(
        backbones.modern_bert,
        _modernbert_head,
        layers="layers",
        mean=lambda config: bool(config.classifier_pooling == "mean"),
        unsupported=modernbert.unsupported,
    ),
    "mpnet": Family(backbones.mpnet, _first_token_head),
    "deberta-v2": Family(backbones.deberta_v2, _deberta_head, unsupported=deberta.unsupported),
}
"""By `config.model_type`; each is tested against the stock forward."""


def why_stock(model: Any) -> str | None:
    """Why a model has to be run by its own forward, or None when it need not."""
    family = FAMILIES.get(model.config.model_type)
    if family is None:
        return f"{model.config.model_type} is not known here"
    if getattr(model.config, "is_decoder", False):
        return "it attends as a decoder"
    if getattr(model.config, "quantization_config", None) is not None:
        return "its weights are quantised"
    if len({parameter.device for parameter in model.parameters()}) > 1:
        return "it is spread over several devices"
    if getattr(model, "is_quantized", False):
        return "its weights are quantised"
    if len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1:
        return "its layers are spread over several devices"
    return family.unsupported(model.config)


def taken_apart(model: Any, *, varlen: bool) -> Backbone:
    """The backbone as we run it; transformers' own layers are let go, so that weights are held once.

    Args:
        model: a classifier or a backbone of a family in `FAMILIES`.
        varlen: attention with one kernel over all texts, instead of text by text.
    """
    family = FAMILIES[model.config.model_type]
    backbone = family.backbone(model.base_model, varlen)
    owner, _, name = family.layers.rpartition(".")
    setattr(model.base_model.get_submodule(owner), name, nn.ModuleList())
    return backbone


def keep_head_in_float32(model: Any) -> None:
    """Half precision in the last layer makes ties: everything beside the backbone's layers is float32.

    A pooler is moved from the backbone to the head, where it belongs: the backbone would run it on every pass.
    """
    if (pooler := getattr(model.base_model, "pooler", None)) is not None:
        model.first_token_pooler = pooler
        model.base_model.pooler = None
    for module in _head_modules(model):
        module.float()


def head_of(model: Any) -> Callable[[Tensor], Tensor]:
    """What turns pooled hidden states into logits: float32 [rows, hidden] -> float32 [rows, labels]."""
    return partial(FAMILIES[model.config.model_type].head, model)


def head_size(model: Any) -> int:
    """Weights of the head's linear layers, once it holds the pooler."""
    linears = (child for module in _head_modules(model) for child in module.modules() if isinstance(child, nn.Linear))
    return sum(child.weight.numel() for child in linears)


def _head_modules(model: Any) -> list[nn.Module]:
    return [module for module in model.children() if module is not model.base_model]


def check_encoder(model: Any) -> None:
    """Refuse decoders and encoder-decoders.

    Raises:
        CheckpointError: when the classifier reads its score off the last token of a prompt.
    """
    from transformers.modeling_layers import GenericForSequenceClassification

    if isinstance(model, GenericForSequenceClassification) or model.config.is_encoder_decoder:
        raise CheckpointError(
            f"{type(model).__name__} reads its score off the last token of a prompt; only encoders that read plain "
            "pairs can be run as cross-encoders"
        )
