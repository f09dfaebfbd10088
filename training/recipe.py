"""A training run as a TOML file: the student, what it learns from, how long, and how it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rerank import config
from rerank.errors import ConfigError, InputError
from rerank.registry import unknown
from training.objective import Objective
from training.students.student import Lora

__all__ = ["Development", "Recipe", "Schedule", "StudentTable", "find", "names"]

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class StudentTable:
    """What is trained.

    Args:
        kind: a name in `training.students.KINDS`.
        model: the checkpoint to start from: name, hub id or folder.
        options: of that kind of student, such as {"max_tokens": 256}.
        lora: train adapters; None trains all weights.
    """

    kind: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lora: Lora | None = None


@dataclass(frozen=True)
class Development:
    """What is measured while training.

    Args:
        dataset: with queries, documents and judgments.
        run: the TREC run that is reranked.
        split: of the dataset.
        cutoff: the best so many of each query.
        measures: by ir-measures names; the first decides which checkpoint is best.
    """

    dataset: str
    run: Path
    split: str | None = None
    cutoff: int = 100
    measures: tuple[str, ...] = ("nDCG@10", "RR@10")


@dataclass(frozen=True)
class Schedule:
    """How long, and how.

    Args:
        epochs: over all examples; may be a fraction.
        max_steps: stop after so many optimiser steps; None: after the epochs.
        lists: in a batch of one process.
        accumulate: batches to an optimiser step.
        learning_rate, weight_decay, clip: of AdamW; gradients longer than `clip` are shortened to it.
        optimizer: a name of transformers' `OptimizerNames`, such as "adamw_torch_fused" or "adafactor".
        scheduler: of transformers: "linear", "cosine", "constant", "constant_with_warmup" …
        warmup: optimiser steps, or below 1 a share of all.
        dtype: "bfloat16" trains in mixed precision.
        gradient_checkpointing: compute activations twice, and keep few.
        evaluate_every, save_every: optimiser steps; None: once an epoch.
        keep: checkpoints that are kept.
        patience: stop when the first measure has not become better for so many evaluations; None: never.
        log_every: optimiser steps between points of the curves.
        sample: draw so many documents of each list in each epoch; None: all.
        shuffle: show the documents of a list in another order in each epoch.
        noise: NEFTune's α, of noise on the embeddings (https://arxiv.org/abs/2310.05914); None: none.
        seed: of new weights, order, dropout, and what is drawn.
        fsdp: of transformers, such as "full_shard auto_wrap", under torchrun.

    Raises:
        InputError: when a number is out of range.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    lists: int = 16
    accumulate: int = 1
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    clip: float = 1.0
    optimizer: str = "adamw_torch_fused"
    scheduler: str = "linear"
    warmup: float = 0.1
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    evaluate_every: int | None = None
    save_every: int | None = None
    keep: int = 2
    patience: int | None = None
    log_every: int = 10
    sample: int | None = None
    shuffle: bool = False
    noise: float | None = None
    seed: int = 0
    fsdp: str | None = None

    @property
    def moments(self) -> dict[str, Any]:
        """When transformers measures and saves: at the same steps, or at the end of epochs."""
        steps = self.evaluate_every or self.save_every
        strategy = "steps" if steps else "epoch"
        return {
            "eval_strategy": strategy,
            "eval_steps": steps,
            "save_strategy": strategy,
            "save_steps": self.save_every or steps or 500,
        }

    @property
    def arguments(self) -> dict[str, Any]:
        """What transformers' `TrainingArguments`, and those of trainers built on it, are told."""
        import torch

        return {
            "num_train_epochs": self.epochs,
            "max_steps": self.max_steps or -1,
            "gradient_accumulation_steps": self.accumulate,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "max_grad_norm": self.clip,
            "optim": self.optimizer,
            "lr_scheduler_type": self.scheduler,
            "warmup_steps": self.warmup if self.warmup < 1 else int(self.warmup),
            "bf16": self.dtype == "bfloat16",
            "save_total_limit": self.keep,
            "logging_steps": self.log_every,
            "seed": self.seed,
            "use_cpu": not torch.cuda.is_available(),
            "report_to": [],
            "disable_tqdm": True,
            **self.moments,
        }

    def __post_init__(self) -> None:
        if self.noise is not None and self.noise <= 0:
            raise InputError(f"noise={self.noise}; NEFTune's α is above 0")
        if self.evaluate_every and self.save_every and self.save_every % self.evaluate_every:
            raise InputError(
                f"save_every={self.save_every} is no multiple of evaluate_every={self.evaluate_every}; what is saved "
                "must have been measured, so that the best can be kept"
            )
        for name in ("epochs", "lists", "accumulate", "learning_rate", "keep", "log_every"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}={getattr(self, name)}; it must be above 0")
        for name in ("max_steps", "evaluate_every", "save_every", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name}={value}; it must be at least 1")
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class Recipe:
    """All of a training run but its output.

    Args:
        student: what is trained.
        objective: the loss and what it reads; see `training.objective.Objective`.
        schedule: how long, and how.
        examples: what it is trained on: a folder of Arrow, or a file or dataset as `rerank examples` reads it.
        development: what is measured while training; None: nothing.
        description: one line for a person who chooses.
        source: the paper or repository that it comes from.
        teacher: who made the teacher's labels, for the model card.
    """

    student: StudentTable
    objective: Objective
    schedule: Schedule = Schedule()
    examples: Path | None = None
    development: Development | None = None
    description: str = ""
    source: str = ""
    teacher: str = ""


def names() -> list[str]:
    """The recipes that ship, sorted."""
    return sorted(path.name.removesuffix(".toml") for path in _shelf().iterdir() if path.name.endswith(".toml"))


@cache
def table(name: str) -> dict[str, Any]:
    """The TOML of a recipe that ships, or of a file.

    Raises:
        UnknownName: when no recipe has the name.
        FileError: when the file cannot be read.
    """
    if name.endswith(".toml"):
        return config.table(name)
    if name not in names():
        raise unknown("recipe", name, names())
    return config.parse((_shelf() / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")


def find(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by the name of one that ships, or from a file.

    Args:
        name: of a recipe, or a path that ends in .toml.
        changes: "table.key" -> value, in place of what is written, such as {"schedule.lists": 8}; "" takes the key
            away, so that the default holds.

    Raises:
        UnknownName, FileError: as of `table`.
        ConfigError: when a key or a value cannot be, or what is to be taken away is not there; names the place.
    """
    values = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table(name).items()}
    for path, value in (changes or {}).items():
        if value == "":
            _take_away(values, path)
        else:
            _put(values, path, value)
    return config.build(Recipe, values, name)


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *above, key = path.split(".")
    for part in above:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{path}: {part!r} is no table")
        copied = dict(inner)  # what is cached stays as it is
        values[part], values = copied, copied
    values[key] = value


def _take_away(values: dict[str, Any], path: str) -> None:
    *above, key = path.split(".")
    for part in above:
        inner = values.get(part)
        copied = dict(inner) if isinstance(inner, dict) else {}  # what is cached stays as it is
        values[part], values = copied, copied
    if key not in values:
        raise ConfigError(f"{path} is not said in the recipe, so that there is nothing to take away")
    del values[key]


def _shelf() -> Any:
    return files("rerank") / "catalog" / "training"
