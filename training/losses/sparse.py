"""What keeps learned sparse vectors sparse."""

from __future__ import annotations

from torch import Tensor

from rerank.errors import InputError

__all__ = ["flops", "quadratic"]


def flops(weights: Tensor) -> Tensor:
    """The FLOPS regulariser: the sum over terms of (mean weight over the batch)² (https://arxiv.org/abs/2004.05665).

    The mean over the batch comes first and the square after it, so that terms which everybody uses cost most.

    Args:
        weights: of terms, at least 0, float [texts, vocab]; gradients flow here.

    Returns:
        scalar.
    """
    return weights.float().mean(0).square().sum() if weights.dtype.itemsize < 4 else weights.mean(0).square().sum()


def quadratic(largest: float, step: int, steps: int) -> float:
    """SPLADE's λ at a step: λ min(1, (t / T)²) (https://arxiv.org/abs/2107.05720).

    Args:
        largest: λ from step `steps` on.
        step: from 0.
        steps: T, at least 1; 50,000 in SPLADE.

    Raises:
        InputError: when there are no steps.
    """
    if steps < 1:
        raise InputError(f"a λ that grows over {steps} steps; say at least 1")
    return largest * min(1.0, (step / steps) ** 2)
