"""Statistics of few seeds: hand-computed values, and intervals that have the width that theory says."""

import numpy as np
import pytest

from trpo_cli.reports.statistics import (
    interquartile_mean,
    mean_with_interval,
    performance_profile,
    probability_of_improvement,
    profile_with_interval,
    with_interval,
)

X = np.array([10.0, 1.0, 2.0, 3.0, 100.0])
Y = np.array([2.0, 0.0])


def test_by_hand():
    assert interquartile_mean([X]) == pytest.approx((2 + 3 + 10) / 3)  # one of five is cut off at either end
    assert interquartile_mean([X[:3]]) == pytest.approx(13 / 3)  # none of three
    assert interquartile_mean([X, Y, np.zeros(1)]) == pytest.approx((1 + 2 + 2 + 3) / 4)  # two of eight
    assert probability_of_improvement([X], [Y]) == pytest.approx((5 + 3 + 0.5) / 10)  # a tie counts half
    assert probability_of_improvement([X, Y], [Y, X]) == pytest.approx(0.5)
    assert performance_profile([X, Y], np.array([-1.0, 2.0, 100.0])).tolist() == [1.0, 3 / 7, 0.0]


def test_the_interval_of_the_mean_has_the_width_of_the_normal_distribution():
    table = np.random.default_rng(0).normal(5.0, 2.0, size=(400, 1))
    mean, low, high = (float(value[0]) for value in mean_with_interval(table))
    error = table.std() / 20
    assert mean == pytest.approx(table.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_seeds_are_drawn_within_their_task():
    """Tasks of one seed each never change places, however far apart they are."""
    tasks = [np.array([0.0]), np.array([1000.0]), np.array([5.0])]
    assert with_interval(interquartile_mean, tasks) == (335.0, 335.0, 335.0)
    one, low, high = with_interval(probability_of_improvement, [X], [Y])
    assert low < one < high <= 1
    profile, lower, upper = profile_with_interval([X, Y], np.array([2.5]))
    assert lower[0] < profile[0] < upper[0]


def test_the_interval_of_the_interquartile_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [with_interval(interquartile_mean, [rng.normal(size=20)]) for _ in range(40)]
    assert np.mean([low < 0 < high for _, low, high in found]) > 0.8
