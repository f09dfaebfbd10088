"""Losses by name, with what each reads. All are pure functions of tensors; docs/losses.md has the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from training.losses import language, layers, listwise, pairwise, pointwise, sequential, smooth, sparse

__all__ = ["LOSSES", "Loss", "Target", "of_lists"]

Target = Literal[
    "labels", "gains", "order", "scores", "preferences", "comparisons", "logits", "tokens", "vectors", "batches",
    "completions", "rewards", "steps", "texts", "duplicates",
]  # fmt: skip
"""What a loss learns from: labels from 0 to 1; grades of at least 0; anything that orders a list (labels, a teacher's
scores or its order); a teacher's scores; judged pairs; who wins of two, for models that compare; a teacher's logits;
texts to write; vectors alone; which document of a whole batch is a query's own; what a teacher wrote, or what the
model's own answers are worth (these two for `training.objective`: no loss here reads them); an order, of a model that
decodes it step by step; the documents' own texts, without any label; or an order of documents of which some are
duplicates of others."""


@dataclass(frozen=True)
class Loss:
    """A loss, and what it wants.

    Args:
        run: the function, or the class of what a trainer is told. Losses over lists take (scores, target, mask),
            options by keyword, and give one loss a list.
        reads: the target.
        shifts: True when adding a constant to a list's scores changes nothing.
    """

    run: Callable[..., Any]
    reads: Target
    shifts: bool = True

    def __call__(self, *tensors: Tensor, **options: Any) -> Tensor:
        """Compute it."""
        loss: Tensor = self.run(*tensors, **options)
        return loss


LOSSES: Mapping[str, Loss] = {
    "adr-mse": Loss(smooth.adr_mse, "order"),
    "approx-ndcg": Loss(smooth.approx_ndcg, "gains"),
    "balanced-bce": Loss(pointwise.balanced_bce, "labels", shifts=False),
    "bce": Loss(pointwise.bce, "labels", shifts=False),
    "comparison": Loss(pairwise.comparison, "comparisons", shifts=False),
    "first": Loss(language.first, "tokens"),
    "flops": Loss(sparse.flops, "vectors", shifts=False),
    "group-ce": Loss(listwise.group_ce, "labels"),
    "hinge": Loss(pairwise.hinge, "order"),
    "importance-weighted-lm": Loss(language.importance_weighted_lm, "tokens", shifts=False),
    "infonce": Loss(listwise.infonce, "labels"),
    "kl": Loss(listwise.list_kl, "scores"),
    "lambdaloss": Loss(pairwise.lambdaloss, "gains"),
    "lambdarank": Loss(pairwise.lambdarank, "gains"),
    "layer-mse": Loss(layers.layer_mse, "vectors", shifts=False),
    "listmle": Loss(listwise.listmle, "order"),
    "listnet": Loss(listwise.listnet, "order"),
    "lm": Loss(language.lm, "tokens", shifts=False),
    "margin-mse": Loss(pairwise.margin_mse, "scores"),
    "mse": Loss(pointwise.mse, "scores", shifts=False),
    "mse-logits": Loss(pointwise.mse_logits, "logits", shifts=False),
    "neural-ndcg": Loss(smooth.neural_ndcg, "gains"),
    "novelty-ranknet": Loss(pairwise.novelty_ranknet, "duplicates"),
    "p-listmle": Loss(listwise.p_listmle, "order"),
    "pair-logistic": Loss(pairwise.pair_logistic, "order"),
    "pe-rank": Loss(sequential.pe_rank, "steps"),
    "poly1": Loss(listwise.poly1, "labels"),
    "preference-logistic": Loss(pairwise.preference_logistic, "preferences"),
    "ranknet": Loss(pairwise.ranknet, "order"),
    "ranknet-ndcg": Loss(partial(pairwise.ranknet, weighting="ndcg"), "gains"),
    "ranknet-reciprocal": Loss(partial(pairwise.ranknet, weighting="reciprocal"), "order"),
    "rcr": Loss(listwise.rcr, "labels", shifts=False),
    "reconstruction": Loss(language.lm, "texts", shifts=False),
    "softmax": Loss(listwise.softmax, "labels"),
    "tightly-coupled": Loss(listwise.tightly_coupled, "batches"),
    "unlikelihood": Loss(language.unlikelihood, "tokens", shifts=False),
}
"""By name. `Loss.reads` says what each learns from."""


def of_lists() -> list[str]:
    """The names of losses over lists: (scores, target, mask) -> [queries]."""
    return [name for name, loss in LOSSES.items() if loss.reads in ("labels", "gains", "order", "scores")]
