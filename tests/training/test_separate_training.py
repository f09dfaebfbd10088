"""Students that read query and document apart, by sentence-transformers' trainers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lists_to_learn import lists
from small_folders import bert

from rerank import Document, Query, Ranking, Reranker
from rerank.errors import InputError
from training.checks import check_recipe
from training.coupled import TightlyCoupled, teacher_of, with_texts
from training.evaluation import Development
from training.examples import BadExample, Example
from training.lists import Lists
from training.losses import LOSSES
from training.objective import Objective
from training.recipe import Recipe, Schedule, StudentTable, find
from training.run import run_training
from training.separate import KINDS, columns, made_student


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT without dropout."""
    return bert(tmp_path_factory.mktemp("body"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def recipe(body: Path, kind: str, loss: str, steps: int = 24) -> Recipe:
    schedule = Schedule(
        max_steps=steps, lists=8, sample=3, learning_rate=1e-3, log_every=4, evaluate_every=8, save_every=8, warmup=0
    )
    return Recipe(StudentTable(kind, str(body), {"max_tokens": 48}), Objective(loss), schedule)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("kind", "loss"), [("dense", "infonce"), ("splade", "margin-mse"), ("colbert", "kl")])
def test_eight_queries_are_learnt_measured_and_go_on_where_they_stopped(
    body: Path, tmp_path: Path, kind: str, loss: str
) -> None:
    examples = lists(8)
    rankings = [
        Ranking.unscored(
            Query(one.query_id, one.query), [Document(str(place), text) for place, text in enumerate(one.documents)]
        )
        for one in examples
    ]
    qrels = {
        one.query_id: {str(place): int(grade) for place, grade in enumerate(one.relevance or ())} for one in examples
    }
    development = Development(rankings, qrels, ["nDCG@10", "RR@10"])

    trained = run_training(recipe(body, kind, loss), tmp_path / "out", examples=examples, development=development)
    again = run_training(recipe(body, kind, loss), tmp_path / "out", examples=examples, development=development)

    log = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] / 3
    assert trained.measures["RR@10"] > 0.9
    assert (trained.steps, again.resumed) == (24, 24)
    assert (tmp_path / "out" / "curves.png").exists()
    assert "sentence-transformers" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    if kind == "splade":
        from retrievers.term_encoding import TermEncoder

        assert TermEncoder(tmp_path / "out").pooling == ("max",)  # our first stage reads it
        return
    with Reranker(tmp_path / "out") as reranker:
        first = [ranked[0].document.doc_id for ranked in reranker.rerank(rankings)]
    assert [qrels[one.query_id][doc_id] for one, doc_id in zip(examples, first, strict=True)].count(1) >= 7


def test_columns_are_a_relevant_document_and_drawn_others_with_their_scores() -> None:
    examples = lists(3, documents=6)

    table = columns(Lists(examples), 3, scored=True, seed=1)

    assert list(table) == ["query", "positive", "negative_1", "negative_2", "label"]
    for index, example in enumerate(examples):
        texts = [table[name][index] for name in ("positive", "negative_1", "negative_2")]
        places = [example.documents.index(text) for text in texts]
        assert [(example.relevance or ())[place] for place in places] == [1, 0, 0]
        assert table["label"][index] == [(example.scores or ())[place] for place in places]
    assert table == columns(Lists(examples), 3, scored=True, seed=1)
    with pytest.raises(BadExample, match="1 relevant and 1 others, where 1 and 2 are wanted"):
        columns(Lists([Example("a", ("b", "c"), relevance=(1, 0))]), 3, scored=False)


def test_what_their_trainers_do_not_take_is_refused(body: Path) -> None:
    with pytest.raises(InputError, match="a splade student learns from infonce, margin-mse, kl, not from 'ranknet'"):
        check_recipe(recipe(body, "splade", "ranknet"))
    with pytest.raises(InputError, match="a dense has no option 'regularize_query'"):
        check_recipe(
            Recipe(StudentTable("dense", str(body), {"regularize_query": 1.0}), Objective("infonce"), Schedule())
        )
    with pytest.raises(InputError, match="takes no options of the loss"):
        check_recipe(Recipe(StudentTable("dense", str(body)), Objective("kl", {"temperature": 2.0}), Schedule()))
    with pytest.raises(InputError, match="no student is called 'colbrt'; did you mean 'colbert'"):
        check_recipe(Recipe(StudentTable("colbrt", str(body)), Objective("kl"), Schedule()))
    for name in KINDS:
        check_recipe(find(name))


def test_the_coupled_loss_by_hand() -> None:
    scores, taught = torch.tensor([[2.0, 1.0, 9.0]]), torch.tensor([[0.5, 0.25, 7.0]])
    mask, right = torch.tensor([[True, True, False]]), torch.tensor([[1.0, 0.0, 0.0]])

    [value] = LOSSES["tightly-coupled"](scores, taught, mask, relevance=right).tolist()

    student, teacher = scores[0, :2].log_softmax(-1), (taught[0, :2] / 0.25).softmax(-1)
    expected = 0.1 * -student[0] + 0.9 * (teacher * (teacher.log() - student)).sum()
    assert value == pytest.approx(expected.item(), abs=1e-6)


def coupled_recipe(body: Path, steps: int = 16) -> Recipe:
    return Recipe(
        StudentTable("dense", str(body), {"max_tokens": 48, "teacher": str(body)}),
        Objective("tightly-coupled", {"weight": 0.5}),
        Schedule(max_steps=steps, lists=8, sample=3, learning_rate=1e-3, log_every=1, save_every=8, warmup=0),
    )


def test_a_coupled_loss_is_of_all_queries_with_all_documents_pair_by_pair(body: Path) -> None:
    student, teacher = made_student(coupled_recipe(body)).eval(), teacher_of(str(body), "cpu")
    columns_of = [[one.query for one in lists(3)], *([one.documents[at] for one in lists(3)] for at in range(2))]
    reads = with_texts(student.preprocess)

    loss = TightlyCoupled(student, teacher, {"weight": 0.5})([reads(texts) for texts in columns_of])

    losses = []
    documents = [*columns_of[1], *columns_of[2]]
    with torch.no_grad():
        for own, query in enumerate(columns_of[0]):
            mine = torch.tensor([float(student.encode(query) @ student.encode(text)) for text in documents])
            theirs = [
                teacher.similarity(teacher.encode_query([query]), teacher.encode_document([t])) for t in documents
            ]
            taught = (torch.tensor([float(score) for score in theirs]) / 0.25).softmax(-1)
            said = mine.log_softmax(-1)
            losses.append(0.5 * -said[own] + 0.5 * (taught * (taught.log() - said)).sum())
    torch.testing.assert_close(loss.detach(), torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_dense_student_learns_beside_a_colbert_and_goes_on_where_it_stopped(body: Path, tmp_path: Path) -> None:
    trained, again = (run_training(coupled_recipe(body), tmp_path / "out", examples=lists(8)) for _ in range(2))

    log = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0] / 2
    assert (trained.steps, again.resumed) == (16, 16)
    example = lists(1)[0]
    with Reranker(tmp_path / "out") as reranker:
        assert type(reranker.judge).__name__ == "BiEncoder"
        ranked = reranker.rank(example.query, list(example.documents))
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tmp_path / "out"))
    products = model.encode(list(example.documents)) @ model.encode(example.query)
    assert model.similarity_fn_name == "dot"
    assert sorted(c.score or 0 for c in ranked) == pytest.approx(sorted(map(float, products)), abs=1e-3)


def test_a_coupled_student_wants_its_teacher(body: Path) -> None:
    alone = StudentTable("dense", str(body))
    with pytest.raises(InputError, match="'tightly-coupled' needs a teacher"):
        check_recipe(Recipe(alone, Objective("tightly-coupled")))
    taught = StudentTable("dense", str(body), {"teacher": str(body)})
    with pytest.raises(InputError, match="'infonce' asks no teacher"):
        check_recipe(Recipe(taught, Objective("infonce")))
    with pytest.raises(InputError, match="'tightly-coupled' is one over batches"):
        check_recipe(Recipe(StudentTable("cross-encoder", str(body)), Objective("tightly-coupled")))
