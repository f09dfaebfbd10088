"""Write docs/methods.md from the files of the methods, and from the table of docs/algorithms.md.

python scripts/write_methods_page.py            # write it
python scripts/write_methods_page.py --check    # end with 1 when it is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rerank import methods, registry
from rerank.algorithms.adaptive import Adjacency
from rerank.cost import Ledger
from rerank.judges.fake import Oracle
from rerank.methods import Method
from rerank.questions import Algorithm, Announce, Heard, Plan, Question, Write
from rerank.rerankers.options import defaults_of, shared_out, spelled
from rerank.types import Document, Query, Ranking

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "methods.md"
COUNT = 100

FAMILIES = {
    "Grade": ("Pointwise", "a document at a time"),
    "Compare": ("Pairwise", "two documents at a time, each pair in both orders"),
    "Pick": ("Setwise", "the best of a few, or the worst"),
    "Permute": ("Listwise", "several documents put in order"),
    "GradeSet": ("Sets scored together", "a score for each document of a set that is read at once"),
}

HEAD = """# Methods

<!-- written by scripts/write_methods_page.py from rerank/catalog/methods and docs/algorithms.md; do not edit -->

A method is an [algorithm](algorithms.md), a [judge](judges.md) and a [prompt](prompts.md) that belong together, with
their options, under the name that the field gives them. It says how a checkpoint is asked, and not which:

```python
from rerank import Reranker

reranker = Reranker("prp-heapsort", model="HuggingFaceTB/SmolLM2-135M-Instruct", head=5)
```

```
rerank rerank --dataset noveleval --run bm25.trec --output reranked.trec \\
    --model HuggingFaceTB/SmolLM2-135M-Instruct --method prp-heapsort --head 5
```

`rerank list methods` names them. A method is a file in `rerank/catalog/methods`: `description`, `source`, `wants` (the
kinds of checkpoint), `algorithm`, `judge`, `prompt` and `[options]`. A checkpoint whose file knows how it was trained
(its target words, a window) is asked by its own options where it has the method's judge and prompt.

In the tables, n is the number of documents; the other letters are those of [Algorithms](algorithms.md). The
figures for 100 documents were counted with a judge that makes no mistake, on documents whose true order is
37 i mod 100; *exact* is how many positions at the top such a judge gets right whatever the incoming order.
"""


class Row(NamedTuple):
    """What docs/algorithms.md says of an algorithm."""

    asks: str
    questions: str
    rounds: str
    exact: str
    scores: str


class Cost(NamedTuple):
    """What an algorithm did with 100 documents."""

    questions: int
    rounds: int
    exact: int


def page() -> str:
    """The whole page, as Markdown."""
    known = [methods.find(name) for name in methods.names()]
    return HEAD + _pages() + "".join(_family(kind, [one for one in known if _asks(one) == kind]) for kind in FAMILIES)


def _pages() -> str:
    """Links to the pages of the families."""
    found = sorted((DOCS / "methods").glob("*.md"))
    links = " · ".join(
        f"[{page.read_text(encoding='utf-8').splitlines()[0][2:]}](methods/{page.name})" for page in found
    )
    return f"\nWhat each asks, what it costs and when to use it: {links}.\n" if found else ""


def _family(kind: str, members: list[Method]) -> str:
    if not members:
        return ""
    title, what = FAMILIES[kind]
    head = f"\n## {title}\n\n{what[0].upper()}{what[1:]}.\n\n"
    columns = [
        "method",
        "what it is",
        "model",
        "algorithm",
        "judge, prompt",
        "questions",
        "for 100: questions, rounds, exact",
    ]
    lines = [[*columns, "scores"], ["---"] * 8, *map(_line, members)]
    return head + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(method: Method) -> list[str]:
    algorithm, row = registry.load("algorithm", method.algorithm), _rows()[method.algorithm]
    options = shared_out(method.options, {}, algorithm, registry.load("judge", method.judge))
    cost = _cost(algorithm, options[0])
    others = f" (also {', '.join(f'`{name}`' for name in method.also)})" if method.also else ""
    return [
        f"`{method.name}`{others}",
        f"[{method.description}]({method.source})",
        ", ".join(method.wants),
        _with_options(method.algorithm, options[0]),
        ", ".join(filter(None, [_with_options(method.judge, options[1]), method.prompt and f"`{method.prompt}`"])),
        row.questions,
        f"{cost.questions:,}, {cost.rounds:,}, {cost.exact:,}",
        row.scores,
    ]


def _with_options(name: str, options: dict[str, object]) -> str:
    return f"`{name}`" + (f" ({spelled(options).replace(',', ', ')})" if options else "")


def _asks(method: Method) -> str:
    [kind] = registry.load("algorithm", method.algorithm).asks - {Write}  # what is written ranks nothing
    return str(kind.__name__)


def _rows() -> dict[str, Row]:
    """The first table of docs/algorithms.md, by algorithm."""
    first = next(part for part in (DOCS / "algorithms.md").read_text(encoding="utf-8").split("\n\n") if part[0] == "|")
    lines = first.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {line[0].strip("`"): Row(*line[1:]) for line in cells}


def _cost(algorithm: Algorithm, options: dict[str, object]) -> Cost:
    documents = [Document(str(index), f"text {index}") for index in range(COUNT)]
    if "graph" in defaults_of(algorithm):  # one without neighbours: what a graph brings in is no cost of the list
        options = {**options, "graph": Adjacency(documents, {})}
    judge = Oracle({"q": {str(index): COUNT - 37 * index % COUNT for index in range(COUNT)}})
    rounds = list(_rounds(algorithm.plan(Ranking.unscored(Query("q", "words"), documents), **options), judge))
    return Cost(sum(rounds), len(rounds), algorithm.exact(COUNT, **options))


def _rounds(plan: Plan, judge: Oracle) -> Iterator[int]:
    """How many questions each round asks; announcements are none."""
    answers = None
    while True:
        try:
            questions: list[Question] = next(plan) if answers is None else plan.send(answers)
        except StopIteration:
            return
        asked = [question for question in questions if not isinstance(question, Announce)]
        given = iter(answer for _, answer in judge.answer(asked, Ledger()))
        answers = [Heard() if isinstance(question, Announce) else next(given) for question in questions]
        if asked:
            yield len(asked)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write docs/methods.md from the files of the methods.")
    parser.add_argument("--check", action="store_true", help="Write nothing; end with 1 when the page is stale.")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE} is stale; run: python scripts/write_methods_page.py")
