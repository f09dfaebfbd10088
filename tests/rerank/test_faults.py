"""What goes wrong around a model: memory runs out, numbers are none, texts are endless. Never a wrong score."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from rerank import Document, Query, Ranking, Reranker
from rerank.cost import peak_memory_bytes
from rerank.errors import InputError, JudgeError
from rerank.judges.fake import Oracle

WORDS = ["fish", "bird", "tree", "stone", "river", "cloud", "field", "house"]
CONTEXT = 64


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A BERT of one layer with random weights, which reads 64 tokens."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=CONTEXT).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=13, max_position_embeddings=CONTEXT, num_labels=1, initializer_range=0.5, **shape)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def ranking_of(query_id: str, count: int, words: int = 6) -> Ranking:
    texts = [" ".join(WORDS[(index // 8**place) % 8] for place in range(words)) for index in range(count)]
    documents = [Document(f"{query_id}-{index}", text) for index, text in enumerate(texts)]
    return Ranking.unscored(Query(query_id, "fish or bird"), documents)


def scores(rankings) -> dict[str, float]:
    return {candidate.document.doc_id: candidate.score for ranking in rankings for candidate in ranking}


class Short:
    """An encoder on a machine whose memory holds so many tokens."""

    def __init__(self, encoder, holds):
        self.encoder, self.holds, self.batches = encoder, holds, []

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def score(self, pairs):
        tokens = sum(len(pair.ids) for pair in pairs)
        if tokens > self.holds:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
            )
        self.batches.append(len(pairs))
        return self.encoder.score(pairs)


def test_memory_that_runs_out_once_costs_half_the_budget_and_no_score(tiny, caplog):
    rankings = [ranking_of(f"q{number}", 60) for number in range(3)]
    expected = scores(Reranker(tiny).rerank(rankings))
    reranker = Reranker(tiny, token_budget=400)
    reranker.judge.encoder = short = Short(reranker.judge.encoder, 250)

    with caplog.at_level(logging.WARNING, "rerank"):
        found = scores(reranker.rerank(rankings))

    assert found == expected
    assert sum(short.batches) == reranker.ledger.total["questions"] - reranker.ledger.total.get("memory_hits", 0)
    assert reranker.ledger.notes["memory"] == "out of memory with a token budget of 400: going on with 200"
    assert [record.getMessage() for record in caplog.records] == [reranker.ledger.notes["memory"]]
    assert reranker.judge.token_budget == 200


def test_what_does_not_fit_even_alone_fails_alone_and_what_was_computed_stays(tiny, tmp_path):
    short_ones, long_one = ranking_of("short", 40), ranking_of("long", 1, words=50)
    with Reranker(tiny, token_budget=400, journal=tmp_path / "journal") as reranker:
        reranker.judge.encoder = Short(reranker.judge.encoder, 40)

        with pytest.raises(
            JudgeError, match="1 of 2 queries failed; the first: Grade of query 'long' and 'long-0': out of"
        ):
            reranker.rerank([short_ones, long_one])

        reranker.judge.encoder = reranker.judge.encoder.encoder
        found = scores(reranker.rerank([short_ones, long_one]))
        assert reranker.ledger.total["memory_hits"] == 40

    assert found == scores(Reranker(tiny).rerank([short_ones, long_one]))


def test_a_score_that_is_no_number_names_its_question_and_fails_no_other(tiny):
    reranker = Reranker(tiny)
    score = reranker.judge.encoder.score

    def with_nan(pairs):
        scored = score(pairs)
        none = torch.tensor([[math.nan if len(pair.ids) == 15 else 0.0] for pair in pairs])
        return replace(scored, logits=scored.logits + none)

    reranker.judge.encoder.score = with_nan
    good = ranking_of("good", 4)
    bad = ranking_of("bad", 4).then([Document("worst", "fish " * 9)])

    with pytest.raises(JudgeError, match=r"Grade of query 'bad' and 'worst': the model gave \[nan\]; a score must be"):
        reranker.rerank([bad, good])
    assert len(reranker.rerank([good])[0]) == 4


def test_a_document_of_100_000_tokens_is_cut_and_counted_and_an_empty_one_has_a_score(tiny):
    endless, empty = Document("endless", "fish bird tree " * 40_000), Document("empty", "")
    head = Document("head", " ".join(endless.text.split()[: CONTEXT - 6]))  # 3 of the query, 3 special tokens
    reranker = Reranker(tiny)

    [ranking] = reranker.rerank([Ranking.unscored(Query("q", "fish or bird"), [endless, empty, head])])

    found = scores([ranking])
    assert found["endless"] == found["head"] != found["empty"]
    assert all(math.isfinite(score) for score in found.values())
    assert reranker.ledger.total["truncated_documents"] == 1
    assert reranker.ledger.total["truncated_tokens"] == 120_000 - (CONTEXT - 6)


def test_a_query_longer_than_the_context_is_an_error_before_any_work(tiny):
    reranker = Reranker(tiny)

    with pytest.raises(InputError, match="query 'long': the query takes 70 tokens"):
        reranker.rerank([Ranking.unscored(Query("long", "fish " * 70), [Document("d", "bird")])])

    assert reranker.ledger.total == {}
    with pytest.raises(InputError, match=r"max_tokens=65, but .* reads from 1 to 64 tokens"):
        Reranker(tiny, max_tokens=65)


def test_ten_thousand_candidates_in_one_request(tiny):
    """Every score as in a request of its own; no more memory than a hundred candidates need, but for the texts."""
    whole = ranking_of("q", 10_000)
    part = Ranking.unscored(whole.query, whole.documents[5_000:5_100])
    expected = scores(Reranker(tiny).rerank([part]))
    reranker = Reranker(tiny)
    before, started = peak_memory_bytes(), time.perf_counter()

    [ranking] = reranker.rerank([whole])

    assert time.perf_counter() - started < 60
    assert peak_memory_bytes() - before < 300 * 2**20
    assert len(ranking) == len({candidate.document.doc_id for candidate in ranking}) == 10_000
    found = scores([ranking])
    assert {doc_id: found[doc_id] for doc_id in expected} == expected
    assert reranker.ledger.total["questions"] == 10_000


@pytest.mark.parametrize(
    ("algorithm", "questions"), [("pointwise", 10_000), ("sliding-windows", 999), ("full-list", 1), ("heapsort", None)]
)
def test_ten_thousand_candidates_for_other_algorithms(algorithm, questions):
    whole = ranking_of("q", 10_000)
    best = whole.documents[7_777].doc_id
    reranker = Reranker(judge=Oracle({"q": {best: 1}}), algorithm=algorithm)

    [ranking] = reranker.rerank([whole])

    assert ranking.documents[0].doc_id == best
    assert len(ranking) == 10_000
    assert reranker.ledger.total["questions"] == (questions or reranker.ledger.total["questions"])
