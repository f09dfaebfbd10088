"""Bi-encoders against sentence-transformers: every pooling, prompts, layers behind the model; and the real MiniLM."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from judge_models import answers
from multi_vector_models import GRADES, QUERIES, TEXTS, backbone
from safetensors.torch import save_file

from rerank import Reranker
from rerank.cost import Ledger
from rerank.engine.texts.single_texts import end_texts
from rerank.errors import CheckpointError, UnknownName
from rerank.judges.bi_encoder import BiEncoder
from rerank.questions import Grade
from rerank.rerankers.feedback import Feedback
from rerank.types import Document, Query, Ranking

pytestmark = pytest.mark.filterwarnings("ignore")


def ours(judge, grades=GRADES, ledger=None) -> list[float]:
    return [answer.score for answer in answers(judge, grades, ledger)]


def theirs(model, grades=GRADES) -> list[float]:
    queries = torch.stack([model.encode_query(g.query.text, convert_to_tensor=True) for g in grades])
    documents = torch.stack([model.encode_document(g.document.full_text, convert_to_tensor=True) for g in grades])
    return model.similarity_pairwise(queries, documents).tolist()


def test_the_real_minilm_is_sentence_transformers(sentences):
    from sentence_transformers import SentenceTransformer

    judge = BiEncoder(sentences)

    assert ours(judge) == pytest.approx(theirs(SentenceTransformer(str(sentences), device="cpu")), abs=1e-4)
    assert Reranker("all-MiniLM-L6-v2").rank(QUERIES[0], TEXTS[:3])[0].document.text == TEXTS[0]


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean", "two"])
@pytest.mark.parametrize("with_prompt", [True, False])
def test_every_pooling(tmp_path, minilm, pooling, with_prompt):
    from sentence_transformers import SentenceTransformer

    folder = saved(tmp_path / "st", minilm, ["mean", "max"] if pooling == "two" else pooling, with_prompt)
    judge, model = BiEncoder(folder), SentenceTransformer(str(folder), device="cpu")

    expected = theirs(model)

    assert max(expected) - min(expected) > 0.05
    assert ours(judge) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("similarity", ["dot", "euclidean", "manhattan"])
def test_every_similarity(tmp_path, minilm, similarity):
    from sentence_transformers import SentenceTransformer

    folder = saved(tmp_path / "st", minilm, "cls", True)
    model = SentenceTransformer(str(folder), device="cpu", similarity_fn_name=similarity)

    assert ours(BiEncoder(folder, similarity=similarity)) == pytest.approx(theirs(model), rel=1e-3)


def test_bits_do_not_depend_on_the_batch_and_documents_are_read_once(sentences):
    judge, ledger = BiEncoder(sentences), Ledger()

    whole = ours(judge, GRADES, ledger)

    other = BiEncoder(sentences, kept_megabytes=0, token_budget=50)
    assert [ours(other, [grade])[0] for grade in GRADES] == whole
    assert ledger.total["tokens_reused"] == sum(len(p.ids) for p in judge.documents.of(TEXTS)) * (len(QUERIES) - 1)


def test_its_vectors_serve_feedback(sentences):
    from sentence_transformers import SentenceTransformer

    judge, model = BiEncoder(sentences), SentenceTransformer(str(sentences), device="cpu")
    ranking = Ranking.unscored(Query("q", "walls"), [Document(str(n), TEXTS[n]) for n in (1, 2, 0)])

    vectors = judge.vectors([*TEXTS[:3], TEXTS[0]])
    good = {"q": [Document("x", "The wall came down.")]}
    [found] = Feedback(judge.vectors, good).rerank([ranking])
    [expected] = Feedback(model.encode, good).rerank([ranking])

    assert vectors.shape == (4, 384)
    assert np.array_equal(vectors[0], vectors[3])
    assert found == expected


def test_what_is_wrong_is_said_in_one_line(minilm, sentences, tmp_path):
    with pytest.raises(CheckpointError, match="is of kind cross-encoder; judge 'bi-encoder' wants"):
        BiEncoder(minilm)
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        BiEncoder(sentences, similarity="cosin")
    folder = saved(tmp_path / "st", minilm, "cls", True)
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="2_Dense has no weights"):
        BiEncoder(folder)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "median"}))
    with pytest.raises(CheckpointError, match="pools texts by 'median'"):
        BiEncoder(folder)
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        BiEncoder(folder)


def test_a_plain_encoder_is_pooled_by_its_mean(tmp_path, minilm):
    backbone(tmp_path / "plain", minilm)
    judge = BiEncoder(tmp_path / "plain")

    [score] = ours(judge, [Grade(Query("q", "museums"), Document("d", "museums"))])

    assert score == pytest.approx(1.0, abs=1e-5)
    assert judge.layout.pooling == ("mean",)


def saved(folder, real, pooling, with_prompt):
    """sentence-transformers' layout with prompts, a pooling and a layer behind it."""
    backbone(folder, real)
    width = 64 * (2 if isinstance(pooling, list) else 1)
    dense = {
        "in_features": width,
        "out_features": 24,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    for name, config in (
        ("1_Pooling", {"embedding_dimension": 64, "pooling_mode": pooling, "include_prompt": with_prompt}),
        ("2_Dense", dense),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    weights = {"linear.weight": torch.randn(24, width) * 0.1, "linear.bias": torch.randn(24) * 0.1}
    save_file(weights, folder / "2_Dense" / "model.safetensors", {"format": "pt"})
    types = ["models.Transformer", "models.Pooling", "models.Dense"]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{types[place]}"}
        for place, path in enumerate(("", "1_Pooling", "2_Dense"))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    prompts = {"query": "ask: ", "document": "tell: "}
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "similarity_fn_name": "cosine"})
    )
    return folder


@pytest.fixture
def language_model(tmp_path, smollm):
    """A small Llama with random weights, and SmolLM2's tokenizer, which puts nothing behind a text."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    tokenizer.chat_template = None  # sentence-transformers would read every text as a message
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **shape)
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).eval().save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_language_model_is_read_by_the_token_that_ends_a_text(language_model):
    import transformers

    model = transformers.AutoModel.from_pretrained(language_model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(language_model)
    judge = BiEncoder(language_model, query_prompt="query: ", document_prompt="passage: ")

    @torch.no_grad()
    def vector(text):
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        return torch.nn.functional.normalize(model(torch.tensor([ids])).last_hidden_state[0, -1], dim=0)

    expected = [float(vector(f"query: {g.query.text}") @ vector(f"passage: {g.document.full_text}")) for g in GRADES]
    found = ours(judge)

    assert max(expected) - min(expected) > 0.01
    assert found == pytest.approx(expected, abs=1e-5)
    assert ours(judge, GRADES[::-1])[::-1] == found
    assert BiEncoder(language_model, ended=False).key != BiEncoder(language_model).key


def test_a_language_model_with_a_pooling_behind_it_is_sentence_transformers(tmp_path, language_model):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    reads = Transformer(str(language_model))
    end_texts(reads.tokenizer)  # as Qwen3-Embedding's does
    pooling = Pooling(reads.get_word_embedding_dimension(), pooling_mode="lasttoken")
    SentenceTransformer(modules=[reads, pooling, Normalize()]).save_pretrained(str(tmp_path / "st"))
    config = json.loads((tmp_path / "st" / "config.json").read_text())
    config["architectures"] = ["LlamaForCausalLM"]  # as Qwen3-Embedding's says
    (tmp_path / "st" / "config.json").write_text(json.dumps(config))

    found = ours(BiEncoder(tmp_path / "st"))

    assert found == pytest.approx(theirs(SentenceTransformer(str(tmp_path / "st"), device="cpu")), abs=1e-5)


def test_lora_weights_are_merged_into_a_language_model(tmp_path, language_model):
    import peft
    import transformers

    model = transformers.AutoModel.from_pretrained(language_model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(language_model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path / "lora")
    ids = [*tokenizer("query: one text")["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        expected = adapted.eval()(torch.tensor([ids])).last_hidden_state[0, -1].numpy()

    [found] = BiEncoder(language_model, adapter=tmp_path / "lora", query_prompt="query: ").vectors(
        ["one text"], queries=True
    )
    [plain] = BiEncoder(language_model, query_prompt="query: ").vectors(["one text"], queries=True)

    norm = float(np.linalg.norm(expected) / np.linalg.norm(found))
    assert found * norm == pytest.approx(expected, abs=1e-4)
    assert abs(plain - found).max() > 0.01
