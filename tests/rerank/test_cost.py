"""The ledger: sums, waits, peaks, and the file that keeps them."""

from __future__ import annotations

import doctest
import json
import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from rerank.algorithms.pointwise import pointwise
from rerank.cost import UNITS, Ledger, peak_cuda_bytes, peak_memory_bytes
from rerank.engine.scheduler import Scheduler
from rerank.errors import FileError
from rerank.io import read_ledger, write_ledger
from rerank.judges.fake import Oracle


def test_accounts_add_up_to_the_total_from_any_thread():
    ledger = Ledger()

    def charge(number):
        for _ in range(1000):
            ledger.charge(f"q{number % 3}", questions=1, tokens_real=number)

    threads = [threading.Thread(target=charge, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ledger.total == {"questions": 6000, "tokens_real": 15_000}
    assert sum(account["tokens_real"] for account in ledger.queries.values()) == 15_000


def test_an_amount_without_a_name_is_refused():
    with pytest.raises(KeyError, match="no amount is called 'dollars'"):
        Ledger().charge("q", dollars=1)


def test_every_query_is_timed_from_its_submission_to_its_ranking(listed):
    ledger = Ledger()
    with Scheduler(Oracle({}), ledger=ledger) as scheduler:
        scheduler.run([pointwise(listed(3, f"q{number}")) for number in range(20)])
        scheduler.submit(pointwise(listed(3, "cancelled"))).cancel()

    assert {f"q{number}" for number in range(20)} <= set(ledger.wall_seconds)
    assert all(0 < seconds < 5 for seconds in ledger.wall_seconds.values())
    spread = ledger.as_dict()["wall_seconds"]
    assert spread["median"] <= spread["p95"] <= spread["longest"] == max(ledger.wall_seconds.values())


def test_waits_are_means_of_a_query_and_spread_over_queries():
    ledger = Ledger()
    for seconds in (1.0, 3.0):
        ledger.finish("twice", seconds)
    for number in range(1, 20):
        ledger.finish(f"q{number}", 10.0 * number)

    assert ledger.wall_seconds["twice"] == 2.0
    assert ledger.as_dict()["wall_seconds"] == {"mean": 95.1, "median": 95.0, "p95": 180.0, "longest": 190.0}
    assert "wall_seconds" not in Ledger().as_dict()


def test_peaks_are_read_from_the_process(monkeypatch):
    assert 2**20 < peak_memory_bytes() < 2**50
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert peak_cuda_bytes() is None

    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 2,
        max_memory_allocated=lambda device: 100 + device,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    assert peak_cuda_bytes() == 201
    assert Ledger().as_dict()["peak_cuda_bytes"] == 201


def test_a_ledger_comes_back_from_its_file(tmp_path):
    ledger = Ledger()
    ledger.charge("ä", questions=3, flops=2e15)
    ledger.finish("ä", 0.5)
    ledger.note("device", "cpu")

    write_ledger(tmp_path / "ledger.json", ledger, output="runs/out.trec")

    accounts = read_ledger(tmp_path / "ledger.json")
    assert accounts.output == "runs/out.trec"
    assert accounts.queries == {"ä": {"questions": 3, "flops": 2e15, "wall_seconds": 0.5}}
    content = json.loads((tmp_path / "ledger.json").read_text())
    assert (content["flops"], content["notes"]) == (2e15, {"device": "cpu"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json", "is no ledger, for it is not JSON; write one with: rerank rerank … --ledger FILE"),
        ("[" * 100_000, "is no ledger, for it is not JSON"),
        ("[]", "is no ledger of this version"),
        ('{"questions": 3}', "is no ledger of this version"),
        ('{"ledger": 1, "of": "rerank-toolkit"}', "the ledger is damaged"),
        ('{"ledger": 1, "of": "rerank-toolkit", "output": 3, "queries": {}}', "output is 3"),
        ('{"ledger": 1, "of": "rerank-toolkit", "queries": {"q": 3}}', "the account of query 'q' is 3"),
        ('{"ledger": 1, "of": "rerank-toolkit", "queries": {"q": {"flops": "3"}}}', "'flops' of query 'q' is '3'"),
        ('{"ledger": 1, "of": "rerank-toolkit", "queries": {"q": {"flops": NaN}}}', "'flops' of query 'q' is nan"),
        ('{"ledger": 1, "of": "rerank-toolkit", "queries": {"q": {"flops": -1}}}', "it is a number, 0 or more"),
    ],
)
def test_what_is_no_ledger_is_refused_in_one_line(tmp_path, content, said):
    (tmp_path / "file").write_text(content)

    with pytest.raises(FileError) as caught:
        read_ledger(tmp_path / "file")

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_ledger_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match=r"there is no file .*nowhere"):
        read_ledger(tmp_path / "nowhere")
    with pytest.raises(FileError, match="cannot read"):
        read_ledger(tmp_path)


PAGES = Path(__file__).parents[2] / "docs"


def test_the_examples_of_the_page_about_cost_run():
    found = doctest.testfile(str(PAGES / "cost.md"), module_relative=False)

    assert (found.failed, found.attempted > 0) == (0, True)


def test_the_page_about_cost_names_every_amount():
    page = (PAGES / "cost.md").read_text(encoding="utf-8")

    assert [name for name in UNITS if f"`{name}`" not in page] == []


def test_the_example_of_the_page_about_the_scheduler_runs(capsys):
    [example] = re.findall(r"```python\n(.*?)```", (PAGES / "scheduler.md").read_text(encoding="utf-8"), re.DOTALL)

    exec(example, {})

    assert capsys.readouterr().out == "19 1\n"
