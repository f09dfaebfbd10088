"""Few-shot prompts: which demonstrations a query is shown, on which side the better one stands, and what models see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from judge_models import DOCUMENTS, QUERY, answers, chat_text, plain_lm

from rerank import Reranker, prompts
from rerank.errors import FileError, InputError, UnknownName
from rerank.judges.likelihood import Likelihood
from rerank.judges.target_token import TargetToken
from rerank.prompts.demonstrations import Demonstration, from_qrels, read, rendered
from rerank.questions import Compare, Compared, Grade, Graded
from rerank.types import Document, Query, Ranking

SHOWN = (
    Demonstration("who painted the Mona Lisa?", "Leonardo painted it.", "The Louvre is in Paris."),
    Demonstration("how many people live in Paris?", "Paris has 2.1 million inhabitants.", "Paris is old."),
    Demonstration("what is a heap?", "A heap is a tree.", "A hill is high."),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shown.jsonl"
    lines = [{"query": each.query, "better": each.better, "worse": each.worse} for each in SHOWN]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def pair(query: str, first: str, second: str) -> str:
    return (
        f'Given a query "{query}", which of the following two passages is more relevant to the query?\n\n'
        f'Passage A: "{first}"\n\nPassage B: "{second}"\n\nOutput Passage A or Passage B:'
    )


def test_the_better_document_stands_on_either_side_by_turns() -> None:
    text = rendered(prompts.find("prp-fewshot"), SHOWN[:2])

    assert text == (
        f"{pair(SHOWN[0].query, SHOWN[0].better, SHOWN[0].worse)} Passage A\n\n"
        f"{pair(SHOWN[1].query, SHOWN[1].worse, SHOWN[1].better)} Passage B\n\n"
    )


def test_mirrored_demonstrations_are_one_pair_in_both_orders() -> None:
    text = rendered(prompts.find("prp-fewshot"), SHOWN[:1], mirrored=True)

    assert text == (
        f"{pair(SHOWN[0].query, SHOWN[0].better, SHOWN[0].worse)} Passage A\n\n"
        f"{pair(SHOWN[0].query, SHOWN[0].worse, SHOWN[0].better)} Passage B\n\n"
    )


def test_grades_show_better_and_worse_documents_by_turns_and_likelihoods_better_ones_alone() -> None:
    graded = rendered(prompts.find("yes-no-fewshot"), SHOWN[:2])
    likely = rendered(prompts.find("query-likelihood-fewshot"), SHOWN[:2])

    assert [line for line in graded.splitlines() if line in ("Yes", "No")] == ["Yes", "No"]
    assert f"Passage: {SHOWN[1].worse}\nQuery: {SHOWN[1].query}" in graded
    assert likely == "".join(f"Document: {each.better}\nQuery: {each.query}\n\n" for each in SHOWN[:2])


def test_a_comparison_after_demonstrations_is_a_plain_forward_over_all_of_it(lm: Path, file: Path) -> None:
    judge = TargetToken(lm, prompt="prp-fewshot", demonstrations=file, shots=1)
    one, two, _ = DOCUMENTS
    [answer] = answers(judge, [Compare(QUERY, one, two)])
    nearest = SHOWN[1]  # it shares "how many people live in" with the query
    said = f"{pair(nearest.query, nearest.better, nearest.worse)} Passage A\n\n"
    text = chat_text(lm, said + pair(QUERY.text, one.full_text, two.full_text), "Passage")
    logits = plain_lm(lm, text)[-1][[*judge.targets.values()]]

    assert isinstance(answer, Compared)
    assert answer.probability == pytest.approx(logits.softmax(0)[0].item(), abs=1e-4)
    assert judge.shots is not None
    assert judge.choices["demonstrations"] == judge.shots.description


def test_the_likelihood_of_a_query_after_others(lm: Path) -> None:
    judge = Likelihood(lm, prompt="query-likelihood-fewshot", demonstrations=SHOWN, shots=2, choose="first")
    found = [
        answer.score for answer in answers(judge, [Grade(QUERY, d) for d in DOCUMENTS]) if isinstance(answer, Graded)
    ]
    expected = []
    query = judge.tokenizer(f" {QUERY.text}", add_special_tokens=False)["input_ids"]
    for document in DOCUMENTS:
        front = "".join(f"Document: {each.better}\nQuery: {each.query}\n\n" for each in SHOWN[:2])
        logits = plain_lm(lm, f"{front}Document: {document.full_text}\nQuery: {QUERY.text}")
        log_probs = logits[-len(query) - 1 : -1].log_softmax(1)
        expected.append(log_probs[range(len(query)), query].mean().item())

    assert found == pytest.approx(expected, abs=1e-4)


def test_the_most_similar_stands_next_to_the_question_and_the_same_query_never(lm: Path) -> None:
    judge = TargetToken(lm, prompt="prp-fewshot", demonstrations=SHOWN, shots=3)
    assert judge.shots is not None

    assert judge.shots.chosen(QUERY.text)[-1] == SHOWN[1]
    assert {*judge.shots.chosen(QUERY.text)} == {*SHOWN}
    assert SHOWN[2] not in judge.shots.chosen(SHOWN[2].query)  # it would give the answer away


def test_hard_demonstrations_are_those_whose_query_the_model_finds_least_likely(lm: Path) -> None:
    judge = TargetToken(lm, prompt="yes-no-fewshot", demonstrations=SHOWN, shots=1, choose="hard")
    likely = Likelihood(lm, prompt="rankinggpt")
    asked = [Grade(Query("q", each.query), Document("d", each.better)) for each in SHOWN]
    found = [answer.score for answer in answers(likely, asked) if isinstance(answer, Graded)]
    assert judge.shots is not None

    assert judge.shots.chosen("another")[0] == SHOWN[found.index(min(found))]


def test_random_demonstrations_are_the_seeds(lm: Path) -> None:
    made = [
        TargetToken(lm, prompt="prp-fewshot", demonstrations=SHOWN, choose="random", seed=seed).shots
        for seed in (0, 0, *range(1, 6))
    ]
    chosen = [shots.chosen("x") for shots in made if shots is not None]

    assert chosen[0] == chosen[1]
    assert len({*chosen}) > 1
    assert made[2] is not None
    assert "seed 1" in made[2].description


def test_all_that_changes_what_is_shown_changes_the_key(lm: Path, file: Path) -> None:
    made = [
        {"demonstrations": SHOWN},
        {"demonstrations": SHOWN[:2]},
        {"demonstrations": SHOWN, "shots": 2},
        {"demonstrations": SHOWN, "choose": "first"},
        {"demonstrations": SHOWN, "choose": "random"},
        {"demonstrations": SHOWN, "choose": "random", "seed": 1},
        {"demonstrations": SHOWN, "mirrored": True},
    ]
    keys = [TargetToken(lm, prompt="prp-fewshot", **options).key for options in made]

    assert len({*keys}) == len(made)
    assert TargetToken(lm, prompt="prp-fewshot", demonstrations=file).key == keys[0]  # a file is what it says


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"prompt": "prp-fewshot"}, InputError, "prompt 'prp-fewshot' shows demonstrations: give demonstrations="),
        (
            {"prompt": "prp", "demonstrations": SHOWN},
            InputError,
            "prompt 'prp' shows no demonstrations; leave",
        ),
        ({"demonstrations": SHOWN, "shots": 4}, InputError, "shots=4, and there are 3 demonstrations; show 1 to 3"),
        (
            {"demonstrations": SHOWN, "choose": "nearest"},
            UnknownName,
            "no choice of demonstrations is called",
        ),
        ({"demonstrations": [Demonstration("q", "b")]}, InputError, "the demonstration of 'q' has no 'worse' document"),
        ({"demonstrations": "missing.jsonl"}, FileError, "cannot read missing.jsonl"),
        (
            {"prompt": "yes-no-fewshot", "demonstrations": SHOWN, "mirrored": True},
            InputError,
            "mirrored=True, but prompt 'yes-no-fewshot' asks to grade",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    lm: Path, options: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint) as caught:
        TargetToken(lm, **{"prompt": "prp-fewshot"} | options)

    assert "\n" not in str(caught.value)


def test_a_file_says_which_line_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text('{"query": "a", "better": "b"}\n{"query": "a", "best": "b"}\n')

    with pytest.raises(FileError, match=r"shown.jsonl:2: 'better' is missing; a text is wanted"):
        read(path)
    path.write_text('{"query": " ", "better": "b"}\n')
    with pytest.raises(FileError, match="'query' and 'better' must say something"):
        read(path)


def test_judgments_make_demonstrations_of_the_best_and_the_first_that_is_not_relevant() -> None:
    documents = [Document(str(index), f"text {index}") for index in range(4)]
    rankings = [Ranking.unscored(Query(name, f"words of {name}"), documents) for name in ("a", "b", "c")]
    qrels = {"a": {"1": 1, "2": 3}, "b": {"0": 0}, "c": {str(index): 1 for index in range(4)}}

    assert from_qrels(rankings, qrels) == (Demonstration("words of a", "text 2", "text 0"),)


def test_a_reranker_sorts_by_few_shot_comparisons(lm: Path) -> None:
    judge = TargetToken(lm, prompt="prp-fewshot", demonstrations=SHOWN, mirrored=True)
    ranked = Reranker(judge=judge, algorithm="heapsort").rank(QUERY, DOCUMENTS)

    assert sorted(candidate.document.doc_id for candidate in ranked) == ["a", "b", "c"]
