"""ListT5 and LiT5: texts of their own in one decoder, and orders as their judge reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from lists_to_learn import lists
from small_students import first_ranks, learned, still_t5

from rerank import Reranker
from rerank.errors import InputError
from rerank.judges.fusion_in_decoder import FusionInDecoder as Judge
from training.checks import check_recipe
from training.objective import Objective
from training.recipe import Recipe, StudentTable
from training.students.fusion_in_decoder import FusionInDecoder


@pytest.fixture(scope="module")
def t5(flan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return still_t5(tmp_path_factory.mktemp("t5"), flan)


@pytest.mark.parametrize("prompt", ["listt5", "lit5"])
def test_what_is_written_and_how_likely_it_is(t5: Path, prompt: str) -> None:
    student = FusionInDecoder(t5, prompt=prompt, max_tokens=64).eval()
    examples = [lists(1, documents=3)[0], lists(1, documents=2, seed=1)[0]]
    inputs = student.read(examples)

    with torch.no_grad():
        outputs = student(**inputs)

    plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(t5).eval()
    for row, example in enumerate(examples):
        order = [index + 1 for index in example.order or ()]
        text = " > ".join(f"[{number}]" for number in order) if prompt == "lit5" else " ".join(map(str, order[::-1]))
        ids = [*student.tokenizer(text, add_special_tokens=False)["input_ids"], 1]
        written = inputs["written"][row][inputs["token_mask"][row]].tolist()
        assert written == ids
        with torch.no_grad():  # each text by itself, as transformers reads it, and one decoder over all
            shown = [
                f"Query: {example.query}, Index: {number}, Context: {document}"
                if prompt == "listt5"
                else f"Search Query: {example.query} Passage: [{number}] {document} Relevance Ranking:"
                for number, document in enumerate(example.documents, start=1)
            ]
            states = [plain.encoder(**student.tokenizer(each, return_tensors="pt")).last_hidden_state for each in shown]
            logits = plain(
                encoder_outputs=(torch.cat(states, 1),), decoder_input_ids=torch.tensor([[0, *ids[:-1]]])
            ).logits[0]
        expected = logits.log_softmax(-1)[range(len(ids)), ids]
        torch.testing.assert_close(outputs["log_probs"][row, : len(ids)], expected, rtol=1e-4, atol=1e-4)
        ranks = [rank for rank in inputs["ranks"][row].tolist() if rank]
        assert sorted(set(ranks)) == list(range(1, len(example) + 1))
        assert ranks == sorted(ranks, reverse=prompt == "listt5")


@pytest.mark.parametrize("prompt", ["listt5", "lit5"])
def test_orders_are_learnt_and_written_by_the_judge(t5: Path, tmp_path: Path, prompt: str) -> None:
    options = {"prompt": prompt, "max_tokens": 64, "group": 3}

    losses = learned(t5, tmp_path / "out", "fusion-in-decoder", "lm", options, steps=50, rate=3e-2, count=2)

    assert losses[-1] < losses[0] / 3
    with Reranker(tmp_path / "out") as reranker:
        assert isinstance(reranker.judge, Judge)
        assert reranker.recipe.algorithm.name == ("tournament" if prompt == "listt5" else "sliding-windows")
    assert first_ranks(tmp_path / "out", 2) == [0] * 2


def test_what_cannot_be_trained_so_is_refused(t5: Path) -> None:
    with pytest.raises(InputError, match="makes no text of each document"):
        FusionInDecoder(t5, prompt="rankgpt")
    with pytest.raises(InputError, match="too many documents: 6, and a group is of 5"):
        FusionInDecoder(t5).check(lists(1, documents=6))
    recipe = Recipe(StudentTable("fusion-in-decoder", str(t5)), Objective("lm"))
    with pytest.raises(InputError, match="known only when they are written"):
        check_recipe(recipe, measured=True)
