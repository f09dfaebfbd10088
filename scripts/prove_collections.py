"""The figures by which a development collection proves itself: one command each, or all.

python scripts/prove_collections.py                       # all of them
python scripts/prove_collections.py scifact-bm25          # one; --list names them
python scripts/prove_collections.py dl19-runs --data DIR  # the collections are elsewhere

Each prints what was measured beside what is expected, and the command ends with 1 when one of them is further off than
it says. The collections stand in ../shared/data. BM25 is measured twice: by bm25s with the words that it makes itself
(and Snowball's stemmer), which is how the figures of the collections came about, and by ours, whose words are Lucene's.
noveleval-own writes NovelEval's own candidates as a run, from its judgments, and ranks them by BM25.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rerank import Dataset
from rerank.evaluate import evaluate
from rerank.io import read_run, write_run
from rerank.types import Candidate, Ranking
from retrievers.bm25 import BM25
from retrievers.dense import Dense

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class Proof(NamedTuple):
    """One figure: nDCG@10 of something, as expected and as measured."""

    what: str
    expected: float
    measured: float
    within: float

    @property
    def holds(self) -> bool:
        """Whether it is near enough."""
        return abs(self.measured - self.expected) <= self.within


def bm25(name: str, expected: float, ours: float, data: Path) -> Iterator[Proof]:
    """BM25 over a whole collection, k1 = 0.9 and b = 0.4."""
    dataset = Dataset.load(data / name)
    yield Proof(f"{name}: BM25, bm25s by itself", expected, _mean(dataset, peer(dataset, 20)), 0.0006)
    yield Proof(f"{name}: BM25", ours, _mean(dataset, BM25.of(dataset).retrieve(dataset.queries, 20)), 0.0001)


def own(data: Path) -> Iterator[Proof]:
    """NovelEval's own candidates: the 20 documents that were judged for each question, ranked by BM25."""
    dataset = Dataset.load(data / "noveleval")
    ours = BM25.of(dataset).retrieve(dataset.queries, 420)
    for what, found, expected in (
        (", bm25s by itself", peer(dataset, 420), 0.6978),
        ("", ours, 0.7068),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "own.trec"
            write_run(path, [judged(dataset, ranking) for ranking in found], "own")
            ranked = dataset.rankings(read_run(path))
        yield Proof(f"noveleval, its own 20: BM25{what}", expected, _mean(dataset, ranked), 0.0001)


def peer(dataset: Dataset, cutoff: int) -> list[Ranking]:
    """What bm25s finds by itself."""
    import bm25s
    import Stemmer

    documents = list(dataset.documents())
    words = {"stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "show_progress": False}
    index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    index.index(bm25s.tokenize([document.full_text for document in documents], **words), show_progress=False)
    asked = bm25s.tokenize([query.text for query in dataset.queries], **words)
    places, scores = index.retrieve(asked, k=cutoff, show_progress=False)
    return [
        Ranking(
            query,
            tuple(Candidate(documents[place], float(score)) for place, score in zip(row, values, strict=True)),
        )
        for query, row, values in zip(dataset.queries, places, scores, strict=True)
    ]


def judged(dataset: Dataset, ranking: Ranking) -> Ranking:
    """The judged documents in the order in which they were found; those that share no term with the question below."""
    documents = dataset.look_up(dataset.qrels[ranking.query.query_id])
    kept = [candidate for candidate in ranking if candidate.document.doc_id in documents]
    left = documents.keys() - {candidate.document.doc_id for candidate in kept}
    return Ranking(ranking.query, (*kept, *(Candidate(documents[doc_id]) for doc_id in sorted(left))))


def dense(data: Path) -> Iterator[Proof]:
    """all-MiniLM-L6-v2 on SciFact, every vector compared."""
    dataset = Dataset.load(data / "scifact")
    found = Dense.of(dataset, model=ENCODER).retrieve(dataset.queries, 100)
    yield Proof("scifact: all-MiniLM-L6-v2, dense", 0.6451, _mean(dataset, found), 0.0005)


RUNS: Mapping[str, float] = {
    "bm25": 0.5058,
    "bm25_rm3": 0.5216,
    "d_bert_kd_tasb": 0.7210,
    "open_ai_ada2": 0.7035,
    "rep_llama": 0.7384,
    "splade_p_p_ensemble_distil": 0.7308,
}
"""First stages of TREC DL 2019."""


def runs(data: Path) -> Iterator[Proof]:
    """The six runs of TREC DL 2019."""
    dataset = Dataset.load(data / "trec-dl19")
    for name, expected in RUNS.items():
        run = read_run(data / "trec-dl19" / "runs" / f"{name}.trec")
        measured = evaluate(dataset.qrels, run).means["nDCG@10"]
        yield Proof(f"trec-dl19: {name}", expected, measured, 0.00005)


PROOFS: Mapping[str, Callable[[Path], Iterator[Proof]]] = {
    "scifact-bm25": lambda data: bm25("scifact", 0.676, 0.6777, data),
    "noveleval-bm25": lambda data: bm25("noveleval", 0.681, 0.6901, data),
    "cranfield-bm25": lambda data: bm25("cranfield", 0.411, 0.4113, data),
    "noveleval-own": own,
    "scifact-dense": dense,
    "dl19-runs": runs,
}


def _mean(dataset: Dataset, rankings: Sequence[Ranking]) -> float:
    return evaluate(dataset.qrels, {ranking.query.query_id: ranking for ranking in rankings}).means["nDCG@10"]


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", nargs="*", choices=[[], *PROOFS], metavar="PROOF", help=", ".join(PROOFS))
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the collections")
    parser.add_argument("--list", action="store_true", help="name the proofs, and end")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(PROOFS))
        return 0
    wrong = 0
    for name in asked.proof or PROOFS:
        for proof in PROOFS[name](asked.data):
            wrong += not proof.holds
            verdict = "" if proof.holds else f"  FURTHER OFF THAN {proof.within:g}"
            print(f"{proof.what:45} {proof.measured:.4f}  expected {proof.expected:.4f}{verdict}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
