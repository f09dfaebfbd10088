"""All losses: values by hand, and what holds of each, whatever it computes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rerank.errors import InputError
from training.losses import (
    LOSSES,
    curriculum,
    language,
    listwise,
    masked,
    of_lists,
    pairwise,
    pointwise,
    sequential,
    sparse,
)

LISTS = of_lists()
ON = torch.ones(1, 3, dtype=torch.bool)
SCORES = torch.tensor([[2.0, 1.0, 0.0]])
FIRST_IS_RIGHT = torch.tensor([[1.0, 0.0, 0.0]])
GRADED = torch.tensor([[0.0, 2.0, 1.0]])


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


SHARES = [math.exp(2 - k) / (math.e**2 + math.e + 1) for k in range(3)]
IDEAL = 3 / 1 + 1 / math.log2(3)  # exponential gains 3 and 1
APPROXIMATE = [
    1 + sigmoid(-1) + sigmoid(-2),
    1 + sigmoid(1) + sigmoid(-1),
    1 + sigmoid(2) + sigmoid(1),
]

BY_HAND: dict[str, tuple[Tensor, Tensor, dict[str, Any], float]] = {
    "bce": (SCORES, FIRST_IS_RIGHT, {}, (softplus(-2) + softplus(1) + softplus(0)) / 3),
    "balanced-bce": (SCORES, FIRST_IS_RIGHT, {}, (2 * softplus(-2) + softplus(1) + softplus(0)) / 3),
    "group-ce": (SCORES, FIRST_IS_RIGHT, {}, -math.log(SHARES[0])),
    "infonce": (
        SCORES,
        FIRST_IS_RIGHT,
        {"temperature": 0.5},
        math.log(math.exp(4) + math.exp(2) + 1) - 4,
    ),
    "softmax": (SCORES, GRADED, {}, -2 * math.log(SHARES[1]) - math.log(SHARES[2])),
    "poly1": (
        SCORES,
        FIRST_IS_RIGHT,
        {"epsilon": 2.0},
        -math.log(SHARES[0]) + 2 * (1 - SHARES[0]),
    ),
    "listnet": (SCORES, SCORES, {}, -sum(share * math.log(share) for share in SHARES)),
    "kl": (
        SCORES,
        torch.zeros(1, 3),
        {},
        sum((math.log(1 / 3) - math.log(share)) / 3 for share in SHARES),
    ),
    "listmle": (
        SCORES,
        torch.tensor([[1.0, 2.0, 0.0]]),  # true order: second, first, third
        {},
        -math.log(SHARES[1]) + softplus(-2),
    ),
    "p-listmle": (
        SCORES,
        torch.tensor([[1.0, 2.0, 0.0]]),
        {},
        (3 * -math.log(SHARES[1]) + 1 * softplus(-2)) / 4,  # weights 2^2 - 1, 2^1 - 1, 2^0 - 1
    ),
    "rcr": (
        SCORES,
        FIRST_IS_RIGHT,
        {"alpha": 0.25},
        0.75 * (softplus(-2) + softplus(1) + softplus(0)) / 3
        - 0.25 * math.log(sigmoid(2) / (sigmoid(2) + sigmoid(1) + 0.5)),
    ),
    "mse": (SCORES, torch.tensor([[0.0, 1.0, 3.0]]), {}, (4 + 0 + 9) / 3),
    "margin-mse": (
        SCORES,
        torch.tensor([[5.0, 1.0, 2.0]]),
        {"relevance": FIRST_IS_RIGHT},
        ((1 - 4) ** 2 + (2 - 3) ** 2) / 2,
    ),
    "ranknet": (SCORES, GRADED, {}, (softplus(1) + softplus(2) + softplus(-1)) / 3),
    "ranknet-reciprocal": (
        SCORES,
        GRADED,
        {},
        (softplus(1) / 4 + softplus(2) / 5 + softplus(-1) / 3) / 3,  # ranks 3, 1, 2
    ),
    "ranknet-ndcg": (
        SCORES,
        FIRST_IS_RIGHT,
        {},
        (1 - 1 / math.log2(3)) * (softplus(-1) + softplus(-2)) / 2,  # the others share rank 2
    ),
    "lambdarank": (
        SCORES,
        FIRST_IS_RIGHT,
        {},
        (1 - 1 / math.log2(3)) * softplus(-1) + (1 - 1 / 2) * softplus(-2),
    ),
    "lambdaloss": (
        SCORES,
        FIRST_IS_RIGHT,
        {},
        (
            (1 - 1 / math.log2(3) + 10 * (1 - 1 / math.log2(3))) * softplus(-1)
            + (1 - 1 / 2 + 10 * (1 / math.log2(3) - 1 / 2)) * softplus(-2)
        )
        / math.log(2),
    ),
    "pair-logistic": (SCORES, GRADED, {}, softplus(1) + softplus(2) + softplus(-1)),
    "hinge": (SCORES, GRADED, {"margin": 1.5}, (2.5 + 3.5 + 0.5) / 3),
    "adr-mse": (
        SCORES,
        GRADED,
        {},
        sum((a - r) ** 2 / math.log2(1 + r) for a, r in zip(APPROXIMATE, (3, 1, 2), strict=True)) / 3,
    ),
    "approx-ndcg": (
        SCORES,
        GRADED,
        {},
        1 - (3 / math.log2(1 + APPROXIMATE[1]) + 1 / math.log2(1 + APPROXIMATE[2])) / IDEAL,
    ),
    "neural-ndcg": (
        SCORES * 100,  # so far apart that the permutation is the order
        GRADED,
        {},
        1 - (3 / math.log2(3) + 1 / 2) / IDEAL,
    ),
}


def test_every_loss_over_lists_has_a_value_by_hand() -> None:
    assert sorted(BY_HAND) == LISTS


@pytest.mark.parametrize("name", LISTS)
def test_the_value_is_the_one_by_hand(name: str) -> None:
    scores, target, options, expected = BY_HAND[name]

    [value] = LOSSES[name](scores, target, ON, **options).tolist()

    assert value == pytest.approx(expected, abs=1e-5)


def batch(name: str, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Four lists of 6, 3, 1 and 5 documents in six places, with a target of the loss's kind."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 6, generator=generator, dtype=torch.float64).to(dtype)
    target = {
        "labels": torch.randint(0, 2, (4, 6), generator=generator),
        "gains": torch.randint(0, 4, (4, 6), generator=generator),
        "order": torch.randn(4, 6, generator=generator, dtype=torch.float64),
        "scores": torch.randn(4, 6, generator=generator, dtype=torch.float64),
    }[LOSSES[name].reads].to(dtype)
    target[:, 0] = target.amax(-1).clamp(min=1)  # something is relevant in every list
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 5])[:, None]
    return scores, target, mask


def gradient(run: Callable[..., Tensor], scores: Tensor, *rest: Tensor) -> Tensor:
    scores = scores.clone().requires_grad_()
    [found] = torch.autograd.grad(run(scores, *rest).sum(), [scores])
    return found


@pytest.mark.parametrize("rubbish", [0.0, 1e30, math.nan, -math.inf])
@pytest.mark.parametrize("name", LISTS)
def test_what_stands_at_padding_changes_no_bit(name: str, rubbish: float) -> None:
    scores, target, mask = batch(name)
    loss = LOSSES[name]
    value, slope = loss(scores, target, mask), gradient(loss, scores, target, mask)

    scores, target = scores.masked_fill(~mask, rubbish), target.masked_fill(~mask, rubbish)

    assert torch.equal(loss(scores, target, mask), value)
    assert torch.equal(gradient(loss, scores, target, mask), slope)
    assert torch.equal(slope[~mask], torch.zeros_like(slope[~mask]))
    assert value.isfinite().all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", LISTS)
def test_lists_are_worth_the_same_alone_and_unpadded(name: str) -> None:
    scores, target, mask = batch(name)
    together = LOSSES[name](scores, target, mask)

    for row, count in enumerate(mask.sum(-1).tolist()):
        alone = LOSSES[name](scores[row : row + 1, :count], target[row : row + 1, :count], mask[row : row + 1, :count])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LISTS)
def test_the_order_in_which_documents_stand_does_not_matter(name: str) -> None:
    scores, target, mask = batch(name)
    places = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    if name in ("listmle", "p-listmle", "lambdarank", "lambdaloss"):
        target = target + torch.arange(6) * 1e-3  # equal ones would rank in the order given
    value = LOSSES[name](scores, target, mask)

    moved = LOSSES[name](scores[:, places], target[:, places], mask[:, places])

    torch.testing.assert_close(moved, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LISTS)
def test_a_constant_changes_nothing_where_that_is_said_and_only_there(name: str) -> None:
    scores, target, mask = batch(name)
    value, shifted = LOSSES[name](scores, target, mask), LOSSES[name](scores + 3.0, target, mask)

    assert torch.allclose(value, shifted, rtol=1e-4, atol=1e-5) == LOSSES[name].shifts


@pytest.mark.parametrize("name", LISTS)
def test_the_gradient_is_that_of_small_differences(name: str) -> None:
    scores, target, mask = batch(name, dtype=torch.float64)

    assert LOSSES[name](scores, target, mask).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda given: LOSSES[name](given, target, mask), [scores.requires_grad_()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LISTS)
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    scores, target, mask = batch(name)
    half = scores.to(dtype)

    value = LOSSES[name](half, target, mask)

    assert value.dtype == torch.float32
    torch.testing.assert_close(value, LOSSES[name](half.float(), target, mask))
    assert gradient(LOSSES[name], half, target, mask).dtype == dtype


@pytest.mark.parametrize("name", LISTS)
def test_a_step_against_the_gradient_makes_it_smaller(name: str) -> None:
    scores, target, mask = batch(name)
    slope = gradient(LOSSES[name], scores, target, mask)

    before, after = LOSSES[name](scores, target, mask).sum(), LOSSES[name](scores - 1e-3 * slope, target, mask).sum()

    assert slope.abs().max() > 0
    assert after < before


@pytest.mark.parametrize("name", [name for name in LISTS if LOSSES[name].reads in ("labels", "gains")])
def test_a_list_without_anything_relevant_is_finite(name: str) -> None:
    scores, _, mask = batch(name)
    nothing = torch.zeros_like(scores)

    assert LOSSES[name](scores, nothing, mask).isfinite().all()
    assert gradient(LOSSES[name], scores, nothing, mask).isfinite().all()


@pytest.mark.parametrize("name", ["ranknet", "hinge", "pair-logistic", "group-ce", "infonce", "approx-ndcg", "rcr"])
def test_extreme_scores_stay_finite(name: str) -> None:
    _, target, mask = batch(name)
    scores = torch.where(torch.arange(6) % 2 == 0, 1e4, -1e4).expand(4, 6)

    assert LOSSES[name](scores, target, mask).isfinite().all()
    assert gradient(LOSSES[name], scores, target, mask).isfinite().all()


def test_a_second_relevant_document_competes_in_infonce_and_not_in_group_ce() -> None:
    labels = torch.tensor([[1.0, 1.0, 0.0]])

    [group] = listwise.group_ce(SCORES, labels, ON).tolist()
    [info] = listwise.infonce(SCORES, labels, ON).tolist()

    assert group == pytest.approx((softplus(-2) + softplus(-1)) / 2, abs=1e-6)
    assert info == pytest.approx(-(math.log(SHARES[0]) + math.log(SHARES[1])) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("ndcg1", (softplus(-1) + softplus(-2)) / math.log(2)),
        ("ndcg2", ((1 - 1 / math.log2(3)) * softplus(-1) + (1 / math.log2(3) - 0.5) * softplus(-2)) / math.log(2)),
        ("lambdarank", ((1 - 1 / math.log2(3)) * softplus(-1) + 0.5 * softplus(-2)) / math.log(2)),
    ],
)
def test_lambdaloss_weighs_pairs_by_its_scheme(scheme: pairwise.Scheme, expected: float) -> None:
    [value] = pairwise.lambdaloss(SCORES, FIRST_IS_RIGHT, ON, scheme=scheme).tolist()

    assert value == pytest.approx(expected, abs=1e-5)


def test_margin_mse_looks_at_margins_alone_and_at_all_pairs_without_labels() -> None:
    teacher = torch.tensor([[5.0, 1.0, 2.0]])

    [every] = pairwise.margin_mse(SCORES, teacher, ON).tolist()
    [moved] = pairwise.margin_mse(SCORES, teacher + 100, ON).tolist()

    assert every == pytest.approx(((1 - 4) ** 2 + (2 - 3) ** 2 + (1 + 1) ** 2) / 3)
    assert moved == pytest.approx(every)


def test_judged_pairs_alone_are_distilled() -> None:
    judged = torch.full((1, 3, 3), math.nan)
    judged[0, 0, 1], judged[0, 1, 2] = 1.0, 0.5

    [value] = pairwise.preference_logistic(SCORES, judged, ON).tolist()
    slope = gradient(lambda scores: pairwise.preference_logistic(scores, judged, ON), SCORES)

    assert value == pytest.approx((softplus(-1) + (softplus(1) + softplus(-1)) / 2) / 2)
    assert slope.isfinite().all()


def test_in_rankers_loss_is_over_both_words_and_centres_the_teacher_alone() -> None:
    logits = torch.tensor([[[0.0, 1.0], [2.0, 2.0], [math.nan, 0.0]]])
    teacher = torch.tensor([[[3.0, 5.0], [1.0, 2.0], [0.0, math.nan]]])
    mask = torch.tensor([[True, True, False]])

    [plain] = pointwise.mse_logits(logits, teacher, mask).tolist()
    [centred] = pointwise.mse_logits(logits, teacher, mask, centred=True).tolist()

    assert plain == pytest.approx(((9 + 16) / 2 + (1 + 0) / 2) / 2)
    assert centred == pytest.approx(((1 + 0) / 2 + (2.5**2 + 1.5**2) / 2) / 2)


def test_language_losses_by_hand() -> None:
    logs = torch.tensor([[-1.0, -2.0, -4.0, math.nan]])
    mask = torch.tensor([[True, True, True, False]])
    ranks = torch.tensor([[1, 0, 3, 7]])

    assert language.lm(logs, mask).tolist() == pytest.approx([7 / 3])
    # the id at rank 1 weighs 2, a separator 1, the id at rank 3 weighs 1.5; the sum is divided by 3 tokens, not by 4.5
    assert language.importance_weighted_lm(logs, ranks, mask).tolist() == pytest.approx([(2 + 2 + 6) / 3])
    expected = -sum(math.log(1 - math.exp(value)) for value in (-1, -2, -4)) / 3
    assert language.unlikelihood(logs, mask).tolist() == pytest.approx([expected])
    assert language.unlikelihood(torch.zeros(1, 2), mask[:, :2]).isfinite().all()


def test_firsts_loss_joins_writing_and_ranking() -> None:
    logs, written = torch.tensor([[-1.0, -3.0]]), torch.ones(1, 2, dtype=torch.bool)
    reciprocal = (softplus(1) / 4 + softplus(2) / 5 + softplus(-1) / 3) / 3

    [value] = language.first(logs, written, SCORES, GRADED, ON, weight=10.0).tolist()

    assert value == pytest.approx(2 + 10 * reciprocal)


@pytest.mark.parametrize("run", [language.lm, language.unlikelihood], ids=["lm", "unlikelihood"])
def test_language_losses_have_the_gradient_of_small_differences(run: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    logs = -torch.rand(2, 5, generator=generator, dtype=torch.float64) - 0.1
    mask = torch.arange(5) < torch.tensor([[5], [2]])
    weighted = partial(language.importance_weighted_lm, ranks=torch.arange(5).expand(2, 5), mask=mask)

    assert torch.autograd.gradcheck(lambda given: run(given, mask), [logs.requires_grad_()])
    assert torch.autograd.gradcheck(weighted, [logs])


# -- over an order that is decoded step by step: logits at each step of each document, [lists, steps, docs] --------

ORDER = torch.tensor([[1.0, 2.0, 0.0]])  # second, first, third
STEPS = torch.tensor([[[0.0, 1.0, 2.0], [3.0, 9.0, 1.0], [5.0, 7.0, 4.0]]])
FULL = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 9.0, 0.0], [5.0, 7.0, 4.0]]])
CHOSEN = (2 + math.log(math.exp(-2) + math.exp(-1) + 1) - 1, softplus(-2))  # the third step has one left


def kl(teacher: list[float], student: list[float]) -> float:
    ours, theirs = ([math.exp(value) / sum(map(math.exp, row)) for value in row] for row in (student, teacher))
    return sum(t * math.log(t / s) for t, s in zip(theirs, ours, strict=True))


SEQUENTIAL: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mle": lambda logits, target, mask: sequential.sequential_mle(logits[0], target, mask),
    "kl": lambda logits, target, mask: sequential.sequential_kl(logits[0], logits[1], target, mask),
    "pe-rank": lambda logits, target, mask: LOSSES["pe-rank"](logits[0], logits[1], target, mask, contents=0.5, kl=0.2),
}
"""Of both decodings in one tensor, [2, lists, steps, docs]."""


def decodings(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Four lists of 6, 3, 1 and 5 documents, decoded twice."""
    _, _, mask = batch("listmle")
    generator = torch.Generator().manual_seed(3)
    logits, target = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((2, 4, 6, 6), (4, 6)))
    return logits, target, mask


def test_sequential_losses_by_hand() -> None:
    [mle] = sequential.sequential_mle(STEPS, ORDER, ON).tolist()
    [apart] = sequential.sequential_kl(STEPS, FULL, ORDER, ON).tolist()
    [both] = LOSSES["pe-rank"](STEPS, FULL, ORDER, ON).tolist()
    [weighed] = LOSSES["pe-rank"](STEPS, FULL, ORDER, ON, contents=0.5, kl=2.0).tolist()

    distance = kl([1, 1, 1], [0, 1, 2]) + kl([0, 0], [3, 1])  # at the second step the second is no candidate any more
    full = math.log(3) + math.log(2)
    assert mle == pytest.approx(sum(CHOSEN), abs=1e-6)
    assert apart == pytest.approx(distance, abs=1e-6)
    assert both == pytest.approx(sum(CHOSEN) + full + 0.2 * distance, abs=1e-6)
    assert weighed == pytest.approx(sum(CHOSEN) + 0.5 * full + 2 * distance, abs=1e-6)
    assert sequential.sequential_kl(STEPS, STEPS, ORDER, ON).tolist() == [0.0]


def test_steps_that_all_say_the_same_are_listmle() -> None:
    scores, target, mask = batch("listmle")

    losses = sequential.sequential_mle(scores[:, None, :].expand(4, 6, 6), target, mask)

    torch.testing.assert_close(losses, listwise.listmle(scores, target, mask))


@pytest.mark.parametrize("rubbish", [0.0, 1e30, math.nan, -math.inf])
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_what_was_chosen_and_what_is_padding_changes_no_bit_of_a_sequence(name: str, rubbish: float) -> None:
    logits, target, mask = decodings()
    loss = SEQUENTIAL[name]
    value, slope = loss(logits, target, mask), gradient(loss, logits, target, mask)
    left = torch.zeros(4, 6, 6, dtype=torch.bool)
    for row, count in enumerate(mask.sum(-1).tolist()):
        order = sorted(range(count), key=target[row].tolist().__getitem__, reverse=True)
        for step in range(count):
            left[row, step, order[step:]] = True

    logits, target = logits.masked_fill(~left, rubbish), target.masked_fill(~mask, rubbish)

    assert torch.equal(loss(logits, target, mask), value)
    assert torch.equal(gradient(loss, logits, target, mask), slope)
    assert torch.equal(slope[:, ~left], torch.zeros_like(slope[:, ~left]))
    assert slope.isfinite().all()
    assert value[2] == 0  # a list of one


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_sequences_loss_is_its_own_whatever_stands_beside_it_in_which_order(name: str) -> None:
    logits, target, mask = decodings()
    together, moved = (
        SEQUENTIAL[name](logits, target, mask),
        torch.randperm(6, generator=torch.Generator().manual_seed(1)),
    )

    for row, count in enumerate(mask.sum(-1).tolist()):
        alone = SEQUENTIAL[name](
            logits[:, row : row + 1, :count, :count], target[row : row + 1, :count], ON.new_ones(1, count)
        )
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)
    shown_otherwise = SEQUENTIAL[name](logits[..., moved], target[:, moved], mask[:, moved])
    torch.testing.assert_close(shown_otherwise, together, rtol=1e-5, atol=1e-6)
    shifted = SEQUENTIAL[name](logits + torch.arange(6)[:, None], target, mask)  # another constant at each step
    torch.testing.assert_close(shifted, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_sequences_gradient_is_that_of_small_differences_and_its_dtype_is_kept(name: str) -> None:
    logits, target, mask = decodings(torch.float64)

    assert SEQUENTIAL[name](logits, target, mask).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda given: SEQUENTIAL[name](given, target, mask), [logits.requires_grad_()])
    for dtype in (torch.bfloat16, torch.float16):
        half = decodings()[0].to(dtype)
        value = SEQUENTIAL[name](half, target.float(), mask)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, SEQUENTIAL[name](half.float(), target.float(), mask))
        assert gradient(SEQUENTIAL[name], half, target.float(), mask).dtype == dtype


def test_flops_takes_the_mean_first_and_squares_then() -> None:
    weights = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]], dtype=torch.float64)

    assert sparse.flops(weights).item() == pytest.approx(2**2 + 1**2)
    assert torch.autograd.gradcheck(sparse.flops, [weights.requires_grad_()])


def test_the_regularisers_weight_grows_quadratically_and_stops() -> None:
    assert [sparse.quadratic(0.5, step, 100) for step in (0, 50, 100, 200)] == [0.0, 0.125, 0.5, 0.5]
    with pytest.raises(InputError, match="over 0 steps; say at least 1"):
        sparse.quadratic(0.5, 1, 0)


def test_a_curriculum_begins_with_what_is_easy_and_ends_with_all() -> None:
    ease = curriculum.pair_ease(torch.tensor([1.0, 0.2]), torch.tensor([0.2, 1.0]))

    assert ease.tolist() == pytest.approx([0.9, 0.1])
    assert curriculum.curriculum_weights(ease, 0).tolist() == pytest.approx([0.9, 0.1])
    assert curriculum.curriculum_weights(ease, 10).tolist() == pytest.approx([0.95, 0.55])
    assert curriculum.curriculum_weights(ease, 25).tolist() == [1.0, 1.0]
    relevant = torch.tensor([True, False])
    assert curriculum.point_ease(torch.tensor([0.8, 0.8]), relevant).tolist() == pytest.approx([0.8, 0.2])
    assert curriculum.reciprocal(torch.tensor([1.0, 4.0])).tolist() == [1.0, 0.25]


def test_first_stage_scores_become_worths_between_0_and_1() -> None:
    from scipy.stats import gaussian_kde

    scores, mask = torch.tensor([[4.0, 2.0, 3.0, math.nan]]), torch.tensor([[True, True, True, False]])

    smoothed = curriculum.density(scores, mask)

    assert curriculum.spread(scores, mask).tolist() == [[1.0, 0.0, 0.5, 0.0]]
    kde = gaussian_kde([4.0, 2.0, 3.0])
    expected = [kde.integrate_box_1d(-math.inf, value) for value in (4.0, 2.0, 3.0)]
    assert smoothed[0].tolist() == pytest.approx([*expected, 0.0], abs=1e-5)


def test_equal_documents_share_their_approximate_rank() -> None:
    ranks = masked.approximate_ranks(torch.tensor([[1.0, 1.0, 0.0]]), ON, 1e-3)

    assert ranks[0].tolist() == pytest.approx([1.5, 1.5, 3.0])


FUSED = """
import torch
from training.losses.pairwise import lambdarank, ranknet
from training.losses.listwise import listmle
torch.manual_seed(0)
mask = torch.arange(5) < torch.tensor([[5], [3]])
for run in (ranknet, lambdarank, listmle):
    both = []
    for fused in (False, True):
        torch.manual_seed(1)
        scores, gains = torch.randn(2, 5, requires_grad=True), torch.tensor([[2.0, 0, 1, 0, 3], [0, 1, 2, 0, 0]])
        losses = run(scores, gains, mask, fused=fused)
        losses.sum().backward()
        both.append(torch.cat([losses.detach(), scores.grad.flatten()]))
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4)
print("equal")
"""


def test_the_fused_kernels_behind_the_switch_say_the_same() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}

    ran = subprocess.run([sys.executable, "-c", FUSED], env=environment, capture_output=True, text=True)

    assert ran.stdout == "equal\n", ran.stderr
