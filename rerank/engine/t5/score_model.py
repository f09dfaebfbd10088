"""Checkpoints of a T5 encoder with a score head on its states: RankT5's encoder-only shape.

Two layouts are read: a transformers folder whose architecture is `T5EncoderForSequenceClassification` (or MT5's,
UMT5's), with one linear layer beside the encoder; and lightning-ir's `MonoT5EncoderModel`, whose linear layer sees the
pooled state times d_model^−0.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rerank.checkpoints import folder as folders
from rerank.engine.loading import Loaded, Loading, Shaped, load
from rerank.errors import CheckpointError

__all__ = ["ScoreReading", "load_score_encoder"]

HEADS = ("classifier", "score", "linear", "dense", "scorer")
"""What the linear layer may be called."""

POOLINGS = ("first", "mean")


@dataclass(frozen=True)
class ScoreReading:
    """How a score is read off the encoder's states.

    Args:
        pooling: "first" or "mean".
        linear: [labels, dim], in float32.
        scale: what pooled states are multiplied by.
    """

    pooling: str
    linear: nn.Linear
    scale: float


def load_score_encoder(folder: Path, loading: Loading) -> tuple[Loaded, ScoreReading]:
    """The encoder, its tokenizer, and how its score is read.

    Raises:
        CheckpointError: when the folder has no such head, or another one.
    """
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    family = str(values.get("backbone_model_type") or values.get("model_type"))
    pooling = values.get("pooling_strategy") or values.get("pooling") or "first"
    if pooling not in POOLINGS:
        raise CheckpointError(
            f"{folder / 'config.json'}: pooling is {pooling!r}; it may be one of {', '.join(POOLINGS)}"
        )
    shapes = _shapes(folder)
    name = next((head for head in HEADS if f"{head}.weight" in shapes), None)
    if name is None:
        raise CheckpointError(f"{folder} has no linear layer beside its encoder; it may be called {', '.join(HEADS)}")
    labels = shapes[f"{name}.weight"][0]
    if labels not in (1, 2):
        raise CheckpointError(f"{folder} gives {labels} logits; a reranker has one or two")
    made = _class_of(family, name, labels, bias=f"{name}.bias" in shapes)
    loaded = load(folder, "backbone", loading, Shaped(made, _config(family, values), _tokenizer(folder, values)))
    linear = loaded.model.get_submodule(name).float()
    scaled = "backbone_model_type" in values
    return loaded, ScoreReading(pooling, linear, loaded.model.config.d_model**-0.5 if scaled else 1.0)


def _class_of(family: str, head: str, labels: int, *, bias: bool) -> Any:
    import transformers

    encoder: Any = getattr(transformers, f"{family.upper()}EncoderModel", None)
    if family not in ("t5", "mt5", "umt5"):
        raise CheckpointError(f"model type {family!r} is no T5 that is known here; use t5, mt5 or umt5")

    class ScoreEncoder(encoder):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, head, nn.Linear(config.d_model, labels, bias=bias))
            self.post_init()

    return ScoreEncoder


def _config(family: str, values: dict[str, Any]) -> Any:
    import transformers

    other = ("model_type", "backbone_model_type", "architectures", "transformers_version", "auto_map")
    return transformers.AutoConfig.for_model(
        family, **{name: value for name, value in values.items() if name not in other}
    )


def _tokenizer(folder: Path, values: dict[str, Any]) -> Any:
    """lightning-ir names a class of its own, which adds nothing to the tokenizer itself."""
    import transformers

    made: Any = transformers.PreTrainedTokenizerFast if "backbone_model_type" in values else transformers.AutoTokenizer
    return made.from_pretrained(folder)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights, by their names without a prefix."""
    return {
        name.removeprefix("transformer."): shape for file in folders.weight_files(folder) for name, shape in _in(file)
    }


def _in(file: Path) -> Iterable[tuple[str, tuple[int, ...]]]:
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, "pt") as weights:
            return [(name, tuple(weights.get_slice(name).get_shape())) for name in weights.keys()]  # noqa: SIM118
    import torch

    loaded = torch.load(file, map_location="meta", weights_only=True)
    return [(name, tuple(weight.shape)) for name, weight in loaded.items()]
