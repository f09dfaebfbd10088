"""What answers had cost stays beside them in the journal, and comes back with them, by itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from small_folders import bert, texts

from rerank import Document, Query, Ranking, Reranker
from rerank.cost import Ledger
from rerank.efficiency import efficiency
from rerank.engine.scheduling.charges import Charges
from rerank.errors import FileError, InputError
from rerank.evaluate import evaluate
from rerank.io import read_ledger, write_ledger

QUERIES, DOCUMENTS = 4, 9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def rankings() -> list[Ranking]:
    words = texts(QUERIES * DOCUMENTS, seed=3)
    return [
        Ranking.unscored(
            Query(f"q{number}", f"how many {number}"),
            [Document(f"d{place}", f"{words[number * DOCUMENTS + place]} {place}") for place in range(DOCUMENTS)],
        )
        for number in range(QUERIES)
    ]


def test_what_was_paid_before_and_what_is_paid_now_is_the_whole_bill(model, rankings, tmp_path):
    with Reranker(str(model), journal=tmp_path / "j") as first:
        first.rerank(rankings[:2])
    with Reranker(str(model), journal=tmp_path / "j") as second:
        second.rerank(rankings)

    paid, again = Counter(first.ledger.total), Counter(second.ledger.total)
    assert again["journal_hits"] == second.ledger.as_dict()["recalled"]["questions"] == 2 * DOCUMENTS
    write_ledger(tmp_path / "ledger.json", second.ledger)
    whole = sum((Counter(account) for account in read_ledger(tmp_path / "ledger.json").whole.values()), Counter())
    assert "journal_hits" not in whole
    assert whole["questions"] == QUERIES * DOCUMENTS
    for name in ("calls", "tokens_real", "tokens_padded", "flops", "flops_estimated"):
        assert whole[name] == paid[name] + again[name] > 0, name
    assert whole["seconds"] == pytest.approx(paid["seconds"] + again["seconds"])


def test_each_answer_has_its_own_cost_beside_it(model, rankings, tmp_path):
    with Reranker(str(model), journal=tmp_path / "j") as reranker:
        reranker.rerank(rankings[:1])
        words = [document.text for document in rankings[0].documents]
        pairs = reranker.judge.tokens.pairs([rankings[0].query.text] * DOCUMENTS, words)

    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()[1:]]
    costs = [line["cost"]["tokens_real"] for line in lines]
    assert costs == [len(pair.ids) for pair in pairs]
    assert len(set(costs)) > 1


def test_charges_belong_to_the_next_answer_of_their_query():
    ledger = Ledger()
    bill = Charges(ledger)
    bill.charge("a", calls=1)
    for query_id, tokens in (("a", 3), ("b", 4), ("a", 5)):
        bill.charge(query_id, tokens_real=tokens, seconds=0.5)
    bill.charge("a", tokens_reused=7)

    assert bill.take("a", last=False) == {"calls": 1, "tokens_real": 3, "seconds": 0.5}
    assert bill.take("b", last=True) == {"tokens_real": 4, "seconds": 0.5}
    assert bill.take("a", last=True) == {"tokens_real": 5, "seconds": 0.5, "tokens_reused": 7}
    assert bill.take("a", last=True) == {}
    assert ledger.total == {"calls": 1, "tokens_real": 12, "tokens_reused": 7, "seconds": 1.5}


def test_an_answer_of_an_older_journal_has_no_known_cost(model, rankings, tmp_path):
    path = tmp_path / "j"
    with Reranker(str(model), journal=path) as first:
        [ranked] = first.rerank(rankings[:1])
    head, *lines = path.read_text().splitlines()
    old = [json.dumps({key: value for key, value in json.loads(line).items() if key != "cost"}) for line in lines]
    path.write_text("\n".join([head, *old]) + "\n")

    with Reranker(str(model), journal=path) as second:
        assert second.rerank(rankings[:1]) == [ranked]
        write_ledger(tmp_path / "ledger.json", second.ledger)

    whole = read_ledger(tmp_path / "ledger.json").whole
    assert whole["q0"]["journal_hits"] == DOCUMENTS
    evaluation = evaluate({"q0": {"d0": 1}}, {"q0": ranked})
    with pytest.raises(InputError, match="9 answers about query 'q0' came from a journal"):
        efficiency(evaluation, whole)


def test_a_cost_that_is_no_number_is_a_damaged_journal(model, rankings, tmp_path):
    path = tmp_path / "j"
    with Reranker(str(model), journal=path) as reranker:
        reranker.rerank(rankings[:1])
    path.write_text(path.read_text().replace('"cost": {', '"cost": {"price": "much", ', 1))

    with pytest.raises(FileError, match="damaged at line 2"):
        Reranker(str(model), journal=path)


def test_what_is_recalled_is_no_amount_of_this_run():
    ledger = Ledger()
    ledger.charge("q", questions=2, journal_hits=1)
    ledger.recall("q", questions=1, seconds=3.0)

    assert ledger.total == {"questions": 2, "journal_hits": 1}
    assert ledger.as_dict(queries=True)["recalled_queries"] == {"q": {"questions": 1, "seconds": 3.0}}
    with pytest.raises(KeyError, match="no amount is called 'secnods'"):
        ledger.recall("q", secnods=1.0)
