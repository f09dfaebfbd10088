"""Students that read query and document apart, by sentence-transformers' own trainers: dense vectors, SPLADE, ColBERT.

Their trainers have what such models need: negatives out of the batch, several columns of texts, regularisers of term
weights. Here examples become their columns, and what is measured is a ranking.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from rerank import checkpoints
from rerank.engine.loading import explained, quiet
from rerank.errors import InputError
from rerank.registry import did_you_mean
from training import coupled
from training.evaluation import Development
from training.examples import BadExample, Example
from training.lists import Lists
from training.recipe import Recipe, Schedule

__all__ = [
    "KINDS",
    "SeparateKind",
    "SeparateStudent",
    "check_separate",
    "columns",
    "made_student",
    "made_trainer",
    "scores_of",
]

OF_SPLADE = {"regularize_query": 5e-5, "regularize_document": 3e-5}
"""λ of the FLOPS regularisers, which SpladeLoss lets grow quadratically over the first third of all steps."""


@dataclass(frozen=True)
class SeparateKind:
    """Where sentence-transformers has a kind of model.

    Args:
        model, trainer: their classes.
        module, losses: where its losses are, and the class for each of ours.
        options: of the student, with their defaults.
    """

    model: str
    trainer: str
    module: str
    losses: Mapping[str, str]
    options: Mapping[str, Any]


KINDS: Mapping[str, SeparateKind] = {
    "dense": SeparateKind(
        "SentenceTransformer",
        "SentenceTransformerTrainer",
        "sentence_transformers.sentence_transformer.losses",
        {
            "infonce": "MultipleNegativesRankingLoss",
            "margin-mse": "MarginMSELoss",
            "kl": "DistillKLDivLoss",
            coupled.LOSS: "TightlyCoupled",  # ours
        },
        {"max_tokens": 256, "teacher": ""},
    ),
    "splade": SeparateKind(
        "SparseEncoder",
        "SparseEncoderTrainer",
        "sentence_transformers.sparse_encoder.losses",
        {
            "infonce": "SparseMultipleNegativesRankingLoss",
            "margin-mse": "SparseMarginMSELoss",
            "kl": "SparseDistillKLDivLoss",
        },
        {"max_tokens": 256, **OF_SPLADE},
    ),
    "colbert": SeparateKind(
        "MultiVectorEncoder",
        "MultiVectorEncoderTrainer",
        "sentence_transformers.multi_vector_encoder.losses",
        {
            "infonce": "MultiVectorMultipleNegativesRankingLoss",
            "margin-mse": "MultiVectorMarginMSELoss",
            "kl": "MultiVectorDistillKLDivLoss",
        },
        {"max_tokens": 256},
    ),
}
"""By the name that a recipe gives them."""


class SeparateStudent:
    """A model of sentence-transformers, as a run sees a student.

    Args:
        kind: in `KINDS`.
        model: of `made_student`.
    """

    execution = "by sentence-transformers' trainer"

    def __init__(self, kind: str, model: Any) -> None:
        self.kind, self.model = kind, model

    def use(self, name: str) -> str:
        """How what was written is loaded, for the card."""
        if self.kind == "splade":
            return f'from retrievers.splade import Splade\n\nsplade = Splade.build(documents, "index", model="{name}")'
        return f'from rerank import Reranker\n\nreranker = Reranker("{name}")'

    def finish(self, folder: str | Path) -> None:
        """Write what users load."""
        with quiet():
            self.model.save_pretrained(str(folder), create_model_card=False)


def check_separate(recipe: Recipe) -> None:
    """See that the parts of a recipe belong together, before anything is loaded.

    Raises:
        InputError: naming what does not.
    """
    kind, schedule = KINDS[recipe.student.kind], recipe.schedule
    if recipe.objective.loss not in kind.losses:
        known = ", ".join(kind.losses)
        raise InputError(f"a {recipe.student.kind} student learns from {known}, not from {recipe.objective.loss!r}")
    for option in recipe.student.options:
        if option not in kind.options:
            known_options = did_you_mean(option, kind.options)
            raise InputError(f"a {recipe.student.kind} has no option {option!r}{known_options}")
    together = recipe.objective.loss == coupled.LOSS
    if together != bool(recipe.student.options.get("teacher")):
        said = "needs a teacher; say student.options.teacher" if together else "asks no teacher; leave teacher out"
        raise InputError(f"loss {recipe.objective.loss!r} {said}")
    unused = (recipe.student.lora, schedule.patience, schedule.fsdp, schedule.shuffle, schedule.noise)
    if (recipe.objective.options and not together) or any(unused):
        raise InputError(
            f"a {recipe.student.kind} takes no options of the loss, lora, patience, fsdp, shuffle or noise; leave them "
            "out"
        )


def columns(lists: Lists, documents: int, *, scored: bool, seed: int = 0) -> dict[str, list[Any]]:
    """Examples as sentence-transformers reads them: query, positive, negative_1 …, and a teacher's scores as label.

    Args:
        lists: with labels.
        documents: of each row: a relevant one, and others, drawn where there are more.
        scored: whether the teacher's scores go along.
        seed: of what is drawn.

    Raises:
        BadExample: when one has too few documents, or none that is relevant.
    """
    rows: dict[str, list[Any]] = {"query": [], "positive": []}
    rows |= {f"negative_{number}": [] for number in range(1, documents)}
    rows |= {"label": []} if scored else {}
    for index, example in enumerate(lists.all()):
        chosen = _chosen(example, documents, random.Random(f"{seed} {index}"))
        texts = [example.query, *(example.documents[place] for place in chosen)]
        scores = [[(example.scores or ())[place] for place in chosen]] if scored else []
        for name, value in zip(rows, [*texts, *scores], strict=True):
            rows[name].append(value)
    return rows


def _chosen(example: Example, documents: int, choice: random.Random) -> list[int]:
    if example.relevance is None:
        raise BadExample("labels of the wrong kind", "relevance says which document is the positive one", example.where)
    relevant = [place for place, grade in enumerate(example.relevance) if grade > 0]
    others = [place for place, grade in enumerate(example.relevance) if grade <= 0]
    if not relevant or len(others) < documents - 1:
        detail = f"{len(relevant)} relevant and {len(others)} others, where 1 and {documents - 1} are wanted"
        raise BadExample("no document", f"{detail}; say a smaller schedule.sample", example.where)
    return [choice.choice(relevant), *choice.sample(others, documents - 1)]


def made_student(recipe: Recipe) -> Any:
    """The model to start from.

    Raises:
        CheckpointError: when it cannot be loaded.
    """
    import sentence_transformers

    folder = checkpoints.fetch(recipe.student.model)
    options = {**KINDS[recipe.student.kind].options, **recipe.student.options}
    made = getattr(sentence_transformers, KINDS[recipe.student.kind].model)
    with quiet(), explained(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if recipe.student.kind == "splade" and not (folder / "modules.json").exists():
            model = made(modules=_splade(folder), device=_device())
        else:
            model = made(str(folder), device=_device())
    model.max_seq_length = options["max_tokens"]
    if recipe.objective.loss == coupled.LOSS:
        model.similarity_fn_name = "dot"
    return model


def _splade(folder: Path) -> list[Any]:
    """A masked language model, and the maximum over its tokens."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    return [Transformer(str(folder), transformer_task="fill-mask"), SpladePooling(pooling_strategy="max")]


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def made_trainer(
    recipe: Recipe, output: Path, lists: Lists, model: Any, development: Development | None, callbacks: list[Any]
) -> Any:
    """sentence-transformers' trainer of a student.

    Args:
        recipe: what to do.
        output: folder of checkpoints.
        lists: what it is trained on; `schedule.sample` documents of each, 2 by default.
        model: of `made_student`.
        development: measured while it trains, or None.
        callbacks: of transformers.
    """
    import sentence_transformers
    from datasets import Dataset

    kind = KINDS[recipe.student.kind]
    scored = recipe.objective.loss not in ("infonce", coupled.LOSS)
    table = columns(lists, recipe.schedule.sample or 2, scored=scored, seed=recipe.schedule.seed)
    arguments = getattr(sentence_transformers, f"{kind.model}TrainingArguments")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = arguments(output_dir=str(output), **_arguments(recipe.schedule, development))
        trainer = getattr(sentence_transformers, kind.trainer)(
            model=model,
            args=args,
            train_dataset=Dataset.from_dict(table),
            loss=_loss(recipe, model),
            evaluator=None if development is None else _evaluator(development),
            callbacks=callbacks,
        )
    if recipe.objective.loss == coupled.LOSS:
        trainer.data_collator.preprocess_fn = coupled.with_texts(trainer.data_collator.preprocess_fn)
    trainer.student, trainer.development, trainer.cut = SeparateStudent(recipe.student.kind, model), development, {}
    return trainer


def _arguments(schedule: Schedule, development: Development | None) -> dict[str, Any]:
    best = {"load_best_model_at_end": True, "metric_for_best_model": development.measures[0]} if development else {}
    return {
        **schedule.arguments,
        "per_device_train_batch_size": schedule.lists,
        "gradient_checkpointing": schedule.gradient_checkpointing,
        **(best or {"eval_strategy": "no"}),
    }


def _loss(recipe: Recipe, model: Any) -> Any:
    kind = KINDS[recipe.student.kind]
    if recipe.objective.loss == coupled.LOSS:
        teacher = coupled.teacher_of(recipe.student.options["teacher"], _device())
        return coupled.TightlyCoupled(model, teacher, recipe.objective.options)
    module = import_module(kind.module)
    loss = getattr(module, kind.losses[recipe.objective.loss])(model)
    if recipe.student.kind != "splade":
        return loss
    options = {**kind.options, **recipe.student.options}
    return module.SpladeLoss(
        model,
        loss,
        document_regularizer_weight=options["regularize_document"],
        query_regularizer_weight=options["regularize_query"],
    )


def scores_of(model: Any, examples: Any) -> torch.Tensor:
    """What a model of sentence-transformers makes of documents: float [texts]."""
    found = []
    for example in examples:
        query = model.encode_query([example.query], show_progress_bar=False)
        documents = model.encode_document(list(example.documents), show_progress_bar=False)
        found.append(model.similarity(query, documents)[0].float().cpu())
    return torch.cat(found)


def _evaluator(development: Development) -> Any:
    from sentence_transformers.base.evaluation import BaseEvaluator

    class Rankings(BaseEvaluator):  # type: ignore[misc]
        """The measures of the development rankings."""

        def __init__(self) -> None:
            super().__init__()
            self.primary_metric = development.measures[0]

        def __call__(self, model: Any, output_path: Any = None, epoch: int = -1, steps: int = -1) -> dict[str, float]:
            return development.measure(lambda examples: scores_of(model, examples))

    return Rankings()
