"""Weights that let training begin with what is easy (MacAvaney et al., 2020, https://arxiv.org/abs/2004.14269).

A weight goes with a sample's own loss, before any mean is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rerank.errors import InputError

__all__ = ["curriculum_weights", "density", "pair_ease", "point_ease", "reciprocal", "spread"]


def curriculum_weights(ease: Tensor, epoch: int, epochs: int = 20) -> Tensor:
    """D (1 - p) + p, with p = min(epoch, m) / m: from how easy a sample is to 1, over m epochs.

    Args:
        ease: D of each sample, from 0 to 1, any shape.
        epoch: from 0; steps will do as well, when m counts them.
        epochs: m, at least 1.

    Raises:
        InputError: when there are no epochs.
    """
    if epochs < 1:
        raise InputError(f"a curriculum over {epochs} epochs; say at least 1")
    done = min(epoch, epochs) / epochs
    return ease * (1.0 - done) + done


def pair_ease(positive: Tensor, negative: Tensor) -> Tensor:
    """D of pairs: (w⁺ - w⁻ + 1) / 2, easy when the first stage has the order right already."""
    return (positive - negative + 1.0) / 2.0


def point_ease(worth: Tensor, relevant: Tensor) -> Tensor:
    """D of single documents: w where relevant, 1 - w elsewhere."""
    return torch.where(relevant, worth, 1.0 - worth)


def reciprocal(ranks: Tensor) -> Tensor:
    """w = 1 / rank, ranks of the first stage from 1."""
    return 1.0 / ranks


def spread(scores: Tensor, mask: Tensor) -> Tensor:
    """w = (score - lowest) / (highest - lowest) within each list, [queries, docs]; 1 where all are equal."""
    lowest = scores.masked_fill(~mask, torch.inf).amin(-1, keepdim=True)
    highest = scores.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
    width = highest - lowest
    return torch.where(width > 0, (scores - lowest) / width, 1.0).masked_fill(~mask, 0.0)


def density(scores: Tensor, mask: Tensor) -> Tensor:
    """w = the share of a list's scores below each, smoothed by Gaussians of Scott's width: [queries, docs]."""
    counts = mask.sum(-1, keepdim=True).clamp(min=1)
    values = scores.masked_fill(~mask, 0.0)
    middle = values.sum(-1, keepdim=True) / counts
    variance = (values - middle).square().masked_fill(~mask, 0.0).sum(-1, keepdim=True) / (counts - 1).clamp(min=1)
    width = variance.sqrt() * counts.to(values.dtype) ** (-1 / 5)
    steps = (values[:, :, None] - values[:, None, :]) / width.clamp(min=torch.finfo(values.dtype).tiny)[..., None]
    below: Tensor = torch.special.ndtr(steps).masked_fill(~mask[:, None, :], 0.0).sum(-1)
    return (below / counts).masked_fill(~mask, 0.0)
