"""duoBERT: a query and two documents in one sequence, as a plain loop reads them; both orders; cuts are shared."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import transformers
from small_folders import bert, texts

from rerank import Document, Query, Reranker
from rerank.algorithms.aggregate import matrix_of, scores_of
from rerank.cost import Ledger
from rerank.errors import InputError
from rerank.judges.duo_encoder import DuoEncoder
from rerank.questions import Compare

QUERY = Query("q", "who won?")
SHAPES = {"two logits, three types": (2, 3), "one logit, two types": (1, 2)}


def asked(documents: list[str], query: Query = QUERY) -> list[Compare]:
    pairs = itertools.permutations([Document(str(place), text) for place, text in enumerate(documents)], 2)
    return [Compare(query, first, second) for first, second in pairs]


def probabilities(judge: DuoEncoder, questions: list[Compare], ledger: Ledger | None = None) -> list[float]:
    answers = dict(judge.answer(questions, ledger or Ledger()))
    return [answers[index].probability for index in range(len(questions))]


@pytest.fixture(scope="module", params=SHAPES)
def folder(request, tmp_path_factory):
    labels, types = SHAPES[request.param]
    return bert(tmp_path_factory.mktemp("duo"), labels=labels, types=types)


@pytest.fixture(scope="module")
def judge(folder) -> DuoEncoder:
    return DuoEncoder(folder)


@torch.inference_mode()
def test_probabilities_are_those_of_a_plain_loop(folder, judge):
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(folder)
    last = min(2, model.config.type_vocab_size - 1)
    questions = asked(texts(4, seed=random.randrange(2**32)))
    expected = []
    for one in questions:
        parts = [tokenizer.encode(text, add_special_tokens=False)
                 for text in (one.query.text, one.first.text, one.second.text)]  # fmt: skip
        sequence = [[tokenizer.cls_token_id, *parts[0], tokenizer.sep_token_id]]
        sequence += [[*part, tokenizer.sep_token_id] for part in parts[1:]]
        types = [kind for part, kind in zip(sequence, (0, 1, last), strict=True) for _ in part]
        ids = torch.tensor([list(itertools.chain(*sequence))])
        logits = model(input_ids=ids, token_type_ids=torch.tensor([types])).logits[0]
        expected.append(float(logits.sigmoid()[0] if len(logits) == 1 else logits.softmax(0)[1]))

    got = probabilities(judge, questions)

    assert max(expected) - min(expected) > 0.05, "a model that tells nothing apart proves nothing"
    assert got == pytest.approx(expected, abs=1e-4)


def test_no_bit_depends_on_the_batch(judge):
    questions = asked(texts(5, seed=4))

    whole = probabilities(judge, questions)

    assert whole == [probabilities(judge, [question])[0] for question in questions]


def test_documents_share_the_room_and_cuts_are_counted(folder):
    judge, ledger = DuoEncoder(folder, max_tokens=24), Ledger()
    long, short = Document("l", "art " * 30), Document("s", "wall wall")

    probabilities(judge, [Compare(QUERY, long, short)], ledger)
    [pair] = judge.read([Compare(QUERY, long, long)])

    assert ledger.total["tokens_real"] == 24  # 4 special, 3 of the query, 2 of the short one, so that 15 are left
    assert ledger.total["truncated_tokens"] == 30 - 15
    assert len(pair.ids) == 24
    assert pair.cut == 60 - 17
    assert [int(kind) for kind in sorted(set(pair.types.tolist()))] == sorted({0, 1, judge.triples.types[2]})


def test_a_query_without_room_is_refused_before_any_work(folder):
    judge = DuoEncoder(folder, max_tokens=12)

    with pytest.raises(InputError, match=r"query 'long': the query takes 7 tokens, .* no room for two documents"):
        judge.check_queries([QUERY, Query("long", "who " * 7)])


@pytest.mark.parametrize("aggregate", ["sum", "binary", "min", "max"])
def test_all_pairs_add_up_both_orders(folder, judge, aggregate):
    documents = texts(5, seed=8)
    questions = asked(documents)
    said = {(int(one.first.doc_id), int(one.second.doc_id)): p
            for one, p in zip(questions, probabilities(judge, questions), strict=True)}  # fmt: skip
    expected = scores_of(matrix_of(5, said), aggregate)

    from rerank.algorithms.pairs import all_pairs
    from rerank.engine.scheduler import Scheduler
    from rerank.types import Ranking

    listed = Ranking.unscored(QUERY, [Document(str(place), text) for place, text in enumerate(documents)])
    [ranking] = Scheduler(judge, ledger=Ledger()).run([all_pairs(listed, aggregate=aggregate)])

    assert {c.document.doc_id: c.score for c in ranking} == {str(i): score for i, score in enumerate(expected)}


def test_a_reranker_compares(folder):
    reranker = Reranker("duobert", model=folder)

    ranking = reranker.rank(QUERY, texts(4, seed=2))

    assert len(ranking) == 4
    assert reranker.ledger.total["questions"] == 12
    with pytest.raises(InputError, match="pointwise asks Grade, and DuoEncoder answers only Compare"):
        Reranker(folder, judge="duo-encoder", algorithm="pointwise")
    with pytest.raises(InputError, match="int8"):
        DuoEncoder(folder, dtype="int8")
