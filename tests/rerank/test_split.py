"""Split cross-encoders are transformers' layers with a mask in the lower ones; unsplit they are the cross-encoder."""

from __future__ import annotations

import random

import pytest
import torch
import transformers
from encoder_models import classifier
from judge_models import answers

from rerank.cost import Ledger
from rerank.engine.encoders.split import SplitEncoder
from rerank.engine.tokens import Pair
from rerank.errors import CheckpointError, InputError
from rerank.judges.cross_encoder import CrossEncoder
from rerank.judges.split import Split
from rerank.questions import Grade
from rerank.types import Document, Query

SEED = random.randrange(2**32)


@torch.inference_mode()
def masked(model, ids: list[int], types: list[int], border: int, split: int) -> torch.Tensor:
    """A BERT or ELECTRA layer by layer: query and document do not see each other in the first `split`."""
    base = model.base_model
    inputs = {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([types])}
    hidden = base.embeddings(**inputs)
    if (project := getattr(base, "embeddings_project", None)) is not None:
        hidden = project(hidden)
    apart = torch.full((1, 1, len(ids), len(ids)), torch.finfo(torch.float32).min)
    apart[..., :border, :border] = 0
    apart[..., border:, border:] = 0
    for number, layer in enumerate(base.encoder.layer):
        output = layer(hidden, apart if number < split else None)
        hidden = output[0] if isinstance(output, tuple) else output
    pooled = base.pooler(hidden) if getattr(base, "pooler", None) is not None else hidden
    return model.classifier(pooled)[0]


@pytest.mark.parametrize("name", ["bert", "electra"])
@pytest.mark.parametrize("split", [0, 1, 2])
def test_scores_are_those_of_the_model_with_a_mask(name, split):
    choice = random.Random(SEED)
    texts = []
    for _ in range(9):
        length, border = (size := choice.randint(4, 90)), choice.randint(1, size - 1)
        texts.append(([choice.randint(5, 199) for _ in range(length)], border))
    model = classifier(name)
    expected = [masked(model, ids, [0] * border + [1] * (len(ids) - border), border, split) for ids, border in texts]

    encoder = SplitEncoder(model, split)
    halves = [(Pair.of(ids[:border], [0] * border), placed(ids[border:], border)) for ids, border in texts]
    states, _, _ = encoder.states([half for pair in halves for half in pair])
    got = encoder.score([(states[2 * place], states[2 * place + 1]) for place in range(len(texts))]).logits

    torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-4)
    assert torch.stack(expected).std() > 1e-2


def placed(ids: list[int], start: int) -> Pair:
    half = Pair.of(ids, [1] * len(ids))
    return Pair(half.ids, half.types, start=start)


@pytest.mark.parametrize("name", ["roberta", "modernbert", "modernbert mean", "mpnet", "distilbert", "deberta-v2"])
def test_unsplit_other_families_are_themselves(name):
    from encoder_models import plain, random_pairs

    model = classifier(name)
    pairs = random_pairs(7, seed=SEED, longest=60)
    expected = plain(model, pairs)

    encoder = SplitEncoder(model, 0)
    halves = [(Pair(p.ids[:1], p.types[:1]), Pair(p.ids[1:], p.types[1:], start=1)) for p in pairs if len(p.ids) > 1]
    states, _, _ = encoder.states([half for pair in halves for half in pair])
    got = encoder.score([(states[2 * place], states[2 * place + 1]) for place in range(len(halves))]).logits

    torch.testing.assert_close(got, expected[[len(p.ids) > 1 for p in pairs]], rtol=0, atol=1e-4)


QUERIES = ("how many people live in Berlin?", "museums", "famous walls?")
TEXTS = ("Berlin has 3,520,031 inhabitants.", "New York City is famous for its museums.", "The wall fell. " * 60, "")
GRADES = [
    Grade(Query(f"q{number}", query), Document(f"d{index}", text))
    for number, query in enumerate(QUERIES)
    for index, text in enumerate(TEXTS)
]


def ours(judge, grades=GRADES, ledger=None) -> list[float]:
    return [answer.score for answer in answers(judge, grades, ledger)]


def test_unsplit_the_real_minilm_is_the_cross_encoder(minilm):
    assert ours(Split(minilm, max_tokens=128)) == pytest.approx(ours(CrossEncoder(minilm, max_tokens=128)), abs=1e-4)


def test_split_the_real_minilm_is_itself_with_a_mask(minilm):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    expected = []
    for grade in GRADES:
        read = tokenizer([grade.query.text], [grade.document.full_text], truncation="only_second", max_length=128)
        types = read["token_type_ids"][0]
        expected.append(masked(model, read["input_ids"][0], types, types.index(1), 6).item())

    assert ours(Split(minilm, split=6, max_tokens=128)) == pytest.approx(expected, abs=1e-4)


def test_documents_are_kept_and_the_ledger_says_so(minilm):
    """ "museums" and "famous walls?" are of other lengths than the first query, so a document begins elsewhere."""
    judge, ledger = Split(minilm, split=6, query_tokens=24, max_tokens=128), Ledger()
    small = Split(minilm, split=6, query_tokens=24, max_tokens=128, kept_megabytes=0, token_budget=100)

    whole = ours(judge, GRADES, ledger)
    again = Ledger()
    repeated = ours(judge, GRADES, again)

    assert repeated == whole
    assert ours(small) == whole
    assert 0 < ledger.total["tokens_reused"] < again.total["tokens_reused"] == again.total["tokens_real"]
    assert again.total["flops"] < 0.75 * ledger.total["flops"]
    for amount in ("flops", "tokens_real", "tokens_reused"):
        assert sum(account.get(amount, 0) for account in ledger.queries.values()) == ledger.total[amount]


def test_a_document_keeps_its_end_token_where_queries_have_a_number_of_places(minilm):
    judge = Split(minilm, split=2, query_tokens=20, max_tokens=40)

    halves = judge._halves(GRADES[2])

    assert halves.document.start == 20
    assert len(halves.document.ids) == 20
    assert halves.document.ids[-1] == 102
    assert halves.document.cut > 100


def test_what_is_wrong_is_said_in_one_line(minilm, sentences):
    with pytest.raises(CheckpointError, match="is of kind bi-encoder, and only cross-encoders can be split"):
        Split(sentences)
    with pytest.raises(InputError, match="split=12, but one of the model's 12 layers must see all"):
        Split(minilm, split=12)
    with pytest.raises(InputError, match="query_tokens=128 leaves no place for a document among 128"):
        Split(minilm, query_tokens=128, max_tokens=128)
    judge = Split(minilm, split=1, query_tokens=4, max_tokens=64)
    [(_, error)] = judge.answer(GRADES[:1], Ledger())
    assert "the query takes 9 tokens, and query_tokens=4" in str(error)
