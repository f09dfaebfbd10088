"""C1 to C4: classifiers on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks import data, pairs, shapes
from benchmarks.contest import Contest, Peer, Setting, workload
from benchmarks.peers import classifiers, exported

__all__: list[str] = []


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
    own = [Peer("ours, text in", lambda: lambda part, _: fresh(part).scores, "rerank-toolkit", (100,), target=1.4)]
    kept = pairs.kept_tokens(pairs.judge_of(folder, setting), "an other query")
    yield Contest("u128, tokens kept", work, kept, reference, [*own, *peers[:1]])


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
