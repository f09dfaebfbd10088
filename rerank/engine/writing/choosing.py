"""Which token comes next: the likeliest, or one drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rerank.engine.writing.text import Draft
from rerank.errors import JudgeError

__all__ = ["drawn", "picked"]


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


def picked(texts: Sequence[Draft], logits: Tensor) -> list[int | JudgeError]:
    """For each text the index of what it writes next: [texts, tokens]."""
    tops, greedy = logits.max(-1)
    fine = tops.isfinite().tolist()
    picked: list[int | JudgeError] = list(greedy.tolist())
    for place, text in enumerate(texts):
        request = text.request
        if not fine[place]:
            picked[place] = JudgeError(
                f"the model gave no finite number behind {len(text.ids)} tokens of request {text.index}: "
                "its weights or its dtype?"
            )
        elif request.temperature:
            row = logits[place].cpu().numpy()
            options = {"temperature": request.temperature, "top_p": request.top_p}
            picked[place] = drawn(row, **options, chance=text.random.random())
    return picked
