"""Whether a small reranker of our own, trained on free documentation, is better than the one that ships.

python scripts/train_shipped_student.py --data ../shared/data --output shipped-student --packages packages

BERT-mini as it ships is the start, MiniLM-L12 the teacher. Headings of the documentation that
scripts/documentation.toml lists are the queries (scripts/documentation_corpus.py); negatives are mined with BM25,
scores are the teacher's, and the recipe is scripts/shipped-student.toml. `--data` holds BEIR folders of trec-dl19,
noveleval, scifact and cranfield: none of them is trained on, and three of them measure. Each step is a command, which
is shown and leaves its result in the output; the same call goes on with the step that was not finished.

The rule: the student ships when DL19 (BM25's top 100) is at least .57, NovelEval is above BM25, and the mean of the
three is above that of BERT-mini unchanged. Printed: nDCG@10 with paired randomisation tests against BERT-mini and BM25.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rerank import Dataset
from rerank.evaluate import Evaluation, compare, evaluate
from rerank.io import read_run

HERE = Path(__file__).resolve().parent
START, TEACHER, MEASURE = "bert-mini-reranker", "ms-marco-MiniLM-L12-v2", "nDCG@10"
TRAINED_TOKENS, MEASURED_TOKENS = 160, 256
NEVER = ("trec-dl19", "noveleval", "scifact", "cranfield")
MEASURED = {"trec-dl19": 100, "noveleval": 20, "scifact": 20}
"""Collections, and how many of BM25's documents are reranked."""

LEAST_DL19 = 0.57

MINING = (
    *("--retriever", "bm25", "--retrieve-cutoff", 50, "--positives", "together"),
    *("--sampling", "random", "--negatives", 3, "--randoms", 1, "--least", 4),
)
"""Negatives are drawn of BM25's best 50, and one from anywhere, so that easy ones are seen as well."""


@dataclass(frozen=True)
class Step:
    """A command of Python, and what is there once it has been done."""

    command: tuple[str, ...]
    result: Path

    def run(self) -> None:
        """Unless it has been."""
        if self.result.exists():
            print(f"{self.result} is there", flush=True)
            return
        print(f"$ python {' '.join(self.command)}", flush=True)
        subprocess.run([sys.executable, *self.command], check=True)


def main() -> None:
    """Collect, mine, label, train, measure, decide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the collections that measure")
    parser.add_argument("--output", type=Path, required=True, help="where everything goes")
    parser.add_argument("--packages", type=Path, help="where the packages lie, or go (OUTPUT/packages)")
    parser.add_argument("--queries", type=int, default=3000, help="to train on, at the most (3000)")
    parser.add_argument("--recipe", type=Path, default=HERE / "shipped-student.toml", help="of the training")
    parser.add_argument("--name", default="student", help="of the student in OUTPUT: another one for another recipe")
    parser.add_argument("--measure", action="append", choices=list(MEASURED), help="only on this collection")
    parser.add_argument(
        "--against", action="append", default=[], help="measure this reranker, too, such as the teacher"
    )
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    packages = given.packages or given.output / "packages"
    for step in [
        *training(given.output, given.data, packages, given.queries, given.recipe, given.name),
        *measuring(given.output, given.data, given.measure or list(MEASURED), [given.name, START, *given.against]),
    ]:
        step.run()
    print(report(given.output, given.data, given.measure or list(MEASURED), given.name, given.against))


def training(output: Path, data: Path, packages: Path, queries: int, recipe: Path, name: str) -> list[Step]:
    """From packages to the student."""
    corpus, mined, labelled, student = (output / one for one in ("corpus", "mined", "labelled", name))
    never = [part for one in NEVER for part in ("--never", str(data / one))]
    collected = [str(HERE / "documentation_corpus.py"), str(HERE / "documentation.toml"), *never]
    return [
        Step((*collected, "--output", str(corpus), "--packages", str(packages)), corpus / "sources.json"),
        command("mine", mined, "--dataset", corpus, "--split", "train", "--first-queries", queries, *MINING),
        command("label", labelled, mined, "--model", TEACHER, "--max-tokens", TRAINED_TOKENS, "--dtype", "int8"),
        Step(command("train", student, recipe, "--examples", labelled).command, student / "training.json"),
    ]


def measuring(output: Path, data: Path, collections: Sequence[str], models: Sequence[str]) -> list[Step]:
    """Runs of BM25 and of every model over it."""
    steps = []
    for collection in collections:
        first = run_of("bm25", output, data, collection)
        tested = ("--dataset", data / collection, "--cutoff", MEASURED[collection])
        steps.append(command("retrieve", first, *tested, "--retriever", "bm25"))
        for model in models:
            loaded = output / model if (output / model).is_dir() else model
            asked = ("--run", first, "--model", loaded, "--max-tokens", MEASURED_TOKENS)
            steps.append(command("rerank", run_of(model, output, data, collection), *tested, *asked))
    return steps


def run_of(system: str, output: Path, data: Path, collection: str) -> Path:
    """Its file; BM25's is the collection's own where it has one, such as DL19's, which is of all of MS MARCO."""
    own = data / collection / "runs" / f"{system}.trec"
    return own if own.exists() else output / f"{collection}.{system}.trec"


def command(name: str, result: Path, *arguments: str | int | Path) -> Step:
    """One of `rerank`'s."""
    return Step(("-m", "rerank.cli", name, *map(str, arguments), "--output", str(result)), result)


def report(output: Path, data: Path, collections: Sequence[str], student: str, others: Sequence[str]) -> str:
    """The table, and what the rule says of it."""
    systems = ["bm25", START, student, *others]
    lines = [f"| {MEASURE} | {' | '.join(systems)} | p against {START} | p against bm25 |"]
    lines.append("|---" * (len(systems) + 3) + "|")
    means: dict[str, dict[str, float]] = {}
    for collection in collections:
        found = evaluations(output, data, collection, systems)
        means[collection] = {name: one.means[MEASURE] for name, one in found.items()}
        tests = [f"{compare(found[student], found[one], MEASURE).p_randomisation:.4f}" for one in (START, "bm25")]
        lines.append(_row(f"{collection}, BM25's top {MEASURED[collection]}", means[collection], tests))
    if set(collections) == set(MEASURED):
        lines.append(_row("mean", {one: fmean(row[one] for row in means.values()) for one in systems}, ["", ""]))
        lines += ["", verdict(means, student)]
    return "\n".join(lines)


def evaluations(output: Path, data: Path, collection: str, systems: Sequence[str]) -> dict[str, Evaluation]:
    """Of every system's run, by query."""
    qrels = Dataset.load(data / collection).qrels
    return {one: evaluate(qrels, read_run(run_of(one, output, data, collection)), [MEASURE]) for one in systems}


def verdict(means: Mapping[str, Mapping[str, float]], student: str) -> str:
    """Whether the student ships: collection -> system -> nDCG@10."""
    conditions = {
        f"DL19 at least {LEAST_DL19}": means["trec-dl19"][student] >= LEAST_DL19,
        "NovelEval above BM25": means["noveleval"][student] > means["noveleval"]["bm25"],
        f"better on average than {START}": fmean(row[student] for row in means.values())
        > fmean(row[START] for row in means.values()),
    }
    said = "; ".join(f"{name}: {'yes' if holds else 'no'}" for name, holds in conditions.items())
    return f"{'The student ships' if all(conditions.values()) else f'{START} stays'} ({said})"


def _row(name: str, values: Mapping[str, float], tests: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(f'{value:.4f}' for value in values.values())} | {' | '.join(tests)} |"


if __name__ == "__main__":
    main()
