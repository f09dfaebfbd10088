"""monoT5 elsewhere: rank_llm, rerankers, and a loop over transformers. All give log P(true)."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contest import Absent, Scores, Setting

__all__ = ["PROMPT", "hf_padded", "rank_llm", "rerankers"]

Work = Sequence[tuple[str, str]]
Way = Callable[[Work, int], Scores]
PROMPT = "Query: {query} Document: {document} Relevant:"


def rerankers(folder: Path, setting: Setting) -> Callable[[], Way]:
    """`Reranker(…, model_type="t5").rank`; its batch size is set on the ranker."""

    def make() -> Way:
        from rerankers import Reranker

        with contextlib.redirect_stdout(io.StringIO()):  # it says which tokens it takes for true and false
            ranker = Reranker(str(folder), model_type="t5", device=setting.device, dtype=setting.dtype, verbose=0)
        if ranker is None:
            raise Absent("rerankers could not load it")

        def run(work: Work, batch_size: int) -> Scores:
            ranker.batch_size = batch_size
            ranked = ranker.rank(work[0][0], [document for _, document in work])
            found = {result.document.doc_id: result.score for result in ranked.results}
            return [math.log(found[index]) for index in range(len(work))]

        return run

    return make


def rank_llm(folder: Path, setting: Setting) -> Callable[[], Way]:
    """`MonoT5.rerank_batch`."""

    def make() -> Way:
        _without_listwise()
        from rank_llm.data import Candidate, Query, Request
        from rank_llm.rerank.pointwise.monot5 import MonoT5

        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            ranker = MonoT5(model=str(folder), device=setting.device)
        ranker._llm.eval()

        def run(work: Work, batch_size: int) -> Scores:
            ranker._batch_size = batch_size
            candidates = [Candidate(str(index), 0.0, {"contents": text}) for index, (_, text) in enumerate(work)]
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
                [result] = ranker.rerank_batch([Request(Query(work[0][0], "1"), candidates)], rank_end=len(work))
            found = {candidate.docid: float(candidate.score) for candidate in result.candidates}
            return [math.log(found[str(index)]) for index in range(len(work))]

        return run

    return make


def hf_padded(folder: Path, setting: Setting) -> Callable[[], Way]:
    """transformers alone: sorted, padded batches, one decoder step."""

    def make() -> Way:
        import torch
        from transformers import AutoTokenizer, T5ForConditionalGeneration

        tokenizer = AutoTokenizer.from_pretrained(folder)
        dtype = getattr(torch, setting.dtype)
        model = T5ForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval().to(setting.device)
        wanted = [tokenizer.convert_tokens_to_ids(token) for token in ("▁false", "▁true")]

        def run(work: Work, batch_size: int) -> Scores:
            order = sorted(range(len(work)), key=lambda index: -len(work[index][1]))
            scores = torch.empty(len(work))
            with torch.inference_mode():
                for start in range(0, len(order), batch_size):
                    batch = order[start : start + batch_size]
                    prompts = [PROMPT.format(query=work[index][0], document=work[index][1]) for index in batch]
                    inputs = tokenizer(prompts, padding=True, return_tensors="pt").to(setting.device)
                    first = torch.zeros(len(batch), 1, dtype=torch.long, device=setting.device)
                    logits = model(**inputs, decoder_input_ids=first).logits[:, -1, wanted]
                    scores[batch] = logits.float().log_softmax(-1)[:, 1].cpu()
            return scores.tolist()

        return run

    return make


def _without_listwise() -> None:
    """rank_llm's packages import every reranker they have, and some want vllm or an older transformers.

    So their `__init__` are not run, while single modules of theirs can still be imported.
    """
    import rank_llm.data  # an ImportError here says that rank_llm, or what it needs, is not installed

    home = Path(rank_llm.data.__file__).parent / "rerank"
    for name in ("rank_llm.rerank", "rank_llm.rerank.listwise", "rank_llm.rerank.pairwise"):
        module: Any = types.ModuleType(name)
        module.__path__ = [str(home.joinpath(*name.split(".")[2:]))]
        sys.modules[name] = module
