"""Checkpoints that are a LoRA over another's weights: by name, by method, and what cannot be."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_models import DOCUMENTS, QUERY, tiny_lm

from rerank import Reranker, checkpoints
from rerank.checkpoints import Checkpoint, adapters, load
from rerank.errors import CheckpointError, InputError
from rerank.judges.answer_scent import AnswerScent
from rerank.rerankers.recipe import recipe_of

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def base(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm(tmp_path_factory.mktemp("base"), smollm)


def lora(base: Path, folder: Path, head: str, task: str, **options: Any) -> Any:
    """A LoRA over the query projections, saved by peft, and its model unmerged."""
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    plain = getattr(transformers, head).from_pretrained(base, **options)
    logging.enable_progress_bar()
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft still calls transformers' switches
        wrapped = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["q_proj"], task_type=task))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name or "score" in name:
            torch.nn.init.normal_(weight, std=0.5)
    wrapped.save_pretrained(folder)
    return wrapped.eval()


@pytest.fixture(scope="module")
def scorer(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """As RankLLaMA is published: the score head lies in the adapter."""
    folder = tmp_path_factory.mktemp("scorer")
    return folder, lora(base, folder, "AutoModelForSequenceClassification", "SEQ_CLS", num_labels=1)


@pytest.fixture(scope="module")
def speaker(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Rank-R1 is published."""
    folder = tmp_path_factory.mktemp("speaker")
    lora(base, folder, "AutoModelForCausalLM", "CAUSAL_LM")
    return folder


def known(monkeypatch: pytest.MonkeyPatch, entry: Checkpoint) -> None:
    """Let there be one more file among the checkpoints."""
    spellings = {**load._spellings(), entry.name: entry, entry.repo: entry}
    monkeypatch.setattr(load, "_spellings", lambda: spellings)


def entry_of(base: Path, adapter: Path, **parts: Any) -> Checkpoint:
    from rerank.checkpoints.hub import Hub

    class Here(Hub):
        def cached(self, root: Path) -> Path:
            return base

    return Checkpoint("mine", "a/base", "d", "l", 512, adapter=str(adapter), sources=(Here("a/base"),), **parts)


def test_a_score_head_in_an_adapter_scores_as_unmerged(
    base: Path, scorer: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wrapped = scorer
    known(monkeypatch, entry_of(base, folder, judge="score-head", prompt="rankllama"))

    reranker = Reranker("mine")
    ranking = reranker.rank(QUERY, DOCUMENTS)

    assert checkpoints.kind(base, folder) == "score-head"
    assert checkpoints.kind(base) == "causal"
    assert reranker.ledger.notes["adapter"] == f"{folder}, merged"
    for candidate in ranking:
        text = f"query: {QUERY.text} document: {candidate.document.full_text}</s>"
        ids = reranker.judge.tokenizer(text, return_tensors="pt")["input_ids"]  # type: ignore[attr-defined]
        with torch.inference_mode():
            assert candidate.score == pytest.approx(wrapped(ids).logits.item(), abs=1e-4)
    by_method = Reranker("rankllama", model="mine").rank(QUERY, DOCUMENTS)
    by_hand = Reranker("rankllama", model=base, adapter=folder).rank(QUERY, DOCUMENTS)
    assert [one.score for one in by_method] == [one.score for one in by_hand] == [one.score for one in ranking]
    assert Reranker("rankllama", model=base, adapter=folder, max_tokens=64).recipe.judge == "score-head"


def test_the_adapter_of_a_file_gives_way_to_the_users(
    base: Path, speaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, entry_of(base, speaker, judge="choice", prompt="setwise", algorithm="setwise-heapsort"))
    other = shutil.copytree(speaker, tmp_path / "other")

    assert recipe_of("mine", {}).answering["adapter"] == str(speaker)
    assert recipe_of("setwise", {"model": str(speaker)}).answering["adapter"] == str(speaker)
    assert recipe_of("mine", {"adapter": other}).answering["adapter"] == other
    assert "adapter" not in recipe_of("setwise", {"model": base}).answering
    answers = Reranker("mine").rank(QUERY, DOCUMENTS)
    assert sorted(document.doc_id for document in answers.documents) == ["a", "b", "c"]


def test_a_writer_of_answers_has_the_adapter_of_its_file(
    base: Path, speaker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch, entry_of(base, speaker, judge="choice", prompt="setwise", algorithm="setwise-heapsort"))

    judge = AnswerScent(base, writer="mine")

    assert judge.writer.choices["adapter"] == f"{speaker}, merged"
    assert "adapter" not in judge.scorer.choices


def test_a_published_adapter_is_called_by_its_own_name_and_never_by_its_bases() -> None:
    entry = checkpoints.find("ielabgroup/Rank-R1-7B-v0.1").checkpoint

    assert entry is checkpoints.find("Rank-R1-7B-v0.1").checkpoint
    assert entry is not None
    assert str(*checkpoints.find(entry.name).sources) == "the hub's Qwen/Qwen2.5-7B-Instruct"
    assert checkpoints.find("Qwen/Qwen2.5-7B-Instruct").checkpoint is None
    recipe = recipe_of("castorini/rankllama-v1-7b-lora-passage", {}, fetch=False)
    assert (recipe.judge, recipe.folder) == ("score-head", None)
    assert recipe.answering["adapter"] == "castorini/rankllama-v1-7b-lora-passage"


def test_what_is_not_here_is_told_in_one_line(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, entry_of(base, tmp_path / "none", judge="score-head", prompt="rankllama"))

    assert checkpoints.where("mine") is None
    assert recipe_of("rankllama", {"model": base, "adapter": "some/lora"}, fetch=False).folder is None
    for ask in (lambda: Reranker("mine"), lambda: checkpoints.fetch("mine"), lambda: adapters.fetch("some/lora")):
        with pytest.raises(
            CheckpointError, match=r"cannot get the adapter .*: there is no folder of that name, .* set"
        ):
            ask()


def test_an_adapter_without_a_head_makes_no_scorer(base: Path, speaker: Path) -> None:
    with pytest.raises(InputError, match=r"asks checkpoints of kind score-head, and .* is of kind causal"):
        Reranker("rankllama", model=base, adapter=speaker)


def test_weights_that_are_promised_and_missing_are_refused(base: Path, speaker: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(speaker, tmp_path / "promises")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"task_type": "SEQ_CLS"}))

    with pytest.raises(CheckpointError, match=r"cannot load .*promises: .*score\.weight"):
        Reranker("rankllama", model=base, adapter=folder)

    weights = load_file(speaker / "adapter_model.safetensors")
    weights.pop(min(weights))
    folder = shutil.copytree(speaker, tmp_path / "torn")
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks weights that its config promises"):
        Reranker("setwise", model=base, adapter=folder)


def test_a_config_that_cannot_be_read_is_one_line(base: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{")

    with pytest.raises(CheckpointError, match=r"cannot read .*adapter_config\.json"):
        checkpoints.kind(base, tmp_path)
