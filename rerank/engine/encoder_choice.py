"""Which way a model is run, and the pass without padding that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from rerank.engine import linear
from rerank.engine.encoder_compiled import compile_layers
from rerank.engine.encoder_packed import Head, PackedPass, Pooling, widths_of
from rerank.engine.encoder_padded import PaddedPass, StockPass
from rerank.engine.encoder_varlen import VarlenPass, fixed_sizes
from rerank.engine.families import taken_apart, why_stock
from rerank.errors import InputError
from rerank.registry import unknown

__all__ = ["Mode", "Options", "Pass", "choose", "longest_text", "without_padding"]

Mode = Literal["packed", "varlen", "padded", "single", "stock"]
Pass = PackedPass | VarlenPass | PaddedPass | StockPass


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
        if asked == "packed" and model.device.type != "cpu":
            raise InputError("mode='packed' attends text by text on the CPU; on CUDA say 'varlen'")
        return asked, why
    if model.device.type == "cpu":
        return ("single" if why else "packed"), why
    if not why:
        why = _no_kernel(model)
        if why is None:
            return "varlen", None
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
