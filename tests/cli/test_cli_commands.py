"""What the commands around the reranker do with a small collection."""

from __future__ import annotations

import json

import pytest

from rerank.io import read_run


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No index of a test lands in the user's cache."""
    monkeypatch.setenv("RERANK_CACHE", str(tmp_path / "cache"))


def test_an_index_of_ones_own_and_one_in_the_cache_retrieve_the_same(command, collection, tmp_path):
    base = ["retrieve", "--dataset", collection, "--retriever", "bm25", "--cutoff", 5]

    built = command("index", "--dataset", collection, "--retriever", "bm25", "--output", tmp_path / "index", "--json")
    own = command(*base, "--index", tmp_path / "index", "--output", tmp_path / "own.trec", "--json")
    cached = command(*base, "--output", tmp_path / "cached.trec")

    assert json.loads(built.stdout)["documents"] == 40
    assert json.loads(own.stdout)["queries"] == 6
    assert cached.stderr.startswith(f"wrote {tmp_path / 'cached.trec'}: 6 queries, ")
    assert (tmp_path / "own.trec").read_bytes() == (tmp_path / "cached.trec").read_bytes()
    assert all(len(scored) <= 5 for scored in read_run(tmp_path / "own.trec").values())


def test_options_of_bm25_change_its_scores_and_belong_to_the_index(command, refused, collection, tmp_path):
    base = ["retrieve", "--dataset", collection, "--retriever", "bm25", "--output", tmp_path / "run.trec"]

    command(*base)
    usual = read_run(tmp_path / "run.trec")
    command(*base, "--k1", 2, "--option", "b=1.0", "--option", "method=robertson")

    assert read_run(tmp_path / "run.trec") != usual
    assert "k1 cannot change the index at" in refused(*base, "--index", tmp_path, "--k1", 2)
    command("index", "--dataset", collection, "--retriever", "bm25", "--output", tmp_path / "own")
    command(*base, "--index", tmp_path / "own", "--option", "query_side=true")
    assert read_run(tmp_path / "run.trec") != usual
    assert "query_side is 3; it must be of type bool" in refused(*base, "--option", "query_side=3")
    assert "no option is called 'kk1'; did you mean 'k1'?" in refused(*base, "--option", "kk1=2")
    assert "'k1' is not written KEY=VALUE" in refused(*base, "--option", "k1")
    assert "k1 is -1.0" in refused(*base, "--k1", -1)
    assert "index is 3; it must be of type str or Path" in refused(*base, "--option", "index=3")


def test_an_index_is_not_written_over_something(refused, collection):
    base = ["index", "--dataset", collection, "--retriever"]

    assert f"{collection} exists already" in refused(*base, "bm25", "--output", collection)
    assert "needs no index" in refused(*base, "saved", "--output", collection / "index")
    wrong = refused(*base, "bm25", "--output", collection / "index", "--option", "stemmer=3")
    assert wrong == "rerank: retriever 'bm25': stemmer is 3; it must be of type str"


def test_a_saved_run_is_a_retriever_too(command, collection, run_file, tmp_path):
    result = command(
        "retrieve", "--dataset", collection, "--retriever", "saved", "--option", f"path={run_file}",
        "--cutoff", 3, "--output", tmp_path / "top.trec",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    before, top = read_run(run_file), read_run(tmp_path / "top.trec")
    assert {query_id: list(scored) for query_id, scored in top.items()} == {q: list(s)[:3] for q, s in before.items()}


def test_runs_are_fused(command, refused, run_file, tmp_path):
    other = tmp_path / "other.trec"
    other.write_text("q0 Q0 d39 1 9.0 x\nq0 Q0 d38 2 8.0 x\nq0 Q0 d37 3 1.0 x\n")  # the last gets 0
    base = ["fuse", "--run", run_file, "--run", other, "--output", tmp_path / "fused.trec"]

    command(*base, "--method", "weighted", "--weights", "0,1", "--cutoff", 2)

    assert list(read_run(tmp_path / "fused.trec")["q0"]) == ["d39", "d38"]
    assert "no fusion method is called 'rff'; did you mean 'rrf'?" in refused(*base, "--method", "rff")
    assert "--weights '1;2' are no numbers" in refused(*base, "--weights", "1;2")
    assert "there are 2 runs but 1 weights" in refused(*base, "--weights", "1")


@pytest.fixture
def two_runs(command, collection, run_file, tmp_path):
    """The run in no order, and BM25's."""
    bm25 = tmp_path / "bm25.trec"
    command("retrieve", "--dataset", collection, "--retriever", "bm25", "--output", bm25)
    return run_file, bm25


def test_evaluation_shows_intervals_and_tests_and_writes_them(command, collection, two_runs, tmp_path):
    first, second = two_runs
    report, picture = tmp_path / "report.md", tmp_path / "chart.png"

    result = command(
        "evaluate", "--dataset", collection, "--run", first, "--run", second, "--measures", "nDCG@10 RR(rel=2)@10",
        "--measures", "Judged@10", "--output", report, "--chart", picture, "--per-query",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    for expected in ("nDCG@10 of query", "RR(rel=2)@10", "95 % interval", "p of the t-test", "Judged@10", "(baseline)"):
        assert expected in result.stdout
    assert report.read_text().startswith("| system | nDCG@10 | RR(rel=2)@10 |")
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def quickstart(tmp_path):
    """The collection that docs/quickstart.md shows: one document, one query, one judgment."""
    folder = tmp_path / "mine"
    (folder / "qrels").mkdir(parents=True)
    document = {"_id": "d1", "title": "Cats", "text": "A cat sleeps for most of the day."}
    (folder / "corpus.jsonl").write_text(json.dumps(document) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "how long do cats sleep?"}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    return folder


def test_the_collection_of_the_quickstart_is_reranked_and_evaluated(command, quickstart, model, tmp_path):
    result = command(
        "run", "--dataset", quickstart, "--retriever", "bm25", "--retrieve-cutoff", 100, "--model", model,
        "--output", tmp_path / "reranked.trec", "--evaluate",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "One query: no test." in result.stdout


def test_two_runs_of_one_judged_query_are_shown_without_a_test(command, collection, two_runs, tmp_path):
    (tmp_path / "one.tsv").write_text("q0\td1\t1\n")
    base = ["evaluate", "--qrels", tmp_path / "one.tsv", *(part for run in two_runs for part in ("--run", run))]

    shown = command(*base, "--output", tmp_path / "one.md", "--chart", tmp_path / "one.png")
    cells = json.loads(command(*base, "--json").stdout)["cells"]

    assert shown.exit_code == 0, shown.output
    assert "1 query" in shown.stdout
    assert "One query: no test." in (tmp_path / "one.md").read_text()
    assert [cell["nDCG@10"]["comparison"] for cell in cells.values()] == [None, None]


def test_evaluation_for_machines_is_one_object(command, collection, two_runs):
    first, second = two_runs
    base = ["evaluate", "--qrels", collection / "qrels" / "test.tsv", "--run", second, "--json", "--per-query"]

    alone = json.loads(command(*base).stdout)
    against = json.loads(command(*base, "--baseline", first, "--seed", 3).stdout)

    assert list(alone["cells"]) == ["bm25.trec"]
    assert alone["baseline"] is None
    assert (against["baseline"], against["seed"]) == ("first.trec", 3)
    assert 0 < against["cells"]["bm25.trec"]["nDCG@10"]["comparison"]["p_randomisation"] <= 1
    assert set(against["per_query"]["first.trec"]["nDCG@10"]) == {f"q{number}" for number in range(6)}


def test_runs_of_one_name_are_called_by_their_paths(command, collection, run_file, tmp_path):
    same = tmp_path / run_file.name
    same.write_bytes(run_file.read_bytes())

    found = command("evaluate", "--dataset", collection, "--run", run_file, "--run", same, "--json")

    assert list(json.loads(found.stdout)["cells"]) == [str(run_file), str(same)]


def test_evaluation_refuses_what_cannot_be_measured(refused, collection, run_file):
    base = ["evaluate", "--dataset", collection, "--run", run_file]

    assert "no measure is called 'nDGC'; did you mean 'nDCG'?" in refused(*base, "--measures", "nDGC@10")
    assert f"the run {run_file} is given twice" in refused(*base, "--run", run_file)
    assert "there is no folder" in refused(*base, "--output", "none/report.md")


def test_a_pipeline_from_a_file_and_from_flags_give_the_same_run(command, collection, model, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text(f"[[stage]]\nretriever = 'bm25'\ncutoff = 8\n\n[[stage]]\nreranker = '{model}'\ncutoff = 5\n")
    base = ["run", "--dataset", collection, "--evaluate", "--output"]

    flags = ["--retriever", "bm25", "--retrieve-cutoff", 8, "--model", model, "--keep", 5]
    by_flags = command(*base, tmp_path / "flags.trec", *flags)
    by_file = json.loads(command(*base, tmp_path / "file.trec", file, "--json").stdout)

    assert by_flags.exit_code == 0, by_flags.output
    assert f"bm25 % 8 >> {model.name}" in by_flags.stdout
    assert "questions (pairs)" in by_flags.stderr
    assert [len(scored) for scored in read_run(tmp_path / "flags.trec").values()] == [5] * 6
    assert (tmp_path / "flags.trec").read_bytes() == (tmp_path / "file.trec").read_bytes()
    assert [stage["stage"] for stage in by_file["stages"]] == [model.name]
    assert list(by_file["evaluation"]["cells"]) == ["bm25 % 8", f"bm25 % 8 >> {model.name} % 5"]


def test_every_reranker_of_a_pipeline_keeps_a_journal(command, collection, model, tmp_path):
    stage = f"[[stage]]\nreranker = '{model}'\n"
    (tmp_path / "my.toml").write_text(f"[[stage]]\nretriever = 'bm25'\ncutoff = 8\n{stage}cutoff = 4\n{stage}")
    arguments = ["run", tmp_path / "my.toml", "--dataset", collection, "--output", tmp_path / "out.trec", "--json"]

    command(*arguments)
    again = json.loads(command(*arguments).stdout)

    assert {path.name for path in tmp_path.glob("*.journal")} == {"out.trec.2.journal", "out.trec.3.journal"}
    assert all(stage["ledger"].get("calls", 0) == 0 for stage in again["stages"])


def test_datasets_are_listed_and_shown(command, collection):
    listed = json.loads(command("datasets", "--json").stdout)["datasets"]
    small = json.loads(command("datasets", collection, "--json").stdout)
    shown = command("datasets", "noveleval").stdout

    assert {"name": "noveleval", "documents": 420, "queries": 21, "judgments": 420}.items() <= next(
        one for one in listed if one["name"] == "noveleval"
    ).items()
    assert (small["documents"], small["queries"], small["judgments"]) == (40, 6, 240)
    assert "Spider-Men" in shown


def test_models_are_listed_and_found(command, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    listed = json.loads(command("models", "list", "--json").stdout)["models"]
    here = command("models", "where", model)
    fetched = json.loads(command("models", "fetch", model, "--json").stdout)
    away = command("models", "where", "bge-reranker-large")

    assert "cross-encoder/ms-marco-MiniLM-L12-v2" in [one["hub"] for one in listed]
    assert here.stdout == f"{model}\n"
    assert fetched["kind"] == "cross-encoder"
    assert away.exit_code == 1
    assert away.stderr.startswith("bge-reranker-large is not on this machine; 'rerank models fetch")


def test_everything_with_a_name_is_listed(command):
    found = json.loads(command("list", "--json").stdout)["names"]

    assert "pointwise" in found["algorithms"]
    assert {"bm25", "saved"} <= set(found["retrievers"])
    assert "nDCG" in found["measures"]
    assert "rrf" in found["fusion"]
    if not found["kernels"]:
        assert command("list", "kernels").stdout == "kernels: there are none yet\n"


def test_the_doctor_says_what_is_there_and_what_is_in_the_way(command, model, tmp_path, monkeypatch):
    rival = tmp_path / "rival" / "training"
    rival.mkdir(parents=True)
    (rival / "__init__.py").touch()
    monkeypatch.syspath_prepend(rival.parent)
    monkeypatch.setattr("rerank.registry.clash", lambda package: rival if package == "training" else None)

    found = json.loads(command("doctor", "--model", model, "--json").stdout)

    assert found["versions"]["torch"] != "not installed"
    assert "threads of torch" in found["devices"]["cpu"]
    assert found["caches"]["ours (RERANK_CACHE)"] == f"{tmp_path / 'cache'} (not there yet)"
    assert found["packages"]["training"] == f"{rival}: this is another project's; remove or rename it"
    assert list(found["hub"].values()) == ["not asked (HF_HUB_OFFLINE is set)"]
    assert found["model"]["kind"] == "cross-encoder"
    assert found["model"]["max tokens"] == "64"
    assert "report" in found["extras"]


def test_weights_of_a_fusion_are_tuned_on_other_queries(command, refused, collection, run_file, tmp_path):
    command("retrieve", "--dataset", collection, "--retriever", "bm25", "--output", tmp_path / "bm25.trec")
    (tmp_path / "qrels").write_text("q0 0 d1 1\nq1 0 d2 1\n")
    runs = ["--run", run_file, "--run", tmp_path / "bm25.trec", "--method", "weighted"]
    dev = ["--dev-run", run_file, "--dev-run", tmp_path / "bm25.trec"]
    output = ["--output", tmp_path / "fused.trec"]

    tuned = json.loads(command("fuse", *runs, *dev, "--dev-qrels", tmp_path / "qrels", *output, "--json").stdout)[
        "tuned"
    ]
    by_hand = command("fuse", *runs, "--weights", ",".join(map(str, tuned["weights"])), "--output", tmp_path / "b.trec")

    assert tuned["tried"] == 11
    assert tuned["value"] >= tuned["equal"]
    assert by_hand.exit_code == 0
    assert (tmp_path / "b.trec").read_bytes() == (tmp_path / "fused.trec").read_bytes()
    assert "weights are tuned on a --dev-run for each --run, with --dev-qrels" in refused("fuse", *runs, *dev, *output)
