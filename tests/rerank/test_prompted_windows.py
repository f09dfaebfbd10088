"""Judges that are asked by a prompt cut long documents too: each window is shown whole, and the best is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_models import QUERY, WORDS, answers

from rerank import Document, Ranking, Reranker, prompts
from rerank.algorithms.pointwise import pointwise
from rerank.errors import InputError
from rerank.judges.likelihood import Likelihood
from rerank.judges.preference import Preference
from rerank.judges.target_token import TargetToken
from rerank.questions import Grade
from rerank.rerankers.long_documents import LongDocuments

LONG = " ".join(f"{WORDS[7 * place % len(WORDS)]} {place}" for place in range(150))


@pytest.fixture(scope="module", params=["T5 with true and false", "causal with yes and no", "query likelihood"])
def judge(request: pytest.FixtureRequest, lm: Path, t5: Path) -> Any:
    made = {
        "T5 with true and false": lambda: TargetToken(t5, prompt="monot5", max_tokens=80),
        "causal with yes and no": lambda: TargetToken(lm, prompt="yes-no", max_tokens=140),
        "query likelihood": lambda: Likelihood(lm, prompt="query-likelihood", max_tokens=100),
    }
    return made[request.param]()


@pytest.mark.parametrize("options", [{}, {"max_tokens": 30}, {"max_tokens": 30, "stride": 12}])
@pytest.mark.parametrize("title", ["", "A title of Berlin"])
def test_every_window_is_shown_whole_and_nothing_is_left_out(judge: Any, title: str, options: dict[str, int]) -> None:
    document = Document("d", LONG, title)

    found = judge.windows(QUERY, document, **options)

    assert len(found) > 3
    for window in found:
        rendered = judge.render(Grade(QUERY, window))
        assert not rendered.cut
        assert len(rendered) + judge.room(Grade(QUERY, window)) <= judge.max_tokens
        assert len(judge.tokenizer(window.full_text, add_special_tokens=False)["input_ids"]) <= options.get(
            "max_tokens", judge.max_tokens
        )
    places = [LONG.index(window.text) for window in found]
    reached = 0
    for place, window in zip(places, found, strict=True):
        assert LONG[reached:place].strip() == "" or place <= reached
        reached = place + len(window.text)
    assert reached == len(LONG)


def test_a_document_that_fits_is_asked_about_as_it_is(judge: Any) -> None:
    document = Document("d", "Berlin has people")

    assert judge.windows(QUERY, document) == [document]


@pytest.mark.parametrize("policy", ["first", "max", "sum", "mean", "k-max"])
def test_windows_are_scored_like_documents_and_joined(judge: Any, policy: str) -> None:
    reranker = Reranker(judge=judge, algorithm=pointwise, long_documents=LongDocuments(policy, window=30))
    documents = [Document("long", LONG), Document("short", "Berlin has people")]
    windows = judge.windows(QUERY, documents[0], max_tokens=30)
    scores = [answer.score for answer in answers(judge, [Grade(QUERY, window) for window in windows])]
    joined = {
        "first": scores[0],
        "max": max(scores),
        "sum": sum(scores),
        "mean": sum(scores) / len(scores),
        "k-max": sum(sorted(scores)[-3:]) / 3,
    }

    [ranking] = reranker.rerank([Ranking.unscored(QUERY, documents)])

    found = {one.document.doc_id: one.score for one in ranking}
    assert found["long"] == pytest.approx(joined[policy], abs=1e-6)
    assert found["short"] == answers(judge, [Grade(QUERY, documents[1])])[0].score
    passage = reranker.passages["q"]["long"]
    assert passage.windows == len(windows)
    assert (passage.text, passage.score) == (windows[passage.number - 1].text, scores[passage.number - 1])
    if policy != "first":
        assert passage.number - 1 == scores.index(max(scores))


def test_a_cheap_judge_chooses_which_windows_are_asked_about(judge: Any, t5: Path) -> None:
    cheap = Reranker(judge=TargetToken(t5, prompt="monot5", max_tokens=64))
    policy = LongDocuments("max", window=30, preselect=cheap, preselected=2)
    reranker = Reranker(judge=judge, long_documents=policy)

    reranker.rerank([Ranking.unscored(QUERY, [Document("long", LONG)])])

    assert reranker.ledger.total["windows"] == 2
    assert reranker.ledger.total["questions"] == 2
    assert reranker.ledger.total["windows_left_out"] == reranker.passages["q"]["long"].windows - 2


def test_a_prompt_that_shows_only_so_many_words_gets_windows_of_no_more(lm: Path) -> None:
    judge = TargetToken(lm, prompt=replace(prompts.find("yes-no"), words=9), max_tokens=400)

    found = judge.windows(QUERY, Document("d", LONG))

    assert all(len(window.text.split()) <= 9 for window in found)
    assert " ".join(window.text for window in found).split() == LONG.split()


def test_a_prompt_that_shows_two_documents_has_no_windows(lm: Path) -> None:
    with pytest.raises(InputError, match="'prp' asks to compare, so that its documents have no scores of their own"):
        Preference(lm).windows(QUERY, Document("d", LONG))


def test_a_query_that_leaves_no_room_is_named(lm: Path) -> None:
    judge = TargetToken(lm, prompt="yes-no", max_tokens=60)

    with pytest.raises(InputError, match=r"query 'q': the prompt takes \d+ tokens without"):
        judge.windows(replace(QUERY, text="how many " * 60), Document("d", LONG))
