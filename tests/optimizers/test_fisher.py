"""Laws of the Fisher-vector product (Appendix C) and of the natural gradient direction."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from toy_sims import Chain, Echo, mlp

import trpo_cli.samplers.batch as batch_module
from trpo_cli.optimizers.fisher import FisherMatrix, analytic_metric, empirical_metric, fisher_matrix
from trpo_cli.optimizers.natural_direction import NaturalDirection
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import chunks
from trpo_cli.policies.distributions import DiagonalGaussian
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

WORLD, M = Group(), 23
KINDS = pytest.mark.parametrize("kind", ["gaussian", "categorical"])


def draw(kind: str, k: int = 1, m: int = M) -> tuple[NetworkPolicy, Tensor, Batch]:
    """A policy with one hidden layer, its θ, and a batch of ``m`` states with ``k`` actions each."""
    rng = np.random.default_rng(0)
    policy = mlp(Echo() if kind == "gaussian" else Chain(), (4,))
    theta = torch.from_numpy(0.5 * rng.standard_normal(policy.n_parameters))
    obs, dist = rng.standard_normal((m, policy.network.sizes[0])), policy.dist
    old = policy.params(theta, policy.tensor(obs))
    actions = dist.sample(old[:, None], torch.from_numpy(dist.draw_noise(rng, (m, k))).double())
    log_q = dist.log_prob(old[:, None], actions)
    return policy, theta, Batch(obs, old, actions, torch.zeros(m, k).double(), log_q, "importance", m)


def mean_kl(policy: NetworkPolicy, theta: Tensor, obs: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Mean KL(θ ‖ ·) by torch's own distributions."""

    def distribution(p: Tensor) -> torch.distributions.Distribution:
        params = policy.params(p, policy.tensor(obs))
        if isinstance(policy.dist, DiagonalGaussian):
            return Independent(Normal(params[:, :1], params[:, 1:].exp()), 1)
        return Categorical(logits=params)

    return lambda new: kl_divergence(distribution(theta), distribution(new)).mean()


def explicit(matrix: FisherMatrix, n: int) -> Tensor:
    return torch.stack([matrix.product(v) for v in torch.eye(n).double()], 1)


def built(
    kind: str, fraction: float = 1.0, seed: int = 0, m: int = M
) -> tuple[FisherMatrix, NetworkPolicy, Tensor, Batch]:
    policy, theta, b = draw(kind, m=m)
    at = surrogate_at(policy, theta, b, WORLD)
    return fisher_matrix(at, fraction, Draw(seed), analytic_metric), policy, theta, b


@KINDS
def test_the_product_is_with_the_hessian_of_the_mean_kl(kind: str):
    matrix, policy, theta, b = built(kind)
    hessian = torch.autograd.functional.hessian(mean_kl(policy, theta, b.obs), theta)
    found = explicit(matrix, len(theta))
    torch.testing.assert_close(found, hessian, atol=1e-9, rtol=1e-9)
    assert found.diag().max() > 0.01 and torch.linalg.eigvalsh(found).min() > -1e-12


@KINDS
def test_the_product_is_with_the_mean_over_states_of_jacobian_metric_jacobian(kind: str):
    matrix, policy, theta, b = built(kind)
    jacobian = torch.func.jacrev(lambda p: policy.params(p, policy.tensor(b.obs)))(theta)  # [M, P, D]
    m = torch.stack([policy.dist.fisher_product(b.old, v.expand_as(b.old)) for v in torch.eye(b.old.shape[1])], 2)
    by_hand = torch.einsum("mpd,mpq,mqe->de", jacobian, m, jacobian) / M  # Appendix C: JᵀMJ
    torch.testing.assert_close(explicit(matrix, len(theta)), by_hand)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch):
    whole = explicit(built("gaussian")[0], 18)
    monkeypatch.setattr(batch_module, "chunks", lambda n, size: chunks(n, 5))
    matrix = built("gaussian")[0]
    assert len(matrix.pieces) == 5
    torch.testing.assert_close(explicit(matrix, 18), whole)


@pytest.mark.parametrize("seed", range(4))
def test_a_fraction_takes_that_many_states_at_random_each_once(seed: int):
    matrix, policy, theta, b = built("gaussian", fraction=0.25, seed=seed)
    rows = np.sort(Draw(seed).generator("fisher_sample").permutation(M)[: ceil(M / 4)])
    assert matrix.n_states == len(set(rows)) == ceil(M / 4)
    hessian = torch.autograd.functional.hessian(mean_kl(policy, theta, b.obs[rows]), theta)
    torch.testing.assert_close(explicit(matrix, len(theta)), hessian, atol=1e-9, rtol=1e-9)


def test_every_state_is_in_the_fraction_of_some_update():
    seen = {round(mean, 9) for seed in range(40) for mean in first_means(built("gaussian", 0.25, seed)[0])}
    assert seen == {round(mean, 9) for mean in built("gaussian")[3].old[:, 0].tolist()}


def first_means(matrix: FisherMatrix) -> list[float]:
    return [mean for linear, _ in matrix.pieces for mean in linear.params[:, 0].tolist()]


def test_every_iteration_takes_a_sample_of_its_own():
    policy, theta, b = draw("gaussian")
    at = surrogate_at(policy, theta, b, WORLD)
    first, second = (first_means(fisher_matrix(at, 0.25, Draw(0, i), analytic_metric)) for i in (0, 1))
    assert first != second


def test_the_smallest_fraction_is_one_state():
    assert built("gaussian", fraction=0.01, m=3)[0].n_states == 1


@pytest.mark.parametrize(
    ("fraction", "least", "n_states", "taken"),
    [(0.25, 4, 40, 10), (0.75, 0, 40, 30), (0.25, 20, 40, 20), (0.25, 99, 40, 40), (0.25, 40, 80, 20)],
)
def test_the_sample_is_the_fraction_or_the_least_number_of_all_workers_states(
    fraction: float, least: int, n_states: int, taken: int
):
    policy, theta, b = draw("gaussian", m=40)
    at = surrogate_at(policy, theta, replace(b, n_states=n_states), WORLD)  # 80: another worker has as many
    assert NaturalDirection(3, 0.1, "identity", fraction, least)(at, Draw(0)).matrix.n_states == taken


@KINDS
def test_the_empirical_metric_is_the_covariance_of_the_gradients_of_log_pi(kind: str):
    policy, theta, b = draw(kind, k=3)
    matrix = fisher_matrix(surrogate_at(policy, theta, b, WORLD), 1.0, Draw(0), empirical_metric)

    def log_prob(p: Tensor) -> Tensor:
        return policy.dist.log_prob(policy.params(p, policy.tensor(b.obs))[:, None], b.actions).flatten()

    scores = torch.func.jacrev(log_prob)(theta)  # [M K, D]
    torch.testing.assert_close(explicit(matrix, len(theta)), scores.T @ scores / len(scores))


@KINDS
def test_with_many_samples_the_empirical_matrix_is_the_analytic_one(kind: str):
    policy, theta, b = draw(kind, k=4000, m=2)
    empirical, analytic = (
        explicit(fisher_matrix(surrogate_at(policy, theta, b, WORLD), 1.0, Draw(0), metric), len(theta))
        for metric in (empirical_metric, analytic_metric)
    )
    assert (empirical - analytic).norm() < 0.1 * analytic.norm()


@KINDS
def test_the_direction_solves_the_damped_system(kind: str):
    matrix, policy, theta, b = built(kind)
    gradient, damping = torch.from_numpy(np.random.default_rng(5).standard_normal(len(theta))), 0.1
    at = replace(surrogate_at(policy, theta, b, WORLD), gradient=gradient)
    found, early = (NaturalDirection(k, damping, "identity", 1.0, 0)(at, Draw(0)) for k in (100, 3))
    damped = explicit(matrix, len(theta)).numpy() + damping * np.eye(len(theta))
    np.testing.assert_allclose(found.s, np.linalg.solve(damped, gradient), rtol=1e-3, atol=1e-4)
    assert early.solution.iterations == early.stats["update/cg_iterations"] == 3
    assert early.stats["update/cg_residual"] == early.solution.residual > found.solution.residual


def test_the_matrix_belongs_to_theta_whatever_policy_drew_the_batch():
    policy, theta, b = draw("gaussian")
    other = replace(b, old=b.old + 0.3)
    one, same = (
        fisher_matrix(surrogate_at(policy, theta, x, WORLD), 1.0, Draw(0), analytic_metric) for x in (b, other)
    )
    torch.testing.assert_close(explicit(one, len(theta)), explicit(same, len(theta)))
