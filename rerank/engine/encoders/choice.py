"""Which way a model is run, and the pass without padding that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rerank.engine import linear
from rerank.engine.encoders.compiled import compile_layers
from rerank.engine.encoders.families import taken_apart, why_stock
from rerank.engine.encoders.packed import Head, PackedPass, Pooling, widths_of
from rerank.engine.encoders.padded import PaddedPass, StatesPass, StockPass
from rerank.engine.encoders.varlen import VarlenPass, fixed_sizes
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError
from rerank.registry import unknown

__all__ = [
    "Mode",
    "Options",
    "Pass",
    "check_agreement",
    "check_options",
    "choose",
    "longest_text",
    "probes",
    "without_padding",
]

Mode = Literal["packed", "varlen", "padded", "single", "stock"]
Pass = PackedPass | VarlenPass | PaddedPass | StockPass | StatesPass


@dataclass(frozen=True)
class Options:
    """Of an encoder: see `encoder.Encoder`."""

    compile: bool = False
    deterministic: bool = False
    graphs: bool = True
    rows: int = 16_384


def choose(model: Any, asked: Mode | None, *, deterministic: bool) -> tuple[Mode, str | None]:
    """How to run a model, and why not without padding, where that is so.

    Raises:
        UnknownName: when there is no such mode.
        InputError: when a model cannot be run as asked.
    """
    why = why_stock(model)
    if asked is not None:
        if asked not in get_args(Mode):
            raise unknown("mode", asked, get_args(Mode))
        if why and asked not in ("single", "stock"):
            raise InputError(f"mode={asked!r}, but this model must be run by its own forward: {why}")
        if asked == "padded" and model.base_model is model:
            raise InputError("mode='padded' is for classifiers; run a backbone in mode='stock'")
        if asked == "packed" and model.device.type != "cpu":
            raise InputError("mode='packed' attends text by text on the CPU; on CUDA say 'varlen'")
        return asked, why
    if model.device.type == "cpu":
        return ("single" if why else "packed"), why
    if not why:
        why = _no_kernel(model)
        if why is None:
            return "varlen", None
        if model.base_model is not model:
            return ("single" if deterministic else "padded"), why
    return ("single" if deterministic else "stock"), why


def without_padding(
    model: Any, mode: Mode, pooling: Pooling, options: Options, head: Head | None = None, head_size: int = 0
) -> PackedPass | VarlenPass:
    """Take a model apart and make its pass.

    Args:
        model: a classifier or a backbone of a family in `FAMILIES`.
        mode: `packed` or `varlen`.
        pooling: what is read of each text.
        options: of the encoder.
        head: applied to what was pooled, or None.
        head_size: weights of the head, for the bill.
    """
    widths = widths_of(model)
    backbone = taken_apart(model, varlen=mode == "varlen")
    made: PackedPass | VarlenPass
    if mode == "packed":
        fuse = linear.available(model) and not options.compile
        made = PackedPass(backbone, pooling, head, head_size, widths, fuse=fuse)
    else:
        fixed = fixed_sizes(options.rows, longest_text(model)) if options.deterministic else None
        made = VarlenPass(backbone, pooling, head, head_size, device=model.device, graphs=options.graphs, fixed=fixed)
    if options.compile:
        compile_layers(backbone)
    return made


def longest_text(model: Any) -> int:
    """Tokens of the longest text that the model has positions for."""
    return int(getattr(model.config, "max_position_embeddings", None) or 512)


def probes(model: Any) -> list[Pair]:
    """Texts on which a packed pass is tried at load: two that are nearly nothing, one longer than local windows."""
    lengths = [5, 3, min(160, (getattr(model.config, "max_position_embeddings", None) or 512) - 4)]
    several = [np.arange(length, dtype=np.int32) * 7 % (model.config.vocab_size - 5) + 5 for length in lengths]
    return [Pair(ids, (np.arange(len(ids)) > len(ids) // 2).astype(np.int32), 0) for ids in several]


def check_agreement(model: Any, got: Tensor, expected: Tensor) -> None:
    """Refuse a pass that disagrees with the model's own forward.

    Raises:
        CheckpointError: with what both gave.
    """
    exact = model.dtype == torch.float32
    if not torch.allclose(got, expected.cpu(), rtol=1e-2 if exact else 5e-2, atol=1e-2 if exact else 1e-1):
        raise CheckpointError(
            f"packed attention changes the outputs of this {type(model).__name__} "
            f"({_few(got)} for {_few(expected)}); please report it with the version of transformers"
        )


def check_options(mode: Mode, options: Options, model: Any) -> None:
    """Refuse options that would be ignored, or a promise that cannot be kept.

    Raises:
        InputError: saying which, and the way out.
    """
    if options.compile and mode not in ("packed", "varlen"):
        raise InputError(f"compile=True has no effect on a model that is run {mode}; leave it out")
    exact = model.device.type == "cpu" and model.dtype == torch.float32
    if options.deterministic and model.device.type == "cpu" and not exact:
        raise InputError(f"deterministic=True needs float32 on the CPU, but the model is {model.dtype}")
    if options.deterministic and mode in ("padded", "stock"):
        raise InputError(f"deterministic=True, but mode={mode!r} pads a text as its batch needs it; say 'single'")
    if options.deterministic and options.compile:
        raise InputError("compile=True may change the last bits of a score with its batch; not with deterministic=True")


def _few(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.flatten()[:6].tolist()]


def _no_kernel(model: Any) -> str | None:
    """Why attention over all texts at once would run by its slow reference here, or None."""
    from rerank.kernels.varlen_attention import varlen_attention

    config = model.config
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    part = torch.empty(1, config.num_attention_heads, dim, dtype=model.dtype, device=model.device)
    ends = torch.zeros(2, dtype=torch.int32, device=model.device)
    with torch.inference_mode():
        provider = varlen_attention.pick(part, part, part, ends, 1).name
    return f"no kernel for heads of {dim} here" if provider == "reference" else None
