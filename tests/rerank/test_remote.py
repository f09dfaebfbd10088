"""Rerankers behind servers: every dialect, what goes wrong, and the same names everywhere."""

from __future__ import annotations

import json
import math
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("fastapi", reason="the servers of these tests need the 'serve' extra")

from fastapi.responses import JSONResponse
from live_server import live
from rerank_server import RerankServer, running, scores
from small_folders import bert

from rerank import Pipeline, RemoteReranker, Reranker
from rerank.cli.main import main
from rerank.engine.scheduling.retries import Retry
from rerank.errors import InputError, JudgeError, UnknownName
from rerank.judges.hosting.dialects import is_remote, place
from rerank.types import Document, Query, Ranking

QUERY = "how many people live in berlin"
TEXTS = [
    "a fruit",
    "berlin has museums",
    "many people live in berlin and how",
    "people live in paris",
    "",
]
KEY = "sk-not-to-be-seen"
ORDER = ["2", "3", "1", "0", "4"]


@pytest.fixture
def serving():
    """(dialects) -> a server and its address; they end with the test."""
    with ExitStack() as stack:

        def made(*dialects, **options):
            server = RerankServer(*dialects, **options)
            return server, stack.enter_context(running(server.app))

        yield made


@pytest.fixture
def remote():
    """`RemoteReranker`, without long waits, closed at the end."""
    with ExitStack() as stack:

        def made(*arguments, **options):
            reranker = stack.enter_context(RemoteReranker(*arguments, **options))
            reranker.judge.retry = Retry(tries=reranker.judge.retry.tries, first=0.01, longest=0.02)
            return reranker

        yield made


def ids(ranking):
    return [candidate.document.doc_id for candidate in ranking]


@pytest.mark.parametrize(
    ("dialect", "path", "scale"), [("cohere", "/v2/rerank", 0.1), ("jina", "/v1/rerank", 0.1), ("tei", "/rerank", 0.1)]
)
def test_every_dialect_gives_the_servers_order_and_its_scores(serving, remote, dialect, path, scale):
    server, address = serving(dialect)

    reranker = remote(address + path, model="m" if dialect != "tei" else "")
    ranking = reranker.rank(QUERY, TEXTS)

    assert ids(ranking) == ORDER
    assert [candidate.score for candidate in ranking] == pytest.approx(
        sorted((scale * score for score in scores(QUERY, TEXTS)), reverse=True)
    )
    assert reranker.ledger.notes["scores"] == "the server's own, on its scale"
    assert server.asked[0][0] == path
    assert "top_n" not in server.asked[0][1]  # all documents come back, scored


@pytest.mark.parametrize("dialect", ["tei", "jina"])
def test_what_serves_at_an_address_alone_says_how_it_is_asked(serving, remote, dialect):
    server, address = serving(dialect)

    reranker = remote(address, model="m" if dialect == "jina" else "")
    key = reranker.judge.key

    assert ids(reranker.rank(QUERY, TEXTS)) == ORDER
    assert server.asked[0][0] == {"tei": "/rerank", "jina": "/v1/rerank"}[dialect]
    assert reranker.judge.key == key  # an answer in a journal is found again


def test_a_dialect_may_be_said_and_a_wrong_one_is_told_in_the_servers_words(serving, remote):
    _, address = serving("cohere")

    assert ids(remote(address, dialect="cohere", model="m").rank(QUERY, TEXTS)) == ORDER
    with pytest.raises(JudgeError, match=r"HTTP 422 .* Extra inputs are not permitted .*return_documents"):
        remote(f"{address}/v2/rerank", dialect="jina", model="m").rank(QUERY, TEXTS)


def test_titles_are_read_and_ids_come_back(serving, remote):
    server, address = serving("cohere")
    documents = [Document("x", "a fruit", title="Apples"), Document("y", "how many people", title="Berlin")]

    ranking = remote(f"{address}/v2/rerank", model="m").rank(Query("q7", QUERY), documents, top=1)

    assert (ranking.query.query_id, ids(ranking)) == ("q7", ["y"])
    assert server.asked[0][1]["documents"] == ["Apples a fruit", "Berlin how many people"]


def test_a_long_list_goes_out_in_as_many_requests_as_the_server_wants(serving, remote):
    server, address = serving("tei")
    texts = [f"{'berlin ' * (number % 3)}{number}" for number in range(70)]

    whole = remote(address, batch=1000)
    cut = remote(address)

    assert len(cut.rank(QUERY, texts)) == 70
    assert sorted(len(body["texts"]) for _, body, _ in server.asked) == [6, 32, 32]
    with pytest.raises(JudgeError, match="maximum allowed batch size 32"):
        whole.rank(QUERY, texts)


def test_a_document_too_long_for_tei_is_cut_there_unless_told_otherwise(serving, remote):
    _, address = serving("tei")
    texts = ["berlin", "people " * 500]

    assert ids(remote(address).rank(QUERY, texts)) == ["1", "0"]
    with pytest.raises(JudgeError, match="less than 512 tokens"):
        remote(address, extra={"truncate": False}).rank(QUERY, texts)


def test_further_fields_are_sent_and_others_left_out(serving, remote):
    server, address = serving("tei", "jina")

    raw = remote(address, extra={"raw_scores": True}).rank(QUERY, TEXTS)
    remote(f"{address}/v1/rerank", model="m", leave_out=["return_documents"]).rank(QUERY, TEXTS)

    assert raw[0].score == pytest.approx(max(scores(QUERY, TEXTS)))
    assert "return_documents" not in server.asked[-1][1]


def test_an_instruction_is_sent_where_a_field_is_named_and_refused_where_not(serving, remote):
    server, address = serving("jina")
    query = Query("q", "berlin", instruction="fruit")

    told = remote(f"{address}/v1/rerank", model="m", instruction_field="instruction")

    assert ids(told.rank(query, TEXTS))[:3] == ["2", "1", "0"]
    assert server.asked[0][1]["instruction"] == "fruit"
    with pytest.raises(InputError, match="query 'q' carries an instruction"):
        remote(f"{address}/v1/rerank", model="m").rank(query, TEXTS)
    assert len(server.asked) == 1


def test_what_it_cost_is_in_the_ledger(serving, remote):
    _, address = serving("cohere", "jina")

    by_search = remote(f"{address}/v2/rerank", model="m", search_price=0.002, batch=2)
    by_search.rank(QUERY, TEXTS)
    by_token = remote(f"{address}/v1/rerank", model="m", input_price=2.0)
    by_token.rank(QUERY, TEXTS)

    assert by_search.ledger.total["searches"] == 3
    assert by_search.ledger.total["price"] == pytest.approx(0.006)
    assert by_token.ledger.total["tokens_real"] == 12
    assert by_token.ledger.total["price"] == pytest.approx(24e-6)


def test_a_busy_server_is_asked_again_when_it_says_so(serving, remote):
    server, address = serving("jina")
    server.faults += [
        JSONResponse({"message": "slow down"}, 429, {"Retry-After": "0.2"}),
        JSONResponse({"message": "loading"}, 503),
    ]

    reranker = remote(f"{address}/v1/rerank", model="m")

    assert ids(reranker.rank(QUERY, TEXTS)) == ORDER
    assert reranker.ledger.total["retries"] == 2


def test_a_key_is_sent_and_seen_nowhere(serving, remote, monkeypatch, tmp_path):
    server, address = serving("jina")
    monkeypatch.setenv("KEY_OF_THE_TEST", KEY)
    journal = tmp_path / "journal.jsonl"

    reranker = remote(f"{address}/v1/rerank", model="m", api_key_env="KEY_OF_THE_TEST", journal=journal)
    reranker.rank(QUERY, TEXTS)
    server.faults += [JSONResponse({"message": f"wrong key {KEY}"}, 401)]
    with pytest.raises(JudgeError, match="HTTP 401") as failed:
        reranker.rank("another", TEXTS)

    assert server.asked[0][2]["authorization"] == f"Bearer {KEY}"
    shown = f"{failed.value}{reranker}{reranker.judge}{reranker.ledger.as_dict()}{journal.read_text()}"
    assert KEY not in shown


def test_a_provider_wants_its_key(monkeypatch):
    monkeypatch.delenv("CO_API_KEY", raising=False)

    with pytest.raises(InputError, match="set the environment variable CO_API_KEY"):
        Reranker("cohere:rerank-v3.5")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"results": [{"index": 0, "relevance_score": 1}]}, "scored 1 of 5 documents"),
        ({"results": [{"index": 0, "relevance_score": 1}] * 5}, "scored 1 of 5 documents"),
        ({"results": [{"index": index, "relevance_score": "nan"} for index in range(5)]}, "a score is 'nan'"),
        ({"results": [{"index": index} for index in range(5)]}, "cannot be read: KeyError"),
        ({"result": []}, "cannot be read: KeyError"),
        ({"results": None}, "cannot be read: TypeError"),
        ("fine", "cannot be read: KeyError"),
        ([{"index": True, "score": 1.0}] * 5, "an index is True"),
    ],
)
def test_an_answer_that_is_none_is_said_and_never_repaired(serving, remote, answer, said):
    server, address = serving("jina")
    server.faults += [JSONResponse(answer)]

    with pytest.raises(JudgeError, match=said):
        remote(f"{address}/v1/rerank", model="m").rank(QUERY, TEXTS)


def test_answers_in_other_shapes_are_understood(serving, remote):
    """sglang answers with a bare list, Voyage with `data`, LocalAI in the order sent."""
    server, address = serving("jina")
    values = [0.0, 0.3, 0.9, 0.5, -1.0]
    listed = [{"index": index, "score": value, "document": "…"} for index, value in enumerate(values)]
    named = {"data": [{"index": index, "relevance_score": value} for index, value in enumerate(values)]}
    server.faults += [JSONResponse(listed), JSONResponse(named)]
    reranker = remote(f"{address}/v1/rerank", model="m")

    assert ids(reranker.rank(QUERY, TEXTS)) == ORDER
    assert ids(reranker.rank("asked anew", TEXTS)) == ORDER


def test_a_server_that_is_not_there_is_one_line(remote):
    with pytest.raises(JudgeError, match=r"the connection to http://127.0.0.1:1 failed: .*asked 2 times"):
        remote("http://127.0.0.1:1/v1/rerank", tries=2).rank(QUERY, TEXTS)


def test_warnings_of_the_server_are_noted(serving, remote):
    server, address = serving("jina")
    results = [{"index": index, "relevance_score": 1 - index / 5} for index in range(5)]
    server.faults += [JSONResponse({"results": results, "meta": {"warnings": ["rank only"]}})]
    reranker = remote(f"{address}/v1/rerank", model="m")

    reranker.rank(QUERY, TEXTS)

    assert reranker.ledger.notes["the server warns"] == "rank only"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("http://h:1/v1/rerank#m", ("http://h:1", "/v1/rerank", "jina", "m")),
        ("http://h/v2/rerank", ("http://h", "/v2/rerank", "cohere", "")),
        ("https://h/jina/v1/rerank/", ("https://h/jina", "/v1/rerank", "jina", "")),
        ("http://h:1/rerank", ("http://h:1", "/rerank", "", "")),
        ("http://h:1", ("http://h:1", "", "", "")),
        ("voyage:rerank-2.5", ("https://api.voyageai.com", "/v1/rerank", "voyage", "rerank-2.5")),
    ],
)
def test_names_say_where_and_how(name, found):
    seen = place(name)

    assert (seen.address, seen.path, seen.dialect, seen.model) == found


def test_models_that_write_are_no_rerank_servers():
    assert not any(map(is_remote, ["http://h/v1#m", "openai:gpt-4o-mini", "cross-encoder/x", "cohere", None]))
    with pytest.raises(UnknownName, match="no provider of rerankers is called 'coher'; did you mean 'cohere'"):
        place("coher:m")
    with pytest.raises(UnknownName, match="did you mean 'cohere'"):
        place("http://h/v2/rerank", "coheer")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cpu"}, "judge 'remote' takes no device"),
        ({"algorithm": "heapsort"}, "heapsort asks Compare, and Remote answers only Grade, GradeSet"),
        ({"options": {"batch": 3}}, "take no option 'batch'"),
        ({"model": "http://127.0.0.1:1/rerank#m", "options": {"dialect": "tei"}}, "serves one model; leave out 'm'"),
        ({"options": {"timeout": 0}}, "timeout=0"),
        ({"options": {"search_price": -1.0}}, "a price is 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(options, said):
    with pytest.raises(InputError, match=said):
        Reranker(**{"model": "http://127.0.0.1:1/v1/rerank"} | options)


def test_a_method_is_of_no_use_to_a_server():
    with pytest.raises(InputError, match="method 'rankgpt' says how a model is asked"):
        Reranker("rankgpt", model="http://127.0.0.1:1/v1/rerank")


def test_the_command_line_a_pipeline_file_and_a_journal(serving, tmp_path):
    server, address = serving("jina")
    requests = tmp_path / "requests.jsonl"
    candidates = [{"doc_id": str(index), "text": text} for index, text in enumerate(TEXTS)]
    requests.write_text(json.dumps({"query": {"query_id": "q", "text": QUERY}, "candidates": candidates}) + "\n")
    output = tmp_path / "reranked.jsonl"
    command = ["rerank", "--requests", requests, "--output", output, "--model", f"{address}/v1/rerank#m", "--json"]

    first = call(*command)
    output.unlink()
    again = call(*command)

    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert [one["doc_id"] for one in json.loads(output.read_text())["candidates"]] == ORDER
    assert len(server.asked) == 1
    assert json.loads(again.stdout)["ledger"]["journal_hits"] == 1

    file = tmp_path / "pipeline.toml"
    file.write_text(f'[[stage]]\nreranker = "{address}/v1/rerank#m"\noptions = {{group = 3, timeout = 9}}\n')
    documents = [Document(str(index), text) for index, text in enumerate(TEXTS)]
    [ranking] = Pipeline.load(file).rerank([Ranking.unscored(Query("q", QUERY), documents)])

    assert ids(ranking) == ORDER
    assert sorted(len(body["documents"]) for _, body, _ in server.asked[1:]) == [2, 3]  # both are on their way at once


def test_the_doctor_sees_whether_it_answers(serving):
    _, address = serving("jina")

    found = json.loads(call("doctor", "--model", f"{address}/v1/rerank#m", "--json").stdout)["model"]
    away = call("doctor", "--model", "http://127.0.0.1:1/v1/rerank")

    assert (found["dialect"], found["usage"]) == ("jina", "told")
    assert away.exit_code == 2
    assert "the connection to http://127.0.0.1:1 failed" in away.stderr


@pytest.mark.parametrize("path", ["", "/rerank", "/v1/rerank", "/v2/rerank", "/jina/v1/rerank"])
def test_our_own_server_is_one_of_them(own_server, remote, path):
    local, server = own_server
    reranker = remote(f"http://127.0.0.1:{server.port}{path}", model="first")

    ranking = reranker.rank(QUERY, TEXTS)

    expected = local.rank(QUERY, TEXTS)
    assert ids(ranking) == ids(expected)
    assert [candidate.score for candidate in ranking] == [1 / (1 + math.exp(-each.score)) for each in expected]


@pytest.fixture(scope="module")
def own_server(tmp_path_factory):
    """A tiny cross-encoder, and a server of it."""
    local = Reranker(bert(tmp_path_factory.mktemp("tiny")), device="cpu")
    with live(local) as server:
        yield local, server


def test_the_examples_of_the_page_run(serving, tmp_path):
    _, address = serving("jina")
    page = (Path(__file__).resolve().parents[2] / "docs" / "remote.md").read_text(encoding="utf-8")
    code, toml = (re.search(rf"^```{kind}\n(.*?)^```$", page, re.S | re.M).group(1) for kind in ("python", "toml"))
    file = tmp_path / "pipeline.toml"
    file.write_text(toml.replace("http://127.0.0.1:8080", address))
    left: dict[str, object] = {}

    exec(compile(code.replace("http://127.0.0.1:8000", address), "docs/remote.md", "exec"), left)
    [ranking] = Pipeline.load(file).rerank([left["ranking"]])

    assert ranking[0].document.text == "Berlin has many people."


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
