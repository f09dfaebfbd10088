"""int8 on the CPU: what it may cost in ranking, what never changes a bit, and what is refused."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import kendalltau

from rerank import Dataset
from rerank.cost import Ledger
from rerank.engine.encoder import Encoder
from rerank.engine.encoders import int8_calibration as calibration
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, FileError, InputError, MissingExtra
from rerank.judges.cross_encoder import CrossEncoder
from rerank.questions import Grade

pytest.importorskip("openvino", reason="needs the 'openvino' extra")

from rerank.engine.encoders.openvino import OpenvinoEncoder

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "electra": {"embedding_size": 24},
    "distilbert": {"dim": 64, "hidden_dim": 128, "n_heads": 4, "n_layers": 3},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1, "hidden_act": "gelu_new"},
    "camembert": {"pad_token_id": 1, "hidden_act": "relu"},
}


def model_of(family: str, **options: Any) -> Any:
    """A small classifier with random weights, always the same."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    sizes["pad_token_id"] = 0
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=300,
        max_position_embeddings=130,
        num_labels=1,
        **(sizes | FAMILIES.get(family, {}) | options),
    )
    torch.manual_seed(0)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def texts_of(count: int, seed: int = 0) -> list[Pair]:
    """Of 3 to 90 random tokens."""
    draw = random.Random(seed)
    lengths = [draw.randint(3, 90) for _ in range(count)]
    return [Pair.of([draw.randint(5, 299) for _ in range(n)], [int(i > n // 3) for i in range(n)]) for n in lengths]


def logits(encoder: Any, pairs: Sequence[Pair]) -> np.ndarray:
    return encoder.score(pairs).logits.numpy()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_graph_computes_what_the_model_does(family):
    pairs = texts_of(20)
    if getattr(model_of(family).config, "type_vocab_size", 1) < 2:
        pairs = [Pair.of(pair.ids.tolist(), [0] * len(pair.ids)) for pair in pairs]
    expected = logits(Encoder(model_of(family), mode="single"), pairs)

    got = logits(OpenvinoEncoder(model_of(family)), pairs)

    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_int8_stays_near_float32(family):
    pairs = texts_of(60)
    expected = logits(Encoder(model_of(family)), pairs)

    got = logits(OpenvinoEncoder(model_of(family), texts_of(8, seed=1)), pairs)

    assert not np.array_equal(got, expected), "nothing was quantised"
    assert np.abs(got - expected).mean() < 0.1 * expected.std()


def test_deterministic_scores_are_the_same_bits_whatever_the_batch():
    encoder = OpenvinoEncoder(model_of("bert"), texts_of(8, seed=1), deterministic=True)
    pairs = texts_of(40)
    expected = logits(encoder, pairs)
    shuffled = random.Random(3).sample(range(40), 40)

    alone = np.concatenate([logits(encoder, [pair]) for pair in pairs])
    together = logits(encoder, [pairs[place] for place in shuffled])
    beside_others = logits(encoder, [*texts_of(30, seed=2), *pairs])[30:]

    assert np.array_equal(alone, expected)
    assert np.array_equal(together, expected[shuffled])
    assert np.array_equal(beside_others, expected)


def test_the_bill_counts_what_is_computed():
    pairs = texts_of(40)
    packed = Encoder(model_of("bert"))

    scored = OpenvinoEncoder(model_of("bert"), deterministic=True).score(pairs)

    assert scored.padded == 0
    filler = packed.score(pairs)
    assert scored.flops <= filler.flops
    assert scored.flops > 0.95 * filler.flops * sum(len(p.ids) for p in pairs) / (
        sum(len(p.ids) for p in pairs) + filler.padded
    )


def test_ranges_are_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path))
    first = logits(OpenvinoEncoder(model_of("bert"), texts_of(8), fingerprint="f"), texts_of(9))
    monkeypatch.setattr(calibration, "measured", lambda *_: pytest.fail("measured again"))

    again = logits(OpenvinoEncoder(model_of("bert"), texts_of(8), fingerprint="f"), texts_of(9))

    assert np.array_equal(again, first)
    with pytest.raises(pytest.fail.Exception):
        OpenvinoEncoder(model_of("bert"), texts_of(8, seed=5), fingerprint="f")


def test_a_broken_file_of_ranges_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path))
    OpenvinoEncoder(model_of("bert"), texts_of(4), fingerprint="f")
    [path] = (tmp_path / "int8").iterdir()
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(FileError, match=r"holds no calibration .*delete it"):
        OpenvinoEncoder(model_of("bert"), texts_of(4), fingerprint="f")


@pytest.mark.parametrize(("family", "options"), [("modernbert", {}), ("mpnet", {}), ("bert", {"hidden_act": "silu"})])
def test_layers_of_another_shape_are_refused(family, options):
    with pytest.raises(CheckpointError, match="OpenVINO"):
        OpenvinoEncoder(model_of(family, **options))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(MissingExtra, match=r"pip install 'rerank-toolkit\[openvino\]'"):
        OpenvinoEncoder(model_of("bert"))


def test_the_sample_leaves_queries_out_that_can_judge_it():
    queries, documents = calibration.sample()

    used = {query.query_id for query in Dataset.load("noveleval").queries if query.text in queries}
    assert len(queries) == len(documents) == calibration.QUERIES * calibration.DOCUMENTS
    assert len(used) == calibration.QUERIES
    assert all(documents)


def test_int8_is_for_the_cpu(minilm):
    with pytest.raises(InputError, match="cuda"):
        CrossEncoder(minilm, dtype="int8", device="cuda")


def test_int8_ranks_as_float32_does(minilm):
    """On queries that calibration has not seen; τ over all pairs, as scores are compared across queries too."""
    dataset = Dataset.load("noveleval")
    unseen = [query.query_id for query in dataset.queries[calibration.QUERIES :]]
    judged = {name: list(dataset.qrels[name])[::2] for name in unseen}
    documents = dataset.look_up({doc for docs in judged.values() for doc in docs})
    queries = {query.query_id: query for query in dataset.queries}
    grades = [Grade(queries[name], documents[doc]) for name, docs in judged.items() for doc in docs]

    exact = scores_of(CrossEncoder(minilm, max_tokens=128, device="cpu"), grades)
    quick = scores_of(CrossEncoder(minilm, max_tokens=128, dtype="int8"), grades)

    assert kendalltau(exact, quick).statistic >= 0.98


def scores_of(judge: CrossEncoder, grades: list[Grade]) -> list[float]:
    answers = dict(judge.answer(grades, Ledger()))
    return [answers[index].score for index in range(len(grades))]
