"""Every dialect of the server against real clients and the requests of their pages; its scores are the offline ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cohere
import httpx
import pytest
from live_server import Live, bert, live
from small_folders import texts

from rerank import Reranker
from rerank.judges.fake import Oracle

QUERY = "how many people live in berlin"
DOCUMENTS = [text for text in texts(12, seed=3) if text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder with random weights."""
    return bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def offline(folder: Path) -> dict[int, float]:
    """The score of each document."""
    ranking = Reranker(folder).rank(QUERY, DOCUMENTS)
    return {int(candidate.document.doc_id): candidate.score for candidate in ranking if candidate.score is not None}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Live]:
    """A pointwise reranker and a listwise one."""
    listwise = Reranker(judge=Oracle({}), algorithm="sliding-windows", window=4, step=2)
    with live(Reranker(folder), listwise) as running:
        yield running


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_tei_gets_a_bare_list_best_first(server: Live, offline: dict[int, float]) -> None:
    answer = server.post("/rerank", {"query": QUERY, "texts": DOCUMENTS}).json()

    assert [set(rank) for rank in answer] == [{"index", "score"}] * len(DOCUMENTS)
    assert [rank["index"] for rank in answer] == list(offline)
    assert [rank["score"] for rank in answer] == [sigmoid(score) for score in offline.values()]


def test_teis_raw_scores_are_the_offline_ones_to_the_bit(server: Live, offline: dict[int, float]) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True, "return_text": True}

    answer = server.post("/rerank", body).json()

    assert {rank["index"]: rank["score"] for rank in answer} == offline
    assert all(rank["text"] == DOCUMENTS[rank["index"]] for rank in answer)


def test_vllm_gets_results_with_documents(server: Live, offline: dict[int, float]) -> None:
    answer = server.post("/rerank", {"query": QUERY, "documents": DOCUMENTS, "top_n": 2, "model": "first"}).json()

    assert set(answer) == {"id", "model", "usage", "results"}
    assert [result["index"] for result in answer["results"]] == list(offline)[:2]
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[next(iter(offline))]}
    assert answer["model"] == "first"


@pytest.mark.parametrize("body", [{"query": "q"}, {"query": "q", "texts": ["a"], "documents": ["a"]}, ["a"], "a", 3])
def test_rerank_wants_either_texts_or_documents(server: Live, body: object) -> None:
    response = server.post("/rerank", body)

    assert response.status_code == 422
    assert response.json()["error_type"] == "Validation"


def test_the_union_answers_with_everything(server: Live, offline: dict[int, float]) -> None:
    body = {"model": "first", "query": QUERY, "documents": [{"text": text, "more": "x"} for text in DOCUMENTS]}

    bare = server.post("/v1/rerank", body).json()
    full = server.post("/v1/rerank", body | {"return_documents": True}).json()

    assert set(bare) == {"id", "model", "results", "usage", "meta"}
    assert [set(result) for result in bare["results"]] == [{"index", "relevance_score"}] * len(DOCUMENTS)
    assert [result["index"] for result in bare["results"]] == list(offline)
    assert all(result["document"] == body["documents"][result["index"]] for result in full["results"])
    assert bare["meta"]["billed_units"] == {"search_units": 1}


def test_fields_of_objects_are_read_as_asked(server: Live) -> None:
    documents = [{"title": "berlin", "text": "a wall"}, {"title": "new york", "text": "art"}]
    joined = server.post("/v1/rerank", {"query": QUERY, "documents": ["berlin\na wall", "new york\nart"]}).json()

    asked = server.post("/v1/rerank", {"query": QUERY, "documents": documents, "rank_fields": ["title", "text"]}).json()
    lacking = server.post("/v1/rerank", {"query": QUERY, "documents": documents, "rank_fields": ["body"]})

    assert asked["results"] == joined["results"]
    assert lacking.status_code == 422
    assert "document 0 has no text 'body'" in lacking.json()["message"]


def test_jina_returns_documents_unless_told_not_to(server: Live) -> None:
    body = {"model": "first", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}

    usual = server.post("/jina/v1/rerank", body).json()
    bare = server.post("/jina/v1/rerank", body | {"return_documents": False}).json()

    assert len(usual["results"]) == 3
    assert all(result["document"] == {"text": DOCUMENTS[result["index"]]} for result in usual["results"])
    assert all("document" not in result for result in bare["results"])
    assert usual["usage"]["total_tokens"] >= 0


def test_coheres_own_client_of_both_versions(server: Live, offline: dict[int, float]) -> None:
    own = {"base_url": f"http://127.0.0.1:{server.port}", "httpx_client": httpx.Client()}
    expected = [(index, sigmoid(score)) for index, score in offline.items()][:3]

    second = cohere.ClientV2("key", **own).rerank(
        model="first", query=QUERY, documents=DOCUMENTS, top_n=3, max_tokens_per_doc=50
    )
    first = cohere.Client("key", **own).rerank(
        model="first", query=QUERY, documents=DOCUMENTS, top_n=3, return_documents=True
    )

    own["httpx_client"].close()
    assert [(result.index, result.relevance_score) for result in second.results] == expected
    assert second.meta is not None
    assert second.meta.api_version is not None
    assert second.meta.api_version.version == "2"
    assert [(result.index, result.relevance_score) for result in first.results] == expected
    assert first.results[0].document is not None
    assert first.results[0].document.text == DOCUMENTS[expected[0][0]]


def test_coheres_own_client_is_told_of_an_error(server: Live) -> None:
    with httpx.Client() as http:
        client = cohere.ClientV2("key", base_url=f"http://127.0.0.1:{server.port}", httpx_client=http)
        with pytest.raises(cohere.NotFoundError) as told:
            client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS)

    assert told.value.body["message"].startswith("no model is called 'rerank-v3.5'")


def test_score_keeps_the_order_of_its_pairs(server: Live, offline: dict[int, float]) -> None:
    one = server.post("/score", {"text_1": QUERY, "text_2": DOCUMENTS, "use_activation": False}).json()
    many = server.post("/v1/score", {"text_1": [QUERY] * len(DOCUMENTS), "text_2": DOCUMENTS}).json()
    wrong = server.post("/score", {"text_1": [QUERY] * 2, "text_2": DOCUMENTS})

    assert [entry["score"] for entry in one["data"]] == [offline[index] for index in range(len(DOCUMENTS))]
    assert [entry["score"] for entry in many["data"]] == [sigmoid(offline[index]) for index in range(len(DOCUMENTS))]
    assert [entry["index"] for entry in many["data"]] == list(range(len(DOCUMENTS)))
    assert wrong.status_code == 422


def test_usage_is_of_the_request_alone_even_where_two_have_one_id(server: Live) -> None:
    sent = {"headers": {"X-Request-Id": "twice"}}
    words = ["how many people", "live in berlin", "the city has three million"]

    alone = [server.post("/v1/rerank", {"query": "who won a", "documents": [word]}, **sent) for word in words]
    pairs = server.post("/score", {"text_1": ["who won a wall"] * 3, "text_2": words}, **sent).json()

    tokens = [answer.json()["usage"]["total_tokens"] for answer in alone]
    assert tokens == [3 + 3 + len(word.split()) for word in words]
    assert pairs["usage"]["total_tokens"] == sum(tokens) + 3
    assert server.models.all[0].ledger.queries.keys() <= {"warm-up"}


def test_a_listwise_reranker_gives_ranks_for_scores(server: Live) -> None:
    answer = server.post("/v1/rerank", {"model": "second", "query": QUERY, "documents": DOCUMENTS}).json()
    raw = server.post("/v1/rerank", {"model": "second", "query": QUERY, "documents": DOCUMENTS, "raw_scores": True})
    pairs = server.post("/score", {"model": "second", "text_1": QUERY, "text_2": DOCUMENTS})

    count = len(DOCUMENTS)
    assert [result["relevance_score"] for result in answer["results"]] == [1 - rank / count for rank in range(count)]
    assert answer["meta"]["warnings"] == ["rank only"]
    assert raw.status_code == 422
    assert pairs.status_code == 422


ERRORS = {
    "/v1/rerank": {"id", "message", "detail"},
    "/v2/rerank": {"id", "message"},
    "/jina/v1/rerank": {"detail"},
    "/score": {"error"},
}


@pytest.mark.parametrize(("path", "keys"), ERRORS.items())
@pytest.mark.parametrize("body", [{}, {"query": 3}, {"query": "q", "documents": "a", "unheard": 1}])
def test_every_path_errs_in_its_own_dialect(server: Live, path: str, keys: set[str], body: object) -> None:
    response = server.post(path, body)

    assert response.status_code == 422
    assert set(response.json()) == keys


def test_rerank_errs_in_the_dialect_of_who_asks(server: Live) -> None:
    of_tei = server.post("/rerank", {"query": " ", "texts": ["a"]})
    of_vllm = server.post("/rerank", {"query": " ", "documents": ["a"]})
    negative = server.post("/rerank", {"query": "q", "documents": ["a"], "top_n": -1})

    assert set(of_tei.json()) == {"error", "error_type"}
    assert set(of_vllm.json()["error"]) == {"message", "type", "param", "code"}
    assert negative.json()["error"]["message"].startswith("top_n: ")
    assert {of_tei.status_code, of_vllm.status_code, negative.status_code} == {422}


def test_the_server_says_what_it_serves(server: Live) -> None:
    listed = server.client.get("/v1/models").json()["data"]
    info = server.client.get("/info").json()
    paths = server.client.get("/openapi.json").json()["paths"]
    metrics = server.client.get("/metrics").text

    assert [(model["id"], model["scores"]) for model in listed] == [("first", "logit"), ("second", "rank only")]
    assert info["model_id"] == "first"
    assert info["max_input_length"] == 64
    errors = paths["/v2/rerank"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert errors["$ref"].endswith("rerank__serve__dialects__cohere__Error")
    assert {"/rerank", "/v1/rerank", "/v2/rerank", "/jina/v1/rerank", "/score", "/info"} <= set(paths)
    assert 'rerank_tokens_total{kind="computed",model="first"}' in metrics
    assert 'rerank_batch_fill{model="first"}' in metrics
    assert 'rerank_request_seconds_bucket{le="0.005",model="first",path="/v2/rerank"}' in metrics
    assert server.client.get("/health").status_code == server.client.get("/ready").status_code == 200
    assert server.client.get("/docs").status_code == 200
    assert server.client.get("/nowhere").status_code == 404


def test_ids_of_requests_come_back(server: Live) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS}

    own = server.client.post("/v2/rerank", json=body, headers={"X-Request-Id": "mine-1"})
    made = server.client.post("/v2/rerank", json=body, headers={"X-Request-Id": "no good id"})

    assert own.headers["X-Request-Id"] == own.json()["id"] == "mine-1"
    assert made.json()["id"] == made.headers["X-Request-Id"] != "no good id"
