"""`rerank datasets`: which collections there are."""

from __future__ import annotations

from typing import Any

import click

from rerank.cli import names
from rerank.cli.screen import Screen, rows, with_screen

__all__ = ["datasets"]


@click.command("datasets")
@click.argument("name", required=False, shell_complete=names.completing(names.dataset_names, files=True))
@names.split_option()
@with_screen
def datasets(*, screen: Screen, name: str | None, split: str | None) -> None:
    """List datasets, or show one.

    With NAME (of the list, a BEIR folder or an ir_datasets id): its size, and its first query and document. Counting
    the documents of a folder reads it once.

    \b
    Examples:
        rerank datasets
        rerank datasets noveleval
    """
    if name is None:
        _list(screen)
    else:
        _show(name, split, screen)


def _list(screen: Screen) -> None:
    from rerank.datasets import names

    found = names()
    screen.answer(
        {"datasets": [{"name": one.name, "description": one.description, **_counts(one.counts)} for one in found]}
    )
    if not screen.as_json:
        lines = [[one.name, *map(_number, _counts(one.counts).values()), one.description] for one in found]
        screen.show(rows(["dataset", "documents", "queries", "judgments", "what it is"], lines))


def _show(name: str, split: str | None, screen: Screen) -> None:
    facts = _facts(name, split)
    screen.answer(facts)
    if not screen.as_json:
        lines = [[key.replace("_", " "), _said(value)] for key, value in facts.items() if key != "name"]
        screen.show(rows(["dataset", facts["name"]], lines))


def _facts(name: str, split: str | None) -> dict[str, Any]:
    from rerank.datasets import Dataset

    dataset = Dataset.load(name, split)
    first = next(dataset.documents(), None)
    return {
        "name": dataset.name,
        "documents": dataset.count if dataset.count is not None else sum(1 for _ in dataset.documents()),
        "queries": len(dataset.all_queries),
        "judged_queries": len(dataset.qrels),
        "judgments": sum(map(len, dataset.qrels.values())),
        "measures": list(dataset.measures),
        "first_query": f"{dataset.queries[0].query_id}: {dataset.queries[0].text}",
        "first_document": None if first is None else f"{first.doc_id}: {first.full_text[:200]}",
    }


def _counts(counts: Any) -> dict[str, int | None]:
    return {key: getattr(counts, key) for key in ("documents", "queries", "judgments")}


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
