"""Queries that a language model writes for documents, and what keeps the good ones.

InPars (Bonifacio et al., 2022, https://arxiv.org/abs/2202.05144) shows a model three documents with a query each and
lets it write one for a fourth. Which are kept: the likeliest (InPars v1), those that a reranker scores highest (v2,
Jeronymo et al., 2023, https://arxiv.org/abs/2301.01820), or those whose document a ranker finds again (InPars-light,
Boytsov et al., 2023, https://arxiv.org/abs/2301.02998; `training.mining.Rules(consistent_within=3)`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from rerank.errors import InputError
from rerank.questions import Algorithm, Plan, Write, Written
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking
from training.examples.record import BadExample, Example
from training.examples.stream import Examples, Read

__all__ = ["best_scored", "write_queries", "writing"]

AT_ONCE = 256
"""Documents that queries are written for together."""


def write_queries(
    documents: Iterable[Document],
    writer: Reranker,
    *,
    each: int = 1,
    least_words: int = 3,
    most_words: int = 64,
    copied: bool = False,
    on_answer: Callable[[int, int], None] | None = None,
) -> Examples:
    """An example for each query written: the query, its document, relevance 1.

    Queries that are too short, too long, a part of their document, or written twice are refused and counted.

    Args:
        documents: what is written for, gone through once for each reading; those without a text are refused.
        writer: `Reranker(model, judge="writer", prompt="inpars", algorithm=writing)`: a judge that writes, with a
            prompt that shows the document; a journal keeps what was written.
        each: queries for each document; more than one differ only when the judge draws (a temperature above 0).
        least_words, most_words: of a query.
        copied: keep queries that stand in their document word for word.
        on_answer: called after every answer with (answered, asked so far) of the documents at work.

    Raises:
        InputError: when the judge writes nothing, or a number is below 1.
    """
    if Write not in writer.judge.answers:
        raise InputError(f"the judge of {writer.name} writes no text; give judge='writer'")
    if min(each, least_words) < 1 or most_words < least_words:
        raise InputError(f"each={each}, least_words={least_words}, most_words={most_words}; there is nothing to write")

    def read() -> Read:
        seen: set[str] = set()
        for chunk in _chunks(documents):
            good = [document for document in chunk if document.full_text.strip()]
            for document in chunk:
                if not document.full_text.strip():
                    yield BadExample(
                        "empty document", f"{document.doc_id!r} has no text", f"document {document.doc_id}"
                    )
            written: list[list[str]] = [[] for _ in good]
            plans = [_writing(document, each, texts) for document, texts in zip(good, written, strict=True)]
            writer.carry(plans, on_answer=on_answer)
            for document, texts in zip(good, written, strict=True):
                for number, text in enumerate(texts, start=1):
                    yield _checked(document, text, number, (least_words, most_words), copied, seen)

    return Examples(read, source="writing queries")


def best_scored(examples: Iterable[Example], scorer: Reranker, keep: int) -> Examples:
    """The queries whose documents score highest, best first.

    Args:
        examples: a query and its document each.
        scorer: a likelihood judge for InPars v1 (the mean log-probability of the query's tokens behind the document), a
            reranker for v2.
        keep: how many.

    Raises:
        InputError: when nothing would be kept.
    """
    if keep < 1:
        raise InputError(f"keep={keep} keeps no query; choose at least 1")

    def read() -> Iterator[Example]:
        given = list(examples)
        asked = [
            Ranking.unscored(Query(str(number), one.query), [Document("0", one.documents[0])])
            for number, one in enumerate(given)
        ]
        scores = [ranked[0].score for ranked in scorer.rerank(asked)]
        best = sorted(range(len(given)), key=lambda index: -(scores[index] or 0.0))
        yield from (given[index] for index in best[:keep])

    return Examples(read, source="the best queries")


def _writing(document: Document, each: int, texts: list[str]) -> Plan:
    """The prompt shows the document and no query; a query's id says whose bill it is."""
    query = Query(document.doc_id, "write a query")
    answers = yield [Write(query, (document,), draw=draw) for draw in range(each)]
    texts.extend(answer.text for answer in answers if isinstance(answer, Written))
    return Ranking.unscored(query, [document])


def _written_once(ranking: Ranking) -> Plan:
    """Write for every document of a list."""
    yield [Write(ranking.query, (document,)) for document in ranking.documents]
    return ranking


writing = Algorithm("writing", _written_once, asks=frozenset({Write}), exact=lambda count: 0)
"""For a reranker that is to write: it is asked by `write_queries`."""


def _checked(
    document: Document, text: str, number: int, words: tuple[int, int], copied: bool, seen: set[str]
) -> Example | BadExample:
    query, where = " ".join(text.split()), f"document {document.doc_id}, query {number}"
    count = len(query.split())
    if not words[0] <= count <= words[1]:
        return BadExample("query too short or too long", f"{count} words: {query[:60]!r}", where)
    if not copied and query.casefold() in " ".join(document.full_text.casefold().split()):
        return BadExample("query copied from its document", f"{query[:60]!r}", where)
    if query.casefold() in seen:
        return BadExample("query comes again", f"{query[:60]!r}", where)
    seen.add(query.casefold())
    return Example(
        query,
        (document.full_text,),
        relevance=(1.0,),
        query_id=f"{document.doc_id}-{number}",
        doc_ids=(document.doc_id,),
        where=where,
    )


def _chunks(documents: Iterable[Document]) -> Iterator[Sequence[Document]]:
    stream = iter(documents)
    while chunk := list(islice(stream, AT_ONCE)):
        yield chunk
