"""What stands behind a backbone that reads one text at a time: projections, and vectors of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rerank.checkpoints.layouts import Projection
from rerank.errors import CheckpointError

__all__ = ["Head", "linear_from", "stored_tensors"]

ACTIVATIONS = {name: getattr(nn, name) for name in ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")}

FILES = ("model.safetensors", "pytorch_model.bin")


class Head(nn.Module):
    """Projections in order, then length 1 where it is wanted: float32 [rows, hidden] -> [rows, dim].

    Args:
        projections: of the layout.
        normalised: whether rows are brought to length 1.
        device: of the model.

    Raises:
        CheckpointError: when weights are missing.
    """

    def __init__(self, projections: Sequence[Projection], normalised: bool, device: torch.device) -> None:
        super().__init__()
        self.projections = nn.ModuleList(_Projected(each) for each in projections)
        self.normalised = normalised
        self.to(device).requires_grad_(False)

    @property
    def size(self) -> int:
        """Weights of its linear layers."""
        return sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))

    def forward(self, rows: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, dim], row by row."""
        for projection in self.projections:
            rows = projection(rows)
        return normalize(rows, dim=-1) if self.normalised else rows


class _Projected(nn.Module):
    def __init__(self, projection: Projection) -> None:
        super().__init__()
        if projection.activation not in ACTIVATIONS:
            raise CheckpointError(
                f"{projection.folder}: the activation is {projection.activation!r}; it may be {', '.join(ACTIVATIONS)}"
            )
        tensors = stored_tensors(projection.folder, (projection.prefix, "residual."))
        self.linear = linear_from(tensors, projection.prefix, projection.folder)
        self.activation = ACTIVATIONS[projection.activation]()
        self.residual = projection.residual
        resized = self.residual and self.linear.in_features != self.linear.out_features
        self.resize = linear_from(tensors, "residual.", projection.folder) if resized else nn.Identity()

    def forward(self, rows: Tensor) -> Tensor:
        projected: Tensor = self.activation(self.linear(rows))
        return projected + self.resize(rows) if self.residual else projected


def linear_from(tensors: dict[str, Tensor], prefix: str, where: Path) -> nn.Linear:
    """A linear layer with the weights of that prefix, float32.

    Raises:
        CheckpointError: when there are none.
    """
    weight = tensors.get(f"{prefix}weight")
    if weight is None:
        raise CheckpointError(f"{where} has no weights '{prefix}weight': what stands behind the encoder is missing")
    bias = tensors.get(f"{prefix}bias")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.float().contiguous(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.float().contiguous(), requires_grad=False)
    return linear


def stored_tensors(folder: Path, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a folder's one file of weights.

    Args:
        folder: with `model.safetensors`, or else `pytorch_model.bin`.
        names: only those that begin so; all when empty.

    Raises:
        CheckpointError: when there is neither file, or it cannot be read.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder} has no weights; {' or '.join(FILES)} must lie there")
    try:
        found = _safetensors(path, tuple(names)) if path.suffix == ".safetensors" else _pickled(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    return {name: tensor for name, tensor in found.items() if not names or name.startswith(tuple(names))}


def _safetensors(path: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    from safetensors import safe_open

    opened: Any = safe_open(path, framework="pt")
    with opened as file:
        return {name: file.get_tensor(name) for name in file.keys() if not names or name.startswith(names)}  # noqa: SIM118


def _pickled(path: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return loaded
