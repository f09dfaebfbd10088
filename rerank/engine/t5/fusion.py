"""A Fusion-in-T5 from its folder: a T5, attention between texts, and an output layer of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerank.checkpoints.folder import weight_files
from rerank.engine.loading import Loaded, Loading, choose_device, choose_dtype, explained, quiet
from rerank.engine.t5.across import Across
from rerank.errors import CheckpointError, InputError

__all__ = ["load_fusion"]

ACROSS = re.compile(r"encoder\.project_global\.(\d+)\.(.+)")
DEPENDENT = re.compile(r"(encoder|decoder)\.embed_tokens\.weight")  # the shared table under another name


def load_fusion(folder: Path, loading: Loading) -> tuple[Loaded, Across, Tensor]:
    """The model in evaluation mode with its tokenizer, what lets texts see each other, and its output bias.

    The weights have the names of the published code (https://github.com/OpenMatch/FiT5): `t5.…` with
    `t5.encoder.project_global.N.…`, and `dense.weight` and `dense.bias`. The config is a T5's with `num_global_layers`.

    Raises:
        CheckpointError: when weights are missing or left over.
        InputError: when it is to be loaded in another way than plainly.
    """
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    for name in ("quantize", "adapter", "device_map"):
        if (value := getattr(loading, name)) is not None:
            raise InputError(f"{name}={str(value)!r}: a Fusion-in-T5 is loaded plainly; leave it out")
    device = choose_device(loading.device)
    dtype = choose_dtype(loading.dtype, device)
    with quiet(), explained(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = T5Config.from_pretrained(folder)
        config.scale_decoder_outputs = False  # its output layer is its own
        model, weights = T5ForConditionalGeneration(config), _weights(folder)
        model.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        model.encoder.embed_tokens.weight = model.decoder.embed_tokens.weight = model.shared.weight
    layers = _layers(config, folder)
    _fill(folder, model, {name: weight for name, weight in weights.items() if not ACROSS.fullmatch(name)})
    _fill(
        folder,
        layers,
        {".".join(found.groups()): weights[name] for name in weights if (found := ACROSS.fullmatch(name))},
    )
    bias = weights["lm_head.bias"].float()
    model, layers = (module.to(device=device, dtype=dtype).eval() for module in (model, layers))
    choices = {"device": str(device), "dtype": str(dtype).removeprefix("torch.")}
    return Loaded(model, tokenizer, choices, ""), Across([*layers], config.num_layers), bias


def _layers(config: Any, folder: Path) -> nn.ModuleList:
    from transformers.models.t5.modeling_t5 import T5LayerSelfAttention

    count = getattr(config, "num_global_layers", None)
    if type(count) is not int or not 1 <= count <= config.num_layers:
        raise CheckpointError(
            f"{folder / 'config.json'}: 'num_global_layers' is {count!r}; it must be from 1 to {config.num_layers}"
        )
    return nn.ModuleList([T5LayerSelfAttention(config) for _ in range(count)])


def _weights(folder: Path) -> dict[str, Tensor]:
    """Under the names of transformers."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        found |= load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    plain = {name.removeprefix("module.").removeprefix("t5."): weight for name, weight in found.items()}
    named = {re.sub(r"^dense\.", "lm_head.", name): weight for name, weight in plain.items()}
    if "lm_head.bias" not in named:
        raise CheckpointError(f"{folder} is no Fusion-in-T5: its weights have no 'dense.bias'")
    return {name: weight for name, weight in named.items() if not DEPENDENT.fullmatch(name)}


def _fill(folder: Path, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    given = {name: weight for name, weight in weights.items() if name != "lm_head.bias"}
    known = {name: weight for name, weight in module.state_dict().items() if not DEPENDENT.fullmatch(name)}
    wrong = sorted(given.keys() ^ known.keys()) + sorted(
        name for name in given.keys() & known.keys() if given[name].shape != known[name].shape
    )
    if wrong:
        raise CheckpointError(
            f"{folder} is no Fusion-in-T5 of its config's shape: {len(wrong)} weights are missing, left over or of "
            f"another size, {wrong[0]!r} among them"
        )
    module.load_state_dict(given, strict=False)
