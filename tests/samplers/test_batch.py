"""Laws of the three estimators of Section 5 and of the change of policy, by hand and by independent formulas."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import random_batches
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from toy_sims import Chain, Echo, mlp

import trpo_cli.samplers.batch as batch_module
from trpo_cli.optimizers.surrogate import change, surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import chunks
from trpo_cli.policies.distributions import FactoredCategorical
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import ESTIMATORS, Batch, all_actions, importance, self_normalised

WORLD, M, K = Group(), 6, 3
EVERY = pytest.mark.parametrize("estimator", ["importance", "self_normalised", "all_actions"])


def policy_for(estimator: str) -> NetworkPolicy:
    return mlp(Chain() if estimator == "all_actions" else Echo(), (4,))


def draw(estimator: str, seed: int = 0, m: int = M) -> tuple[NetworkPolicy, Tensor, Batch]:
    """A policy, its θ_old, and a batch of ``m`` states drawn with it."""
    rng = np.random.default_rng(seed)
    policy = policy_for(estimator)
    theta = torch.from_numpy(0.5 * rng.standard_normal(policy.n_parameters))
    obs = rng.standard_normal((m, policy.network.sizes[0]))
    old, dist = policy.params(theta, policy.tensor(obs)), policy.dist
    if isinstance(dist, FactoredCategorical):
        actions = torch.from_numpy(dist.all_actions()).expand(m, -1, -1)
    else:
        actions = dist.sample(old[:, None], torch.from_numpy(dist.draw_noise(rng, (m, K))).double())
    values = torch.from_numpy(rng.standard_normal((m, K)))
    return policy, theta, Batch(obs, old, actions, values, dist.log_prob(old[:, None], actions), estimator, m)


def gradient_of(policy: NetworkPolicy, theta: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.func.grad(objective)(theta)


# Two states, two actions of one factor with three choices; π_θ = (1/2, 1/4, 1/4) and (1/4, 1/4, 1/2), q uniform.
HAND = FactoredCategorical((3,))
PARAMS = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]).double().log()
TRIED = torch.tensor([[[0], [1]], [[2], [2]]])
VALUES = torch.tensor([[2.0, -4.0], [1.0, 3.0]]).double()
THIRDS = torch.full((2, 2), 1 / 3).double().log()


def by_hand(estimator: str) -> Batch:
    return Batch(np.zeros((2, 1)), PARAMS, TRIED, VALUES, THIRDS, estimator, 2)


def test_equation_14_by_hand():
    # ratios 3/2, 3/4 | 3/2, 3/2:   (3 - 3) / 2  +  (3/2 + 9/2) / 2
    assert float(importance(HAND, PARAMS, by_hand("importance"))) == pytest.approx(3.0)


def test_equation_15_by_hand():
    every = torch.tensor([[[0], [1], [2]]] * 2)
    q_values = torch.tensor([[2.0, -4.0, 8.0], [1.0, 3.0, -1.0]]).double()
    b = replace(by_hand("all_actions"), actions=every, advantages=q_values, log_q=torch.zeros(2, 3).double())
    assert float(all_actions(HAND, PARAMS, b)) == pytest.approx((1 - 1 + 2) + (0.25 + 0.75 - 0.5))


def test_equation_16_by_hand():
    # weights 3/2 : 3/4 and 1 : 1:   (2 · 2 - 4) / 3  +  (1 + 3) / 2
    assert float(self_normalised(HAND, PARAMS, by_hand("self_normalised"))) == pytest.approx(0.0 + 2.0)
    skewed = torch.tensor([[1 / 2, 1 / 4], [1 / 3, 1 / 6]]).double().log()  # weights 1 : 1 and 3/2 : 3
    b = replace(by_hand("self_normalised"), log_q=skewed)
    assert float(self_normalised(HAND, PARAMS, b)) == pytest.approx(-1.0 + 7 / 3)


@EVERY
def test_the_gradient_at_the_old_policy_is_the_policy_gradient(estimator: str):
    policy, theta, b = draw(estimator)
    log_prob = policy.dist.log_prob
    if estimator == "importance":
        weights = b.advantages / K  # each of K samples of π_old
    elif estimator == "all_actions":
        weights = b.advantages * b.log_q.exp()  # the expectation itself
    else:
        weights = (b.advantages - b.advantages.mean(1, keepdim=True)) / K  # the other actions are the baseline

    def score(p: Tensor) -> Tensor:
        return (weights * log_prob(policy.params(p, policy.tensor(b.obs))[:, None], b.actions)).sum() / M

    gradient, _ = surrogate_gradient(policy, theta, b, WORLD)
    torch.testing.assert_close(gradient, gradient_of(policy, theta, score))


@EVERY
def test_value_and_gradient_are_those_of_the_mean_over_states_away_from_the_old_policy_too(estimator: str):
    policy, theta, b = draw(estimator)
    elsewhere = theta + 0.1

    def objective(p: Tensor) -> Tensor:
        return ESTIMATORS[estimator](policy.dist, policy.params(p, policy.tensor(b.obs)), b) / M

    gradient, value = surrogate_gradient(policy, elsewhere, b, WORLD)
    torch.testing.assert_close(gradient, gradient_of(policy, elsewhere, objective))
    assert value == pytest.approx(float(objective(elsewhere))) == change(policy, elsewhere, b, WORLD).surrogate


def test_averaged_over_the_actions_drawn_equation_14_is_equation_15():
    policy, theta, b = draw("all_actions")
    exact, value = surrogate_gradient(policy, theta, b, WORLD)
    total, total_value = torch.zeros_like(exact), 0.0
    for m in range(M):  # the gradient of one state and one action, weighted by the action's probability
        for k in range(K):
            one = replace(b.rows(slice(m, m + 1)), actions=b.actions[m : m + 1, k : k + 1], estimator="importance")
            one = replace(one, advantages=b.advantages[m : m + 1, k : k + 1], log_q=b.log_q[m : m + 1, k : k + 1])
            gradient, surrogate = surrogate_gradient(policy, theta, one, WORLD)
            total += b.log_q[m, k].exp() * gradient
            total_value += float(b.log_q[m, k].exp()) * surrogate
    torch.testing.assert_close(total, exact)
    assert total_value == pytest.approx(value)


@pytest.mark.parametrize("estimator", ["self_normalised", "all_actions"])
def test_a_constant_added_to_all_values_of_a_state_changes_neither_gradient_nor_gain(estimator: str):
    policy, theta, b = draw(estimator)
    constant = 10 * torch.arange(M, dtype=torch.float64)[:, None]
    shifted = replace(b, advantages=b.advantages + constant)
    gradient, value = surrogate_gradient(policy, theta, b, WORLD)
    gradient_shifted, value_shifted = surrogate_gradient(policy, theta, shifted, WORLD)
    torch.testing.assert_close(gradient, gradient_shifted)
    gains = [change(policy, theta + 0.2, x, WORLD).surrogate - v for x, v in ((b, value), (shifted, value_shifted))]
    assert gains[0] == pytest.approx(gains[1]) and abs(gains[0]) > 1e-3


@EVERY
def test_the_size_of_the_chunks_does_not_matter(estimator: str, monkeypatch: pytest.MonkeyPatch):
    policy, theta, b = draw(estimator, m=23)
    whole = (*surrogate_gradient(policy, theta, b, WORLD), change(policy, theta + 0.1, b, WORLD))
    monkeypatch.setattr(batch_module, "chunks", lambda n, size: chunks(n, 5))
    assert [len(c.old) for c in b.chunks(100)] == [5, 5, 5, 5, 3]
    pieces = (*surrogate_gradient(policy, theta, b, WORLD), change(policy, theta + 0.1, b, WORLD))
    torch.testing.assert_close(whole[0], pieces[0])
    assert whole[1] == pytest.approx(pieces[1])
    assert vars(whole[2]) == pytest.approx(vars(pieces[2]))


def test_some_states_are_so_many_of_them_at_random_in_their_order():
    _, _, b = draw("importance", m=20)
    taken = [b.some(5, np.random.default_rng(seed)).obs for seed in range(30)]
    rows = [[int(np.flatnonzero((b.obs == obs).all(1))[0]) for obs in some] for some in taken]
    assert all(len(set(some)) == 5 and some == sorted(some) for some in rows)
    assert {row for some in rows for row in some} == set(range(20))


def test_gathered_parts_of_a_batch_are_the_batch():
    _, _, b = random_batches.draw("gaussian", 35)
    b = replace(b, targets=np.arange(35.0))
    assert b.paths is not None
    for found in random_batches.in_workers(2, lambda group: random_batches.share_of(b, group).gathered(group)):
        for name in ("obs", "old", "actions", "advantages", "log_q", "targets"):
            np.testing.assert_array_equal(getattr(found, name), getattr(b, name))
        np.testing.assert_array_equal(found.paths.episode, b.paths.episode)
        np.testing.assert_array_equal(found.paths.returns, b.paths.returns)


def test_change_measures_kl_old_new_and_entropy_over_states():
    policy, theta, b = draw("importance")
    new = theta + 0.1
    params = policy.params(new, policy.tensor(b.obs))
    old_dist, new_dist = (Independent(Normal(p[:, :1], p[:, 1:].exp()), 1) for p in (b.old, params))
    kl = kl_divergence(old_dist, new_dist)
    found = change(policy, new, b, WORLD)
    assert found.mean_kl == pytest.approx(float(kl.mean())) != pytest.approx(float(kl.max()))
    assert found.max_kl == pytest.approx(float(kl.max()))
    assert found.entropy == pytest.approx(float(new_dist.entropy().mean()))
    assert abs(found.mean_kl - float(kl_divergence(new_dist, old_dist).mean())) > 1e-4


def test_the_kl_counts_a_state_once_however_many_actions_were_tried_there():
    policy, theta, b = draw("self_normalised")
    one_action = replace(b, actions=b.actions[:, :1], advantages=b.advantages[:, :1], log_q=b.log_q[:, :1])
    kls = [change(policy, theta + 0.1, x, WORLD).mean_kl for x in (b, one_action)]
    assert kls[0] == kls[1] > 0


def test_numbers_that_are_not_finite_are_not_hidden():
    policy, theta, b = draw("importance")
    found = change(policy, torch.full_like(theta, torch.nan), b, WORLD)
    assert np.isnan(found.mean_kl) and np.isnan(found.surrogate) and found.max_kl == np.inf
    b.advantages[2, 1] = torch.nan
    gradient, surrogate = surrogate_gradient(policy, theta, b, WORLD)
    assert not torch.isfinite(gradient).all() and np.isnan(surrogate)
