"""Memory and speed while examples are read from files of MS MARCO's names and layout, however large they are.

python scripts/read_examples_flat.py --megabytes 2000 --folder /tmp/marco

Writes, with made-up words and seed 0, `collection.tsv`, `triples.train.small.tsv` and hard negatives as tevatron has
them (`train.jsonl`), which make up the size; and files of ids, 150 lines to a MB: `qidpidtriples.train.full.2.tsv`,
`bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv` (MarginMSE), `qrels.train.tsv` with its `queries.train.tsv`, and
runs of 100 candidates a query, a first stage's and RankDistiLLM's. Reads examples from all of them, and writes the id
triples as Arrow. Prints one JSON object: sizes, and for each reader its examples, seconds, MB of text a second, and by
how many MB it raised the peak of resident memory over what the process held before it had read anything large.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from training.examples import Example, IndexedTexts, read_examples, write_arrow

WORDS = ["river", "bird", "stone", "cloud", "field", "house", "light", "sound", "paper", "sugar", "water", "metal"]
LENGTH = 55
"""Words of a passage, as MS MARCO's have on the average."""

DEPTH = 100
"""Candidates of a query in a run."""

MARGINS = "bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv"
DISTILLED = "__colbert-10000-sampled-100__msmarco-passage-train-judged.run"


def passages(count: int) -> Iterator[str]:
    """Made-up passages, the same each time."""
    draw = random.Random(0)
    several = [" ".join(draw.choices(WORDS, k=LENGTH)) for _ in range(1000)]
    for number in range(count):
        yield f"{several[number % len(several)]} {number}"


def write(folder: Path, megabytes: float) -> int:
    """All the files; gives how many passages there are."""
    size = len(next(passages(1))) + 8
    count, triples = int(megabytes * 0.45e6 / size), int(megabytes * 0.3e6 / (2 * size + 60))
    lists, named = int(megabytes * 0.2e6 / (8 * size + 400)), max(int(megabytes * 150), 2 * DEPTH)
    queries = max(named // 2, 1)
    _lines(folder / "collection.tsv", (f"{number}\t{text}" for number, text in enumerate(passages(count))))
    _lines(folder / "queries.train.tsv", (f"{number}\twhat is {number}" for number in range(queries)))
    texts = zip(passages(triples), passages(triples), strict=True)
    pairs = (f"what is {number}\t{good}\t{bad} else" for number, (good, bad) in enumerate(texts))
    _lines(folder / "triples.train.small.tsv", pairs)
    _lines(folder / "train.jsonl", _hard_negatives(lists))
    _lines(
        folder / "qidpidtriples.train.full.2.tsv", ("\t".join(map(str, one)) for one in _drawn(queries, count, named))
    )
    margins = (
        f"{one % 9}.25\t{-one % 7}.5\t{query}\t{one}\t{two}" for query, one, two in _drawn(queries, count, named)
    )
    _lines(folder / MARGINS, margins)
    _lines(folder / "qrels.train.tsv", (f"{query}\t0\t{query % count}\t1" for query in range(queries)))
    for name in ("bm25.trec", DISTILLED):
        _lines(folder / name, _run(named // DEPTH, count))
    return count


def _drawn(queries: int, count: int, lines: int) -> Iterator[tuple[int, int, int]]:
    draw = random.Random(1)
    for _ in range(lines):
        good, bad = draw.sample(range(count), 2)
        yield draw.randrange(queries), good, bad


def _hard_negatives(lists: int) -> Iterator[str]:
    """A relevant passage and seven that are not, a line."""
    text = passages(8 * lists)
    for number in range(lists):
        shown = [{"docid": str(8 * number + at), "title": "-", "text": next(text)} for at in range(8)]
        values = {"query_id": str(number), "query": f"what is {number}", "positive_passages": shown[:1]}
        yield json.dumps(values | {"negative_passages": shown[1:]})


def _run(queries: int, count: int) -> Iterator[str]:
    """The judged passage of a query stands among its candidates."""
    draw = random.Random(2)
    for query in range(queries):
        found = dict.fromkeys([query % count, *draw.sample(range(count), DEPTH - 1)])
        for rank, document in enumerate(found, start=1):
            yield f"{query} Q0 {document} {rank} {DEPTH - rank} run"


def read(folder: Path) -> dict[str, object]:
    """What was read, how long it took and how far the peak of memory rose, step by step."""
    places = {"collection": folder / "collection.tsv", "queries": folder / "queries.train.tsv"}
    ids, qrels = folder / "qidpidtriples.train.full.2.tsv", folder / "qrels.train.tsv"
    steps: dict[str, Callable[[], tuple[int, int]]] = {
        "text triples": lambda: _read(read_examples(folder / "triples.train.small.tsv")),
        "hard negatives": lambda: _read(read_examples(folder / "train.jsonl")),
        "index of the collection": lambda: _indexed(folder / "collection.tsv"),
        "id triples": lambda: _read(read_examples(ids, **places)),
        "MarginMSE": lambda: _read(read_examples(folder / MARGINS, **places)),
        "qrels": lambda: _read(read_examples(qrels, **places)),
        "run and qrels": lambda: _read(read_examples(folder / "bm25.trec", qrels=qrels, **places)),
        "RankDistiLLM": lambda: _read(read_examples(folder / DISTILLED, **places)),
        "id triples to Arrow": lambda: _written(read_examples(ids, **places), folder / "arrow"),
    }
    found: dict[str, object] = {}
    for name, step in steps.items():
        before, began = peak(), time.perf_counter()
        examples, characters = step()
        seconds = time.perf_counter() - began
        found[name] = {
            "examples": examples,
            "seconds": round(seconds, 1),
            "MB of text a second": round(characters / 1e6 / seconds, 1),
            "peak raised by MB": round(peak() - before, 1),
        }
    return found


def _read(examples: Iterable[Example]) -> tuple[int, int]:
    """How many examples, and how many characters they have."""
    count = characters = 0
    for count, example in enumerate(examples, start=1):  # noqa: B007
        characters += len(example.query) + sum(map(len, example.documents))
    return count, characters


def _indexed(path: Path) -> tuple[int, int]:
    return len(IndexedTexts(path)), path.stat().st_size


def _written(examples: Iterable[Example], folder: Path) -> tuple[int, int]:
    written = write_arrow(examples, folder)
    return written, sum(path.stat().st_size for path in folder.iterdir())


def peak() -> float:
    """The most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=2000)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written; removed afterwards")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["RERANK_CACHE"] = str(folder / "cache")
    try:
        small = folder / "small"
        small.mkdir()
        write(small, 0.2)
        read(small)  # what is imported and warmed up counts as held before
        count = write(folder, asked.megabytes)
        sizes = {
            path.name: f"{path.stat().st_size / 1e6:,.1f} MB" for path in sorted(folder.iterdir()) if path.is_file()
        }
        print(
            json.dumps(
                {"passages": count, "files": sizes, "peak before MB": round(peak(), 1), **read(folder)}, indent=1
            )
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
