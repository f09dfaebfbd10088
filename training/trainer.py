"""Hugging Face's Trainer over lists: the loss is a mean over whole lists, what is measured is a ranking.

Accelerate, DDP and FSDP, mixed precision, accumulation, resuming and callbacks are the Trainer's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from training.evaluation import Development
from training.examples import Example
from training.lists import Lists
from training.objective import Objective
from training.students.student import Student

__all__ = ["ListTrainer", "last_complete"]


class ListTrainer(transformers.Trainer):  # type: ignore[misc]
    """Trains a student on whole lists.

    Args:
        student: what is trained.
        args: of transformers; `per_device_train_batch_size` counts lists.
        lists: what it is trained on.
        objective: the loss, and what it reads.
        development: rankings with judgments, for measures while training; None: none.
        callbacks: of transformers.
    """

    def __init__(
        self,
        student: Student,
        args: transformers.TrainingArguments,
        lists: Lists,
        objective: Objective,
        *,
        development: Development | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.student, self.objective, self.development = student, objective, development
        student.target = objective.target
        self.cut: dict[str, int] = {"truncated_documents": 0}
        super().__init__(
            student,
            args,
            data_collator=self.collate,
            train_dataset=lists,
            eval_dataset=None if development is None else development.examples,
            callbacks=[Epochs(lists), *callbacks],
        )
        self.model_accepts_loss_kwargs = False  # the loss is a mean over lists, and accumulation divides it
        self.can_return_loss = True

    def collate(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch: what the student reads, and what the loss reads."""
        return {"inputs": self.student.read(examples), "targets": self.objective.tensors(examples)}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The mean over the batch's lists."""
        self.cut["truncated_documents"] += int(inputs["inputs"]["cut"])
        outputs = model(**inputs["inputs"])
        loss = self.loss_of(outputs, inputs["targets"])
        return (loss, {"loss": loss}) if return_outputs else loss

    def loss_of(self, outputs: Any, targets: dict[str, Tensor]) -> Tensor:
        """Of what the student gave."""
        if self.objective.reads in ("tokens", "completions", "texts"):
            return self.objective.of_tokens(outputs, **targets)
        if self.objective.reads == "steps":
            return self.objective.of_steps(outputs, **targets)
        if self.objective.reads == "comparisons":
            return self.objective.of_comparisons(outputs, **targets)
        if self.objective.reads == "logits":
            return self.objective.of_logits(outputs, **targets)
        step, student = int(self.state.global_step), self.student
        scores = (student.scores_shown if self.objective.reads == "duplicates" else student.scores_of)(outputs)
        loss = self.objective.of_scores(scores, step=step, **targets)
        beside = self.student.loss_beside(outputs)
        return loss if beside is None else loss + beside

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Measures of the development rankings, logged as `eval_…`."""
        assert self.development is not None
        training = self.student.training
        self.student.eval()
        measured = self.development.measure(self._scores, None if self.is_fsdp_enabled else self.accelerator)
        self.student.train(training)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        self.log(metrics)
        handler: Any = self.callback_handler
        self.control: Any = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _scores(self, examples: Sequence[Example]) -> Tensor:
        """What the student makes of documents, on its device and in its precision."""
        model = self.model_wrapped if self.is_fsdp_enabled else self.student  # shards are whole inside FSDP alone
        inputs = self._prepare_inputs(self.student.read(examples))
        with self.compute_loss_context_manager():
            return self.student.scores_of(model(**inputs))

    # -- a checkpoint is what the student writes, so that each of them is a model that can be loaded ---------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            self.student.save(folder, state_dict)
            torch.save(self.args, folder / "training_args.bin")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self.student.restore(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            super()._load_best_model()
        elif self.state.best_model_checkpoint:
            self.student.restore(self.state.best_model_checkpoint)


class Epochs(transformers.TrainerCallback):  # type: ignore[misc]
    """Tells lists which epoch it is, for what they draw."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Before the first batch is drawn."""
        self.lists.epoch = int(state.epoch or 0)


def last_complete(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end: the trainer's state is what is written last."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return next((path for path in reversed(found) if _complete(path)), None)


def _complete(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
