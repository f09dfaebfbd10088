"""Tables, chart, bill and before-and-after: exact lines where people read them."""

from __future__ import annotations

import builtins
import json

import pytest
from rich.console import Console

from rerank.cost import Ledger
from rerank.errors import FileError, InputError, MissingExtra, UnknownName
from rerank.evaluate import evaluate
from rerank.report import before_after, chart, ledger_table, markdown, summarise, table
from rerank.report.ledger import byte_size, duration, si
from rerank.types import Document, Query, Ranking

QRELS = {f"q{number}": {"good": 1, "bad": 0} for number in range(6)}
WORSE = {query_id: {"bad": 2.0, "good": 1.0} for query_id in QRELS}
BETTER = {query_id: {"good": 2.0, "bad": 1.0} for query_id in list(QRELS)[:5]} | {"extra": {"good": 1.0}}


@pytest.fixture
def evaluations():
    return {name: evaluate(QRELS, run, ["RR@10", "P@1"]) for name, run in (("bm25", WORSE), ("mine", BETTER))}


def shown(renderable, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_table_shows_means_intervals_and_tests(evaluations):
    found = lines(shown(table(evaluations, "bm25", seed=7)))

    # five gains of .5, a loss of .5: 14 of 64 sign flips are as far from zero as 2.0
    assert found[0] == "system RR@10 P@1"
    assert found[2:4] == ["bm25 (baseline) 0.5000 0.0000", "95 % interval 0.500–0.500 0.000–0.000"]
    assert found[4] == "mine 0.8333 0.8333"
    assert found[6] == "difference +0.3333 +0.8333"
    assert found[7] == "p 0.2188 0.0625"
    assert found[9] == "better/equal/worse 5/0/1 5/1/0"


def test_the_caption_says_how_the_numbers_came_about(evaluations):
    said = " ".join(lines(shown(table(evaluations, "bm25", seed=7, resamples=500))))

    assert "6 queries; intervals: percentile bootstrap over queries, 500 resamples, seed 7." in said
    assert "p: paired randomisation test against bm25, the paired t-test beside it." in said
    assert "Queries missing from a run, counted as zero: mine 1." in said
    assert "Queries without judgments, left out: mine 1." in said
    assert "Holm" not in said


def test_several_systems_are_holm_corrected_and_the_caption_says_so(evaluations):
    both = evaluations | {"twin": evaluations["mine"]}

    summary = summarise(both, "bm25")

    once = summarise(evaluations, "bm25").cells["mine"]["P@1"].comparison
    assert summary.cells["twin"]["P@1"].comparison.p_randomisation == 2 * once.p_randomisation
    assert summary.cells["twin"]["P@1"].comparison.p_t == pytest.approx(2 * once.p_t)
    assert "Both are Holm-corrected over 2 systems, each measure by itself." in summary.caption


def test_one_query_is_shown_without_a_test():
    one = {
        name: evaluate({"q0": QRELS["q0"]}, {"q0": run["q0"]}, ["P@1"]) for name, run in (("a", WORSE), ("b", BETTER))
    }

    found = summarise(one, "a")

    assert [cells["P@1"].comparison for cells in found.cells.values()] == [None, None]
    assert found.caption.endswith("One query: no test.")
    assert [line for line in lines(shown(table(one, "a"))) if line.startswith(("a ", "b ", "p", "difference"))] == [
        "a (baseline) 0.0000",
        "b 1.0000",
    ]


def test_without_a_baseline_nothing_is_compared(evaluations):
    text = shown(table(evaluations))

    assert "difference" not in text
    assert "randomisation" not in text


def test_a_narrow_terminal_puts_measures_below_each_other_and_cuts_nothing_off():
    names = ["nDCG@10", "RR(rel=2)@10", "AP(rel=2)@100", "R(rel=2)@100", "Judged@10"]
    many = {name: evaluate(QRELS, WORSE, names) for name in ("a system of some length", "another")}

    text = shown(table(many), width=60)

    assert "…" not in text
    assert all(name in text for name in names)
    assert text.count("another") == 3  # two measures, two, and one
    assert max(map(len, text.splitlines())) <= 60


def test_markdown_shows_the_same_and_keeps_strange_names_harmless(evaluations):
    text = markdown({"a|b": evaluations["bm25"], "mine": evaluations["mine"]}, "a|b")

    assert text.startswith("| system | RR@10 | P@1 |\n| :-- | --: | --: |\n| a\\|b (baseline) | 0.5000 | 0.0000 |\n")
    assert "| mine | **0.8333** | **0.8333** |" in text
    assert "| &emsp;difference | +0.3333 | +0.8333 |" in text


def test_the_summary_goes_into_json(evaluations):
    parsed = json.loads(json.dumps(summarise(evaluations, "bm25", seed=3).as_dict()))

    assert parsed["seed"] == 3
    assert parsed["cells"]["mine"]["P@1"]["comparison"]["wins"] == 5
    assert parsed["cells"]["bm25"]["P@1"]["comparison"] is None


def test_evaluations_that_do_not_fit_together_are_refused(evaluations):
    with pytest.raises(InputError, match="evaluate all by the same measures"):
        table(evaluations | {"odd": evaluate(QRELS, WORSE, ["P@1"])})
    with pytest.raises(InputError, match="evaluate all with the same qrels"):
        table(evaluations | {"odd": evaluate({"q1": {"good": 1}}, WORSE, ["RR@10", "P@1"])})
    with pytest.raises(UnknownName, match="no evaluated system is called 'bm52'; did you mean 'bm25'"):
        table(evaluations, "bm52")
    with pytest.raises(InputError, match="there is no evaluation to report"):
        table({})


def test_the_chart_is_a_png(evaluations, tmp_path):
    for count in (1, 2):
        chart(dict(list(evaluations.items())[:count]), "P@1", tmp_path / "chart.png")

        assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_chart_draws_many_systems_formula_signs_and_one_query(tmp_path):
    one = {f"$a_{number}$": evaluate({"q": {"good": 1}}, {"q": {"good": 1.0}}) for number in range(9)}

    chart(one, "nDCG@10", tmp_path / "chart.png", "$a_3$")

    assert [path.name for path in tmp_path.iterdir()] == ["chart.png"]


def test_a_chart_that_cannot_be_drawn_leaves_no_file(evaluations, tmp_path):
    with pytest.raises(UnknownName, match="no evaluated measure is called 'AP'"):
        chart(evaluations, "AP", tmp_path / "chart.png")
    with pytest.raises(FileError, match="there is no folder"):
        chart(evaluations, "P@1", tmp_path / "nowhere" / "chart.png")

    assert not list(tmp_path.iterdir())


def test_a_chart_without_matplotlib_names_the_extra(evaluations, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(MissingExtra, match=r"a chart needs the 'report' extra: pip install 'rerank-toolkit\[report\]'"):
        chart(evaluations, "P@1", tmp_path / "chart.png")


def test_the_bill_is_readable():
    ledger = Ledger()
    ledger.charge("q", questions=2100, calls=40, tokens_real=1_188_000, tokens_padded=12_000, flops=3.4e12, seconds=20)
    ledger.charge("q", truncated_documents=3, truncated_tokens=1234, journal_hits=100)
    ledger.charge("q", retries=7, flops_estimated=3.6e12)
    for number in range(1, 41):
        ledger.finish(f"q{number}", number / 10)
    ledger.note("device", "cpu [bold]")

    found = lines(shown(ledger_table(ledger)))

    assert "questions (pairs) 2,100 100 from the journal" in found
    assert "forward passes 40" in found
    assert "tokens 1.2 M" in found
    assert "padding 1.0 % of the tokens computed" in found
    assert "documents cut 3 1,234 tokens" in found
    assert "compute 3.4 TFLOP 170 GFLOP/s" in found
    assert "time in the judge 20 s 100 questions/s" in found
    assert "device cpu [bold]" in found
    assert "questions asked again 7" in found
    assert "compute, estimated 3.6 TFLOP by the closed form of arXiv 2507.06223" in found
    assert "time of a query 2.05 s median; mean 2.05 s, 95 % within 3.8 s, longest 4 s" in found
    assert not any("CUDA" in line for line in found)
    assert any(line.startswith("peak memory") and "iB" in line for line in found)


def test_an_empty_bill_can_be_shown():
    assert "questions (pairs) 0" in lines(shown(ledger_table(Ledger())))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 "),
        (9_999, "9,999 "),
        (10_000, "10 k"),
        (999_999, "1 M"),
        (1_234_567, "1.23 M"),
        (3.4e12, "3.4 T"),
        (0.5, "0.5 "),
    ],
)
def test_numbers_carry_a_prefix(value, text):
    assert si(value) == text


def test_bytes_and_seconds_carry_units():
    assert [byte_size(count) for count in (12, 512 * 2**20, 1023.9 * 2**20, 5 * 2**40)] == [
        "12 B",
        "512 MiB",
        "1 GiB",
        "5 TiB",
    ]
    assert [duration(seconds) for seconds in (0.4213, 12.34, 59.96, 185, 7620)] == [
        "0.421 s",
        "12.3 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 07 min",
    ]


def documents(*ids):
    return [Document(doc_id, f"the  text\nof [{doc_id}] " + "and more " * 30) for doc_id in ids]


def test_before_and_after_shows_ranks_moves_relevance_and_shortened_text():
    query = Query("7", "which [b]one[/b]?")
    first = Ranking.unscored(query, documents("a", "b", "c", "d"))
    second = Ranking.unscored(query, documents("d", "b", "new", "a"))

    found = lines(shown(before_after(first, second, {"7": {"d": 2, "a": 0}}, top=3), width=100))

    assert found[0] == "7 which [b]one[/b]?"
    assert [line.split()[0] for line in found[3:]] == ["1", "2", "3"]
    assert found[3].startswith("1 0 the text of [a] and more")
    assert "… ▲3 2 the text of [d]" in found[3]
    assert "… = – the text of [b]" in found[4]
    assert "… new – the text of [new]" in found[5]


def test_before_and_after_says_how_far_a_document_fell():
    query = Query("7", "which?")
    first = Ranking.unscored(query, documents("a", "b"))
    second = Ranking.unscored(query, documents("b", "a"))

    found = lines(shown(before_after(first, second, {})))

    assert "▼1" in found[4]


def test_before_and_after_wants_one_query_and_a_rank():
    one, two = (Ranking.unscored(Query(query_id, "text"), documents("a")) for query_id in ("1", "2"))

    with pytest.raises(InputError, match="are two queries"):
        before_after(one, two, {})
    with pytest.raises(InputError, match="top is 0"):
        before_after(one, one, {}, top=0)
