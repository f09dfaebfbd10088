from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank.algorithms.aggregate import (
    AGGREGATES,
    bradley_terry,
    elo,
    scores_of,
    win_rate,
    wins_of,
)
from rerank.algorithms.blocks import AGGREGATES as OF_BLOCKS
from rerank.algorithms.centrality import eigen, page_rank, rank_centrality
from rerank.errors import InputError

WINS = np.array([[0.0, 3, 3], [1, 0, 3], [0, 1, 0]])  # the true order is 0, 1, 2


def order(scores) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def comparisons(size: int):
    """A perfect judge's: the lower index wins in both orders."""
    first = np.triu(np.ones((size, size)))
    np.fill_diagonal(first, np.nan)
    return first


def test_bradley_terry_is_the_maximum_likelihood_for_a_prior_that_vanishes():
    strength = np.exp(bradley_terry(WINS, prior=1e-9, tolerance=1e-12))
    strength /= np.exp(np.log(strength).mean())

    np.testing.assert_allclose(strength, [3.905, 1.0, 0.256], atol=5e-4)


def test_bradley_terry_is_where_its_likelihood_is_flat():
    theta = bradley_terry(WINS, tolerance=1e-12)

    expected = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))  # P(i beats j)
    gradient = (WINS * (1 - expected) - WINS.T * expected).sum(1) + 0.5 * (1 - 2 / (1 + np.exp(-theta)))
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


def test_page_rank_has_its_artefact_and_no_more():
    np.testing.assert_allclose(page_rank(WINS), [0.401, 0.453, 0.146], atol=5e-4)


def test_the_main_eigenvector_is_of_wins_and_not_of_losses():
    strength = eigen(WINS, prior=1e-12, tolerance=1e-13)

    value = (WINS @ strength)[0] / strength[0]
    np.testing.assert_allclose(WINS @ strength, value * strength, atol=1e-9)
    assert order(strength) == [0, 1, 2]


def test_rank_centrality_leaves_as_much_as_it_brings():
    share = rank_centrality(WINS, prior=1.0, tolerance=1e-13)

    # detailed balance does not hold in general; the flow into each document is the flow out of it
    met = (WINS + WINS.T) > 0
    going = np.where(met, (WINS.T + 1) / (WINS + WINS.T + 2), 0) / 2
    np.testing.assert_allclose(going.T @ share, share * going.sum(1), atol=1e-9)
    assert order(share) == [0, 1, 2]


@pytest.mark.parametrize("name", OF_BLOCKS)
def test_an_aggregate_of_blocks_sees_wins_as_wins(name):
    wins = np.triu(np.ones((6, 6)), 1)  # no document contradicts another

    assert order(OF_BLOCKS[name](wins)) == list(range(6))
    assert order(OF_BLOCKS[name](wins.T)) == list(range(5, -1, -1))


@pytest.mark.parametrize("name", OF_BLOCKS)
def test_a_document_that_never_won_stands_last_and_parts_that_never_met_stay_finite(name):
    wins = np.zeros((7, 7))
    wins[:3, :3] = WINS
    wins[0, 3] = wins[1, 3] = wins[2, 3] = 1.0  # 3 never won; 4 and 5 met nobody else; 6 met nobody at all
    wins[4, 5] = 1.0

    scores = OF_BLOCKS[name](wins)

    assert np.isfinite(scores).all()
    assert scores[3] < scores[:2].min()  # Elo also counts how often 2 has lost
    assert scores[4] > scores[5]
    assert scores[6] == scores[:6].min()


def test_win_rate_by_hand():
    np.testing.assert_allclose(win_rate(WINS), [6 / 7, 4 / 8, 1 / 7])


def test_elo_of_one_game_by_hand():
    np.testing.assert_allclose(elo(np.array([[0.0, 1], [0, 0]])), [8.0, -8.0])


def test_elo_is_seeded_and_does_not_lean_on_one_order():
    assert elo(WINS, seed=3).tolist() == elo(WINS, seed=3).tolist()
    assert elo(WINS, seed=3).tolist() != elo(WINS, seed=4).tolist()
    assert order(elo(WINS, rounds=200)) == [0, 1, 2]


def test_agreement_wins_and_everything_else_is_half_a_win_for_each():
    nan = float("nan")
    first = np.array([[nan, 0.9, 0.9, nan], [0.2, nan, nan, nan], [0.8, 0.9, nan, nan], [nan, nan, nan, nan]])

    wins = wins_of(first)

    assert wins.tolist() == [[0, 1, 0.5, 0], [0, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_duo_sums_by_hand():
    first = np.array([[np.nan, 0.9, 0.6], [0.3, np.nan, 0.8], [0.5, 0.1, np.nan]])

    np.testing.assert_allclose(scores_of(first, "sum"), [1.5, 1.1, 0.6])
    np.testing.assert_allclose(scores_of(first, "sym-sum"), [0.9 + 0.7 + 0.6 + 0.5, 0.3 + 0.1 + 0.8 + 0.9, 0.9 + 0.3])
    np.testing.assert_allclose(scores_of(first, "log-sum"), np.log([0.9 * 0.6, 0.3 * 0.8, 0.5 * 0.1]))
    np.testing.assert_allclose(scores_of(first, "binary"), [2, 1, 0])
    np.testing.assert_allclose(scores_of(first, "min"), [0.6, 0.3, 0.1])
    np.testing.assert_allclose(scores_of(first, "max"), [0.9, 0.8, 0.5])


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 12])
def test_every_aggregate_puts_what_a_perfect_judge_says_in_order(name, size):
    scores = scores_of(comparisons(size), name)

    assert scores.shape == (size,)
    assert np.isfinite(scores).all()
    if name in ("min", "max"):  # they see the best and the worst opponent alone
        assert size < 2 or scores[0] >= scores[-1]
    else:
        assert order(scores) == list(range(size))


@pytest.mark.parametrize("name", sorted(set(AGGREGATES) - {"elo"}))  # elo draws its games by number
@given(seed=st.integers(0, 2**32 - 1))
def test_every_aggregate_looks_the_same_way_round(name, seed):
    """The mirror image: all documents renumbered backwards give the scores backwards."""
    random = np.random.default_rng(seed)
    first = random.random((5, 5))
    np.fill_diagonal(first, np.nan)

    np.testing.assert_allclose(scores_of(first[::-1, ::-1], name), scores_of(first, name)[::-1], atol=1e-5)


@pytest.mark.parametrize("aggregate", [bradley_terry, elo, page_rank, eigen, rank_centrality])
def test_what_was_never_compared_has_the_lowest_score(aggregate):
    wins = np.zeros((4, 4))
    wins[:3, :3] = WINS

    scores = aggregate(wins)

    assert scores[3] == scores[:3].min()


def test_parts_that_were_never_compared_have_finite_strengths():
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 1.0

    strengths = bradley_terry(wins)

    assert np.isfinite(strengths).all()
    assert strengths[0] == pytest.approx(strengths[2])
    assert strengths[0] > strengths[1]


def test_what_cannot_be_is_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"there is no aggregate 'mean'; there is wins, win-rate, sum"):
        scores_of(comparisons(2), "mean")
    with pytest.raises(InputError, match="prior=0"):
        bradley_terry(WINS, prior=0)
    with pytest.raises(InputError, match="rounds=0"):
        elo(WINS, rounds=0)
