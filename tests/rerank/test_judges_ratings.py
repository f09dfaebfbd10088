"""Rating scales and relevance labels: the log-likelihood of every label's tokens in a plain forward."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_models import DOCUMENTS, QUERY, answers, chat_text, plain_lm, plain_t5

from rerank import Reranker
from rerank.errors import InputError
from rerank.judges.ratings import Ratings
from rerank.judges.target_token import TargetToken
from rerank.questions import Grade, Graded

GRADES = [Grade(QUERY, document) for document in DOCUMENTS]
LABELS = ("Perfectly Relevant", "Highly Relevant", "Somewhat Relevant", "Not Relevant")


def scores(judge: Any) -> list[float]:
    return [answer.score for answer in answers(judge, GRADES) if isinstance(answer, Graded)]


def likelihoods(folder: Path, prompt: str, labels: list[list[int]]) -> list[float]:
    """Of labels given as token ids, by plain forwards over prompt and label together."""
    from judge_models import _loaded, _tokenizer
    from transformers import AutoModelForCausalLM

    ids = _tokenizer(folder)(prompt, add_special_tokens=False)["input_ids"]
    found = []
    for label in labels:
        with torch.inference_mode():
            logits = _loaded(AutoModelForCausalLM, folder)(torch.tensor([ids + label])).logits[0]
        log_probs = logits.log_softmax(-1)[len(ids) - 1 : -1]
        found.append(sum(log_probs[place, token].item() for place, token in enumerate(label)))
    return found


def test_labels_of_several_tokens_give_the_expected_grade_and_the_peak(lm: Path) -> None:
    judge, peak = Ratings(lm, prompt="graded-labels"), Ratings(lm, prompt="graded-labels", reading="peak")
    expected, peaks = [], []
    for document in DOCUMENTS:
        said = (
            'For the following query and document, judge whether they are "Perfectly Relevant", "Highly Relevant", '
            f'"Somewhat Relevant", or "Not Relevant".\nQuery: {QUERY.text}\nDocument: {document.full_text}\nOutput:'
        )
        tokens = [list(judge.labels_by_tokens[label]) for label in LABELS]
        found = likelihoods(lm, chat_text(lm, said), tokens)
        shares = torch.tensor(found).softmax(0)
        expected.append((shares @ torch.tensor([3.0, 2.0, 1.0, 0.0])).item())
        peaks.append(found[0])

    assert all(len(judge.labels_by_tokens[label]) > 1 for label in LABELS)
    assert scores(judge) == pytest.approx(expected, abs=1e-4)
    assert scores(peak) == pytest.approx(peaks, abs=1e-3)
    assert judge.key != peak.key


def test_a_scale_of_digits_is_the_expected_grade_in_one_step_by_either_judge(lm: Path) -> None:
    one_step, judge = TargetToken(lm, prompt="graded-relevance"), Ratings(lm, prompt="graded-relevance")
    expected = []
    for document in DOCUMENTS:
        said = "From a scale of 0 to 4, judge the relevance between the query and the document.\n"
        text = chat_text(lm, f"{said}Query: {QUERY.text}\nDocument: {document.full_text}\nOutput:")
        shares = plain_lm(lm, text)[-1][[*one_step.targets.values()]].softmax(0)
        expected.append((shares @ torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])).item())

    assert scores(one_step) == pytest.approx(expected, abs=1e-4)
    assert scores(judge) == pytest.approx(expected, abs=1e-4)
    assert one_step.reading == "expected"


def test_a_label_that_a_t5_reads_as_two_pieces_is_one_label(t5: Path) -> None:
    judge = Ratings(t5, prompt="graded-relevance")

    assert len(judge.labels_by_tokens["0"]) == 2  # which the judge of single tokens refuses
    assert all(0 < score < 4 for score in scores(judge))
    with pytest.raises(InputError, match="the target '0' must be one token"):
        TargetToken(t5, prompt="graded-relevance")


def test_the_peak_of_a_t5_is_the_log_probability_of_its_first_label_over_all_tokens(t5: Path) -> None:
    judge = Ratings(t5, prompt="graded-relevance", reading="peak")
    [token] = judge.labels_by_tokens["4"]
    expected = []
    for document in DOCUMENTS:
        said = "From a scale of 0 to 4, judge the relevance between the query and the document.\n"
        text = f"{said}Query: {QUERY.text}\nDocument: {document.full_text}\nOutput:"
        expected.append(plain_t5(t5, text).log_softmax(0)[token].item())

    assert scores(judge) == pytest.approx(expected, abs=1e-4)


def test_the_prompt_says_which_judge_asks_it(lm: Path) -> None:
    assert isinstance(Reranker(lm, prompt="graded-relevance").judge, TargetToken)
    assert isinstance(Reranker(lm, prompt="graded-labels").judge, Ratings)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"prompt": "yes-no"}, r"\['Yes', 'No'\] are 2 labels; two or fewer are read by judge='target-token'"),
        ({"prompt": "graded-relevance", "reading": "mean"}, "reading='mean'; labels are read by 'expected' or 'peak'"),
        ({"prompt": "graded-relevance", "grades": [1, 2, 3, 4, 5]}, "do not fall; the better target stands first"),
        ({"prompt": "graded-relevance", "targets": ["good", "fair", "bad"]}, r"what are the targets .* worth\?"),
        (
            {"prompt": "graded-relevance", "targets": ["3", "3", "1"], "grades": [3, 2, 1]},
            "are not different tokens each",
        ),
    ],
)
def test_what_cannot_be_is_refused(lm: Path, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Ratings(lm, **options)


def test_the_likelihood_of_a_label_is_no_sum_over_the_prompt(lm: Path) -> None:
    """A label is as likely as its tokens, wherever the prompt is long."""
    prompt = chat_text(lm, "a")
    [once] = likelihoods(lm, prompt, [[100, 200]])
    logits = plain_lm(lm, prompt)[-1].log_softmax(-1)

    assert once <= logits[100].item() + 1e-6
    assert math.isfinite(once)
