"""In what a run is not what its source did, as far as that shows once it has been made; and whose weights it asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reproductions import row as rows
from reproductions.asked import Asked
from reproductions.measured import published_first, share
from reproductions.row import Row
from rerank import Dataset, checkpoints
from rerank.datasets import names as datasets
from rerank.judges.hosting.providers import is_hosted

__all__ = ["differences", "weights"]

SAME = 0.0005
"""How far off a first stage may be: its figures are of exact sorting, rounded to four digits."""


def differences(asked: Asked, collections: tuple[str, ...], measure: str, firsts: Sequence[float]) -> list[str]:
    """All of them; none where the value can be compared.

    Args:
        asked: what was run.
        collections, measure: of what the value is.
        firsts: of each collection, the value of the first stage.
    """
    return [
        *asked.differences(),
        *_part_of_a_mean(asked.row, collections, measure),
        *_other_queries(asked, collections),
        *_changed_weights(asked),
        *_other_candidates(asked, collections, measure, firsts),
    ]


def weights(asked: Asked) -> list[str]:
    """What was asked, and where its weights came from."""
    return [f"{_called(model)}: {_origin(model)}" for model in _models(asked)]


def _models(asked: Asked) -> list[str]:
    """Those of the reranker, and of the first stage where it was run here."""
    stage = rows.first_stage(asked.row.first_stage).stage
    retrieved = [str(stage["model"])] if "model" in stage and len(asked.runs) < len(asked.collections) else []
    return [*retrieved, *asked.models]


def _called(model: str) -> str:
    """A folder by its name, wherever it lies on this machine."""
    return Path(model).name if Path(model).is_dir() else model


def _origin(model: str) -> str:
    if is_hosted(model):
        return "as its server has it"
    return checkpoints.origin(checkpoints.fetch(model))


def _part_of_a_mean(row: Row, collections: tuple[str, ...], measure: str) -> list[str]:
    published = {(each.collections, each.measure) for each in row.figure}
    return [] if (collections, measure) in published else ["a part of the collections whose mean is published"]


def _other_queries(asked: Asked, collections: tuple[str, ...]) -> list[str]:
    """Collections in a folder that have more or fewer judged queries than those of their names."""
    said = {listed.name: listed.counts.queries for listed in datasets()}
    has = {name: len(Dataset.load(asked.places[name]).queries) for name in collections if name in asked.places}
    return [
        f"{name} with {count} queries instead of {said[name]}" for name, count in has.items() if count != said[name]
    ]


def _changed_weights(asked: Asked) -> list[str]:
    """Weights that somebody has rounded since they were published."""
    named = {model: _origin(model) for model in _models(asked) if model != asked.checkpoint}
    return [f"weights of {name} from a {where}" for name, where in named.items() if "turned back" in where]


def _other_candidates(asked: Asked, collections: tuple[str, ...], measure: str, firsts: Sequence[float]) -> list[str]:
    """A first stage that is not the published one, where anything is published about it."""
    if asked.queries is not None or not asked.row.stage:
        return []
    said = [published_first(asked.row, name, measure) for name in collections]
    return [
        f"a first stage with {measure} {share(value)} on {name} instead of {share(figure.value)}"
        for name, value, figure in zip(collections, firsts, said, strict=True)
        if figure is not None and abs(value - figure.value) > SAME
    ]
