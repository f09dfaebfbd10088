"""Several documents put in order at once: windows that slide from the tail to the head, and the whole list."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from rerank.algorithms.answers import order
from rerank.errors import InputError
from rerank.questions import Algorithm, Announce, Permute, Plan, Question
from rerank.types import Ranking

if TYPE_CHECKING:
    Part: TypeAlias = slice[int, int, None]

__all__ = ["full_list", "known_ahead", "sliding_windows", "wavefront", "windows"]


def windows(count: int, *, window: int, step: int, first: int = 0) -> list[Part]:
    """Where a window stands while it slides from the tail to the head.

    The last one begins at `first` and may be shorter. A window of one document has nothing to put in order and is
    left out; it comes about when windows do not overlap.

    Args:
        count: documents in the list.
        window: the most documents in a window, at least 2.
        step: documents it moves, from 1 to `window`.
        first: index of the document that it does not pass.
    """
    parts = []
    stop = count
    while stop - first > 1:
        start = max(first, stop - window)
        parts.append(slice(start, stop))
        if start == first:
            break
        stop -= step
    return parts


def wavefront(passes: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """Which windows of several passes can be asked at once, round by round; nothing is guessed ahead.

    A pass follows the one before it as closely as it can: a window waits until the pass before has left every place
    in it for good. The outcome is that of one pass after the other.

    Args:
        passes: of each pass its windows, from the tail to the head, without gaps, none past where the next one ends.
    """
    done = [0] * len(passes)
    rounds: list[list[Part]] = []
    while ready := [number for number in range(len(passes)) if _is_ready(passes, done, number)]:
        rounds.append([passes[number][done[number]] for number in ready])
        for number in ready:
            done[number] += 1
    return rounds


def _is_ready(passes: Sequence[Sequence[Part]], done: Sequence[int], number: int) -> bool:
    if done[number] == len(passes[number]):
        return False
    if number == 0 or done[number - 1] == len(passes[number - 1]):
        return True
    return passes[number - 1][done[number - 1]].stop <= passes[number][done[number]].start


def known_ahead(parts: Sequence[Part]) -> list[Part]:
    """How the second and every later window of a pass begins: what stands there when the pass does.

    A window's last documents are those that the one before it put first; the others nobody has moved yet. A judge that
    reads these beginnings while it reads the first window has only the rest of each to read in its turn.
    """
    return [slice(part.start, before.start) for before, part in pairwise(parts) if part.start < before.start]


def _sliding_windows(ranking: Ranking, *, window: int = 20, step: int = 10, passes: int = 1) -> Plan:
    """Put windows of documents in order, from the tail of the list to its head.

    Good documents rise with the window (Sun et al., 2023, https://arxiv.org/abs/2304.09542). A pass over n > window
    documents asks 1 + ⌈(n − window) / step⌉ questions, each in a round of its own, and a further pass adds
    ⌈window / step⌉ rounds, for it begins as soon as its first window is settled. A list of one document asks nothing.
    Before its first question the plan announces how each later window of the first pass will begin.

    Args:
        window: documents per question, at least 2.
        step: documents the window moves, from 1 to `window`. What overlaps is what rises.
        passes: how often the window slides over the list.

    Raises:
        InputError: when windows would skip documents, or there is no pass.
    """
    _check_windows(window, step, passes)
    order_now = list(ranking.documents)
    once = windows(len(order_now), window=window, step=step)
    announcements: list[Question] = [Announce(ranking.query, tuple(order_now[part])) for part in known_ahead(once)]
    for parts in wavefront([once] * passes):
        questions = [Permute(ranking.query, tuple(order_now[part])) for part in parts]
        answers = (yield [*announcements, *questions])[len(announcements) :]
        announcements = []
        for part, question, answer in zip(parts, questions, answers, strict=True):
            order_now[part] = [question.documents[index] for index in order(question, answer)]
    return Ranking.by_order(ranking, order_now)


def _windows_exact(count: int, *, window: int = 20, step: int = 10, passes: int = 1) -> int:
    """A window hands its best `window − step` on to the next, so that every pass puts as many more in order.

    What is in order stays so, and once a pass begins with a window that reaches it, all is in order.
    """
    rising = window - step
    return count if (passes - 1) * rising >= count - window else passes * rising


def _check_windows(window: int, step: int, passes: int) -> None:
    if not 1 <= step <= window or window < 2:
        raise InputError(
            f"a window of {window} moving {step} at a time would skip documents; "
            "choose window >= 2 and 1 <= step <= window"
        )
    if passes < 1:
        raise InputError(f"passes={passes}; the window slides over the list at least once")


def _full_list(ranking: Ranking) -> Plan:
    """Put the whole list in order with one question.

    As Liu et al. (2024, https://arxiv.org/abs/2412.14574) rank 100 documents at once. One round; a list of one
    document asks nothing. A list that does not fit into the model's context is for the judge to refuse or to cut.
    """
    if len(ranking) < 2:
        return Ranking.by_order(ranking, ranking.documents)
    question = Permute(ranking.query, ranking.documents)
    [answer] = yield [question]
    return Ranking.by_order(ranking, [question.documents[index] for index in order(question, answer)])


sliding_windows = Algorithm("sliding-windows", _sliding_windows, asks=frozenset({Permute}), exact=_windows_exact)
full_list = Algorithm("full-list", _full_list, asks=frozenset({Permute}), exact=lambda count: count)
