"""Training T5s and causal language models: what they read, their gradients, and that they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import tiny_lm
from lists_to_learn import lists
from small_students import first_ranks, learned, still_t5

from rerank import Document, Query, Ranking, Reranker
from rerank.errors import InputError
from training.losses import language
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students.listwise import Listwise, order_of, written_order
from training.students.score_head import ScoreHead
from training.students.student import Lora
from training.students.target_token import TargetToken


@pytest.fixture(scope="module")
def t5(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return still_t5(tmp_path_factory.mktemp("t5"), flan)


@pytest.fixture(scope="module")
def lm(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm(tmp_path_factory.mktemp("lm"), smollm)


@pytest.mark.parametrize(("prompt", "loss"), [("monot5", "bce"), ("rankt5", "softmax")])
def test_a_t5_learns_eight_queries_and_is_asked_as_it_was_trained(
    t5: Path, tmp_path: Path, prompt: str, loss: str
) -> None:
    losses = learned(
        t5, tmp_path / "student", "target-token", loss, {"prompt": prompt, "max_tokens": 64}, steps=60, rate=1e-2
    )

    assert losses[-1] < losses[0] / 3
    assert first_ranks(tmp_path / "student") == [0] * 8
    student = TargetToken(tmp_path / "student", prompt=prompt, max_tokens=64).eval()
    example = lists(1, documents=3)[0]
    with torch.no_grad():
        scores = student.scores_of(student(**student.read([example])))
    expected = scores if prompt == "rankt5" else torch.nn.functional.logsigmoid(scores)
    with Reranker(tmp_path / "student") as reranker:
        ranked = reranker.rank(example.query, [Document(str(i), text) for i, text in enumerate(example.documents)])
    assert {c.document.doc_id: c.score for c in ranked} == pytest.approx(
        {str(place): value for place, value in enumerate(expected.tolist())}, abs=1e-3
    )


def test_rankllama_and_yes_or_no_learn_eight_queries(lm: Path, tmp_path: Path) -> None:
    headed = learned(lm, tmp_path / "head", "score-head", "group-ce", {"max_tokens": 64})
    words = learned(lm, tmp_path / "words", "target-token", "bce", {"prompt": "yes-no", "max_tokens": 128})

    assert headed[-1] < headed[0] / 3
    assert words[-1] < words[0] / 3
    assert first_ranks(tmp_path / "head") == [0] * 8
    assert first_ranks(tmp_path / "words") == [0] * 8


@pytest.mark.parametrize("made", [TargetToken, ScoreHead, Listwise], ids=lambda made: made.__name__)
def test_packed_prompts_have_the_gradients_of_padded_ones(lm: Path, made: Any) -> None:
    options = {"prompt": "yes-no"} if made is TargetToken else {}
    examples = lists(3, documents=3)
    found = []
    for packed in (True, False):
        transformers.set_seed(0)
        student = made(lm, max_tokens=700, packed=packed, **options).eval()
        assert student.execution.startswith("packed" if packed else "padded")
        outputs = student(**student.read(examples))
        values = (
            torch.cat([outputs["log_probs"][outputs["token_mask"]], outputs["letters"]])
            if made is Listwise
            else student.scores_of(outputs)
        )
        (values * torch.arange(1, len(values) + 1)).sum().backward()
        grads = {name: value.grad for name, value in student.named_parameters() if value.grad is not None}
        found.append((values.detach(), grads))

    (one, ours), (two, theirs) = found
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4 * float(theirs[name].abs().max()))


def test_first_learns_orders_and_ranks_by_its_first_token(lm: Path, tmp_path: Path) -> None:
    options = {"prompt": "first", "max_tokens": 700}

    losses = learned(lm, tmp_path / "student", "listwise", "first", options, steps=30)

    assert losses[-1] < losses[0] / 3
    assert first_ranks(tmp_path / "student") == [0] * 8


@pytest.mark.parametrize(("made", "options"), [(Listwise, {}), (TargetToken, {"prompt": "yes-no"})])
def test_no_more_is_read_than_the_model_has_places_for(lm: Path, made: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"max_tokens=4096, but .* reads from 1 to 1024 tokens"):
        made(lm, max_tokens=4096, **options)

    assert made(lm, **options).asked_as()["max_tokens"] == (1024 if made is Listwise else 512)


def test_an_order_is_written_and_what_is_said_is_what_transformers_gives(lm: Path) -> None:
    student = Listwise(lm, prompt="rankzephyr", max_tokens=700).eval()
    examples = lists(2, documents=3)
    inputs = student.read(examples)

    outputs = student(**inputs)

    order = examples[0].order or ()
    written = inputs["written"][0][inputs["token_mask"][0]].tolist()
    assert written[-1] == student.tokenizer.eos_token_id
    assert student.tokenizer.decode(written[:-1]) == " > ".join(f"[{index + 1}]" for index in order)
    prompt = student.reader.read(examples[0].query, examples[0].documents, room=len(written)).ids
    plain = transformers.AutoModelForCausalLM.from_pretrained(lm).eval()
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([[*prompt, *written]])).logits[0].log_softmax(-1)
    expected = [logits[len(prompt) - 1 + place, token].item() for place, token in enumerate(written)]
    assert outputs["log_probs"][0][: len(written)].tolist() == pytest.approx(expected, abs=1e-3)


def test_identifiers_weigh_by_their_rank_and_separators_one(lm: Path) -> None:
    student = Listwise(lm, prompt="rankzephyr", max_tokens=700)
    inputs = student.read(lists(1, documents=3))

    ranks, written = inputs["ranks"][0].tolist(), inputs["written"][0].tolist()

    pieces = [student.tokenizer.decode([token]) for token in written]
    numbers = [rank for rank, piece in zip(ranks, pieces, strict=True) if piece.strip().isdigit()]
    assert numbers == [1, 2, 3]
    assert all(rank == 0 for rank, piece in zip(ranks, pieces, strict=True) if ">" in piece)
    weights = language.importance_weights(inputs["ranks"][0])
    assert weights.max() == 2.0


def test_orders_come_from_what_there_is() -> None:
    [example] = lists(1, documents=3)

    assert order_of(example, None) == list(example.order or ())
    assert order_of(example, "relevance")[0] == (example.relevance or ()).index(1.0)
    assert written_order(["B", "A"]) == ("[B] > [A]", [(0, 3), (6, 9)])


def test_adapters_over_a_language_model_are_trained_and_merged(lm: Path, tmp_path: Path) -> None:
    student = StudentTable("listwise", str(lm), {"prompt": "first", "max_tokens": 700}, Lora(rank=8, alpha=16.0))
    schedule = Schedule(max_steps=4, lists=4, learning_rate=1e-2, log_every=1, save_every=2)

    run_training(Recipe(student, Objective("first"), schedule), tmp_path / "student", examples=lists(4, documents=3))
    again = run_training(
        Recipe(student, Objective("first"), schedule), tmp_path / "student", examples=lists(4, documents=3)
    )

    assert again.resumed == 4
    assert (tmp_path / "student" / "adapter" / "adapter_config.json").exists()
    with Reranker(tmp_path / "student") as reranker:
        assert len(reranker.rank("who won", ["a wall", "new york", "berlin"])) == 3


def test_what_cannot_be_trained_so_is_refused(lm: Path, t5: Path) -> None:
    with pytest.raises(InputError, match="asks to grade, and a listwise model writes orders"):
        Listwise(lm, prompt="yes-no")
    with pytest.raises(InputError, match="must ask to grade by one target word or two"):
        TargetToken(lm, prompt="graded-relevance")
    ranking = Ranking.unscored(Query("q", "who won"), [Document(str(i), f"text {i}") for i in range(12)])
    student = Listwise(lm, prompt="rankzephyr", max_tokens=1000).eval()
    from training.evaluation import Development

    development = Development([ranking], {"q": {"0": 1}})
    with pytest.raises(InputError, match="identifiers of several tokens"):
        development.measure(lambda examples: student.scores_of(student(**student.read(examples))))
