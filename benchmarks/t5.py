"""C5 and T1: monoT5."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import data, shapes
from benchmarks.contest import Contest, Outcome, Peer, Scores, Setting, workload
from benchmarks.peers import seq2seq

__all__: list[str] = []

Work = Sequence[tuple[str, str]]
TEMPLATE = 4  # tokens of the prompt beside query and document: three labels and the end


@workload("C5", "cpu", "monoT5-small shape, 20 documents of 128 tokens, float32")
def c5(setting: Setting) -> Iterator[Contest]:
    yield _contest("monoT5-small", "u128", 20, setting, target=1.4)


@workload("T1", "t5", "monoT5-base and 3B shapes, 100 documents")
def t1(setting: Setting) -> Iterator[Contest]:
    for name in ("monoT5-base", "monoT5-3B"):
        yield _contest(name, "marco", 100, setting, target=4.0)


def _contest(name: str, lengths: str, count: int, setting: Setting, *, target: float) -> Contest:
    folder = shapes.t5(name, setting)
    work = _prompts(folder, data.lengths(lengths, setting.pick(count, 5), shrink=setting.pick(1, 4)))
    sizes = (4, 8, 16, 32, 64)
    peers = [
        Peer("rerankers", seq2seq.rerankers(folder, setting), "rerankers", sizes, target=target),
        Peer("rank_llm", seq2seq.rank_llm(folder, setting), "rank-llm", sizes, target=target),
        Peer("transformers, padded batches", seq2seq.hf_padded(folder, setting), "transformers", sizes),
    ]
    exact = setting.device == "cpu"
    return Contest(
        f"{name}, {lengths}, text in",
        work,
        _ours(folder, setting),
        _reference(folder, setting),
        peers,
        tolerance=1e-4 if exact else None,
        tau=None if exact else 0.98,
        peak=setting.dtype,
    )


def _ours(folder: Path, setting: Setting) -> Callable[[Work], Outcome]:
    import torch
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    from rerank.engine.seq2seq import EncoderDecoder

    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtype = getattr(torch, setting.dtype)
    engine = EncoderDecoder(T5ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval().to(setting.device))
    wanted = [tokenizer.convert_tokens_to_ids(token) for token in ("▁false", "▁true")]

    def run(work: Work) -> Outcome:
        prompts = [seq2seq.PROMPT.format(query=query, document=document) for query, document in work]
        ids = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(prompts)]
        scored = engine.score(ids, wanted)
        amounts = {"tokens_real": scored.tokens, "tokens_padded": scored.padded, "flops": scored.flops}
        return Outcome(scored.logits.log_softmax(-1)[:, 1].tolist(), amounts, {"execution": engine.execution})

    return run


def _reference(folder: Path, setting: Setting) -> Callable[[Work], Scores]:
    """transformers in float32, one prompt at a time."""
    return lambda work: _Float32(folder, setting.device)(work)


class _Float32:
    def __init__(self, folder: Path, device: str) -> None:
        import torch
        from transformers import AutoTokenizer, T5ForConditionalGeneration

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().to(device)
        self.wanted = [self.tokenizer.convert_tokens_to_ids(token) for token in ("▁false", "▁true")]

    def __call__(self, work: Work) -> Scores:
        return [self._score(*pair) for pair in work]

    def _score(self, query: str, document: str) -> float:
        import torch

        prompt = seq2seq.PROMPT.format(query=query, document=document)
        inputs = self.tokenizer([prompt], return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            first = torch.zeros(1, 1, dtype=torch.long, device=self.model.device)
            logits = self.model(**inputs, decoder_input_ids=first).logits[0, -1, self.wanted]
        return float(logits.log_softmax(-1)[1])


def _prompts(folder: Path, totals: Sequence[int]) -> list[tuple[str, str]]:
    from transformers import AutoTokenizer

    writer = data.Writer(AutoTokenizer.from_pretrained(folder).backend_tokenizer)
    collection = writer.collection(totals, query=min(10, min(totals) - TEMPLATE - 1), extra=TEMPLATE)
    return [(collection.query, document) for document in collection.documents]
