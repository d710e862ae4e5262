"""Laws of the two special cases of Section 7, against dense linear algebra."""

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from random_batches import KINDS, dense_fisher, dense_gradient, draw, in_workers, share_of
from torch import Tensor
from toy_sims import trpo

from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Updated, take
from trpo_cli.optimizers.natural_gradient import NaturalGradient
from trpo_cli.optimizers.policy_gradient import PolicyGradient
from trpo_cli.optimizers.surrogate import change, surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

WORLD = Group()
EITHER = pytest.mark.parametrize("kind", KINDS)


def natural(**changes: Any) -> NaturalGradient:
    return NaturalGradient(
        **{"penalty": 0.3, "cg_iterations": 100, "cg_damping": 0.01, "damping": "identity"}
        | {"fisher_fraction": 1, "fisher_min_states": 0}
        | changes
    )


def update(
    optimizer: NaturalGradient | PolicyGradient, drawn: tuple[NetworkPolicy, Tensor, Batch], group: Group = WORLD
) -> Updated:
    policy, theta, batch = drawn
    return optimizer(policy, theta, batch, Draw(0), group)


BOTH = pytest.mark.parametrize("optimizer", [natural(), PolicyGradient(0.01)], ids=lambda o: type(o).__name__)


@EITHER
@pytest.mark.parametrize("hidden_sizes", [(), (4,)])
def test_equation_17_solves_the_dense_system(kind: str, hidden_sizes: tuple[int, ...]):
    policy, theta, batch = draw(kind, 15, hidden_sizes=hidden_sizes)
    matrix = dense_fisher(policy, theta, batch).mean(0) + 0.01 * torch.eye(len(theta))
    gradient = dense_gradient(policy, theta, batch)
    step = update(natural(), (policy, theta, batch)).theta - theta
    assert float((matrix @ (0.3 * step) - gradient).norm()) <= 1e-5 * float(gradient.norm())


def damped_by_hand(policy: NetworkPolicy, theta: Tensor, batch: Batch, strength: float) -> Tensor:
    """The explicit matrix under the authors' damping, from the gradient of one episode after the other."""
    assert batch.paths is not None
    squares = torch.zeros(len(theta)).double()
    for episode in range(len(batch.paths.returns)):
        rows = np.flatnonzero(batch.paths.episode == episode)
        squares += (len(rows) * dense_gradient(policy, theta, batch.rows(rows))) ** 2
    return dense_fisher(policy, theta, batch).mean(0) + strength * torch.diag(squares / len(batch.old))


@EITHER
def test_the_authors_damping_is_that_of_the_squared_gradients_of_single_paths(kind: str):
    policy, theta, batch = draw(kind, 15)  # three episodes of five states
    shuffled = batch.rows(np.random.default_rng(3).permutation(15))
    matrix = damped_by_hand(policy, theta, batch, 0.5)
    steps = [
        update(natural(damping="paths", cg_damping=0.5), (policy, theta, b)).theta - theta for b in (batch, shuffled)
    ]
    gradient = dense_gradient(policy, theta, batch)
    for step in steps:
        assert float((matrix @ (0.3 * step) - gradient).norm()) <= 1e-5 * float(gradient.norm())
    plain = update(natural(cg_damping=0.5), (policy, theta, batch)).theta - theta
    assert float((plain - steps[0]).norm()) > 0.1 * float(plain.norm())


def test_trpo_takes_the_authors_damping_too():
    policy, theta, batch = draw("gaussian", 40)
    found = trpo(damping="paths", cg_damping=0.5, cg_iterations=50, line_search="halving", max_backtracks=20)
    updated = found(policy, theta, batch, Draw(0), WORLD)
    matrix, gradient = damped_by_hand(policy, theta, batch, 0.5), dense_gradient(policy, theta, batch)
    expected = torch.linalg.solve(matrix, gradient)
    step = updated.theta - theta
    torch.testing.assert_close(step / step.norm(), expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_the_multiplier_is_fixed_so_half_of_it_steps_twice_as_far():
    drawn = draw("gaussian", 40)
    near, far = (update(natural(penalty=penalty), drawn).theta - drawn[1] for penalty in (0.3, 0.15))
    torch.testing.assert_close(far, 2 * near)


def test_no_line_search_keeps_the_natural_gradient_from_going_too_far():
    updated = update(natural(penalty=1e-3), draw("gaussian", 40))
    assert updated.stats["update/accepted"] and updated.stats["update/mean_kl"] > 1


@EITHER
@pytest.mark.parametrize("limit", [0.01, 2.0])
def test_equation_18_steps_along_the_gradient_by_exactly_the_length_of_its_limit(kind: str, limit: float):
    policy, theta, batch = draw(kind, 40, hidden_sizes=(4,))
    step = update(PolicyGradient(limit), (policy, theta, batch)).theta - theta
    assert float(step.norm()) == pytest.approx(sqrt(2 * limit), rel=1e-12)
    gradient = dense_gradient(policy, theta, batch)
    torch.testing.assert_close(step / step.norm(), gradient / gradient.norm())


@BOTH
def test_what_the_step_did_is_measured(optimizer: NaturalGradient | PolicyGradient):
    policy, theta, batch = drawn = draw("gaussian", 40)
    updated = update(optimizer, drawn)
    before, after = (change(policy, t, batch, WORLD) for t in (theta, updated.theta))
    assert updated.stats["update/surrogate_gain"] == pytest.approx(after.surrogate - before.surrogate)
    assert updated.stats["update/mean_kl"] == after.mean_kl > 0
    assert updated.stats["update/max_kl"] == after.max_kl > after.mean_kl
    assert updated.stats["update/step_norm"] == pytest.approx(float((updated.theta - theta).norm()))


def test_the_fisher_sample_is_a_function_of_the_generator():
    policy, theta, batch = draw("gaussian", 40)
    thetas = [natural(fisher_fraction=0.1)(policy, theta, batch, Draw(s), WORLD).theta for s in (0, 0, 1)]
    assert torch.equal(thetas[0], thetas[1]) and not torch.equal(thetas[0], thetas[2])


@BOTH
@pytest.mark.parametrize(
    ("advantage", "reason"), [(0.0, "zero_gradient"), (np.nan, "non_finite_gradient"), (np.inf, "non_finite_gradient")]
)
def test_a_useless_gradient_gives_no_step_and_its_reason(
    optimizer: NaturalGradient | PolicyGradient, advantage: float, reason: str
):
    policy, theta, batch = draw("gaussian", 10)
    updated = update(optimizer, (policy, theta, replace(batch, advantages=torch.full((10, 1), advantage).double())))
    assert updated.theta is theta
    assert updated.stats["update/reason"] == reason and updated.stats["update/accepted"] is False


@pytest.mark.parametrize(
    "optimizer", [natural(penalty=5e-324), natural(penalty=1e-200), PolicyGradient(1e308), PolicyGradient(1e300)]
)
def test_a_step_to_numbers_that_are_not_finite_is_not_taken(optimizer: NaturalGradient | PolicyGradient):
    policy, theta, batch = draw("gaussian", 10)
    narrower = replace(batch, advantages=-(batch.actions - batch.old[:, None, :2]).square().sum(-1))
    updated = update(optimizer, (policy, theta, narrower))
    assert updated.theta is theta and updated.stats["update/reason"] == "non_finite"


@pytest.mark.parametrize("lost", ["parameter", "surrogate", "mean_kl"])
def test_one_number_that_is_not_finite_is_enough_to_stay(lost: str):
    policy, theta, batch = draw("gaussian", 1, hidden_sizes=(4,))
    new = theta.clone()
    if lost == "parameter":
        new[3 * 4] = np.inf  # a bias of a hidden unit, whose tanh is then 1
    elif lost == "surrogate":
        batch = replace(batch, advantages=torch.full((1, 1), 1e308, dtype=torch.float64))
        new[-4:-2] += batch.actions[0, 0] - batch.old[0, :2]  # the mean goes to the action, which is more likely then
        new[-2:] -= 1
    else:
        new[-2:] -= 400  # the old policy's actions are lost, and their weights are 0
    at = surrogate_at(policy, theta, batch, WORLD)
    reached = at.change(new)
    found = {"parameter": float(new.sum()), "surrogate": reached.surrogate, "mean_kl": reached.mean_kl}
    assert [name for name, number in found.items() if not np.isfinite(number)] == [lost]
    assert take(at, new).theta is theta


def test_two_workers_step_as_one_does():
    policy, theta, batch = draw("gaussian", 40)
    optimizers = (natural(), natural(damping="paths", cg_damping=0.5), PolicyGradient(0.01))

    def steps(group: Group) -> list[Tensor]:
        return [update(o, (policy, theta, share_of(batch, group)), group).theta for o in optimizers]

    alone = steps(WORLD)
    for other in in_workers(2, steps):
        torch.testing.assert_close(other, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_settings_out_of_range_are_refused_by_name(value: float):
    with pytest.raises(ConfigError, match=f"optimizer.penalty={value} must be a finite number > 0"):
        natural(penalty=value)
    with pytest.raises(ConfigError, match=f"optimizer.l2_limit={value} must be a finite number > 0"):
        PolicyGradient(value)
    with pytest.raises(ConfigError, match=r"optimizer.fisher_fraction=2 must be in \(0, 1\]"):
        natural(fisher_fraction=2)
    with pytest.raises(ConfigError, match=r"optimizer.cg_iterations=0 must be at least 1"):
        natural(cg_iterations=0)
    with pytest.raises(ConfigError, match=r"optimizer.cg_damping=-1 must be a finite number >= 0"):
        natural(cg_damping=-1)
    with pytest.raises(ConfigError, match=r"optimizer.damping=fancy must be identity or paths"):
        natural(damping="fancy")
