"""Hosted models by name: methods, options, the command line, pipeline files, `rerank doctor`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from judge_models import DOCUMENTS, QUERY, tiny_lm
from model_server import ModelServer, served

from rerank import Pipeline, Reranker
from rerank.cli.main import main
from rerank.errors import InputError
from rerank.rerankers.recipe import recipe_of
from rerank.types import Ranking


@pytest.fixture(scope="module")
def serving(smollm, tmp_path_factory):
    model = ModelServer(tiny_lm(tmp_path_factory.mktemp("tiny"), smollm))
    with served(model) as address:
        yield model, address


@pytest.fixture
def name(serving):
    return f"{serving[1]}#tiny"


@pytest.fixture
def requests_file(tmp_path):
    path = tmp_path / "requests.jsonl"
    documents = [{"doc_id": document.doc_id, "text": document.text} for document in DOCUMENTS]
    query = {"query_id": "q", "text": QUERY.text}
    path.write_text(json.dumps({"query": query, "candidates": documents}) + "\n")
    return path


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)


@pytest.mark.parametrize(
    ("method", "mode", "prompt"),
    [
        ("rankgpt", "generation", "rankgpt"),
        ("first", "likelihood", "first"),
        ("prp-heapsort", "likelihood", "prp"),
        ("prp-heapsort-generation", "generation", "prp"),
        ("setwise-heapsort", "likelihood", "setwise"),
        ("setwise-heapsort-generation", "generation", "setwise"),
        ("yes-no", "likelihood", "yes-no"),
        ("rankinggpt", "likelihood", "rankinggpt"),
    ],
)
def test_methods_ask_hosted_models_as_they_ask_others(name, method, mode, prompt):
    with Reranker(method, model=name) as reranker:
        judge = reranker.judge

    assert (judge.model, judge.way.mode, judge.prompt.name) == ("tiny", mode, prompt)
    assert reranker.recipe.hosted


def test_options_reach_the_judge_and_the_algorithm(serving, name):
    options = {"children": 1, "new_tokens": 3, "concurrent": 2, "extra": {"top_p": 1.0}, "leave_out": ["seed"]}

    with Reranker("setwise-heapsort-generation", model=name, options=options, head=1) as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS)

    sent = serving[0].asked[-1]
    assert len(ranking) == 3
    assert (sent["max_tokens"], sent["top_p"], reranker.judge.concurrent) == (3, 1.0, 2)
    assert "seed" not in sent
    assert sent["messages"][-1]["content"].count("Passage") == 2  # a child and its parent


def test_a_prompt_alone_is_asked_as_usual_and_an_address_may_be_an_option(serving, name):
    with Reranker(name, prompt="yes-no") as by_name:
        assert by_name.judge.way.mode == "likelihood"
    options = {"base_url": serving[1]}
    with Reranker("tiny", prompt="yes-no", options=options) as by_option:
        assert by_option.judge.key == by_name.judge.key


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("icr", {}, "judge 'attention' reads what no server tells"),
        ("monot5", {}, "asks checkpoints of kind encoder-decoder, and a hosted model is a causal one"),
        ("rankgpt", {"device": "cpu"}, "judge 'hosted' takes no device"),
        ("rankgpt", {"options": {"new_token": 3}}, "take no option 'new_token'; did you mean 'new_tokens'"),
        (None, {}, "judge 'hosted' needs a prompt"),
        (None, {"prompt": "prp"}, "pointwise asks Grade, and Hosted answers only Compare"),
    ],
)
def test_what_does_not_fit_a_hosted_model_is_refused_before_it_is_asked(method, options, said):
    address = "http://127.0.0.1:1/v1#tiny"

    with pytest.raises(InputError, match=said):
        recipe_of(method or address, options | ({"model": address} if method else {}), fetch=False)


def test_the_command_line_asks_a_hosted_model_and_its_journal_pays_once(serving, name, requests_file, tmp_path):
    output = tmp_path / "reranked.jsonl"
    command = ["rerank", "--requests", requests_file, "--output", output, "--model", name, "--method", "rankgpt"]
    command += ["--set", "new_tokens=4", "--set", "input_price=1.5", "--json"]

    first = call(*command)
    assert first.exit_code == 0, first.output
    asked = len(serving[0].asked)
    output.unlink()
    again = call(*command)

    assert again.exit_code == 0, again.output
    ledger = json.loads(first.stdout)["ledger"]
    assert ledger["price"] == pytest.approx(ledger["tokens_real"] * 1.5 / 1e6)
    assert len(serving[0].asked) == asked
    assert json.loads(again.stdout)["ledger"]["journal_hits"] == 1
    assert len(json.loads(output.read_text())["candidates"]) == 3


def test_a_pipeline_file_asks_a_hosted_model(name, tmp_path):
    file = tmp_path / "pipeline.toml"
    file.write_text(
        f'[[stage]]\nreranker = "setwise-heapsort"\nmodel = "{name}"\noptions = {{logprobs = 5, temperature = 0}}\n'
    )

    pipeline = Pipeline.load(file)

    [ranking] = pipeline.rerank([Ranking.unscored(QUERY, DOCUMENTS)])
    assert sorted(document.doc_id for document in ranking.documents) == ["a", "b", "c"]


def test_the_doctor_sees_whether_the_server_answers(name):
    found = json.loads(call("doctor", "--model", name, "--json").stdout)["model"]

    assert found["log-probabilities"] == "told"
    assert found["models"] == "tiny"

    away = call("doctor", "--model", "http://127.0.0.1:1/v1#tiny")
    assert away.exit_code == 2
    assert "the connection to http://127.0.0.1:1/v1 failed" in away.stderr
