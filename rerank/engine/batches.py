"""Forward passes under a token budget that halves once when memory runs out. Knows no model and no torch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from rerank.errors import JudgeError
from rerank.questions import Bill

__all__ = ["Budget", "is_out_of_memory", "run"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

Pack: TypeAlias = Callable[[Sequence[int], int], list[list[int]]]
"""(lengths, budget) -> the indices of each batch, as in `rerank.engine.packing`."""

SAYS_SO = ("can't allocate memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch writes into a plain RuntimeError when there is no memory: on the CPU, before 2.0, and from cuBLAS."""


class Budget:
    """The most tokens in a forward pass. A judge keeps one, so that what was halved stays so.

    Attributes:
        tokens: as it is now.
        halved: whether memory has run out before.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.halved = False

    def halve(self, bill: Bill) -> None:
        """Make do with half, and say so.

        Raises:
            JudgeError: the second time.
        """
        if self.halved:
            raise JudgeError(
                f"out of memory with a token budget of {self.tokens}, which was halved already; choose a smaller "
                "token budget, fewer tokens a document or another device"
            )
        before, self.tokens, self.halved = self.tokens, max(1, self.tokens // 2), True
        said = f"out of memory with a token budget of {before}: going on with {self.tokens}"
        bill.note("memory", said)
        log.warning(said)


def run(
    lengths: Sequence[int], budget: Budget, pack: Pack, call: Callable[[list[int]], Result], bill: Bill
) -> Iterator[tuple[list[int], Result]]:
    """Call the model batch by batch; when memory runs out, pack what is left anew under half the budget.

    Args:
        lengths: tokens of each text.
        budget: of the judge.
        pack: which texts share a batch.
        call: the model, given the indices of a batch; it must leave nothing behind when it fails.
        bill: where it is noted that memory ran out.

    Yields:
        (indices of a batch, what `call` gave for it).

    Raises:
        JudgeError: when memory runs out a second time; what was yielded before stands.
    """
    waiting = pack(lengths, budget.tokens)[::-1]
    while waiting:
        try:
            result = call(waiting[-1])
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            yield waiting.pop(), result
            continue
        # out here the exception is gone, and with it the tensors of the frames it held
        _give_back()
        budget.halve(bill)
        rest = [index for batch in reversed(waiting) for index in batch]
        again = pack([lengths[index] for index in rest], budget.tokens)
        waiting = [[rest[place] for place in batch] for batch in again][::-1]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on CUDA."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or any(said in str(error) for said in SAYS_SO)


def _give_back() -> None:
    """Let CUDA's allocator return the blocks that it keeps, so that smaller passes find room between them."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
