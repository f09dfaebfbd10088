"""What is seen before anything is loaded: that the parts of a recipe belong together."""

from __future__ import annotations

from importlib.util import find_spec

from rerank import prompts
from rerank.errors import InputError
from rerank.registry import extra_for, unknown
from training import reinforced, separate
from training.recipe import Recipe
from training.students import KINDS, Student, TargetToken, checked

__all__ = ["check_recipe"]


def check_recipe(recipe: Recipe, *, measured: bool = False) -> None:
    """See that the parts of a recipe belong together, before anything is loaded.

    Args:
        recipe: to check.
        measured: whether there are development rankings that the recipe does not name.

    Raises:
        UnknownName: when there is no such student.
        InputError: when it has no such option, its loss is of another kind, or nothing is measured that would be.
        MissingExtra: when a package that is needed at the end is not installed.
    """
    if recipe.schedule.patience is not None and not measured and recipe.development is None:
        raise InputError(f"patience={recipe.schedule.patience} without [development], which would be measured")
    _check_installed(recipe)
    if recipe.student.kind not in (known := {**KINDS, **separate.KINDS}):
        raise unknown("student", recipe.student.kind, known)
    if recipe.student.kind in separate.KINDS:
        for name in ("curriculum", "duplicates"):
            if getattr(recipe.objective, name) is not None:
                raise InputError(f"a {recipe.student.kind} is trained without {name}; leave [objective.{name}] out")
        separate.check_separate(recipe)
        return
    kind = checked(recipe.student)
    if not kind.measured and (measured or recipe.development):
        raise InputError(
            f"the orders of a {recipe.student.kind} are known only when they are written; leave out [development], and "
            "measure what was trained with 'rerank rerank'"
        )
    _check_loss(recipe, kind)
    if recipe.objective.reads == "logits":
        _check_two_words(recipe)
    _check_duplicates(recipe, kind)
    reinforced.check_texts(recipe, measured=measured or recipe.development is not None)


def _check_installed(recipe: Recipe) -> None:
    """See that no package is missing when the last step is done."""
    for what, package in (("training", "datasets"), ("curves", "matplotlib")):
        if find_spec(package) is None:
            raise extra_for(what, package)
    if recipe.student.lora is not None and find_spec("peft") is None:
        raise extra_for("LoRA", "peft")


def _check_loss(recipe: Recipe, kind: type[Student]) -> None:
    """See that a student gives what its loss is over."""
    reads = recipe.objective.reads
    own = ("tokens", "comparisons", "batches", "completions", "rewards", "logits", "steps", "texts")
    wants = reads if reads in own else "lists"
    if wants not in kind.wants.split(" or "):
        raise InputError(
            f"a {recipe.student.kind} learns from losses over {kind.wants}, and {recipe.objective.loss!r} is one over "
            f"{wants}; see docs/losses.md"
        )


def _check_two_words(recipe: Recipe) -> None:
    """See that a student whose logits are learnt has as many words as examples have logits."""
    asked = prompts.find(recipe.student.options.get("prompt") or TargetToken.usual_prompt)
    if len(asked.targets) != 2:
        raise InputError(
            f"loss {recipe.objective.loss!r} is over the logits of two words, and prompt {asked.name!r} has "
            f"{len(asked.targets)}; use 'monot5', 'yes-no' or another of two"
        )


def _check_duplicates(recipe: Recipe, kind: type[Student]) -> None:
    """See that what is shown twice is seen, and learnt by."""
    objective, student = recipe.objective, recipe.student
    drawn, ranked = objective.duplicates, objective.reads == "duplicates"
    detected = bool(student.options.get("detect"))
    if not (drawn or ranked or detected):
        return
    if not kind.sees_lists:
        raise InputError(
            f"a {student.kind} does not see that a list shows a document twice; train a set-encoder, or leave out "
            f"{'[objective.duplicates]' if drawn else repr(objective.loss)}"
        )
    if drawn is None:
        what = f"loss {objective.loss!r}" if ranked else "detect=true"
        raise InputError(
            f"{what} is about duplicates, and there are none; say [objective.duplicates], such as copies=1"
        )
    if not (ranked or detected):
        raise InputError(
            f"loss {objective.loss!r} learns nothing of duplicates; say student.options.detect=true beside it, or "
            "loss='novelty-ranknet'"
        )
    if ranked and drawn.copies and not drawn.changed:
        raise InputError(
            "a set-encoder gives a document and its copy, word for word, the same score, so that none can be ranked "
            "below; say changed above 0, or copies=0 and similar"
        )
