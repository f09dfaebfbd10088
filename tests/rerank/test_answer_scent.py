"""Answer scent: an answer is written once a query, and documents are graded by its likelihood; both are journalled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from judge_models import DOCUMENTS, QUERY, _tokenizer, answers, chat_text, plain_lm

from rerank import Reranker
from rerank.errors import InputError
from rerank.judges.answer_scent import AnswerScent
from rerank.judges.likelihood import Likelihood
from rerank.judges.writer import Writer
from rerank.questions import Answer, Bill, Grade, Graded, Question, Write, Written, content_key
from rerank.types import Query, Ranking

SCENT = "About 3.5 million people live there."


class Says:
    """A writer that says the same thing to everybody, and counts how often."""

    key, answers, reads_ids = "says-1", frozenset({Write}), False

    def __init__(self, text: str = SCENT) -> None:
        self.text, self.asked = text, 0

    def answer(self, questions: Sequence[Question], bill: Bill) -> Iterator[tuple[int, Answer]]:
        for index, question in enumerate(questions):
            self.asked += 1
            bill.charge(question.query.query_id, calls=1)
            yield index, Written(self.text, () if self.text else ("nothing was written",))


def expected(folder: Path, scent: str) -> list[float]:
    """The sum of the log-probabilities of the answer's tokens behind each document, by plain forwards."""
    tokens = _tokenizer(folder)(scent, add_special_tokens=False)["input_ids"]
    found = []
    for document in DOCUMENTS:
        prompt = chat_text(folder, f"Passage: {document.full_text}\nQuestion: {QUERY.text}\nAnswer:")
        log_probs = plain_lm(folder, prompt + scent)[-len(tokens) - 1 : -1].log_softmax(1)
        found.append(log_probs[range(len(tokens)), tokens].sum().item())
    return found


def test_documents_are_graded_by_the_answers_likelihood(lm: Path) -> None:
    reranker = Reranker(judge=AnswerScent(lm, writer=Says()), algorithm="answer-scent")
    ranking = reranker.rank(QUERY, DOCUMENTS)
    found = {candidate.document.doc_id: candidate.score for candidate in ranking}

    assert [found[document.doc_id] for document in DOCUMENTS] == pytest.approx(expected(lm, SCENT), abs=1e-3)


def test_mean_and_sum_order_alike_and_are_other_keys(lm: Path) -> None:
    judges = [AnswerScent(lm, writer=Says(), reduction=reduction) for reduction in ("sum", "mean")]
    orders = [
        [
            candidate.document.doc_id
            for candidate in Reranker(judge=judge, algorithm="answer-scent").rank(QUERY, DOCUMENTS)
        ]
        for judge in judges
    ]

    assert orders[0] == orders[1]
    assert judges[0].key != judges[1].key


def test_an_answer_is_written_once_a_query_and_stands_in_the_journal_like_every_grade(lm: Path, tmp_path: Path) -> None:
    rankings = [Ranking.unscored(Query(name, f"{name} {QUERY.text}"), DOCUMENTS) for name in ("one", "two")]
    runs = []
    for _ in range(2):
        writer = Says()
        judge = AnswerScent(lm, writer=writer)
        with Reranker(judge=judge, algorithm="answer-scent", journal=tmp_path / "j.jsonl") as reranker:
            runs.append((reranker.rerank(rankings), writer.asked, reranker.ledger.total.get("calls", 0)))

    assert len((tmp_path / "j.jsonl").read_text().splitlines()) >= 2 * (1 + len(DOCUMENTS))
    assert runs[0][1] == 2
    assert runs[1][1:] == (0, 0)  # the second run reads both models' answers
    assert runs[0][0] == runs[1][0]


def test_a_model_may_write_for_itself_and_is_loaded_once(lm: Path) -> None:
    judge = AnswerScent(lm, new_tokens=8)
    reranker = Reranker(judge=judge, algorithm="answer-scent")
    ranking = reranker.rank(QUERY, DOCUMENTS)
    [written] = answers(Writer(lm, new_tokens=8), [Write(QUERY)])

    assert judge.writer.model is judge.scorer.model
    assert isinstance(written, Written)
    found = {candidate.document.doc_id: candidate.score for candidate in ranking}
    grades = [Grade(QUERY, document, continuation=written.text.strip()) for document in DOCUMENTS]
    alone = answers(Likelihood(lm, prompt="answer-likelihood", reduction="sum"), grades)
    assert [found[document.doc_id] for document in DOCUMENTS] == [
        each.score for each in alone if isinstance(each, Graded)
    ]
    assert reranker.ledger.notes["prompt"] == "answer-likelihood"
    assert reranker.ledger.notes["writer's prompt"] == "answer-scent"
    assert reranker.ledger.total["tokens_generated"] <= 8


def test_an_empty_answer_is_a_repair_and_the_query_takes_its_place(lm: Path) -> None:
    reranker = Reranker(judge=AnswerScent(lm, writer=Says("  ")), algorithm="answer-scent")
    found = {candidate.document.doc_id: candidate.score for candidate in reranker.rank(QUERY, DOCUMENTS)}

    assert [found[document.doc_id] for document in DOCUMENTS] == pytest.approx(expected(lm, QUERY.text), abs=1e-3)
    empty = Reranker(judge=AnswerScent(lm, writer=Says("")), algorithm="answer-scent")
    empty.rank(QUERY, DOCUMENTS)
    assert empty.ledger.total["repairs"] == 1


def test_what_is_likely_is_part_of_the_question(lm: Path) -> None:
    judge = Says()
    plain = Grade(QUERY, DOCUMENTS[0])
    keys = {content_key(judge, each) for each in (plain, Grade(QUERY, DOCUMENTS[0], continuation="a"))}

    assert len(keys | {content_key(judge, Grade(QUERY, DOCUMENTS[0], continuation="b"))}) == 3


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda lm: AnswerScent(lm, prompt="rankinggpt"), "prompt 'rankinggpt' is continued by the query"),
        (lambda lm: AnswerScent(lm, writer=Likelihood(lm, prompt="rankinggpt")), "Likelihood answers no Write"),
        (lambda lm: Writer(lm, prompt="rankinggpt"), "Writer answers prompts that ask to write"),
        (lambda lm: Writer(lm, new_tokens=0), "new_tokens=0; an answer needs at least 1"),
    ],
)
def test_what_cannot_be_is_refused(lm: Path, make: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        make(lm)


def test_questions_must_bring_what_the_prompt_is_continued_by(lm: Path) -> None:
    with pytest.raises(InputError, match="continued by an answer, and the question brings none"):
        answers(Likelihood(lm, prompt="answer-likelihood"), [Grade(QUERY, DOCUMENTS[0])])
    with pytest.raises(InputError, match="continued by a query, and the question brings an answer of its own"):
        answers(Likelihood(lm, prompt="rankinggpt"), [Grade(QUERY, DOCUMENTS[0], continuation="x")])
