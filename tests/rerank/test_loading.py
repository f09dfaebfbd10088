"""How a checkpoint is loaded: every option changes what is said and what comes out, and what cannot be is refused."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import pytest
import torch

from rerank import Reranker
from rerank.engine.loading import Loading, load
from rerank.errors import CheckpointError, InputError, UnknownName
from rerank.judges.cross_encoder import CrossEncoder

PAIR = ("how many people live in Berlin?", ["Berlin has 3.5 million inhabitants.", "New York is big.", "People live."])


def scores(reranker: Reranker) -> list[float]:
    return [candidate.score for candidate in sorted(reranker.rank(*PAIR), key=lambda one: one.document.doc_id)]


@pytest.fixture(scope="module")
def adapter(minilm, tmp_path_factory):
    """A LoRA adapter of MiniLM, with weights that matter, and what its model scores unmerged."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    plain = AutoModelForSequenceClassification.from_pretrained(minilm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what peft still calls transformers' switches
        wrapped = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["query", "value"]))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    folder = tmp_path_factory.mktemp("adapter")
    wrapped.save_pretrained(folder)
    return folder, wrapped.eval()


def test_an_adapter_is_merged_and_scores_as_it_does_unmerged(minilm, adapter):
    folder, wrapped = adapter
    judge = CrossEncoder(minilm, adapter=folder)
    tokens = judge.tokens.pairs([PAIR[0]] * 3, PAIR[1])
    with torch.inference_mode():
        expected = [
            wrapped(
                input_ids=torch.as_tensor(pair.ids)[None].long(),
                token_type_ids=torch.as_tensor(pair.types)[None].long(),
            ).logits.item()
            for pair in tokens
        ]

    got = judge.encoder.score(tokens).logits.flatten().tolist()

    assert got == pytest.approx(expected, abs=1e-4)
    assert got != pytest.approx(scores(Reranker(minilm)), abs=1e-3)
    assert judge.choices["adapter"] == f"{folder}, merged"
    assert judge.choices["execution"].startswith("packed")


def test_an_adapter_belongs_to_the_journals_key_by_its_content(minilm, adapter, tmp_path):
    folder, _ = adapter
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())

    key = CrossEncoder(minilm, adapter=folder).key
    assert key == CrossEncoder(minilm, adapter=other).key
    assert key != CrossEncoder(minilm).key


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed (the 'quantize' extra)")
@pytest.mark.filterwarnings("ignore:MatMul8bitLt:UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("quantize", "near"), [("8bit", 0.5), ("4bit", 4.0)])
def test_quantised_weights_score_nearly_the_same_and_say_so(minilm, quantize, near):
    reranker = Reranker(minilm, quantize=quantize)

    got, plain = scores(reranker), scores(Reranker(minilm))

    assert got != plain
    assert got == pytest.approx(plain, abs=near)
    assert reranker.judge.choices["quantisation"] == quantize
    assert "quantised" in reranker.judge.choices["execution"]
    assert reranker.judge.key != Reranker(minilm).judge.key


def test_without_bitsandbytes_the_way_to_it_is_said(minilm, monkeypatch):
    monkeypatch.setattr("rerank.engine.loading.find_spec", lambda name: None)

    with pytest.raises(CheckpointError, match=r"quantize='8bit' needs the 'quantize' extra: pip install"):
        CrossEncoder(minilm, quantize="8bit")


def test_without_peft_the_way_to_it_is_said(minilm, monkeypatch):
    monkeypatch.setattr("rerank.checkpoints.adapters.find_spec", lambda name: None)

    with pytest.raises(CheckpointError, match=r"adapter='x' needs the 'lora' extra"):
        CrossEncoder(minilm, adapter="x")


def test_a_map_of_one_device_runs_as_that_device_does(minilm):
    reranker = Reranker(minilm, device_map="auto")

    assert scores(reranker) == scores(Reranker(minilm, device="cuda" if torch.cuda.is_available() else "cpu"))
    assert reranker.judge.choices["device"] == str(reranker.judge.encoder.device)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"quantize": "int4"}, UnknownName, "no quantisation is called 'int4'; there is '4bit', '8bit'"),
        ({"device_map": "all"}, UnknownName, "no device map is called 'all'"),
        ({"device": "cpu", "device_map": "auto"}, InputError, "a map chooses devices itself; give one"),
        ({"quantize": "8bit", "adapter": "x"}, InputError, "cannot be merged into quantised weights"),
        ({"dtype": "float8"}, UnknownName, "no dtype is called 'float8'"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_loaded(minilm, options, error, said):
    with pytest.raises(error, match=said):
        load(minilm, "classifier", Loading(**options))


def test_a_folder_without_an_adapter_is_told(minilm, tmp_path):
    pytest.importorskip("peft")

    with pytest.raises(CheckpointError, match=r"holds no LoRA adapter: adapter_config.json and adapter_model.\* must"):
        CrossEncoder(minilm, adapter=tmp_path)
