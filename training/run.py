"""A training run from its recipe: checked first, resumed where it stopped, written as a model that loads anywhere."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from filelock import FileLock

from rerank.errors import FileError, InputError
from rerank.io.atomic import atomic_write
from training import evaluation, reinforced, separate
from training.checks import check_recipe
from training.curriculum import Worths
from training.curves import shown_as
from training.examples import BadExample, Example, open_arrow, write_arrow
from training.examples.formats import check_whole, read_examples
from training.lists import Lists, opened
from training.recipe import Recipe
from training.students import student_of
from training.students.student import check_quantized

if TYPE_CHECKING:
    from training.trainer import ListTrainer

__all__ = ["Trained", "run_training"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """What came of a run.

    Args:
        folder: the model.
        steps: of the optimiser, in all.
        resumed: the step that it went on from; 0 when it started anew.
        loss: the mean training loss.
        measures: name -> value of the model that was written.
        seconds: of this process.
    """

    folder: Path
    steps: int
    resumed: int
    loss: float
    measures: dict[str, float]
    seconds: float


def run_training(
    recipe: Recipe,
    output: str | Path,
    *,
    examples: Sequence[Example] | str | Path | None = None,
    development: evaluation.Development | None = None,
    say: Say = lambda line: None,
) -> Trained:
    """Train, and write the model with its card, its curves and its log.

    The same call goes on from the last complete checkpoint in `output/checkpoints`.

    Args:
        recipe: what to do.
        output: folder of the model; made when missing. One that holds a model of another recipe is refused.
        examples: in place of the recipe's: a list of them, or where they are.
        development: in place of the recipe's.
        say: is told what happens, a line at a time.

    Raises:
        BadExample: when an example cannot be trained on, before the first step.
        InputError: when parts do not fit together.
        FileError: when files are missing, or the output belongs to another run.
        MissingExtra: when a package is not installed.
    """
    started, output = time.perf_counter(), Path(output)
    check_recipe(recipe, measured=development is not None)
    check_quantized(recipe.student.lora)
    with _claimed(output, recipe):
        lists = _lists(recipe, examples, output, say)
    development = development or _development(recipe)
    with _read_anew(recipe, examples, output):
        count = recipe.objective.check(lists.all())
        say(f"{count:,} lists, loss {recipe.objective.loss}")
        trainer = _trainer(recipe, output, lists, development)
    say(f"{recipe.student.kind}: {trainer.student.execution}")
    resumed = _train(trainer, output, say)
    measures = _measures(trainer)
    seconds = time.perf_counter() - started
    if trainer.is_world_process_zero():
        _write(recipe, trainer, output, count, measures, seconds)
    state = trainer.state
    loss = next((entry["train_loss"] for entry in reversed(state.log_history) if "train_loss" in entry), 0.0)
    return Trained(output, state.global_step, resumed, loss, measures, seconds)


@contextmanager
def _claimed(output: Path, recipe: Recipe) -> Iterator[None]:
    """Refuse a folder that holds something else, and note this run there; processes that share it take turns.

    Raises:
        FileError: saying what lies there.
    """
    note, lock = output / "recipe.json", output / ".lock"
    if output.exists() and not (output.is_dir() and (note.exists() or lock.exists() or not any(output.iterdir()))):
        raise FileError(f"{output} exists and holds no training run; give another folder")
    output.mkdir(parents=True, exist_ok=True)
    said = json.dumps(asdict(recipe), default=str, indent=2, sort_keys=True)
    with FileLock(lock):
        if not note.exists():
            with atomic_write(note, "w") as file:
                file.write(said)
        elif note.read_text(encoding="utf-8") != said:
            raise FileError(f"{output} holds a run of another recipe ({note}); give another folder, or remove it")
        yield


def _lists(recipe: Recipe, examples: Sequence[Example] | str | Path | None, output: Path, say: Say) -> Lists:
    source = recipe.examples if examples is None else examples
    if source is None:
        raise InputError("there is nothing to train on; name the examples (--examples, or 'examples' in the recipe)")
    if _converts(source):
        source = _as_arrow(source, output / "examples", say)
    schedule = recipe.schedule
    found = reinforced.as_asked(recipe, opened(source), say)
    if recipe.objective.curriculum is not None:
        found = Worths(found, recipe.objective.curriculum)
    twice = recipe.objective.duplicates
    return Lists(found, sample=schedule.sample, shuffle=schedule.shuffle, duplicates=twice, seed=schedule.seed)


def _converts(source: Sequence[Example] | str | Path) -> TypeGuard[str | Path]:
    """Whether these are files that are no Arrow yet."""
    return isinstance(source, str | Path) and not (Path(source) / "state.json").is_file()


def _as_arrow(source: str | Path, folder: Path, say: Say) -> Path:
    """What is not Arrow becomes Arrow once, beside the model: a stream has no places to shuffle."""
    if not folder.exists():
        check_whole(source)
        read = read_examples(source, strict=True)
        write_arrow(read, folder)
        for line in read.counts.lines()[1:]:  # what was repaired
            say(line)
    open_arrow(folder)
    return folder


@contextmanager
def _read_anew(recipe: Recipe, examples: Sequence[Example] | str | Path | None, output: Path) -> Iterator[None]:
    """After a bad example before the first step, the same command reads the files again: they will have been mended."""
    try:
        yield
    except BadExample:
        source = recipe.examples if examples is None else examples
        if source is not None and _converts(source) and not (output / "checkpoints").exists():
            shutil.rmtree(output / "examples", ignore_errors=True)
        raise


def _development(recipe: Recipe) -> evaluation.Development | None:
    if recipe.development is None:
        return None
    from rerank.datasets import Dataset
    from rerank.io import read_run

    asked = recipe.development
    scores = read_run(asked.run)
    dataset = Dataset.load(asked.dataset, asked.split)
    return evaluation.Development(dataset.rankings(scores, asked.cutoff), dataset.qrels, asked.measures)


def _trainer(recipe: Recipe, output: Path, lists: Lists, development: evaluation.Development | None) -> ListTrainer:
    import transformers

    from training.trainer import ListTrainer

    schedule = recipe.schedule
    transformers.set_seed(schedule.seed)
    if recipe.student.kind in separate.KINDS:
        model = separate.made_student(recipe)
        made: ListTrainer = separate.made_trainer(recipe, output / "checkpoints", lists, model, development, [])
        return made
    if recipe.objective.reads == "rewards":
        rewarded: ListTrainer = reinforced.made_trainer(recipe, output / "checkpoints", lists)
        return rewarded
    student = student_of(recipe.student)
    student.check(lists[index] for index in range(len(lists)))  # as they are shown: with so many documents
    if schedule.gradient_checkpointing:
        student.gradient_checkpointing_enable()
    measured = development is not None
    best = {"load_best_model_at_end": True, "metric_for_best_model": development.measures[0]} if development else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        args = transformers.TrainingArguments(
            output_dir=str(output / "checkpoints"),
            **(schedule.arguments | ({} if measured else {"eval_strategy": "no"})),
            per_device_train_batch_size=schedule.lists,
            neftune_noise_alpha=schedule.noise,
            fsdp=schedule.fsdp,
            ddp_find_unused_parameters=not schedule.gradient_checkpointing,  # which DDP cannot have together
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            **best,
        )
    patience = [] if schedule.patience is None else [transformers.EarlyStoppingCallback(schedule.patience)]
    return ListTrainer(student, args, lists, recipe.objective, development=development, callbacks=patience)


def _train(trainer: ListTrainer, output: Path, say: Say) -> int:
    from training.trainer import last_complete

    trainer.remove_callback(_printer())
    checkpoint = last_complete(output / "checkpoints")
    step = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
    if checkpoint is not None:
        say(f"goes on from step {step}")
    trainer.add_callback(_teller(say))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return step


def _printer() -> Any:
    from transformers import PrinterCallback

    return PrinterCallback


def _teller(say: Say) -> Any:
    """Says what transformers logs, in a line."""
    from transformers import TrainerCallback

    class Teller(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            shown = {key: value for key, value in (logs or {}).items() if _tells(key)}
            if shown and state.is_world_process_zero:
                values = ", ".join(f"{shown_as(key)} {value:.4f}" for key, value in shown.items())
                say(f"step {state.global_step:,} of {state.max_steps:,}: {values}")

    return Teller()


def _tells(key: str) -> bool:
    return (
        key in ("loss", "reward") or key.startswith("eval_") or (key.startswith("rewards/") and key.endswith("/mean"))
    )


def _measures(trainer: ListTrainer) -> dict[str, float]:
    """Of the model that is written."""
    if trainer.development is None:
        return {}
    return {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()}


def _write(
    recipe: Recipe, trainer: ListTrainer, output: Path, count: int, measures: dict[str, float], seconds: float
) -> None:
    from training.card import Facts, card
    from training.curves import draw_curves

    student = trainer.student
    student.finish(output)
    asked = recipe.development
    left_out = getattr(getattr(trainer.train_dataset, "source", None), "left_out", 0)
    lists = f"{count:,} lists" + (f", {left_out:,} left out" if left_out else "")
    facts = Facts(
        name=output.name,
        student=f"{recipe.student.kind}, started from {Path(recipe.student.model).name}, {student.execution}",
        data=f"{lists}{f' from {recipe.examples.name}' if recipe.examples else ''}",
        teacher=recipe.teacher,
        objective=_said(recipe),
        schedule={key: value for key, value in asdict(recipe.schedule).items() if value is not None},
        measures=measures,
        measured_on="" if asked is None else f"{asked.dataset}, {asked.run.name}, the best {asked.cutoff}",
        cost={
            "optimiser steps": trainer.state.global_step,
            "seconds": round(seconds, 1),
            "processes": trainer.args.world_size,
            "device": str(trainer.args.device),
            **trainer.cut,
        },
        use=student.use(output.name),
    )
    (output / "README.md").write_text(card(facts), encoding="utf-8")
    log = trainer.state.log_history
    (output / "training.json").write_text(json.dumps({**facts.as_dict(), "log": log}, indent=2), encoding="utf-8")
    draw_curves(log, output / "curves.png")


def _said(recipe: Recipe) -> str:
    """The objective, for the card."""
    objective = recipe.objective
    said = f"{objective.loss} {dict(objective.options) or ''}".strip()
    if (curriculum := objective.curriculum) is not None:
        said += f", a curriculum by {curriculum.by} over {curriculum.steps:,} steps"
    if (drawn := objective.duplicates) is not None:
        said += f", {drawn.copies} copies a list"
        said += f", {drawn.changed:.0%} of their words left out" if drawn.changed else ""
        said += f", duplicates from {drawn.similar:.0%} common words on" if drawn.similar else ""
    return said
