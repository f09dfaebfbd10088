"""Rewards of answers that order a list: ReasonRank, REARANK."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rerank.evaluate import evaluate
from rerank.prompts.reading import exact_answer, read_order
from training.rewards.reward import Shown

__all__ = ["agreement", "form", "improvement", "overlap", "reasonrank", "whole_order"]

LIST = re.compile(r"\[\w{1,4}\](?:\s*>\s*\[\w{1,4}\])*")


def reasonrank(text: str, shown: Shown) -> float:
    """nDCG@10 + 0.2 Recall@10 + 0.1 RBO of the answer's order (https://arxiv.org/abs/2508.07050).

    nDCG and recall count whatever is relevant as 1. RBO is the mean overlap with the teacher's order (p = 1). An answer
    without `<think>…</think><answer>…</answer>` is worth -1, and one that does not name every passage once, and nothing
    else, 0.
    """
    answer = exact_answer(text)
    if answer is None:
        return -1.0
    order = whole_order(answer, shown.names)
    if order is None:
        return 0.0
    binary = [float(grade > 0) for grade in shown.relevance]
    measured = _measured(order, binary, ("nDCG@10", "R@10"))
    return measured["nDCG@10"] + 0.2 * measured["R@10"] + 0.1 * overlap(order, shown.example.order or ())


def improvement(text: str, shown: Shown) -> float:
    """How much of what could be gained over the order shown the answer gains (https://arxiv.org/abs/2505.20046).

    (nDCG@10 - that of the order shown) / (1 - that of the order shown), from -1 (losses beyond that count as -1, so
    that a list which begins nearly right does not outweigh all others) to 1. Where the order shown is perfect already,
    what the answer loses. 0 for an answer that is no order of all passages.
    """
    answer = exact_answer(text)
    order = None if answer is None else whole_order(answer, shown.names)
    if order is None:
        return 0.0
    before = agreement(range(len(shown.example)), shown.relevance)
    gained = agreement(order, shown.relevance) - before
    return max(gained / (1 - before) if before < 1 else gained, -1.0)


def form(text: str, shown: Shown) -> float:
    """1 when a thought and an answer stand in their tags and the answer is written "[2] > [1]", else 0."""
    answer = exact_answer(text)
    return float(answer is not None and LIST.fullmatch(answer) is not None)


def whole_order(answer: str, names: Sequence[str]) -> list[int] | None:
    """The order that an answer gives, when it names every passage once and nothing else; else None."""
    groups, repairs = read_order(answer, names)
    return None if repairs else [index for group in groups for index in group]


def agreement(order: Sequence[int], relevance: Sequence[float]) -> float:
    """nDCG@10 of an order of documents, as trec_eval has it: the gain of a grade is the grade.

    Args:
        order: indices, best first.
        relevance: whole numbers from 0, one for each document.
    """
    return _measured(order, relevance, ("nDCG@10",))["nDCG@10"]


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """Rank-biased overlap with p = 1: the mean over depths of the share that the heads of two orders have in common."""
    shares = [len({*one[:depth]} & {*other[:depth]}) / depth for depth in range(1, len(one) + 1)]
    return sum(shares) / len(shares)


def _measured(order: Sequence[int], relevance: Sequence[float], measures: tuple[str, ...]) -> dict[str, float]:
    judged = {"q": {str(index): int(grade) for index, grade in enumerate(relevance)}}
    scores = {"q": {str(index): -float(rank) for rank, index in enumerate(order)}}
    return dict(evaluate(judged, scores, measures).means)
