"""Laws of reward-weighted regression: the best episodes by return, and the policy most likely to have acted so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from random_batches import KINDS, draw, in_workers, share_of
from torch import Tensor

import trpo_cli.samplers.batch as batch_module
from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Updated
from trpo_cli.optimizers.rwr import RewardWeightedRegression
from trpo_cli.optimizers.surrogate import change
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import chunks
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch, Paths
from trpo_cli.samplers.randomness import Draw

WORLD = Group()
EITHER = pytest.mark.parametrize("kind", KINDS)


def update(
    drawn: tuple[NetworkPolicy, Tensor, Batch],
    group: Group = WORLD,
    elite_fraction: float = 0.3,
    max_evaluations: int = 400,
) -> Updated:
    optimizer = RewardWeightedRegression(elite_fraction, max_evaluations)
    policy, theta, batch = drawn
    return optimizer(policy, theta, batch, Draw(0), group)


def elite_rows(batch: Batch, n_episodes: int) -> np.ndarray:
    """The states of the ``n_episodes`` episodes of the greatest return."""
    assert batch.paths is not None
    return np.flatnonzero(np.isin(batch.paths.episode, np.argsort(batch.paths.returns)[-n_episodes:]))


def log_likelihood(policy: NetworkPolicy, theta: Tensor, batch: Batch, rows: np.ndarray) -> float:
    params = policy.params(theta, policy.tensor(batch.obs[rows]))
    return float(policy.dist.log_prob(params, batch.actions[rows, 0]).mean())


@pytest.mark.parametrize(("fraction", "n_elite"), [(0.1, 2), (0.28, 6), (1.0, 20)])
def test_a_linear_gaussian_policy_fits_the_elite_as_least_squares_does(fraction: float, n_elite: int):
    _, _, batch = drawn = draw("gaussian", 100)
    fitted = update(drawn, elite_fraction=fraction).theta
    rows = elite_rows(batch, n_elite)
    assert len(rows) == 5 * n_elite
    inputs = np.column_stack([batch.obs[rows], np.ones(len(rows))])
    actions = batch.actions[rows, 0].numpy()
    weights, *_ = np.linalg.lstsq(inputs, actions, rcond=None)
    std = (actions - inputs @ weights).std(0)
    expected = np.concatenate([weights[:3].ravel(), weights[3], np.log(std)])
    np.testing.assert_allclose(fitted, expected, rtol=1e-3, atol=1e-3)


@EITHER
@pytest.mark.parametrize("hidden_sizes", [(), (4,)])
def test_the_likelihood_of_the_elite_rises_by_what_the_row_says(kind: str, hidden_sizes: tuple[int, ...]):
    policy, theta, batch = drawn = draw(kind, 100, hidden_sizes=hidden_sizes)
    updated, rows = update(drawn, max_evaluations=30), elite_rows(batch, 6)
    gain = log_likelihood(policy, updated.theta, batch, rows) - log_likelihood(policy, theta, batch, rows)
    assert gain > 0.05 and updated.stats["update/log_likelihood_gain"] == pytest.approx(gain)
    assert updated.stats["update/elite_return"] == np.sort(batch.paths.returns)[-6]  # type: ignore[union-attr]
    assert updated.stats["update/evaluations"] <= 31


def test_what_the_other_episodes_did_plays_no_part():
    policy, theta, batch = draw("gaussian", 100)
    rest = np.setdiff1d(np.arange(100), elite_rows(batch, 6))
    actions = batch.actions.clone()
    actions[rest] += 3
    fits = [update((policy, theta, b)).theta for b in (batch, replace(batch, actions=actions))]
    assert torch.equal(*fits)


def test_the_size_of_the_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    drawn = draw("gaussian", 100)
    whole = update(drawn).theta
    monkeypatch.setattr(batch_module, "chunks", lambda n, size: chunks(n, 7))
    torch.testing.assert_close(update(drawn).theta, whole, rtol=1e-4, atol=1e-4)


def test_episodes_as_good_as_the_last_of_the_elite_belong_to_it():
    policy, theta, batch = draw("gaussian", 100)
    paths = Paths(np.arange(100) // 5, np.repeat([1.0, 2.0], 10))
    tied = update((policy, theta, replace(batch, paths=paths)), elite_fraction=0.1)
    half = update((policy, theta, replace(batch, paths=paths)), elite_fraction=0.5)
    assert torch.equal(tied.theta, half.theta)


def test_the_change_is_measured():
    policy, theta, batch = drawn = draw("gaussian", 100)
    updated = update(drawn)
    before, after = (change(policy, t, batch, WORLD) for t in (theta, updated.theta))
    assert updated.stats["update/mean_kl"] == after.mean_kl > 0
    assert updated.stats["update/max_kl"] == after.max_kl
    assert updated.stats["update/surrogate_gain"] == pytest.approx(after.surrogate - before.surrogate)


def test_too_few_states_for_a_fit_leave_finite_parameters():
    policy, theta, batch = draw("gaussian", 10)
    paths = Paths(np.repeat([0, 1], [2, 8]), np.array([1.0, 0.0]))  # the elite is two states: any action is likely
    updated = update((policy, theta, replace(batch, paths=paths)), elite_fraction=0.5)
    assert torch.isfinite(updated.theta).all()


def test_where_nothing_is_more_likely_the_policy_stays_as_it_is():
    drawn = policy, theta, batch = draw("gaussian", 100)
    nan = replace(batch, actions=torch.full_like(batch.actions, torch.nan))
    updated = update((policy, theta, nan))
    assert updated.theta is theta
    assert updated.stats["update/accepted"] is False and updated.stats["update/reason"] == "no_improvement"
    fitted = update(drawn).theta
    again = update((policy, fitted, batch))
    assert again.stats["update/log_likelihood_gain"] < 1e-6


def test_a_vine_has_no_episodes_to_rank():
    with pytest.raises(ConfigError, match=r"optimizer=rwr .* cannot use sampler=vine; use sampler=single"):
        update(draw("gaussian", 10, k=3))


def test_two_workers_step_as_one_does():
    policy, theta, batch = draw("gaussian", 100)

    def fit(group: Group) -> dict[str, Any]:
        updated = update((policy, theta, share_of(batch, group)), group, max_evaluations=10)
        assert updated.stats.pop("update/reason") == "accepted"
        return {"theta": updated.theta} | updated.stats

    alone = fit(WORLD)
    for other in in_workers(2, fit):
        torch.testing.assert_close(other, alone, rtol=1e-7, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("fraction", [0.0, 1.1, -1.0, np.nan])
def test_settings_out_of_range_are_refused_by_name(fraction: float):
    with pytest.raises(ConfigError, match=rf"optimizer.elite_fraction={fraction} must be in \(0, 1\]"):
        RewardWeightedRegression(fraction, 10)
    with pytest.raises(ConfigError, match=r"optimizer.max_evaluations=0 must be at least 1"):
        RewardWeightedRegression(0.1, 0)
