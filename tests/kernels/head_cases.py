"""Random inputs for the kernels over output heads and token vectors, and for the list losses."""

from __future__ import annotations

from typing import Any

import torch
from kernel_harness import Case
from torch import Tensor

Made = tuple[tuple[Any, ...], dict[str, Any]]


def ends(lengths: list[int]) -> Tensor:
    """Where texts start and the last ends: int32 [texts + 1]."""
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def head(vocab: int, dim: int, biased: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """An output head whose logits are about as large as models' are."""
    return torch.randn(vocab, dim).to(dtype), torch.randn(vocab).to(dtype) if biased else None


# --- output heads ----------------------------------------------------------------------------------------------------


def target_logits(
    rows: int, targets: list[int], vocab: int, dim: int, biased: bool, options: dict[str, Any], dtype: torch.dtype
) -> Made:
    weight, bias = head(vocab, dim, biased, dtype)
    return (torch.randn(rows, dim).to(dtype), weight, torch.tensor(targets), bias), options


def token_log_probs(rows: int, vocab: int, dim: int, biased: bool, options: dict[str, Any], dtype: torch.dtype) -> Made:
    targets = torch.randint(vocab, (rows,))
    targets[0], targets[-1] = 0, vocab - 1
    return target_logits(rows, targets.tolist(), vocab, dim, biased, options, dtype)


TARGET_LOGITS = Case(
    "target_logits",
    target_logits,
    rows={
        "one row, one target": (1, [3], 5, 8, False, {}),
        "T5's true and false": (17, [6, 1], 20, 40, False, {"scale": 40**-0.5}),
        "biased, capped": (5, [0, 19, 7], 20, 33, True, {"softcap": 2.5}),
        "a target twice": (3, [4, 4], 9, 16, True, {}),
        "more than a tile": (33, list(range(18)), 30, 20, True, {"scale": 0.5, "softcap": 30.0}),
    },
    real={
        "monoT5, 2 of 32128": (100, [1176, 6136], 32128, 768, False, {"scale": 768**-0.5}),
        "FIRST, 20 of 32000": (8, list(range(20)), 32000, 4096, False, {}),
        "Gemma 2, capped": (100, [1294, 3276], 65536, 2304, False, {"softcap": 30.0}),
    },
    gradients=(0, 1, 3),
)

TOKEN_LOG_PROBS = Case(
    "token_log_probs",
    token_log_probs,
    rows={
        "one row": (1, 3, 8, False, {}),
        "several programs a row": (5, 70, 24, False, {}),
        "several tiles of rows, biased": (18, 33, 16, True, {"scale": 0.3}),
        "capped": (4, 40, 16, True, {"softcap": 2.0}),
    },
    real={"query likelihood": (1024, 32128, 768, False, {"scale": 768**-0.5})},
    gradients=(0, 1, 3),
    folder="target_logits",
)


# --- token vectors ---------------------------------------------------------------------------------------------------


def vectors(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, dtype=dtype)
    return torch.nn.functional.normalize(torch.randn(shape), dim=-1).to(dtype)


def maxsim(
    queries: int,
    query_tokens: int,
    lengths: list[int],
    dim: int,
    masked: bool,
    owners: list[int] | None,
    trained: bool,
    dtype: torch.dtype,
) -> Made:
    """Trained: with gradients to come, so that the kernel keeps the matches also where it is only compiled."""
    tensors = vectors((queries, query_tokens, dim), dtype), vectors((sum(lengths), dim), dtype)
    if trained:
        tensors = tensors[0].requires_grad_(), tensors[1].requires_grad_()
    mask = torch.rand(queries, query_tokens) < 0.6 if masked else None
    if mask is not None:
        mask[0] = False
        mask[0, -1] = True  # all masked but one
    return (*tensors, ends(lengths), mask, None if owners is None else torch.tensor(owners)), {}


def maxsim_top(
    queries: int, query_tokens: int, lengths: list[int], dim: int, cutoff: int, int8: bool, dtype: torch.dtype
) -> Made:
    kind = torch.int8 if int8 else dtype
    (*tensors, _), _ = maxsim(queries, query_tokens, lengths, dim, True, None, False, kind)
    return tuple(tensors), {"cutoff": cutoff}


MAXSIM = Case(
    "maxsim",
    maxsim,
    rows={
        "one of everything": (1, 1, [1], 8, False, None, False),
        "ragged": (2, 5, [3, 17, 1, 33], 40, False, None, False),
        "masked": (3, 7, [4, 16], 16, True, None, False),
        "long queries": (2, 35, [20, 5], 16, True, None, False),
        "each its own query": (3, 4, [5, 2, 18], 16, True, [2, 0, 2], False),
    },
    real={
        "ColBERT, 32 × 300 × 128": (2, 32, [300, 300], 128, False, None, False),
        "ColBERT, training": (2, 32, [300, 180, 420], 128, True, [0, 1, 1], True),
    },
    gradients=(0, 1),
)
MAXSIM_TOP = Case(
    "maxsim_top",
    maxsim_top,
    rows={
        "fewer than all": (2, 3, [4, 7, 1, 2], 16, 2, False),
        "more than all": (1, 2, [3, 3], 8, 10, False),
        "int8": (2, 17, [4, 18, 1], 40, 2, True),
    },
    real={"ColBERT, int8": (2, 32, [300, 300], 128, 1, True)},
    folder="maxsim",
)


def splade_pool(lengths: list[int], vocab: int, dim: int, biased: bool, trained: bool, dtype: torch.dtype) -> Made:
    weight, bias = head(vocab, dim, biased, dtype)
    hidden = torch.randn(sum(lengths), dim).to(dtype).requires_grad_(trained)
    return (hidden, ends(lengths), weight, bias), {}


SPLADE_POOL = Case(
    "splade_pool",
    splade_pool,
    rows={
        "one token": ([1], 5, 8, False, False),
        "ragged, an empty one": ([3, 0, 18], 20, 24, True, False),
        "several tiles": ([33, 16, 1], 35, 16, True, False),
    },
    real={
        "BERT, 30522 terms": ([256, 128], 30522, 768, True, False),
        "BERT, training": ([256, 128], 30522, 768, True, True),
    },
    gradients=(0, 2, 3),
)


# --- lists -----------------------------------------------------------------------------------------------------------


def lists(counts: list[int], grades: int, options: dict[str, Any], dtype: torch.dtype) -> Made:
    """Padded lists; grades 0 stands for a teacher's ranking instead of grades. What is padded holds NaN and rubbish."""
    shape = len(counts), max(counts)
    scores = 3 * torch.randn(shape)
    scores[:, 1:2] = scores[:, :1]  # a tie
    relevance = torch.randint(grades, shape).float() if grades else torch.rand(shape)
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return (scores.masked_fill(~mask, torch.nan).to(dtype), relevance.masked_fill(~mask, 99.0), mask), options


def list_case(op: str, rows: dict[str, tuple[Any, ...]], real: dict[str, dict[str, Any]] | None = None) -> Case:
    """A loss with the lists that any loss must stand; `real` are the options to compile it with."""
    degenerate = {"one document": ([1], 3, {}), "all but one masked": ([1, 5, 0], 3, {})}
    real = real or {"64 lists of 100": {}}
    compiled = {name: ([100] * 64, 4, options) for name, options in real.items()}
    return Case(op, lists, degenerate | rows, compiled, gradients=(0,), folder="list_losses", asked_for=True)


RANKNET = list_case(
    "ranknet",
    {
        f"{name}, {weighting}": (counts, grades, {"weighting": weighting})
        for weighting in ("none", "reciprocal", "ndcg")
        for name, counts, grades in [("grades", [18, 7], 4), ("a ranking", [5, 3], 0)]
    },
    real={f"64 lists of 100, {weighting}": {"weighting": weighting} for weighting in ("none", "reciprocal", "ndcg")},
)
LAMBDARANK = list_case("lambdarank", {"grades": ([18, 7], 4, {}), "no gains": ([4], 1, {})})
LISTMLE = list_case("listmle", {"grades": ([18, 7], 4, {}), "a ranking": ([5, 3], 0, {})})

CASES = [TARGET_LOGITS, TOKEN_LOG_PROBS, MAXSIM, MAXSIM_TOP, SPLADE_POOL, RANKNET, LAMBDARANK, LISTMLE]


def run(folder: str, op: str, provider: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What one provider gives; to be called where kernels run."""
    return Case(op, run, {}, folder=folder).load().providers[provider].run(*args, **options)


def gradients(folder: str, op: str, provider: str, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The gradients of the sum of what one provider gives, for those arguments that are floats."""
    wanted = [arg.requires_grad_() for arg in args if arg.is_floating_point()]
    return torch.autograd.grad(run(folder, op, provider, args, {}).sum(), wanted)
