"""What of a ranking a language model is shown: as much as fits, nothing twice, in an order that it reads well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rerank.errors import InputError
from rerank.integrations.chunks import Count, count_words, whole_id
from rerank.registry import unknown
from rerank.rerankers.diversity import MMR, overlap, words
from rerank.types import Document, Ranking

__all__ = ["ORDERS", "Context", "pack"]

SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Context:
    """What is shown.

    Args:
        documents: in the order shown.
        text: of all of them, numbered.
        tokens: of that text.
        repeated: how many were left out because they repeat one that is shown.
        over_budget: how many were left out because they did not fit beside the others.
    """

    documents: tuple[Document, ...]
    text: str
    tokens: int
    repeated: int
    over_budget: int


def _ends(documents: Sequence[Document]) -> list[Document]:
    return [*documents[::2], *reversed(documents[1::2])]


def _by_source(documents: Sequence[Document]) -> list[Document]:
    """Documents as the best chunk of each stands, chunks as they follow each other in it."""
    wholes = list(dict.fromkeys(whole_id(document.doc_id) for document in documents))
    return sorted(documents, key=lambda one: (wholes.index(whole_id(one.doc_id)), _number(one.doc_id)))


ORDERS: Mapping[str, Callable[[Sequence[Document]], list[Document]]] = {
    "best-first": list,
    "best-last": lambda documents: list(reversed(documents)),
    "ends": _ends,
    "source": _by_source,
}
"""How what was chosen is shown: the best in front; next to the question; the best at both ends and the weakest in the
middle, which models read least (Liu et al., 2023, https://arxiv.org/abs/2307.03172); or chunks of one document
together, in their order."""


def pack(
    ranking: Ranking,
    *,
    budget: int,
    count: Count = count_words,
    order: str = "best-first",
    repeats: float = 0.8,
    mmr: float | None = None,
) -> Context:
    """Choose from a ranking, best first, what fits into a budget of tokens.

    A document that does not fit is passed over for a smaller one below it; none is cut. Both kinds of what is left out
    are counted.

    Args:
        ranking: best first.
        budget: the most tokens of the text.
        count: tokens of a text, by the model's tokenizer; words by default.
        order: a name in `ORDERS`.
        repeats: the share of words (Jaccard) from which a document repeats one that is chosen already; above 1 shows
            everything.
        mmr: the weight of relevance against novelty, from 0 to 1, when documents are chosen by maximal marginal
            relevance; None takes them as they are ranked. It wants scores.

    Raises:
        UnknownName: when there is no such order.
        InputError: when a number makes no sense, or there are no scores for `mmr`.
    """
    if order not in ORDERS:
        raise unknown("order of a context", order, ORDERS)
    if budget < 1 or not repeats > 0:
        raise InputError(f"budget={budget} and repeats={repeats}; both are above 0")
    if mmr is not None:
        [ranking] = MMR(mmr).rerank([ranking])
    chosen: list[Document] = []
    repeated = over = 0
    for document in ranking.documents:
        if any(overlap(words(document), words(other)) >= repeats for other in chosen):
            repeated += 1
        elif count(_text([*chosen, document])) > budget:
            over += 1
        else:
            chosen.append(document)
    shown = ORDERS[order](chosen)
    text = _text(shown)
    return Context(tuple(shown), text, count(text) if shown else 0, repeated, over)


def _text(documents: Sequence[Document]) -> str:
    """As the prompt `answer-from-passages` shows them."""
    return SEPARATOR.join(f"[{number}] {document.full_text}" for number, document in enumerate(documents, start=1))


def _number(doc_id: str) -> int:
    number = doc_id.rpartition("#")[2]
    return int(number) if number.isdigit() else 0
