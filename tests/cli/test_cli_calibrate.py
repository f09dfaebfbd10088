"""`rerank calibrate` and `rerank threshold`: fitted, shown, stored, applied."""

from __future__ import annotations

import json

import pytest

from rerank.io import read_run


@pytest.fixture
def scored(tmp_path):
    """Four queries; in three of them the relevant document scores 2, in the fourth −1; the others 0 and −2."""
    lines = []
    for query in range(4):
        scores = {"good": 2 if query < 3 else -1, "bad": 0, "worse": -2}
        best_first = sorted(scores, key=lambda doc_id: -scores[doc_id])
        for rank, doc_id in enumerate(best_first, start=1):
            lines.append(f"q{query} Q0 {doc_id} {rank} {scores[doc_id]} model\n")
    (tmp_path / "scored.trec").write_text("".join(lines))
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{query}\tgood\t1\n" for query in range(4))
    )
    return tmp_path


def fitted(command, scored, *more):
    return command(
        "calibrate", "--qrels", scored / "qrels.tsv", "--run", scored / "scored.trec", "--folds", 2,
        "--output", scored / "calibration.json", *more,
    )  # fmt: skip


def test_a_calibration_is_shown_stored_and_applied(command, scored):
    result = fitted(command, scored, "--precision", "0.9")

    assert result.exit_code == 0
    assert "platt, on held-out queries" in result.stdout
    assert "platt, 12 examples of 4 queries, 4 relevant, 8 unjudged" in result.stderr

    kept = command(
        "threshold", "--run", scored / "scored.trec", "--calibration", scored / "calibration.json",
        "--at", "0.5", "--output", scored / "kept.trec", "--json",
    )  # fmt: skip

    answer = json.loads(kept.stdout)
    assert (answer["candidates"], answer["kept"], answer["queries_left_empty"]) == (12, 3, 1)
    run = read_run(scored / "kept.trec")
    assert {query: list(docs) for query, docs in run.items()} == {f"q{n}": ["good"] for n in range(3)}
    assert all(0.5 <= score <= 1 for docs in run.values() for score in docs.values())


def test_the_json_holds_the_curve_and_its_quality(command, scored):
    answer = json.loads(fitted(command, scored, "--method", "isotonic", "--json").stdout)

    assert (answer["method"], answer["scores_of"], answer["fitted_to"]["examples"]) == ("isotonic", "", 12)
    assert answer["curve"]["scores"] == sorted(answer["curve"]["scores"])
    assert answer["fitted_to"]["held_out"]["examples"] == 12


def test_a_model_ties_the_calibration_to_itself(command, scored, model):
    answer = json.loads(fitted(command, scored, "--model", model, "--max-tokens", 32, "--json").stdout)

    assert answer["scores_of"].startswith("cross-encoder-")
    assert answer["scores_of"].endswith(" pointwise")


def test_what_does_not_go_together_is_refused(refused, scored):
    run, output = scored / "scored.trec", scored / "calibration.json"

    assert "give either --dataset or --qrels" in refused("calibrate", "--run", run, "--output", output)
    said = refused("calibrate", "--run", run, "--qrels", scored / "qrels.tsv", "--output", output, "--dtype", "float32")
    assert "--dtype is of no use without --model" in said
    said = refused("calibrate", "--run", run, "--qrels", scored / "qrels.tsv", "--output", output, "--method", "plat")
    assert "no calibration method is called 'plat'; did you mean 'platt'?" in said
    assert not output.exists()


def test_windows_of_long_documents_from_the_command_line(command, collection, run_file, model, tmp_path):
    result = command(
        "rerank", "--dataset", collection, "--run", run_file, "--model", model, "--cutoff", 5, "--json",
        "--long-documents", "max", "--window-tokens", 4, "--output", tmp_path / "out.trec",
    )  # fmt: skip

    ledger = json.loads(result.stdout)["ledger"]
    assert result.exit_code == 0
    assert ledger["windows"] > 6
    assert ledger["notes"]["long documents"] == "max, window 4, stride window"


def test_a_checkpoint_chooses_windows_from_the_command_line(command, refused, collection, run_file, model, tmp_path):
    asked = ("rerank", "--dataset", collection, "--run", run_file, "--model", model, "--cutoff", 5)
    asked = (*asked, "--output", tmp_path / "out.trec", "--best-windows", 1, "--preselect", model, "--preselected", 1)

    said = refused(*asked)
    result = command(*asked, "--json", "--long-documents", "k-max", "--window-tokens", 4)

    assert "best_windows, preselect, preselected: of no use to long_documents='truncate'" in said
    assert result.exit_code == 0
    ledger = json.loads(result.stdout)["ledger"]
    assert ledger["windows_left_out"] > 0
    assert ledger["notes"]["long documents"].startswith("k-max, window 4, stride window, best 1 weights equal, 1 pre")


def test_rerank_writes_probabilities(command, refused, scored, collection, run_file, model, tmp_path):
    fitted(command, scored, "--model", model)
    asked = (
        "rerank", "--dataset", collection, "--run", run_file, "--model", model, "--output", tmp_path / "out.trec",
        "--calibration", scored / "calibration.json",
    )  # fmt: skip

    assert command(*asked, "--cutoff", 3, "--threshold", 0).exit_code == 0

    run = read_run(tmp_path / "out.trec")
    assert {len(docs) for docs in run.values()} == {3}
    assert all(0 <= score <= 1 for docs in run.values() for score in docs.values())
    said = refused(*asked, "--max-tokens", 32, "-q")
    assert "calibrate this checkpoint with these options" in said


def test_steps_and_calibrations_are_listed(command):
    listed = json.loads(command("list", "--json").stdout)["names"]

    assert set(listed["steps"]) == {"feedback", "mmr", "recency"}
    assert set(listed["calibrations"]) == {"platt", "temperature", "isotonic"}


def test_a_budget_leaves_documents_below(command, collection, run_file, model, tmp_path):
    result = command(
        "rerank", "--dataset", collection, "--run", run_file, "--model", model, "--json",
        "--query-pflop", "1e-15", "--output", tmp_path / "out.trec",
    )  # fmt: skip

    ledger = json.loads(result.stdout)["ledger"]
    assert (ledger["questions"], ledger["over_budget"]) == (6, 6 * 29)
    assert {len(docs) for docs in read_run(tmp_path / "out.trec").values()} == {30}


def test_the_report_of_a_run_of_probabilities_has_its_ece_and_brier_score(command, refused, scored):
    """Three queries keep "good" at p, one keeps nothing: all of one bin are relevant, and 1 - p too few of them."""
    fitted(command, scored)
    command(
        "threshold", "--run", scored / "scored.trec", "--calibration", scored / "calibration.json",
        "--at", "0.5", "--output", scored / "kept.trec",
    )  # fmt: skip
    [probability] = {round(score, 6) for docs in read_run(scored / "kept.trec").values() for score in docs.values()}
    asked = ("evaluate", "--qrels", scored / "qrels.tsv", "--run", scored / "kept.trec", "--probabilities")

    answer = json.loads(command(*asked, "--json").stdout)
    shown = command(*asked, "--output", scored / "report.md")

    quality = answer["probabilities"]["kept.trec"]
    assert quality["examples"] == 3
    assert quality["ece"] == pytest.approx(1 - probability, abs=1e-5)
    assert quality["brier"] == pytest.approx((1 - probability) ** 2, abs=1e-5)
    assert "ECE" in shown.stdout
    assert (
        f"| kept.trec | {1 - probability:.4f} | {(1 - probability) ** 2:.4f} | 3 |"
        in (scored / "report.md").read_text()
    )
    assert "scored.trec: a probability is not between 0 and 1" in refused(
        "evaluate", "--qrels", scored / "qrels.tsv", "--run", scored / "scored.trec", "--probabilities"
    )
