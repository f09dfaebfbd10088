"""`rerank rerank`: what it writes, and what survives an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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


def test_interrupted_and_killed_it_goes_on_and_ends_the_same(rerank, collection, model, tmp_path):
    """Ctrl-C once, SIGKILL once, then to the end: the same bytes as without either."""
    many = tmp_path / "many.trec"
    lines = [f"q{q} Q0 d{d} 1 {-d} all" for q in range(6) for d in range(40)]
    many.write_text("\n".join(lines) + "\n")
    arguments = ["--run", many, "--token-budget", 1]  # one pair a forward pass: slow enough to be caught
    whole, halved = tmp_path / "whole.trec", tmp_path / "halved.trec"
    journal = tmp_path / "halved.trec.journal"
    command = ["rerank", "--dataset", collection, "--model", model, *arguments, "--output", halved]

    interrupted = _stopped(command, journal, signal.SIGINT, after=20)
    first = len(journal.read_text().splitlines())
    killed = _stopped(command, journal, signal.SIGKILL, after=first + 20)
    second = len(journal.read_text().splitlines())
    rest = rerank(*arguments, "--output", halved, "--json")
    rerank(*arguments, "--output", whole)

    assert interrupted.returncode == 130
    kept = f"the journal {journal} keeps what was computed: the same command goes on from there"
    assert interrupted.stderr.splitlines()[-1] == f"rerank: interrupted; {kept}"
    assert "Traceback" not in interrupted.stderr
    assert killed.returncode == -signal.SIGKILL
    assert 20 <= first < second < 240
    bill = json.loads(rest.stdout)["ledger"]
    assert bill["journal_hits"] >= second - 2  # the header, and a line that was torn
    assert bill["journal_hits"] + bill["calls"] == 240
    assert halved.read_bytes() == whole.read_bytes()


def _stopped(
    command: list[object], journal: Path, sign: signal.Signals, after: int
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own until its journal has so many lines, then send it a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < after):
        assert time.monotonic() < deadline, "the command wrote nothing to its journal"
        time.sleep(0.005)
    process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


SLOWLY = """
import time
from rerank.judges.cross_encoder import CrossEncoder
from rerank.cli.main import main

grade = CrossEncoder._grade

def slow_grade(*args):
    time.sleep(0.02)
    yield from grade(*args)

CrossEncoder._grade = slow_grade
main(prog_name="rerank")
"""
"""The command itself, with a model that takes its time."""


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
