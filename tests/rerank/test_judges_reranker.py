"""A T5 or a causal language model becomes a reranker by its prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge_models import DOCUMENTS, QUERY

from rerank import Reranker
from rerank.errors import CheckpointError, InputError
from rerank.types import Ranking


@pytest.mark.parametrize(
    ("family", "prompt", "algorithm", "judge"),
    [
        ("t5", "monot5", None, "TargetToken"),
        ("t5", "rankt5", None, "TargetToken"),
        ("t5", "duot5", "all-pairs", "TargetToken"),
        ("t5", "query-likelihood", None, "Likelihood"),
        ("lm", "prp", "heapsort", "TargetToken"),
        ("lm", "setwise", "setwise-heapsort", "Choice"),
        ("lm", "first", "sliding-windows", "FirstToken"),
        ("lm", "icr", "group-scores", "Attention"),
    ],
)
def test_a_prompt_says_which_judge_asks_it(
    family: str, prompt: str, algorithm: str | None, judge: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    reranker = Reranker(folder, prompt=prompt, algorithm=algorithm)
    ranked = reranker.rank(QUERY, DOCUMENTS)

    assert type(reranker.judge).__name__ == judge
    assert sorted(candidate.document.doc_id for candidate in ranked) == ["a", "b", "c"]
    assert reranker.ledger.notes["prompt"] == prompt
    assert reranker.ledger.total["flops"] > 0


def test_another_judge_may_ask_the_same_prompt(t5: Path) -> None:
    reranker = Reranker(t5, prompt="prp", judge="preference", algorithm="sliding-k")

    assert type(reranker.judge).__name__ == "Preference"
    assert len(reranker.rank(QUERY, DOCUMENTS)) == 3


def test_one_query_alone_and_among_others_gets_the_same_bits(lm: Path) -> None:
    reranker = Reranker(lm, prompt="yes-no")
    alone = [candidate.score for candidate in Reranker(lm, prompt="yes-no").rank(QUERY, DOCUMENTS)]
    rankings = [Ranking.unscored(QUERY, DOCUMENTS), Ranking.unscored(type(QUERY)("r", "what fell?"), DOCUMENTS)]

    assert [candidate.score for candidate in reranker.rerank(rankings)[0]] == alone


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({}, CheckpointError, "is a T5, which is asked by a prompt: give prompt= one of 'rerank list prompts'"),
        ({"prompt": "prp"}, InputError, "pointwise asks Grade, and TargetToken answers only Compare"),
        ({"judge": "target-token"}, InputError, "judge 'target-token' needs a prompt"),
        ({"judge": "cross-encoder"}, CheckpointError, "is no cross-encoder but of kind encoder-decoder"),
        ({"judge": "score-head", "prompt": "monot5"}, CheckpointError, "has no score head that reads a prompt"),
        ({"prompt": "hyde"}, InputError, "prompt 'hyde' asks to write, which ranks nothing"),
        ({"prompt": "monot5", "compile": True}, InputError, "judge 'target-token' takes no compile"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    t5: Path, options: dict[str, object], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint) as caught:
        Reranker(t5, **options)  # type: ignore[arg-type]

    assert "\n" not in str(caught.value)


def test_a_cross_encoder_reads_no_prompt(minilm: Path) -> None:
    with pytest.raises(InputError, match="is a cross-encoder, which reads no prompt"):
        Reranker(minilm, prompt="monot5")
