"""Write docs/noise.md: what each algorithm makes of a judge that errs, and what sorting costs with batches and a cache.

python scripts/noise_table.py --data DL19 --write        # a BEIR folder with runs/bm25.trec; some minutes
python scripts/noise_table.py --data DL19                # print the tables

Every registered algorithm reranks the BM25 top 100 of the 43 judged queries of TREC DL 2019 with an oracle that errs:
no model is run, and everything is decided by seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from math import ceil
from pathlib import Path
from statistics import fmean

from rerank import Dataset, registry
from rerank.cost import Ledger
from rerank.engine.flops_estimate import Shape, estimated_flops
from rerank.engine.prefix import Trie
from rerank.evaluate import evaluate
from rerank.io import read_run
from rerank.judges.fake import Oracle
from rerank.questions import Algorithm, Announce, Compare, Grade, GradeSet, Heard, Permute, Question, Write
from rerank.types import Qrels, Ranking

PAGE = Path(__file__).resolve().parents[1] / "docs" / "noise.md"
CUTOFF = 100
SHARE = 0.1
SEEDS = (0, 1, 2)

# the token model of tests/rerank/test_token_accounting.py
INSTRUCTION, QUERY, DOCUMENT, TAIL, IDENTIFIER = 60, 10, 150, 8, 4
MODEL = Shape(layers=28, width=3584, feed_forward=18944, group=7)
"""Qwen2.5-7B's, for the closed form of https://arxiv.org/abs/2507.06223."""

SORTS = ("heapsort", "quicksort", "sliding-k")
BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment of a prompt, by what stands in it."""

    text: object
    tokens: int

    def __len__(self) -> int:
        return self.tokens


@dataclass(frozen=True, slots=True)
class Played:
    """A ranking, and the questions of every round."""

    ranking: Ranking
    rounds: Sequence[Sequence[Question]]

    @property
    def questions(self) -> int:
        """All that were asked, repeated ones too."""
        return sum(map(len, self.rounds))


def play(algorithm: Algorithm, ranking: Ranking, judge: Oracle) -> Played:
    """Run an algorithm by hand, so that every question is seen; announcements are no questions."""
    plan, rounds, answers = algorithm(ranking), [], None
    while True:
        try:
            questions = next(plan) if answers is None else plan.send(answers)
        except StopIteration as end:
            return Played(end.value, rounds)
        asked = [question for question in questions if not isinstance(question, Announce)]
        given = iter([answer for _, answer in judge.answer(asked, Ledger())])
        answers = [Heard() if isinstance(question, Announce) else next(given) for question in questions]
        rounds += [asked] if asked else []


def prompt(question: Question) -> tuple[Piece, ...]:
    """How a question is written down: instruction, query, documents, and the query again in a listwise prompt."""
    size = DOCUMENT + (0 if isinstance(question, Grade | Compare) else IDENTIFIER)
    shown = [Piece((label, document.doc_id), size) for label, document in enumerate(question.documents)]
    query = Piece(("query", question.query.text), QUERY)
    again = [query] if isinstance(question, Permute | GradeSet) else []
    return (Piece("instruction", INSTRUCTION), query, *shown, *again, Piece("tail", TAIL))


def written(question: Question) -> int:
    """Tokens of its answer: a list names every document, a text has 64, everything else is one token."""
    if isinstance(question, Write):
        return 64
    return IDENTIFIER * len(question.documents) if isinstance(question, Permute) else 1


@dataclass(frozen=True, slots=True)
class Row:
    """What one algorithm did: means over queries and seeds."""

    perfect: float
    noisy: float
    questions: float
    rounds: float
    tokens: float
    shared: float
    pflop: float


def row(algorithm: Algorithm, rankings: Sequence[Ranking], qrels: Qrels) -> Row:
    """One algorithm with a perfect judge, and with one that errs."""
    perfect = [play(algorithm, ranking, Oracle(qrels)).ranking for ranking in rankings]
    judges = [Oracle.erring(qrels, SHARE, seed=seed) for seed in SEEDS]
    noisy = [[play(algorithm, ranking, judge) for ranking in rankings] for judge in judges]
    each = [one for played in noisy for one in played]
    costs = [cost(one.rounds) for one in each]
    return Row(
        quality(perfect, qrels),
        fmean(quality([one.ranking for one in played], qrels) for played in noisy),
        fmean(one.questions for one in each),
        fmean(len(one.rounds) for one in each),
        *(fmean(column) for column in zip(*costs, strict=True)),
    )


def quality(rankings: Iterable[Ranking], qrels: Qrels) -> float:
    """Mean nDCG@10."""
    return evaluate(qrels, {ranking.query.query_id: ranking for ranking in rankings}).means["nDCG@10"]


def cost(rounds: Sequence[Sequence[Question]]) -> tuple[float, float, float]:
    """Tokens of different prompts, the same with shared beginnings computed once, and PetaFLOP by the closed form."""
    distinct = {prompt(question): written(question) for questions in rounds for question in questions}
    trie = Trie(list(distinct))
    flops = sum(estimated_flops(MODEL, sum(map(len, pieces)), tokens) for pieces, tokens in distinct.items())
    return trie.naive, trie.shared, flops / 1e15


# -- calls, when several comparisons fit into one ------------------------------------------------------------------


def calls(rounds: Sequence[Sequence[Question]], batch: int, *, cached: bool) -> int:
    """Calls of a model that decides `batch` pairs at once; a pair is one comparison, whichever comes first.

    What is asked in one round can stand in one call. With a cache, a pair that was decided before is free.
    """
    known: set[frozenset[str]] = set()
    total = 0
    for questions in rounds:
        pairs = {frozenset(document.doc_id for document in question.documents) for question in questions}
        new = pairs - known if cached else pairs
        known |= pairs
        total += ceil(len(new) / batch)
    return total


def one_by_one(rounds: Sequence[Sequence[Question]]) -> list[list[Question]]:
    """The same comparisons in a textbook's order, each waiting for the one before: both orders of a pair together."""
    pairs: dict[tuple[int, frozenset[str]], list[Question]] = {}
    for number, questions in enumerate(rounds):
        for question in questions:
            pairs.setdefault((number, frozenset(d.doc_id for d in question.documents)), []).append(question)
    return list(pairs.values())


def sorting(rankings: Sequence[Ranking], qrels: Qrels) -> Iterator[tuple[str, list[float], list[float]]]:
    """Of each sort: its mean calls for every batch size, without a cache and with one."""
    for name in SORTS:
        algorithm = registry.load("algorithm", name)
        played = [play(algorithm, ranking, Oracle.erring(qrels, SHARE)).rounds for ranking in rankings]
        variants: Mapping[str, Sequence[Sequence[Sequence[Question]]]] = {name: played}
        if name != "quicksort":
            variants = {f"{name}, one pair after another": [one_by_one(rounds) for rounds in played], **variants}
        for title, each in variants.items():
            columns = [[fmean(calls(r, b, cached=cached) for r in each) for b in BATCHES] for cached in (False, True)]
            yield title, columns[0], columns[1]


# -- the page --------------------------------------------------------------------------------------------------------


def main_table(rows: Mapping[str, Row], before: float) -> str:
    """Algorithms by what they reach."""
    lines = [
        "| algorithm | asks | nDCG@10, perfect judge | nDCG@10, 10 % noise | questions | rounds | tokens "
        "| tokens, shared | PetaFLOP |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| BM25's order | | {before:.4f} | {before:.4f} | | | | | |",
    ]
    for name, one in sorted(rows.items(), key=lambda item: -item[1].noisy):
        asks = ", ".join(sorted(kind.__name__ for kind in registry.load("algorithm", name).asks))
        lines.append(
            f"| `{name}` | {asks} | {one.perfect:.4f} | {one.noisy:.4f} | {one.questions:,.1f} | {one.rounds:,.1f} "
            f"| {one.tokens:,.0f} | {one.shared:,.0f} | {one.pflop:,.3f} |"
        )
    return "\n".join(lines)


def sorting_table(found: Sequence[tuple[str, list[float], list[float]]]) -> str:
    """Sorts by calls."""
    head = " | ".join(f"b = {batch}" for batch in BATCHES)
    lines = [f"| sort | cache | {head} |", "| --- | --- |" + " --- |" * len(BATCHES)]
    for name, plain, cached in found:
        lines += [f"| {name} | no | {_cells(plain)} |", f"| | yes | {_cells(cached)} |"]
    return "\n".join(lines)


def _cells(numbers: Sequence[float]) -> str:
    return " | ".join(f"{number:,.1f}" for number in numbers)


def replaced(page: str, name: str, table: str) -> str:
    """The page with the table between the marks of this name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    front, _, rest = page.partition(begin)
    _, _, back = rest.partition(end)
    if not back:
        raise SystemExit(f"{PAGE} has no {begin} … {end}")
    return f"{front}{begin}\n{table}\n{end}{back}"


def able() -> dict[str, Algorithm]:
    """What an oracle can answer over a run alone: what follows a graph needs a corpus."""
    known = {name: registry.load("algorithm", name) for name in registry.names("algorithm")}
    return {
        name: algorithm
        for name, algorithm in known.items()
        if algorithm.asks <= Oracle.answers and "graph" not in signature(algorithm.plan).parameters
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="BEIR folder of TREC DL 2019 with runs/bm25.trec")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args()
    dataset = Dataset.load(options.data)
    rankings = dataset.rankings(read_run(options.data / "runs" / "bm25.trec"), CUTOFF)
    rows = {}
    for name, algorithm in able().items():
        rows[name] = row(algorithm, rankings, dataset.qrels)
        print(name, rows[name], flush=True)
    tables = {
        "algorithms": main_table(rows, quality(rankings, dataset.qrels)),
        "sorting": sorting_table(list(sorting(rankings, dataset.qrels))),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        print(f"\n{table}")
        page = replaced(page, name, table)
    if options.write:
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
