"""Laws of the empirical Fisher matrix of Figure 4: the covariance of ∇ log π, never formed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_batches import KINDS, dense_gradient, draw, in_workers, share_of
from torch import Tensor
from toy_sims import trpo

from trpo_cli.optimizers.base import Updated
from trpo_cli.optimizers.fisher import METRICS, fisher_matrix
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

WORLD = Group()
EITHER = pytest.mark.parametrize("kind", KINDS)


def scores(policy: NetworkPolicy, theta: Tensor, batch: Batch) -> Tensor:
    """∇ log π of every state and action ``[M, K, D]``, one after the other."""
    m, k = batch.actions.shape[:2]
    found = torch.empty(m, k, len(theta), dtype=torch.float64)
    for i in range(m):
        for j in range(k):
            p = theta.clone().requires_grad_()
            log_prob = policy.dist.log_prob(
                policy.params(p, policy.tensor(batch.obs[i : i + 1]))[0], batch.actions[i, j]
            )
            (found[i, j],) = torch.autograd.grad(log_prob, p)
    return found


def product(drawn: tuple[NetworkPolicy, Tensor, Batch], v: Tensor, group: Group = WORLD) -> Tensor:
    policy, theta, batch = drawn
    matrix = fisher_matrix(surrogate_at(policy, theta, batch, group), 1.0, Draw(0), METRICS["empirical"])
    return matrix.product(v)


def update(drawn: tuple[NetworkPolicy, Tensor, Batch], group: Group = WORLD, **changes: object) -> Updated:
    policy, theta, batch = drawn
    return trpo(fisher="empirical", **changes)(policy, theta, batch, Draw(0), group)


@EITHER
@pytest.mark.parametrize("k", [1, 3])
def test_the_product_is_with_the_second_moment_of_the_gradients_of_log_pi(kind: str, k: int):
    policy, theta, batch = drawn = draw(kind, 8, k, hidden_sizes=(4,))
    each = scores(policy, theta, batch).flatten(0, 1)
    for v in torch.from_numpy(np.random.default_rng(1).standard_normal((3, len(theta)))):
        torch.testing.assert_close(product(drawn, v), each.T @ (each @ v) / len(each))


def explicit(drawn: tuple[NetworkPolicy, Tensor, Batch], metric: str) -> Tensor:
    policy, theta, batch = drawn
    matrix = fisher_matrix(surrogate_at(policy, theta, batch, WORLD), 1.0, Draw(0), METRICS[metric])
    return torch.stack([matrix.product(e) for e in torch.eye(len(theta)).double()])


@EITHER
def test_on_many_samples_it_is_the_covariance_and_the_analytic_matrix(kind: str):
    policy, theta, batch = drawn = draw(kind, 8_000)
    empirical, analytic = explicit(drawn, "empirical"), explicit(drawn, "analytic")
    assert float((empirical - analytic).norm() / analytic.norm()) < 0.08
    few = batch.rows(slice(0, 500))
    covariance = torch.cov(scores(policy, theta, few)[:, 0].T)  # the authors' np.cov, which takes the mean off
    assert float((explicit((policy, theta, few), "empirical") - covariance).norm() / covariance.norm()) < 0.02


@pytest.mark.parametrize("tried", ["all_actions", "self_normalised", "importance"])
def test_actions_that_the_policy_did_not_draw_are_weighed_by_its_probability(tried: str):
    """Every action of a finite set once: as the whole set, or as what a uniform proposal would draw on average."""
    policy, theta, batch = draw("categorical", 20)
    actions = torch.from_numpy(policy.dist.all_actions()).expand(20, -1, -1)
    log_q = torch.full(actions.shape[:2], 0.0 if tried == "all_actions" else -np.log(actions.shape[1])).double()
    every = replace(batch, actions=actions, log_q=log_q, estimator=tried, advantages=log_q, paths=None)
    analytic = explicit((policy, theta, every), "analytic")
    assert float(policy.dist.log_prob(batch.old[:, None], actions).exp().std()) > 0.05  # far from uniform
    torch.testing.assert_close(explicit((policy, theta, every), "empirical"), analytic)


@EITHER
def test_the_step_keeps_the_constraint_and_solves_with_the_empirical_matrix(kind: str):
    policy, theta, batch = drawn = draw(kind, 60, hidden_sizes=(4,))
    updated = update(drawn, cg_iterations=200)
    assert updated.stats["update/accepted"] and 0.009 <= updated.stats["update/mean_kl"] <= 0.01
    each = scores(policy, theta, batch)[:, 0]
    matrix = each.T @ each / len(each) + 0.01 * torch.eye(len(theta))
    gradient, step = dense_gradient(policy, theta, batch), updated.theta - theta
    alignment = torch.nn.functional.cosine_similarity(matrix @ step, gradient, dim=0)
    assert float(alignment) > 1 - 1e-9


def test_the_analytic_matrix_takes_another_step():
    policy, theta, batch = drawn = draw("gaussian", 60)
    analytic = trpo()(policy, theta, batch, Draw(0), WORLD).theta
    assert float((update(drawn).theta - analytic).norm()) > 0.01 * float((analytic - theta).norm())


def test_a_policy_whose_dense_matrix_would_fill_gigabytes_is_updated():
    drawn = draw("gaussian", 20, hidden_sizes=(150, 150))
    assert len(drawn[1]) ** 2 * 8 > 4e9
    assert update(drawn).stats["update/accepted"]


def test_two_workers_step_as_one_does():
    policy, theta, batch = draw("gaussian", 40, hidden_sizes=(4,))
    v = torch.linspace(-1, 1, len(theta)).double()

    def both(group: Group) -> tuple[Tensor, Tensor]:
        part = (policy, theta, share_of(batch, group))
        return product(part, v, group), update(part, group).theta

    alone = both(WORLD)
    for other in in_workers(2, both):
        torch.testing.assert_close(other, alone, rtol=1e-7, atol=1e-10)
