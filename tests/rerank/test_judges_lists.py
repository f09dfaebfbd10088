"""Lists and pairs: labels by their logits, answers as they are written, a score head, attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from judge_models import DOCUMENTS, QUERY, _loaded, _tokenizer, answers, chat_text, plain_lm, tiny_lm

from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.attention import Attention, Spans, calibrated
from rerank.judges.bills import Asked, Work
from rerank.judges.causal_text import _check_end
from rerank.judges.choice import Choice
from rerank.judges.first_token import FirstToken
from rerank.judges.permutation import Permutation
from rerank.judges.preference import Preference
from rerank.judges.score_head import ScoreHead
from rerank.judges.target_token import TargetToken
from rerank.judges.text_models import Wrote
from rerank.prompts import Prompt, Turn
from rerank.questions import (
    Compare,
    Compared,
    Grade,
    Graded,
    GradedSet,
    GradeSet,
    Permute,
    Permuted,
    Pick,
    Picked,
)
from rerank.types import Document

TURN = Turn("plain", "{documents} Query: {query} Order:")
SHORT = Prompt("short", "here", "permute", (TURN,), document="[{identifier}] {text}")


def says(judge: Any, monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Put words into a model's mouth."""

    def write(*asked: Any) -> Any:
        return [Wrote(text, 3) for text in texts], Work(10, 0, 0)

    monkeypatch.setattr(judge.model, "write", write)


def shown(count: int) -> tuple[Document, ...]:
    return tuple(Document(str(index), f"text {index} about Berlin") for index in range(count))


# -- labels ------------------------------------------------------------------------------------------------------------


def test_a_choice_by_likelihood_is_exact_over_all_labels(lm: Path) -> None:
    judge = Choice(lm)
    [best] = answers(judge, [Pick(QUERY, DOCUMENTS)])
    [worst] = answers(judge, [Pick(QUERY, DOCUMENTS, count=2, worst=True)])
    passages = "\n\n".join(
        f'Passage {label}: "{document.full_text.replace("[3]", "(3)")}"'
        for label, document in zip("ABC", DOCUMENTS, strict=True)
    )
    said = (
        f'Given a query "{QUERY.text}", which of the following passages is the most relevant one to the query?\n\n'
        f"{passages}\n\nOutput only the passage label of the most relevant passage:"
    )
    ids = _tokenizer(lm).convert_tokens_to_ids(["ĠA", "ĠB", "ĠC"])
    expected = plain_lm(lm, chat_text(lm, said, "Passage"))[-1][ids].log_softmax(0)

    assert isinstance(best, Picked)
    assert isinstance(worst, Picked)
    assert best.scores == pytest.approx(expected.tolist(), abs=1e-4)
    assert best.indices == (expected.argmax().item(),)
    assert worst.indices == tuple(expected.argsort()[:2].tolist())


def test_first_reads_all_letters_behind_the_bracket_without_a_space(lm: Path) -> None:
    judge = FirstToken(lm)
    documents = shown(20)
    [answer] = answers(judge, [Permute(QUERY, documents)])
    ids = judge.by_labels.tokens(20)
    tokens = judge.render(Permute(QUERY, documents)).ids
    with torch.inference_mode():
        from transformers import AutoModelForCausalLM

        logits = _loaded(AutoModelForCausalLM, lm)(torch.tensor([tokens])).logits[0, -1, list(ids)]

    assert isinstance(answer, Permuted)
    assert judge.tokenizer.convert_ids_to_tokens(ids) == list("ABCDEFGHIJKLMNOPQRST")
    assert judge.tokenizer.decode(tokens[-1:]) == "["
    assert answer.order == tuple(logits.argsort(descending=True, stable=True).tolist())
    assert answer.scores == pytest.approx(logits.log_softmax(0).tolist(), abs=1e-4)


def test_labels_of_several_tokens_are_refused_by_name_and_others_go_on(t5: Path) -> None:
    found = dict(Choice(t5).answer([Pick(QUERY, shown(26)), Pick(QUERY, shown(3))], Ledger()))

    assert isinstance(found[0], InputError)
    assert "26 documents cannot be told apart by one token each: the target 'X' must be one token" in str(found[0])
    assert isinstance(found[1], Picked)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_a_written_choice_is_read_and_an_unreadable_one_names_nothing(
    t5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Choice(t5, mode="generation")
    says(judge, monkeypatch, "Passage B", "I cannot tell.")
    one, two = answers(judge, [Pick(QUERY, DOCUMENTS)] * 2)

    assert one == Picked((1,))
    assert two == Picked((), repairs=("no choice: nothing that could be read",))
    found = dict(judge.answer([Pick(QUERY, DOCUMENTS, worst=True), Pick(QUERY, DOCUMENTS, count=2)], Ledger()))
    assert "prompt 'setwise' has the best document written, and the worst of " in str(found[0])
    assert "prompt 'setwise' has the best document written, and the 2 best of " in str(found[1])


def test_a_written_winner_is_read_and_an_unreadable_one_is_none(t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Preference(t5)
    says(judge, monkeypatch, "Passage A", "Passage B.", "Passage A or B")
    compared = Compare(QUERY, *DOCUMENTS[:2])

    first, second, neither = answers(judge, [compared] * 3)
    assert first == Compared(1.0)
    assert second == Compared(0.0)
    assert neither == Compared(None, ("no winner that could be read",))


def test_an_order_is_read_with_its_repairs_and_has_room_for_a_complete_list(
    lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Permutation(lm, prompt=SHORT)
    complete = " > ".join(f"[{number}]" for number in range(1, 21))
    tokens = judge.tokenizer(complete, add_special_tokens=False)["input_ids"]
    assert len(tokens) < judge.room(Permute(QUERY, shown(20))) <= len(tokens) + 8
    says(judge, monkeypatch, " [2] > [2] > [9]")
    [answer] = answers(judge, [Permute(QUERY, DOCUMENTS)])

    assert isinstance(answer, Permuted)
    assert answer.order == (1, 0, 2)
    assert answer.repairs == ("1 named twice", "1 not there", "2 not named")


@pytest.mark.parametrize("family", ["lm", "t5"])
def test_what_is_written_is_what_transformers_writes_greedily(family: str, request: pytest.FixtureRequest) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    folder = request.getfixturevalue(family)
    judge = Preference(folder, new_tokens=6)
    compared = Compare(QUERY, *DOCUMENTS[:2])
    prompt = judge.render(compared)
    ids = torch.tensor([prompt.ids])
    [text], work = judge.model.write([prompt], [6])
    if family == "lm":
        model = _loaded(AutoModelForCausalLM, folder)
        told = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)[
            0, ids.shape[1] :
        ]
    else:
        begun = torch.tensor([[0, *judge.tokenizer("Passage", add_special_tokens=False)["input_ids"]]])
        model = _loaded(AutoModelForSeq2SeqLM, folder)
        told = model.generate(ids, decoder_input_ids=begun, max_new_tokens=6, do_sample=False)[0, begun.shape[1] :]
    start = judge.tokenizer("Passage", add_special_tokens=False)["input_ids"]

    assert isinstance(text, Wrote)
    assert text.text == judge.tokenizer.decode([*start, *told.tolist()], skip_special_tokens=True)
    assert text.text.startswith("Passage")
    assert 1 <= text.tokens <= 6
    assert work.flops > 0


def test_what_is_written_counts_and_takes_its_room_from_the_documents(lm: Path) -> None:
    judge = Permutation(lm, prompt=SHORT, max_tokens=150)
    question = Permute(QUERY, tuple(Document(str(index), "word " * 200) for index in range(4)))
    ledger = Ledger()
    answers(judge, [question], ledger)

    assert len(judge.render(question)) <= 150 - judge.room(question)
    assert ledger.total["truncated_documents"] == 4
    assert 1 <= ledger.total["tokens_generated"] <= judge.room(question)
    tight = Permutation(lm, prompt=SHORT, max_tokens=20)
    found = dict(tight.answer([question], Ledger()))
    assert "max_tokens=20 leaves no room for a prompt" in str(found[0])


# -- a score head ------------------------------------------------------------------------------------------------------


def test_rankllama_scores_the_token_that_its_prompt_ends_with(smollm: Path, lm: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = tiny_lm(tmp_path, smollm, head="AutoModelForSequenceClassification", num_labels=1)
    judge = ScoreHead(folder, prompt="rankllama")
    found = answers(judge, [Grade(QUERY, document) for document in DOCUMENTS])
    model = _loaded(AutoModelForSequenceClassification, folder)
    for document, answer in zip(DOCUMENTS, found, strict=True):
        ids = judge.tokenizer(f"query: {QUERY.text} document: {document.full_text}</s>", return_tensors="pt")
        with torch.inference_mode():
            expected = model(ids["input_ids"]).logits[0, 0].item()
        assert isinstance(answer, Graded)
        assert answer.score == pytest.approx(expected, abs=1e-4)

    with pytest.raises(CheckpointError, match="is of kind causal and has no score head"):
        ScoreHead(lm, prompt="rankllama")


def test_qwen3_rerankers_as_classifiers_score_the_logit_of_yes_less_that_of_no(
    smollm: Path, lm: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_lm(tmp_path, smollm, head="AutoModelForSequenceClassification", num_labels=1)
    causal = load_file(lm / "model.safetensors")  # the conversion: one row of the head less another
    head = causal.pop("lm_head.weight")
    words = TargetToken(lm, prompt="yes-no", reading="difference")  # SmolLM2 has no single "yes" behind a thought
    yes, no = words.targets.values()
    save_file(causal | {"score.weight": (head[yes] - head[no])[None]}, folder / "model.safetensors", {"format": "pt"})
    grades = [Grade(QUERY, document) for document in DOCUMENTS]

    def scores(judge: TargetToken | ScoreHead) -> list[float]:
        return [answer.score for answer in answers(judge, grades) if isinstance(answer, Graded)]

    found = scores(ScoreHead(folder, prompt="yes-no"))
    assert found == pytest.approx(scores(words), abs=1e-4)
    assert found != pytest.approx(found[::-1], abs=1e-2)


# -- attention ---------------------------------------------------------------------------------------------------------


def test_attention_is_what_transformers_computes_calibrated_and_summed(lm: Path) -> None:
    judge = Attention(lm)
    question = GradeSet(QUERY, DOCUMENTS)
    [answer] = answers(judge, [question])
    spans = judge.spans(Asked(question, judge.render(question)))
    rows = [_mass(lm, spans.context, end) for end in (spans.query, spans.nothing)]
    left = rows[0] - rows[1]
    expected = []
    for start, end in spans.documents:
        tokens = left[start:end]
        expected.append(tokens[tokens > tokens.mean() - 2 * tokens.std()].sum().item())

    assert isinstance(answer, GradedSet)
    assert answer.scores == pytest.approx(expected, abs=1e-4)


def _mass(folder: Path, context: tuple[int, ...], end: tuple[int, ...]) -> torch.Tensor:
    """The mean over the end's tokens, the sum over layers and heads, by eager attention."""
    from transformers import AutoModelForCausalLM

    model = _loaded(AutoModelForCausalLM, folder)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        layers = model(torch.tensor([[*context, *end]]), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    return sum(layer[0, :, len(context) :, : len(context)].sum(0) for layer in layers).mean(0)


def test_the_first_document_stands_next_to_the_query_and_spans_hold_label_and_text(lm: Path) -> None:
    judge = Attention(lm)
    question = GradeSet(QUERY, DOCUMENTS)
    spans = judge.spans(Asked(question, judge.render(question)))
    said = [judge.tokenizer.decode(list(spans.context[start:end])) for start, end in spans.documents]

    assert [text[:12] for text in said] == ["[3] Berlin h", "[2] New York", "[1] The Berl"]
    assert said[1] == "[2] New York New York City is famous for its museums (3)."
    query, nothing = (judge.tokenizer.decode(list(ids)) for ids in (spans.query, spans.nothing))
    assert query.startswith("Please find information that are relevant")
    assert query.replace(QUERY.text, "N/A") == nothing
    assert query.endswith("assistant\n")
    plain = Attention(lm, reverse=False)
    assert plain.key != judge.key
    shown_first = plain.spans(Asked(question, plain.render(question))).documents
    assert shown_first == tuple(sorted(shown_first))


def test_calibration_by_hand() -> None:
    spans = Spans(tuple(range(12)), ((0, 11), (11, 12)), (1, 2), (1,))
    query = [2.0] * 10 + [-100.0] + [6.0]
    nothing = [0.5] * 12

    assert calibrated(torch.tensor([query, nothing]), spans) == (5.0, 2.5)  # ten times 2/2 − 0.5, the outlier left out


def test_documents_that_are_cut_are_cut_in_the_spans_too(lm: Path) -> None:
    judge = Attention(lm, max_tokens=120)
    question = GradeSet(QUERY, (Document("long", "word " * 300), *DOCUMENTS[1:]))
    prompt = judge.render(question)
    spans = judge.spans(Asked(question, prompt))

    assert len(prompt) <= 120
    assert len(spans.context) + len(spans.query) <= 120
    assert [*spans.context, *spans.query] == prompt.ids


def test_a_t5_has_no_such_attention(t5: Path) -> None:
    with pytest.raises(CheckpointError, match="is no causal language model"):
        Attention(t5)


# -- bits, and what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["lm", "t5"])
def test_lists_of_other_lengths_beside_a_question_change_no_bit(family: str, request: pytest.FixtureRequest) -> None:
    judge = Choice(request.getfixturevalue(family), max_tokens=1000)
    questions = [Pick(QUERY, shown(count)) for count in (3, 20, 2, 7, 3)]
    together = answers(judge, questions)

    assert [answers(judge, [question])[0] for question in questions] == together
    assert answers(judge, questions[::-1]) == together[::-1]


def test_attention_pays_no_heed_to_other_questions(lm: Path) -> None:
    judge = Attention(lm)
    questions = [GradeSet(QUERY, DOCUMENTS), GradeSet(QUERY, DOCUMENTS[:1]), GradeSet(QUERY, DOCUMENTS[::-1])]
    ledger = Ledger()
    together = answers(judge, questions, ledger)

    assert [answers(judge, [question])[0] for question in questions] == together
    assert ledger.total["tokens_real"] > 0
    assert ledger.total["tokens_reused"] > 0


def test_a_plain_prompt_is_one_text_and_a_tokenizer_that_ends_it_is_refused(lm: Path) -> None:
    class Ends:
        eos_token, eos_token_id = "</s>", 2

        def __call__(self, text: str, **options: object) -> dict[str, list[int]]:
            return {"input_ids": [5, 2]}

    mixed = Prompt("mixed", "here", "permute", (TURN, Turn("user", "{query}")), document="[{identifier}] {text}")
    with pytest.raises(InputError, match="a plain prompt is one text"):
        Permutation(lm, prompt=mixed)
    with pytest.raises(InputError, match=r"ends every text with '</s>', behind which no answer stands"):
        _check_end(Ends())
