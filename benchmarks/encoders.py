"""E1 to E7: classifiers on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import data, pairs, shapes
from benchmarks.contest import Contest, Outcome, Peer, Scores, Setting, workload
from benchmarks.peers import classifiers

__all__: list[str] = []

SIZES = (16, 32, 64, 128, 256, 512)
CHECKED = 200
SEARCHED = 1_000


@workload("E1", "encoders", "MiniLM-L6 shape, 64 queries, 100 documents each, nq lengths")
def e1(setting: Setting) -> Iterator[Contest]:
    yield _ids_in("MiniLM-L6", "nq", 64, setting, tuned=15.0, packed=3.0)


@workload("E2", "encoders", "MiniLM-L6 shape, 32 queries, 100 documents each, nq lengths, text in")
def e2(setting: Setting) -> Iterator[Contest]:
    folder = shapes.encoder("MiniLM-L6", setting)
    work = _work(folder, "nq", 32, setting)
    peers = [
        _sentence_transformers(folder, setting, target=4.0),
        Peer("the tokenizer alone", _tokenizer(folder), "tokenizers", (1,), target=0.8, approximate=True),
    ]
    yield _contest("nq, text in", work, pairs.text_in(pairs.judge_of(folder, setting)), folder, setting, peers)


@workload("E3", "encoders", "MiniLM-L6 shape, one query, 100 documents, marco lengths: latency")
def e3(setting: Setting) -> Iterator[Contest]:
    folder = shapes.encoder("MiniLM-L6", setting)
    work = _work(folder, "marco", 1, setting)
    peers = [
        _sentence_transformers(folder, setting, target=6.0),
        Peer("varlen", classifiers.varlen(folder, setting), "torch", (1_000,)),
        Peer("transformers, padded batches", classifiers.hf_padded(folder, setting), "transformers", SIZES),
    ]
    ours = pairs.ids_in(pairs.judge_of(folder, setting))
    yield _contest("marco, ids in", work, ours, folder, setting, peers, repeats=50)


@workload("E4", "encoders", "BERT-base shape, 32 queries, 100 documents each, nq lengths")
def e4(setting: Setting) -> Iterator[Contest]:
    yield _ids_in("BERT-base", "nq", 32, setting, tuned=4.0, packed=1.5)


@workload("E5", "encoders", "XLM-R-large shape, 8 queries, 100 documents each, nq lengths")
def e5(setting: Setting) -> Iterator[Contest]:
    yield _ids_in("XLM-R-large", "nq", 8, setting, tuned=2.3, packed=1.3)


@workload("E6", "encoders", "ModernBERT-150m shape, 100 documents a query, nq and long texts")
def e6(setting: Setting) -> Iterator[Contest]:
    yield _ids_in("ModernBERT-150m", "nq", 16, setting, tuned=2.5)
    yield _ids_in("ModernBERT-150m", "long", 1, setting, tuned=2.5)


@workload("E7", "encoders", "DeBERTa-v3-base shape, 8 queries, 100 documents each, nq lengths")
def e7(setting: Setting) -> Iterator[Contest]:
    folder = shapes.encoder("DeBERTa-v3-base", setting)
    flash = _disentangled_flash(folder, setting)
    fused = Peer("disentangled-flash", flash, "disentangled-flash", SIZES, target=1.1)
    yield _ids_in("DeBERTa-v3-base", "nq", 8, setting, tuned=3.0, more=[fused])


def _ids_in(
    shape: str,
    lengths: str,
    queries: int,
    setting: Setting,
    *,
    tuned: float | None = None,
    packed: float | None = None,
    more: Sequence[Peer] = (),
) -> Contest:
    """Ids in for ours and for loops over transformers; texts in for libraries that read nothing else."""
    longest = 4096 if lengths == "long" else 512
    folder = shapes.encoder(shape, setting, max_tokens=longest)
    work = _work(folder, lengths, queries, setting)
    budgets = (4, 8, 16, 32, 64, 128)  # times 512 tokens
    peers = [
        _sentence_transformers(folder, setting, target=tuned, max_tokens=longest),
        Peer("rerankers", classifiers.rerankers(folder, setting), "rerankers", SIZES),
        Peer("varlen", classifiers.varlen(folder, setting), "torch", budgets, target=packed),
        Peer("transformers, padded batches", classifiers.hf_padded(folder, setting), "transformers", SIZES),
        *more,
    ]
    ours = pairs.ids_in(pairs.judge_of(folder, setting, max_tokens=longest))
    return _contest(f"{shape}, {lengths}, ids in", work, ours, folder, setting, peers)


def _contest(
    name: str,
    work: list[pairs.Item],
    ours: Callable[[Any], Outcome],
    folder: Path,
    setting: Setting,
    peers: Sequence[Peer],
    *,
    repeats: int | None = None,
) -> Contest:
    exact = setting.device == "cpu"
    return Contest(
        name,
        work,
        ours,
        pairs.reference(folder, setting),
        peers,
        tolerance=1e-4 if exact else None,
        tau=None if exact else 0.97,
        checked=CHECKED,
        searched=SEARCHED,
        peak=setting.dtype,
        repeats=repeats,
    )


def _work(folder: Path, lengths: str, queries: int, setting: Setting) -> list[pairs.Item]:
    shrink = setting.pick(1, 32 if lengths == "long" else 4)
    totals = data.lengths(lengths, setting.pick(100, 4), shrink=shrink)
    return pairs.items(folder, totals, queries=setting.pick(queries, 2 if queries > 1 else 1))


def _sentence_transformers(folder: Path, setting: Setting, *, target: float | None, max_tokens: int = 512) -> Peer:
    make = classifiers.sentence_transformers(folder, setting, max_tokens=max_tokens)
    return Peer("sentence-transformers, text in", make, "sentence-transformers", SIZES, target=target)


def _tokenizer(folder: Path) -> Callable[[], Callable[[Any, int], Scores]]:
    """What every way with texts in must do: all pairs through the tokenizer, in one call."""

    def make() -> Callable[[Any, int], Scores]:
        from transformers import AutoTokenizer

        backend = AutoTokenizer.from_pretrained(folder).backend_tokenizer

        def run(work: Sequence[pairs.Item], batch_size: int) -> Scores:
            encoded = backend.encode_batch_fast([(item.query, item.document) for item in work])
            return [float(len(entry.ids)) for entry in encoded]

        return run

    return make


def _disentangled_flash(folder: Path, setting: Setting) -> Callable[[], Callable[[Any, int], Scores]]:
    """Its fused encoder under transformers' classifier, ids in, in sorted padded batches."""

    def make() -> Callable[[Any, int], Scores]:
        import disentangled_flash

        def fused(model: Any) -> None:
            disentangled_flash.enable_deberta_inference(model.base_model)

        return classifiers.hf_padded(folder, setting, change=fused)()

    return make
