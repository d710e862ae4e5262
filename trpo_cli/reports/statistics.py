"""Statistics of few seeds (Agarwal et al. 2021): interquartile mean, performance profile, who beats whom.

Scores are given task by task, each ``[n_seeds]``. Intervals are 95% percentile bootstraps that are stratified: seeds
are drawn again within each task, so that every task keeps its weight.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Scores = Sequence[Floats]  # by task: [n_seeds]
Interval = tuple[float, float, float]  # the value, and the ends of its interval

RESAMPLES = 2000
ENDS = (0.025, 0.975)


def interquartile_mean(scores: Scores) -> float:
    """Return the mean of the middle half of all scores; a quarter, rounded down, is cut off at either end."""
    ordered = np.sort(np.concatenate(scores))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Return how often a seed of ours beats a seed of theirs on the same task; ties count half; the mean over tasks."""
    wins = [np.sign(np.subtract.outer(x, y)).mean() for x, y in zip(ours, theirs, strict=True)]
    return float((1 + np.mean(wins)) / 2)


def performance_profile(scores: Scores, thresholds: Floats) -> Floats:
    """Return the fraction of all scores above each threshold, `[n_thresholds]`."""
    above: Floats = (np.concatenate(scores)[:, None] > thresholds).mean(axis=0)
    return above


def with_interval(statistic: Callable[..., float], *groups: Scores) -> Interval:
    """Return ``statistic(*groups)`` and the ends of its interval. An interval of single seeds has width 0."""
    rng = np.random.default_rng(0)
    found = [statistic(*([rng.choice(x, len(x)) for x in scores] for scores in groups)) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, ENDS)
    return statistic(*groups), float(low), float(high)


def profile_with_interval(scores: Scores, thresholds: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the performance profile and the ends of its interval, `[n_thresholds]` each."""
    rng = np.random.default_rng(0)
    found = [performance_profile([rng.choice(x, len(x)) for x in scores], thresholds) for _ in range(RESAMPLES)]
    low, high = np.quantile(found, ENDS, axis=0)
    return performance_profile(scores, thresholds), low, high


def mean_with_interval(table: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean over seeds and the ends of its interval, each `[T]`.

    table: `[n_seeds, T]`, NaN if a seed has no value. The interval of a single seed has width 0.
    """
    draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    weights = np.stack([(draws == seed).sum(axis=1) for seed in range(len(table))], axis=1)
    present = ~np.isnan(table)
    n = weights @ present
    # A resample may miss every seed that has this iteration. It is then left out.
    means = np.divide(weights @ np.nan_to_num(table), n, out=np.full(n.shape, np.nan), where=n > 0)
    some = present.any(axis=0)
    mean = np.divide(np.nansum(table, axis=0), present.sum(axis=0), out=np.full(n.shape[1], np.nan), where=some)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    low[some], high[some] = np.nanquantile(means[:, some], ENDS, axis=0)
    return mean, low, high
