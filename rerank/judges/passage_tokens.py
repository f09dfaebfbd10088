"""Passages as tokens of a language model: their places in a prompt, their encoder, and what its vectors become.

What ranks (`rerank.judges.passage_embedding`) and what is trained read them by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from torch import Tensor
from torch.nn.functional import normalize

from rerank import checkpoints
from rerank.checkpoints.layouts import read_layout
from rerank.engine.encoders.layers import in_fixed_rows
from rerank.errors import CheckpointError, RerankError
from rerank.judges.separate import check_kind
from rerank.prompts.prompt import Blank

__all__ = ["ENCODERS", "PLACEHOLDER", "POOLINGS", "as_tokens", "encoder_folder", "with_places"]

PLACEHOLDER = "<PLACEHOLDER>"
"""The token that stands where a passage's vector goes."""

POOLINGS: Mapping[str, str] = {"mean": "mean", "cls": "cls", "last_token": "lasttoken"}
"""What a config calls the way its encoder pools, and what sentence-transformers does."""

ENCODERS = ("bi-encoder", "encoder")
"""Kinds of checkpoint that read passages."""


def as_tokens(projector: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
    """An encoder's vectors as the language model reads them: brought to length 1, and projected.

    Args:
        projector: from [rows, dim] to [rows, the model's dim].
        vectors: [passages, dim], any length and dtype.

    Returns:
        [passages, the model's dim], float32.
    """
    return in_fixed_rows(projector, normalize(vectors.float(), dim=-1))


def with_places(parts: Sequence[str | Blank]) -> tuple[str | Blank, ...]:
    """What one side says, with the placeholder for each document."""
    said = [PLACEHOLDER if isinstance(part, Blank) and part.document else part for part in parts]
    return tuple(
        part
        for texts, group in groupby(said, key=lambda part: isinstance(part, str))
        for part in (["".join(map(str, group))] if texts else group)
    )


def encoder_folder(name: str | Path, reader: Path) -> Path:
    """Where an encoder lies.

    Args:
        name: a checkpoint's name, hub id or folder.
        reader: the model that reads passages by it, for the message.

    Raises:
        CheckpointError: when it cannot be had, or is no encoder whose pooled states can be taken as they are.
    """
    try:
        place = checkpoints.fetch(name)
        check_kind(place, ENCODERS, "passage-embedding")
        if read_layout(place).projections:
            raise CheckpointError(f"{place} has layers behind its pooling, and the projector reads what is pooled")
    except RerankError as error:
        raise CheckpointError(f"{reader} reads passages by the encoder {name}: {error}") from error
    return place
