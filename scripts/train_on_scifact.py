"""What small rerankers learn from labels and from a teacher, on SciFact.

python scripts/train_on_scifact.py ../shared/data/scifact --output scifact-students

The student is the first three layers of all-MiniLM-L6-v2 with a new head; the teacher is ms-marco-MiniLM-L12-v2. Each
training query has 4 documents: a relevant one, and 3 that are drawn from BM25's best hundred and are not judged
relevant. Texts are cut to 96 tokens. One epoch, seeds 0, 1, 2: of the head and the order. Objectives: none
(untrained), labels alone (group-ce), and from the teacher's scores MarginMSE, RankNet and KL.

Measured: nDCG@10 on the 300 test queries over BM25's best `--cutoff`, as the mean and standard deviation over seeds;
and, on each query's mean over seeds, paired randomisation tests against labels alone, BM25 and the untrained student,
corrected by Holm. SciFact's test queries share neither queries nor judgments with what was trained on. The same command
goes on where it was stopped, and what is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scifact_lists import DOCUMENTS, TEACHER, TOKENS, labelled

from rerank import Dataset, Ranking, Reranker
from rerank.evaluate import Evaluation, compare, evaluate, holm
from rerank.io.atomic import atomic_write
from retrievers.bm25 import BM25
from training.examples import Example
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students import CrossEncoder

BODY, LAYERS, CUTOFF, SEEDS, MEASURE = "all-MiniLM-L6-v2", 3, 20, (0, 1, 2), "nDCG@10"
OBJECTIVES = {
    "untrained": None,
    "labels": Objective("group-ce"),
    "MarginMSE": Objective("margin-mse"),
    "RankNet": Objective("ranknet", target="scores"),
    "KL": Objective("kl", {"temperature": 2.0}),
}
STUDENT: dict[str, Any] = {"layers": LAYERS, "max_tokens": TOKENS, "dropout": 0.0}
"""Without dropout: with its body's, 0.1, one epoch is too short for RankNet, which stays at ln 2 for 500 steps."""
SCHEDULE = Schedule(epochs=1, lists=2, learning_rate=1e-4, log_every=50, save_every=100, keep=1)
"""Two lists a step: with 8, one epoch is too short: labels stay at the loss of chance (ln 4); with 1, one seed did."""


def main() -> None:
    """Mine, label, train, measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="SciFact as a BEIR folder")
    parser.add_argument("--output", type=Path, required=True, help="where students and results go")
    parser.add_argument("--cutoff", type=int, default=CUTOFF, help=f"test documents that are reranked ({CUTOFF})")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    test = Dataset.load(given.collection, "test")
    retrieved = BM25.of(test).retrieve(test.queries, given.cutoff)
    examples = labelled(given.collection, given.output / "examples")
    found = {"BM25": [evaluation(test, retrieved)]}
    for objective in OBJECTIVES:
        found[objective] = [
            measured(given.output, objective, seed, examples, test, retrieved, given.cutoff) for seed in SEEDS
        ]
        print(row(objective, found[objective]), flush=True)
    table = report(found, given.cutoff, len(examples))
    (given.output / "results.md").write_text(table, encoding="utf-8")
    print(table)


def measured(
    output: Path,
    objective: str,
    seed: int,
    examples: Sequence[Example],
    test: Dataset,
    retrieved: Sequence[Ranking],
    cutoff: int,
) -> Evaluation:
    """A student's values, trained and measured now or before."""
    place = output / f"{objective.lower()}-{seed}"
    values = output / f"{place.name}-at-{cutoff}.json"
    if not values.exists():
        started, used = time.perf_counter(), time.process_time()
        student(place, objective, seed, examples)
        trained = time.perf_counter()
        with Reranker(place, max_tokens=TOKENS, journal=output / f"{place.name}.journal") as reranker:
            ranked = reranker.rerank(retrieved)
        seconds = {
            "training": trained - started,
            "measuring": time.perf_counter() - trained,
            "processor": time.process_time() - used,
        }
        kept = {"nDCG@10": dict(evaluation(test, ranked).values(MEASURE)), "seconds": seconds}
        with atomic_write(values, "w") as file:
            json.dump(kept, file)
    read = json.loads(values.read_text(encoding="utf-8"))[MEASURE]
    return Evaluation((MEASURE,), {MEASURE: read}, {MEASURE: statistics.fmean(read.values())})


def student(place: Path, objective: str, seed: int, examples: Sequence[Example]) -> None:
    """Train it, or write it as it begins."""
    chosen = OBJECTIVES[objective]
    if chosen is None:
        import transformers

        transformers.set_seed(seed)
        CrossEncoder(BODY, **STUDENT).finish(place)
        return
    recipe = Recipe(StudentTable("cross-encoder", BODY, STUDENT), chosen, replace(SCHEDULE, seed=seed), teacher=TEACHER)
    run_training(recipe, place, examples=examples, say=lambda line: print(f"{place.name}: {line}", flush=True))


def evaluation(test: Dataset, rankings: Sequence[Ranking]) -> Evaluation:
    """By query."""
    return evaluate(test.qrels, {ranking.query.query_id: ranking for ranking in rankings}, [MEASURE])


def report(found: dict[str, list[Evaluation]], cutoff: int, count: int) -> str:
    """The table, with tests of each objective's mean over seeds against three baselines."""
    means = {name: over_seeds(evaluations) for name, evaluations in found.items()}
    others = [name for name in OBJECTIVES if name != "untrained"]
    columns = ("labels", "BM25", "untrained")
    probabilities = {}
    for baseline in columns:
        names = [name for name in others if name != baseline]
        corrected = holm({name: compare(means[name], means[baseline], MEASURE).p_randomisation for name in names})
        probabilities |= {(name, baseline): p for name, p in corrected.items()}
    lines = [
        f"SciFact test, {len(means['BM25'].query_ids)} queries, BM25 top-{cutoff}; {count} training lists of "
        f"{DOCUMENTS}; {MEASURE}, mean ± standard deviation over seeds {SEEDS}; p by paired randomisation, Holm",
        "",
        "| | nDCG@10 | p against labels | p against BM25 | p against untrained |",
        "|---|---|---|---|---|",
        f"{row('BM25', found['BM25'])} | | |",
    ]
    for name in OBJECTIVES:
        tests = [f"{probabilities[name, b]:.4f}" if (name, b) in probabilities else "" for b in columns]
        lines.append(f"{row(name, found[name])} {' | '.join(tests)} |")
    return "\n".join(lines) + "\n"


def row(name: str, evaluations: Sequence[Evaluation]) -> str:
    """Name, mean and standard deviation."""
    values = [one.means[MEASURE] for one in evaluations]
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"| {name} | {statistics.fmean(values):.4f}{spread} |"


def over_seeds(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Each query's mean."""
    queries = {
        query_id: statistics.fmean(one.values(MEASURE)[query_id] for one in evaluations)
        for query_id in evaluations[0].query_ids
    }
    return Evaluation((MEASURE,), {MEASURE: queries}, {MEASURE: statistics.fmean(queries.values())})


if __name__ == "__main__":
    main()
