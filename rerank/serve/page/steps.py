"""What a method asked and was told, round by round, so that a page can show how an order came about."""

from __future__ import annotations

from typing import Any

from rerank.questions import (
    Announce,
    Answer,
    Compared,
    Graded,
    GradedSet,
    Permuted,
    Picked,
    Plan,
    Question,
    Written,
)

__all__ = ["Steps"]

LONGEST = 500
"""Characters of a text that a model wrote."""


class Steps:
    """Listens to a plan.

    Args:
        most: steps that are kept; further ones are counted.

    Attributes:
        kept: a step each: its round (from 1), the kind of question, the documents it showed (by their place in the
            request, and the window where there are some), what was answered, and repairs.
        left_out: how many more there were.
        rounds: so far.
    """

    def __init__(self, most: int = 2_000) -> None:
        self.kept: list[dict[str, Any]] = []
        self.left_out = self.rounds = 0
        self._most = most

    def listening(self, plan: Plan) -> Plan:
        """The same plan, listened to."""
        try:
            questions = next(plan)
            while True:
                answers = yield questions
                self._heard(questions, answers)
                questions = plan.send(answers)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _heard(self, questions: list[Question], answers: list[Answer]) -> None:
        asked = [pair for pair in zip(questions, answers, strict=True) if not isinstance(pair[0], Announce)]
        self.rounds += bool(asked)
        for question, answer in asked:
            if len(self.kept) < self._most:
                self.kept.append(self._step(question, answer))
            else:
                self.left_out += 1

    def _step(self, question: Question, answer: Answer) -> dict[str, Any]:
        named = [document.doc_id.partition("#") for document in question.documents]
        step: dict[str, Any] = {
            "round": self.rounds,
            "kind": type(question).__name__,
            "documents": [int(place) for place, _, _ in named],
        }
        if any(window for _, _, window in named):
            step["windows"] = [int(window or 0) + 1 for _, _, window in named]
        return step | _said(answer) | ({"repairs": list(answer.repairs)} if answer.repairs else {})


def _said(answer: Answer) -> dict[str, Any]:
    match answer:
        case Graded():
            return {"scores": [answer.score]}
        case GradedSet():
            return {"scores": list(answer.scores)}
        case Compared():
            return {"probability": answer.probability}
        case Picked():
            return {"picked": list(answer.indices)}
        case Permuted():
            return {"order": list(answer.order)}
        case Written():
            cut = answer.text[:LONGEST]
            return {"text": cut if cut == answer.text else f"{cut} …"}
    return {}
