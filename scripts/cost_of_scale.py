"""Index and search synthetic collections of growing size: what a document costs, and how much memory there was.

python scripts/cost_of_scale.py                                     # BM25 and dense, 20,000 and 200,000 documents
python scripts/cost_of_scale.py --retriever bm25 --documents 1000   # one of them

Each index is built and searched in a process of its own, so that its peak is its own. Documents are 24 words, each one
token of the model's, drawn by Zipf's law with a seed; a query is 4 words of one document. What was measured goes to
--results, a line each, and what stands there already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

LENGTH, QUERIES, CUTOFF, BLOCK = 24, 200, 10, 10_000


def words_of(model: str) -> list[str]:
    """Words that are one token of a model's."""
    from tokenizers import Tokenizer

    from rerank import checkpoints

    vocabulary = Tokenizer.from_file(str(checkpoints.fetch(model) / "tokenizer.json")).get_vocab()
    return sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 3)


def documents(count: int, words: list[str], seed: int) -> Iterator[Any]:
    """Made as they are asked for; the first are the same whatever the count."""
    from rerank.types import Document

    for block in range(0, count, BLOCK):
        drawn = np.random.default_rng([seed, block]).zipf(1.2, (BLOCK, LENGTH)) % len(words)
        for number, places in enumerate(drawn[: count - block], start=block):
            yield Document(f"d{number}", " ".join(words[place] for place in places))


def measured(retriever: str, count: int, model: str, seed: int) -> dict[str, Any]:
    """Build, open and search one index in this process."""
    from rerank import registry
    from rerank.types import Query

    options, words = {} if retriever == "bm25" else {"model": model}, words_of(model)
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        began = time.perf_counter()
        built = registry.load("retriever", retriever).build(
            documents(count, words, seed), index, progress=False, **options
        )
        building = time.perf_counter() - began
        after_build = _peak()
        queries = [Query(each.doc_id, " ".join(each.text.split()[:4])) for each in documents(QUERIES, words, seed)]
        built.retrieve(queries[:1], CUTOFF)  # the model is loaded, code compiled
        began = time.perf_counter()
        rankings = built.retrieve(queries, CUTOFF)
        searching = time.perf_counter() - began
        size = sum(path.stat().st_size for path in index.iterdir())
    assert all(len(ranking) == CUTOFF for ranking in rankings)
    return {
        "retriever": retriever, "documents": count, "model": options.get("model"), "seed": seed,
        "build_seconds": round(building, 2), "microseconds_a_document": round(1e6 * building / count, 1),
        "milliseconds_a_query": round(1e3 * searching / QUERIES, 2), "index_bytes": size,
        "peak_bytes_build": after_build, "peak_bytes": _peak(),
    }  # fmt: skip


def main() -> None:
    """Measure what is not measured yet, and print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--retriever", choices=("bm25", "dense"), action="append")
    parser.add_argument("--documents", type=int, action="append")
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=Path("cost_of_scale.jsonl"))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    retrievers, counts = asked.retriever or ["bm25", "dense"], asked.documents or [20_000, 200_000]
    if asked.alone:
        print(json.dumps(measured(retrievers[0], counts[0], asked.model, asked.seed)))
        return
    for retriever in retrievers:
        for count in counts:
            line = _known(asked.results, retriever, count) or _in_a_process(retriever, count, asked)
            print(json.dumps(line), flush=True)


def _in_a_process(retriever: str, count: int, asked: argparse.Namespace) -> dict[str, Any]:
    call = [sys.executable, __file__, "--alone", "--retriever", retriever, "--documents", str(count)]
    call += ["--model", asked.model, "--seed", str(asked.seed)]
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True)
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    with asked.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return line


def _known(results: Path, retriever: str, count: int) -> dict[str, Any] | None:
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    same = [line for line in map(json.loads, lines) if (line["retriever"], line["documents"]) == (retriever, count)]
    return same[-1] if same else None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
