"""Which token comes next: the likeliest, or one drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["drawn"]


def drawn(logits: NDArray[np.float32], *, temperature: float, top_p: float, chance: float) -> int:
    """Draw one of some tokens.

    Tokens are laid side by side by falling probability, the first of equals first, each as long as it is probable;
    `chance` says where on that line to look. The smallest number of tokens that have `top_p` of the probability
    together is all there is (Holtzman et al., 2020, https://arxiv.org/abs/1904.09751).

    Args:
        logits: of the tokens, [tokens].
        temperature: above 0; logits are divided by it.
        top_p: above 0, at most 1.
        chance: from 0 to below 1.

    Returns:
        An index into the logits.
    """
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    order = np.argsort(-weights, kind="stable")
    ends = np.cumsum(weights[order])
    kept = min(int(np.searchsorted(ends, top_p * ends[-1])) + 1, len(order))
    place = int(np.searchsorted(ends[:kept], chance * ends[kept - 1], side="right"))
    return int(order[min(place, kept - 1)])
