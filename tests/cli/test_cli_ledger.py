"""`--ledger`: written by `rerank rerank`, read by `rerank evaluate`."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def reranked(command, collection, run_file, model, tmp_path):
    """Writes a run and its ledger."""

    def call(name="out.trec", *more):
        ledger = tmp_path / f"{name}.ledger"
        result = command(
            "rerank", "--dataset", collection, "--run", run_file, "--model", model,
            "--output", tmp_path / name, "--ledger", ledger, *more,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        return tmp_path / name, ledger

    return call


def test_quality_per_petaflop_stands_beside_quality(command, collection, run_file, reranked, tmp_path):
    output, ledger = reranked("out.trec", "--no-journal")

    base = ["evaluate", "--dataset", collection, "--run", run_file, "--run", output, "--ledger", ledger]
    shown = command(*base, "--output", tmp_path / "table.md")
    found = json.loads(command(*base, "--json").stdout)["efficiency"]

    assert shown.exit_code == 0, shown.output
    accounts = json.loads(ledger.read_text())["queries"]
    executed, estimated = found["out.trec"]
    assert executed["qpp"] == pytest.approx(
        1e15 / (sum(account["flops"] for account in accounts.values()) / len(accounts))
    )
    assert estimated["amount"] == "flops_estimated"
    assert "RPP of nDCG@10" in shown.stdout
    assert "| out.trec | executed |" in (tmp_path / "table.md").read_text()
    assert list(found) == ["out.trec"]


def test_answers_from_a_journal_count_with_what_they_had_cost(command, refused, collection, reranked):
    def told(output, ledger):
        result = command("evaluate", "--dataset", collection, "--run", output, "--ledger", ledger, "--json")
        return json.loads(result.stdout)["efficiency"]

    paid = told(*reranked())
    output, ledger = reranked()

    assert told(output, ledger) == paid
    values = json.loads(ledger.read_text())
    assert values["journal_hits"] == values["recalled"]["questions"] > 0
    del values["recalled"], values["recalled_queries"]  # as a journal of an older version leaves it
    ledger.write_text(json.dumps(values))
    said = refused("evaluate", "--dataset", collection, "--run", output, "--ledger", ledger)
    assert f"{ledger}: 30 answers about query 'q0' came from a journal" in said


def test_a_ledger_finds_its_run_by_name_when_it_was_moved(command, refused, collection, run_file, reranked, tmp_path):
    output, ledger = reranked("out.trec", "--no-journal")
    (tmp_path / "moved").mkdir()
    output = output.rename(tmp_path / "moved" / output.name)

    base = ["evaluate", "--dataset", collection, "--ledger", ledger]
    assert command(*base, "--run", output).exit_code == 0
    assert f"the ledger {ledger} paid for" in refused(*base, "--run", run_file)
    assert "belongs to the run out.trec, and so does one before it" in refused(
        *base, "--ledger", ledger, "--run", output
    )


def test_a_ledger_is_no_other_file_of_the_command(refused, collection, run_file, model, tmp_path):
    base = ["rerank", "--dataset", collection, "--run", run_file, "--model", model, "--output", tmp_path / "out"]

    assert "is read as well" in refused(*base, "--ledger", run_file)
    assert "is read as well" in refused(*base, "--ledger", tmp_path / "out")
    assert "there is no folder" in refused(*base, "--ledger", tmp_path / "no" / "folder")
