"""TILDEv2's weights and TILDE's expansions, against a plain loop over transformers."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from judge_models import answers
from multi_vector_models import QUERIES, TEXTS, TOKENIZER
from published_models import tilde_v2 as laid_out_tilde_v2
from safetensors.torch import load_file
from torch import nn

from rerank import Reranker
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError
from rerank.judges.stop_tokens import stop_ids, unwritable_ids
from rerank.judges.term_weights import TermWeights
from rerank.questions import Grade
from rerank.types import Document, Query

pytestmark = pytest.mark.filterwarnings("ignore")

QUESTIONS = [*QUERIES, "museums museums in berlin berlin", "the of and"]
GRADES = [
    Grade(Query(f"q{number}", query), Document(f"d{index}", text))
    for number, query in enumerate(QUESTIONS)
    for index, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def tilde_v2(tmp_path_factory, minilm):
    return laid_out_tilde_v2(tmp_path_factory.mktemp("models") / "tildev2", minilm)


@pytest.fixture(scope="module")
def tilde(tmp_path_factory, minilm):
    """A BERT with its masked-language head."""
    folder = tmp_path_factory.mktemp("models") / "tilde"
    transformers.set_seed(4)
    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    model = transformers.BertForMaskedLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    for name in TOKENIZER:
        if (minilm / name).is_file():
            shutil.copy(minilm / name, folder / name)
    return folder


def tokenizer_of(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def by_hand(folder, query: str, ids: list[int]) -> float:
    """Σ over the query's tokens that count of the greatest ReLU(w · state + b) of that token in the document."""
    tokenizer, stored = tokenizer_of(folder), load_file(folder / "model.safetensors")
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False)
    states = model(torch.tensor([ids])).last_hidden_state[0]
    weights = (states @ stored["tok_proj.weight"][0] + stored["tok_proj.bias"]).relu().tolist()
    best: dict[int, float] = {}
    for one, weight in zip(ids, weights, strict=True):
        best[one] = max(weight, best.get(one, 0.0))
    stopped = {*stop_ids(tokenizer).tolist(), *tokenizer.all_special_ids}
    asked = [one for one in tokenizer(query, add_special_tokens=False)["input_ids"] if one not in stopped]
    return sum(best.get(one, 0.0) for one in asked)


def ours(judge, grades=GRADES, ledger=None) -> list[float]:
    return [answer.score for answer in answers(judge, grades, ledger)]


def test_scores_are_those_of_a_plain_loop(tilde_v2):
    tokenizer = tokenizer_of(tilde_v2)
    expected = [by_hand(tilde_v2, g.query.text, tokenizer(g.document.full_text)["input_ids"]) for g in GRADES]

    got = ours(TermWeights(tilde_v2))

    assert max(expected) > 0.1
    assert got == pytest.approx(expected, abs=1e-4)
    assert isinstance(Reranker(tilde_v2).judge, TermWeights)


def test_a_word_twice_counts_twice_and_stop_words_do_not(tilde_v2):
    judge = TermWeights(tilde_v2)
    document = Document("d", "the museums of Berlin")

    once, twice, stopped = ours(
        judge, [Grade(Query("q", q), document) for q in ("museums", "museums museums", "the museums of")]
    )

    assert once > 0
    assert twice == 2 * once
    assert stopped == once
    [loud] = ours(TermWeights(tilde_v2, stop_words=False), [Grade(Query("q", "the museums of"), document)])
    assert loud >= stopped


def test_stop_tokens_are_the_authors(minilm):
    tokenizer = tokenizer_of(minilm)
    stopped = {*tokenizer.convert_ids_to_tokens(stop_ids(tokenizer).tolist())}

    assert {"the", "##s", "!", "€", "[CLS]"} <= stopped
    assert stopped.isdisjoint({"how", "what", "berlin", "##ing", "2023"})
    assert {"how", "what", "definition"} <= {*tokenizer.convert_ids_to_tokens(unwritable_ids(tokenizer).tolist())}


@torch.inference_mode()
def test_documents_are_expanded_by_the_likeliest_tokens(tilde_v2, tilde):
    judge, tokenizer = TermWeights(tilde_v2, expander=tilde, expander_tokens=50), tokenizer_of(tilde)
    model = transformers.BertForMaskedLM.from_pretrained(tilde).eval()
    bad = {*unwritable_ids(tokenizer).tolist()}
    expected = []
    for grade in GRADES:
        ids = tokenizer(grade.document.full_text)["input_ids"]
        read = [1, *ids[1:127], *ids[-1:]] if len(ids) > 128 else [1, *ids[1:]]
        likely = model(torch.tensor([read])).logits[0, 0].topk(50).indices.tolist()
        added = sorted(one for one in likely if one not in read and one not in bad)
        expected.append(by_hand(tilde_v2, grade.query.text, [*ids, *added, 102]))
    ledger = Ledger()

    got = ours(judge, GRADES, ledger)

    assert got == pytest.approx(expected, abs=1e-4)
    assert judge.key != TermWeights(tilde_v2).key
    assert sum(account["flops"] for account in ledger.queries.values()) == ledger.total["flops"]


def test_documents_are_read_once_and_queries_never(tilde_v2):
    judge, ledger = TermWeights(tilde_v2), Ledger()

    whole = ours(judge, GRADES, ledger)

    read = sum(len(pair.ids) for pair in judge.documents.of(TEXTS))
    assert ledger.total["tokens_real"] == read
    assert ledger.total["tokens_reused"] == read * (len(QUESTIONS) - 1)
    alone = TermWeights(tilde_v2, kept_megabytes=0, token_budget=40)
    assert [ours(alone, [grade])[0] for grade in GRADES] == whole


def test_what_is_kept_is_the_greatest_weight_of_each_token(tilde_v2):
    judge = TermWeights(tilde_v2)
    [text] = judge.documents.of(["berlin museums berlin"])

    kept = judge.of_document(text, torch.tensor([[9.0], [1.0], [3.0], [2.0], [9.0]])).numpy()

    ids = dict(zip(kept[:, 0].astype(int), kept[:, 1], strict=True))
    assert Counter(ids.values()) == {2.0: 1, 3.0: 1}
    assert np.all(np.diff(kept[:, 0]) > 0)


def test_what_is_wrong_is_said_in_one_line(tilde_v2, tilde, minilm):
    with pytest.raises(CheckpointError, match="is of kind cross-encoder; judge 'term-weights' wants term-weights"):
        TermWeights(minilm)
    with pytest.raises(InputError, match="expanded by at least 1 token, not 0"):
        TermWeights(tilde_v2, expander=tilde, expander_tokens=0)
