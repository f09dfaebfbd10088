"""What must hold of the benchmarks: what is refused, what is written down, and that workloads run on tiny shapes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import data, table
from benchmarks.__main__ import GROUPS, main
from benchmarks.contest import WORKLOADS, Absent, Contest, Outcome, Peer, Setting, Workload
from benchmarks.measure import Refused, compare, contest_rows, ratio_of, run
from benchmarks.training import SCIFACT
from benchmarks.workloads import load

NAMES = "C1 C2 C3 C4 C5 C6 E1 E2 E3 E4 E5 E6 E7 F1 K1 K2 K3 L1 L2 L3 L4 N1 P1 P2 S1 SE1 T1 TR1 TR2".split()  # noqa: SIM905

load()


def ours(work: Sequence[int]) -> Outcome:
    return Outcome([float(number) for number in work], {"flops": 10.0 * len(work)})


def contest(*peers: Peer, **options: Any) -> Contest:
    return Contest("numbers", list(range(6)), ours, lambda work: ours(work).scores, peers, **options)


def peer(way: Callable[[Sequence[int]], Sequence[float]], **options: Any) -> Peer:
    return Peer("theirs", lambda: lambda work, _: way(work), batch_sizes=(1, 2), **options)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, smoke=True, repeats=2)


def test_every_workload_of_the_plan_is_there() -> None:
    assert sorted(WORKLOADS) == NAMES
    assert {workload.group for workload in WORKLOADS.values()} == set(GROUPS)


def test_nothing_is_reported_when_our_scores_are_wrong(setting: Setting) -> None:
    wrong = Contest("numbers", [1, 2], ours, lambda work: [1.0, 2.1], [peer(lambda work: ours(work).scores)])

    with pytest.raises(Refused, match=r"scores differ by 1\.0e-01"):
        list(contest_rows(wrong, setting))


def test_nothing_is_reported_when_the_order_is_wrong(setting: Setting) -> None:
    wrong = Contest("numbers", [1, 2, 3], ours, lambda work: [3.0, 2.0, 1.0], [], tolerance=None, tau=0.9)

    with pytest.raises(Refused, match="Kendall's tau to float32 is -1"):
        list(contest_rows(wrong, setting))


def test_a_peer_that_cannot_take_part_is_listed_with_the_reason(setting: Setting) -> None:
    def missing() -> Any:
        import no_such_library  # noqa: F401

    def unwilling() -> Any:
        raise Absent("it wants a GPU")

    others = [Peer("one", missing), Peer("two", unwilling), peer(lambda work: [9.0 for _ in work])]

    rows = list(contest_rows(contest(*others), setting))

    assert [row["peer"] for row in rows] == ["one", "two", "theirs"]
    assert "no_such_library" in rows[0]["absent"]
    assert rows[1]["absent"] == "it wants a GPU"
    assert "so it does other work" in rows[2]["absent"]


def test_a_row_says_who_was_how_fast(setting: Setting, tmp_path: Path) -> None:
    def slower(work: Sequence[int]) -> Sequence[float]:
        time.sleep(0.02)
        return ours(work).scores

    workload = Workload("X1", "cpu", "numbers", lambda setting: iter([contest(peer(slower, target=1.3))]))

    [row] = run(workload, setting, results=tmp_path / "results")

    assert row["ratio"] > 1.3
    assert row["reached"]
    assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
    assert (row["fraction"], row["repeats"], row["amounts"]) == (1, 2, {"flops": 60.0})
    assert {"commit", "machine", "date", "gemm_peak", "hfu", "batch_size", "peer_version"} <= row.keys()
    assert json.loads((tmp_path / "results" / "X1.jsonl").read_text(encoding="utf-8")) == row


def test_a_slow_peer_gets_a_part_of_the_work_three_times(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.SLOW", 0.03)

    def slow(work: Sequence[int]) -> Sequence[float]:
        time.sleep(0.01 * len(work))
        return ours(work).scores

    [row] = contest_rows(contest(peer(slow)), setting)

    assert row["repeats"] == 3
    assert row["fraction"] < 1
    assert row["amounts"]["flops"] == pytest.approx(60 * row["fraction"], rel=0.01)


def test_a_ratio_is_the_median_of_neighbouring_turns() -> None:
    middle, (low, high) = ratio_of([1.0, 2.0, 1.0], [2.0, 6.0, 5.0])

    assert middle == 3.0
    assert 2.0 <= low <= 3.0 <= high <= 5.0


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(Refused, match="not finite"):
        compare([float("nan")], [1.0])


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_texts_have_as_many_tokens_as_they_should(kind: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    getattr(data, kind)(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    writer = data.Writer(tokenizer.backend_tokenizer)

    for tokens in (1, 2, 17, 200):
        assert len(tokenizer.encode(writer.text(tokens), add_special_tokens=False)) == tokens


@pytest.mark.parametrize("name", data.LENGTHS)
def test_lengths_are_the_same_every_time(name: str) -> None:
    assert data.lengths(name, 50) == data.lengths(name, 50)
    assert min(data.lengths(name, 50)) >= 16


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["C1", "C6", "K3", "SE1"])
def test_a_workload_runs_on_tiny_shapes(name: str, setting: Setting) -> None:
    rows = list(run(WORKLOADS[name], setting, results=None))

    measured = [row for row in rows if "absent" not in row]
    assert measured
    assert all(row["agreement"]["largest_difference"] <= 1e-4 for row in measured)


@pytest.mark.filterwarnings("ignore")
def test_steps_of_training_have_the_losses_of_a_plain_loop_on_tiny_shapes(setting: Setting) -> None:
    still, *others = run(WORKLOADS["TR1"], setting, results=None)

    assert still["contest"] == "marco, no dropout"
    assert still["agreement"]["largest_difference"] <= 1e-4
    assert still["amounts"]["steps"] == 2
    assert still["notes"] == {"execution": "packed"}
    assert others


@pytest.mark.filterwarnings("ignore")
def test_training_on_scifact_wants_the_collection(setting: Setting) -> None:
    if not SCIFACT.is_dir():
        with pytest.raises(Absent, match=r"not at \.\./shared"):
            list(run(WORKLOADS["TR2"], setting, results=None))
        return
    [row] = run(WORKLOADS["TR2"], setting, results=None)
    assert row["contest"] == "SciFact cut at 256"
    assert row["ratio"] > 0


@pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="there is a GPU")
def test_without_a_gpu_its_workloads_say_so_in_one_line() -> None:
    result = CliRunner().invoke(main, ["K1", "T1"])

    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("K1, T1: needs a CUDA GPU")


def test_an_unknown_workload_is_told_what_there_is() -> None:
    result = CliRunner().invoke(main, ["C9"])

    assert result.exit_code == 2
    assert "there is no workload 'C9'; there is C1, C2" in result.stderr


def test_the_page_shows_the_latest_results() -> None:
    page = table.PAGE.read_text(encoding="utf-8")

    assert table.written(page, table.rendered(table.latest())) == page, "run: python -m benchmarks table"


def test_the_table_keeps_the_newest_row_of_each_peer(tmp_path: Path) -> None:
    about = {"machine": {"cpu": "a CPU", "threads": 2, "torch": "2", "transformers": "5"}, "commit": "abc"}
    key = {"workload": "C1", "contest": "u128", "peer": "theirs", **about}
    row = {**key, "peer_version": "1", "ratio": 2.0, "interval": [1.9, 2.1], "target": 1.3, "floor": None}
    row |= {"reached": True, "fraction": 0.5, "seconds": {"ours": 1.0, "peer": 2.0}, "hfu": 0.5}
    rows = [{**key, "absent": "not installed"}, row]
    (tmp_path / "C1.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rows), encoding="utf-8")

    [*_, line] = table.rendered(table.latest(tmp_path)).splitlines()

    assert line == ("| C1 | u128 | theirs 1, 50% of the work | 2.00 | 1.90 to 2.10 | ≥ 1.3: yes | 1 | 2 | 50% |")
