"""C1 to C4: classifiers on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import data, pairs, shapes
from benchmarks.contest import Absent, Contest, Outcome, Peer, Scores, Setting, workload
from benchmarks.peers import classifiers, exported

__all__: list[str] = []

RANDOM_TAU = 0.5
"""What int8 must keep of the order of random weights, which hardly separate texts; N1 asks .98 of a trained model."""


@workload("C1", "cpu", "MiniLM-L6 shape, 100 documents of 128 tokens, float32")
def c1(setting: Setting) -> Iterator[Contest]:
    folder, work = _minilm(setting, "u128")
    judge = pairs.judge_of(folder, setting)
    peers = [
        _sentence_transformers(folder, setting, target=1.3),
        Peer("openvino", exported.openvino(folder, setting), "openvino", floor=0.95),
        Peer("openvino, 2 streams", exported.openvino(folder, setting, streams=2), "openvino"),
        Peer("onnxruntime", exported.onnxruntime(folder, setting), "onnxruntime"),
        Peer("flashrank, float32", exported.flashrank(folder, setting), "flashrank", (100,)),
        Peer("rerankers", classifiers.rerankers(folder, setting), "rerankers"),
        *(_sentence_transformers(folder, setting, backend=backend) for backend in ("onnx", "openvino")),
    ]
    yield Contest("u128, text in", work, pairs.text_in(judge), pairs.reference(folder, setting), peers)


@workload("C2", "cpu", "MiniLM-L6 shape, 100 documents of mixed lengths, float32")
def c2(setting: Setting) -> Iterator[Contest]:
    for lengths in ("marco", "nq"):
        folder, work = _minilm(setting, lengths)
        judge = pairs.judge_of(folder, setting)
        peers = [
            _sentence_transformers(folder, setting, target=1.6),
            Peer("flashrank, float32", exported.flashrank(folder, setting), "flashrank", (100,), target=2.5),
            Peer("openvino", exported.openvino(folder, setting), "openvino"),
        ]
        name = f"{lengths}, text in"
        yield Contest(name, work, pairs.text_in(judge), pairs.reference(folder, setting), peers)


@workload("C3", "cpu", "MiniLM-L6 shape, 100 documents, int8")
def c3(setting: Setting) -> Iterator[Contest]:
    least = setting.pick(RANDOM_TAU, -1.0)
    for lengths, stock in (("u128", None), ("marco", 1.3)):
        folder, work = _minilm(setting, lengths)
        judge = pairs.int8_judge(folder, setting)
        float32 = pairs.text_in(pairs.judge_of(folder, setting))
        peers = [
            _int8("onnxruntime, dynamic int8", exported.onnxruntime(folder, setting, int8=True), "onnxruntime", 1.5),
            _int8("openvino, static int8", exported.openvino(folder, setting, int8=True), "openvino", stock),
            _int8("flashrank, int8", exported.flashrank(folder, setting, int8=True), "flashrank", None, (100,)),
            _int8("ours, float32", partial(_plain, float32), "rerank-toolkit", None, (100,)),
        ]
        name = f"{lengths}, text in"
        reference = pairs.reference(folder, setting)
        ours = pairs.text_in(judge)
        yield Contest(name, work, ours, reference, peers, tolerance=None, tau=least, peak="int8")


@workload("N1", "cpu", "NovelEval, 5 queries with 20 documents, the real MiniLM-L12, float32 and int8")
def n1(setting: Setting) -> Iterator[Contest]:
    folder = _real()
    work = pairs.real_items(folder, queries=setting.pick(5, 1), documents=setting.pick(20, 3))
    reference = pairs.reference(folder, setting)
    float32 = pairs.text_in(pairs.judge_of(folder, setting))
    yield Contest("float32, text in", work, float32, reference, [_sentence_transformers(folder, setting)])
    own = Peer("ours, float32", partial(_plain, float32), "rerank-toolkit", (100,))
    int8 = pairs.text_in(pairs.int8_judge(folder, setting))
    yield Contest("int8, text in", work, int8, reference, [own], tolerance=None, tau=0.98, peak="int8")


@workload("C4", "cpu", "TinyBERT-L2 shape, 100 documents")
def c4(setting: Setting) -> Iterator[Contest]:
    folder = shapes.encoder("TinyBERT-L2", setting)
    work = pairs.items(folder, data.lengths("u128", setting.pick(100, 6), shrink=setting.pick(1, 4)))
    judge, reference = pairs.judge_of(folder, setting), pairs.reference(folder, setting)
    peers = [
        _sentence_transformers(folder, setting, target=2.0),
        Peer("flashrank, float32", exported.flashrank(folder, setting), "flashrank", (100,)),
    ]
    yield Contest("u128, text in", work, pairs.text_in(judge), reference, peers)
    fresh = pairs.text_in(judge)
    own = [Peer("ours, text in", partial(_plain, fresh), "rerank-toolkit", (100,), target=1.4)]
    kept = pairs.kept_tokens(pairs.judge_of(folder, setting), "an other query")
    yield Contest("u128, tokens kept", work, kept, reference, [*own, *peers[:1]])


def _real() -> Path:
    """The trained MiniLM-L12: the only checkpoint that is fetched, and only if it is not at hand."""
    from rerank import checkpoints
    from rerank.errors import CheckpointError

    try:
        return checkpoints.fetch("cross-encoder/ms-marco-MiniLM-L12-v2")
    except CheckpointError as error:
        raise Absent(str(error)) from error


def _plain(ours: Callable[[Any], Outcome]) -> Callable[[Any, int], Scores]:
    """One of our own ways in a peer's place."""
    return lambda work, _: ours(work).scores


def _int8(
    name: str,
    make: Callable[[], Callable[[Any, int], Scores]],
    package: str,
    target: float | None,
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64),
) -> Peer:
    return Peer(name, make, package, batch_sizes, target=target, approximate=True)


def _minilm(setting: Setting, lengths: str) -> tuple[Path, list[pairs.Item]]:
    folder = shapes.encoder("MiniLM-L6", setting)
    totals = data.lengths(lengths, setting.pick(100, 6), shrink=setting.pick(1, 4))
    return folder, pairs.items(folder, totals)


def _sentence_transformers(
    folder: Path, setting: Setting, *, backend: str = "torch", target: float | None = None
) -> Peer:
    name = "sentence-transformers" + ("" if backend == "torch" else f", {backend}")
    make = classifiers.sentence_transformers(folder, setting, backend=backend)
    return Peer(name, make, "sentence-transformers", target=target)
