"""Which passes are recorded, which are forgotten, and what happens when CUDA refuses; recording itself needs a GPU."""

from __future__ import annotations

import pytest
import torch

from rerank.engine.encoders.graphs import Graphs, Recorded


class Replay:
    """Stands in for a CUDA graph: computes again what was recorded."""

    def __init__(self, log, compute, inputs, output, sizes):
        self.parts = log, compute, inputs, output, sizes

    def replay(self):
        log, compute, inputs, output, sizes = self.parts
        log.append(("replayed", sizes))
        output.copy_(compute(inputs, sizes))


@pytest.fixture
def graphs():
    log = []

    def compute(inputs, sizes):
        return inputs * 2

    made = Graphs(compute, torch.device("cpu"), most=2)
    made.log = log

    def record(host, sizes):
        log.append(("recorded", sizes))
        inputs, output = host.clone(), torch.empty_like(host)
        return Recorded(Replay(log, compute, inputs, output, sizes), inputs, output)

    made._record = record
    return made


def test_sizes_are_recorded_when_they_come_back(graphs):
    outputs = [graphs(torch.tensor([value]), "a").item() for value in (1, 2, 3)]

    assert outputs == [2, 4, 6]
    assert graphs.log == [("recorded", "a"), ("replayed", "a"), ("replayed", "a")]


def test_the_last_used_are_kept(graphs):
    for sizes in "aabbaccb":
        graphs(torch.tensor([1]), sizes)

    assert [entry for entry in graphs.log if entry[0] == "recorded"] == [("recorded", sizes) for sizes in "abcb"]


def test_what_cannot_be_recorded_runs_eagerly_and_says_why(graphs):
    def refuse(host, sizes):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs._record = refuse

    assert [graphs(torch.tensor([value]), "a").item() for value in (1, 2, 3)] == [2, 4, 6]
    assert graphs.failure == "operation not permitted when stream is capturing"
    assert graphs.log == []


def test_memory_that_runs_out_is_no_refusal(graphs):
    def burst(host, sizes):
        raise torch.OutOfMemoryError("CUDA out of memory")

    graphs(torch.tensor([1]), "a")
    graphs._record = burst

    with pytest.raises(torch.OutOfMemoryError):
        graphs(torch.tensor([1]), "a")
    assert graphs.failure is None
