"""From examples to what a loss compares scores with; and what is refused before the first step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rerank.errors import InputError
from rerank.registry import did_you_mean, unknown
from training.comparisons import COMPARED_BY, comparisons
from training.curriculum import SAMPLES, Curriculum
from training.duplicates import Copied, Duplicates
from training.examples import BadExample, Example
from training.losses import LOSSES, Loss, language
from training.rewards import REWARDS
from training.rollouts import Completions, Rollouts

__all__ = ["Objective"]

OBJECTIVES: Mapping[str, Loss] = {
    **LOSSES,
    "grpo": Loss(Rollouts, "rewards"),
    "sft": Loss(Completions, "completions"),
}
"""The losses, and what models that write are trained by: options of these two are their classes' arguments."""

MADE_OF = {
    "labels": ("relevance",),
    "gains": ("relevance",),
    "order": ("order", "scores", "relevance"),
    "scores": ("scores",),
    "preferences": ("pairs",),
    "logits": ("logits",),
    "comparisons": COMPARED_BY,
    "batches": ("relevance",),
    "tokens": ("order", "scores", "relevance"),
    "completions": ("completion",),
    "rewards": ("order", "scores", "relevance"),
    "steps": ("order", "scores", "relevance"),
    "texts": (),
    "duplicates": ("order", "scores", "relevance"),
}
"""What a loss reads -> the labels of examples that it can be made of; the first that an example has is taken."""


@dataclass(frozen=True)
class Objective:
    """A loss, and what of the examples it is given.

    Args:
        loss: a name in `training.losses.LOSSES`; or "sft", fine-tuning on what a teacher wrote, or "grpo", by rewards
            (`training.rollouts`).
        options: of the loss, such as {"temperature": 2.0}.
        target: "relevance", "scores" or "order", for losses that only need an order; by default a teacher's order where
            there is one, else a teacher's scores, else labels.
        relevant: grades from this on are labels of 1, others of 0, for losses that read labels; by default grades above
            1 are refused.
        most: documents in a list, at most; a longer list is refused, because the whole list is in memory.
        curriculum: weights that begin with what is easy; the loss learns from labels then, and the examples' scores are
            a first stage's (`training.curriculum.Worths`). None: all weigh the same.
        duplicates: documents that are shown twice, for set-encoders; None: none are.

    Raises:
        UnknownName: when there is no such loss.
        InputError: when options, target or curriculum do not fit the loss.
    """

    loss: str
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    relevant: float | None = None
    most: int = 256
    curriculum: Curriculum | None = None
    duplicates: Duplicates | None = None

    def __post_init__(self) -> None:
        if self.loss not in OBJECTIVES:
            raise unknown("loss", self.loss, OBJECTIVES)
        if (reads := OBJECTIVES[self.loss].reads) not in MADE_OF:
            raise InputError(f"loss {self.loss!r} reads {reads}, which no trainer of lists has; see docs/losses.md")
        for option in self.options:
            if option not in (known := _options(OBJECTIVES[self.loss])):
                raise InputError(f"loss {self.loss!r} has no option {option!r}{did_you_mean(option, known)}")
        if reads in ("completions", "rewards"):
            OBJECTIVES[self.loss].run(**self.options)
        if reads in ("completions", "rewards", "texts") and self.target is not None:
            raise InputError(f"target={self.target!r}, but {self.loss!r} reads what it needs; leave it out")
        if self.target is not None and self.target not in MADE_OF[reads]:
            kinds = " or ".join(map(repr, MADE_OF[reads]))
            raise InputError(f"target={self.target!r}, but loss {self.loss!r} is made of {kinds}")
        if self.relevant is not None and reads != "labels":
            raise InputError(f"relevant={self.relevant}, but loss {self.loss!r} does not read labels; leave it out")
        if self.curriculum is not None:
            self.curriculum.check(self.loss)
            if self.target not in (None, "relevance"):
                raise InputError(f"target={self.target!r}, but a curriculum is over labels; leave it out")

    @property
    def reads(self) -> str:
        """What the loss learns from."""
        return OBJECTIVES[self.loss].reads

    def check(self, examples: Iterable[Example]) -> int:
        """See that all examples can be trained on, before any work is done.

        Returns:
            How many there are.

        Raises:
            BadExample: the first that cannot, with its file and line, and how many more there are.
        """
        first: BadExample | None = None
        bad = count = 0
        for count, example in enumerate(examples, start=1):  # noqa: B007
            try:
                self._check(example)
            except BadExample as error:
                first, bad = first or error, bad + 1
        if first is not None:
            more = f" ({bad:,} of {count:,} examples are refused)" if bad > 1 else ""
            raise BadExample(first.reason, f"{first.detail}{more}", first.where)
        return count

    def tensors(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """What the loss compares scores with: `target`, `mask`, and `relevance` where it is wanted: [lists, docs]."""
        if self.reads == "duplicates":
            return self._shown(examples)
        width = max(map(len, examples))
        mask = torch.arange(width) < torch.tensor([len(example) for example in examples])[:, None]
        if self.reads in ("completions", "texts"):
            return {"target": torch.zeros(mask.shape), "mask": mask}
        if self.reads == "preferences":
            return {"target": _preferences([example.pairs or () for example in examples], width), "mask": mask}
        if self.reads == "logits":
            rows = [[*(example.logits or ()), *[(0.0, 0.0)] * (width - len(example))] for example in examples]
            return {"target": torch.tensor(rows), "mask": mask}
        if self.reads == "comparisons":
            return {"target": _preferences([comparisons(e, self.target) for e in examples], width), "mask": mask}
        found = {"target": _padded([self._target(example) for example in examples], width), "mask": mask}
        if self.curriculum is not None:
            found["worth"] = _padded([example.scores or () for example in examples], width)
        if self.loss == "margin-mse" and all(example.relevance is not None for example in examples):
            found["relevance"] = _padded([example.relevance or () for example in examples], width)
        return found

    def _shown(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Of all texts that are shown, copies among them: a copy stands where its document does."""
        rows, groups = [], []
        for example in examples:
            known = list(self._target(example))
            copies = example.copies if isinstance(example, Copied) else ()
            rows.append([*known, *(known[place] for place, _ in copies)])
            groups.append(example.groups if isinstance(example, Copied) else tuple(range(len(example))))
        width = max(map(len, rows))
        mask = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        return {"target": _padded(rows, width), "mask": mask, "groups": _padded(groups, width).long()}

    def of_scores(
        self,
        scores: Tensor,
        mask: Tensor,
        target: Tensor,
        *,
        step: int = 0,
        worth: Tensor | None = None,
        **more: Tensor,
    ) -> Tensor:
        """The mean loss of a batch's lists.

        Args:
            scores: of all documents, list by list, float [texts].
            mask, target: of `tensors`.
            step: of the optimiser, from 0, by which a curriculum goes.
            worth: of `tensors`, for a curriculum.
            more: what else it gave.
        """
        lists = scores.new_zeros(mask.shape).masked_scatter(mask, scores)
        if self.curriculum is None or worth is None:
            return OBJECTIVES[self.loss](lists, target, mask, **self.options, **more).mean()
        weights = self.curriculum.weights(self.loss, worth, target, mask, step)
        if SAMPLES[self.loss] == "lists":
            return (weights * OBJECTIVES[self.loss](lists, target, mask, **self.options)).mean()
        return OBJECTIVES[self.loss](lists, target, mask, weights=weights, **self.options).mean()

    def of_logits(self, logits: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch's lists, of which the logits of words are learnt.

        Args:
            logits: of all documents, list by list, float [texts, words].
            mask, target: of `tensors`.
        """
        each = mask[..., None].expand(target.shape)
        lists = logits.new_zeros(target.shape).masked_scatter(each, logits)
        return OBJECTIVES[self.loss](lists, target, mask, **self.options).mean()

    def of_comparisons(self, compared: Mapping[str, Tensor], mask: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch's lists, of which pairs were compared.

        Args:
            compared: what a student of pairs gives: logits and pairs.
            mask, target: of `tensors`.
        """
        logits = compared["logits"]
        table = logits.new_zeros(target.shape).index_put(tuple(compared["pairs"].T), logits)
        return OBJECTIVES[self.loss](table, target, mask, **self.options).mean()

    def of_steps(self, decoded: Mapping[str, Tensor], mask: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch's lists, whose orders are decoded step by step.

        Args:
            decoded: what a student of passages as vectors gives: logits and full_logits, [lists, steps, docs].
            mask, target: of `tensors`.
        """
        logits, full = decoded["logits"], decoded["full_logits"]
        return OBJECTIVES[self.loss](logits, full, target, mask, **self.options).mean()

    def of_tokens(self, written: Mapping[str, Tensor], mask: Tensor, target: Tensor) -> Tensor:
        """The mean loss of a batch's lists, of which a language model writes the order.

        Args:
            written: what a listwise student gives: log_probs, token_mask, ranks, letters.
            mask, target: of `tensors`.

        Raises:
            InputError: when the loss reads letters, and identifiers are several tokens.
        """
        log_probs, tokens = written["log_probs"], written["token_mask"]
        if self.reads == "completions":
            return language.lm(log_probs, tokens).mean()
        if self.loss == "importance-weighted-lm":
            return OBJECTIVES[self.loss](log_probs, written["ranks"], tokens).mean()
        if self.loss != "first":
            return OBJECTIVES[self.loss](log_probs, tokens).mean()
        letters = written["letters"]
        if not len(letters):
            raise InputError("loss 'first' wants identifiers of one token each; use the prompt 'first'")
        placed = letters.new_zeros(mask.shape).masked_scatter(mask, letters)
        return OBJECTIVES[self.loss](log_probs, tokens, placed, target, mask, **self.options).mean()

    def _made_of(self, example: Example) -> str:
        target = self.target if self.curriculum is None else "relevance"
        kinds = MADE_OF[self.reads] if target is None else (target,)
        found = next((kind for kind in kinds if getattr(example, kind) is not None), None)
        if found is None:
            carries = ", ".join(sorted(example.labels)) or "no labels"
            raise BadExample(
                "labels of the wrong kind",
                f"loss {self.loss!r} needs {' or '.join(kinds)}; this example has {carries}",
                example.where,
            )
        return found

    def _target(self, example: Example) -> Sequence[float]:
        kind = self._made_of(example)
        values: Sequence[float] = getattr(example, kind)
        if kind == "order":
            places = {index: rank for rank, index in enumerate(values)}
            return [-float(places[index]) for index in range(len(example))]
        if self.relevant is not None:
            return [float(value >= self.relevant) for value in values]
        return values

    def _check(self, example: Example) -> None:
        if len(example) > self.most:
            detail = f"{len(example)} documents, over most={self.most}; draw some with 'sample', or allow more"
            raise BadExample("too many documents", detail, example.where)
        if self.reads == "rewards":
            REWARDS[self.options["reward"]].check(example)
        if self.reads in ("rewards", "texts"):
            return
        kind = self._made_of(example)
        if self.curriculum is not None and example.scores is None:
            carries = ", ".join(sorted(example.labels))
            wants = f"a curriculum by {self.curriculum.by!r} goes by a first stage's scores"
            raise BadExample("labels of the wrong kind", f"{wants}; this example has {carries}", example.where)
        if self.reads == "completions":
            return
        if self.reads == "comparisons" and not comparisons(example, kind):
            raise BadExample("labels of the wrong kind", f"{kind} tells no two documents apart", example.where)
        if self.reads in ("preferences", "comparisons", "logits"):
            return
        values = self._target(example)
        if any(not math.isfinite(value) for value in values):
            raise BadExample("teacher score is no number", f"{list(values)}", example.where)
        if self.reads in ("labels", "gains") and min(values) < 0:
            raise BadExample("labels of the wrong kind", f"grade {min(values)} is below 0", example.where)
        if self.reads == "labels" and max(values) > 1:
            detail = f"{kind} {max(values)} is above 1 for loss {self.loss!r}; say relevant=1 to count it as 1"
            raise BadExample("labels of the wrong kind", detail, example.where)


def _options(loss: Loss) -> list[str]:
    run = loss.run
    fixed = run.keywords if isinstance(run, partial) else {}
    parameters = inspect.signature(run).parameters.values()
    handed = (
        ("relevance",) if loss.reads == "rewards" else ("relevance", "weights", "groups")
    )  # by `tensors`, not by users
    return [
        each.name
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and each.name not in fixed and each.name not in handed
    ]


def _padded(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows])


def _preferences(pairs: Sequence[Sequence[tuple[int, int, float]]], width: int) -> Tensor:
    """[lists, docs, docs] with NaN where nothing was asked."""
    table = torch.full((len(pairs), width, width), math.nan)
    for index, judged in enumerate(pairs):
        for one, two, wins in judged:
            table[index, one, two] = wins
    return table
