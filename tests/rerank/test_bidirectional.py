"""A Llama that sees both ways: its own layers with every token in sight, pooled; the same bits in any batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from judge_models import DOCUMENTS, QUERY, answers, some_documents, tiny_lm

from rerank import Reranker, checkpoints
from rerank.cost import Ledger
from rerank.errors import CheckpointError
from rerank.judges.score_head import ScoreHead
from rerank.judges.target_token import TargetToken
from rerank.questions import Grade, Graded

GRADES = [Grade(QUERY, document) for document in DOCUMENTS]


def nemotron(folder: Path, real: Path, **said: Any) -> Path:
    """A checkpoint laid out as nvidia's is."""
    tiny_lm(folder, real, head="AutoModelForSequenceClassification", num_labels=1)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["LlamaBidirectionalForSequenceClassification"], "model_type": "llama_bidirec"}
    config |= {"auto_map": {"AutoModelForSequenceClassification": "model.Theirs"}, "temperature": 0.5} | said
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folder(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nemotron(tmp_path_factory.mktemp("nemotron"), smollm, pooling="avg")


@torch.inference_mode()
def plain(folder: Path, real: Path, texts: list[str], pooling: str) -> list[float]:
    values = json.loads((folder / "config.json").read_text()) | {"model_type": "llama"}
    config = transformers.LlamaConfig(**{name: value for name, value in values.items() if name != "auto_map"})
    model = transformers.LlamaForSequenceClassification.from_pretrained(folder, config=config).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(real)
    found = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        sees = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
        states = model.model(ids, attention_mask=sees).last_hidden_state[0]
        pooled = {"avg": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        found.append((model.score(pooled)[0] / 0.5).item())
    return found


def scores(judge: ScoreHead, questions: list[Grade]) -> list[float]:
    return [answer.score for answer in answers(judge, questions) if isinstance(answer, Graded)]


@pytest.mark.parametrize("pooling", ["avg", "cls", "last"])
def test_scores_are_those_of_a_plain_forward_with_all_tokens_in_sight(
    smollm: Path, tmp_path: Path, pooling: str
) -> None:
    made = nemotron(tmp_path, smollm, pooling=pooling)
    judge = ScoreHead(made, prompt="nemotron-rerank")
    texts = [f"question:{QUERY.text} \n \n passage:{document.full_text}" for document in DOCUMENTS]
    expected = plain(made, smollm, texts, pooling)

    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)
    assert len({round(score, 3) for score in expected}) == 3


def test_neither_order_nor_neighbours_nor_the_batch_change_a_bit_and_nothing_is_shared(folder: Path) -> None:
    judge = ScoreHead(folder, prompt="nemotron-rerank")
    grades = [Grade(QUERY, document) for document in some_documents(12)]
    ledger = Ledger()
    together = [answer.score for answer in answers(judge, grades, ledger) if isinstance(answer, Graded)]

    assert scores(judge, grades[::-1])[::-1] == together
    assert [scores(judge, [grade])[0] for grade in grades[:3]] == together[:3]
    assert scores(ScoreHead(folder, prompt="nemotron-rerank", token_budget=60), grades) == together
    assert "tokens_reused" not in ledger.total
    assert ledger.total["tokens_real"] == sum(len(judge.render(grade)) for grade in grades)
    assert "both ways" in ledger.notes["execution"]


def test_it_is_asked_by_its_score_head_alone(folder: Path, smollm: Path, tmp_path: Path) -> None:
    reranker = Reranker(folder, prompt="nemotron-rerank")

    assert checkpoints.kind(folder) == "bidirectional"
    assert isinstance(reranker.judge, ScoreHead)
    assert len(reranker.rank(QUERY, DOCUMENTS)) == 3
    with pytest.raises(CheckpointError, match="has no head over the vocabulary"):
        answers(TargetToken(folder, prompt="yes-no"), GRADES)
    with pytest.raises(CheckpointError, match="pools by 'weird'; known are avg, cls, last"):
        ScoreHead(nemotron(tmp_path, smollm, pooling="weird"), prompt="nemotron-rerank")
