"""Rerankers that sentence-transformers saves in modules: its own raw scores, to 1e-4; what is unknown is refused."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
import transformers
from small_folders import VOCABULARY, enlarge, texts, wordpiece

from rerank import Document, Query, checkpoints
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.cross_encoder import CrossEncoder
from rerank.questions import Grade

pytest.importorskip("sentence_transformers")


def saved(folder, *, pooling: str, family: str = "modernbert", labels: int = 1, adds: bool = False):
    """A reranker as sentence-transformers itself saves it: backbone, pooling, dense, norm, dense."""
    from sentence_transformers import CrossEncoder as Peer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

    plain = folder.parent / f"{folder.name}-backbone"
    tokenizer = wordpiece(plain)
    transformers.set_seed(7)
    shape = {"vocab_size": len(VOCABULARY), "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2,
             "intermediate_size": 96, "max_position_embeddings": 64, "pad_token_id": 0}  # fmt: skip
    special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3, "local_attention": 16}
    config = transformers.AutoConfig.for_model(family, **shape, **(special if family == "modernbert" else {}))
    model = transformers.AutoModel.from_config(config)
    enlarge(model)
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    head = [
        Dense(64, 64, bias=False, activation_function=torch.nn.GELU(), use_residual=adds),
        LayerNorm(64),
        Dense(64, labels, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    for module in head:
        enlarge(module)
    peer = Peer(modules=[Transformer(str(plain)), Pooling(64, pooling_mode=pooling), *head], device="cpu")
    peer.save_pretrained(str(folder))
    return folder


WAYS = {
    "ettin": {"pooling": "cls"},
    "mean, residual": {"pooling": "mean", "adds": True},
    "bert": {"pooling": "cls", "family": "bert"},
    "two scores": {"pooling": "mean", "labels": 2},
}


@pytest.fixture(scope="module", params=WAYS)
def folder(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("modular") / "model", **WAYS[request.param])


@pytest.fixture(scope="module")
def ettin(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("modular") / "ettin", pooling="cls")


def scores_of(judge: CrossEncoder, pairs: list[tuple[str, str]]) -> list[float]:
    grades = [Grade(Query("q", query), Document("d", text)) for query, text in pairs]
    answers = dict(judge.answer(grades, Ledger()))
    return [answers[index].score for index in range(len(pairs))]


def random_pairs(seed: int) -> list[tuple[str, str]]:
    return [("how many people live in berlin?", text) for text in texts(14, seed=seed, longest=45)]


def test_scores_are_those_of_sentence_transformers(folder):
    from sentence_transformers import CrossEncoder as Peer

    pairs = random_pairs(random.randrange(2**32))
    peer = Peer(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    told = torch.from_numpy(peer.predict(pairs, batch_size=1, show_progress_bar=False))
    expected = told if told.ndim == 1 else told.log_softmax(1)[:, 1]

    got = scores_of(CrossEncoder(folder), pairs)

    assert checkpoints.kind(folder) == "cross-encoder"
    assert expected.std() > 1e-2, "a model that tells nothing apart proves nothing"
    assert got == pytest.approx(expected.tolist(), abs=1e-4)


def test_no_bit_depends_on_the_batch(ettin):
    judge, pairs = CrossEncoder(ettin), random_pairs(3)

    assert scores_of(judge, pairs) == [scores_of(judge, [pair])[0] for pair in pairs]


def test_a_modules_weights_are_part_of_the_key(ettin, tmp_path):
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(ettin, other)
    [weights] = other.glob("4_Dense/*.safetensors")
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)

    assert CrossEncoder(other).key != CrossEncoder(ettin).key
    assert scores_of(CrossEncoder(other), random_pairs(3)) != scores_of(CrossEncoder(ettin), random_pairs(3))


def changed(ettin, folder, module: str, **values: object):
    shutil.copytree(ettin, folder)
    config = folder / module / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    return folder


@pytest.mark.parametrize(
    ("module", "values", "message"),
    [
        ("1_Pooling", {"pooling_mode": "max"}, "pools by .*cls or mean alone"),
        ("2_Dense", {"activation_function": "os.system"}, "'os.system' is no module of torch.nn"),
        ("2_Dense", {"activation_function": "torch.nn.functional.relu"}, "is no module of torch.nn"),
        ("4_Dense", {"out_features": 3}, "gives? 3 scores"),
        ("2_Dense", {"out_features": 32}, "is not what its config says"),
    ],
)
def test_what_is_not_known_is_refused(ettin, tmp_path, module, values, message):
    with pytest.raises(CheckpointError, match=message):
        CrossEncoder(changed(ettin, tmp_path / "odd", module, **values))


def test_a_module_without_its_weights_is_refused(ettin, tmp_path):
    shutil.copytree(ettin, tmp_path / "part")
    for file in (tmp_path / "part" / "2_Dense").glob("model.*"):
        file.unlink()

    with pytest.raises(CheckpointError, match="2_Dense has no weights"):
        checkpoints.kind(tmp_path / "part")


def test_eight_bits_are_refused(ettin):
    with pytest.raises(InputError, match="saved in modules"):
        CrossEncoder(ettin, dtype="int8")


def test_the_hub_is_asked_for_the_modules_too():
    from rerank.checkpoints.hub import _wanted

    files = ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "2_Dense/config.json",
             "2_Dense/model.safetensors", "1_LogitScore/config.json", "onnx/model.onnx", "onnx/config.json",
             "README.md"]  # fmt: skip

    wanted = _wanted(dict.fromkeys(files, 1))

    assert set(wanted) == set(files) - {"onnx/model.onnx", "onnx/config.json", "README.md"}
