"""The requests that docs/serving.md and the README show, sent as they are written, and the settings they show."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import Live, live

from rerank import Reranker
from rerank.config import build
from rerank.errors import FileError, InputError, UnknownName
from rerank.judges.fake import Oracle
from rerank.serve import Served, Settings
from rerank.serve.page.collections import Collections

ROOT = Path(__file__).resolve().parents[2]
NAME = "cross-encoder/ms-marco-MiniLM-L12-v2"


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [part.partition("\n```")[0] for part in text.split(f"```{language}\n")[1:]]


def requests(page: str) -> list[tuple[str, dict[str, str], dict[str, object]]]:
    """(path, headers, body) of every curl of a page."""
    found = []
    for line in "\n".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line)
        assert words[0] == "curl"
        headers = dict(words[place + 1].split(": ") for place, word in enumerate(words) if word == "-H")
        found.append(("/" + words[1].partition(":8000/")[2], headers, json.loads(words[words.index("-d") + 1])))
    return found


@pytest.fixture(scope="module")
def server(minilm: Path) -> Iterator[Live]:
    """The page's."""
    with live(Reranker(NAME), names=[NAME]) as running:
        yield running


@pytest.mark.parametrize(("path", "headers", "body"), [*requests("docs/serving.md"), *requests("README.md")])
def test_a_request_of_the_pages_is_answered(
    server: Live, path: str, headers: dict[str, str], body: dict[str, object]
) -> None:
    response = server.client.post(path, json=body, headers=headers)

    assert response.status_code == 200
    assert response.json()


def test_the_relevant_document_is_found(server: Live) -> None:
    [capital] = [body for path, _, body in requests("docs/serving.md") if path == "/v2/rerank"]

    [best] = server.post("/v2/rerank", capital).json()["results"]

    assert best["index"] == 1
    assert best["relevance_score"] > 0.9


def test_the_settings_of_the_page_hold_together() -> None:
    [written] = blocks("docs/serving.md", "toml")

    settings = build(Settings, tomllib.loads(written), "the page")

    assert settings.models[0] == Served(NAME, "minilm", ("rerank-v3.5",))
    assert settings.check()[1].algorithm.name == "heapsort"


def test_the_page_offers_collections_that_the_server_was_told_of(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "qrels").mkdir(parents=True)
    texts = {"d1": "rivers freeze in winter", "d2": "cheese is made of milk", "d3": "rivers carry stones"}
    lines = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q 1", "text": "when do rivers freeze"}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq 1\td1\t2\n")

    with live(Reranker(judge=Oracle({})), collections=(str(folder),)) as server:
        listed = {each["name"]: each for each in server.client.get("/ui/collections").json()["collections"]}
        found = server.client.get("/ui/collections/mine/q%201").json()

    assert {"noveleval", "mine"} <= listed.keys()
    assert listed["mine"]["queries"] == [{"query_id": "q 1", "text": "when do rivers freeze"}]
    assert found["query"] == "when do rivers freeze"
    assert found["documents"][0] == {"text": "rivers freeze in winter", "relevance": 2}
    assert {"text": "rivers carry stones", "relevance": None} in found["documents"]


def test_a_collection_that_is_not_there_or_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no folder"):
        Settings(models=(Served("first"),), collections=(str(tmp_path / "none"),)).check()
    with pytest.raises(UnknownName, match="did you mean 'noveleval'"):
        Settings(models=(Served("first"),), collections=("noveleva",)).check()
    (tmp_path / "noveleval").mkdir()
    (tmp_path / "noveleval" / "queries.jsonl").write_text("")
    with pytest.raises(InputError, match="two collections are called 'noveleval'"):
        Collections([str(tmp_path / "noveleval")])
