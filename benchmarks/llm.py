"""C6 and L1 to L4: pointwise prompts to causal language models, ids in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, shapes
from benchmarks.contest import Contest, Outcome, Peer, Setting, workload
from benchmarks.peers import causal
from benchmarks.peers.causal import Prompt

__all__ = ["agreement", "engine_of", "outcome", "segment"]

INSTRUCTION, QUERY, DOCUMENT, TAIL = 60, 10, 150, 8  # tokens, as in the accounts of the performance notes
SIZES = (1, 4, 8, 16, 32)
GIB = 2**30


@workload("C6", "cpu", "Qwen3-0.6B shape with 4 layers, 20 documents behind one instruction and query, float32")
def c6(setting: Setting) -> Iterator[Contest]:
    folder = shapes.causal("Qwen3-0.6B", setting, layers=4)
    work = _query_first(setting.pick(20, 5), setting)
    yield _pointwise("query first, ids in", folder, work, setting, loop=1.4, batches=None)


@workload("L1", "llm", "Qwen3-0.6B shape, 100 documents, query first")
def l1(setting: Setting) -> Iterator[Contest]:
    folder = shapes.causal("Qwen3-0.6B", setting)
    yield _pointwise("query first, ids in", folder, _query_first(setting.pick(100, 5), setting), setting, batches=2.3)


@workload("L2", "llm", "Qwen3-4B shape, 100 documents, query first")
def l2(setting: Setting) -> Iterator[Contest]:
    folder = shapes.causal("Qwen3-4B", setting)
    yield _pointwise("query first, ids in", folder, _query_first(setting.pick(100, 5), setting), setting, batches=2.3)


@workload("L3", "llm", "Qwen3-0.6B shape, 120 tokens of query and 180 of item, 10 and 100 items")
def l3(setting: Setting) -> Iterator[Contest]:
    folder = shapes.causal("Qwen3-0.6B", setting)
    for count in (10, 100):
        work = _query_first(setting.pick(count, 4), setting, beginning=120, document=172)
        yield _pointwise(f"{count} items, ids in", folder, work, setting)


@workload("L4", "llm", "Qwen3-0.6B shape, document first, their keys and values kept or not")
def l4(setting: Setting) -> Iterator[Contest]:
    folder = shapes.causal("Qwen3-0.6B", setting)
    rng = np.random.default_rng(data.SEED)
    tokens = partial(segment, rng, setting)
    start, query = tokens(INSTRUCTION), tokens(QUERY + TAIL)
    work: list[Prompt] = [(start, tokens(DOCUMENT), query) for _ in range(setting.pick(100, 4))]
    cold = _scored(engine_of(folder, setting), forget=True)
    for share in (0.0, 0.5, 1.0):
        peers = [
            Peer("ours, cold", lambda: lambda part, _: cold(part).scores, "rerank-toolkit", (1,),
                 target=8.0 if share == 1.0 else None),
            Peer("transformers, padded batches", causal.padded(folder, setting), "transformers", SIZES),
        ]  # fmt: skip
        ours = _kept(engine_of(folder, setting), share)
        yield Contest(f"{share:.0%} kept, ids in", work, ours, _reference(folder, setting), peers, **agreement(setting))


def segment(rng: Any, setting: Setting, tokens: int) -> tuple[int, ...]:
    """Random ids; in a run for show eight times shorter."""
    return tuple(int(token) for token in rng.integers(200, 8_000, max(2, tokens // setting.pick(1, 8))))


def engine_of(folder: Path, setting: Setting) -> Any:
    """Our engine, with room for what the workloads keep."""
    from rerank.engine.causal import CausalLM

    return CausalLM(causal.load(folder, setting), keep_bytes=GIB if setting.device == "cpu" else 12 * GIB)


def agreement(setting: Setting) -> dict[str, Any]:
    """float32 to 1e-4, bfloat16 by rank."""
    exact = setting.device == "cpu"
    return {"tolerance": 1e-4 if exact else None, "tau": None if exact else 0.95, "peak": setting.dtype}


def outcome(scores: Sequence[float], cost: Any, execution: str) -> Outcome:
    """Scores with what a call, or several added up, took."""
    amounts = {
        "tokens_real": cost.tokens,
        "tokens_reused": cost.reused,
        "tokens_padded": cost.padded,
        "flops": cost.flops,
        "calls": cost.calls,
        "hit_ratio": cost.reused / max(1, cost.tokens + cost.reused),
    }
    return Outcome(scores, amounts, {"execution": execution})


def _pointwise(
    name: str, folder: Path, work: list[Prompt], setting: Setting, *, loop: float | None = None,
    batches: float | None = None,
) -> Contest:  # fmt: skip
    peers = [
        Peer("transformers, one by one", causal.one_by_one(folder, setting), "transformers", (1,), target=loop),
        Peer("transformers, padded batches", causal.padded(folder, setting), "transformers", SIZES, target=batches),
        Peer("transformers, DynamicCache shared", causal.shared_prefix(folder, setting), "transformers", SIZES),
    ]
    ours = _scored(engine_of(folder, setting))
    return Contest(name, work, ours, _reference(folder, setting), peers, **agreement(setting))


def _scored(engine: Any, *, forget: bool = False) -> Callable[[Sequence[Prompt]], Outcome]:
    def run(work: Sequence[Prompt]) -> Outcome:
        if forget:
            engine.forget()
        scored = engine.score(work, causal.targets_of(2))
        return outcome((scored.logits[:, 0] - scored.logits[:, 1]).tolist(), scored.cost, engine.execution)

    return run


def _kept(engine: Any, share: float) -> Callable[[Sequence[Prompt]], Outcome]:
    """The first so many documents stay from call to call, the others never do."""

    def run(work: Sequence[Prompt]) -> Outcome:
        kept = round(share * len(work))
        scored = engine.score(work, causal.targets_of(2), keep=[2 if index < kept else 1 for index in range(len(work))])
        return outcome((scored.logits[:, 0] - scored.logits[:, 1]).tolist(), scored.cost, engine.execution)

    return run


def _reference(folder: Path, setting: Setting) -> Callable[[Sequence[Prompt]], Any]:
    """transformers in float32, one prompt at a time; loaded when it is asked, and let go."""
    return lambda work: causal.one_by_one(folder, setting, dtype="float32")()(work, 1)


def _query_first(
    count: int, setting: Setting, *, beginning: int = INSTRUCTION + QUERY, document: int = DOCUMENT
) -> list[Prompt]:
    rng = np.random.default_rng(data.SEED)
    tokens = partial(segment, rng, setting)
    start, tail = tokens(beginning), tokens(TAIL)
    return [(start, tokens(document), tail) for _ in range(count)]
