"""`rerank suite`: what it writes, what it does not do twice, and what it says of datasets that cannot be had."""

from __future__ import annotations

import csv
import json
import re
import shutil

import pytest

from rerank.io import read_run


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No index of a test lands in the user's cache."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pipeline(tmp_path, model):
    """BM25 and the tiny cross-encoder."""
    path = tmp_path / "tiny.toml"
    path.write_text(f'[[stage]]\nretriever = "bm25"\ncutoff = 5\n\n[[stage]]\nreranker = {json.dumps(str(model))}\n')
    return path


@pytest.fixture
def bm25(tmp_path):
    """BM25 alone."""
    path = tmp_path / "bm25.toml"
    path.write_text('[[stage]]\nretriever = "bm25"\ncutoff = 5\n')
    return path


@pytest.fixture
def folder(collection, tmp_path):
    """Two datasets, of which the second has fewer queries, and something that is none."""
    for name in ("one", "two"):
        shutil.copytree(collection, tmp_path / "datasets" / name)
    qrels = tmp_path / "datasets" / "two" / "qrels" / "test.tsv"
    qrels.write_text(
        "".join(line for line in qrels.read_text().splitlines(keepends=True) if not line.startswith(("q4", "q5")))
    )
    (tmp_path / "datasets" / "notes").mkdir()
    return tmp_path / "datasets"


def test_a_suite_writes_a_folder_in_which_every_source_of_the_report_is(command, folder, pipeline, bm25, tmp_path):
    output = tmp_path / "out"

    result = command("suite", folder, "--pipeline", pipeline, "--baseline", bm25, "--output", output, "--json")

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["baseline"], found["unavailable"], list(found["datasets"])) == ("bm25", {}, ["one", "two"])
    assert found["datasets"]["two"]["queries"] == 4
    page = (output / "report.html").read_text()
    sources = set(re.findall(r"href='([^']+)'", page))
    assert {"tables/costs.csv", "measures/one.csv", "runs/two/", "figures/frontier.png", "versions.json"} <= sources
    assert [source for source in sources if not (output / source).exists()] == []
    assert page.count("data:image/png;base64,") == 3
    assert "<td class='name'>Judged@10</td>" in page
    for table in (output / "tables").glob("*.csv"):
        latex = table.with_suffix(".tex").read_text()
        assert latex.count(r"\\") == len(list(csv.reader(table.read_text().splitlines()))), table.name
    assert "http" not in re.sub(r"base64,[^']+", "", page)  # needs nothing from anywhere
    assert [source for source in sources if f"({source})" not in (output / "report.md").read_text()] == []
    assert json.loads((output / "ledgers" / "one" / "tiny.2.json").read_text())["questions"] > 0
    assert (output / "pipelines" / "one" / "tiny.toml").read_text().count("[[stage]]") == 2


def test_means_are_those_of_the_runs_and_the_same_documents_are_retrieved_for_all(
    command, folder, pipeline, bm25, tmp_path
):
    from rerank.datasets import Dataset
    from rerank.evaluate import evaluate

    output = tmp_path / "out"
    command("suite", folder, "--pipeline", pipeline, "--baseline", bm25, "--output", output, "--quiet")

    before, after = (read_run(output / "runs" / "two" / f"{name}.trec") for name in ("bm25", "tiny"))
    assert {q: set(scored) for q, scored in before.items()} == {q: set(scored) for q, scored in after.items()}
    qrels = Dataset.load(folder / "two").qrels
    rows = {row["dataset"]: row for row in csv.DictReader((output / "tables" / "means.csv").read_text().splitlines())}
    expected = [evaluate(qrels, run).means["nDCG@10"] for run in (before, after)]
    assert [float(rows["two"][name]) for name in ("bm25", "tiny")] == pytest.approx(expected, abs=5e-5)
    two = (float(rows["one"]["tiny"]) + float(rows["two"]["tiny"])) / 2
    assert float(rows["mean of 2"]["tiny"]) == pytest.approx(two, abs=1e-4)


def test_the_same_command_goes_on_where_it_was_stopped(command, folder, pipeline, tmp_path, monkeypatch):
    from rerank.suite import system

    output, runs, written = tmp_path / "out", [], system.write_run

    def stop(path, *rest):
        if path.parent.name == "two" and path.name == "tiny.trec":
            raise KeyboardInterrupt
        runs.append(path.name)
        written(path, *rest)

    base = ["suite", folder, "--pipeline", pipeline, "--output", output]
    monkeypatch.setattr(system, "write_run", stop)
    stopped = command(*base)
    assert (stopped.exit_code, runs.count("first-stage.trec"), runs.count("tiny.trec")) == (130, 2, 1)
    assert "the same command goes on from there" in stopped.stderr
    monkeypatch.setattr(system, "write_run", written)
    resumed = command(*base)

    assert resumed.exit_code == 0
    assert "one: tiny: finished before" in resumed.stderr
    assert "two: first-stage: finished before" in resumed.stderr
    recalled = json.loads((output / "ledgers" / "two" / "tiny.2.json").read_text())
    assert recalled["journal_hits"] == recalled["recalled"]["questions"] == recalled["questions"] > 0
    whole = tmp_path / "whole"
    command(*base[:-1], whole)
    for run in sorted((whole / "runs").rglob("*.trec")):
        assert (output / run.relative_to(whole)).read_bytes() == run.read_bytes()
    tables = [csv.DictReader((place / "tables" / "costs.csv").read_text().splitlines()) for place in (output, whole)]
    rows = [next(row for row in table if row["dataset"] == "two") for table in tables]
    assert [row["from journal"] for row in rows] == ["20", "0"]
    assert rows[0]["questions"] == rows[1]["questions"] != ""  # what was paid before the stop is part of the bill
    assert all(rows[0][name] for name in ("tokens", "FLOP", "RPP", "QPP"))
    at_once = json.loads((whole / "ledgers" / "two" / "tiny.2.json").read_text())
    for name in ("tokens_real", "flops_estimated"):  # filler depends on which questions met in a pass
        assert recalled["recalled"][name] == pytest.approx(at_once[name], rel=1e-9), name
    assert rows[0]["median wait"] == "" != rows[1]["median wait"]


def test_systems_with_the_same_reranker_ask_it_once(command, folder, pipeline, tmp_path):
    more = tmp_path / "more.toml"
    more.write_text(pipeline.read_text().replace("cutoff = 5", "cutoff = 7"))
    output = tmp_path / "out"

    command("suite", folder / "one", "--pipeline", pipeline, "--pipeline", more, "--output", output, "--quiet")

    bills = [json.loads((output / "ledgers" / "one" / f"{name}.2.json").read_text()) for name in ("tiny", "more")]
    assert bills[1]["journal_hits"] == bills[1]["recalled"]["questions"] == bills[0]["questions"]
    alone = tmp_path / "alone"
    command("suite", folder / "one", "--pipeline", more, "--output", alone, "--quiet")
    runs = [place / "runs" / "one" / "more.trec" for place in (output, alone)]
    assert runs[0].read_bytes() == runs[1].read_bytes()


def test_perturbations_are_run_and_reported_and_what_is_known_is_not_asked_again(
    command, refused, folder, pipeline, tmp_path
):
    output, qrels = tmp_path / "out", folder / "one" / "qrels" / "test.tsv"
    qrels.write_text(re.sub(r"(d\d*[13579])\t\d", r"\1\t0", qrels.read_text()))  # some that attack
    base = ["suite", folder / "one", "--pipeline", pipeline, "--output", output]
    names = ["typo-swap", "query-words", "reversed", "double", "stuffing"]

    result = command(*base, "--perturb", "typo-swap,query-words", "--perturb", "reversed double stuffing", "--json")

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["robustness"]["one"]
    assert [(one["system"], one["kind"]) for one in found] == [
        *(("first-stage", name) for name in ("typo-swap", "query-words", "double")),
        *(("tiny", name) for name in names),
    ]
    rows = {
        (row["system"], row["perturbation"]): row
        for row in csv.DictReader((output / "tables" / "robustness.csv").read_text().splitlines())
    }
    # a judge of single documents does not see their order: the same bytes, and no question is asked twice
    backwards = output / "perturbed" / "reversed"
    run = output / "runs" / "one" / "tiny.trec"
    assert (backwards / "runs" / "one" / "tiny.trec").read_bytes() == run.read_bytes()
    bill = json.loads((backwards / "ledgers" / "one" / "tiny.2.json").read_text())
    assert bill["journal_hits"] == bill["questions"] > 0
    reversed_row = rows["tiny", "reversed"]
    told = [float(reversed_row[name]) for name in ("change", "low", "high", "p", "Kendall's τ", "ranks moved")]
    assert told == pytest.approx([0, 0, 0, 1, 1, 0])
    assert rows["first-stage", "query-words"]["change"] == "0.0"  # BM25 counts words
    stuffed = json.loads((output / "perturbed" / "stuffing" / "ledgers" / "one" / "tiny.2.json").read_text())
    lines = (output / "perturbed" / "stuffing" / "changes" / "one" / "tiny.jsonl").read_text().splitlines()
    attackers = [line["attacker"] for line in map(json.loads, lines) if line["attacker"]]
    assert stuffed["questions"] - stuffed["journal_hits"] == len(attackers) > 0
    assert rows["tiny", "stuffing"]["attackers after"] != ""
    double = read_run(output / "perturbed" / "double" / "runs" / "one" / "tiny.trec")
    assert max(map(len, double.values())) == 2 * max(map(len, read_run(run).values()))
    page = (output / "report.html").read_text()
    assert "perturbed/" in page
    texts = [json.loads(line)["text"] for line in (folder / "one" / "corpus.jsonl").open()]
    assert any(f"“{text[:20]}" in page for text in texts)  # of the documents that moved

    again = command(*base, "--perturb", "reversed")
    assert "one: tiny, reversed: finished before" in again.stderr
    assert "perturbed with seed 0, not 1" in refused(*base, "--perturb", "order", "--seed", 1)
    assert "no perturbation is called 'tipos'; did you mean 'typos'?" in refused(*base, "--perturb", "tipos")


def test_probabilities_are_held_against_what_happened(command, folder, pipeline, tmp_path):
    from rerank.calibration import Calibration
    from rerank.calibration.curves import Sigmoid

    Calibration("platt", Sigmoid(3.0, -0.5)).save(tmp_path / "curve.json")
    pipeline.write_text(f"{pipeline.read_text()}calibration = {json.dumps(str(tmp_path / 'curve.json'))}\n")
    output = tmp_path / "out"

    command("suite", folder / "one", "--pipeline", pipeline, "--output", output, "--quiet")

    run = read_run(output / "runs" / "one" / "tiny.trec")
    points = list(csv.DictReader((output / "tables" / "calibration.csv").read_text().splitlines()))
    assert sum(int(row["documents"]) for row in points) == sum(map(len, run.values()))
    total = sum(float(row["mean probability"]) * int(row["documents"]) for row in points)
    assert total == pytest.approx(sum(sum(scored.values()) for scored in run.values()))
    assert {row["system"] for row in points} == {"tiny"}
    assert (output / "figures" / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    assert "figures/calibration.png" in (output / "report.md").read_text()


def test_judgments_of_another_collection_are_refused(command, refused, folder, bm25, tmp_path):
    qrels = folder / "two" / "qrels" / "test.tsv"
    rows = qrels.read_text().splitlines()
    qrels.write_text("\n".join([rows[0], "q1\tx9\t1", *rows[1:]]) + "\n")
    base = ["suite", folder / "two", "--pipeline", bm25, "--output"]
    assert "two lacks 1 of 41 judged documents, 'x9' for one" in command(*base, tmp_path / "out").stderr

    qrels.write_text("\n".join([rows[0], "q1\tx9\t1", "q2\tx8\t1"]) + "\n")

    assert "the judgments of dataset 'two' name no document of it: 'x8' and 1 more" in refused(
        *base, tmp_path / "n", "-q"
    )


def test_what_a_benchmark_excludes_is_not_retrieved(command, collection, bm25, tmp_path, monkeypatch):
    from rerank.datasets import Dataset

    monkeypatch.setattr(Dataset, "excluded", {"q0": frozenset({"d0", "d1"})})
    command("suite", collection, "--pipeline", bm25, "--output", tmp_path / "out")
    found = read_run(tmp_path / "out" / "runs" / collection.name / "bm25.trec")

    monkeypatch.setattr(Dataset, "excluded", {"q0": frozenset(found["q0"])})
    command("suite", collection, "--pipeline", bm25, "--output", tmp_path / "without")

    others = read_run(tmp_path / "without" / "runs" / collection.name / "bm25.trec")
    assert not set(others.get("q0", {})) & set(found["q0"])
    assert others["q1"] == found["q1"]


def test_cutoffs_hold_for_one_dataset_and_for_the_others(command, refused, folder, bm25, tmp_path):
    output = tmp_path / "out"
    base = ["suite", folder, "--pipeline", bm25, "--output", output, "--quiet", "--cutoff", 2]

    assert command(*base, "--cutoff", "two=3").exit_code == 0

    found = {name: read_run(output / "runs" / name / "bm25.trec") for name in ("one", "two")}
    assert {name: max(map(len, run.values())) for name, run in found.items()} == {"one": 2, "two": 3}
    assert "cutoff = 3" in (output / "pipelines" / "two" / "bm25.toml").read_text()
    assert "holds runs with cutoffs: " in refused(*base)
    assert "no dataset of the suite is called 'tow'; did you mean 'two'?" in refused(*base, "--cutoff", "tow=3")
    assert "is given twice for two" in command(*base, "--cutoff", "two=3", "--cutoff", "two=4").stderr
    assert "--cutoff two=0: it is a whole number of at least 1" in command(*base, "--cutoff", "two=0").stderr


def test_a_split_is_evaluated_by_its_own_judgments(command, folder, bm25, tmp_path):
    (folder / "one" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")

    result = command("suite", folder, "--pipeline", bm25, "--split", "dev", "--output", tmp_path / "out", "--json")

    found = json.loads(result.stdout)
    assert (result.exit_code, found["datasets"]["one/dev"]["queries"]) == (3, 1)
    assert list(read_run(tmp_path / "out" / "runs" / "one-dev" / "bm25.trec")) == ["q1"]
    [reason] = found["unavailable"].values()
    assert "is called 'dev'" in reason


def test_a_dataset_that_cannot_be_had_is_named_with_the_reason(command, refused, folder, bm25, tmp_path):
    (folder / "two" / "queries.jsonl").unlink()

    result = command("suite", folder, "--pipeline", bm25, "--output", tmp_path / "out")

    assert result.exit_code == 3
    assert "left out: " in result.stderr
    for report in ("report.html", "report.md"):
        assert "queries" in (tmp_path / "out" / report).read_text().partition("Effectiveness")[0]
    shutil.rmtree(folder / "one")
    command_line = ["suite", folder, "--pipeline", bm25, "--output", tmp_path / "none", "--quiet"]
    assert "no dataset of " in refused(*command_line)


def test_what_does_not_fit_is_refused_before_work_begins(refused, command, folder, pipeline, bm25, tmp_path):
    output = tmp_path / "out"
    base = ["suite", folder, "--pipeline", bm25, "--output", output]

    assert "no suite, and no folder, is called 'bier'; did you mean 'beir'?" in refused("suite", "bier", *base[2:])
    assert "holds no dataset" in refused("suite", folder / "notes", *base[2:])
    assert "no measure is called 'nDGC'" in refused(*base, "--measures", "nDGC@10")
    assert "two pipelines are called 'bm25'" in refused(*base, "--pipeline", _copy(bm25, tmp_path / "sub"))
    (tmp_path / "none.toml").write_text('[[stage]]\nreranker = "tiny"\n')
    assert "rerank: " in refused(*base, "--pipeline", tmp_path / "none.toml")
    assert not output.exists()
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refused(*base[:-1], tmp_path / "file" / "below")
    assert "is not empty and holds no suite" in refused(*base[:-1], folder)
    assert command(*base, "--quiet").exit_code == 0
    bm25.write_text('[[stage]]\nretriever = "bm25"\ncutoff = 4\n')
    assert "holds runs of another pipeline called 'bm25'" in refused(*base)
    assert "holds the suite" in refused("suite", folder / "one", *base[2:])


def _copy(path, folder):
    folder.mkdir()
    return shutil.copy(path, folder / path.name)
