"""InRanker: a teacher's two logits are told, kept and learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner, Result
from judge_models import tiny_lm, tiny_t5
from lists_to_learn import lists
from small_students import losses_of, still_t5
from torch import Tensor

from rerank.cli.main import main
from rerank.errors import InputError
from rerank.rerankers.reranker import Reranker
from training.checks import check_recipe
from training.examples import BadExample, Example, read_examples, write_arrow, write_jsonl
from training.lists import Lists
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable
from training.run import run_training
from training.students.target_token import TargetToken
from training.teacher import label

EXAMPLES = [
    Example("who wrote Faust", ("Goethe wrote Faust.", "Berlin has many museums.", "Faust is a play."), (1, 0, 0)),
    Example("museums in Berlin", ("Berlin has many museums.", "Goethe was born in Frankfurt am Main in 1749."), (1, 0)),
]


def plain_logits(model: Any, tokenizer: Any, example: Example) -> Tensor:
    """Of "true" and "false", text by text."""
    words = [tokenizer.convert_tokens_to_ids("▁true"), tokenizer.convert_tokens_to_ids("▁false")]
    rows = []
    for text in example.documents:
        read = tokenizer(f"Query: {example.query} Document: {text} Relevant:", return_tensors="pt")
        logits = model(**read, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits
        rows.append(logits[0, 0, words])
    return torch.stack(rows)


def test_a_teacher_tells_the_logits_of_its_words(flan: Path, tmp_path: Path) -> None:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(flan).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(flan)
    asked: dict[str, Any] = {"prompt": "monot5", "options": {"keep_logits": True}, "journal": tmp_path / "journal"}

    with Reranker(flan, **asked) as teacher:
        told = list(label(EXAMPLES, teacher, "logits", shuffle=3))
    with Reranker(flan, **asked) as teacher:
        again = list(label(EXAMPLES, teacher, "logits"))
        calls = teacher.ledger.total.get("calls", 0)

    for example, given in zip(told, EXAMPLES, strict=True):
        with torch.no_grad():
            expected = plain_logits(model, tokenizer, given)
        torch.testing.assert_close(torch.tensor(example.logits), expected, rtol=0, atol=1e-4)
        assert example.relevance == given.relevance
    assert (again, calls) == (told, 0), "the journal keeps them"


TAUGHT = [
    replace(EXAMPLES[0], logits=((-9.0, -3.0), (-20.0, 4.0), (0.5, 0.25))),
    replace(EXAMPLES[1], logits=((2.0, -8.0), (-1.0, 1.0))),
]


def plain_loss(model: Any, tokenizer: Any, *, centred: bool) -> Tensor:
    """In plain PyTorch, one text at a time."""
    losses = []
    for example in TAUGHT:
        teacher = torch.tensor(example.logits)
        teacher = teacher - teacher.mean(-1, keepdim=True) if centred else teacher
        losses.append((plain_logits(model, tokenizer, example) - teacher).square().mean())
    return torch.stack(losses).mean()


def test_real_weights_get_the_gradients_of_a_plain_loop(flan: Path) -> None:
    student = TargetToken(flan, prompt="monot5", max_tokens=64).eval()
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(flan).eval()
    objective = Objective("mse-logits", {"centred": True})

    loss = objective.of_logits(student(**student.read(TAUGHT)), **objective.tensors(TAUGHT))
    loss.backward()
    expected = plain_loss(model, transformers.AutoTokenizer.from_pretrained(flan), centred=True)
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    for name in ("lm_head.weight", "shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"):
        got, wanted = (dict(one.named_parameters())[name].grad for one in (student.model, model))
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
        assert wanted is not None
        assert wanted.abs().max() > 0


@pytest.mark.parametrize("centred", [False, True])
def test_training_is_a_plain_loop_over_squared_differences(flan: Path, tmp_path: Path, centred: bool) -> None:
    folder = still_t5(tmp_path / "t5", flan)
    student = StudentTable("target-token", str(folder), {"prompt": "monot5", "max_tokens": 64})
    steady: dict[str, Any] = {"warmup": 0, "scheduler": "constant", "weight_decay": 0, "clip": 1e9, "log_every": 1}
    schedule = Schedule(max_steps=3, lists=2, learning_rate=1e-3, **steady)
    objective = Objective("mse-logits", {"centred": centred})
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)

    run_training(Recipe(student, objective, schedule), tmp_path / "student", examples=TAUGHT)

    for logged in losses_of(tmp_path / "student"):
        loss = plain_loss(model, tokenizer, centred=centred)
        assert logged == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_from_the_command_line_a_small_t5_takes_over_a_large_ones_logits(flan: Path, tmp_path: Path) -> None:
    teacher, start = tiny_t5(tmp_path / "teacher", flan), tiny_t5(tmp_path / "start", flan)
    write_jsonl(lists(4, documents=3), tmp_path / "lists.jsonl")

    def command(*words: object) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    asked = ("--model", teacher, "--prompt", "monot5", "--max-tokens", 64)
    made = ("--labels", "logits", "--output", tmp_path / "logits")
    told = json.loads(command("label", tmp_path / "lists.jsonl", *asked, *made, "--json").stdout)
    small = ("--set", "schedule.lists=4", "--set", "student.options.max_tokens=64", "--set", "schedule.log_every=1")
    quick = ("--set", "schedule.warmup=0", "--set", "schedule.learning_rate=1e-2", "--set", "schedule.dtype=float32")
    where = ("--examples", tmp_path / "logits", "--model", start, "--output", tmp_path / "student", "--max-steps", 30)
    command("train", "inranker-second-stage", *where, *small, *quick)

    assert told["labels"]["logits"] == 4
    taught = read_examples(tmp_path / "logits")
    assert all(len(example.logits or ()) == 3 for example in taught)
    losses = losses_of(tmp_path / "student")
    assert losses[-1] < losses[0] / 3
    with Reranker(tmp_path / "student") as student:
        assert student.judge.options["targets"].startswith("'true'")


def test_logits_survive_files_and_go_with_their_documents(tmp_path: Path) -> None:
    taught = replace(EXAMPLES[0], logits=[[1, -2.5], [0.125, 3.0], [4.0, 5.0]])  # type: ignore[arg-type]
    write_jsonl([taught], tmp_path / "lines.jsonl")
    write_arrow([taught, EXAMPLES[1]], tmp_path / "arrow")

    assert taught.logits == ((1.0, -2.5), (0.125, 3.0), (4.0, 5.0))
    assert list(read_examples(tmp_path / "lines.jsonl")) == [taught]
    assert list(read_examples(tmp_path / "arrow")) == [taught, EXAMPLES[1]]
    shown = Lists([taught], shuffle=True, seed=1)[0]
    assert dict(zip(shown.documents, shown.logits or (), strict=True)) == dict(
        zip(taught.documents, taught.logits or (), strict=True)
    )
    assert shown.documents != taught.documents


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        (((1.0, 2.0),), "other number of labels: 1 pairs of logits for 3 documents"),
        (
            ((1.0, 2.0), (1.0,), (1.0, 2.0)),
            "teacher score is no number: \\[1.0\\] at document 1; the logits of two words",
        ),
        (((1.0, 2.0), (1.0, 2.0), (float("nan"), 2.0)), "teacher score is no number: \\[nan, 2.0\\] at document 2"),
    ],
)
def test_what_no_two_logits_are_is_refused(logits: Any, said: str) -> None:
    with pytest.raises(BadExample, match=said):
        replace(EXAMPLES[0], logits=logits)


def test_padding_learns_nothing_and_the_loss_is_as_by_hand() -> None:
    """A list of two documents and one of one: ((1² + 2²) / 2 + (0² + 4²) / 2) / 2 = 5.25, and (3² + 1²) / 2 = 5."""
    objective = Objective("mse-logits")
    taught = [
        replace(Example("q", ("a", "b")), logits=((1, 2), (3, 4))),
        replace(Example("q", ("a",)), logits=((5, 6),)),
    ]
    scores = torch.tensor([[2.0, 4.0], [3.0, 8.0], [2.0, 5.0]], requires_grad=True)

    loss = objective.of_logits(scores, **objective.tensors(taught))
    loss.backward()

    assert loss.item() == pytest.approx((5.25 + 5.0) / 2)
    assert scores.grad is not None
    assert scores.grad[2].tolist() == pytest.approx([-1.5, -0.5])


def test_what_does_not_fit_is_refused_before_any_work(flan: Path, smollm: Path, tmp_path: Path) -> None:
    table: Callable[..., StudentTable] = StudentTable
    recipe = Recipe(table("target-token", "m", {"prompt": "rankt5"}), Objective("mse-logits"))

    with pytest.raises(InputError, match="prompt 'rankt5' has 1; use 'monot5', 'yes-no' or another of two"):
        check_recipe(recipe)
    with pytest.raises(
        InputError, match="cross-encoder learns from losses over lists, and 'mse-logits' is one over logits"
    ):
        check_recipe(replace(recipe, student=table("cross-encoder", "m")))
    with pytest.raises(BadExample, match="loss 'mse-logits' needs logits; this example has relevance"):
        Objective("mse-logits").check(EXAMPLES)
    small = tiny_t5(tmp_path / "t5", flan)
    with pytest.raises(InputError, match=r"keeps no logits; load it with options=\{'keep_logits': True\}"):
        label(EXAMPLES, Reranker(small, prompt="monot5"), "logits")
    with pytest.raises(InputError, match="does not answer by two words"):
        label(EXAMPLES, Reranker(small, prompt="rankt5", options={"keep_logits": True}), "logits")
    with pytest.raises(InputError, match="keep_logits is for grades, and prompt 'duot5' compares"):
        Reranker(small, prompt="duot5", algorithm="all-pairs", options={"keep_logits": True})


def test_a_language_model_that_says_yes_or_no_tells_its_logits_too(smollm: Path, tmp_path: Path) -> None:
    folder = tiny_lm(tmp_path / "lm", smollm)
    teacher = Reranker(folder, prompt="yes-no", options={"keep_logits": True})

    told = list(label(EXAMPLES, teacher, "logits"))
    scored = list(label(EXAMPLES, Reranker(folder, prompt="yes-no")))

    for example, grades in zip(told, scored, strict=True):
        logits = torch.tensor(example.logits, dtype=torch.float64)
        torch.testing.assert_close(
            logits.log_softmax(-1)[:, 0], torch.tensor(grades.scores, dtype=torch.float64), rtol=0, atol=1e-6
        )
