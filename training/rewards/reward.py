"""A reward: its parts, their weights, and which examples it can be given for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rerank.prompts import Prompt
from rerank.prompts.prompt import identifiers
from training.examples import BadExample, Example

__all__ = ["Part", "Reward", "Shown"]


@dataclass(frozen=True)
class Shown:
    """What the model was asked: an example as a prompt shows it.

    Args:
        example: its documents in the order shown, with labels.
        prompt: which asks.
    """

    example: Example
    prompt: Prompt

    @property
    def names(self) -> list[str]:
        """What its documents are called."""
        return identifiers(self.prompt.identifiers, len(self.example))

    @property
    def relevance(self) -> tuple[float, ...]:
        """The grade of each document."""
        assert self.example.relevance is not None
        return self.example.relevance


Part: TypeAlias = Callable[[str, Shown], float]
"""(what was written, the beginning that its prompt gives it included; what was asked) -> a number, higher is better."""


@dataclass(frozen=True)
class Reward:
    """What a written answer is worth.

    Args:
        parts: name -> function.
        weights: of the parts, by name.
        asks: the kind of prompt that it rewards answers to.
        needs: labels that an example must carry.
        wants: how many relevant documents, and how many irrelevant ones, without which every answer is worth the same.
        worst: the prompt asks for the worst document.
    """

    parts: Mapping[str, Part]
    weights: Mapping[str, float]
    asks: str
    needs: tuple[str, ...]
    wants: tuple[int, int] = (0, 0)
    worst: bool = False

    def __call__(self, text: str, shown: Shown) -> float:
        """The weighted sum of the parts."""
        return sum(self.weights[name] * part(text, shown) for name, part in self.parts.items())

    def check(self, example: Example) -> None:
        """See that an answer to this example can be worth anything.

        Raises:
            BadExample: when it has other labels, a grade is no whole number from 0, or no document makes a difference.
        """
        if missing := [name for name in self.needs if getattr(example, name) is None]:
            carried = ", ".join(sorted(example.labels)) or "no labels"
            detail = f"the reward needs {' and '.join(self.needs)}; this example has {carried}, and no {missing[0]}"
            raise BadExample("labels of the wrong kind", detail, example.where)
        if "relevance" not in self.needs:
            return
        grades = example.relevance or ()
        if odd := [grade for grade in grades if grade < 0 or grade != int(grade)]:
            raise BadExample("labels of the wrong kind", f"grade {odd[0]} is no whole number from 0", example.where)
        relevant = sum(grade > 0 for grade in grades)
        if relevant < self.wants[0]:
            raise BadExample("no relevant document", f"{len(grades)} documents, none of them relevant", example.where)
        if len(grades) - relevant < self.wants[1]:
            raise BadExample("labels of the wrong kind", "all documents are relevant, and none may go", example.where)
