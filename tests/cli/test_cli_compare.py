"""`rerank compare`: what it says of made runs, by hand."""

from __future__ import annotations

import csv
import json

import pytest

QRELS = "q1 0 a 2\nq1 0 b 0\nq2 0 c 1\nq3 0 e 1\n"
BEFORE = "q1 Q0 b 1 9 x\nq1 Q0 a 2 8 x\nq2 Q0 c 1 9 x\nq3 Q0 f 1 9 x\nq3 Q0 e 2 8 x\n"
AFTER = "q1 Q0 a 1 9 x\nq1 Q0 b 2 8 x\nq2 Q0 d 1 9 x\nq2 Q0 c 2 8 x\nq3 Q0 f 1 9 x\nq3 Q0 e 2 8 x\n"


@pytest.fixture
def files(tmp_path):
    """Judgments of three queries, and two runs: q1 gets better, q2 worse, q3 stays."""
    for name, text in {"qrels.txt": QRELS, "a.trec": BEFORE, "b.trec": AFTER}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def asked(files):
    """What all calls begin with."""
    return ["compare", files / "a.trec", files / "b.trec", "--qrels", files / "qrels.txt"]


def test_differences_tests_and_movements_are_those_computed_by_hand(command, asked):
    found = json.loads(command(*asked, "--measures", "RR@10", "--json").stdout)

    cell = found["cells"]["b.trec"]["RR@10"]
    assert found["cells"]["a.trec"]["RR@10"]["comparison"] is None
    assert cell["mean"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    compared = cell["comparison"]
    assert (compared["wins"], compared["ties"], compared["losses"]) == (1, 1, 1)
    assert (compared["difference"], compared["p_randomisation"]) == (0.0, 1.0)
    [helped], [hurt] = found["changes"]["b.trec"]["helped"], found["changes"]["b.trec"]["hurt"]
    assert (helped["query_id"], helped["before"], helped["after"]) == ("q1", 0.5, 1.0)
    assert helped["moved"] == [
        {"doc_id": "a", "before": 2, "after": 1, "relevance": 2},
        {"doc_id": "b", "before": 1, "after": 2, "relevance": 0},
    ]
    assert hurt["query_id"] == "q2"
    assert {"doc_id": "d", "before": None, "after": 1, "relevance": None} in hurt["moved"]


def test_judged_stands_beside_every_cutoff(command, asked):
    found = json.loads(command(*asked, "--measures", "RR@10 nDCG@1 AP", "--json").stdout)

    assert list(found["cells"]["a.trec"]) == ["RR@10", "nDCG@1", "AP", "Judged@10", "Judged@1"]
    assert found["cells"]["b.trec"]["Judged@1"]["mean"] == pytest.approx(1 / 3)  # d and f are not judged


def test_identical_runs_give_p_of_1_and_an_interval_without_width(command, files):
    (files / "same.trec").write_text(BEFORE)

    found = json.loads(
        command("compare", files / "a.trec", files / "same.trec", "--qrels", files / "qrels.txt", "--json").stdout
    )

    compared = found["cells"]["same.trec"]["nDCG@10"]["comparison"]
    assert (compared["p_randomisation"], compared["p_t"]) == (1.0, 1.0)
    assert (compared["interval"]["low"], compared["interval"]["high"]) == (0.0, 0.0)
    assert found["changes"]["same.trec"] == {"helped": [], "hurt": []}


def test_tables_are_shown_and_written_as_latex_and_csv(command, asked, files):
    result = command(*asked, "--measures", "RR@10", "--latex", files / "t.tex", "--csv", files / "t.csv")

    assert result.exit_code == 0, result.output
    for expected in ("b.trec", "a (2): 2 → 1", "d (–): – → 1", "1/1/1", "most helped and most hurt"):
        assert expected in result.stdout
    latex = (files / "t.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    rows = list(csv.DictReader((files / "t.csv").read_text().splitlines()))
    assert [(row["system"], row["measure"]) for row in rows][:2] == [("a.trec", "RR@10"), ("a.trec", "Judged@10")]
    assert float(rows[2]["p_randomisation"]) == 1.0
    values = list(csv.DictReader((files / "t.queries.csv").read_text().splitlines()))
    assert [float(row["RR@10"]) for row in values] == [0.5, 1.0, 0.5, 1.0, 0.5, 0.5]


def test_queries_of_a_dataset_are_shown_with_their_texts(command, collection, run_file, tmp_path):
    command("retrieve", "--dataset", collection, "--retriever", "bm25", "--output", tmp_path / "bm25.trec")

    result = command("compare", run_file, tmp_path / "bm25.trec", "--dataset", collection)

    first = json.loads((collection / "queries.jsonl").read_text().splitlines()[0])["text"]
    assert first.split()[0] in result.stdout
    texts = {record["_id"]: record["text"] for record in map(json.loads, (collection / "corpus.jsonl").open())}
    shown = " ".join(result.stdout.split())
    moved = json.loads(command("compare", run_file, tmp_path / "bm25.trec", "--dataset", collection, "--json").stdout)[
        "changes"
    ]["bm25.trec"]["helped"][0]["moved"][0]
    assert f"“{texts[moved['doc_id']]}".replace(" ", "") in shown.replace(" ", "")


def test_what_cannot_be_compared_is_refused_in_one_line(refused, asked, files):
    base, qrels = asked[0], asked[3:]

    assert "give at least two runs" in refused(base, files / "a.trec", *qrels)
    assert "is given twice" in refused(base, files / "a.trec", files / "a.trec", *qrels)
    assert "give either --dataset or --qrels" in refused(*asked[:3])
    assert "cannot read" in refused(base, files / "a.trec", files / "none.trec", *qrels)
    assert "did you mean 'nDCG'" in refused(*asked, "--measures", "nDGC@10")
    assert "would be written and is read as well" in refused(*asked, "--csv", files / "a.trec")
    (files / "other.txt").write_text("z9 0 a 1\n")
    assert "shares no query with the qrels" in refused(*asked[:3], "--qrels", files / "other.txt")
    (files / "other.trec").write_text("q1 Q0 x1 1 9 x\nq2 Q0 x2 1 9 x\n")
    assert "other.trec ranks no judged document: for query 'q1' it has 'x1' …, the judgments have 'a' …" in refused(
        base, files / "a.trec", files / "other.trec", *qrels
    )
