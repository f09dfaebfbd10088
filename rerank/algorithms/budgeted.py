"""Two stages that ask as much as a budget pays for: who is relevant at all, then neighbours against each other.

EcoRank (Rashid et al., 2024, https://arxiv.org/abs/2402.10866) spends half of a budget on yes-or-no questions to a
better model, and the other half on comparisons by a cheaper one. Each stage is an algorithm of its own here, for each
has its model and its prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import cycle, islice

from rerank.algorithms.answers import probability
from rerank.algorithms.windows import wavefront, windows
from rerank.errors import InputError
from rerank.questions import Algorithm, Compare, Grade, Graded, Plan
from rerank.types import Document, Query, Ranking

__all__ = ["budgeted_pairs", "triage"]

PROMPT_WORDS = {"grade": 16, "compare": 27}
"""What a question and its answer cost beside its texts, as the authors count: 15 + 1 and 25 + 2 words."""


def _triage(ranking: Ranking, *, words: int = 2000, questions: int = 0, threshold: float = math.log(0.5)) -> Plan:
    """Ask about documents from the top while the budget lasts: a yes goes to the head, a no to the tail.

    Between them stand the documents that nobody asked about; each of the three parts keeps its order. One round. The
    first stage of EcoRank (https://arxiv.org/abs/2402.10866), whose authors spend 2,000 words of 4,000 on it.

    Args:
        words: of queries, documents and prompts (16 each) that may be asked about; 0: any number.
        questions: that may be asked; 0: any number.
        threshold: the least score of a yes; log ½ by default, half of the probability of a judge with two targets.

    Raises:
        InputError: when a limit is negative, or there is none.
    """
    _check(words, questions)
    costs = [_cost(ranking.query, [document], "grade") for document in ranking.documents]
    asked = _affordable(costs, words, questions) if len(costs) > 1 else 0
    questions_now = [Grade(ranking.query, document) for document in ranking.documents[:asked]]
    answers = (yield [*questions_now]) if questions_now else []
    scores = [answer.score for answer in answers if isinstance(answer, Graded)]
    first = [document for document, score in zip(ranking.documents, scores, strict=False) if score >= threshold]
    last = [document for document, score in zip(ranking.documents, scores, strict=False) if not score >= threshold]
    return Ranking.by_order(ranking, [*first, *ranking.documents[asked:], *last])


def _budgeted_pairs(ranking: Ranking, *, words: int = 6000, questions: int = 0) -> Plan:
    """Let the better of two neighbours rise from the tail to the head, as often as the budget pays for.

    The second stage of EcoRank (https://arxiv.org/abs/2402.10866), whose authors spend on a model of a third of the
    price what 2,000 words of the better one cost. Each pair is asked in one order, the lower document first, and
    changes places when the lower one wins. What is left for the last pass goes to the top of the list. What pairs cost
    is counted on the list as it comes in. A pass follows the one before it two places behind.

    Args:
        words: of queries, documents and prompts (27 each) that may be compared; 0: any number.
        questions: that may be asked; 0: any number.

    Raises:
        InputError: when a limit is negative, or there is none.
    """
    _check(words, questions)
    order = list(ranking.documents)
    pairs = max(0, len(order) - 1)
    costs = [_cost(ranking.query, order[place : place + 2], "compare") for place in range(pairs)]
    left = _affordable(islice(cycle(costs), pairs * pairs), words, questions)  # so many passes put all in order
    spans = [min(pairs, left - start) for start in range(0, left, max(pairs, 1))]
    passes = [windows(span + 1, window=2, step=1) for span in spans]
    for parts in wavefront(passes):
        compared = [Compare(ranking.query, order[part][1], order[part][0]) for part in parts]
        answers = yield [*compared]
        for part, answer in zip(parts, answers, strict=True):
            if (lower_wins := probability(answer)) is not None and lower_wins > 0.5:
                order[part] = order[part][::-1]
    return Ranking.by_order(ranking, order)


def _check(words: int, questions: int) -> None:
    if words < 0 or questions < 0 or not words + questions:
        raise InputError(f"words={words} and questions={questions}; give one of them, above 0 (0 is no limit)")


def _cost(query: Query, documents: Sequence[Document], kind: str) -> int:
    """Words of a question."""
    texts = [query.text, *(document.full_text for document in documents)]
    return PROMPT_WORDS[kind] + sum(len(text.split()) for text in texts)


def _affordable(costs: Iterable[int], words: int, questions: int) -> int:
    """How many of the questions, in their order, both limits pay for."""
    count = spent = 0
    for cost in islice(costs, questions or None):
        spent += cost
        if words and spent > words:
            break
        count += 1
    return count


def _exact(count: int, **options: object) -> int:
    return 0


triage = Algorithm("triage", _triage, asks=frozenset({Grade}), exact=_exact)
budgeted_pairs = Algorithm("budgeted-pairs", _budgeted_pairs, asks=frozenset({Compare}), exact=_exact)
