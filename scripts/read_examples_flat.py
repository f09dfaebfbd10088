"""Memory while examples are read from files of MS MARCO's names and layout, however large they are.

python scripts/read_examples_flat.py --megabytes 2000 --folder /tmp/marco

Writes `collection.tsv` (nine tenths of the size), `queries.train.tsv`, `qidpidtriples.train.full.2.tsv`,
`qrels.train.tsv` and `triples.train.small.tsv` with made-up words, seed 0, reads examples from all of them, and writes
the id triples as Arrow. Prints one JSON object: sizes, seconds, and by how many MB each step raised the peak of
resident memory over what the process held before it had read anything large.
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
from collections.abc import Iterable, Iterator
from pathlib import Path

from training.examples import Example, read_examples, write_arrow

WORDS = ["river", "bird", "stone", "cloud", "field", "house", "light", "sound", "paper", "sugar", "water", "metal"]
LENGTH = 55
"""Words of a passage, as MS MARCO's have on the average."""


def passages(count: int) -> Iterator[str]:
    """Made-up passages, the same each time."""
    draw = random.Random(0)
    several = [" ".join(draw.choices(WORDS, k=LENGTH)) for _ in range(1000)]
    for number in range(count):
        yield f"{several[number % len(several)]} {number}"


def write(folder: Path, megabytes: float) -> int:
    """The five files; gives how many passages there are."""
    size = len(next(passages(1))) + 8
    count = int(megabytes * 0.9e6 / size)
    triples = int(megabytes * 0.1e6 / (2 * size + 60))
    queries = max(triples // 2, 1)
    _lines(folder / "collection.tsv", (f"{number}\t{text}" for number, text in enumerate(passages(count))))
    _lines(folder / "queries.train.tsv", (f"{number}\twhat is {number}" for number in range(queries)))
    draw = random.Random(1)
    drawn = ((draw.randrange(queries), *draw.sample(range(count), 2)) for _ in range(triples))
    _lines(folder / "qidpidtriples.train.full.2.tsv", ("\t".join(map(str, one)) for one in drawn))
    _lines(folder / "qrels.train.tsv", (f"{query}\t0\t{query % count}\t1" for query in range(queries)))
    texts = zip(passages(triples), passages(triples), strict=True)
    pairs = (f"what is {number}\t{good}\t{bad} else" for number, (good, bad) in enumerate(texts))
    _lines(folder / "triples.train.small.tsv", pairs)
    return count


def read(folder: Path) -> dict[str, object]:
    """What was read, how long it took and how far the peak of memory rose, step by step."""
    places = {"collection": folder / "collection.tsv", "queries": folder / "queries.train.tsv"}
    steps = {
        "text triples": lambda: _count(read_examples(folder / "triples.train.small.tsv")),
        "id triples": lambda: _count(read_examples(folder / "qidpidtriples.train.full.2.tsv", **places)),
        "qrels": lambda: _count(read_examples(folder / "qrels.train.tsv", **places)),
        "id triples to Arrow": lambda: write_arrow(
            read_examples(folder / "qidpidtriples.train.full.2.tsv", **places), folder / "arrow"
        ),
    }
    found: dict[str, object] = {}
    for name, step in steps.items():
        before, began = peak(), time.perf_counter()
        examples = step()
        seconds = round(time.perf_counter() - began, 1)
        found[name] = {"examples": examples, "seconds": seconds, "peak raised by MB": round(peak() - before, 1)}
    return found


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
        sizes = {path.name: f"{path.stat().st_size / 1e6:,.1f} MB" for path in sorted(folder.glob("*.tsv"))}
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


def _count(examples: Iterable[Example]) -> int:
    return sum(1 for _ in examples)


if __name__ == "__main__":
    main()
