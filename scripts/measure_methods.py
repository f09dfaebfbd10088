"""What methods cost on real weights: a table of questions, rounds, tokens and PetaFLOP.

python scripts/measure_methods.py                       # every method that the three small checkpoints can be asked by
python scripts/measure_methods.py prp-heapsort icr      # these alone

Two questions of NovelEval with BM25's best eight passages, cut to 60 words each. SmolLM2-135M-Instruct is asked, a T5
where a method wants one, MiniLM-L12 as a cross-encoder. Tokens and rounds depend on the answers where an algorithm
does, so that another model has other figures of the same size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rerank import Dataset, Document, Ranking, Reranker, methods
from retrievers.bm25 import BM25

MODELS = {
    "causal": "SmolLM2-135M-Instruct",
    "encoder-decoder": "flan-t5-small-titles",
    "cross-encoder": "ms-marco-MiniLM-L12-v2",
}
QUESTIONS, PASSAGES, WORDS = 2, 8, 60
COLUMNS = ("questions", "rounds", "tokens computed", "tokens reused", "tokens written", "PFLOP")


def main(asked: list[str]) -> None:
    """Print the table, a row as it comes."""
    given = rankings()
    print(f"| method | model | {' | '.join(COLUMNS)} |")
    print(f"|{' --- |' * (len(COLUMNS) + 2)}", flush=True)
    for name in asked or methods.names():
        for kind in methods.find(name).wants:
            if kind in MODELS:
                print(f"| `{name}` | {MODELS[kind]} | {' | '.join(cost(name, MODELS[kind], given))} |", flush=True)
                break


def rankings() -> list[Ranking]:
    """Short passages, for a small machine."""
    dataset = Dataset.load("noveleval")
    retrieved = BM25.of(dataset).retrieve(dataset.queries[:QUESTIONS], PASSAGES)
    return [Ranking.unscored(ranking.query, [short(one) for one in ranking.documents]) for ranking in retrieved]


def short(document: Document) -> Document:
    """Its first words."""
    return Document(document.doc_id, " ".join(document.full_text.split()[:WORDS]))


def cost(name: str, model: str, given: list[Ranking]) -> Iterator[str]:
    """A question's share of the ledger."""
    with Reranker(name, model=model) as reranker:
        reranker.rerank(given)
    total = {key: value / len(given) for key, value in reranker.ledger.total.items()}
    for amount in ("questions", "rounds", "tokens_real", "tokens_reused", "tokens_generated"):
        yield f"{total.get(amount, 0):,.0f}"
    yield f"{total['flops'] / 1e15:.6f}"


if __name__ == "__main__":
    main(sys.argv[1:])
