"""--method and --set, from the command line and in a pipeline's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerank.io import read_run

JUDGE = Path(__file__).parents[1] / "rerank"


@pytest.fixture(scope="module")
def lm(smollm, tmp_path_factory):
    """A tiny causal model with a real tokenizer."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("judge_models", JUDGE / "judge_models.py")
    assert spec is not None
    assert spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    return models.tiny_lm(tmp_path_factory.mktemp("lm"), smollm)


@pytest.fixture
def asked(command, collection, run_file, lm, tmp_path):
    """`rerank rerank` of the first three of each query by a method; its JSON."""

    def call(*more: object):
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.trec"
        base = ["--dataset", collection, "--run", run_file, "--cutoff", 3, "--no-journal", "--json"]
        result = command("rerank", *base, "--model", lm, "--output", output, *more)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout), output

    return call


def test_a_method_and_its_options(asked, lm):
    answer, output = asked("--method", "setwise", "--set", "children=1", "--set", "mode=generation", "--head", 2)

    assert answer["method"] == "setwise-heapsort"
    assert answer["options"] == {"children": 1, "mode": "generation", "head": 2}
    noted = "setwise-heapsort(children=1,head=2,seed=0,shuffle=False,votes=1)"
    assert answer["ledger"]["notes"]["algorithm"] == noted
    assert output.read_text().split()[5] == f"setwise-heapsort({lm.name},children=1,head=2,mode=generation)"
    assert len(read_run(output)) == 6


def test_an_option_changes_what_is_asked(asked):
    one, _ = asked("--method", "prp-heapsort", "--head", 1)
    all_of_them, _ = asked("--method", "prp-heapsort", "--head", 3)

    assert one["ledger"]["questions"] < all_of_them["ledger"]["questions"]


def test_a_method_in_a_pipeline_is_what_the_flags_say(command, collection, run_file, lm, tmp_path):
    (tmp_path / "mine.toml").write_text(
        f'[[stage]]\nretriever = "saved"\npath = "{run_file}"\ncutoff = 3\n'
        f'[[stage]]\nreranker = "setwise"\nmodel = "{lm}"\nhead = 2\noptions = {{ children = 1 }}\n'
    )
    base = ["run", "--dataset", collection, "--no-journal", "--json"]

    result = command(*base, tmp_path / "mine.toml", "--output", tmp_path / "file.trec")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pipeline"] == f"first.trec % 3 >> setwise-heapsort({lm.name},children=1,head=2)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "prp-heapsrt"], "no method is called 'prp-heapsrt'; did you mean 'prp-heapsort'?"),
        (["--method", "rankgpt"], "method 'rankgpt' asks checkpoints of kind causal"),
        (["--set", "head"], "'head' is no NAME=VALUE, such as children=3"),
        (["--set", "a=1", "--set", "a=2"], "a is given twice"),
        (["--method", "monobert", "--set", "head=3"], "pointwise and its judge take no option 'head'"),
        (["--set", "max_tokens=3"], "max_tokens is no option but an argument of its own"),
        (["--head", "0"], "0 is no whole number of at least 1"),
    ],
)
def test_what_does_not_fit_is_one_line(refused, collection, run_file, model, tmp_path, arguments, said):
    base = ["rerank", "--dataset", collection, "--run", run_file, "--model", model, "--output", tmp_path / "o.trec"]

    assert said in refused(*base, *arguments)
    assert not (tmp_path / "o.trec").exists()


def test_methods_are_listed_and_known_to_calibration(command, collection, run_file, model, tmp_path):
    assert "pairwise ranking prompting" in command("list", "methods").stdout
    run = ["--dataset", collection, "--run", run_file, "--output", tmp_path / "c.json", "--json"]

    by_method = command("calibrate", *run, "--model", model, "--reranker", "monobert")

    assert by_method.exit_code == 0, by_method.output
    assert json.loads(by_method.stdout)["scores_of"].endswith(" pointwise")
