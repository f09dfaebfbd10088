"""What stands for a recipe's data, checkpoint and sizes where it is tried on two cores (`try_recipes.py`).

A recipe is planned by its student, its checkpoint's name and what its first line trains on: one that brings nothing new
needs no line here, and any other is refused with the table that lacks it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from training.recipe import Recipe, find, names

__all__ = ["Plan", "plan_of", "text_of", "words_of"]

PLACES = ("--collection", "collection.tsv", "--queries", "queries.train.tsv")
MARGINS = ("bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv", *PLACES)
TAUGHT = ("--qrels", "qrels.train.tsv", *PLACES)
DISTILLED = "__rankzephyr-colbert-10000-sampled-100__msmarco-passage-train-judged.run"

SOURCES: Mapping[str, tuple[str, ...]] = {
    "triples.train.small.tsv": (),
    "bert_cat_ensemble_msmarcopassage_train_scores_ids.arrow": MARGINS,
    "margins.arrow": MARGINS,
    "logits.arrow": ("InRanker_msmarco.tsv", *PLACES),
    "passages.jsonl": (),
    "bm25.arrow": ("bm25.trec", "--teacher", "scores", *TAUGHT),
    "hard-negatives.arrow": ("train.jsonl",),
    "judged.arrow": ("judged.qrels.tsv", *PLACES),
    "graded.arrow": ("graded.qrels.tsv", *PLACES),
    "scored.arrow": ("teacher.trec", "--teacher", "scores", *TAUGHT),
    "silver.arrow": ("teacher.trec", "--teacher", "order", *PLACES),
    "rank-distillm.arrow": (DISTILLED, *PLACES),
    "orders.arrow": (DISTILLED, *TAUGHT),
    "permutations.arrow": ("marco-train-10k.jsonl", "--permutations", "marco-train-10k-gpt3.5.json"),
    "full-lists.arrow": ("rank_zephyr_training_data.jsonl",),
    "synthetic.arrow": ("qidpidtriples.train.full.2.tsv.gz", *PLACES),
    "pairs.arrow": ("pairs.jsonl",),
    "first: permutations.arrow": ("first_training_data.jsonl",),
    "rankvicuna: permutations.arrow": ("rank_zephyr_training_data.jsonl",),
    "interank: scored.arrow": ("teacher-0-2.trec", "--teacher", "scores", *TAUGHT),
    "rank1: thoughts.arrow": ("traces-of-one.jsonl",),
    "rank-k: thoughts.arrow": ("traces-of-lists.jsonl",),
    "reasonrank: thoughts.arrow": ("traces-with-answers.jsonl",),
}
"""What a first line trains on, for all recipes or for one -> what `rerank examples` makes it of; nothing: as it is."""

STARTS = (
    (("deberta",), "tiny-deberta"),
    (("electra",), "tiny-electra"),
    (("distilbert",), "tiny-distilbert"),
    (("t5",), "tiny-t5"),
    (("bert", "minilm"), "all-MiniLM-L6-v2"),
    (("llama", "qwen", "qwq", "zephyr", "mistral", "vicuna"), "tiny-llama"),
)
"""Words of a recipe's checkpoint -> the small one in its place."""

LARGE = "SmolLM2-135M-Instruct"
REAL_STARTS = {
    "inpars-light": "bert-mini-reranker",
    **dict.fromkeys(("duot5", "inranker-first-stage", "listt5", "monot5"), "flan-t5-small-titles"),
    **dict.fromkeys(("rank1", "rankllama", "yes-no"), LARGE),
}
"""Recipe -> a real one: of each kind of model some, as many as a CPU can do."""

TOKENS: Mapping[str, int] = {
    "cross-encoder": 64,
    "layer-distilled": 64,
    "set-encoder": 64,
    "target-token": 160,
    "duo-token": 160,
    "score-head": 96,
    "fusion-in-decoder": 64,
    "listwise": 1024,
    "reasoner": 1024,
    "passage-alignment": 256,
    "passage-embedding": 1024,
    "dense": 48,
    "splade": 48,
    "colbert": 48,
}
"""Kind of student -> its max_tokens."""

SMALL = {
    "student.options.query_tokens": 16,
    "student.options.document_tokens": 40,
    "student.options.dtype": "float32",
    "student.lora.quantize": "",
    "objective.options.rollouts": 2,
    "schedule.accumulate": 1,
    "schedule.warmup": 2,
    "schedule.dtype": "float32",
}
"""What is smaller wherever a recipe says it."""

NEW_TOKENS = {"grpo": 16, "sft": 128}
TEACHERS = {"layer-distilled": "ms-marco-MiniLM-L12-v2", "dense": "all-MiniLM-L6-v2"}
ENCODER = "all-MiniLM-L6-v2"
SAMPLE, LISTS = 6, 2


@dataclass(frozen=True)
class Plan:
    """How a recipe is tried.

    Args:
        name: of the recipe.
        examples: what its first line trains on.
        source: what `rerank examples` makes that of; nothing: the file is trained on as it is.
        start: the small checkpoint, or the recipe whose output is gone on from.
        changes: what --set says, beside the log of every step.
    """

    name: str
    examples: str
    source: tuple[str, ...]
    start: str
    changes: Mapping[str, Any]


def text_of(name: str) -> str:
    """The file of a recipe that ships."""
    return (files("rerank") / "catalog" / "training" / f"{name}.toml").read_text(encoding="utf-8")


def words_of(name: str) -> dict[str, str]:
    """The options of the command in a recipe's first line."""
    words = shlex.split(text_of(name).partition("\n")[0].removeprefix("# rerank train "))[1:]
    return dict(zip(words[::2], words[1::2], strict=True))


def plan_of(name: str) -> Plan:
    """The plan of a recipe that ships.

    Raises:
        LookupError: saying which table of this script lacks it.
    """
    recipe, said = find(name), words_of(name)
    examples = said["--examples"]
    source = SOURCES.get(f"{name}: {examples}", SOURCES.get(examples))
    if source is None:
        raise LookupError(f"{name}: SOURCES does not say what {examples} is made of")
    start = _start(name, recipe, said)
    return Plan(name, examples, source, start, _changes(name, recipe, large=start == LARGE))


def _start(name: str, recipe: Recipe, said: Mapping[str, str]) -> str:
    if "--model" in said:
        writers = [other for other in names() if other != name and words_of(other)["--output"] == said["--model"]]
        return min(writers, key=lambda other: other != name.replace("second", "first"))
    if name in REAL_STARTS:
        return REAL_STARTS[name]
    model = recipe.student.model.lower()
    found = next((small for words, small in STARTS if any(word in model for word in words)), None)
    if found is None:
        raise LookupError(f"{name}: STARTS has no small checkpoint in the place of {recipe.student.model}")
    return found


def _changes(name: str, recipe: Recipe, *, large: bool) -> dict[str, Any]:
    """Smaller values for what the recipe says, and for nothing else."""
    if recipe.student.kind not in TOKENS:
        raise LookupError(f"{name}: TOKENS has no length for a {recipe.student.kind}")
    said = {path for path, value in _paths(asdict(recipe)) if value is not None}
    changes = {path: value for path, value in SMALL.items() if path in said}
    changes |= {"schedule.lists": 1 if large else LISTS}
    if "student.options.max_tokens" in said:
        changes["student.options.max_tokens"] = TOKENS[recipe.student.kind]
    if "student.options.new_tokens" in said:
        changes["student.options.new_tokens"] = NEW_TOKENS[recipe.objective.loss]
    if "student.options.encoder" in said:
        changes["student.options.encoder"] = ENCODER
    if "student.options.teacher" in said:
        changes["student.options.teacher"] = TEACHERS[recipe.student.kind]
    if (recipe.schedule.sample or 0) > (most := 2 if large else SAMPLE):
        changes["schedule.sample"] = most
    return changes


def _paths(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in values.items():
        inner = isinstance(value, Mapping)
        found += _paths(value, f"{above}{key}.") if inner else [(f"{above}{key}", value)]
    return found
