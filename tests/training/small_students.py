"""Small students that learn a few lists by heart, and what they then make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from judge_models import tiny_t5
from lists_to_learn import lists

from rerank import Document, Reranker
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training


def still_t5(folder: Path, real: Path) -> Path:
    """A T5 without dropout, so that a few steps are enough."""
    folder = tiny_t5(folder, real)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.0}), encoding="utf-8")
    return folder


def learned(
    folder: Path,
    output: Path,
    kind: str,
    loss: str,
    options: dict[str, Any],
    *,
    steps: int = 30,
    rate: float = 3e-3,
    count: int = 8,
) -> list[float]:
    """The losses of a student that learns a few queries by heart."""
    student = StudentTable(kind, str(folder), options)
    schedule = Schedule(max_steps=steps, lists=count, learning_rate=rate, warmup=0, log_every=1, save_every=1000)
    run_training(Recipe(student, Objective(loss), schedule), output, examples=lists(count, documents=3))
    return losses_of(output)


def losses_of(output: Path) -> list[float]:
    """As they were logged."""
    log = json.loads((output / "training.json").read_text(encoding="utf-8"))["log"]
    return [entry["loss"] for entry in log if "loss" in entry]


def first_ranks(output: Path, count: int = 8) -> list[int]:
    """Where a trained student ranks the relevant document of each list, from 0."""
    with Reranker(output) as reranker:
        return [
            [int(c.document.doc_id) for c in ranked].index((example.relevance or ()).index(1.0))
            for example in lists(count, documents=3)
            for ranked in [reranker.rank(example.query, [Document(str(i), t) for i, t in enumerate(example.documents)])]
        ]
