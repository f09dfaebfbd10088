"""Scores behind a layer in the middle: a plain forward's hidden state of that layer, its norm and its head."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_models import DOCUMENTS, QUERY, answers, some_documents
from published_models import LAYERS, START, layer_wise
from safetensors.torch import load_file, save_file

from rerank import Reranker, checkpoints
from rerank.engine.compressed import merged
from rerank.errors import CheckpointError, InputError
from rerank.judges.layer_wise import LayerWise
from rerank.questions import Grade, Graded
from rerank.types import Document

GRADES = [Grade(QUERY, document) for document in DOCUMENTS]


@pytest.fixture(scope="module", params=["minicpm", "gemma"])
def made(request: pytest.FixtureRequest, smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return request.param, *layer_wise(tmp_path_factory.mktemp("layers") / request.param, smollm, request.param)


@pytest.fixture(scope="module")
def gemma(smollm: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[torch.Tensor]]:
    return layer_wise(tmp_path_factory.mktemp("layers") / "gemma", smollm, "gemma")


@torch.inference_mode()
def plain(kind: str, model: Any, ids: list[int], layer: int, head: torch.Tensor) -> float:
    """The score by a loop over the layers of transformers' own model, MiniCPM's scales where its paper has them."""
    hidden = model.embed_tokens(torch.tensor([ids])) * (3 if kind == "minicpm" else 1)
    places = torch.arange(len(ids))[None]
    rotary = model.rotary_emb(hidden, places)
    back = places[0][:, None] - places[0][None, :]
    for index, each in enumerate(model.layers[:layer]):
        window = 24 if kind == "gemma" and model.config.layer_types[index] == "sliding_attention" else 10**9
        mask = torch.zeros(len(ids), len(ids)).masked_fill((back < 0) | (back >= window), float("-inf"))[None, None]
        if kind == "gemma":
            hidden = each(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=places)
            continue
        scale = 1.4 / math.sqrt(LAYERS)
        normed = each.input_layernorm(hidden)
        hidden = hidden + scale * each.self_attn(normed, position_embeddings=rotary, attention_mask=mask)[0]
        hidden = hidden + scale * each.mlp(each.post_attention_layernorm(hidden))
    score = (model.norm(hidden[:, -1]) @ head.T).item()
    return 30 * math.tanh(score / 30) if kind == "gemma" else score


def scores(judge: LayerWise, questions: list[Grade]) -> list[float]:
    return [answer.score for answer in answers(judge, questions) if isinstance(answer, Graded)]


@pytest.mark.parametrize("layer", [START, 3, None])
def test_the_score_is_that_of_a_plain_loop_up_to_the_layer(made: Any, layer: int | None) -> None:
    kind, folder, model, heads = made
    model.set_attn_implementation("eager")
    judge = LayerWise(folder, prompt="bge-lightweight", layer=layer)
    asked = layer or LAYERS
    expected = [plain(kind, model, judge.render(grade).ids, asked, heads[asked - START]) for grade in GRADES]

    assert judge.layer == asked
    assert len(judge.model.loaded.model.base_model.layers) == asked  # what lies behind is not even loaded
    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)
    assert len({round(score, 2) for score in expected}) == 3


def test_another_layers_head_may_read_it(gemma: Any) -> None:
    folder, model, heads = gemma
    model.set_attn_implementation("eager")
    judge = LayerWise(folder, prompt="bge-lightweight", layer=3, head_of=START)
    expected = [plain("gemma", model, judge.render(grade).ids, 3, heads[0]) for grade in GRADES]

    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)


def test_fewer_layers_cost_less_and_are_another_key(gemma: Any) -> None:
    folder = gemma[0]
    judges = [LayerWise(folder, prompt="bge-lightweight", layer=layer) for layer in (2, 4)]
    costs = [sum(judge.ask([_asked(judge, grade)]).work.flops for grade in GRADES) for judge in judges]

    assert costs[0] < 0.7 * costs[1]
    assert judges[0].key != judges[1].key


def _asked(judge: LayerWise, grade: Grade) -> Any:
    from rerank.judges.bills import Asked

    return Asked(grade, judge.render(grade))


def test_merged_tokens_are_means_of_neighbours_and_the_last_group_may_be_smaller() -> None:
    hidden = torch.arange(14.0).view(7, 2)
    found = merged(hidden, 1, 6, 2)  # five tokens: two pairs and one

    assert found.tolist() == [[0, 1], [3, 4], [7, 8], [10, 11], [12, 13]]
    assert torch.equal(merged(hidden, 3, 3, 4), hidden)


@torch.inference_mode()
def test_compression_is_that_of_a_plain_loop(gemma: Any) -> None:
    folder, model, heads = gemma
    model.set_attn_implementation("eager")
    judge = LayerWise(folder, prompt="bge-lightweight", layer=4, compress_ratio=2, compress_layers=[1, 3])
    tokenizer = judge.tokenizer
    expected = []
    for grade in GRADES:
        front, middle, back = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (
                f"A: {QUERY.text}\n",
                f"B: {grade.document.full_text}",
                "\nPredict whether passage B contains an answer to query A.",
            )
        )
        hidden = model.embed_tokens(torch.tensor([[*front, *middle, *back]]))
        count = len(middle)
        for index, layer in enumerate(model.layers):
            if index in (1, 3):
                inside = hidden[0, len(front) : len(front) + count]
                groups = [inside[start : start + 2].mean(0) for start in range(0, count, 2)]
                hidden = torch.cat([hidden[0, : len(front)], *(g[None] for g in groups), hidden[0, -len(back) :]])[None]
                count = len(groups)
            places = torch.arange(hidden.shape[1])[None]
            apart = places[0][:, None] - places[0][None, :]
            window = 24 if model.config.layer_types[index] == "sliding_attention" else 10**9
            mask = torch.zeros(apart.shape).masked_fill((apart < 0) | (apart >= window), float("-inf"))[None, None]
            rotary = model.rotary_emb(hidden, places)
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, position_ids=places)
        expected.append(30 * math.tanh((model.norm(hidden[:, -1]) @ heads[-1].T).item() / 30))

    assert scores(judge, GRADES) == pytest.approx(expected, abs=1e-4)
    assert scores(judge, GRADES) != pytest.approx(scores(LayerWise(folder, prompt="bge-lightweight"), GRADES), abs=1e-3)


def test_neither_order_nor_the_batch_change_a_bit(gemma: Any) -> None:
    for options in ({"layer": 3}, {"compress_ratio": 2, "compress_layers": [1]}):
        judge = LayerWise(gemma[0], prompt="bge-lightweight", **options)
        grades = [Grade(QUERY, document) for document in some_documents(8)]
        together = scores(judge, grades)

        assert scores(judge, grades[::-1])[::-1] == together
        assert [scores(judge, [grade])[0] for grade in grades[:3]] == together[:3]


def test_a_checkpoint_of_this_kind_is_asked_by_its_own_judge(gemma: Any) -> None:
    folder = gemma[0]
    reranker = Reranker(folder, prompt="bge-lightweight")

    assert checkpoints.kind(folder) == "layer-wise"  # its auto_map is not asked, for its code is not needed
    assert isinstance(reranker.judge, LayerWise)
    assert len(reranker.rank(QUERY, DOCUMENTS)) == 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"layer": 1}, "layer=1, but the layers of .* with a head are 2 to 4"),
        ({"compress_ratio": 2}, r"compress_ratio=2 with compress_layers=\[\]"),
        ({"compress_layers": [2]}, r"compress_ratio=1 with compress_layers=\[2\]"),
        ({"compress_ratio": 2, "compress_layers": [3], "layer": 3}, r"compress_layers=\[3\]: documents are compressed"),
        ({"quantize": "8bit"}, "quantize='8bit': layer-wise rerankers are run unquantised"),
    ],
)
def test_what_cannot_be_is_refused(gemma: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        LayerWise(gemma[0], prompt="bge-lightweight", **options)

    assert "\n" not in str(caught.value)


def test_minicpm_is_not_compressed_and_other_models_have_no_such_heads(smollm: Path, tmp_path: Path) -> None:
    folder, _, _ = layer_wise(tmp_path / "minicpm", smollm, "minicpm")
    with pytest.raises(InputError, match="was not trained to read merged tokens"):
        LayerWise(folder, prompt="bge-gemma", compress_ratio=2, compress_layers=[2])
    with pytest.raises(CheckpointError, match="is of kind causal; heads behind layers"):
        LayerWise(smollm, prompt="bge-gemma")

    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "lm_head" not in name}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"has no score head called 'lm_head\.2\.linear_head\.weight'"):
        LayerWise(folder, prompt="bge-gemma")


def test_a_document_of_no_length_is_scored(gemma: Any) -> None:
    judge = LayerWise(gemma[0], prompt="bge-lightweight", compress_ratio=4, compress_layers=[1])

    assert len(scores(judge, [Grade(QUERY, Document("empty", ""))])) == 1
