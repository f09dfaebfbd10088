"""T5 rerankers elsewhere, on the same weights: monoT5, duoT5 and UPR."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peer_texts import QUERY, agree

from benchmarks.peers import seq2seq
from rerank.cost import Ledger
from rerank.judges.likelihood import Likelihood
from rerank.judges.target_token import TargetToken
from rerank.questions import Compare, Compared
from rerank.rerankers.reranker import Reranker
from rerank.types import Document


class Plainly:
    """How peers are run here."""

    device, dtype = "cpu", "float32"


@pytest.mark.parametrize(("package", "together"), [("rerankers", 4), ("rank_llm", 1)])
def test_monot5(package: str, together: int, flan: Path, documents: list[Document]) -> None:
    """`rank_llm` pads without an attention mask, so that its scores depend on the batch: it is asked one by one."""
    pytest.importorskip(package)
    peer = getattr(seq2seq, package)(flan, Plainly())()
    theirs = peer([(QUERY.text, one.text) for one in documents], together)
    ours = Reranker(flan, prompt="monot5").rank(QUERY, documents)

    agree(ours, theirs)


def test_duot5_on_the_pairs_that_rank_llm_asks(flan: Path, documents: list[Document]) -> None:
    """It asks each pair once, the earlier document first, and adds P to one score and 1 − P to the other."""
    pytest.importorskip("rank_llm")
    seq2seq._without_listwise()
    from rank_llm.data import Candidate, Query, Request
    from rank_llm.rerank.pairwise.duot5 import DuoT5

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        peer = DuoT5(model=str(flan), device="cpu", batch_size=1)  # it pads without a mask
        peer._llm.eval()
    shown = documents[:6]
    said: list[float] = []
    ask = peer.run_llm_batched

    def listening(prompts: list[str]) -> Any:
        told = ask(prompts)
        said.extend(told[2])
        return told

    peer.run_llm_batched = listening
    candidates = [Candidate(one.doc_id, 0.0, {"contents": one.text}) for one in shown]
    with contextlib.redirect_stderr(io.StringIO()):
        [result] = peer.rerank_batch([Request(Query(QUERY.text, "1"), candidates)], rank_end=len(shown))
    judge = TargetToken(flan, prompt="duot5")
    pairs = [(i, j) for i in range(len(shown)) for j in range(i + 1, len(shown))]
    asked = [Compare(QUERY, shown[i], shown[j]) for i, j in pairs]
    answers = [answer for _, answer in sorted(dict(judge.answer(asked, Ledger())).items())]
    ours = [answer.probability for answer in answers if isinstance(answer, Compared)]
    sums = [0.0] * len(shown)
    for (i, j), probability in zip(pairs, ours, strict=True):
        sums[i] += probability or 0.0
        sums[j] += 1 - (probability or 0.0)

    assert ours == pytest.approx(said, abs=1e-3)
    assert max(ours) - min(ours) > 0.05
    assert [one.docid for one in result.candidates] == [
        shown[index].doc_id for index in sorted(range(len(shown)), key=lambda index: -sums[index])
    ]


def test_upr(flan: Path, documents: list[Document]) -> None:
    """`rerankers` sums over the query's tokens and the end token, which ours leaves out: it is added here."""
    pytest.importorskip("rerankers")
    from rerankers.models.upr import UPRRanker
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    with contextlib.redirect_stdout(io.StringIO()):
        peer = UPRRanker(str(flan), verbose=0, device="cpu", dtype=torch.float32)
    found = peer.rank(QUERY.text, [one.text for one in documents])
    theirs = {result.document.doc_id: float(result.score) for result in found.results}
    reranker = Reranker(judge=Likelihood(flan, prompt="query-likelihood", reduction="sum"))
    ours = reranker.rank(QUERY, documents)
    tokenizer, model = AutoTokenizer.from_pretrained(flan), T5ForConditionalGeneration.from_pretrained(flan).eval()
    labels = tokenizer(QUERY.text, return_tensors="pt")["input_ids"]
    ends = []
    for one in documents:
        text = f"Passage: {one.text}. Please write a question based on this passage."
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt"), labels=labels).logits
        ends.append(logits[0, -1].log_softmax(-1)[1].item())

    assert math.isfinite(sum(ends))
    agree(ours, [theirs[index] - ends[index] for index in range(len(documents))])
