"""The page of `rerank serve` in a headless Chromium: typed into, compared, copied from, and looked at by axe."""

from __future__ import annotations

import gc
import json
import shlex
import shutil

import pytest

pytest.importorskip("fastapi", reason="the page is served by the 'serve' extra")

from live_server import live
from small_folders import bert

from rerank import Reranker
from rerank.algorithms.pointwise import pointwise
from rerank.judges.fake import Oracle
from rerank.serve.page.steps import Steps

TEXTS = [
    "new york is far away",
    "berlin has three million people",
    "<img src=x onerror=document.title='broken'>",
    "a wall of art",
]
QUERY = "how many people live in berlin"


@pytest.fixture(scope="module")
def serving(lm, tmp_path_factory):
    """A tiny cross-encoder, and a tiny causal model that is asked about pairs and about several documents."""
    tiny = bert(tmp_path_factory.mktemp("tiny"))
    rerankers = [
        Reranker(tiny, device="cpu", max_tokens=32),
        Reranker("prp-allpair", model=lm, device="cpu"),
        Reranker("setwise-heapsort", model=lm, device="cpu", head=2),
    ]
    with live(*rerankers, names=("scores", "pairs", "choices")) as server:
        yield server


@pytest.fixture(scope="module")
def chromium():
    """A browser; skipped where there is none."""
    pytest.importorskip("playwright", reason="needs playwright, which the 'dev' extra brings")
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs a Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, serving):
    """(server, width, scheme) -> the page; at the end nothing may stand in its console.

    `refused` is the status of requests that a test expects to be refused: Chromium itself writes a line about each.
    """
    faults, contexts = [], []

    def opener(server=serving, *, width=1440, scheme="light", refused="nothing"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        origin = f"http://127.0.0.1:{server.port}"
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda said: None if refused in said.text else faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda sent: None if sent.url.startswith((origin, "data:")) else faults.append(sent.url))
        page.goto(origin)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert faults == []


def typed(page, *, other="", model="scores"):
    """Query and documents typed in, and sent by the keyboard."""
    page.locator("#model option").first.wait_for(state="attached")
    page.get_by_label("Rerank with").select_option(model)
    page.get_by_label("Compare with").select_option(other)
    page.get_by_label("Query", exact=True).fill(QUERY)
    page.get_by_label("Documents", exact=True).fill("\n".join(TEXTS))
    page.keyboard.press("Control+Enter")
    page.locator("#results .card").first.wait_for()


def order(page, column):
    """The documents of a column, by their index."""
    cards = page.locator(".column").nth(column).locator(".card")
    return [int(card.get_attribute("data-index")) for card in cards.all()]


def test_a_session_ranks_compares_and_copies(opened, serving, capsys):
    page = opened()
    typed(page, other="pairs")
    expected = serving.post("/v1/rerank", {"query": QUERY, "documents": TEXTS, "model": "scores"}).json()["results"]
    best = [result["index"] for result in expected]

    assert page.locator("#count").inner_text() == "4 documents"
    assert (order(page, 0), order(page, 1)) == ([0, 1, 2, 3], best)
    assert sorted(order(page, 2)) == [0, 1, 2, 3]
    moves = [card.locator(".moved").inner_text() for card in page.locator(".column").nth(1).locator(".card").all()]
    assert [_moved(move) for move in moves] == [index - rank for rank, index in enumerate(best)]
    first = page.locator(".column").nth(1).locator(".card").first.inner_text()
    assert f"{expected[0]['relevance_score']:.3f}" in first
    assert page.title() == "rerank"  # what a document says is no markup
    assert page.locator(".matrix tbody tr").count() == 4
    assert page.locator(".strip circle").count() == 4
    assert page.locator(".gutter path").count() == 8
    assert "moved, first is document" in page.get_by_role("status").inner_text()

    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    words = shlex.split(page.evaluate("navigator.clipboard.readText()").replace("\\\n", ""))
    sent = json.loads(words[words.index("-d") + 1])
    assert serving.post(words[1].partition("/v1")[1] + words[1].partition("/v1")[2], sent).json()["results"] == expected

    page.get_by_role("tab", name="curl").press("ArrowRight")
    assert page.get_by_role("tab", name="Python").get_attribute("aria-selected") == "true"
    capsys.readouterr()
    exec(page.locator("#code").inner_text(), {})
    printed = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert printed == [TEXTS[index] for index in best]


@pytest.mark.filterwarnings("ignore")  # the client leaves its connection open
def test_the_cohere_client_runs_what_is_copied_for_it(opened, capsys):
    pytest.importorskip("cohere", reason="needs cohere")
    page = opened()
    typed(page)

    page.get_by_role("tab", name="Cohere client").click()
    exec(page.locator("#code").inner_text(), {})
    gc.collect()

    assert len(capsys.readouterr().out.splitlines()) == len(TEXTS)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(opened, width, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="needs axe-core-python")
    page = opened(width=width, scheme=scheme)
    typed(page, other="pairs")
    page.get_by_text("More", exact=True).first.click()

    found = axe.Axe().run(page)

    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_windows_of_long_documents_are_shown_and_the_best_is_marked(opened):
    page = opened()
    page.locator("#model option").first.wait_for(state="attached")
    long = (
        " ".join(["new york is far away"] * 12) + " how many people live in berlin. " + " ".join(["a wall of art"] * 12)
    )
    page.get_by_label("Query", exact=True).fill(QUERY)
    page.get_by_label("Documents", exact=True).fill(f"{long}\nberlin")
    page.get_by_label("Long documents").select_option("max")
    page.get_by_role("button", name="Rerank", exact=True).click()
    page.locator("#results mark").wait_for()

    marked = page.locator("#results mark").inner_text()

    assert marked in long
    assert len(marked) < len(long.strip())
    assert page.get_by_text("Scores of windows").is_visible()


def test_choices_of_a_setwise_method_are_shown(opened):
    page = opened()
    typed(page, model="choices")

    assert page.get_by_text("Choices", exact=True).is_visible()
    assert page.locator(".asked li .chip.won").count() == page.locator(".asked li").count()
    assert page.locator(".warning").inner_text().startswith("Numbers from 0 to 1 say the rank alone")


def test_a_query_of_a_collection_brings_its_documents_and_judgments(opened):
    page = opened()
    page.locator("#collection option").nth(1).wait_for(state="attached")
    page.get_by_label("Collection", exact=True).select_option("noveleval")
    page.get_by_label("Its query").select_option(index=1)
    page.get_by_text("20 documents by BM25, best first.").wait_for()
    page.get_by_role("button", name="Rerank", exact=True).click()
    page.locator("#results .card").first.wait_for()

    assert page.locator(".column").nth(0).locator(".judged").count() > 0
    assert page.get_by_label("Query", exact=True).input_value().endswith("?")

    page.get_by_label("Documents", exact=True).fill("another\none")
    page.keyboard.press("Control+Enter")
    page.get_by_text("2 documents in").wait_for()
    assert page.locator(".judged").count() == 0


def test_errors_are_said_in_the_servers_words(opened):
    page = opened(refused="status of 422")
    page.locator("#model option").first.wait_for(state="attached")
    page.get_by_text("More", exact=True).first.click()
    page.get_by_label("Instruction").fill("only fruit")
    page.get_by_role("button", name="Rerank", exact=True).click()
    page.get_by_role("alert").wait_for()

    assert "reads no instruction; leave it out" in page.get_by_role("alert").inner_text()
    page.get_by_label("Instruction").fill("")
    page.get_by_label("Documents", exact=True).fill("\n")
    assert page.locator("#count").inner_text() == "0 documents"


def test_a_key_is_asked_for_where_the_server_wants_one(opened, lm):
    with live(Reranker("prp-allpair", model=lm, device="cpu"), names=("pairs",), api_keys=("secret",)) as server:
        assert server.client.post("/ui/explain", json={}).status_code == 401
        page = opened(server, refused="status of 401")
        page.get_by_role("alert").wait_for()
        assert "wants a key" in page.get_by_role("alert").inner_text()
        page.get_by_text("More", exact=True).first.click()
        page.get_by_label("API key").fill("secret")
        page.get_by_label("API key").press("Tab")
        typed(page, model="pairs")

        assert page.get_by_role("alert").is_hidden()
        assert '"Authorization: Bearer $RERANK_API_KEY"' in page.locator("#code").inner_text()
        assert "secret" not in page.locator("#code").inner_text()


def test_the_page_may_load_nothing_from_elsewhere(serving):
    for path in ("/", "/ui/page.css", "/ui/page.js"):
        response = serving.client.get(path)
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert (
            "//"
            not in response.text.replace("http://www.w3.org/", "").replace("${location.origin}//", "").split("/*")[0]
            or path != "/"
        )


def test_an_unknown_collection_is_said(serving):
    assert (
        "no collection of the page is called 'x'"
        in serving.client.get("/ui/collections/x/1").json()["error"]["message"]
    )
    assert "did you mean" in serving.client.get("/ui/collections/noveleva/1").json()["error"]["message"]
    assert serving.client.get("/ui/collections/noveleval/99").status_code == 422


def test_an_explanation_is_the_ranking_of_every_client_with_its_steps(serving):
    body = {"query": QUERY, "documents": TEXTS, "model": "pairs"}

    plain = serving.post("/v1/rerank", body).json()
    found = serving.post("/ui/explain", body).json()

    assert [result["index"] for result in found["results"]] == [result["index"] for result in plain["results"]]
    assert len(found["steps"]) == found["cost"]["questions"]["amount"] == 12
    assert {step["kind"] for step in found["steps"]} == {"Compare"}
    assert found["rounds"] == max(step["round"] for step in found["steps"])
    assert found["warnings"] == ["rank only"]


def test_steps_that_are_too_many_are_counted_and_the_plan_is_the_same(play, listed):
    steps, judge = Steps(most=3), Oracle({"query": {"2": 1}})

    ranking, _ = play(steps.listening(pointwise(listed(5))), judge)

    assert ranking == play(pointwise(listed(5)), judge)[0]
    assert [step["documents"] for step in steps.kept] == [[0], [1], [2]]
    assert (steps.left_out, steps.rounds) == (2, 1)


def _moved(text):
    """Places up, of what a card says."""
    shown = text.split("\n")[0].split()
    return 0 if shown == ["stays"] else int(shown[1]) * (1 if shown[0] == "↑" else -1)
