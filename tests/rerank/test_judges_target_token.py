"""Grades and comparisons by target words: the numbers of a plain forward, whatever stands beside a question."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from judge_models import (
    DOCUMENTS,
    QUERY,
    answers,
    chat_text,
    plain_lm,
    plain_t5,
    some_documents,
)

from rerank import checkpoints, prompts
from rerank.cost import Ledger
from rerank.engine.loading import load
from rerank.engine.seq2seq import EncoderDecoder
from rerank.errors import InputError
from rerank.judges.target_token import TargetToken
from rerank.prompts import Prompt, Turn
from rerank.questions import Compare, Compared, Grade, Graded
from rerank.types import Document, Query

GRADES = [Grade(QUERY, document) for document in DOCUMENTS]
TRUE, FALSE = 1176, 6136


@pytest.fixture(scope="module")
def yes_no(lm: Path) -> TargetToken:
    return TargetToken(lm, prompt="yes-no")


@pytest.fixture(scope="module")
def monot5(t5: Path) -> TargetToken:
    return TargetToken(t5, prompt="monot5")


def scores(judge: TargetToken, questions: list[Grade]) -> list[float]:
    return [answer.score for answer in answers(judge, questions) if isinstance(answer, Graded)]


@pytest.mark.parametrize("kind", ["tiny", "real"])
def test_monot5_is_log_p_of_true_over_true_and_false(t5: Path, flan: Path, kind: str) -> None:
    folder = t5 if kind == "tiny" else flan
    judge = TargetToken(folder, prompt="monot5")
    texts = [f"Query: {QUERY.text} Document: {document.full_text} Relevant:" for document in DOCUMENTS]
    expected = [plain_t5(folder, text)[[TRUE, FALSE]].log_softmax(0)[0].item() for text in texts]

    assert judge.targets == {"true": TRUE, "false": FALSE}
    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)
    assert len({*expected}) == 3


@pytest.mark.parametrize("mode", ["packed", "varlen", "padded"])
def test_monot5_is_the_same_in_every_way_of_running_a_t5(flan: Path, mode: str) -> None:
    judge = TargetToken(flan, prompt="monot5")
    expected = scores(judge, GRADES)
    judge.model.model = EncoderDecoder(load(flan, "encoder-decoder").model, mode=mode)  # type: ignore[attr-defined]

    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)


def test_what_a_checkpoint_says_for_true_stands_in_its_file(t5: Path) -> None:
    entries = [entry for name in checkpoints.names() if (entry := checkpoints.find(name).checkpoint)]
    said = {entry.name: entry.targets for entry in entries if entry.prompt == "monot5"}

    assert said["mt5-base-mmarco-v2"] == ("▁yes", "▁no")
    assert said["mt5-13b-mmarco-100k"] == said["mt5-3B-mmarco-en-pt"] == ("▁true", "▁")
    assert said["ptt5-base-pt-msmarco-100k-v2"] == ("▁sim", "▁não")
    assert said["monoptt5-base"] == ("▁Sim", "▁Não")
    assert said["monot5-base-msmarco"] == said["InRanker-small"] == ()  # the prompt's own
    for targets, expected in ((("▁true", "▁"), (TRUE, 3)), (("▁yes", "▁no"), (4273, 150))):
        assert tuple(TargetToken(t5, prompt="monot5", targets=targets).targets.values()) == expected


def test_rankt5_is_a_raw_logit_scaled_where_head_and_embeddings_are_one(t5: Path) -> None:
    judge = TargetToken(t5, prompt="rankt5")
    texts = [f"Query: {QUERY.text} Document: {document.full_text}" for document in DOCUMENTS]

    assert judge.targets == {"<extra_id_10>": 32_089}
    assert scores(judge, GRADES) == pytest.approx([plain_t5(t5, text)[32_089].item() for text in texts], abs=1e-4)


@pytest.mark.parametrize("kind", ["tiny", "real"])
def test_yes_or_no_is_read_where_the_chat_template_lets_the_model_speak(lm: Path, smollm: Path, kind: str) -> None:
    folder = lm if kind == "tiny" else smollm
    judge = TargetToken(folder, prompt="yes-no")
    expected = []
    for document in DOCUMENTS:
        said = f"Passage: {document.full_text}\nQuery: {QUERY.text}\nDoes the passage answer the query?"
        logits = plain_lm(folder, chat_text(folder, f"{said} Answer 'Yes' or 'No'"))[-1]
        expected.append(logits[[*judge.targets.values()]].log_softmax(0)[0].item())

    assert judge.tokenizer.convert_ids_to_tokens([*judge.targets.values()]) == ["Yes", "No"]  # no space in front
    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)


def test_a_comparison_is_the_probability_of_the_first_target_and_each_order_is_its_own(lm: Path) -> None:
    judge = TargetToken(lm, prompt="prp")
    first, second, _ = DOCUMENTS
    found = answers(judge, [Compare(QUERY, first, second), Compare(QUERY, second, first)])

    assert judge.tokenizer.convert_ids_to_tokens([*judge.targets.values()]) == ["ĠA", "ĠB"]  # behind "Passage"
    for (one, two), answer in zip([(first, second), (second, first)], found, strict=True):
        said = (
            f'Given a query "{QUERY.text}", which of the following two passages is more relevant to the query?\n\n'
            f'Passage A: "{one.full_text}"\n\nPassage B: "{two.full_text}"\n\nOutput Passage A or Passage B:'
        )
        logits = plain_lm(lm, chat_text(lm, said, "Passage"))[-1][[*judge.targets.values()]]
        assert isinstance(answer, Compared)
        assert answer.probability == pytest.approx(logits.softmax(0)[0].item(), abs=1e-4)


def test_duot5_reads_both_documents_and_true_means_the_first(t5: Path) -> None:
    one, two, _ = DOCUMENTS
    [answer] = answers(TargetToken(t5, prompt="duot5"), [Compare(QUERY, one, two)])
    text = f"Query: {QUERY.text} Document0: {one.full_text} Document1: {two.full_text} Relevant:"

    assert isinstance(answer, Compared)
    assert answer.probability == pytest.approx(plain_t5(t5, text)[[TRUE, FALSE]].softmax(0)[0].item(), abs=1e-4)


def test_an_answer_that_is_begun_for_a_t5_begins_its_decoder(t5: Path) -> None:
    judge = TargetToken(t5, prompt="prp")
    one, two, _ = DOCUMENTS
    [answer] = answers(judge, [Compare(QUERY, one, two)])
    said = (
        f'Given a query "{QUERY.text}", which of the following two passages is more relevant to the query?\n\n'
        f'Passage A: "{one.full_text}"\n\nPassage B: "{two.full_text}"\n\nOutput Passage A or Passage B:'
    )
    logits = plain_t5(t5, said, "Passage")[[71, 272]]

    assert [*judge.targets.values()] == [71, 272]
    assert isinstance(answer, Compared)
    assert answer.probability == pytest.approx(logits.softmax(0)[0].item(), abs=1e-4)


def test_more_than_two_targets_give_the_expected_grade(t5: Path) -> None:
    plain = [Turn("plain", "Query: {query} Document: {document} From 1 to 3:")]
    judge = TargetToken(t5, prompt=Prompt("grades", "here", "grade", tuple(plain), targets=("3", "2", "1")))
    ids = torch.tensor([*judge.targets.values()])
    text = f"Query: {QUERY.text} Document: {DOCUMENTS[0].full_text} From 1 to 3:"
    shares = plain_t5(t5, text)[ids].softmax(0)

    assert judge.grades == (3.0, 2.0, 1.0)
    assert scores(judge, GRADES[:1]) == pytest.approx([(shares @ torch.tensor([3.0, 2.0, 1.0])).item()], abs=1e-4)


def test_mxbai_is_the_logit_of_1_less_that_of_0_behind_its_own_chat(lm: Path) -> None:
    judge = TargetToken(lm, prompt="mxbai-rerank-v2")
    expected = []
    for document in DOCUMENTS:
        text = (
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\nquery: {QUERY.text}\ndocument: {document.full_text}\n"
            "You are a search relevance expert who evaluates how well documents match search queries. For each "
            "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
            "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:<|im_end|>\n<|im_start|>assistant\n"
        )
        one, zero = plain_lm(lm, text)[-1][[*judge.targets.values()]].tolist()
        expected.append(one - zero)

    assert judge.tokenizer.convert_ids_to_tokens([*judge.targets.values()]) == ["1", "0"]
    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)
    usual = TargetToken(lm, prompt="mxbai-rerank-v2", reading="log-probability")
    assert scores(usual, GRADES) == pytest.approx(
        [-math.log1p(math.exp(-score)) for score in expected], abs=1e-4
    )  # the same order on another scale
    assert usual.key != judge.key


def test_zerank_says_the_query_as_the_system_and_reads_the_logit_of_yes(lm: Path) -> None:
    judge = TargetToken(lm, prompt="zerank")
    texts = [
        f"<|im_start|>system\n{QUERY.text}<|im_end|>\n<|im_start|>user\n{document.full_text}<|im_end|>\n"
        "<|im_start|>assistant\n"
        for document in DOCUMENTS
    ]

    assert scores(judge, GRADES) == pytest.approx(
        [plain_lm(lm, text)[-1][judge.targets["Yes"]].item() for text in texts], abs=1e-4
    )


@pytest.mark.parametrize(
    ("prompt", "reading", "complaint"),
    [
        ("zerank", "difference", "reading='difference' with 1 targets, 'Yes'; these are read by logit"),
        ("yes-no", "expected", "reading='expected' with 2 targets, .* read by log-probability or difference or logit"),
    ],
)
def test_a_reading_needs_its_number_of_targets(lm: Path, prompt: str, reading: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        TargetToken(lm, prompt=prompt, reading=reading)


@pytest.mark.parametrize("family", ["monot5", "yes_no"])
def test_neither_order_nor_neighbours_nor_the_batch_change_a_bit(family: str, request: pytest.FixtureRequest) -> None:
    judge = request.getfixturevalue(family)
    grades = [Grade(QUERY, document) for document in some_documents(12)]
    together = scores(judge, grades)

    assert scores(judge, grades[::-1])[::-1] == together
    assert [scores(judge, [grade])[0] for grade in grades[:3]] == together[:3]
    small = type(judge)(judge.folder, prompt=judge.prompt, token_budget=60)
    assert scores(small, grades) == together


@pytest.mark.parametrize("family", ["monot5", "yes_no"])
def test_documents_are_cut_and_nothing_else_and_what_is_cut_is_counted(
    family: str, request: pytest.FixtureRequest
) -> None:
    whole = request.getfixturevalue(family)
    judge = type(whole)(whole.folder, prompt=whole.prompt, max_tokens=90)
    long = Grade(QUERY, Document("long", "word " * 500))
    prompt = judge.render(long)
    ledger = Ledger()
    answers(judge, [long, GRADES[2]], ledger)
    end = whole.render(Grade(QUERY, Document("short", "word"))).ids[-5:]

    assert len(prompt) <= 90
    assert prompt.ids[-5:] == end  # "Relevant:", the template's end
    assert QUERY.text in judge.tokenizer.decode(prompt.ids)
    assert ledger.total["truncated_documents"] == 1
    assert ledger.total["truncated_tokens"] > 400


def test_a_question_that_cannot_be_read_fails_alone(monot5: TargetToken) -> None:
    judge = TargetToken(monot5.folder, prompt="monot5", max_tokens=30)
    found = dict(judge.answer([Grade(Query("long", "word " * 50), DOCUMENTS[0]), GRADES[0]], Ledger()))

    assert isinstance(found[0], InputError)
    assert isinstance(found[1], Graded)
    with pytest.raises(InputError, match=r"query 'long': the prompt takes .* \(1 of 2 queries cannot be read\)|long"):
        judge.check_queries([QUERY, Query("long", "word " * 50)])


def test_every_query_pays_for_its_own_and_shares_add_up(yes_no: TargetToken) -> None:
    ledger = Ledger()
    other = Query("other", "what fell in 1989?")
    answers(yes_no, [*GRADES, *(Grade(other, document) for document in DOCUMENTS)], ledger)
    bill = ledger.queries

    for unit in ("tokens_real", "tokens_reused", "flops"):
        assert bill["q"][unit] + bill["other"][unit] == ledger.total[unit] > 0
    read = sum(len(yes_no.render(Grade(query, document))) for query in (QUERY, other) for document in DOCUMENTS)
    assert ledger.total["tokens_real"] + ledger.total["tokens_reused"] == read
    assert ledger.notes["prompt"] == "yes-no"
    assert "'Yes' = token" in ledger.notes["targets"]


def test_the_key_changes_with_all_that_changes_an_answer(t5: Path, lm: Path, monot5: TargetToken) -> None:
    found = prompts.find("monot5")
    others = [
        TargetToken(lm, prompt="monot5", targets=["yes", "no"]),
        TargetToken(t5, prompt="monot5", max_tokens=100),
        TargetToken(t5, prompt="monot5", targets=["false", "true"]),
        TargetToken(t5, prompt="monot5", dtype="bfloat16"),
        TargetToken(t5, prompt=replace(found, turns=(Turn("plain", "Query: {query} Document: {document} Good:"),))),
        TargetToken(t5, prompt=replace(found, words=5)),
    ]
    keys = {monot5.key, *(judge.key for judge in others)}

    assert len(keys) == len(others) + 1
    assert TargetToken(t5, prompt=replace(found, name="mine", description="other"), token_budget=99).key == monot5.key


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"targets": ["rerankers", "no"]}, "the target 'rerankers' must be one token at the beginning of an answer"),
        ({"targets": ["true", "true"]}, "two of them are the same"),
        ({"targets": ["▁nosuchpiece", "no"]}, "'▁nosuchpiece' must be one token .* or has no such token"),
        ({"targets": []}, "names no targets"),
        ({"targets": ["good", "fair", "bad"]}, "what are the targets 'good', 'fair', 'bad' worth"),
        ({"targets": ["2", "1", "0"], "grades": [0, 1, 2]}, r"grades=\[0, 1, 2\] do not fall"),
        ({"targets": ["2", "1", "0"], "grades": [1]}, "there are 1 grades for 3 targets"),
        ({"grades": [1, 0]}, "with 2 targets, whose logits are the score"),
        (
            {"prompt": "setwise"},
            "prompt 'setwise' asks to pick, and TargetToken answers prompts that ask to compare or",
        ),
        ({"prompt": "query-likelihood"}, "prompt 'query-likelihood' names no targets"),
        ({"prompt": "duot5", "targets": ["true"]}, "a comparison needs two targets"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"token_budget": 0}, "token_budget=0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(t5: Path, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        TargetToken(t5, **({"prompt": "monot5"} | options))  # type: ignore[arg-type]

    assert "\n" not in str(caught.value)


def test_targets_of_a_checkpoint_of_its_own_are_looked_up_as_pieces(t5: Path) -> None:
    judge = TargetToken(t5, prompt="monot5", targets=["▁yes", "▁no"])

    assert judge.tokenizer.convert_ids_to_tokens([*judge.targets.values()]) == ["▁yes", "▁no"]
    assert all(math.isfinite(score) for score in scores(judge, GRADES))
