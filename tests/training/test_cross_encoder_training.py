"""Training cross-encoders: the gradients, the curve, resuming, and what is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from encoder_models import classifier, random_pairs
from killed_runs import killed_behind
from lists_to_learn import lists
from safetensors.torch import load_file
from small_folders import bert
from torch import Tensor

from rerank import Document, Query, Ranking, Reranker
from rerank.engine.encoders.padded import rectangle
from rerank.errors import FileError, InputError, UnknownName
from training.evaluation import Development
from training.examples import BadExample, Example, open_arrow, write_arrow
from training.losses import listwise
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable, find
from training.run import Trained, run_training
from training.students.cross_encoder import HEADS, CrossEncoder, packed_logits
from training.students.packed import register, rows_of
from training.students.student import Lora

QUICK = Schedule(epochs=2, lists=4, learning_rate=1e-3, log_every=1, save_every=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT."""
    return bert(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without dropout."""
    return bert(tmp_path_factory.mktemp("still"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def recipe(folder: Path, schedule: Schedule = QUICK, loss: str = "group-ce", **parts: Any) -> Recipe:
    table = StudentTable("cross-encoder", str(folder), parts.pop("options", {}), parts.pop("lora", None))
    return Recipe(table, Objective(loss, **parts), schedule)


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


FAMILIES = [*HEADS, "modernbert mean", "bert with two logits"]


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_logits_and_gradients_are_those_of_the_padded_model(name: str) -> None:
    model = classifier(name)
    pairs = random_pairs(9, seed=3, longest=70)
    weights = torch.randn(9, model.config.num_labels, generator=torch.Generator().manual_seed(0))
    model.set_attn_implementation("eager")
    expected = model(**rectangle(model, pairs)).logits
    (expected * weights).sum().backward()
    wanted = gradients(model)
    model.zero_grad()

    model.set_attn_implementation(register())
    got = packed_logits(model, **rows_of([pair.ids for pair in pairs], [pair.types for pair in pairs]).as_inputs())
    (got * weights).sum().backward()

    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    found = gradients(model)
    pooler = {key for key in wanted if torch.equal(wanted[key], torch.zeros_like(wanted[key]))}
    assert found.keys() >= wanted.keys() - pooler
    for key in wanted.keys() - pooler:
        scale = max(1.0, wanted[key].abs().max().item())
        torch.testing.assert_close(found[key], wanted[key], rtol=0, atol=1e-4 * scale)


def test_a_family_that_attends_in_its_own_way_is_padded_and_says_so(tmp_path: Path) -> None:
    from small_folders import VOCABULARY, wordpiece

    wordpiece(tmp_path).save_pretrained(tmp_path)
    config = transformers.MPNetConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.MPNetForSequenceClassification(config).save_pretrained(tmp_path)

    student = CrossEncoder(tmp_path, max_tokens=32)

    assert student.execution == "padded (mpnet is not known packed)"
    examples = lists(2)
    assert student(**student.read(examples)).shape == (8,)
    with pytest.raises(InputError, match=r"packed=True, but .* must be padded: mpnet"):
        CrossEncoder(tmp_path, max_tokens=32, packed=True)


def plain_loop(folder: Path, examples: list[Example], schedule: Schedule, steps: int) -> list[float]:
    """The same training, written out: padded, one batch of all lists, AdamW with a linear schedule, clipped."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    queries = [example.query for example in examples for _ in example.documents]
    texts = [text for example in examples for text in example.documents]
    inputs = tokenizer(queries, texts, padding=True, truncation="only_second", max_length=64, return_tensors="pt")
    teacher = torch.tensor([example.scores for example in examples])
    decayed = [value for name, value in model.named_parameters() if "bias" not in name and "LayerNorm" not in name]
    others = [value for name, value in model.named_parameters() if "bias" in name or "LayerNorm" in name]
    groups = [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate)
    linear = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (steps - step) / steps)
    model.train()
    losses = []
    for _ in range(steps):
        scores = model(**inputs).logits.view(len(examples), -1)
        loss = listwise.list_kl(scores, teacher, torch.ones_like(teacher, dtype=torch.bool), temperature=2.0).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
        optimizer.step()
        linear.step()
        losses.append(loss.item())
    return losses


def test_the_curve_is_that_of_a_plain_pytorch_loop(still: Path, tmp_path: Path) -> None:
    examples = lists(6)
    schedule = Schedule(epochs=6, lists=6, learning_rate=2e-3, warmup=0, log_every=1, save_every=100)
    expected = plain_loop(still, examples, schedule, steps=6)

    student = StudentTable("cross-encoder", str(still))
    run_training(
        Recipe(student, Objective("kl", {"temperature": 2.0}), schedule), tmp_path / "student", examples=examples
    )

    got = curve(tmp_path / "student")
    assert expected[-1] < expected[0]
    assert got == pytest.approx(expected, abs=1e-4)


def curve(folder: Path) -> list[float]:
    import json

    log = json.loads((folder / "training.json").read_text(encoding="utf-8"))["log"]
    return [entry["loss"] for entry in log if "loss" in entry]


def test_accumulated_batches_give_the_curve_of_one(still: Path, tmp_path: Path) -> None:
    together = Schedule(max_steps=3, lists=8, learning_rate=1e-3, log_every=1, save_every=100)
    apart = Schedule(max_steps=3, lists=2, accumulate=4, learning_rate=1e-3, log_every=1, save_every=100)

    for name, schedule in (("together", together), ("apart", apart)):
        run_training(recipe(still, schedule), tmp_path / name, examples=lists(8))

    assert curve(tmp_path / "together") == pytest.approx(curve(tmp_path / "apart"), abs=1e-5)


def resumable(folder: Path, output: Path) -> Trained:
    schedule = Schedule(epochs=4, lists=4, learning_rate=1e-3, log_every=1, save_every=2)
    return run_training(recipe(folder, schedule), output, examples=lists(8))


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    killed_behind(5, "test_cross_encoder_training", folder, tmp_path / "killed")
    torn = tmp_path / "killed" / "checkpoints" / "checkpoint-5"  # as if it had been killed while it saved
    torn.mkdir()
    (torn / "trainer_state.json").write_text("{", encoding="utf-8")

    again = resumable(folder, tmp_path / "killed")
    whole = resumable(folder, tmp_path / "whole")

    assert (again.resumed, whole.resumed) == (4, 0)
    assert again.steps == whole.steps == 8
    one, two = (tmp_path / name / "model.safetensors" for name in ("killed", "whole"))
    assert one.read_bytes() == two.read_bytes()


def test_a_student_learns_eight_queries_and_loads_everywhere(still: Path, tmp_path: Path) -> None:
    import sentence_transformers

    examples = lists(8)
    rankings = [
        Ranking.unscored(
            Query(example.query_id, example.query),
            [Document(str(place), text) for place, text in enumerate(example.documents)],
        )
        for example in examples
    ]
    qrels = {
        example.query_id: {str(place): int(grade) for place, grade in enumerate(example.relevance or ())}
        for example in examples
    }
    schedule = Schedule(epochs=100, lists=8, learning_rate=3e-3, log_every=5, evaluate_every=5, patience=5)
    said: list[str] = []

    trained = run_training(
        recipe(still, schedule),
        tmp_path / "student",
        examples=examples,
        development=Development(rankings, qrels, ["nDCG@10", "RR@10"]),
        say=said.append,
    )

    assert trained.measures["RR@10"] == 1.0
    assert trained.steps < 100, "it stops when nothing becomes better any more"
    reranker = Reranker(tmp_path / "student")
    ranked = reranker.rerank(rankings)
    assert all(qrels[one.query.query_id][one[0].document.doc_id] == 1 for one in ranked)
    first = examples[0]
    by_us = [candidate.score for candidate in reranker.rank(first.query, list(first.documents))]
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "student")
    inputs = tokenizer([first.query] * 4, list(first.documents), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = plain(**inputs).logits[:, 0]
    assert sorted(logits.tolist(), reverse=True) == pytest.approx(by_us, abs=1e-4)
    theirs = sentence_transformers.CrossEncoder(str(tmp_path / "student"), device="cpu")
    scored = theirs.predict([(first.query, text) for text in first.documents], activation_fn=torch.nn.Identity())
    assert scored.tolist() == pytest.approx(logits.tolist(), abs=1e-4)
    assert (tmp_path / "student" / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    assert "| RR@10 | 1.0000 |" in card
    assert "8 lists" in card
    assert any(line.startswith("step 5 of 100: nDCG@10 ") for line in said)


def test_adapters_alone_are_trained_and_merged_at_the_end(still: Path, tmp_path: Path) -> None:
    before = load_file(still / "model.safetensors")
    schedule = Schedule(epochs=40, lists=8, learning_rate=1e-2, log_every=1, save_every=20)

    run_training(recipe(still, schedule, lora=Lora(rank=4, alpha=8.0)), tmp_path / "student", examples=lists(8))

    after = load_file(tmp_path / "student" / "model.safetensors")
    assert after.keys() == before.keys()
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert "bert.embeddings.word_embeddings.weight" not in moved
    assert "bert.encoder.layer.0.attention.self.query.weight" in moved
    assert (tmp_path / "student" / "adapter" / "adapter_model.safetensors").exists()
    losses = curve(tmp_path / "student")
    assert losses[-1] < losses[0] / 2
    checkpoint = tmp_path / "student" / "checkpoints" / "checkpoint-40"
    student = CrossEncoder(still, lora=Lora(rank=4, alpha=8.0)).eval()
    student.restore(checkpoint)
    reranker = Reranker(tmp_path / "student")
    example = lists(1)[0]
    expected = {c.document.text: c.score for c in reranker.rank(example.query, list(example.documents))}
    with torch.no_grad():
        scores = student(**student.read([example])).tolist()
    assert scores == pytest.approx([expected[text] for text in example.documents], abs=1e-4)


def test_arrow_of_the_user_stays_where_it_is_when_an_example_is_bad(folder: Path, tmp_path: Path) -> None:
    file, output = tmp_path / "lists.jsonl", tmp_path / "student"
    file.write_text('{"query": "q", "documents": ["a", "b"], "scores": [1, 2]}\n', encoding="utf-8")
    with pytest.raises(BadExample):
        run_training(recipe(folder), output, examples=file)
    write_arrow([Example("q", ("a", "b"), scores=(1.0, 2.0))], output / "examples")

    with pytest.raises(BadExample):
        run_training(recipe(folder), output, examples=output / "examples")

    assert len(open_arrow(output / "examples")) == 1


def test_dropout_is_what_the_recipe_says(still: Path, folder: Path, tmp_path: Path) -> None:
    schedule = Schedule(max_steps=3, lists=4, learning_rate=1e-3, log_every=1, save_every=100)
    chosen: dict[str, tuple[Path, dict[str, Any]]] = {
        "none": (folder, {"dropout": 0.0}),
        "still": (still, {}),
        "own": (folder, {}),
        "more": (folder, {"dropout": 0.5}),
    }
    for name, (start, options) in chosen.items():
        run_training(recipe(start, schedule, options=options), tmp_path / name, examples=lists(4))

    assert curve(tmp_path / "none") == curve(tmp_path / "still")
    assert len({tuple(curve(tmp_path / name)) for name in ("none", "own", "more")}) == 3
    assert transformers.AutoConfig.from_pretrained(tmp_path / "more").hidden_dropout_prob == 0.5
    with pytest.raises(InputError, match=r"dropout=1, but a share"):
        CrossEncoder(folder, dropout=1)


def test_recomputed_activations_and_half_precision_train_too(folder: Path, tmp_path: Path) -> None:
    plain = Schedule(max_steps=2, lists=4, learning_rate=1e-3, log_every=1, save_every=100)
    recomputed = Schedule(
        max_steps=2, lists=4, learning_rate=1e-3, log_every=1, save_every=100, gradient_checkpointing=True
    )
    half = Schedule(max_steps=2, lists=4, learning_rate=1e-3, log_every=1, save_every=100, dtype="bfloat16")

    for name, schedule in (("plain", plain), ("recomputed", recomputed), ("half", half)):
        run_training(recipe(folder, schedule), tmp_path / name, examples=lists(4))

    assert curve(tmp_path / "recomputed") == curve(tmp_path / "plain")
    assert curve(tmp_path / "half") == pytest.approx(curve(tmp_path / "plain"), rel=0.2)
    assert curve(tmp_path / "half") != curve(tmp_path / "plain")


@pytest.mark.parametrize(
    ("change", "loss", "parts", "message"),
    [
        ({"scores": None}, "kl", {}, "labels of the wrong kind: loss 'kl' needs scores; this example has order, rel"),
        ({"relevance": None}, "bce", {}, "loss 'bce' needs relevance; this example has order, scores"),
        ({"relevance": (3.0, 0.0, 0.0, 0.0)}, "bce", {}, "relevance 3.0 is above 1 for loss 'bce'; say relevant=1"),
        ({"relevance": (-1.0, 0.0, 0.0, 0.0)}, "lambdarank", {}, "grade -1.0 is below 0"),
        ({}, "group-ce", {"most": 3}, "too many documents: 4 documents, over most=3; draw some with 'sample'"),
    ],
)
def test_bad_examples_are_refused_before_the_first_step_with_their_line(
    folder: Path, tmp_path: Path, change: dict[str, Any], loss: str, parts: dict[str, Any], message: str
) -> None:
    from dataclasses import replace

    good = lists(3)
    bad = replace(good[1], **change)

    with pytest.raises(BadExample, match=message) as error:
        run_training(recipe(folder, loss=loss, **parts), tmp_path / "student", examples=[good[0], bad, good[2]])

    assert str(error.value).startswith("lists.jsonl:2: " if not parts else "lists.jsonl:1: ")
    assert not (tmp_path / "student" / "checkpoints").exists()


def test_what_does_not_fit_together_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no loss is called 'rankent'; did you mean 'ranknet'"):
        Objective("rankent")
    with pytest.raises(InputError, match="loss 'kl' has no option 'temprature'; did you mean 'temperature'"):
        Objective("kl", {"temprature": 1.0})
    with pytest.raises(InputError, match="target='order', but loss 'kl' is made of 'scores'"):
        Objective("kl", target="order")
    with pytest.raises(InputError, match="a cross-encoder learns from losses over lists, and 'first'"):
        run_training(recipe(folder, loss="first"), tmp_path / "a", examples=lists(2))
    with pytest.raises(InputError, match="a cross-encoder has no option 'max_token'; did you mean 'max_tokens'"):
        run_training(recipe(folder, options={"max_token": 3}), tmp_path / "a", examples=lists(2))
    with pytest.raises(InputError, match="patience=2 without"):
        run_training(recipe(folder, Schedule(patience=2)), tmp_path / "a", examples=lists(2))
    with pytest.raises(InputError, match="there is nothing to train on"):
        run_training(recipe(folder), tmp_path / "b")
    with pytest.raises(InputError, match=r"max_tokens=900, but .* reads from 1 to 64 tokens"):
        run_training(recipe(folder, options={"max_tokens": 900}), tmp_path / "c", examples=lists(2))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").touch()
    with pytest.raises(FileError, match="exists and holds no training run"):
        run_training(recipe(folder), tmp_path / "d", examples=lists(2))
    with pytest.raises(FileError, match="holds a run of another recipe"):
        run_training(recipe(folder, loss="ranknet"), tmp_path / "b", examples=lists(2))


def test_the_options_of_a_recipe_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[student]\nkind = "cross-encoder"\nmodel = "x"\n[objective]\nloss = "kl"\n', encoding="utf-8")

    found = find(str(path), {"schedule.lists": 3, "student.options.max_tokens": 12})

    assert (found.schedule.lists, found.student.options["max_tokens"]) == (3, 12)
    with pytest.raises(InputError, match="no key is called 'epoch'; did you mean 'epochs'"):
        find(str(path), {"schedule.epoch": 3})
    with pytest.raises(InputError, match="save_every=3 is no multiple of evaluate_every=2"):
        find(str(path), {"schedule.evaluate_every": 2, "schedule.save_every": 3})
    assert find(str(path), {"schedule.save_every": 3}).schedule.moments["eval_steps"] == 3
    assert find(str(path)).schedule.moments["save_strategy"] == "epoch"
    with pytest.raises(InputError, match="lists=0; it must be above 0"):
        find(str(path), {"schedule.lists": 0})


def test_drawn_documents_are_one_relevant_and_others_and_change_with_the_epoch() -> None:
    from training.lists import Lists

    source = lists(4, documents=12)
    drawn = Lists(source, sample=5, seed=1)
    first = [drawn[index] for index in range(4)]
    drawn.epoch = 1
    second = [drawn[index] for index in range(4)]

    for example, whole in zip(first, source, strict=True):
        assert len(example) == 5
        assert sum(example.relevance or ()) == 1
        places = [whole.documents.index(text) for text in example.documents]
        assert [whole.scores[place] for place in places] == list(example.scores or ())  # type: ignore[index]
        best = example.documents[example.order[0]]  # type: ignore[index]
        assert best == whole.documents[whole.order[0]]  # type: ignore[index]
    assert [example.documents for example in first] != [example.documents for example in second]
    assert first == [Lists(source, sample=5, seed=1)[index] for index in range(4)]


def test_shuffled_documents_keep_their_labels_scores_and_order() -> None:
    from training.lists import Lists

    source = lists(3, documents=6)
    shuffled = Lists(source, shuffle=True, seed=1)

    for index, whole in enumerate(source):
        example = shuffled[index]
        places = [whole.documents.index(text) for text in example.documents]
        assert sorted(places) == list(range(6))
        assert [(whole.relevance or ())[place] for place in places] == list(example.relevance or ())
        in_order = [example.documents[place] for place in example.order or ()]
        assert in_order == [whole.documents[place] for place in whole.order or ()]
    assert [shuffled[index].documents for index in range(3)] != [whole.documents for whole in source]


def test_a_forward_pass_for_measures_leaves_the_student_as_it_was(folder: Path) -> None:
    student = CrossEncoder(folder)
    before = copy.deepcopy(student.state_dict())
    example = lists(1)[0]
    ranking = Ranking.unscored(
        Query("q", example.query), [Document(str(place), text) for place, text in enumerate(example.documents)]
    )
    development = Development([ranking], {"q": {"0": 1}})

    student.eval()
    measured = development.measure(lambda examples: student(**student.read(examples)))

    assert measured.keys() == {"nDCG@10", "RR@10"}
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
