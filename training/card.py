"""The model card of what was trained: from what, on what, with which loss, what it reaches, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rerank import __version__

__all__ = ["Facts", "card"]


@dataclass(frozen=True)
class Facts:
    """What a card tells.

    Args:
        name: of the model.
        student: what it is, how it started.
        data: what it was trained on, and how many lists.
        teacher: who made the labels, "" when it was people.
        objective: the loss and its options.
        schedule: name -> value.
        measures: name -> value at the end; empty when nothing was measured.
        measured_on: dataset, first stage and cutoff.
        cost: seconds, tokens cut, steps, devices.
        use: how it is loaded, as lines of Python.
    """

    name: str
    student: str
    data: str
    teacher: str
    objective: str
    schedule: Mapping[str, Any]
    measures: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""
    cost: Mapping[str, Any] = field(default_factory=dict)
    use: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `training.json`, beside the card."""
        return asdict(self)


def card(facts: Facts) -> str:
    """The card as Markdown with the hub's front matter."""
    measured = _table("measure", "value", {name: f"{value:.4f}" for name, value in facts.measures.items()})
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-ranking",
            "tags: [reranker]",
            "---",
            "",
            f"# {facts.name}",
            "",
            f"A reranker, trained with rerank-toolkit {__version__}.",
            "",
            f"- **Student:** {facts.student}",
            f"- **Data:** {facts.data}",
            f"- **Teacher:** {facts.teacher or 'none; the labels are the data’s own'}",
            f"- **Loss:** {facts.objective}",
            "",
            "## Use",
            "",
            "```python",
            facts.use,
            "```",
            "",
            "## Measured",
            "",
            *(
                [f"On {facts.measured_on}.", "", measured]
                if facts.measures
                else ["Nothing was measured while training."]
            ),
            "",
            "## Schedule",
            "",
            _table("", "", facts.schedule),
            "",
            "## Cost",
            "",
            _table("", "", facts.cost),
            "",
        ]
    )


def _table(left: str, right: str, rows: Mapping[str, Any]) -> str:
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])
