"""Twenty steps of every training recipe, by its own command, on small data and small checkpoints.

python scripts/try_recipes.py recipes-tried                        # all that ship; minutes on two cores
python scripts/try_recipes.py recipes-tried --only monot5 --only rank1

Writes a collection in MS MARCO's names and layouts, with what teachers say in theirs (`small_marco.py`), makes of it
what a recipe's first line trains on (`rerank examples`), and runs that line as a process of its own, with a small
checkpoint of the same architecture (`small_checkpoints.py`: real ones where two cores can train them) and with sizes
for a CPU (`recipe_plans.py`). A recipe passes when the process ends well, `training.json` has all steps and finite
losses, and what was written loads and ranks. Where there is no CUDA, QLoRA must first be refused in one line; then it
runs unquantised.

Prints a table in Markdown; exits with 1 when a recipe did not pass. The same command keeps what has passed, unless
its recipe or its plan is another now.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import small_checkpoints
import small_marco
from recipe_plans import Plan, plan_of, text_of

from rerank import Document, Query, Reranker
from rerank.errors import RerankError
from training.recipe import find, names

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Tried:
    """What came of a recipe.

    Args:
        name, kind, start: of its plan.
        key: of recipe and plan; another key is tried again.
        seconds: of the process that trained.
        first, last: loss of the first and the last step.
        wrong: why it did not pass, or "".
    """

    name: str
    kind: str
    start: str
    key: str
    seconds: float = 0.0
    first: float = math.nan
    last: float = math.nan
    wrong: str = ""


class Bench:
    """Where recipes are tried: `data`, `checkpoints`, `examples`, a folder for each recipe, and `tried.json`.

    Args:
        folder: made when missing.
        steps: of each recipe.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder.resolve(), steps
        self.note = self.folder / "tried.json"
        small_marco.write_files(self.folder / "data")
        said = json.loads(self.note.read_text(encoding="utf-8")) if self.note.exists() else []
        self.tried = {one["name"]: Tried(**one) for one in said}

    def __call__(self, name: str) -> Tried:
        """Try a recipe, after the one that it goes on from; what has passed is kept."""
        plan, key = plan_of(name), self._key(name)
        kept = self.tried.get(name)
        if kept is not None and kept.key == key and not kept.wrong:
            return kept
        kind = find(name).student.kind
        if plan.start in names() and (before := self(plan.start)).wrong:
            return Tried(name, kind, plan.start, key, wrong=f"{before.name} did not pass: {before.wrong}")
        shutil.rmtree(self.folder / name, ignore_errors=True)
        found = self._trained(plan, Tried(name, kind, plan.start, key))
        self.tried[name] = found
        self.note.write_text(json.dumps([asdict(one) for one in self.tried.values()], indent=1), encoding="utf-8")
        shutil.rmtree(self.folder / name / "checkpoints", ignore_errors=True)
        return found

    def _key(self, name: str) -> str:
        plan = plan_of(name)
        before = self._key(plan.start) if plan.start in names() else ""
        text = f"{self.steps} {plan} {text_of(name)} {before}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _trained(self, plan: Plan, tried: Tried) -> Tried:
        values = asdict(tried)
        began = time.perf_counter()
        try:
            command = self._command(plan)
            if "student.lora.quantize" in plan.changes:
                lora = find(plan.name).student.lora
                assert lora is not None
                _check_refusal(
                    [f"{word}{lora.quantize}" if word == "student.lora.quantize=" else word for word in command]
                )
            began = time.perf_counter()
            _run(command, self.folder / "data")
            losses = self._losses(self.folder / plan.name)
            values |= {"first": losses[0], "last": losses[-1]}
            _check_ranks(self.folder / plan.name, tried.kind)
        except (AssertionError, RerankError) as error:
            values |= {"wrong": " ".join(str(error).split())}
        return Tried(**{**values, "seconds": round(time.perf_counter() - began, 1)})

    def _command(self, plan: Plan) -> list[str]:
        start = self.folder / plan.start
        if plan.start not in names():
            start = small_checkpoints.checkpoint(plan.start, self.folder / "checkpoints")
        changes = {"schedule.log_every": 1, **plan.changes}
        for option in ("student.options.teacher", "student.options.encoder"):
            if option in changes:
                changes[option] = str(small_checkpoints.checkpoint(changes[option], self.folder / "checkpoints"))
        sets = [word for path, value in changes.items() for word in ("--set", f"{path}={_toml(value)}")]
        places = [
            "--examples",
            str(self._examples(plan)),
            "--model",
            str(start),
            "--output",
            str(self.folder / plan.name),
        ]
        return ["train", plan.name, *places, "--max-steps", str(self.steps), "--quiet", *sets]

    def _examples(self, plan: Plan) -> Path:
        """What the first line names; made by `rerank examples` once for all recipes that train on the same."""
        if not plan.source:
            return self.folder / "data" / plan.examples
        key = hashlib.sha256(" ".join(plan.source).encode()).hexdigest()[:8]
        place = self.folder / "examples" / key / plan.examples
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            _run(["examples", *plan.source, "--strict", "--quiet", "--output", str(place)], self.folder / "data")
        return place

    def _losses(self, folder: Path) -> list[float]:
        said = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        steps, losses = said["cost"]["optimiser steps"], [entry["loss"] for entry in said["log"] if "loss" in entry]
        assert steps == self.steps, f"{steps} optimiser steps in training.json"
        assert len(losses) == steps, f"{len(losses)} losses in training.json"
        assert all(map(math.isfinite, losses)), f"losses that are no numbers: {losses}"
        return losses


def _toml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _called(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    python = [sys.executable, "-m", "rerank.cli", *command]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(python, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _run(command: Sequence[str], folder: Path) -> None:
    done = _called(command, folder)
    said = done.stderr.strip().splitlines() or [""]
    assert done.returncode == 0, f"exit code {done.returncode}: {said[-1][:400]}"


def _check_refusal(command: Sequence[str]) -> None:
    """With its quantisation the recipe is refused in one line, where there is no CUDA."""
    import torch

    if torch.cuda.is_available():
        return
    done = _called(command, ROOT)
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 1), f"QLoRA without CUDA: exit code {done.returncode}, {lines[-1:]}"
    assert "CUDA" in lines[0], f"QLoRA without CUDA: {lines[0]}"


def _check_ranks(folder: Path, kind: str) -> None:
    """What was written loads as users load it, and ranks; what PE-Rank's alignment writes is for its second stage."""
    if kind == "passage-alignment":
        return
    query, ids = Query("1000", small_marco.QUERIES["1000"]), list(small_marco.PASSAGES)[:4]
    documents = [Document(one, small_marco.PASSAGES[one]) for one in ids]
    if kind == "splade":
        from retrievers.splade import Splade

        shutil.rmtree(folder / "index", ignore_errors=True)
        [ranking] = Splade.build(documents, folder / "index", model=str(folder)).retrieve([query], len(ids))
        assert ranking.candidates, "the model that was written retrieves nothing"
        return
    with Reranker(folder) as reranker:
        ranked = [candidate.document.doc_id for candidate in reranker.rank(query, documents)]
    assert sorted(ranked) == ids, f"the model that was written ranks {ranked} of {ids}"


def table(tried: Sequence[Tried]) -> str:
    """In Markdown."""
    lines = ["| recipe | student | started from | seconds | loss, first → last step |", "|---|---|---|---|---|"]
    for one in tried:
        said = f"**{one.wrong}**" if one.wrong else f"{one.first:.4g} → {one.last:.4g}"
        lines.append(f"| `{one.name}` | {one.kind} | {one.start} | {one.seconds:.0f} | {said} |")
    return "\n".join(lines)


def main() -> int:
    """Try, and print; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="a folder for all of it")
    parser.add_argument("--only", action="append", choices=names(), metavar="NAME", help="may be repeated")
    parser.add_argument("--steps", type=int, default=20, help="of the optimiser  [default: 20]")
    asked = parser.parse_args()
    bench = Bench(asked.output, asked.steps)
    tried = []
    for name in asked.only or names():
        tried.append(bench(name))
        print(f"{name}: {tried[-1].wrong or 'passed'}", file=sys.stderr, flush=True)
    print(table(tried))
    return int(any(one.wrong for one in tried))


if __name__ == "__main__":
    sys.exit(main())
