"""Sections 2 and 3 of the paper, checked where every quantity is exact."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from trpo_cli.reports.tabular import (
    TabularMdp,
    advantages,
    expected_return,
    lower_bound,
    max_kl,
    max_total_variation,
    optimal_return,
    penalty,
    policy_iteration,
    policy_iteration_step,
    random_mdp,
    random_policy,
    return_through_advantages,
    softmax,
    surrogate,
    total_variation_bound,
    values,
    visitation,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(2, 7), st.integers(2, 5))
gammas = st.floats(0.05, 0.99)
temperatures = st.floats(0.01, 4.0)


@pytest.fixture
def by_hand() -> tuple[TabularMdp, np.ndarray]:
    """Two states: action 0 stays, action 1 changes state; state 1 pays 1; γ = 1/2; a uniform policy.

    V solves V0 = (V0 + V1) / 4 and V1 = 1 + (V0 + V1) / 4: V = (1/2, 3/2).
    """
    transition = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    return TabularMdp(transition, np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.5), np.full((2, 2), 0.5)


def test_the_quantities_of_section_2_on_an_example_by_hand(by_hand):
    mdp, uniform = by_hand
    np.testing.assert_allclose(values(mdp, uniform), [0.5, 1.5])
    np.testing.assert_allclose(advantages(mdp, uniform), [[-0.25, 0.25], [0.25, -0.25]])
    np.testing.assert_allclose(visitation(mdp, uniform), [1.5, 0.5])  # 1 + 1/4 + 1/8 + ..., 1/4 + 1/8 + ...
    assert expected_return(mdp, uniform) == pytest.approx(0.5)
    assert penalty(mdp, uniform) == pytest.approx(4 * 0.25 * 0.5 / 0.25)
    new = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert surrogate(mdp, uniform, new) == pytest.approx(0.5 + 1.5 * (0.75 - 0.25) * 0.25)
    assert max_total_variation(uniform, new) == pytest.approx(0.25)
    assert max_kl(uniform, new) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))  # not KL(new ‖ old)


@settings(max_examples=100, deadline=None)
@given(seeds, sizes, gammas, temperatures)
def test_eq_2_holds_to_rounding(seed: int, size: tuple[int, int], gamma: float, temperature: float):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, *size, gamma)
    old, new = random_policy(rng, mdp, temperature), random_policy(rng, mdp, temperature)
    scale = 1 / (1 - gamma) ** 2
    assert return_through_advantages(mdp, old, new) == pytest.approx(expected_return(mdp, new), abs=1e-12 * scale)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, st.floats(0.05, 0.9))
def test_eq_4_the_surrogate_matches_the_return_in_value_and_gradient(seed: int, size: tuple[int, int], gamma: float):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, *size, gamma)
    logits = rng.standard_normal(size)
    old = softmax(logits)
    assert surrogate(mdp, old, old) == pytest.approx(expected_return(mdp, old), abs=1e-12)
    of_the_surrogate, of_the_return = np.zeros(size), np.zeros(size)
    for index in np.ndindex(*size):
        step = np.zeros(size)
        step[index] = 1e-5
        up, down = softmax(logits + step), softmax(logits - step)
        of_the_surrogate[index] = (surrogate(mdp, old, up) - surrogate(mdp, old, down)) / 2e-5
        of_the_return[index] = (expected_return(mdp, up) - expected_return(mdp, down)) / 2e-5
    np.testing.assert_allclose(of_the_surrogate, of_the_return, atol=1e-6)
    by_the_theorem = visitation(mdp, old)[:, None] * old * advantages(mdp, old)
    np.testing.assert_allclose(of_the_return, by_the_theorem, atol=1e-6)


@settings(max_examples=300, deadline=None)
@given(seeds, sizes, gammas, temperatures)
def test_eqs_8_and_9_are_lower_bounds(seed: int, size: tuple[int, int], gamma: float, temperature: float):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, *size, gamma)
    old = random_policy(rng, mdp)
    new = softmax(np.log(old) + temperature * rng.standard_normal(size))
    rounding = 1e-11 / (1 - gamma) ** 2
    assert expected_return(mdp, new) >= total_variation_bound(mdp, old, new) - rounding
    assert total_variation_bound(mdp, old, new) >= lower_bound(mdp, old, new) - rounding  # D_TV² <= D_KL


def test_the_surrogate_alone_is_no_lower_bound():
    excess = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        mdp = random_mdp(rng, 5, 3, 0.9)
        old, new = random_policy(rng, mdp), random_policy(rng, mdp)
        excess.append(surrogate(mdp, old, new) - expected_return(mdp, new))
    assert max(excess) > 0.5


@settings(max_examples=20, deadline=None)
@given(seeds, sizes, st.floats(0.05, 0.95))
def test_algorithm_1_never_decreases_the_return(seed: int, size: tuple[int, int], gamma: float):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, *size, gamma)
    returns = policy_iteration(mdp, random_policy(rng, mdp), 3)
    assert np.diff(returns).min() >= -1e-12 / (1 - gamma) ** 2
    assert returns[-1] <= optimal_return(mdp) + 1e-9


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, st.floats(0.05, 0.95))
def test_no_policy_nearby_or_far_beats_the_maximum_of_algorithm_1(seed: int, size: tuple[int, int], gamma: float):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, *size, gamma)
    old = random_policy(rng, mdp)
    best = policy_iteration_step(mdp, old)
    bound = lower_bound(mdp, old, best)
    assert bound > expected_return(mdp, old)
    for scale in np.logspace(-5, 0.5, 12):
        around_best = softmax(np.log(best) + scale * rng.standard_normal(size))
        between = old + scale * (best - old)
        for rival in (around_best, between, random_policy(rng, mdp)):
            if rival.min() > 0:
                assert lower_bound(mdp, old, rival) <= bound + 1e-11 / (1 - gamma) ** 2


@pytest.mark.parametrize("gamma", [0.3, 0.9])
def test_a_general_optimiser_finds_no_better_maximum(gamma: float):
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, 3, 2, gamma)
    old = random_policy(rng, mdp)
    base = expected_return(mdp, old)
    ours = lower_bound(mdp, old, policy_iteration_step(mdp, old)) - base

    def loss(logits: np.ndarray) -> float:
        return -(lower_bound(mdp, old, softmax(logits.reshape(3, 2))) - base) / ours

    starts = [np.log(old).ravel() + scale * rng.standard_normal(6) for scale in (0.0, 0.03, 1.0)]
    options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-12}
    found = max(-minimize(loss, start, method="Nelder-Mead", options=options).fun for start in starts)
    assert 0.9 < found <= 1 + 1e-7


def test_algorithm_1_stays_where_no_action_is_better():
    mdp = TabularMdp(np.full((3, 2, 3), 1 / 3), np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0]), 0.9)
    uniform = np.full((3, 2), 0.5)
    np.testing.assert_array_equal(policy_iteration_step(mdp, uniform), uniform)


def test_the_optimal_return_is_that_of_the_best_deterministic_policy():
    mdp = random_mdp(np.random.default_rng(1), 4, 3, 0.9)
    every = [expected_return(mdp, np.eye(3)[list(actions)]) for actions in itertools.product(range(3), repeat=4)]
    assert optimal_return(mdp) == pytest.approx(max(every))
