"""Laws of the step under D_KL^max ≤ δ (Eq. 11), against a general solver that is given every constraint."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_batches import KINDS, dense_fisher, dense_gradient, draw, in_workers, share_of
from scipy.optimize import minimize, nnls
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, kl_divergence

import trpo_cli.samplers.batch as batch_module
from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Updated
from trpo_cli.optimizers.max_kl import Constraints, Dual, MaxKl
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import chunks
from trpo_cli.policies.distributions import FactoredCategorical
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

WORLD, LIMIT, RIDGE = Group(), 0.01, 1e-4
EITHER = pytest.mark.parametrize("kind", KINDS)
Drawn = tuple[NetworkPolicy, Tensor, Batch]


def max_kl(**changes: Any) -> MaxKl:
    numbers = {"kl_limit": LIMIT, "kl_slack": 1.0, "ridge": RIDGE, "states_per_round": 3, "max_rounds": 50}
    search = {"line_search": "boundary", "accept_ratio": 0.1, "max_backtracks": 10}
    return MaxKl(**{**numbers, "tolerance": 1e-6, **search, **changes})


def solution(drawn: Drawn, optimizer: MaxKl | None = None, group: Group = WORLD) -> np.ndarray:
    """The quadratic model's maximiser, before the line search ``[D]``."""
    policy, theta, batch = drawn
    constraints = Constraints(surrogate_at(policy, theta, share_of(batch, group), group), RIDGE)
    x, _, _ = (optimizer or max_kl()).solve(constraints, dense_gradient(policy, theta, batch))
    return x.numpy()


def problem(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """g ``[D]`` and every state's matrix A_s + εI ``[M, D, D]``."""
    matrices = dense_fisher(*drawn) + RIDGE * torch.eye(len(drawn[1]))
    return dense_gradient(*drawn).numpy(), matrices.numpy()


def quadratics(matrices: np.ndarray, x: np.ndarray) -> np.ndarray:
    return 0.5 * np.einsum("d,mde,e->m", x, matrices, x)


def kl_of_every_state(policy: NetworkPolicy, batch: Batch, theta: Tensor) -> Tensor:
    """KL(old ‖ new) ``[M]`` by torch's own distributions."""
    params = policy.params(theta, policy.tensor(batch.obs))
    if not isinstance(policy.dist, FactoredCategorical):
        old, new = (Independent(Normal(p[:, :2], p[:, 2:].exp()), 1) for p in (batch.old, params))
        return kl_divergence(old, new)
    pairs = zip(batch.old.split([3, 2], 1), params.split([3, 2], 1), strict=True)
    return torch.stack([kl_divergence(Categorical(logits=a), Categorical(logits=b)) for a, b in pairs]).sum(0)


@EITHER
@pytest.mark.parametrize("seed", [0, 1])
def test_the_solution_is_that_of_a_general_solver_with_all_constraints(kind: str, seed: int):
    drawn = draw(kind, 12, seed=seed)
    gradient, matrices = problem(drawn)
    found = solution(drawn)
    scale = np.abs(found).max()
    general = minimize(
        lambda y: -(gradient @ y) * scale / (gradient @ found),
        np.zeros_like(gradient),
        jac=lambda y: -gradient * scale / (gradient @ found),
        constraints={
            "type": "ineq",
            "fun": lambda y: 1 - quadratics(matrices, scale * y) / LIMIT,
            "jac": lambda y: -np.einsum("mde,e->md", matrices, scale * y) * scale / LIMIT,
        },
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert general.success
    assert gradient @ found == pytest.approx(gradient @ (scale * general.x), rel=1e-5)
    np.testing.assert_allclose(found, scale * general.x, rtol=1e-2, atol=1e-3 * scale)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    m=st.integers(1, 30),
    hidden=st.sampled_from([(), (2,)]),
    loose=st.booleans(),
)
def test_no_state_exceeds_the_limit_and_the_multipliers_prove_optimality(
    seed: int, kind: str, m: int, hidden: tuple[int, ...], loose: bool
):
    drawn = draw(kind, m, seed=seed, hidden_sizes=hidden)
    gradient, matrices = problem(drawn)
    x = solution(drawn, max_kl(tolerance=0.01) if loose else None)
    values = quadratics(matrices, x)
    assert values.max() == pytest.approx(LIMIT, rel=1e-6)
    active = values > LIMIT * (0.95 if loose else 0.999)
    # KKT: g is a non-negative combination of the gradients of the constraints that hold with equality.
    multipliers, residual = nnls(np.einsum("mde,e->dm", matrices[active], x), gradient)
    assert (multipliers > 0).any()
    # Duality: no step within the constraints gains more than Σ λ_s · 2δ once the multipliers leave no residual.
    assert residual <= (0.1 if loose else 0.01) * np.linalg.norm(gradient)
    assert gradient @ x >= (0.97 if loose else 0.999) * 2 * LIMIT * multipliers.sum()


def right(kind: str, m: int, seed: int) -> Drawn:
    """A batch where it pays to raise the first action: the gain is nearly linear, and only the constraint stops it."""
    policy, theta, batch = draw(kind, m, seed=seed)
    first = batch.actions[..., 0].double()
    return policy, theta, replace(batch, advantages=first - first.mean())


@EITHER
@pytest.mark.parametrize(("line_search", "least"), [("boundary", 0.9), ("halving", 0.2)])
@pytest.mark.parametrize("seed", range(3))
def test_after_the_step_the_kl_of_every_state_is_within_the_limit(kind: str, line_search: str, least: float, seed: int):
    policy, theta, batch = right(kind, 60, seed)
    optimizer = max_kl(line_search=line_search, ridge=1e-6)
    updated = optimizer(policy, theta, batch, Draw(0), WORLD)
    kl = kl_of_every_state(policy, batch, updated.theta)
    assert updated.stats["update/accepted"] and updated.stats["update/surrogate_gain"] > 0
    assert float(kl.max()) == pytest.approx(updated.stats["update/max_kl"])
    assert float(kl.mean()) == pytest.approx(updated.stats["update/mean_kl"])
    assert least * LIMIT < float(kl.max()) <= LIMIT


def test_slack_lets_the_worst_state_go_further():
    policy, theta, batch = right("gaussian", 60, seed=3)
    strict, loose = (
        max_kl(kl_slack=slack, line_search="halving", ridge=1e-6)(policy, theta, batch, Draw(0), WORLD).stats
        for slack in (1, 2)
    )
    assert strict["update/max_kl"] <= LIMIT < loose["update/max_kl"] <= 2 * LIMIT
    assert strict["update/step_scale"] == 0.5 and loose["update/step_scale"] == 1


def test_the_step_grows_as_the_square_root_of_the_limit_however_small_that_is():
    drawn = draw("gaussian", 40, seed=3)
    tiny, small = (solution(drawn, max_kl(kl_limit=limit)) for limit in (1e-10, 1e-2))
    np.testing.assert_allclose(1e4 * tiny, small, rtol=1e-3, atol=1e-4 * np.abs(small).max())


def test_how_states_enter_the_working_set_does_not_show():
    drawn = draw("gaussian", 40, seed=3)
    one, all_at_once = (solution(drawn, max_kl(states_per_round=n)) for n in (1, 40))
    np.testing.assert_allclose(one, all_at_once, rtol=1e-2, atol=1e-3 * np.abs(one).max())


def test_the_size_of_the_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch):
    drawn = draw("categorical", 40, seed=3)
    whole = solution(drawn)
    monkeypatch.setattr(batch_module, "chunks", lambda n, size: chunks(n, 7))
    np.testing.assert_allclose(solution(drawn), whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_rounds_that_run_out_leave_a_step_that_is_allowed():
    drawn = draw("gaussian", 40, seed=3)
    x = solution(drawn, max_kl(max_rounds=1, states_per_round=1))
    assert quadratics(problem(drawn)[1], x).max() == pytest.approx(LIMIT, rel=1e-6)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_dual_that_is_solved_badly_gives_a_step_to_the_boundary_too(factor: float, monkeypatch: pytest.MonkeyPatch):
    drawn, solve = draw("gaussian", 10), Dual.solve

    def badly(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        x, multipliers = solve(*arguments)
        return factor * x, multipliers

    monkeypatch.setattr(Dual, "solve", badly)
    assert quadratics(problem(drawn)[1], solution(drawn)).max() == pytest.approx(LIMIT, rel=1e-6)


def test_two_workers_step_as_one_does():
    drawn = policy, theta, batch = draw("categorical", 40)

    def both(group: Group) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(solution(drawn, group=group))
        part = share_of(batch, group)
        return x, max_kl()(policy, theta, part, Draw(0), group).theta

    alone = both(WORLD)
    for other in in_workers(2, both):
        torch.testing.assert_close(other, alone, rtol=1e-4, atol=1e-6)  # the dual is solved to a thousandth of δ


@pytest.mark.parametrize(("advantage", "reason"), [(0.0, "zero_gradient"), (np.nan, "non_finite_gradient")])
def test_a_useless_gradient_gives_no_step_and_its_reason(advantage: float, reason: str):
    policy, theta, batch = draw("gaussian", 10)
    flat = replace(batch, advantages=torch.full((10, 1), advantage).double())
    updated: Updated = max_kl()(policy, theta, flat, Draw(0), WORLD)
    assert updated.theta is theta and updated.stats["update/reason"] == reason


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"ridge": 0.0}, "optimizer.ridge=0.0 must be a finite number > 0"),
        ({"states_per_round": 0}, "optimizer.states_per_round=0 must be at least 1"),
        ({"max_rounds": 0}, "optimizer.max_rounds=0 must be at least 1"),
        ({"tolerance": 1.0}, r"optimizer.tolerance=1.0 must be in \(0, 1\)"),
        ({"kl_limit": -1.0}, "optimizer.kl_limit=-1.0 must be a finite number > 0"),
        ({"kl_slack": 0.5}, "optimizer.kl_slack=0.5 must be a finite number >= 1"),
        ({"line_search": "none"}, "optimizer.line_search=none must be boundary or halving"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, Any], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        max_kl(**setting)


def test_a_batch_may_ask_for_a_part_of_the_bound():
    policy, theta, batch = draw("gaussian", 40, seed=3)
    whole = max_kl(kl_limit=0.0025)(policy, theta, batch, Draw(0), WORLD)
    quarter = max_kl(kl_limit=0.01)(policy, theta, replace(batch, kl_fraction=0.25), Draw(0), WORLD)
    assert quarter.stats["update/accepted"] and torch.equal(quarter.theta, whole.theta)
