"""Families of sequence classifiers: how each reads its scores off the hidden states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rerank.errors import CheckpointError

__all__ = ["FAMILIES", "Family", "check_encoder"]


@dataclass(frozen=True)
class Family:
    """How a family of classifiers reads its scores off the hidden states.

    Args:
        backbone: the attribute that holds the encoder.
        head: (model, pooled hidden states [rows, hidden]) -> logits [rows, labels].
        first_position: config -> the position of a text's first token.
        mean: config -> True when texts are pooled by their mean, not by their first token.
        layers: the path from the backbone to its layers, where they have BERT's shape, so that the last one can be
            computed for first tokens alone; "" where they have not.
    """

    backbone: str
    head: Callable[[Any, Tensor], Tensor]
    first_position: Callable[[Any], int] = lambda config: 0
    mean: Callable[[Any], bool] = lambda config: False
    layers: str = ""


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


def _after_padding(config: Any) -> int:
    return int(config.pad_token_id) + 1


FAMILIES: Mapping[str, Family] = {
    "bert": Family("bert", _bert_head, layers="encoder.layer"),
    "electra": Family("electra", _first_token_head, layers="encoder.layer"),
    "distilbert": Family("distilbert", _distilbert_head),
    "roberta": Family("roberta", _first_token_head, first_position=_after_padding, layers="encoder.layer"),
    "camembert": Family("roberta", _first_token_head, first_position=_after_padding, layers="encoder.layer"),
    "xlm-roberta": Family("roberta", _first_token_head, first_position=_after_padding, layers="encoder.layer"),
    "modernbert": Family("model", _modernbert_head, mean=lambda config: config.classifier_pooling == "mean"),
}
"""By `config.model_type`; each is tested against the stock forward."""


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
