"""`rerank rerank`: what it writes, and what survives an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from rerank.io import read_requests, read_run, write_requests
from rerank.types import Candidate, Document, Query, Ranking

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def rerank(command, collection, run_file, model):
    """`rerank rerank` of the small run by the tiny model."""

    def call(*more: object):
        return command("rerank", "--dataset", collection, "--run", run_file, "--model", model, *more)

    return call


def test_the_whole_run_comes_out_in_the_order_of_the_model(rerank, run_file, tmp_path):
    result = rerank("--output", tmp_path / "out.trec")

    assert result.exit_code == 0, result.output
    before, after = read_run(run_file), read_run(tmp_path / "out.trec")
    assert list(after) == list(before)
    assert all(set(after[query_id]) == set(before[query_id]) for query_id in before)
    assert any(list(after[query_id]) != list(before[query_id]) for query_id in before)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-2] == f"wrote {tmp_path / 'out.trec'}: 6 queries"


def test_beyond_the_cutoff_the_order_stays_and_keep_alone_shortens(rerank, run_file, tmp_path):
    rerank("--cutoff", 5, "--output", tmp_path / "cut.trec", "--no-journal")
    rerank("--cutoff", 5, "--keep", 7, "--output", tmp_path / "kept.trec", "--no-journal")

    before, cut, kept = (read_run(path) for path in (run_file, tmp_path / "cut.trec", tmp_path / "kept.trec"))
    for query_id in before:
        assert set(list(cut[query_id])[:5]) == set(list(before[query_id])[:5])
        assert list(cut[query_id])[5:] == list(before[query_id])[5:]
        assert list(kept[query_id]) == list(cut[query_id])[:7]


def test_the_same_command_again_answers_from_the_journal(rerank, tmp_path):
    first = rerank("--output", tmp_path / "out.trec", "--json")
    content = (tmp_path / "out.trec").read_bytes()

    again = rerank("--output", tmp_path / "out.trec", "--json")

    bills = [json.loads(result.stdout)["ledger"] for result in (first, again)]
    hits, calls = ([bill.get(name, 0) for bill in bills] for name in ("journal_hits", "calls"))
    assert hits == [0, 180]
    assert calls[0] > 0
    assert calls[1] == 0
    assert (tmp_path / "out.trec").read_bytes() == content
    assert json.loads(again.stdout)["journal"] == str(tmp_path / "out.trec.journal")
    assert f"{tmp_path / 'out.trec.journal'}: 180 answers of earlier runs" in again.stderr


def test_without_a_journal_none_is_left(rerank, tmp_path):
    rerank("--output", tmp_path / "out.trec", "--no-journal")

    assert [path.name for path in tmp_path.iterdir()] == ["out.trec"]


@pytest.mark.parametrize("output", ["/dev/stdout", "/dev/fd/1"])
def test_what_goes_to_standard_output_has_no_journal_beside_it(output):
    """Not even when standard output is an ordinary file."""
    from rerank.cli.journals import chosen_journal

    assert chosen_journal(Path(output), None, False) is None
    assert chosen_journal(Path("out.trec"), None, False) == Path("out.trec.journal")


def test_quiet_says_nothing(rerank, tmp_path):
    result = rerank("--output", tmp_path / "out.trec", "--quiet")

    assert (result.exit_code, result.output) == (0, "")


def test_requests_go_in_and_come_out_with_their_texts(command, model, tmp_path):
    documents = [Document("a", "fish river"), Document("b", "bird tree stone"), Document("c", "sugar")]
    given = [Ranking(Query("q", "fish"), tuple(Candidate(document) for document in documents))]
    write_requests(tmp_path / "in.jsonl", given)

    result = command(
        "rerank", "--requests", tmp_path / "in.jsonl", "--model", model, "--output", tmp_path / "out.jsonl"
    )

    [ranking] = read_requests(tmp_path / "out.jsonl")
    assert result.exit_code == 0
    assert set(ranking.documents) == set(documents)
    assert all(candidate.score is not None for candidate in ranking)


@pytest.fixture
def slow(monkeypatch):
    """A model that takes its time, so that it can be caught at work."""
    from rerank.engine.encoder import Encoder

    score = Encoder.score

    def slow_score(*args):
        time.sleep(0.02)
        return score(*args)

    monkeypatch.setattr(Encoder, "score", slow_score)


@pytest.fixture
def ctrl_c():
    """SIGINT as a program has it that a person started.

    Shells start what they put in the background (`make test &`) with SIGINT ignored, and Python leaves it so.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield partial(os.kill, os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("slow")
def test_ctrl_c_leaves_a_line_that_says_what_is_kept(rerank, ctrl_c, tmp_path):
    journal = tmp_path / "out.trec.journal"
    watcher = threading.Thread(target=_when_it_has, args=(journal, 20, ctrl_c))
    watcher.start()

    result = rerank("--token-budget", 1, "--output", tmp_path / "out.trec")

    watcher.join()
    kept = f"the journal {journal} keeps what was computed: the same command goes on from there"
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == f"rerank: interrupted; {kept}"
    assert 20 <= len(journal.read_text().splitlines()) < 180
    assert not (tmp_path / "out.trec").exists()


def test_killed_it_goes_on_and_ends_the_same(rerank, collection, run_file, model, tmp_path):
    """SIGKILL in the middle, then the same command: the bytes of a run that was not interrupted."""
    whole, halved = tmp_path / "whole.trec", tmp_path / "halved.trec"
    journal = tmp_path / "halved.trec.journal"
    arguments = ["--dataset", collection, "--run", run_file, "--model", model, "--token-budget", 1, "--output", halved]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, "rerank", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )

    _when_it_has(journal, 60, process.kill)
    killed = process.wait(timeout=60)
    answered = len(journal.read_text().splitlines()) - 1
    rest = rerank("--token-budget", 1, "--output", halved, "--json")
    rerank("--output", whole)

    bill = json.loads(rest.stdout)["ledger"]
    assert killed == -signal.SIGKILL
    assert 50 <= answered < 180
    assert answered - 1 <= bill["journal_hits"] <= answered  # the last line may be torn
    assert bill["journal_hits"] + bill["calls"] == 180
    assert halved.read_bytes() == whole.read_bytes()


def _when_it_has(journal: Path, lines: int, act: Callable[[], object]) -> None:
    """Wait until a journal has so many lines, then act."""
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{journal} did not reach {lines} lines")
        time.sleep(0.005)
    act()


SLOWLY = """
import time
from rerank.engine.encoder import Encoder
from rerank.cli.main import main

score = Encoder.score

def slow_score(*args):
    time.sleep(0.02)
    return score(*args)

Encoder.score = slow_score
main(prog_name="rerank")
"""
"""The command itself, in a process that can be killed."""


def test_a_real_cross_encoder_resumes_to_the_same_bytes(command, tmp_path):
    """The MiniLM that the README names, when it is on this machine."""
    from rerank import checkpoints

    if (folder := checkpoints.where("ms-marco-MiniLM-L12-v2")) is None:
        pytest.skip("ms-marco-MiniLM-L12-v2 is not on this machine; 'rerank models fetch' downloads it")
    run = tmp_path / "own.trec"
    run.write_text("".join(f"0 Q0 0-{number} 1 {-number} own\n" for number in range(6)))
    base = ["rerank", "--dataset", "noveleval", "--run", run, "--model", folder, "--max-tokens", 64, "--output"]

    command(*base, tmp_path / "whole.trec")
    journal = (tmp_path / "whole.trec.journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "half.trec.journal").write_bytes(b"".join(journal[:4]) + journal[4][:30])  # three answers, one torn
    result = command(*base, tmp_path / "half.trec", "--json")

    assert json.loads(result.stdout)["ledger"]["journal_hits"] == 3
    assert (tmp_path / "half.trec").read_bytes() == (tmp_path / "whole.trec").read_bytes()


def test_every_choice_at_load_is_shown_by_doctor_and_kept_in_the_ledger(
    command, refused, collection, run_file, model, tmp_path
):
    shown = command("doctor", "--model", model, "--dtype", "bfloat16", "--device", "cpu", "--json")
    command(
        "rerank", "--dataset", collection, "--run", run_file, "--model", model, "--output", tmp_path / "out.trec",
        "--dtype", "bfloat16", "--token-store", tmp_path / "tokens", "--ledger", tmp_path / "ledger.json",
    )  # fmt: skip

    notes = json.loads((tmp_path / "ledger.json").read_text())["notes"]
    assert json.loads(shown.stdout)["model"]["dtype"] == notes["dtype"] == "bfloat16"
    assert notes["token store"] == "folder tokens"
    assert "is of no use without --model" in refused("doctor", "--dtype", "float32")
    assert "a map chooses devices itself" in refused(
        "doctor", "--model", model, "--device", "cpu", "--device-map", "auto"
    )
