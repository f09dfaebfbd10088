"""Losses between the layers of two models: what distils a body, and not its scores alone."""

from __future__ import annotations

from torch import Tensor

from training.losses.masked import present

__all__ = ["layer_mse"]


def layer_mse(states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
    """The sum over layers of the mean squared difference: TinyBERT's attention and hidden losses
    (https://arxiv.org/abs/1909.10351), of what is no padding.

    Args:
        states: the student's, [layers, texts, ...]; gradients flow here alone.
        teacher_states: of the layer that goes with each, of the same shape.
        mask: bool, as wide as a layer or 1 wide, [texts, ...]; False is padding.

    Returns:
        float32 scalar; 0 when both agree.
    """
    real = mask.expand(states.shape[1:])
    gaps = present(states, real) - present(teacher_states.detach(), real)
    total: Tensor = gaps.square().sum() / real.sum().clamp(min=1)
    return total
