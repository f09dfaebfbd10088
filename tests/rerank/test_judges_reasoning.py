"""Models that think first: what they write, what is read from it, and scores against transformers' own loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_models import (
    DOCUMENTS,
    QUERY,
    _loaded,
    _tokenizer,
    answers,
    plain_lm,
    some_documents,
)

from rerank import prompts
from rerank.algorithms.groups import exclusion
from rerank.algorithms.setwise import setwise_heapsort
from rerank.cost import Ledger
from rerank.errors import InputError, UnknownName
from rerank.judges.bills import Work
from rerank.judges.choice import Choice
from rerank.judges.choosing import judge_for
from rerank.judges.permutation import Permutation
from rerank.judges.reasoning import Reasoning, last_sentence
from rerank.judges.text_models import Wrote
from rerank.judges.verdict import Verdict
from rerank.judges.verdict import score as verdict_score
from rerank.judges.written_score import WrittenScore
from rerank.questions import Grade, Graded, GradedSet, GradeSet, Permute, Permuted, Pick, Picked
from rerank.rerankers.reranker import Reranker
from rerank.types import Document, Query, Ranking


def says(judge: Any, monkeypatch: pytest.MonkeyPatch, *texts: Wrote | str) -> None:
    """Put words into a model's mouth."""

    def write(*asked: Any) -> Any:
        return [Wrote(text, 3) if isinstance(text, str) else text for text in texts], Work(10, 0, 0)

    monkeypatch.setattr(judge.model, "write", write)


def rank1_text(query: str, document: Document) -> str:
    return (
        "Determine if the following passage is relevant to the query. Answer only with 'true' or 'false'.\n"
        f"Query: {query}\nPassage: {document.full_text}\n<think>"
    )


@torch.inference_mode()
def greedy(folder: Path, text: str, tokens: int) -> str:
    """What transformers writes behind a text, one by one."""
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer(folder)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    written = _loaded(AutoModelForCausalLM, folder).generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )[0, ids.shape[1] :]
    decoded: str = tokenizer.decode(written.tolist(), skip_special_tokens=True)
    return decoded


@torch.inference_mode()
def plain_ids(folder: Path, ids: list[int]) -> torch.Tensor:
    """The logits behind tokens, by transformers' own forward."""
    from transformers import AutoModelForCausalLM

    logits: torch.Tensor = _loaded(AutoModelForCausalLM, folder)(torch.tensor([ids])).logits[0, -1]
    return logits


def true_share(folder: Path, text: str) -> float:
    """P(" true") of the two words behind a text, by transformers' own forward."""
    words = _tokenizer(folder).convert_tokens_to_ids(["Ġtrue", "Ġfalse"])
    return float(plain_lm(folder, text)[-1][words].softmax(0)[0])


# -- Rank1 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["random", "real"])
def test_a_thought_that_is_cut_off_ends_at_its_last_sentence_and_is_scored_there(
    weights: str, lm: Path, smollm: Path
) -> None:
    folder, tokens = (lm, 9) if weights == "random" else (smollm, 12)
    documents = [*DOCUMENTS, *some_documents(5)] if weights == "random" else DOCUMENTS[:1]
    judge, ledger = Reasoning(folder, new_tokens=tokens), Ledger()
    found = answers(judge, [Grade(QUERY, document) for document in documents], ledger)

    for document, answer in zip(documents, found, strict=True):
        prompt = rank1_text(QUERY.text, document)
        thought = greedy(folder, prompt, tokens)
        ended = f"{prompt}\n{last_sentence(thought)}\n</think>"
        assert isinstance(answer, Graded)
        assert answer.score == pytest.approx(true_share(folder, ended), abs=1e-4)
        assert answer.repairs[0] in ("thought cut off", "no verdict behind the thought")  # real weights may just end
    assert len(documents) <= ledger.total["tokens_generated"] <= tokens * len(documents)


def test_a_verdict_is_read_behind_the_thought_that_was_written(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Reasoning(lm, new_tokens=40)
    thought = "\nIt tells how many live there.\n</think>"
    ids = tuple(judge.tokenizer(thought + " true", add_special_tokens=False)["input_ids"])
    says(judge, monkeypatch, Wrote(thought.removesuffix("</think>"), len(ids), ids, "</think> true"))
    [answer] = answers(judge, [Grade(QUERY, DOCUMENTS[0])])

    assert judge.stop() == ("</think> true", "</think> false")
    assert judge.tokenizer.convert_ids_to_tokens(judge.targets) == ["Ġtrue", "Ġfalse"]
    assert ids[-1] == judge.targets[0]
    assert isinstance(answer, Graded)
    assert answer.score == pytest.approx(true_share(lm, rank1_text(QUERY.text, DOCUMENTS[0]) + thought), abs=1e-4)
    assert answer.repairs == ()


def test_a_thought_without_a_verdict_is_ended_too_and_told_apart(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Reasoning(lm, new_tokens=40)
    says(judge, monkeypatch, Wrote(" It is. I think\n</think> Relevant.", 9), Wrote("no end", 9, cut=True))
    ended, cut = answers(judge, [Grade(QUERY, DOCUMENTS[0])] * 2)

    assert isinstance(ended, Graded)
    assert isinstance(cut, Graded)
    assert ended.repairs == ("no verdict behind the thought",)
    assert ended.score == pytest.approx(
        true_share(lm, rank1_text(QUERY.text, DOCUMENTS[0]) + "\nIt is.\n</think>"), abs=1e-4
    )
    assert cut.repairs == ("thought cut off",)
    assert cut.score == pytest.approx(
        true_share(lm, rank1_text(QUERY.text, DOCUMENTS[0]) + "\nno end\n</think>"), abs=1e-4
    )


@pytest.mark.parametrize(
    ("thought", "left"),
    [
        ("One. Two! Three", "One. Two!"),
        ("Is it? No", "Is it?"),
        (" One. ", "One."),
        ("no end", "no end"),
        ("", ""),
    ],
)
def test_a_thought_is_cut_to_its_last_complete_sentence(thought: str, left: str) -> None:
    assert last_sentence(thought) == left


def test_neighbours_and_their_order_change_no_bit_of_a_thought(lm: Path) -> None:
    judge = Reasoning(lm, new_tokens=6)
    questions = [Grade(QUERY, document) for document in some_documents(6)]
    together = answers(judge, questions)

    assert [answers(judge, [question])[0] for question in questions] == together
    assert answers(judge, questions[::-1]) == together[::-1]


def test_a_collection_has_its_own_wording_and_a_query_its_instruction(lm: Path) -> None:
    asked = Grade(Query("q", "how many", "Only capitals."), DOCUMENTS[0])
    plain, nevir = Reasoning(lm, new_tokens=4), Reasoning(lm, new_tokens=4, wording="nevir")
    aops = Reasoning(lm, new_tokens=4, wording="bright-aops")

    def shown(judge: Reasoning) -> str:
        return str(judge.tokenizer.decode(judge.render(asked).ids)).split("Query: ")[1].split("\nPassage")[0]

    assert shown(plain) == "how many Only capitals."
    assert shown(nevir) == "how many"
    assert shown(aops).startswith("Find different but similar math problems to how many\n\nA document is relevant")
    assert len({plain.key, nevir.key, aops.key}) == 3
    with pytest.raises(UnknownName, match=r"wording of prompt 'rank1' is called 'brigth'; did you mean 'bright'"):
        Reasoning(lm, wording="brigth")


def test_what_cannot_think_is_refused(lm: Path, t5: Path) -> None:
    with pytest.raises(InputError, match="is a T5"):
        Reasoning(t5)
    with pytest.raises(InputError, match="prompt 'query-likelihood' names 0 targets"):
        Reasoning(lm, prompt="query-likelihood")
    found = dict(Reasoning(lm).answer([Grade(QUERY, DOCUMENTS[0])], Ledger()))
    assert "8200 tokens are for what is written; allow more, or write less" in str(found[0])


# -- TFRank ------------------------------------------------------------------------------------------------------------


def test_a_verdict_and_its_grade_are_what_two_plain_steps_say(lm: Path) -> None:
    judge = Verdict(lm)
    found = answers(judge, [Grade(QUERY, document) for document in DOCUMENTS])
    tokens = judge.tokenizer.convert_tokens_to_ids
    for document, answer in zip(DOCUMENTS, found, strict=True):
        ids = judge.render(Grade(QUERY, document)).ids
        verdicts = plain_ids(lm, ids)[tokens(["yes", "no"])]
        word = "yes" if verdicts[0] >= verdicts[1] else "no"
        grades = plain_ids(lm, [*ids, *tokens([word, "("])])[tokens(list("01234"))].softmax(0)
        expected = (grades @ torch.arange(5.0)).item() / 4
        said = f"<Document>: {document.full_text} /no think\n<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

        assert isinstance(answer, Graded)
        assert answer.score == pytest.approx((expected + verdicts.softmax(0)[0].item()) / 2, abs=1e-4)
        assert judge.tokenizer.decode(ids).endswith(said)


def test_half_and_half_by_hand() -> None:
    even, sure = torch.zeros(5), torch.tensor([0.0, 0.0, 0.0, 0.0, 99.0])

    assert verdict_score(torch.tensor([99.0, 0.0]), sure, even) == pytest.approx(1.0)
    assert verdict_score(torch.tensor([0.0, 99.0]), sure, even) == pytest.approx((2 / 4 + 0) / 2)
    assert verdict_score(torch.tensor([0.0, 0.0]), even, sure) == pytest.approx((2 / 4 + 1 / 2) / 2)


# -- grades that are written -------------------------------------------------------------------------------------------


def test_a_grade_behind_an_explanation_and_grades_of_a_group(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = WrittenScore(lm, new_tokens=40)
    says(judge, monkeypatch, "It does.\n\nRelevance Label: 2", "I cannot say.")
    one, two = answers(judge, [Grade(QUERY, DOCUMENTS[0])] * 2)
    groups = WrittenScore(lm, prompt="grouprank", new_tokens=100, temperature=0.3, top_p=0.8)
    says(groups, monkeypatch, '<reason>[1] is good</reason>\n<answer>{"[1]": 7, "[3]": 12}</answer>')
    [group] = answers(groups, [GradeSet(QUERY, DOCUMENTS)])

    assert one == Graded(2.0)
    assert two == Graded(0.0, ("no grade: nothing that could be read",))
    assert group == GradedSet((7.0, 0.0, 10.0), ("1 off the scale", "1 not graded"))
    with pytest.raises(InputError, match="prompt 'monot5' has no scale of grades"):
        WrittenScore(lm, prompt="monot5")


def test_an_explanation_ends_at_its_stop_string(lm: Path) -> None:
    judge = WrittenScore(lm, new_tokens=12)
    asked = judge.render(Grade(QUERY, DOCUMENTS[0]))
    [whole], _ = judge.model.write([asked], [12], judge.manner)
    assert isinstance(whole, Wrote)
    middle = whole.text[len(whole.text) // 2 :][:3]
    [stopped], _ = judge.model.write([asked], [12], dataclasses.replace(judge.manner, stop=(middle,)))

    assert judge.manner.stop == (" ##",)
    assert isinstance(stopped, Wrote)
    assert stopped.text == whole.text.split(middle)[0]
    assert (stopped.stop, stopped.cut, whole.stop, whole.cut) == (middle, False, None, True)
    assert stopped.tokens < whole.tokens == 12


# -- choices and orders ------------------------------------------------------------------------------------------------


def test_rank_r1_reads_an_exact_label_and_nothing_else(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Choice(lm, prompt="rank-r1", new_tokens=50)
    says(judge, monkeypatch, "<think>Berlin.</think>\n<answer>[3]</answer>", "<think>Berlin.</think><answer>3</answer>")
    one, two = answers(judge, [Pick(QUERY, DOCUMENTS)] * 2)

    assert judge.mode == "generation"
    assert one == Picked((2,))
    assert two == Picked((), repairs=("no choice: nothing that could be read",))


def test_an_answer_that_cannot_be_read_keeps_the_parent_however_the_documents_are_shown(
    lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Choice(lm, prompt="rank-r1", new_tokens=8, max_tokens=900)
    ranking = Ranking.unscored(QUERY, [Document(str(index), f"text {index}") for index in range(9)])
    monkeypatch.setattr(
        judge.model, "write", lambda asked, *rest: ([Wrote("I do not know", 3) for _ in asked], Work(1, 0, 0))
    )
    reranker = Reranker(judge=judge, algorithm=setwise_heapsort)
    reranker._scheduler.run([setwise_heapsort(ranking, head=3, children=3, shuffle=True, votes=3)])
    [ranked] = reranker._scheduler.run([setwise_heapsort(ranking, head=1, children=3, shuffle=True, votes=3, seed=5)])

    assert [document.doc_id for document in ranked.documents] == list("012345678")
    assert reranker.ledger.total["repairs"] > 0
    assert "repairs" in reranker.ledger.queries["q"]


def test_iranker_puts_out_the_worst_and_the_last_one_where_nothing_can_be_read(
    lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Choice(lm, prompt="iranker", new_tokens=60, max_tokens=900)
    begun = "Let me solve this step by step.\n<think>"
    said = iter([f"{begun}a</think><answer>passage 1</answer>", f"{begun} and so", f"{begun}c</think> passage 2"])
    monkeypatch.setattr(
        judge.model, "write", lambda asked, *rest: ([Wrote(next(said), 3) for _ in asked], Work(1, 0, 0))
    )
    ranking = Ranking.unscored(QUERY, [Document(letter, f"text {letter}") for letter in "abcd"])
    reranker = Reranker(judge=judge, algorithm=exclusion)
    [ranked] = reranker.rerank([ranking])

    assert [document.doc_id for document in ranked.documents] == ["b", "c", "d", "a"]
    assert reranker.ledger.total["repairs"] == 1
    found = dict(judge.answer([Pick(QUERY, DOCUMENTS)], Ledger()))
    assert "prompt 'iranker' has the worst document written, and the best of " in str(found[0])
    with pytest.raises(InputError, match="the answer to prompt 'iranker' is written; say mode='generation'"):
        Choice(lm, prompt="iranker", mode="likelihood")
    with pytest.raises(InputError, match="new_tokens=5 is of what is written, and mode='likelihood' writes nothing"):
        Choice(lm, new_tokens=5)


@pytest.mark.parametrize("name", ["rank-k", "reasonrank", "rearank"])
def test_an_order_behind_a_thought(name: str, lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Permutation(lm, prompt=name, new_tokens=40, max_tokens=1000)
    order = "[3] > [2] = [1]" if name == "rank-k" else "<answer>[3] > [2] > [1]</answer>"
    says(judge, monkeypatch, f"<think>[1] is weak, [2] too</think>\n{order}", "<think>[3] is best, then")
    one, two = answers(judge, [Permute(QUERY, DOCUMENTS)] * 2)

    assert one == Permuted(((2,), (0, 1)) if name == "rank-k" else ((2,), (1,), (0,)))
    assert two == Permuted(((0,), (1,), (2,)), repairs=("thought cut off", "3 not named"))


# -- drawing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["lm", "t5"])
def test_what_is_drawn_depends_on_seed_and_draw_alone(family: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(family)
    judge = Permutation(folder, new_tokens=8, temperature=1.5, seed=3, max_tokens=400)
    asked = judge.render(Permute(QUERY, DOCUMENTS))

    def drawn(judge: Permutation, draws: list[int]) -> list[str]:
        texts, _ = judge.model.write([asked] * len(draws), [8] * len(draws), judge.manner, draws)
        return [text.text for text in texts if isinstance(text, Wrote)]

    first, second, again = drawn(judge, [0, 1, 0])
    assert first == again != second
    assert drawn(judge, [1]) == [second]
    other = Permutation(folder, new_tokens=8, temperature=1.5, seed=4, max_tokens=400)
    assert drawn(other, [0]) != [first]
    assert other.key != judge.key != Permutation(folder, new_tokens=8, max_tokens=400).key
    assert (judge.choices["temperature"], judge.choices["top-p"], judge.choices["seed"]) == ("1.5", "1.0", "3")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1.0}, "temperature=-1.0; it is 0 for the likeliest token"),
        ({"top_p": 0.5}, "and temperature=0 draws nothing"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p=0.0 is a probability"),
        ({"temperature": 1.0, "seed": -1}, "seed=-1; it may not be below 0"),
        ({"new_tokens": 0}, "new_tokens=0; an answer needs at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], said: str, lm: Path) -> None:
    with pytest.raises(InputError, match=said):
        Permutation(lm, **options)


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_documents_are_cut_in_the_units_that_were_published_and_that_is_counted(lm: Path) -> None:
    long = (Document("a", "Berlin has  people " * 400), DOCUMENTS[1])
    tokens = Permutation(lm, prompt="rank-k", new_tokens=8, document_tokens=20)
    characters = Permutation(lm, prompt="rearank", new_tokens=8)
    words = Permutation(lm, new_tokens=8, document_tokens=None)

    cut = tokens.render(Permute(QUERY, long))
    assert cut.amounts["truncated_documents"] == 1
    assert cut.amounts["truncated_tokens"] == len(tokens.tokenizer(long[0].text)["input_ids"]) - 20
    shown = str(characters.tokenizer.decode(characters.render(Permute(QUERY, long)).ids))
    assert f"[1] {('Berlin has people ' * 400)[:400]}<|im_end|>" in shown
    assert characters.render(Permute(QUERY, long)).amounts["truncated_documents"] == 1
    assert words.render(Permute(QUERY, long)).amounts["truncated_documents"] == 1
    assert "truncated_documents" not in words.render(Permute(QUERY, DOCUMENTS)).amounts
    assert tokens.choices["document tokens"] == "20"
    with pytest.raises(InputError, match="document_tokens=0 leaves nothing"):
        Permutation(lm, document_tokens=0)


def test_a_prompt_that_ends_inside_a_thought_is_read_as_thinking(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Permutation(lm, prompt="rank-k", new_tokens=8)
    monkeypatch.setattr(judge, "tail", "<|im_start|>assistant\n<think>\n")
    says(judge, monkeypatch, "[3] is best, and", "[3] is best</think>\n[2] > [1] > [3]")
    one, two = answers(judge, [Permute(QUERY, DOCUMENTS)] * 2)

    assert one == Permuted(((0,), (1,), (2,)), repairs=("thought cut off", "3 not named"))
    assert two == Permuted(((1,), (0,), (2,)))


def test_a_prompt_names_the_judge_that_asks_it() -> None:
    chosen = {name: judge_for(prompts.find(name)) for name in ("rank1", "tfrank", "interank", "grouprank", "rank-r1")}

    assert chosen == {
        "rank1": "reasoning",
        "tfrank": "verdict",
        "interank": "written-score",
        "grouprank": "written-score",
        "rank-r1": "choice",
    }
