"""Do students learn, with real weights? Eight queries by heart, and sixty-four that they were not trained on.

python scripts/overfit_and_nll.py ../shared/data/scifact --output overfit
python scripts/overfit_and_nll.py ../shared/data/scifact --output overfit --only FIRST

Lists of 4 documents of SciFact's train split (scripts/scifact_lists.py), each document cut to its first 24 words.
monoT5 learns the labels of documents by themselves, the set-encoder and SPLADE which document is the relevant one,
RankGPT and FIRST to write the order of the teacher, ms-marco-MiniLM-L12-v2.

By heart: trained on `BY_HEART` until what was taught comes back from `Reranker(folder)` (from sentence-transformers'
model for SPLADE), measured so before and after. Held out: trained on other lists, no relevant document of which is
one of the `HELD_OUT`; measured is the negative log-likelihood (NLL) of what should be said about those, at the
beginning, at the end and, but for the language models, half-way; p by paired randomisation over queries, corrected by
Holm. Seed 0. The same command goes on where it was stopped, and what is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from scifact_lists import DOCUMENTS, TEACHER, labelled
from train_splade_on_scifact import start

from rerank import Dataset, Document, Query, Ranking, Reranker
from rerank.evaluate import evaluate, holm
from rerank.io.atomic import atomic_write
from rerank.significance import paired
from rerank.types import Qrels
from training import separate
from training.examples import Example
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students import Lora, student_of
from training.students.listwise import order_of

SEED, WORDS, LISTS, TOKENS = 0, 24, 160, 128
"""Of everything drawn; of a document; that are trained on when others are held out; of a query with a document."""

BY_HEART = ("134", "159", "250", "383", "414", "789", "969", "1006")
HELD_OUT = (
    "2", "21", "64", "93", "95", "116", "161", "165", "169", "173", "245", "246", "256", "339", "361", "378",
    "422", "432", "453", "454", "489", "542", "557", "566", "582", "591", "595", "626", "635", "673", "696", "710",
    "746", "765", "779", "838", "848", "863", "884", "899", "912", "930", "949", "977", "984", "998", "1034", "1058",
    "1075", "1081", "1097", "1109", "1136", "1184", "1219", "1253", "1255", "1263", "1291", "1308", "1351", "1356",
    "1401", "1402",
)  # fmt: skip
"""Drawn once, by `random.Random(0)`, from the queries of SciFact's train split."""

FIRST_TOKEN = "first token"
"""Not a loss that is trained, but measured: the NLL of what an answer begins with."""


@dataclass(frozen=True)
class Part:
    """One student: what it is, what it is taught, how long.

    Args:
        student, loss: of its recipe.
        taught: "labels", "relevant" (the document that is) or "order".
        by_heart, others: schedules of the two runs.
        measured: what the NLL is of -> the loss that gives it, and what it is when all answers of the right form are
            equally likely.
    """

    student: StudentTable
    loss: str
    taught: str
    by_heart: Schedule
    others: Schedule
    measured: Mapping[str, tuple[str, float | None]]


def schedule(steps: int, rate: float, lists: int = 4, **more: Any) -> Schedule:
    """Kept half-way and at the end, or as is said."""
    saved = {"save_every": steps // 2, "keep": 2, "log_every": 1, "seed": SEED}
    return Schedule(max_steps=steps, lists=lists, learning_rate=rate, **(saved | more))


LORA = Lora(rank=16, alpha=32.0)
SMOL = "SmolLM2-135M-Instruct"
ANY = math.log(DOCUMENTS)
ORDER = math.log(math.factorial(DOCUMENTS)) / 16  # "[2] > [3] > [1] > [4]" and the end: 16 tokens
LABEL = -(math.log(1 / DOCUMENTS) + (DOCUMENTS - 1) * math.log(1 - 1 / DOCUMENTS)) / DOCUMENTS
T5 = {"optimizer": "adafactor", "scheduler": "constant_with_warmup"}
PARTS = {
    "monoT5": Part(
        StudentTable("target-token", "flan-t5-small-titles", {"prompt": "monot5", "max_tokens": TOKENS + 64}),
        "bce",
        "labels",
        schedule(64, 3e-4, lists=1, **T5),
        schedule(24, 1e-4, **T5),
        {"a document's label": ("bce", LABEL)},
    ),
    "set-encoder": Part(
        StudentTable("set-encoder", "all-MiniLM-L6-v2", {"query_tokens": 64, "document_tokens": TOKENS}),
        "infonce",
        "relevant",
        schedule(60, 2e-4),
        schedule(80, 1e-4),
        {"the relevant document": ("infonce", ANY)},
    ),
    "SPLADE": Part(
        StudentTable(
            "splade", "all-MiniLM-L6-v2", {"max_tokens": TOKENS, "regularize_query": 0.5, "regularize_document": 0.4}
        ),
        "infonce",
        "relevant",
        schedule(24, 1e-4, lists=2, sample=DOCUMENTS),
        schedule(40, 2e-5, sample=DOCUMENTS),
        {"the relevant document": ("infonce", ANY)},
    ),
    "RankGPT": Part(
        StudentTable("listwise", SMOL, {"prompt": "rankgpt", "max_tokens": 1024}, LORA),
        "lm",
        "order",
        schedule(120, 1e-3, lists=1),
        schedule(16, 1e-3, lists=2, save_every=16),
        {"a token of the order": ("lm", ORDER)},
    ),
    "FIRST": Part(
        StudentTable("listwise", SMOL, {"prompt": "first", "max_tokens": 1024}, LORA),
        "first",
        "order",
        schedule(56, 1e-3, lists=1),
        schedule(16, 1e-3, lists=2, save_every=16),
        {"the first letter": (FIRST_TOKEN, ANY), "joint loss": ("first", None)},
    ),
}


def main() -> None:
    """Mine, label, train, measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, help="SciFact as a BEIR folder")
    parser.add_argument("--output", type=Path, required=True, help="where students and results go")
    parser.add_argument("--only", choices=list(PARTS), help="one student")
    given = parser.parse_args()
    output = given.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    chosen = read(given.collection, output)
    for name in [given.only] if given.only else PARTS:
        part = begins(PARTS[name], given.collection, output)
        kept(output / f"{name}-by-heart.json", lambda folder, part=part: by_heart(part, folder, chosen[0]))
        kept(output / f"{name}-held-out.json", lambda folder, part=part: held_out(part, folder, *chosen[1:]))
    table = report(output, len(chosen[1]))
    (output / "results.md").write_text(table, encoding="utf-8")
    print(f"{table}\nat most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB of memory")


# -- what is read --------------------------------------------------------------------------------------------------


def read(collection: Path, output: Path) -> tuple[list[Example], list[Example], list[Example]]:
    """Lists to learn by heart; others to learn from; those held out."""
    others = trained_on(Dataset.load(collection, "train").qrels)
    found = labelled(collection, output / "examples", only={*BY_HEART, *HELD_OUT, *others})
    cut = {one.query_id: shortened(one) for one in found}
    heart, learnt, held = ([cut[query_id] for query_id in ids] for ids in (BY_HEART, others, HELD_OUT))
    return heart, learnt, held


def trained_on(qrels: Qrels) -> list[str]:
    """The first queries that are neither held out nor have a relevant document of one that is."""
    held = {doc_id for query_id in HELD_OUT for doc_id in qrels[query_id]}
    named = {*HELD_OUT, *BY_HEART}
    free = [query_id for query_id in qrels if query_id not in named and not held & qrels[query_id].keys()]
    return sorted(free, key=int)[:LISTS]


def shortened(example: Example) -> Example:
    """With the beginnings of its documents."""
    return replace(example, documents=tuple(" ".join(text.split()[:WORDS]) for text in example.documents))


def begins(part: Part, collection: Path, output: Path) -> Part:
    """What it starts from: SPLADE gets the body with a masked model's head on it, all others their checkpoint."""
    if part.student.kind != "splade":
        return part
    folder = output / "splade-start"
    if not (folder / "modules.json").exists():
        start(folder, collection, TOKENS, SEED)
    return replace(part, student=replace(part.student, model=str(folder)))


# -- what is done --------------------------------------------------------------------------------------------------


def kept(file: Path, run: Callable[[Path], dict[str, Any]]) -> None:
    """Do it, in a folder of its name, unless its result is there."""
    if file.exists():
        return
    started = time.perf_counter()
    found = run(file.with_suffix(""))
    with atomic_write(file, "w") as written:
        json.dump({**found, "seconds": time.perf_counter() - started}, written)


def trained(part: Part, plan: Schedule, folder: Path, examples: Sequence[Example]) -> Recipe:
    """Train by the toolkit's own recipe, from where it was stopped."""
    recipe = Recipe(part.student, Objective(part.loss), plan, teacher=TEACHER)
    run_training(recipe, folder, examples=examples, say=lambda line: print(f"{folder.name}: {line}", flush=True))
    return recipe


def by_heart(part: Part, folder: Path, examples: Sequence[Example]) -> dict[str, Any]:
    """What the student makes of lists, before it has learnt them and after; and its losses."""
    begun = folder.with_name(f"{folder.name}-begun")
    recipe = trained(part, part.by_heart, folder, examples)
    model = beginning(recipe)
    if part.student.kind == "splade":
        model.save_pretrained(str(begun))
    else:
        model.finish(begun)
    found = {"before": reproduced(part, begun, examples), "after": reproduced(part, folder, examples)}
    shutil.rmtree(begun)
    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))["log"]
    return {**found, "losses": [entry["loss"] for entry in log if "loss" in entry]}


def reproduced(part: Part, folder: Path, examples: Sequence[Example]) -> dict[str, float]:
    """How many lists come back as they were taught, and nDCG@10 against what was taught."""
    answers = asked(part, folder, examples)
    gains = {one.query_id: {str(place): gain for place, gain in enumerate(taught(part, one))} for one in examples}
    run = {
        one.query_id: {str(place): -float(rank) for rank, (place, _) in enumerate(answer)}
        for one, answer in zip(examples, answers, strict=True)
    }
    right = sum(as_taught(part, one, answer) for one, answer in zip(examples, answers, strict=True))
    return {"right": right, "nDCG@10": evaluate(gains, run, ["nDCG@10"]).means["nDCG@10"]}


def asked(part: Part, folder: Path, examples: Sequence[Example]) -> list[list[tuple[int, float]]]:
    """Of each list: documents and their scores, best first, as a user would get them."""
    if part.student.kind == "splade":
        model = sparse(folder)
        scores = [separate.scores_of(model, [one]).tolist() for one in examples]
        return [sorted(enumerate(each), key=lambda pair: -pair[1]) for each in scores]
    with Reranker(folder) as reranker:
        ranked = reranker.rerank([shown(one) for one in examples])
    return [[(int(one.document.doc_id), one.score or 0.0) for one in ranking] for ranking in ranked]


def shown(example: Example) -> Ranking:
    """A list as a reranker takes it, the documents named by their places."""
    documents = [Document(str(place), text) for place, text in enumerate(example.documents)]
    return Ranking.unscored(Query(example.query_id, example.query), documents)


def taught(part: Part, example: Example) -> list[int]:
    """What each document is worth."""
    if part.taught != "order":
        return [int(grade) for grade in example.relevance or ()]
    order = order_of(example, None)
    return [len(order) - 1 - order.index(place) for place in range(len(order))]


def as_taught(part: Part, example: Example, answer: Sequence[tuple[int, float]]) -> bool:
    """All labels (relevant: P > 1/2), the relevant document first, or the whole order."""
    worth = taught(part, example)
    if part.taught == "labels":
        return all((score > math.log(0.5)) == bool(worth[place]) for place, score in answer)
    heads = [place for place, _ in answer][: 1 if part.taught == "relevant" else None]
    return heads == sorted(range(len(worth)), key=lambda place: -worth[place])[: len(heads)]


def held_out(part: Part, folder: Path, learnt: Sequence[Example], held: Sequence[Example]) -> dict[str, Any]:
    """NLL by step, by what it is of, and by query."""
    recipe = trained(part, part.others, folder, learnt)
    found = {}
    for step, model in moments(recipe, folder):
        values = {one.query_id: nll(part, model, one) for one in held}
        found[step] = {of: {query_id: each[of] for query_id, each in values.items()} for of in part.measured}
        means = ", ".join(f"{of} {fmean(each.values()):.4f}" for of, each in found[step].items())
        print(f"{folder.name}: NLL at step {step}: {means}", flush=True)
    return {"nll": found}


def moments(recipe: Recipe, folder: Path) -> Iterator[tuple[int, Any]]:
    """The student as it began, and as it was at every checkpoint."""
    model = beginning(recipe)
    yield 0, model
    checkpoints = {int(path.name.rpartition("-")[2]): path for path in (folder / "checkpoints").glob("checkpoint-*")}
    for step, path in sorted(checkpoints.items()):
        if recipe.student.kind == "splade":
            model = sparse(path)
        else:
            model.restore(path)
        yield step, model


def beginning(recipe: Recipe) -> Any:
    """The student before its first step, with the new weights that the run gave it; without dropout."""
    import transformers

    transformers.set_seed(recipe.schedule.seed)
    if recipe.student.kind == "splade":
        return separate.made_student(recipe)
    return student_of(recipe.student).eval()


def sparse(folder: Path) -> Any:
    """A SPLADE as it was saved."""
    from sentence_transformers import SparseEncoder

    return SparseEncoder(str(folder), device="cpu")


def nll(part: Part, model: Any, example: Example) -> dict[str, float]:
    """Of a list that the model was not trained on, in nats: what it is of -> value."""
    import torch

    with torch.no_grad():
        said = separate.scores_of(model, [example]) if part.student.kind == "splade" else model(**model.read([example]))
        return {of: _loss(loss, said, example).item() for of, (loss, _) in part.measured.items()}


def _loss(loss: str, said: Any, example: Example) -> Any:
    if loss == FIRST_TOKEN:
        return -said["log_probs"][0, 0]
    objective = Objective(loss)
    of = objective.of_tokens if objective.reads == "tokens" else objective.of_scores
    return of(said, **objective.tensors([example]))


# -- what is shown -------------------------------------------------------------------------------------------------


def report(output: Path, learnt: int) -> str:
    """Both tables, of what is finished."""
    heart = {name: _read(output / f"{name}-by-heart.json") for name in PARTS}
    held = {name: _read(output / f"{name}-held-out.json") for name in PARTS}
    lines = [
        f"{len(BY_HEART)} lists of {DOCUMENTS} by heart, seed {SEED}",
        "",
        "| student | taught | lists seen | as taught, before | after | nDCG@10, before | after | loss, first | last |",
        "|---|---|---|---|---|---|---|---|---|",
        *(by_heart_row(name, found) for name, found in heart.items() if found),
        "",
        f"{len(HELD_OUT)} lists held out, trained on others, of {learnt}; seed {SEED}; p by paired randomisation, Holm",
        "",
        "| student | NLL of | lists seen | before | half-way | after | p | all equally likely |",
        "|---|---|---|---|---|---|---|---|",
        *held_out_rows({name: found["nll"] for name, found in held.items() if found}),
    ]
    return "\n".join(lines) + "\n"


def _read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def by_heart_row(name: str, found: Mapping[str, Any]) -> str:
    """Before and after."""
    before, after, losses = found["before"], found["after"], found["losses"]
    cells = [
        *(str(one["right"]) for one in (before, after)),
        *(f"{one['nDCG@10']:.4f}" for one in (before, after)),
        *(f"{loss:.4f}" for loss in (losses[0], losses[-1])),
    ]
    return f"| {name} | {PARTS[name].taught} | {seen(PARTS[name].by_heart)} | {' | '.join(cells)} |"


def seen(plan: Schedule) -> int:
    """Lists that a student went through, those that came again counted again."""
    return (plan.max_steps or 0) * plan.lists


def held_out_rows(found: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> Iterator[str]:
    """Before, half-way, after, and how sure the difference is."""
    rows = {(name, of): [by[of] for by in steps.values()] for name, steps in found.items() for of in steps["0"]}
    sure = holm({f"{name} {of}": paired(each[-1], each[0]).p_randomisation for (name, of), each in rows.items()})
    for (name, of), each in rows.items():
        chance = PARTS[name].measured[of][1]
        means = [f"{fmean(values.values()):.4f}" for values in each]
        cells = " | ".join([means[0], means[1] if len(means) > 2 else "", means[-1]])
        alike = "" if chance is None else f"{chance:.4f}"
        yield f"| {name} | {of} | {seen(PARTS[name].others)} | {cells} | {sure[f'{name} {of}']:.4f} | {alike} |"


if __name__ == "__main__":
    main()
