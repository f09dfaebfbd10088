"""The real MiniLM-L12 reranker on the collection that ships with the package."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch

from rerank import Dataset, Document, Query, Ranking, Reranker
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError, JudgeError, UnknownName
from rerank.judges.cross_encoder import CrossEncoder
from rerank.questions import Grade

TOKENS = 128


@pytest.fixture(scope="module")
def grades() -> list[Grade]:
    """200 pairs: every query with ten documents, most of them other queries'."""
    dataset = Dataset.load("noveleval")
    documents = list(dataset.documents())
    choice = random.Random(2306)
    pairs = [Grade(query, document) for query in dataset.queries for document in choice.sample(documents, 10)]
    return choice.sample(pairs, 200)


@pytest.fixture(scope="module")
def judge(minilm: Path) -> CrossEncoder:
    return CrossEncoder(minilm, max_tokens=TOKENS)


def scores_of(judge: CrossEncoder, grades: list[Grade], ledger: Ledger | None = None) -> list[float]:
    answers = dict(judge.answer(grades, ledger or Ledger()))
    return [answers[index].score for index in range(len(grades))]


@pytest.fixture(scope="module")
def scores(judge, grades) -> list[float]:
    return scores_of(judge, grades)


def test_raw_logits_are_those_of_sentence_transformers(minilm, grades, scores):
    from sentence_transformers import CrossEncoder as Peer

    peer = Peer(str(minilm), max_length=TOKENS, activation_fn=torch.nn.Identity(), device="cpu")
    expected = peer.predict(
        [(grade.query.text, grade.document.full_text) for grade in grades], batch_size=8, show_progress_bar=False
    )

    assert max(abs(ours - float(theirs)) for ours, theirs in zip(scores, expected, strict=True)) < 1e-4


@pytest.mark.parametrize("budget", [256, 8192])
def test_bits_do_not_depend_on_the_token_budget(judge, grades, scores, budget, monkeypatch):
    monkeypatch.setattr(judge.budget, "tokens", budget)

    assert scores_of(judge, grades) == scores


def test_bits_do_not_depend_on_order_neighbours_or_threads(judge, grades, scores):
    order = random.Random(1).sample(range(200), 200)
    long = Grade(grades[0].query, Document("long", " ".join(f"word{number}" for number in range(500))))
    threads = torch.get_num_threads()

    torch.set_num_threads(1)
    shuffled = scores_of(judge, [long, *(grades[index] for index in order)])[1:]
    torch.set_num_threads(threads)

    assert shuffled == [scores[index] for index in order]


def test_the_ledger_counts_pairs_tokens_padding_and_cuts(minilm, grades):
    judge = CrossEncoder(minilm, max_tokens=TOKENS, token_budget=1024)
    ledger = Ledger()
    lengths = [
        len(judge.tokens.tokenizer(grade.query.text, grade.document.full_text, truncation=False)["input_ids"])
        for grade in grades[:40]
    ]

    scores_of(judge, grades[:40], ledger)

    total = ledger.total
    assert total["tokens_real"] == sum(min(length, TOKENS) for length in lengths)
    assert total["truncated_documents"] == sum(length > TOKENS for length in lengths)
    assert total["truncated_tokens"] == sum(max(0, length - TOKENS) for length in lengths)
    assert total["calls"] == math.ceil(total["tokens_real"] / 1024)
    assert sum(account["flops"] for account in ledger.queries.values()) == total["flops"]
    assert sum(account["tokens_real"] for account in ledger.queries.values()) == total["tokens_real"]
    assert ledger.notes["execution"].startswith("packed")
    assert ledger.padding < 0.15


def test_odd_documents_get_a_score_of_their_own(judge):
    query = Query("q", "what is a reranker?")
    odd = [Document("empty", ""), Document("huge", "word " * 100_000), Document("odd", "\x00 \u202e😀 \ufffd")]

    ledger = Ledger()
    scores = scores_of(judge, [Grade(query, document) for document in odd], ledger)

    assert len(set(scores)) == 3
    assert ledger.total["truncated_documents"] == 1
    assert ledger.total["truncated_tokens"] > 99_000


def test_equal_texts_tie_and_keep_their_order(minilm):
    ranking = Reranker(minilm, max_tokens=64).rank("who won?", ["the same text", "he won", "the same text"])

    same = [candidate for candidate in ranking if candidate.document.text == "the same text"]
    assert same[0].score == same[1].score
    assert [candidate.document.doc_id for candidate in same] == ["0", "2"]


def test_a_query_without_room_fails_alone_and_says_why(judge):
    long = Query("long", "why " * 300)
    answers = dict(
        judge.answer([Grade(long, Document("d", "text")), Grade(Query("q", "why"), Document("d", "text"))], Ledger())
    )

    assert isinstance(answers[0], InputError)
    assert "query takes 300 tokens" in str(answers[0])
    assert answers[1].score < 20


def test_queries_without_room_are_refused_before_any_work(minilm):
    reranker = Reranker(minilm, max_tokens=16)
    documents = [Document("d", "text")]
    rankings = [Ranking.unscored(Query(f"q{words}", "why " * words), documents) for words in (2, 30, 40)]

    with pytest.raises(InputError, match=r"query 'q30': the query takes 30 tokens.*2 of 3 queries"):
        reranker.rerank(rankings)

    assert reranker.ledger.total == {}


def test_a_score_that_is_no_number_is_an_error_that_names_the_question(minilm, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(minilm, broken)
    weights = load_file(broken / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], float("nan"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})

    with pytest.raises((JudgeError, CheckpointError), match=r"nan"):
        Reranker(broken).rank("who?", ["a text"])


def test_two_logits_give_the_log_probability_of_the_second(minilm, tmp_path):
    from safetensors.torch import load_file, save_file

    two = tmp_path / "two"
    shutil.copytree(minilm, two)
    config = json.loads((two / "config.json").read_text())
    config |= {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    (two / "config.json").write_text(json.dumps(config))
    weights = load_file(two / "model.safetensors")
    row = weights["classifier.weight"]
    weights["classifier.weight"] = torch.cat([-row, row])
    weights["classifier.bias"] = torch.tensor([0.5, -0.25])
    save_file(weights, two / "model.safetensors", {"format": "pt"})
    texts = ["Berlin has 3.5 million inhabitants.", "New York has a museum."]

    one = {c.document.text: c.score for c in Reranker(minilm).rank("How many people live in Berlin?", texts)}
    both = {c.document.text: c.score for c in Reranker(two).rank("How many people live in Berlin?", texts)}

    bias = float(load_file(minilm / "model.safetensors")["classifier.bias"])
    for text in texts:
        logit = one[text] - bias
        expected = torch.log_softmax(torch.tensor([-logit + 0.5, logit - 0.25]), 0)[1].item()
        assert both[text] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_tokens": 513}, InputError, "max_tokens=513, but .* reads from 1 to 512"),
        ({"max_tokens": 0}, InputError, "max_tokens=0"),
        ({"token_budget": 0}, InputError, "token_budget=0"),
        ({"device": "gpu"}, InputError, "no device 'gpu'"),
        ({"dtype": "float23"}, UnknownName, "did you mean 'float32'"),
    ],
)
def test_options_that_do_not_fit_are_refused(minilm, options, error, message):
    with pytest.raises(error, match=message):
        Reranker(minilm, **options)


def test_every_option_changes_what_it_says(minilm, grades, scores):
    shorter = CrossEncoder(minilm, max_tokens=64)
    half = CrossEncoder(minilm, max_tokens=TOKENS, dtype="bfloat16")
    longer_calls = CrossEncoder(minilm, max_tokens=TOKENS, token_budget=4096)
    ledgers = Ledger(), Ledger()

    some = grades[:12]
    assert scores_of(shorter, some) != scores[:12]
    in_half = scores_of(half, some)
    assert in_half != scores[:12]
    assert max(abs(one - two) for one, two in zip(in_half, scores, strict=False)) < 0.5
    assert scores_of(longer_calls, some, ledgers[0]) == scores[:12]
    assert scores_of(CrossEncoder(minilm, max_tokens=TOKENS, token_budget=512), some, ledgers[1]) == scores[:12]
    assert ledgers[0].total["calls"] < ledgers[1].total["calls"]
    assert len({judge.key for judge in (shorter, half, CrossEncoder(minilm, max_tokens=TOKENS))}) == 3
    assert longer_calls.key == CrossEncoder(minilm, max_tokens=TOKENS).key


def test_options_of_the_encoder_reach_it(minilm, judge, grades):
    reranker = Reranker(minilm, max_tokens=TOKENS, deterministic=True)

    assert scores_of(reranker.judge, grades[:3]) == scores_of(
        judge, grades[:3]
    )  # float32 on the CPU is deterministic anyhow
    assert reranker.judge.encoder.options.deterministic
    assert reranker.judge.key == CrossEncoder(minilm, max_tokens=TOKENS).key
    with pytest.raises(InputError, match="deterministic=True needs float32 on the CPU"):
        Reranker(minilm, dtype="bfloat16", deterministic=True)
