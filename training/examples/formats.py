"""Every format by its name, which one a file is of, and the stream of its examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank.datasets import Dataset
from rerank.errors import InputError
from rerank.registry import unknown
from training.examples import jsonl, judged, permutations, reasonrank, tables, traces
from training.examples.arrow import read_arrow, write_arrow
from training.examples.joined import join
from training.examples.record import BadExample, Example
from training.examples.records import records
from training.examples.stream import Examples, Read
from training.examples.texts import Collection

__all__ = ["FORMATS", "Format", "check_whole", "guess", "read_examples", "write_examples"]


@dataclass(frozen=True)
class Format:
    """How examples may be written down.

    Args:
        summary: what it is, for lists.
        begin: (path, **options) begins reading.
        takes: options of `read_examples` that it heeds.
        wants: those of them that it cannot do without.
        by_ids: it names texts by ids, and wants `dataset`, or `collection` and `queries`.
    """

    summary: str
    begin: Callable[..., Iterable[Any]]
    takes: frozenset[str] = frozenset()
    wants: frozenset[str] = frozenset()
    by_ids: bool = False


def _qrels(path: str | Path) -> Iterable[Any]:
    return judged.judged(judged.Judgments(path))


def _run(path: str | Path, qrels: str | Path | None = None, **options: Any) -> Iterable[Any]:
    return judged.ranked(path, None if qrels is None else judged.Judgments(qrels), **options)


def _rank_distillm(path: str | Path, **options: Any) -> Iterable[Any]:
    return _run(path, teacher="order", **options)


def _of_dataset(name: str | Path, split: str | None = None) -> Read:
    import ir_datasets

    dataset = Dataset.load(name, split)
    collection = Collection.of_dataset(dataset)
    if dataset.name in ir_datasets.registry and ir_datasets.load(dataset.name).has("docpairs"):
        return join(judged.pairs_of_dataset(dataset.name), collection)
    if not dataset.qrels:
        raise InputError(f"dataset {dataset.name!r} has no judgments, and so no examples; name a split that has")
    return join(judged.judged(judged.of_dataset(dataset)), collection)


FORMATS: Mapping[str, Format] = {
    "arrow": Format("a folder that `rerank examples` wrote", read_arrow),
    "jsonl": Format("our own lines: the fields of an example by their names", jsonl.own),
    "dataset": Format("a BEIR folder, a dataset's name or an ir_datasets id: its qrels, or its training pairs",
                      _of_dataset, frozenset({"split"})),
    "msmarco-triples": Format("MS MARCO's triples.train.*.tsv: query, relevant, irrelevant text", tables.triples),
    "msmarco-id-triples": Format("MS MARCO's qidpidtriples.*.tsv: the same by ids", tables.id_triples, by_ids=True),
    "margin-mse": Format("a teacher's two scores and three ids a line", tables.margins, by_ids=True),
    "inranker": Format("InRanker's JSONL: a document and a teacher's logits of true and false", jsonl.inranker),
    "inranker-ids": Format("InRanker_msmarco.tsv: two logits and two ids a line", tables.logits, by_ids=True),
    "qrels": Format("judgments: MS MARCO's qrels.train.tsv, TREC's or BEIR's", _qrels, by_ids=True),
    "run": Format("a TREC run, with qrels, or a teacher's", _run, frozenset({"qrels", "teacher", "cutoff"}),
                  by_ids=True),
    "rank-distillm": Format("a TREC run in a teacher's order, as RankDistiLLM's", _rank_distillm,
                            frozenset({"qrels", "cutoff"}), by_ids=True),
    "sentence-transformers": Format("JSONL of sentence-transformers' columns", jsonl.sentence_transformers),
    "tevatron": Format("tevatron's JSONL", jsonl.tevatron),
    "flagembedding": Format("FlagEmbedding's JSONL", jsonl.flagembedding),
    "rankgpt": Format("RankGPT's JSONL and its file of permutations", permutations.rankgpt,
                      frozenset({"permutations"}), frozenset({"permutations"})),
    "rankzephyr": Format("RankVicuna's, RankZephyr's and FIRST's conversations: JSONL or a JSON list",
                         traces.llama_factory),
    "llama-factory": Format("LLaMA-Factory's alpaca or sharegpt records of Rank1, Rank-K, ReasonRank or RankZephyr",
                            traces.llama_factory),
    "reasonrank": Format("ReasonRank's training_data_all.jsonl, beside its id_query and id_doc", reasonrank.reasonrank),
    "reasonrank-rl": Format("ReasonRank's rows for reinforcement learning: verl's Parquet, or JSON",
                            reasonrank.reasonrank_rl),
}  # fmt: skip

NAMES = (
    (r"qidpidtriples\..*", "msmarco-id-triples"),
    (r"triples\..*", "msmarco-triples"),
    (r".*scores_ids\.tsv", "margin-mse"),
    (r"InRanker_.*\.tsv", "inranker-ids"),
    (r"(.*\.)?qrels\..*|qrels", "qrels"),
    (r"__.*__.*\.run", "rank-distillm"),
    (r".*\.(run|trec)", "run"),
)
"""Names under which files are published -> their format."""

KEYS = (
    ({"documents"}, "jsonl"),
    ({"true_logit", "false_logit"}, "inranker"),
    ({"retrieved_passages"}, "rankgpt"),
    ({"positive_passages"}, "tevatron"),
    ({"reward_model", "initial_list"}, "reasonrank-rl"),
    ({"initial_list", "final_list", "reasoning"}, "reasonrank"),
    ({"instruction", "output"}, "llama-factory"),
    ({"messages"}, "llama-factory"),
    ({"conversations"}, "rankzephyr"),
    ({"pos", "neg"}, "flagembedding"),
)
"""What the first record of a JSON or Parquet file has -> its format; any other is sentence-transformers'."""


def guess(source: str | Path) -> str:
    """The format of a source: a folder, a file by the name under which it is published or by its first line, a dataset.

    Raises:
        InputError: when the file's name says nothing; names the formats.
    """
    path = Path(source)
    if path.is_dir():
        return "arrow" if (path / "state.json").exists() else "dataset"
    if not path.exists():
        return "dataset"
    name = path.name.removesuffix(".gz")
    for pattern, format in NAMES:
        if re.fullmatch(pattern, name):
            return format
    if name.endswith((".jsonl", ".json", ".parquet")):
        values = next(records(path), ("", {}))[1]
        keys = set() if isinstance(values, BadExample) else set(values)
        return next((format for wanted, format in KEYS if wanted <= keys), "sentence-transformers")
    raise InputError(f"the name of {source} does not say its format; give one of {', '.join(FORMATS)}")


def check_whole(source: str | Path) -> None:
    """See that a source has all that a training run reads: its texts, and a teacher's answers, in one place.

    Raises:
        InputError: with the command that makes a folder of it.
    """
    name = guess(source)
    chosen = FORMATS[name]
    if not (chosen.by_ids or chosen.wants):
        return
    what = "names its texts by ids" if chosen.by_ids else f"needs {', '.join(sorted(chosen.wants))}"
    with_what = "--collection FILE --queries FILE" if chosen.by_ids else "--permutations FILE"
    with_what += " --qrels FILE" if name == "run" else ""
    raise InputError(
        f"{source} is in the format {name!r}, which {what}; make examples of it first, and train on those: "
        f"rerank examples {source} {with_what} --output examples"
    )


def read_examples(
    source: str | Path,
    format: str | None = None,
    *,
    dataset: str | Path | None = None,
    split: str | None = None,
    collection: str | Path | None = None,
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    permutations: str | Path | None = None,
    teacher: str | None = None,
    cutoff: int | None = None,
    needs: Iterable[str] = (),
    max_documents: int | None = None,
    strict: bool = False,
) -> Examples:
    """The examples of a file, a folder or a dataset, as a stream that holds one of them at a time.

    Args:
        source: the file or folder; for the format "dataset" the name of one.
        format: of `FORMATS`; guessed when it is None (`guess`).
        dataset, split: where the texts are, for formats that name them by ids; `split` alone goes with "dataset".
        collection, queries: the same as two files, MS MARCO's `collection.tsv` and `queries.train.tsv`.
        qrels: of a run: gives relevance.
        permutations: RankGPT's file of answers.
        teacher: of a run: its "scores" or its "order" are a teacher's.
        cutoff: of a run: its best so many candidates.
        needs: kinds of labels (`training.examples.LABELS`) without which an example is refused.
        max_documents: an example with more is refused.
        strict: the first bad example is an error, in place of being counted and left out.

    Raises:
        UnknownName: when there is no such format.
        InputError: when the format cannot be guessed, an option is missing or of no use to it.
        FileError: when a file is missing; while reading, when nothing in it can be used.
    """
    name = format or guess(source)
    if name not in FORMATS:
        raise unknown("format of examples", name, FORMATS)
    chosen = FORMATS[name]
    options: dict[str, Any] = {
        "qrels": qrels,
        "permutations": permutations,
        "teacher": teacher,
        "cutoff": cutoff,
        "split": split,
    }
    places: dict[str, Any] = {"dataset": dataset, "collection": collection, "queries": queries}
    given = {option: value for option, value in options.items() if value is not None}
    texts = {option: value for option, value in places.items() if value is not None}
    if chosen.by_ids and dataset is not None:
        texts |= {"split": given.pop("split", None)}
    _check(name, chosen, given, texts)
    where = _collection(name, **texts) if chosen.by_ids else None

    def read() -> Iterable[Any]:
        begun = chosen.begin(source, **given)
        return begun if where is None else join(begun, where)

    return Examples(read, needs=needs, max_documents=max_documents, strict=strict, source=str(source))


def write_examples(examples: Iterable[Example], place: str | Path) -> int:
    """Write examples: as JSON lines when the name ends in `.jsonl` or `.jsonl.gz`, else as a folder of Arrow.

    Returns:
        How many were written.

    Raises:
        InputError: when there is no example.
        FileError: when it cannot be written.
    """
    lined = Path(place).name.removesuffix(".gz").endswith(".jsonl")
    return jsonl.write_jsonl(examples, place) if lined else write_arrow(examples, place)


def _said(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check(name: str, format: Format, given: Mapping[str, Any], texts: Mapping[str, Any]) -> None:
    useless = [option for option in given if option not in format.takes]
    useless += [] if format.by_ids else list(texts)
    if useless:
        takes = ", ".join(sorted(format.takes)) or "none"
        raise InputError(f"{useless[0]} is of no use to examples in the format {name!r}, which takes {takes}")
    if missing := format.wants - given.keys():
        raise InputError(f"examples in the format {name!r} need {', '.join(sorted(missing))}")


def _collection(
    name: str,
    dataset: str | Path | None = None,
    split: str | None = None,
    collection: str | Path | None = None,
    queries: str | Path | None = None,
) -> Collection:
    if (dataset is None) == (collection is None and queries is None) or (collection is None) != (queries is None):
        raise InputError(
            f"examples in the format {name!r} name their texts by ids; give either the dataset that holds them, or "
            "both collection and queries"
        )
    if collection is not None and queries is not None:
        return Collection.of_files(collection, queries)
    return Collection.of_dataset(Dataset.load(dataset or "", split))
