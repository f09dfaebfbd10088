"""Measure what adaptive retrieval finds that reranking the first stage's best cannot, and write it to docs/adaptive.md.

python scripts/adaptive_on_scifact.py --data FOLDER     # BEIR's SciFact: corpus.jsonl, queries.jsonl, qrels/test.tsv

Each system grades the same number of documents: the first stage's best, or some of them and what a graph leads to.
Indexes, graphs, and a journal of every grade lie in --work, so that a run that was cut off goes on where it stopped,
and a document is graded once for all systems. Results stand in benchmarks/results/adaptive-scifact.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rerank import Dataset, Ranking, Reranker
from rerank.evaluate import evaluate
from rerank.questions import Judge
from rerank.significance import interval, paired
from rerank.types import Qrels
from retrievers.bm25 import BM25
from retrievers.dense import Dense
from retrievers.graph import CorpusGraph

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "adaptive-scifact.jsonl"
PAGE = ROOT / "docs" / "adaptive.md"
COLUMNS = (
    "documents graded",
    "system",
    "recall at the budget",
    "95 % interval",
    "difference",
    "better, worse",
    "p",
    "nDCG@10",
)
NEIGHBOURS = 16
DEPTH = 1000
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
BASELINE = "the first stage's best"


@dataclass(frozen=True, slots=True)
class Measured:
    """One system at one budget.

    Args:
        recall: query_id -> the share of its relevant documents that were graded.
        ndcg: the mean nDCG@10.
    """

    system: str
    budget: int
    model: str
    max_tokens: int
    dtype: str
    recall: Mapping[str, float]
    ndcg: float
    date: str


def systems(budget: int, graphs: Mapping[str, CorpusGraph]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(what it is called, its algorithm, its options), each for so many documents."""
    yield BASELINE, "pointwise", {}
    for name, graph in graphs.items():
        yield f"gar, {name} graph", "gar", {"graph": graph, "budget": budget}
    for name, graph in graphs.items():
        half = {"graph": graph, "budget": budget, "seeds": budget // 2}
        yield f"ladr, {name} graph", "ladr", half
        yield f"ladr-adaptive, {name} graph", "ladr-adaptive", {**half, "depth": 10}


def graphs_in(work: Path, dataset: Dataset) -> dict[str, CorpusGraph]:
    """The two graphs, built once."""
    bm25 = BM25.of(dataset, index=work / "bm25")
    dense = Dense.of(dataset, model=ENCODER, index=work / "dense")
    made = {"BM25": bm25, "dense": dense}
    for name, index in made.items():
        if not (work / f"graph-{name}").exists():
            CorpusGraph.build(index, work / f"graph-{name}", neighbours=NEIGHBOURS)
    return {name: CorpusGraph.open(work / f"graph-{name}") for name in made}


def measured(
    budget: int, rankings: Sequence[Ranking], qrels: Qrels, graphs: Mapping[str, CorpusGraph], judge: Judge, asked: Any
) -> Iterator[Measured]:
    """Every system at a budget."""
    for name, algorithm, options in systems(budget, graphs):
        cutoff = budget if algorithm == "pointwise" else None
        with Reranker(judge=judge, algorithm=algorithm, options=options, journal=asked.work / "journal") as reranker:
            ranked = reranker.rerank(rankings, cutoff=cutoff)
        graded = {each.query.query_id: _graded(each) for each in ranked}
        assert all(len(ranking) <= budget for ranking in graded.values())
        found = evaluate(qrels, graded, [f"R@{budget}", "nDCG@10"])
        today = time.strftime("%Y-%m-%d")
        recall = dict(found.values(f"R@{budget}"))
        said = (asked.model, asked.max_tokens, asked.dtype)
        yield Measured(name, budget, *said, recall, found.means["nDCG@10"], today)


def _graded(ranking: Ranking) -> Ranking:
    """Those documents that were graded: they stand first."""
    return ranking[: sum(candidate.score is not None for candidate in ranking)]


def write(found: Sequence[Measured]) -> None:
    """The results, and the page's table."""
    RESULTS.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found), encoding="utf-8")
    front, begin, rest = PAGE.read_text(encoding="utf-8").partition("<!-- measured -->")
    _, end, back = rest.partition("<!-- end of measured -->")
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(_row(one, found) for one in found)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    PAGE.write_text(f"{front}{begin}\n{table}\n{end}{back}", encoding="utf-8")


def _row(one: Measured, found: Sequence[Measured]) -> list[str]:
    within = interval(one.recall.values())
    cells = [str(one.budget), one.system, f"{sum(one.recall.values()) / len(one.recall):.4f}"]
    cells.append(f"{within.low:.4f} to {within.high:.4f}")
    baseline = next(each for each in found if each.system == BASELINE and each.budget == one.budget)
    if one.system == BASELINE:
        return [*cells, "", "", "", f"{one.ndcg:.4f}"]
    against = paired(one.recall, baseline.recall)
    differs = [f"{against.difference:+.4f}", f"{against.wins}, {against.losses}", f"{against.p_randomisation:.3f}"]
    return [*cells, *differs, f"{one.ndcg:.4f}"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="BEIR's folder of SciFact")
    parser.add_argument("--work", type=Path, default=Path("adaptive-work"), help="where indexes and the journal lie")
    parser.add_argument("--model", default="cross-encoder/ms-marco-MiniLM-L12-v2")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--dtype", default="float32", help='"int8" is quicker and nearly the same')
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 100])
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    dataset = Dataset.load(asked.data)
    graphs = graphs_in(asked.work, dataset)
    queries = dataset.queries[: asked.queries]
    qrels = {query.query_id: dataset.qrels[query.query_id] for query in queries}
    rankings = BM25.open(asked.work / "bm25").retrieve(queries, DEPTH)
    judge = Reranker(asked.model, max_tokens=asked.max_tokens, dtype=asked.dtype).judge
    found: list[Measured] = []
    for budget in asked.budgets:
        for one in measured(budget, rankings, qrels, graphs, judge, asked):
            found.append(one)
            print(f"{budget} {one.system}: {sum(one.recall.values()) / len(one.recall):.4f} {one.ndcg:.4f}", flush=True)
            write(found)


if __name__ == "__main__":
    main()
