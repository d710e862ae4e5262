"""Laws of the TRPO step: the constraint holds, what is accepted improves, and whatever goes wrong leaves θ_old."""

from dataclasses import replace
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from toy_sims import Chain, Echo, cartpole, mlp, single, trpo

import trpo_cli.optimizers.natural_direction as module
from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Updated
from trpo_cli.optimizers.fisher import analytic_metric, fisher_matrix
from trpo_cli.optimizers.natural_direction import Direction, NaturalDirection
from trpo_cli.optimizers.surrogate import change, surrogate_at, surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.distributions import DiagonalGaussian
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw
from trpo_cli.sims.base import Task

WORLD = Group()
SEARCHES = pytest.mark.parametrize("line_search", ["boundary", "halving"])


def draw(kind: str, advantages: np.ndarray, seed: int = 0, scale: float = 0.5) -> tuple[NetworkPolicy, Tensor, Batch]:
    """A policy of this kind and a batch drawn with it that has these advantages `[M, K]`."""
    rng, (m, k) = np.random.default_rng(seed), advantages.shape
    policy = mlp(Echo() if kind == "gaussian" else Chain(), (3,))
    theta = torch.from_numpy(scale * rng.standard_normal(policy.n_parameters))
    obs, dist = rng.standard_normal((m, policy.network.sizes[0])), policy.dist
    old = policy.params(theta, policy.tensor(obs))
    actions = dist.sample(old[:, None], torch.from_numpy(dist.draw_noise(rng, (m, k))).double())
    log_q = dist.log_prob(old[:, None], actions)
    return policy, theta, Batch(obs, old, actions, torch.from_numpy(advantages), log_q, "importance", m)


def normal(m: int = 30, k: int = 1, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, k))


def update(policy: NetworkPolicy, theta: Tensor, batch: Batch, **settings: Any) -> Updated:
    return trpo(**settings)(policy, theta, batch, Draw(0), WORLD)


def kl_old_new(policy: NetworkPolicy, batch: Batch, theta: Tensor) -> Tensor:
    """KL(old ‖ new) of each state, by torch's own distributions."""
    new = policy.params(theta, policy.tensor(batch.obs))
    if isinstance(policy.dist, DiagonalGaussian):
        old_dist, new_dist = (Independent(Normal(p[:, :1], p[:, 1:].exp()), 1) for p in (batch.old, new))
        return kl_divergence(old_dist, new_dist)
    return kl_divergence(Categorical(logits=batch.old), Categorical(logits=new))


def refused(updated: Updated, theta: Tensor, reason: str) -> None:
    assert updated.theta is theta
    assert updated.stats["update/accepted"] is False and updated.stats["update/reason"] == reason
    for key in ("mean_kl", "max_kl", "surrogate_gain"):
        assert updated.stats[f"update/{key}"] == 0.0


@settings(max_examples=150)
@given(
    advantages=arrays(
        np.float64,
        st.tuples(st.integers(1, 8), st.integers(1, 3)),
        elements=st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e-12, 1.0, 1e30]),
    ),
    kind=st.sampled_from(["gaussian", "categorical"]),
    estimator=st.sampled_from(["importance", "self_normalised"]),
    line_search=st.sampled_from(["boundary", "halving"]),
    kl_limit=st.sampled_from([1e-4, 0.01, 1.0]),
    damping=st.sampled_from([0.0, 0.01]),
    scale=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 1000),
)
def test_after_every_accepted_step_the_mean_kl_is_within_delta_and_the_surrogate_higher(
    advantages: np.ndarray,
    kind: str,
    estimator: str,
    line_search: str,
    kl_limit: float,
    damping: float,
    scale: float,
    seed: int,
):
    policy, theta, b = draw(kind, advantages, seed, scale)
    b, before = replace(b, estimator=estimator), theta.clone()
    found = update(policy, theta, b, line_search=line_search, kl_limit=kl_limit, cg_damping=damping)
    assert torch.equal(theta, before)
    if not found.stats["update/accepted"]:
        refused(found, theta, str(found.stats["update/reason"]))
        return
    kl = kl_old_new(policy, b, found.theta)
    assert kl.mean() <= kl_limit * (1 + 1e-9)
    np.testing.assert_allclose(found.stats["update/mean_kl"], kl.mean(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.stats["update/max_kl"], kl.max(), rtol=1e-6, atol=1e-12)
    gain = change(policy, found.theta, b, WORLD).surrogate - surrogate_gradient(policy, theta, b, WORLD)[1]
    assert found.stats["update/surrogate_gain"] == gain > 0


def test_the_accepted_step_is_a_multiple_of_the_natural_gradient_scaled_to_the_boundary():
    policy, theta, b = draw("gaussian", normal())
    found = update(policy, theta, b, line_search="halving", kl_limit=1e-6)
    gradient, _ = surrogate_gradient(policy, theta, b, WORLD)
    at = surrogate_at(policy, theta, b, WORLD)
    matrix = fisher_matrix(at, 1.0, Draw(0), analytic_metric)
    s = NaturalDirection(10, 0.01, "identity", 1.0, 0)(at, Draw(0)).s
    full_step = sqrt(2e-6 / float(s @ matrix.product(s))) * s
    torch.testing.assert_close(found.theta - theta, found.stats["update/step_scale"] * full_step)
    # So small a step is where the quadratic model is exact: KL is δ times the square of the multiple.
    assert found.stats["update/mean_kl"] == pytest.approx(1e-6 * found.stats["update/step_scale"] ** 2, rel=2e-2)
    assert found.stats["update/expected_gain"] == pytest.approx(float(gradient @ (found.theta - theta)))
    assert found.stats["update/step_norm"] == pytest.approx(float((found.theta - theta).norm()))


def typical(seed: int) -> tuple[NetworkPolicy, Tensor, Batch]:
    """One batch of 16 paths of the cart-pole, as training meets it."""
    sim = cartpole()
    policy = mlp(sim, (), output_norm=0.3)
    theta = policy.initial(np.random.default_rng(seed))
    batch, _, _ = single(gamma=0.99)(Task(sim, 100), policy, theta, Draw(seed), WORLD)
    return policy, theta, batch


@pytest.mark.parametrize("seed", range(5))
def test_the_boundary_search_fills_the_trust_region_where_halving_stays_well_inside(seed: int):
    kl = {kind: update(*typical(seed), line_search=kind).stats["update/mean_kl"] for kind in ("boundary", "halving")}
    assert 0.009 <= kl["boundary"] <= 0.01
    full = update(*typical(seed), line_search="halving", kl_slack=100.0, max_backtracks=0).stats["update/mean_kl"]
    if full > 0.01:  # the quadratic model overshot
        assert 0.001 < kl["halving"] < 0.005
    else:
        assert kl["halving"] == full


def test_on_typical_batches_the_full_step_overshoots_more_often_than_not():
    full = [update(*typical(s), line_search="halving", kl_slack=100.0).stats["update/mean_kl"] for s in range(5)]
    assert sum(0.01 < kl < 0.02 for kl in full) >= 3


@SEARCHES
def test_twice_the_slack_accepts_what_strict_delta_refuses(line_search: str):
    overshoots = next(s for s in range(5) if update(*typical(s), line_search="halving").stats["update/backtracks"])
    policy, theta, b = typical(overshoots)
    strict = update(policy, theta, b, line_search=line_search, max_backtracks=0)
    refused(strict, theta, "kl")
    loose = update(policy, theta, b, line_search=line_search, max_backtracks=0, kl_slack=2.0)
    assert loose.stats["update/accepted"] and 0.01 < loose.stats["update/mean_kl"] <= 0.02


@SEARCHES
def test_a_failed_search_returns_the_very_theta_and_says_why(line_search: str, monkeypatch: pytest.MonkeyPatch):
    policy, theta, b = draw("gaussian", normal())

    forwards = NaturalDirection.__call__

    def backwards(*arguments: Any) -> Direction:
        found = forwards(*arguments)
        return replace(found, s=-found.s)

    monkeypatch.setattr(NaturalDirection, "__call__", backwards)
    found = update(policy, theta, b, line_search=line_search, max_backtracks=4)
    refused(found, theta, "no_improvement")
    assert found.stats["update/backtracks"] == 4 and found.stats["update/step_scale"] == 0


class Curvature:
    """In the place of the Fisher matrix: a multiple of the identity."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def product(self, v: Tensor) -> Tensor:
        return self.factor * v


@pytest.mark.parametrize(
    ("factor", "damping", "reason"),
    [
        (0.0, 0.01, "no_positive_curvature"),
        (0.0, 0.0, "no_positive_curvature"),
        (-1.0, 0.0, "no_positive_curvature"),
        (-1.0, 2.0, "no_positive_curvature"),
        (nan, 0.01, "non_finite_direction"),
        (inf, 0.01, "non_finite_direction"),
    ],
)
def test_curvature_that_is_not_positive_gives_no_step(
    factor: float, damping: float, reason: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "fisher_matrix", lambda *a: Curvature(factor))
    policy, theta, b = draw("gaussian", normal())
    refused(update(policy, theta, b, cg_damping=damping), theta, reason)


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_an_advantage_that_is_not_finite_gives_no_step(bad: float):
    policy, theta, b = draw("gaussian", normal())
    b.advantages[7, 0] = bad
    refused(update(policy, theta, b), theta, "non_finite_gradient")


@pytest.mark.parametrize("estimator", ["importance", "self_normalised"])
def test_without_advantages_there_is_no_step(estimator: str):
    policy, theta, b = draw("gaussian", np.zeros((30, 2)))
    refused(update(policy, theta, replace(b, estimator=estimator)), theta, "zero_gradient")


def test_parameters_that_leave_the_finite_numbers_are_not_taken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "fisher_matrix", lambda *a: Curvature(1e-300))
    policy, theta, b = draw("gaussian", normal())
    b = replace(b, advantages=-(b.actions[..., 0] - b.old[:, :1]).square())  # the less noise, the better: std to 0
    found = update(policy, theta, b, cg_damping=0.0, line_search="halving", max_backtracks=3)
    refused(found, theta, "non_finite")


def test_the_step_does_not_depend_on_the_scale_of_the_rewards():
    policy, theta, b = draw("gaussian", normal())
    larger = replace(b, advantages=1e4 * b.advantages)
    torch.testing.assert_close(update(policy, theta, b).theta, update(policy, theta, larger).theta)


def test_the_generator_chooses_the_states_of_the_fisher_matrix_and_nothing_else():
    policy, theta, b = draw("gaussian", normal(), scale=1.0)
    step = trpo(fisher_fraction=0.25)
    thetas = [step(policy, theta, b, Draw(seed), WORLD).theta for seed in (0, 0, 1, 2, 3)]
    assert torch.equal(thetas[0], thetas[1]) and len({tuple(t.tolist()) for t in thetas}) > 1
    enough = trpo(fisher_fraction=0.25, fisher_min_states=len(b.old))
    whole = trpo()
    assert torch.equal(*(s(policy, theta, b, Draw(0), WORLD).theta for s in (enough, whole)))
    assert torch.equal(*(whole(policy, theta, b, Draw(seed), WORLD).theta for seed in (0, 1)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kl_limit", 0.0),
        ("kl_limit", inf),
        ("kl_slack", 0.5),
        ("cg_iterations", 0),
        ("cg_damping", -0.1),
        ("fisher_fraction", 0.0),
        ("fisher_fraction", 1.5),
        ("line_search", "wolfe"),
        ("accept_ratio", 1.0),
        ("max_backtracks", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any):
    with pytest.raises(ConfigError, match=rf"optimizer\.{field}={value}"):
        trpo(**{field: value})


@SEARCHES
def test_a_batch_may_ask_for_a_part_of_the_trust_region(line_search: str):
    policy, theta, batch = draw("gaussian", normal(400))
    whole = update(policy, theta, batch, line_search=line_search, kl_limit=0.0025)
    quarter = update(policy, theta, replace(batch, kl_fraction=0.25), line_search=line_search, kl_limit=0.01)
    assert quarter.stats["update/accepted"] and torch.equal(quarter.theta, whole.theta)
    assert quarter.stats["update/mean_kl"] <= 0.0025
