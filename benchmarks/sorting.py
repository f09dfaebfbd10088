"""P1, P2, S1 and F1: methods that ask a causal language model again and again, ids in.

What is asked is what our algorithms ask when an oracle answers, so that every way of running the model is given the
same prompts in the same rounds; a round can only be asked when the one before is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, shapes
from benchmarks.contest import Contest, Outcome, Peer, Scores, Setting, workload
from benchmarks.llm import agreement, engine_of, outcome, segment
from benchmarks.peers import causal
from benchmarks.peers.causal import Prompt

__all__: list[str] = []

INSTRUCTION, QUERY, DOCUMENT, LABEL, TAIL = 60, 10, 150, 4, 8
WRITTEN = 80  # tokens that RankGPT writes for a window


@dataclass(frozen=True)
class Asked:
    """A prompt, and the round in which it is asked."""

    round: int
    prompt: Prompt


@workload("P1", "pairwise", "PRP sliding-10 over 100 documents, Qwen3-0.6B and 4B shapes")
def p1(setting: Setting) -> Iterator[Contest]:
    for shape in ("Qwen3-0.6B", "Qwen3-4B"):
        asked = _pairwise("sliding-k", setting.pick(100, 5), setting, head=setting.pick(10, 2))
        yield _sorted(f"sliding-10, {shape}", shape, asked, 2, setting, target=10.0)


@workload("P2", "pairwise", "PRP heapsort-10 over 100 documents and all pairs of 30, Qwen3-0.6B shape")
def p2(setting: Setting) -> Iterator[Contest]:
    asked = _pairwise("heapsort", setting.pick(100, 5), setting, head=setting.pick(10, 2))
    yield _sorted("heapsort-10", "Qwen3-0.6B", asked, 2, setting, target=8.0)
    asked = _pairwise("all-pairs", setting.pick(30, 4), setting)
    yield _sorted("all pairs of 30", "Qwen3-0.6B", asked, 2, setting, target=8.0)


@workload("S1", "pairwise", "setwise heapsort-10 over 100 documents, 3 and 10 children, Mistral-7B shape")
def s1(setting: Setting) -> Iterator[Contest]:
    for children in (3, 10):
        head, count = setting.pick((10, 100), (2, 6))
        asked = _setwise(count, setting, head=head, children=children)
        yield _sorted(f"{children} children", "Mistral-7B", asked, children + 1, setting)


@workload("F1", "listwise", "FIRST, windows of 20 moving 10 over 100 documents, Mistral-7B shape")
def f1(setting: Setting) -> Iterator[Contest]:
    folder = shapes.causal("Mistral-7B", setting)
    window = setting.pick(20, 4)
    asked = _windows(setting.pick(100, 8), window, setting)
    written = setting.pick(WRITTEN, 4)
    peers = [
        _peer("transformers, generate", causal.generate(folder, setting, window, written), target=3.5),
        _peer("transformers, prefill only", causal.one_by_one(folder, setting, window), target=1.5),
    ]
    ours = _ahead(engine_of(folder, setting), window)
    yield Contest("20/10", asked, ours, _reference(folder, setting, window), peers, **agreement(setting))


# -- what is asked -----------------------------------------------------------------------------------------------------


def _pairwise(algorithm: str, count: int, setting: Setting, **options: int) -> list[Asked]:
    """Instruction and query, A, B and the template's end: 378 tokens each."""
    rng = np.random.default_rng(data.SEED)
    start, tail = segment(rng, setting, INSTRUCTION + QUERY), segment(rng, setting, TAIL)
    texts = [segment(rng, setting, DOCUMENT) for _ in range(count)]

    def prompt(question: Any) -> Prompt:
        return (start, texts[int(question.first.doc_id)], texts[int(question.second.doc_id)], tail)

    return _rounds(algorithm, count, prompt, options)


def _setwise(count: int, setting: Setting, **options: int) -> list[Asked]:
    rng = np.random.default_rng(data.SEED)
    start, tail = segment(rng, setting, INSTRUCTION + QUERY), segment(rng, setting, TAIL)
    texts = [segment(rng, setting, DOCUMENT) for _ in range(count)]
    labels = [segment(rng, setting, LABEL) for _ in range(20)]

    def prompt(question: Any) -> Prompt:
        shown = [labels[place] + texts[int(document.doc_id)] for place, document in enumerate(question.documents)]
        return (start, *shown, tail)

    return _rounds("setwise-heapsort", count, prompt, options)


def _rounds(algorithm: str, count: int, prompt: Callable[[Any], Prompt], options: Mapping[str, int]) -> list[Asked]:
    """What an algorithm asks when the first-stage order is a shuffled one and an oracle answers."""
    from rerank import Document, Query, Ranking, registry
    from rerank.cost import Ledger
    from rerank.judges.fake import Oracle

    documents = [Document(str(index), f"text {index}") for index in range(count)]
    judge = Oracle({"1": {str(index): (37 * index) % 101 for index in range(count)}})
    plan = registry.load("algorithm", algorithm)(Ranking.unscored(Query("1", "query"), documents), **options)
    asked: list[Asked] = []
    try:
        questions = next(plan)
        for number in range(10_000):
            asked += [Asked(number, prompt(question)) for question in questions]
            answers: dict[int, Any] = dict(judge.answer(questions, Ledger()))
            questions = plan.send([answers[index] for index in range(len(questions))])
    except StopIteration:
        pass
    return asked


def _windows(count: int, window: int, setting: Setting) -> list[Asked]:
    """Windows from the tail to the head, in a list that is in order already: what a window carries is known."""
    rng = np.random.default_rng(data.SEED)
    start, tail = segment(rng, setting, INSTRUCTION + QUERY), segment(rng, setting, QUERY + TAIL)
    texts = [segment(rng, setting, DOCUMENT) for _ in range(count)]
    labels = [segment(rng, setting, LABEL) for _ in range(window)]
    heads = range(count - window, -1, -window // 2)
    shown = [[label + text for label, text in zip(labels, texts[head:], strict=False)] for head in heads]
    return [Asked(number, (start, *documents, tail)) for number, documents in enumerate(shown)]


# -- the ways ----------------------------------------------------------------------------------------------------------


def _sorted(
    name: str, shape: str, asked: list[Asked], targets: int, setting: Setting, *, target: float | None = None
) -> Contest:
    folder = shapes.causal(shape, setting)
    peers = [
        _peer("transformers, one by one", causal.one_by_one(folder, setting, targets), target=target),
        Peer("transformers, padded batches a round", _by_rounds(causal.padded(folder, setting, targets)),
             "transformers", (2, 8, 32)),
    ]  # fmt: skip
    ours = _remembering(engine_of(folder, setting), targets)
    return Contest(
        name,
        asked,
        ours,
        _reference(folder, setting, targets),
        peers,
        checked=40,
        searched=40,
        **agreement(setting),
    )


def _peer(name: str, make: Callable[[], Callable[[Any, int], Scores]], *, target: float | None = None) -> Peer:
    def alone() -> Callable[[Any, int], Scores]:
        way = make()
        return lambda work, size: way([asked.prompt for asked in work], size)

    return Peer(name, alone, "transformers", (1,), target=target)


def _by_rounds(make: Callable[[], Callable[[Any, int], Scores]]) -> Callable[[], Callable[[Any, int], Scores]]:
    """A way that may batch what is asked in one round."""

    def rounds() -> Callable[[Any, int], Scores]:
        way = make()

        def run(work: Sequence[Asked], size: int) -> Scores:
            return [score for prompts in _in_rounds(work) for score in way(prompts, size)]

        return run

    return rounds


def _remembering(engine: Any, targets: int) -> Callable[[Sequence[Asked]], Outcome]:
    """Round by round; a repeated prompt is answered from memory, and what prompts begin with stays until the end."""

    def run(work: Sequence[Asked]) -> Outcome:
        engine.forget()
        known: dict[Prompt, list[float]] = {}
        total = _Total()
        for prompts in _in_rounds(work):
            new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
            if new:
                scored = engine.score(new, causal.targets_of(targets), keep=[len(prompt) - 2 for prompt in new])
                known |= dict(zip(new, _flat(scored.logits), strict=True))
                total.add(scored.cost)
        scores = [score for asked in work for score in known[asked.prompt]]
        return total.outcome(scores, engine.execution, len(list(_in_rounds(work))))

    return run


def _ahead(engine: Any, targets: int) -> Callable[[Sequence[Asked]], Outcome]:
    """The half of each window that is known before anything is answered goes first, all windows at once."""

    def run(work: Sequence[Asked]) -> Outcome:
        engine.forget()
        total = _Total()
        total.add(engine.prefill([asked.prompt[: 1 + targets // 2] for asked in work]))
        scores: list[float] = []
        for asked in work:
            scored = engine.score([asked.prompt], causal.targets_of(targets))
            scores += [score for row in _flat(scored.logits) for score in row]
            total.add(scored.cost)
        return total.outcome(scores, engine.execution, len(work))

    return run


class _Total:
    """Costs of calls, added up."""

    def __init__(self) -> None:
        self.costs: list[Any] = []

    def add(self, cost: Any) -> None:
        self.costs.append(cost)

    def outcome(self, scores: Scores, execution: str, rounds: int) -> Outcome:
        from types import SimpleNamespace

        names = ("tokens", "reused", "padded", "flops", "calls")
        cost = SimpleNamespace(**{name: sum(getattr(each, name) for each in self.costs) for name in names})
        made = outcome(scores, cost, execution)
        return Outcome(made.scores, {**made.amounts, "rounds": rounds}, made.notes)


def _flat(logits: Any) -> list[list[float]]:
    """Of two targets their difference; of more, each: as the peers have it."""
    rows = (logits[:, :1] - logits[:, 1:]) if logits.shape[1] == 2 else logits
    return list(rows.tolist())


def _in_rounds(work: Sequence[Asked]) -> Iterator[list[Prompt]]:
    for _, asked in groupby(work, key=lambda each: each.round):
        yield [each.prompt for each in asked]


def _reference(folder: Path, setting: Setting, targets: int) -> Callable[[Sequence[Asked]], Scores]:
    def run(work: Sequence[Asked]) -> Scores:
        way = causal.one_by_one(folder, setting, targets, dtype="float32")()
        return way([asked.prompt for asked in work], 1)

    return run
