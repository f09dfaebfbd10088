"""Replicas on a Ray cluster of this machine; where Ray Serve is not installed, what is said of that."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from live_server import bert, until

from rerank import Reranker
from rerank.distributed.handlers import kept_handlers
from rerank.errors import InputError, MissingExtra
from rerank.serve import Served, Settings
from rerank.serve.replicas import application, replicated

THERE = find_spec("ray") is not None and find_spec("grpc") is not None
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray Serve's own, of pydantic
needs_ray_serve = pytest.mark.skipif(not THERE, reason="needs the `replicas` extra, Ray Serve")


@pytest.mark.skipif(THERE, reason="Ray Serve is installed")
def test_what_is_missing_is_named() -> None:
    with pytest.raises(MissingExtra, match="'replicas' extra"):
        replicated(Settings(models=(Served("cross-encoder/ms-marco-MiniLM-L12-v2"),)))


@pytest.mark.parametrize(
    ("told", "error"),
    [({"replica": "2"}, "did you mean 'replicas'"), ({"replicas": "two"}, "is no number"), ({}, "no model")],
)
def test_what_serve_run_is_told_is_checked(told: dict[str, str], error: str) -> None:
    with pytest.raises(InputError, match=error):
        application(told)


@needs_ray_serve
def test_the_address_is_rays_to_say() -> None:
    with pytest.raises(InputError, match="host, port and workers"):
        replicated(Settings(models=(Served("cross-encoder/ms-marco-MiniLM-L12-v2"),), port=9000))


@needs_ray_serve
def test_two_replicas_answer_as_the_library_does(tmp_path: Path) -> None:
    import ray
    from ray import serve

    folder = bert(tmp_path / "bert")
    texts = ["a wall of art", "new york is far away"]
    expected = {candidate.document.doc_id: candidate.score for candidate in Reranker(folder).rank("who won", texts)}
    with kept_handlers():
        ray.init(num_cpus=2, include_dashboard=False)
    try:
        serve.start(http_options={"port": 8765})
        serve.run(replicated(Settings(models=(Served(str(folder), "tiny"),)), replicas=2, cpus=0.5))
        until(lambda: httpx.get("http://127.0.0.1:8765/ready").status_code == 200)
        body = {"query": "who won", "documents": texts, "raw_scores": True}
        answers = [httpx.post("http://127.0.0.1:8765/v1/rerank", json=body, timeout=60).json() for _ in range(6)]
    finally:
        serve.shutdown()
        with kept_handlers():
            ray.shutdown()

    for answer in answers:
        assert {str(result["index"]): result["relevance_score"] for result in answer["results"]} == expected
