"""Duplicates: a set-encoder is shown some documents twice, and learns to see which, or to put them below."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lists_to_learn import lists
from small_folders import bert
from small_students import losses_of

from rerank import Document, Reranker
from rerank.errors import InputError
from training.checks import check_recipe
from training.duplicates import Copied, Duplicates, groups_of
from training.examples import Example
from training.lists import Lists
from training.losses import LOSSES
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable, find
from training.run import run_training
from training.students.set_encoder import DETECTOR, SetEncoder

EXAMPLE = Example("who wrote Faust", ("Goethe wrote Faust.", "Berlin has many museums.", "Faust"), (1, 0, 0))


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT without dropout."""
    return bert(tmp_path_factory.mktemp("body"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def test_copies_are_drawn_anew_in_every_epoch_and_by_the_seed_alone() -> None:
    drawn = [Lists(lists(4), duplicates=Duplicates(copies=1), seed=seed) for seed in (0, 0, 1)]
    seen = [[(epoch, list(one)) for epoch in range(3) for one in [_of_epoch(some, epoch)]] for some in drawn]

    assert seen[0] == seen[1] != seen[2]
    assert [one.copies for one in seen[0][0][1]] != [one.copies for one in seen[0][1][1]]
    for example, given in zip(_of_epoch(drawn[0], 0), lists(4), strict=True):
        [(place, text)] = example.copies
        assert text == given.documents[place], "word for word"
        assert example.groups == (0, 1, 2, 3, place)
        assert (example.documents, example.relevance) == (given.documents, given.relevance)


def _of_epoch(drawn: Lists, epoch: int) -> list[Any]:
    drawn.epoch = epoch
    return [drawn[index] for index in range(len(drawn))]


def test_a_changed_copy_lacks_some_words_in_their_order_and_single_words_are_not_copied() -> None:
    changed = Duplicates(copies=3, changed=0.3)

    copied = changed.drawn(EXAMPLE, random.Random(0))

    assert [place for place, _ in copied.copies] == [0, 1]
    for place, text in copied.copies:
        words, kept = EXAMPLE.documents[place].split(), text.split()
        assert len(kept) == len(words) - 1
        assert [word for word in words if word in kept] == kept


def test_documents_with_common_words_are_duplicates_and_so_are_those_of_their_duplicates() -> None:
    texts = ("a b c d", "b c d e", "c d e f", "x y", "Y X", "a b c d")

    assert groups_of(texts, 0.6) == (0, 0, 0, 3, 3, 0)
    assert groups_of(texts, 0.61) == (0, 1, 2, 3, 3, 0)
    assert groups_of(texts) == (0, 1, 2, 3, 4, 5)
    copied = Duplicates(copies=2, similar=0.6).drawn(Example("q", texts[:5]), random.Random(1))
    assert copied.groups == (0, 0, 0, 3, 3, *((0, 0, 0, 3, 3)[place] for place, _ in copied.copies))


def test_what_the_list_shows_twice_is_learnt_beside_labels_as_by_hand(sentences: Path) -> None:
    """Three documents and a copy of the second: w = (4 - 2) / 2 = 1, and the loss over labels is of the three alone."""
    student = SetEncoder(sentences, query_tokens=8, document_tokens=40, detect=True).eval()
    copied = Copied(
        EXAMPLE.query, EXAMPLE.documents, (1, 0, 0), copies=((1, EXAMPLE.documents[1]),), groups=(0, 1, 2, 1)
    )
    plain = Example("museums", ("Berlin has many museums.", "Faust"), (1, 0))
    objective = Objective("infonce", duplicates=Duplicates())

    read = student.read([copied, plain])
    outputs = student(**read)
    alone = student(**student.read([EXAMPLE]))["detected"]
    beside, scores = student.loss_beside(outputs), student.scores_of(outputs)
    loss = objective.of_scores(scores, **objective.tensors([copied, plain]))

    first, second = read["input_ids"][1], read["input_ids"][3]
    assert first.tolist() == second.tolist(), "the copy is really there"
    torch.testing.assert_close(outputs["scores"][1], outputs["scores"][3], rtol=0, atol=1e-5)
    assert (outputs["detected"][:3] - alone).abs().max() > 1e-4, "whether a copy is there can be seen"
    assert outputs["twice"].tolist() == [False, True, False, True, False, False]
    a, b, c, d, e, f = outputs["detected"].tolist()
    parts = [-log_sigmoid(-a) - log_sigmoid(b) - log_sigmoid(-c) - log_sigmoid(d), -log_sigmoid(-e) - log_sigmoid(-f)]
    assert beside is not None
    assert beside.item() == pytest.approx((parts[0] / 4 + parts[1] / 2) / 2, rel=1e-5)
    one, two = outputs["scores"][:3].log_softmax(0)[0], outputs["scores"][4:].log_softmax(0)[0]
    assert loss.item() == pytest.approx(-(one + two).item() / 2, rel=1e-5)
    assert scores.tolist() == outputs["scores"][[0, 1, 2, 4, 5]].tolist()


def test_of_duplicates_the_best_keeps_its_place_and_the_others_go_below_all() -> None:
    """Order 0 1 2 3, of which 1 and 3 are one text; 3 is scored higher and gets 1's place: wanted is 0 3 2 1."""
    scores = torch.tensor([[0.5, -1.0, 0.3, 2.0, 9.0]], requires_grad=True)
    relevance = torch.tensor([[0.0, -1.0, -2.0, -3.0, math.nan]])
    mask = torch.tensor([[True, True, True, True, False]])
    groups = torch.tensor([[0, 1, 2, 1, 1]])

    loss = LOSSES["novelty-ranknet"](scores, relevance, mask, groups=groups)
    loss.sum().backward()

    values = scores[0].tolist()
    wanted = [(0, 3), (0, 2), (0, 1), (3, 2), (3, 1), (2, 1)]
    assert loss.item() == pytest.approx(sum(-log_sigmoid(values[i] - values[j]) for i, j in wanted) / 6, rel=1e-5)
    assert scores.grad is not None
    assert scores.grad[0, 4] == 0
    alone = LOSSES["novelty-ranknet"](scores, relevance, mask, groups=torch.arange(5)[None])
    assert alone.item() == pytest.approx(LOSSES["ranknet"](scores, relevance, mask).item(), rel=1e-6)


def run(body: Path, output: Path, objective: Objective, examples: list[Example], **options: Any) -> list[float]:
    student = StudentTable("set-encoder", str(body), {"query_tokens": 8, "document_tokens": 40, **options})
    schedule = Schedule(max_steps=60, lists=4, learning_rate=3e-3, warmup=0, log_every=1, save_every=30)
    run_training(Recipe(student, objective, schedule), output, examples=examples)
    return losses_of(output)


def test_a_student_learns_by_heart_which_documents_are_there_twice(body: Path, tmp_path: Path) -> None:
    examples = [_repeating(example, index % 3) for index, example in enumerate(lists(4, documents=3))]
    drawn = Duplicates(copies=0, similar=0.6)
    losses = run(body, tmp_path / "out", Objective("infonce", duplicates=drawn), examples, detect=True)

    assert losses[-1] < losses[0] / 4
    saved = tmp_path / "out" / "checkpoints" / "checkpoint-60"
    student = SetEncoder(saved, detect=True).eval()
    student.restore(saved)
    with torch.no_grad():
        outputs = student(**student.read([drawn.drawn(example, random.Random(0)) for example in examples]))
    assert outputs["twice"].sum() == 8
    assert ((outputs["detected"] > 0) == outputs["twice"]).all()
    assert not (tmp_path / "out" / DETECTOR).exists()
    with Reranker(tmp_path / "out") as reranker:
        ranked = reranker.rank(examples[0].query, list(examples[0].documents))
    assert examples[0].documents.index(ranked[0].document.text) == (examples[0].relevance or ()).index(1.0)


def test_what_is_gathered_from_several_processes_is_what_is_kept(body: Path, tmp_path: Path) -> None:
    student = SetEncoder(body, query_tokens=8, document_tokens=40, detect=True)
    gathered = {name: torch.zeros_like(value) for name, value in student.state_dict().items()}

    student.save(tmp_path / "saved", gathered)
    student.restore(tmp_path / "saved")

    assert all(not value.any() for value in student.state_dict().values())


def _repeating(example: Example, place: int) -> Example:
    """With a near-duplicate of one of its documents in the list itself, which is no more relevant than the others."""
    texts = (*example.documents, f"{example.documents[place]} river")
    return Example(example.query, texts, (*(example.relevance or ()), 0.0))


def test_a_student_puts_what_was_seen_already_below(body: Path, tmp_path: Path) -> None:
    drawn = Duplicates(copies=1, changed=0.2)
    losses = run(
        body, tmp_path / "out", Objective("novelty-ranknet", target="order", duplicates=drawn), lists(4, documents=3)
    )

    assert losses[-1] < losses[0] / 2
    lowest = []
    with Reranker(tmp_path / "out") as reranker:
        for index, example in enumerate(lists(4, documents=3)):
            copied = drawn.drawn(example, random.Random(100 + index))
            [(place, text)] = copied.copies
            shown = [Document(str(number), one) for number, one in enumerate((*example.documents, text))]
            ids = [int(candidate.document.doc_id) for candidate in reranker.rank(example.query, shown)]
            alone = [int(candidate.document.doc_id) for candidate in reranker.rank(example.query, shown[:3])]
            assert tuple(alone) == example.order, "without a copy as the teacher has it"
            lowest.append(ids[-1] in (place, 3))
    assert all(lowest), "one of the two is the last of all"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective.duplicates": {"copies": 1}}, "learns nothing of duplicates; say student.options.detect=true"),
        ({"student.options.detect": True}, r"detect=true is about duplicates, and there are none; say \[objective.dup"),
        ({"objective.loss": "novelty-ranknet"}, "loss 'novelty-ranknet' is about duplicates, and there are none"),
        (
            {"objective.loss": "novelty-ranknet", "objective.duplicates": {"copies": 1}},
            "the same score, so that none can be ranked below; say changed above 0",
        ),
        (
            {"student.kind": "cross-encoder", "student.options": {}, "objective.duplicates": {"copies": 1}},
            r"a cross-encoder does not see that a list shows a document twice; .* leave out \[objective.duplicates\]",
        ),
        (
            {"student.kind": "cross-encoder", "student.options": {}, "objective.loss": "novelty-ranknet"},
            "train a set-encoder, or leave out 'novelty-ranknet'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_recipe(find("set-encoder-second-stage", changes))


def test_those_who_read_documents_apart_are_trained_without() -> None:
    with pytest.raises(InputError, match=r"a dense is trained without duplicates; leave \[objective.duplicates\] out"):
        check_recipe(find("dense", {"objective.duplicates": {"copies": 1}}))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"copies": 0}, "nothing is a duplicate; copy at least 1"),
        ({"changed": 1.0}, "changed=1.0; the share"),
        ({"copies": 0, "changed": 0.2, "similar": 0.8}, "changed=0.2 is of copies, and copies=0"),
        ({"similar": 1.5}, "similar=1.5; the share"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(Duplicates(), **wrong)
