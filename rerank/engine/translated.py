"""Checkpoints whose models transformers does not have, loaded as models of its own that compute the same.

Their config and their weights are read, their code is not. A *layer-wise* reranker has a score head behind each of its
later layers: it is loaded up to the layer that is asked, so that the layers behind it cost neither time nor memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerank import checkpoints
from rerank.engine.loading import Loaded, Loading, Shaped, load
from rerank.errors import CheckpointError, InputError

__all__ = [
    "Bidirectional",
    "LayerWise",
    "Projected",
    "bidirectional",
    "family_config",
    "layer_wise",
    "layers_with_heads",
    "projected",
    "tensors",
]

FAMILY_OF = {
    "minicpm": "llama",
    "cost_wise_gemma": "gemma2",
    "llama_bidirec": "llama",
    "embed_llama": "llama",
    "embed_mistral": "mistral",
    "qwen3": "qwen3",
}
"""A config's `model_type` -> the family of transformers that computes the same."""

OWN = ("architectures", "auto_map", "model_type", "torch_dtype", "dtype", "transformers_version", "_name_or_path")
"""What a config says of its own class and history."""

POOLING = ("avg", "cls", "last")


@dataclass(frozen=True, slots=True)
class LayerWise:
    """A layer-wise reranker up to one of its layers.

    Attributes:
        loaded: a `…ForSequenceClassification` of so many layers, whose one label is the layer's head.
        layer: after how many layers the score is read.
        softcap: the c of c · tanh(score / c) that bounds a score, or None.
    """

    loaded: Loaded
    layer: int
    softcap: float | None


@dataclass(frozen=True, slots=True)
class Bidirectional:
    """A Llama that sees both ways.

    Attributes:
        loaded: a `LlamaForSequenceClassification`; its own forward would be causal.
        pooling: which states the head reads: "avg" the mean of all, "cls" the first, "last" the last.
        temperature: that logits are divided by.
    """

    loaded: Loaded
    pooling: str
    temperature: float


@dataclass(frozen=True, slots=True)
class Projected:
    """A causal model without a head of its own, and a projector of its hidden states.

    Attributes:
        loaded: the model; its head is all zeros and read by nobody.
        projector: two linear layers with an activation between, or one, in float32 on the model's device.
    """

    loaded: Loaded
    projector: nn.Sequential


def layers_with_heads(folder: str | Path) -> range:
    """After which numbers of layers a layer-wise reranker has a head.

    Raises:
        CheckpointError: when the config does not say.
    """
    values = checkpoints.settings(folder)
    try:
        return range(int(values["start_layer"]), int(values["num_hidden_layers"]) + 1, int(values.get("layer_sep", 1)))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the config in {folder} does not say which layers have a head: {error}") from error


def layer_wise(folder: str | Path, loading: Loading, *, layer: int | None, head_of: int | None = None) -> LayerWise:
    """A layer-wise reranker of BAAI's, loaded up to a layer: MiniCPM (its scales go into the weights) or Gemma 2.

    Args:
        folder, loading: as of `rerank.engine.loading.load`.
        layer: after how many layers the score is read; the last by default.
        head_of: the layer whose head reads it; its own by default.

    Raises:
        CheckpointError: when the checkpoint is laid out otherwise.
        InputError: when the layer has no head, or weights shall be quantised.
    """
    heads = layers_with_heads(folder)
    layer = heads[-1] if layer is None else layer
    reads = layer if head_of is None else head_of
    for each in (layer, reads):
        if each not in heads:
            raise InputError(f"layer={each}, but the layers of {Path(folder).name} with a head are {_said(heads)}")
    if loading.quantize is not None:
        raise InputError(f"quantize={loading.quantize!r}: layer-wise rerankers are run unquantised; leave it out")
    values = checkpoints.settings(folder)
    if values.get("head_type", "simple") != "simple" or not values.get("head_multi", True):
        raise CheckpointError(f"the layers of {folder} have no score heads of their own; it is asked by another judge")
    loaded = load(folder, "classifier", loading, _shaped(folder, _up_to(layer, values)))
    if values["model_type"] == "minicpm":
        _fold(loaded.model, values)
    _set_head(loaded.model, folder, heads.index(reads))
    return LayerWise(loaded, layer, values.get("final_logit_softcapping"))


def bidirectional(folder: str | Path, loading: Loading) -> Bidirectional:
    """A Llama for sequence classification that sees both ways, such as nvidia/llama-nemotron-rerank-1b-v2.

    Raises:
        CheckpointError: when its states are pooled in a way that is not known here.
    """
    values = checkpoints.settings(folder)
    pooling = str(values.get("pooling", "avg"))
    if pooling not in POOLING:
        raise CheckpointError(f"{folder} pools by {pooling!r}; known are {', '.join(POOLING)}")
    loaded = load(folder, "classifier", loading, Shaped(config=family_config(folder, values)))
    return Bidirectional(loaded, pooling, float(values.get("temperature", 1)))


def projected(folder: str | Path, loading: Loading, *, prefix: str, activation: nn.Module) -> Projected:
    """A causal model whose checkpoint has a projector behind its states, such as jina-reranker-v3.

    Args:
        folder, loading: as of `rerank.engine.loading.load`.
        prefix: what the projector's weights begin with ("projector.").
        activation: between its layers.

    Raises:
        CheckpointError: when there is no projector, or it is laid out otherwise.
    """
    values = dict(checkpoints.settings(folder)) | {"num_labels": 1}
    for name in ("id2label", "label2id"):
        values.pop(name, None)
    loaded = load(folder, "classifier", loading, _shaped(folder, values))
    with torch.no_grad():
        loaded.model.score.weight.zero_()
    projector = _projector(tensors(folder, prefix), activation)
    if projector is None:
        raise CheckpointError(f"{folder} has no projector of linear layers whose weights are called {prefix!r}…")
    return Projected(loaded, projector.to(loaded.model.device).eval())


def _projector(weights: Mapping[str, Tensor], activation: nn.Module) -> nn.Sequential | None:
    """Linear layers out of "0.weight", "0.bias", "2.weight" …; or one alone out of "weight" and "bias"."""
    names = sorted({name.rpartition(".")[0] for name in weights})
    if not names or not all(f"{name}.weight".lstrip(".") in weights for name in names):
        return None
    layers: list[nn.Module] = []
    for name in names:
        weight, bias = weights[f"{name}.weight".lstrip(".")], weights.get(f"{name}.bias".lstrip("."))
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        with torch.no_grad():
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
        layers += [*([activation] if layers else []), linear]
    return nn.Sequential(*layers)


def tensors(folder: str | Path, prefix: str) -> dict[str, Tensor]:
    """The weights of a checkpoint whose names begin so, without that beginning; on the CPU, as they are stored."""
    found: dict[str, Tensor] = {}
    for file in checkpoints.weight_files(Path(folder)):
        if file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(file, framework="pt") as stored:
                found |= {name: stored.get_tensor(name) for name in stored.keys() if name.startswith(prefix)}  # noqa: SIM118
        else:
            whole = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            found |= {name: value for name, value in whole.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _shaped(folder: str | Path, values: Mapping[str, Any]) -> Shaped:
    """Of that config, whose head the caller sets."""
    return Shaped(config=family_config(folder, values), unread=("score.weight",))


def family_config(folder: str | Path, values: Mapping[str, Any]) -> Any:
    """A checkpoint's config as one of the family that computes the same.

    Args:
        folder: of the checkpoint, for the message.
        values: what its config says.

    Raises:
        CheckpointError: when no family is known for it, or it cannot be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    kept = {name: value for name, value in values.items() if name not in OWN}
    try:
        return AutoConfig.for_model(FAMILY_OF[values["model_type"]], **kept)
    except (StrictDataclassError, KeyError, TypeError, ValueError) as error:
        said = str(error).strip().splitlines()
        raise CheckpointError(
            f"the config in {folder} cannot be read: {said[-1].strip() if said else error}"
        ) from error


def _up_to(layer: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of a model that ends behind a layer, with one label."""
    cut = {name: value for name, value in values.items() if name not in ("id2label", "label2id")}
    if kinds := cut.get("layer_types"):
        cut["layer_types"] = kinds[:layer]
    return cut | {"num_hidden_layers": layer, "num_labels": 1}


@torch.no_grad()
def _fold(model: Any, values: Mapping[str, Any]) -> None:
    """MiniCPM is a Llama whose embeddings, and whatever is added to a residual, are multiplied by constants
    (https://arxiv.org/abs/2404.06395): here the weights are, so that the layers are a Llama's."""
    model.model.embed_tokens.weight.mul_(values["scale_emb"])
    scale = values["scale_depth"] / math.sqrt(values["num_hidden_layers"])
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.mul_(scale)
        layer.mlp.down_proj.weight.mul_(scale)


@torch.no_grad()
def _set_head(model: Any, folder: str | Path, index: int) -> None:
    name = f"lm_head.{index}.linear_head.weight"
    head = tensors(folder, name).get("")
    if head is None or head.shape != model.score.weight.shape:
        raise CheckpointError(f"{folder} has no score head called {name!r}, which a layer-wise reranker has")
    model.score.weight.copy_(head)


def _said(heads: range) -> str:
    step = f", every {heads.step}th" if heads.step > 1 else ""
    return f"{heads[0]} to {heads[-1]}{step}"
