"""What students of passages as vectors are made of: a frozen encoder, a language model with a projector; the layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rerank import checkpoints
from rerank.engine.translated import family_config, tensors
from rerank.errors import CheckpointError, InputError, RerankError
from rerank.io.atomic import atomic_write
from rerank.judges.bi_encoder import BiEncoder
from rerank.judges.passage_tokens import PLACEHOLDER, POOLINGS, encoder_folder
from rerank.registry import unknown
from training.students.causal import load_model
from training.students.student import Lora

__all__ = ["Encoder", "loaded", "rewritten", "written_as"]

PROJECTOR = "model.projector."
FAMILIES = ("llama", "mistral")
"""Those that the method's own code has a layout for."""


class Encoder:
    """What reads passages, as the judge does, and is never trained.

    Args:
        folder: the student's checkpoint, whose config may name an encoder.
        asked: name, hub id or folder; the one that the config names by default.
        pooling: a name in `POOLINGS`; the config's, or "mean", by default.
        document_tokens: the most that it reads of a passage.

    Raises:
        CheckpointError: when it cannot be had, or is no encoder.
        InputError: when none is named, or another one than the projector there was trained with.
    """

    def __init__(self, folder: Path, asked: str | None, pooling: str | None, document_tokens: int | None) -> None:
        config = checkpoints.settings(folder)
        known = config.get("encoder_name")
        self.name = _one("encoder", asked and _lasting(asked), known, folder)
        self.pooling = _one("pooling", pooling, config.get("encoder_pooling") if known else None, folder, "mean")
        if self.pooling not in POOLINGS:
            raise unknown("pooling", self.pooling, POOLINGS)
        self.document_tokens = document_tokens
        self.judge = BiEncoder(
            encoder_folder(self.name, folder),
            pooling=POOLINGS[self.pooling],
            document_prompt="",
            max_tokens=document_tokens,
        )
        self.size = int(self.judge.vectors(["a"]).shape[1])

    def read(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """Vectors of passages, float32 [passages, dim] on the CPU, and how many of them were cut."""
        kept = self.judge.kept_of(texts)
        return torch.cat([each.tensor for each in kept]).cpu().float(), sum(bool(each.cut) for each in kept)


def loaded(folder: Path, size: int, dtype: str, lora: Lora | None) -> tuple[Any, Any]:
    """A language model with `model.projector`, and its tokenizer, which knows the placeholder.

    Args:
        folder: of a causal model, which gets a new projector, or of one that has one.
        size: of the encoder's vectors.
        dtype, lora: as of `load_model`.

    Raises:
        CheckpointError: when it cannot be loaded, or its projector reads vectors of another size.
        InputError: when it is of another kind or family.
    """
    kind = checkpoints.kind(folder)
    if kind not in ("causal", "passage-embedding"):
        raise InputError(f"{folder.name} is of kind {kind}; passages are read as vectors by a causal language model")
    trained = kind == "passage-embedding"
    shape = family_config(folder, checkpoints.settings(folder)) if trained else None
    model, tokenizer = load_model(folder, "AutoModelForCausalLM", dtype, lora, shape=shape)
    if model.config.model_type not in FAMILIES:
        raise InputError(
            f"{folder.name} is a {model.config.model_type}; passages are read as vectors by a {' or a '.join(FAMILIES)}"
        )
    width = model.config.hidden_size
    projector = nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))
    if trained:
        _take(projector, tensors(folder, PROJECTOR), folder)
    model.base_model.projector = projector.to(model.device)
    if not model.config.tie_word_embeddings:  # passages are the vocabulary: nothing would ever reach this head
        model.get_output_embeddings().requires_grad_(False)
    tokenizer.add_tokens([PLACEHOLDER], special_tokens=True)  # nothing where it has it
    return model, tokenizer


def written_as(config: Any, encoder: Encoder) -> dict[str, Any]:
    """What the method's own code says in a config, beside what the family does."""
    family = config.model_type
    return {
        "model_type": f"embed_{family}",
        "architectures": [f"Embed{family.capitalize()}ForRankLM"],
        "encoder_name": encoder.name,
        "encoder_pooling": encoder.pooling,
        "projector_type": "mlp2x_gelu",
        "embedding_size": encoder.size,
    }


def rewritten(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Say so in the config that lies there."""
    path = Path(folder) / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    with atomic_write(path, "w") as file:
        file.write(json.dumps({**values, **settings}, indent=2, sort_keys=True) + "\n")


def _take(projector: nn.Sequential, weights: Mapping[str, Tensor], folder: Path) -> None:
    try:
        projector.load_state_dict(dict(weights))
    except RuntimeError as error:
        shapes = {name: tuple(weight.shape) for name, weight in sorted(weights.items())}
        raise CheckpointError(
            f"the projector in {folder} has {shapes or 'no weights'}; two layers between vectors of "
            f"{projector[0].in_features} and a model of {projector[2].out_features} were expected"
        ) from error


def _one(what: str, asked: str | None, known: str | None, folder: Path, usual: str = "") -> str:
    """What was asked for, or what the checkpoint says; both must say the same."""
    if asked and known and asked != known:
        raise InputError(f"{folder.name} was trained with {what} {known!r}, not {asked!r}; leave out {what}")
    found = asked or known or usual
    if not found:
        raise InputError(f"{folder.name} names no {what}; say student.options.{what}")
    return str(found)


def _lasting(name: str) -> str:
    """A folder by its whole path, so that the model can be loaded from anywhere; any other name as it is."""
    try:
        place = checkpoints.find(name).folder
    except RerankError:  # said when it is fetched
        return name
    return name if place is None else str(place.resolve())
