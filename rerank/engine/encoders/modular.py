"""Heads that sentence-transformers saves in modules: a pooling, and dense layers and norms on what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rerank.checkpoints.modules import Module
from rerank.engine.encoders.layers import HEAD_ROWS, in_fixed_rows
from rerank.engine.encoders.packed import Output, Pooling
from rerank.engine.encoders.padded import StatesPass
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError

__all__ = ["ReadPass", "Readout"]

POOLINGS: dict[str, Pooling] = {"cls": "first", "mean": "mean"}
LEGACY = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
POOLED = "sentence_embedding"


@dataclass(frozen=True)
class Readout:
    """How scores are read off a backbone's states.

    Args:
        pooling: of each text's states.
        head: float32 [texts, hidden] -> [texts, labels].
    """

    pooling: Pooling
    head: nn.Module

    @classmethod
    def of(cls, modules: Sequence[Module], device: torch.device) -> Readout:
        """Of a checkpoint's modules behind its backbone.

        Raises:
            CheckpointError: when one does what is not known here, or lacks weights.
        """
        pooling, *rest = modules[1:]
        return cls(_pooling(pooling), _Head(rest).float().eval().to(device))

    @property
    def size(self) -> int:
        """Weights of the head's linear layers."""
        return sum(child.weight.numel() for child in self._linears)

    @property
    def labels(self) -> int:
        """How many numbers a text gets."""
        return self._linears[-1].out_features

    @property
    def _linears(self) -> list[nn.Linear]:
        return [child for child in self.head.modules() if isinstance(child, nn.Linear)]


class ReadPass:
    """A backbone's own forward, and a head on what it gives.

    Args:
        states: with the pooling of the readout.
        readout: of the checkpoint.
    """

    def __init__(self, states: StatesPass, readout: Readout) -> None:
        self.states, self.readout = states, readout
        self.packs, self.execution = states.packs, states.execution

    def run(self, texts: Sequence[Pair]) -> Output:
        """Compute a batch."""
        output = self.states.run(texts)
        values = in_fixed_rows(self.readout.head, output.values.to(self.states.model.device)).cpu()
        rows = -(-len(texts) // HEAD_ROWS) * HEAD_ROWS
        return Output(values, output.padded, output.flops + 2 * self.readout.size * rows)


class _Head(nn.Module):
    """Modules one after another; each reads and writes under a name."""

    def __init__(self, modules: Sequence[Module]) -> None:
        super().__init__()
        steps = [_step(module) for module in modules if module.kind != "Dropout"]  # which does nothing in use
        self.steps = nn.ModuleList(step for step, _, _ in steps)
        self.names = [(read, written) for _, read, written in steps]

    def forward(self, pooled: Tensor) -> Tensor:
        features = {POOLED: pooled}
        for step, (read, written) in zip(self.steps, self.names, strict=True):
            features[written] = step(features[read])
        return features["scores"]


class _Dense(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        inner, outer = int(config["in_features"]), int(config["out_features"])
        self.linear = nn.Linear(inner, outer, bias=bool(config.get("bias", True)))
        self.activation = _activation(str(config.get("activation_function", "torch.nn.modules.activation.Tanh")))
        self.adds = bool(config.get("use_residual", False))
        if self.adds and inner != outer:
            self.residual = nn.Linear(inner, outer, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        output: Tensor = self.activation(self.linear(rows))
        if not self.adds:
            return output
        return output + (self.residual(rows) if hasattr(self, "residual") else rows)


class _Norm(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(config["dimension"]))

    def forward(self, rows: Tensor) -> Tensor:
        normed: Tensor = self.norm(rows)
        return normed


def _step(module: Module) -> tuple[nn.Module, str, str]:
    """A module with its weights, what it reads, and what it writes."""
    made = (_Dense if module.kind == "Dense" else _Norm)(module.config)
    if module.weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(module.weights)
    else:
        weights = torch.load(module.weights, map_location="cpu", weights_only=True)
    try:
        made.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{module.weights} is not what its config says: {str(error).splitlines()[-1]}") from error
    read = str(module.config.get("module_input_name") or POOLED)
    return made, read, str(module.config.get("module_output_name") or read)


def _activation(path: str) -> nn.Module:
    """A class of torch.nn by its path; nothing else is run."""
    made = getattr(nn, path.rpartition(".")[2], None) if path.startswith("torch.nn.") else None
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise CheckpointError(f"the activation {path!r} is no module of torch.nn, and other code is never run")
    return made()


def _pooling(module: Module) -> Pooling:
    modes = module.config.get("pooling_mode") or [name for key, name in LEGACY.items() if module.config.get(key)]
    found = [modes] if isinstance(modes, str) else list(modes)
    if len(found) != 1 or found[0] not in POOLINGS:
        raise CheckpointError(f"{module.folder} pools by {found}; {' or '.join(POOLINGS)} alone is known here")
    return POOLINGS[found[0]]
