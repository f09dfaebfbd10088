"""A real causal language model: every way of sharing prompts gives what its own forward gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rerank.engine.causal import CausalLM

RULE = "Passages are judged by whether they answer the query.\n"
QUERY = "Query: how many people live in Berlin?\n"
PASSAGES = (
    "Passage: Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.\n",
    "Passage: New York City is famous for the Metropolitan Museum of Art.\n",
    "Passage: The Berlin Wall fell in 1989.\n",
)
TAIL = "Answer:"
Segment = tuple[int, ...]


@pytest.fixture(scope="module")
def model(smollm: Path) -> Any:
    """As transformers loads it; the engine changes it."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32).eval()
    finally:
        logging.enable_progress_bar()


@pytest.fixture(scope="module")
def encode(smollm: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    return lambda text: tuple(tokenizer.encode(text, add_special_tokens=False))


@pytest.fixture(scope="module")
def pieces(encode: Any) -> tuple[Segment, Segment, list[Segment], Segment]:
    return encode(RULE), encode(QUERY), [encode(passage) for passage in PASSAGES], encode(TAIL)


@pytest.fixture(scope="module")
def prompts(pieces: Any) -> dict[str, list[Sequence[Segment]]]:
    rule, query, documents, tail = pieces
    one, two, three = documents
    return {
        "query first": [(rule, query, document, tail) for document in documents],
        "document first": [(rule, document, query, tail) for document in documents],
        "pairs": [(rule, query, one, two, tail), (rule, query, two, one, tail)],
        "window": [(rule, query, one, two, three, query, tail)],
    }


@pytest.fixture(scope="module")
def stock(model: Any, prompts: Any) -> dict[str, torch.Tensor]:
    """What transformers itself says: all logits behind each prompt, prompt by prompt."""
    with torch.inference_mode():
        return {
            name: torch.cat([model(torch.tensor([sum(prompt, ())]), logits_to_keep=1).logits[:, -1] for prompt in some])
            for name, some in prompts.items()
        }


@pytest.fixture(scope="module")
def lm(model: Any, stock: Any) -> CausalLM:
    return CausalLM(model)


def agree(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pattern", ["query first", "document first", "pairs", "window"])
def test_logits_equal_the_plain_loop(pattern, lm, stock, prompts, encode):
    targets = [encode(word)[0] for word in (" Yes", " No", " A", " B", "[")]
    some = prompts[pattern]

    shared = lm.score(some, targets, keep=3 if pattern == "window" else 2)
    again = lm.score(some, targets)
    alone = lm.score(some[-1:], targets)

    agree(shared.logits, stock[pattern][:, targets])
    assert again.cost.kept > 0
    assert torch.equal(again.logits, shared.logits)
    assert torch.equal(alone.logits[0], shared.logits[-1])
    lm.forget()
    assert torch.equal(lm.score(some[-1:], targets).logits[0], shared.logits[-1]), "nothing is kept or shared"


def test_the_query_is_likeliest_behind_the_passage_that_answers_it(lm, pieces):
    rule, query, documents, _ = pieces

    likely = lm.likelihood([(rule, document) for document in documents], [query] * 3)

    sums = [log_probs.sum().item() for log_probs in likely.log_probs]
    assert sums[0] > sums[2] > sums[1]  # Berlin's people, Berlin's wall, New York


def test_both_queries_of_in_context_reranking_read_one_context(lm, pieces, encode):
    rule, query, documents, tail = pieces

    mass = lm.attention((rule, *documents), [(*query, *tail), (*encode("Query: N/A\n"), *tail)])

    calibrated = mass.segments[0] / (len(query) + len(tail)) - mass.segments[1] / (len(encode("Query: N/A\n")) + 2)
    assert mass.cost.calls == 1
    assert calibrated[1:].argmax() == 0
