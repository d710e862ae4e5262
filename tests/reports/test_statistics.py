"""Statistics of few seeds: hand-computed values, and intervals that hold the truth as often as they say."""

import numpy as np
import pytest
from scipy import stats

from trpo_cli.reports.statistics import (
    improvement_with_interval,
    interquartile_mean,
    interquartile_mean_with_interval,
    mean_with_interval,
    performance_profile,
    probability_of_improvement,
    profile_with_interval,
)

X = np.array([10.0, 1.0, 2.0, 3.0, 100.0])
Y = np.array([2.0, 0.0])
FEW = pytest.mark.parametrize("n", [3, 5, 10])


def test_by_hand():
    assert interquartile_mean([X]) == pytest.approx((2 + 3 + 10) / 3)  # one of five is cut off at either end
    assert interquartile_mean([X, Y]) == pytest.approx((1 + 2 + 2 + 3 + 10) / 5)  # one of seven
    assert interquartile_mean([X[:3]]) == pytest.approx(13 / 3)  # none of three
    assert interquartile_mean([X, Y, np.zeros(1)]) == pytest.approx((1 + 2 + 2 + 3) / 4)  # two of eight
    assert probability_of_improvement([X], [Y]) == pytest.approx((5 + 3 + 0.5) / 10)  # a tie counts half
    assert probability_of_improvement([X, Y], [Y, X]) == pytest.approx(0.5)
    assert performance_profile([X, Y], np.array([-1.0, 2.0, 100.0])).tolist() == [1.0, 3 / 7, 0.0]


def test_the_interval_of_a_mean_is_students():
    table = np.random.default_rng(0).normal(5.0, 2.0, size=(6, 3))
    table[2:, 1], table[1:, 2] = np.nan, np.nan  # two seeds have a value, then one
    mean, low, high = mean_with_interval(table)
    for column, seeds in ((0, table[:, 0]), (1, table[:2, 1])):
        expected = stats.t.interval(0.95, len(seeds) - 1, seeds.mean(), stats.sem(seeds))
        assert (mean[column], low[column], high[column]) == pytest.approx((seeds.mean(), *expected))
    assert mean[2] == low[2] == high[2] == table[0, 2]
    assert np.isnan(mean_with_interval(np.full((2, 1), np.nan))).all()


def test_seeds_are_drawn_within_their_task():
    """Tasks of one seed each never change places, however far apart they are."""
    tasks = [np.array([0.0]), np.array([1000.0]), np.array([5.0])]
    assert interquartile_mean_with_interval(tasks) == (335.0, 335.0, 335.0)


@FEW
@pytest.mark.parametrize("skew", [False, True])
def test_the_interval_of_the_interquartile_mean_holds_the_truth_as_often_as_it_says(n: int, skew: bool):
    seeds = np.random.default_rng(1).normal(size=(300, n))
    median = stats.uniform(0.25, 0.5).expect(lambda p: np.exp(0.5 * stats.norm.ppf(p))) if skew else 0.0
    found = [interquartile_mean_with_interval([np.exp(0.5 * x) if skew else x]) for x in seeds]
    assert 0.92 <= np.mean([low < median < high for _, low, high in found]) <= 0.99


@FEW
@pytest.mark.parametrize("truth", [0.5, 0.9, 0.97])
def test_the_interval_of_the_probability_of_improvement_holds_the_truth_as_often_as_it_says(n: int, truth: float):
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(2**0.5 * stats.norm.ppf(truth), 1, (500, n)), rng.normal(size=(500, n))
    found = [improvement_with_interval([x], [y]) for x, y in zip(ours, theirs, strict=True)]
    assert 0.89 <= np.mean([low <= truth <= high for _, low, high in found]) <= 0.99
    assert all(0 <= low <= value <= high <= 1 for value, low, high in found)


def test_more_tasks_make_the_interval_of_the_probability_of_improvement_narrower():
    _, low, high = improvement_with_interval([X], [Y])
    _, lower, upper = improvement_with_interval([X] * 4, [Y] * 4)
    assert low < lower < 0.85 < upper < high


def test_the_interval_of_a_profile_is_wilsons_and_never_closes():
    profile, low, high = profile_with_interval([X, Y], np.array([-1.0, 2.5, 100.0]))
    for k, *ends in zip((7, 3, 0), low, high, strict=True):
        assert ends == pytest.approx(stats.binomtest(k, 7).proportion_ci(method="wilson"))
    assert (low <= profile).all() and (profile <= high).all() and (high - low > 0.3).all()
