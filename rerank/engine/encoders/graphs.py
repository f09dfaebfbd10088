"""CUDA graphs: a pass of fixed sizes is recorded once, and launched again without Python.

A small model is launched more slowly than it computes. What a graph computes is what was recorded: the same kernels on
the same addresses, so that values do not change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

__all__ = ["Graphs"]

Sizes = TypeVar("Sizes", bound=Hashable)


@dataclass(frozen=True)
class Recorded:
    """A graph, what it reads and what it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    output: Tensor


class Graphs(Generic[Sizes]):
    """Runs a function of one tensor, recording it for each combination of sizes that comes back.

    Sizes that come for the first time run eagerly: many never come again, and kernels are compiled then.

    Args:
        compute: (inputs on the device, sizes) -> output; no shape may depend on the values of the inputs, and nothing
            may wait for the GPU.
        device: where.
        most: graphs that are kept, the last used; each holds its output, and all share one pool of memory.
    """

    def __init__(self, compute: Callable[[Tensor, Sizes], Tensor], device: torch.device, most: int = 32) -> None:
        self.compute, self.device, self.most = compute, device, most
        self.failure: str | None = None
        self._recorded: OrderedDict[Sizes, Recorded] = OrderedDict()
        self._seen: set[Sizes] = set()
        self._pool: Any = None

    def __call__(self, host: Tensor, sizes: Sizes) -> Tensor:
        """The output for inputs that are still on the host; it is overwritten by the next call."""
        recorded = self._recorded.get(sizes)
        if recorded is None and sizes in self._seen and self.failure is None:
            recorded = self._try_to_record(host, sizes)
        self._seen.add(sizes)
        if recorded is None:
            return self.compute(host.to(self.device, non_blocking=True), sizes)
        self._recorded.move_to_end(sizes)
        recorded.inputs.copy_(host, non_blocking=True)
        recorded.graph.replay()
        return recorded.output

    def _try_to_record(self, host: Tensor, sizes: Sizes) -> Recorded | None:
        try:
            recorded = self._record(host, sizes)
        except torch.OutOfMemoryError:
            self._recorded.clear()  # whoever asked may try a smaller pass with the memory that this frees
            raise
        except RuntimeError as error:  # everything that CUDA refuses to record
            self.failure = str(error).strip().splitlines()[0]
            self._recorded.clear()
            return None
        self._recorded[sizes] = recorded
        if len(self._recorded) > self.most:
            self._recorded.popitem(last=False)
        return recorded

    def _record(self, host: Tensor, sizes: Sizes) -> Recorded:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        inputs = host.to(self.device)
        now = torch.cuda.current_stream(self.device)
        beside: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(now)
        with torch.cuda.stream(beside):
            self.compute(inputs, sizes)  # libraries take what they need of this stream before they are recorded
        now.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # other threads may use the GPU meanwhile: a server's, a data loader's
        with torch.cuda.graph(graph, pool=self._pool, stream=beside, capture_error_mode="thread_local"):
            output = self.compute(inputs, sizes)
        return Recorded(graph, inputs, output)
