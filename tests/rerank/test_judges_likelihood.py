"""Query likelihood: the mean loss of transformers over the query's tokens and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from judge_models import DOCUMENTS, QUERY, _loaded, _tokenizer, answers, plain_lm

from rerank.errors import InputError
from rerank.judges.likelihood import Likelihood
from rerank.questions import Grade, Graded

GRADES = [Grade(QUERY, document) for document in DOCUMENTS]


def scores(judge: Likelihood) -> list[float]:
    return [answer.score for answer in answers(judge, GRADES) if isinstance(answer, Graded)]


def test_the_mean_and_the_sum_of_the_querys_tokens_behind_the_prompt(lm: Path) -> None:
    mean = Likelihood(lm, prompt="rankinggpt")
    total = Likelihood(lm, prompt="rankinggpt", reduction="sum")
    tokenizer = _tokenizer(lm)
    query = tokenizer(f" {QUERY.text}", add_special_tokens=False)["input_ids"]
    expected = []
    for document in DOCUMENTS:
        logits = plain_lm(lm, f"Document: {document.full_text} Query: {QUERY.text}")
        log_probs = logits[-len(query) - 1 : -1].log_softmax(1)
        expected.append(log_probs[range(len(query)), query].sum().item())

    assert scores(total) == pytest.approx(expected, abs=1e-3)
    assert scores(mean) == pytest.approx([each / len(query) for each in expected], abs=1e-4)
    assert mean.key != total.key


@torch.inference_mode()
def test_for_a_t5_it_is_minus_the_loss_with_the_query_as_labels(t5: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    tokenizer, model = _tokenizer(t5), _loaded(AutoModelForSeq2SeqLM, t5)
    labels = tokenizer(QUERY.text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    expected = []
    for document in DOCUMENTS:
        said = f"Passage: {document.full_text}. Please write a question based on this passage."
        ids = tokenizer(said, return_tensors="pt")["input_ids"]
        expected.append(-model(input_ids=ids, labels=labels).loss.item())

    assert scores(Likelihood(t5, prompt="query-likelihood")) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompt": "monot5"}, "prompt 'monot5' shows the query, whose likelihood is asked for"),
        ({"prompt": "rankinggpt", "reduction": "max"}, "reduction='max'; choose 'mean' or 'sum'"),
        ({"prompt": "prp"}, "Likelihood answers prompts that ask to grade"),
    ],
)
def test_what_cannot_be_is_refused(lm: Path, options: dict[str, str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Likelihood(lm, **options)  # type: ignore[arg-type]
