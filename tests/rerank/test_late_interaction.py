"""MaxSim in every layout that is published, against sentence-transformers' own multi-vector encoder."""

from __future__ import annotations

import random
import string

import pytest
import torch
import transformers
from judge_models import answers
from multi_vector_models import (
    GRADES,
    QUERIES,
    TEXTS,
    backbone,
    lightning,
    multi_vector,
    peer,
    pylate,
    stanford,
    theirs,
)
from safetensors.torch import load_file
from torch.nn.functional import normalize

from rerank import Reranker
from rerank.cost import Ledger
from rerank.errors import CheckpointError, InputError, UnknownName
from rerank.judges.late_interaction import LateInteraction
from rerank.questions import Grade
from rerank.types import Document, Query

pytestmark = pytest.mark.filterwarnings("ignore")


def ours(judge, grades=GRADES, ledger=None) -> list[float]:
    return [answer.score for answer in answers(judge, grades, ledger)]


def agree(judge, model) -> None:
    expected = theirs(model, GRADES)
    assert max(expected) - min(expected) > 0.1, "a model that tells nothing apart proves nothing"
    assert ours(judge) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("punctuation", [False, True])
def test_colberts_own_layout(tmp_path, minilm, attend, punctuation):
    folder = stanford(
        tmp_path / "colbert", minilm, query_maxlen=32, doc_maxlen=60, mask_punctuation=punctuation,
        attend_to_mask_tokens=attend, query_token_id="[unused0]", doc_token_id="[unused1]",
    )  # fmt: skip

    judge = LateInteraction(folder)

    agree(judge, peer(folder))
    assert judge.documents.before.tolist() == [101]
    [read] = judge.queries.of(["museums"])
    assert [*read.ids[:2].tolist(), *read.ids[-1:].tolist()] == [101, 1, 103]  # [CLS] [Q] … [MASK]
    assert len(read.ids) == 32


@pytest.mark.parametrize(
    "settings",
    [
        {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "query_length": 24, "document_length": 50},
        {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "do_query_expansion": False, "query_length": 16},
        {"query_length": 20, "attend_to_expansion_tokens": True, "skiplist_words": ["berlin", "the"]},
    ],
)
def test_pylates_layout(tmp_path, minilm, settings):
    folder = pylate(tmp_path / "pylate", minilm, **settings)

    agree(LateInteraction(folder), peer(folder))


@pytest.mark.parametrize(
    ("knobs", "mask"),
    [
        ({}, {}),
        ({"query_length": 9, "document_length": 20}, {"skiplist_words": ["berlin", ".", "how"]}),
        (
            {"query_expansion": {"strategy": "min", "length": 24}},
            {"skiplist_tasks": ["query", "document"], "skiplist_words": ["berlin", "?"]},
        ),
        (
            {"query_expansion": {"strategy": "fixed", "length": 24, "attend": True, "token": "[unused5]"}},
            {"keep_only_token_ids": [101, 4068, 1996]},
        ),
    ],
)
def test_sentence_transformers_layout(tmp_path, minilm, knobs, mask):
    folder = multi_vector(tmp_path / "st", minilm, mask=mask, **knobs)

    agree(LateInteraction(folder), peer(folder))


@pytest.mark.parametrize("expansion", [False, True])
@torch.inference_mode()
def test_lightning_irs_layout_is_a_plain_loop(tmp_path, minilm, expansion):
    folder = lightning(
        tmp_path / "col", minilm, query_length=16, doc_length=30, add_marker_tokens=expansion,
        normalization_strategy="l2", query_expansion=expansion, doc_mask_scoring_tokens="punctuation",
    )  # fmt: skip
    stored, texts = load_file(folder / "model.safetensors"), LateInteraction(folder)
    config = transformers.BertConfig(
        vocab_size=30_522 + 2 * expansion, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96,
    )  # fmt: skip
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    model.load_state_dict({name: stored[name] for name in model.state_dict()})

    def vectors(pair):
        mask = torch.arange(len(pair.ids)) < (pair.seen or len(pair.ids))
        hidden = model(torch.from_numpy(pair.ids)[None], attention_mask=mask[None].long()).last_hidden_state[0]
        return normalize(hidden @ stored["projection.weight"].T + stored["projection.bias"], dim=-1)

    expected = []
    for grade in GRADES:
        [query], [document] = texts.queries.of([grade.query.text]), texts.documents.of([grade.document.full_text])
        words = texts.documents.tokenizer.convert_ids_to_tokens(document.ids.tolist())
        kept = [word not in string.punctuation for word in words]
        expected.append((vectors(query) @ vectors(document)[kept].T).amax(1).sum().item())

    assert ours(texts) == pytest.approx(expected, abs=1e-4)
    assert max(map(len, [pair.ids for pair in texts.documents.of(TEXTS)])) == 30
    if expansion:
        assert texts.queries.of(["museums"])[0].ids[1] == 30_522


@pytest.mark.parametrize("family", ["modernbert", "mpnet", "deberta-v2", "xlm-roberta"])
def test_fillers_that_are_not_looked_at_in_other_families(tmp_path, minilm, family):
    folder = multi_vector(tmp_path / "st", minilm, family=family, query_expansion={"strategy": "min", "length": 40})

    agree(LateInteraction(folder), peer(folder))


def test_a_real_backbone_without_a_projection(colbert):
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    expansion = {"strategy": "fixed", "length": 32}
    modules = [
        Transformer(str(colbert), query_expansion=expansion, document_length=300),
        MultiVectorMask(list("!.,?;")),
        Normalize(module_input_name="token_embeddings"),
    ]
    model = MultiVectorEncoder(modules=modules, device="cpu")

    judge = LateInteraction(colbert, expansion="unseen", max_tokens=300)
    judge.skipped = judge.documents.tokenizer.convert_tokens_to_ids(list("!.,?;"))

    agree(judge, model)
    ranking = Reranker(judge=judge).rank(QUERIES[0], TEXTS[:3])
    assert ranking[0].document.text == TEXTS[0]


def test_masks_count_and_punctuation_of_documents_does_not(tmp_path, minilm):
    folder = stanford(tmp_path / "colbert", minilm, query_maxlen=32, doc_maxlen=60)
    grade = [Grade(Query("q", "museums?"), Document("d", "New York, New York!"))]

    usual = ours(LateInteraction(folder), grade)
    bare = ours(LateInteraction(folder, expansion="none"), grade)
    loud = LateInteraction(folder, punctuation=True)

    assert usual[0] != bare[0]
    assert ours(loud, grade) != usual
    texts = LateInteraction(folder)
    [query], [document] = texts.queries.of(["museums?"]), texts.documents.of(["New York, New York!"])
    states = torch.ones(32, 4)
    assert len(texts.of_query(query, states)) == 32  # [MASK] and "?" among them
    assert len(texts.of_document(document, states[: len(document.ids)])) == len(document.ids) - 2


def test_bits_do_not_depend_on_batch_order_or_what_was_kept(tmp_path, minilm):
    folder = stanford(tmp_path / "colbert", minilm, query_maxlen=32, doc_maxlen=60)
    choice = random.Random(5)
    texts = [" ".join(choice.choices(TEXTS[0].split(), k=choice.randint(1, 40))) for _ in range(30)]
    grades = [Grade(Query("q", query), Document(text, text)) for query in QUERIES for text in texts]
    order = choice.sample(range(len(grades)), len(grades))

    whole = ours(LateInteraction(folder), grades)
    small = ours(LateInteraction(folder, token_budget=80, kept_megabytes=0), [grades[index] for index in order])
    judge = LateInteraction(folder)
    alone = [ours(judge, [grade])[0] for grade in grades]

    assert alone == whole
    assert small == [whole[index] for index in order]


def test_a_document_is_read_once_for_all_queries_and_the_ledger_says_so(tmp_path, minilm):
    judge = LateInteraction(stanford(tmp_path / "colbert", minilm, query_maxlen=32, doc_maxlen=60))
    ledger = Ledger()

    ours(judge, GRADES, ledger)
    first = dict(ledger.total)
    ours(judge, GRADES, ledger)

    documents = sum(len(pair.ids) for pair in judge.documents.of(TEXTS))
    assert first["tokens_real"] == documents + 32 * len(QUERIES)
    assert first["tokens_reused"] == documents * (len(QUERIES) - 1)
    assert first["truncated_documents"] == len(QUERIES)  # one document, for each query that it was read for
    assert first["truncated_queries"] == 1
    assert ledger.total["tokens_real"] == first["tokens_real"]
    assert ledger.total["tokens_reused"] == first["tokens_reused"] + documents * len(QUERIES)
    for amount in ("flops", "tokens_real", "tokens_reused"):
        assert sum(account.get(amount, 0) for account in ledger.queries.values()) == ledger.total[amount]


def test_what_is_kept_is_bounded(tmp_path, minilm):
    judge = LateInteraction(stanford(tmp_path / "colbert", minilm), kept_megabytes=1)
    grades = [Grade(Query("q", "museums"), Document(str(n), f"{n} " + "word " * 100)) for n in range(120)]

    ours(judge, grades)

    assert 0 < judge.kept.bytes <= 2**20
    assert 0 < len(judge.kept) < 120


def test_other_options_are_another_key(tmp_path, minilm):
    folder = stanford(tmp_path / "colbert", minilm)
    options = [
        {}, {"expansion": "none"}, {"expansion": "seen"}, {"query_tokens": 16}, {"max_tokens": 50},
        {"punctuation": True}, {"query_prompt": "ask: "}, {"document_prompt": ""},
    ]  # fmt: skip

    keys = {LateInteraction(folder, **each).key for each in options}

    assert len(keys) == len(options)
    assert LateInteraction(folder, token_budget=64, kept_megabytes=1).key in keys


def test_documents_in_windows(tmp_path, minilm):
    folder = stanford(tmp_path / "colbert", minilm, doc_maxlen=40)
    reranker = Reranker(folder, long_documents="max")

    [ranking] = reranker.rerank([Reranker(folder).rank("wall", [TEXTS[2], TEXTS[0]])])

    assert reranker.passages["query"]["0"].text != TEXTS[2]
    assert ranking[0].score is not None


def test_what_is_wrong_is_said_in_one_line(tmp_path, minilm, sentences):
    backbone(tmp_path / "plain", minilm)

    with pytest.raises(CheckpointError, match="is of kind cross-encoder; judge 'late-interaction' wants"):
        LateInteraction(minilm)
    with pytest.raises(CheckpointError, match="an encoder without anything behind it: say judge='late-interaction'"):
        Reranker(tmp_path / "plain")
    with pytest.raises(UnknownName, match="expansion"):
        LateInteraction(sentences, expansion="unsen")
    with pytest.raises(InputError, match="max_tokens=9999, but"):
        LateInteraction(sentences, max_tokens=9999)
    with pytest.raises(InputError, match="leave no room for a text"):
        LateInteraction(sentences, max_tokens=2)
    half = Grade(Query("q", "a\ud800"), Document("d", "b"))
    [(_, error)] = LateInteraction(sentences).answer([half], Ledger())
    assert isinstance(error, InputError)
    assert Reranker(tmp_path / "plain", judge="late-interaction").rank("a", ["a b", "c"])[0].score is not None
