"""Laws of conjugate gradient, of the two line searches on scripted evaluations, and of discounted sums."""

from collections.abc import Callable
from math import inf, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trpo_cli.optimizers.conjugate_gradient import conjugate_gradient
from trpo_cli.optimizers.step_searches import Point, boundary_search, halving_search
from trpo_cli.samplers.returns import discounted_sums


def positive_definite(rng: np.random.Generator, n: int, condition: float = 100.0) -> torch.Tensor:
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return torch.from_numpy(q @ np.diag(np.geomspace(1, condition, n)) @ q.T)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 8), condition=st.sampled_from([1.0, 10.0, 1e3]))
def test_conjugate_gradient_solves_what_numpy_solves(seed: int, n: int, condition: float):
    rng = np.random.default_rng(seed)
    a, b = positive_definite(rng, n, condition), torch.from_numpy(rng.standard_normal(n))
    found = conjugate_gradient(lambda v: a @ v, b, 4 * n, 1e-24)
    np.testing.assert_allclose(found.x, np.linalg.solve(a, b), rtol=1e-6, atol=1e-9)


def test_stopped_early_it_has_the_best_point_of_the_krylov_space_and_tells_the_residual():
    rng = np.random.default_rng(1)
    a, b = positive_definite(rng, 7), torch.from_numpy(rng.standard_normal(7))
    found = conjugate_gradient(lambda v: a @ v, b, 3)
    krylov = torch.stack([b, a @ b, a @ a @ b], 1)
    best = krylov @ torch.linalg.solve(krylov.T @ a @ krylov, krylov.T @ b)  # least ½ xᵀAx - bᵀx
    torch.testing.assert_close(found.x, best)
    assert found.iterations == 3
    assert found.residual == pytest.approx(float((b - a @ found.x).norm() / b.norm()))


def test_two_distinct_eigenvalues_take_two_iterations_and_the_tolerance_ends_them():
    a = torch.tensor([2.0, 5.0, 5.0, 2.0, 5.0], dtype=torch.float64)
    found = conjugate_gradient(lambda v: a * v, torch.ones(5, dtype=torch.float64), 50)
    assert found.iterations == 2 and found.residual < 1e-12
    torch.testing.assert_close(found.x, 1 / a)
    loose = conjugate_gradient(lambda v: a * v, torch.ones(5, dtype=torch.float64), 50, tolerance=0.5)
    assert loose.iterations == 1 and 1e-3 < loose.residual < sqrt(0.5)


def test_a_singular_matrix_is_solved_where_it_can_be_and_reported_where_not():
    a = torch.diag(torch.tensor([3.0, 0.0, 1.0], dtype=torch.float64))
    inside = torch.tensor([3.0, 0.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(
        conjugate_gradient(lambda v: a @ v, inside, 10).x, torch.tensor([1.0, 0.0, 2.0]).double()
    )
    outside = conjugate_gradient(lambda v: a @ v, torch.tensor([0.0, 1.0, 0.0]).double(), 10)
    assert outside.curvature == 0 and not outside.x.any() and outside.residual == 1


@pytest.mark.parametrize("factor", [-1.0, nan])
def test_negative_and_undefined_curvature_end_the_search_where_it_stands(factor: float):
    b = torch.tensor([1.0, 2.0])
    found = conjugate_gradient(lambda v: factor * v, b, 10)
    assert not found.curvature > 0 and found.iterations == 1 and not found.x.any()


def test_a_zero_right_hand_side_needs_no_product_and_the_argument_is_left_alone():
    def never(v: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    found = conjugate_gradient(never, torch.zeros(3), 10)
    assert found == (found.x, 0.0, 0, inf) and not found.x.any()
    b = torch.arange(3.0)
    conjugate_gradient(lambda v: 2 * v + v.sum(), b, 10)
    torch.testing.assert_close(b, torch.arange(3.0), rtol=0, atol=0)


class Script:
    """Answers from a list, and remembers the scales it was asked about."""

    def __init__(self, *points: tuple[float, float]) -> None:
        self.points = [Point(*p) for p in points]
        self.scales: list[float] = []

    def __call__(self, scale: float) -> Point:
        self.scales.append(scale)
        return self.points[len(self.scales) - 1]


GOOD, OUTSIDE, WORSE, LOST = (1.0, 0.5), (1.0, 1.1), (-1.0, 0.5), (nan, 0.5)


def test_halving_tries_halves_until_both_conditions_hold():
    evaluate = Script(OUTSIDE, WORSE, (1.0, nan), GOOD)
    found = halving_search(evaluate, 1.0, 0.1, 0.1, 10)
    assert evaluate.scales == [1, 0.5, 0.25, 0.125]
    assert found == (found.__class__(0.125, Point(*GOOD), 3, "accepted"))


@pytest.mark.parametrize(
    ("last", "reason"), [(OUTSIDE, "kl"), (WORSE, "no_improvement"), (LOST, "non_finite"), ((inf, 0.1), "non_finite")]
)
@pytest.mark.parametrize("search", ["halving", "boundary"])
def test_a_search_without_success_says_why_the_last_trial_failed(search: str, last: tuple[float, float], reason: str):
    evaluate = Script(OUTSIDE, WORSE, last)
    if search == "halving":
        found = halving_search(evaluate, 1.0, 0.1, 0.1, 2)
    else:
        found = boundary_search(evaluate, 1.0, 1.0, 0.1, 0.1, 2)
    assert (found.scale, found.backtracks, found.reason, len(evaluate.scales)) == (0, 2, reason, 3)


def test_the_bound_on_the_kl_is_inclusive_and_a_gain_must_reach_its_share_of_the_promise():
    assert halving_search(Script((1.0, 1.0)), 1.0, 1.0, 0.1, 0).scale == 1
    assert halving_search(Script((1.0, 1.0 + 1e-12)), 1.0, 1.0, 0.1, 0).reason == "kl"
    evaluate = Script((0.39, 0.1), (0.21, 0.1))  # of a promised 0.8: 0.4 is half of it, 0.2 half of its half
    assert halving_search(evaluate, 1.0, 0.8, 0.5, 5).scale == 0.5
    assert halving_search(Script((0.0, 0.1)), 1.0, 1.0, 0.0, 0).reason == "no_improvement"
    assert halving_search(Script((-0.01, 0.1)), 1.0, -1.0, 0.1, 0).reason == "no_improvement"


def quadratic(kl: float, gain: float = 1.0) -> tuple[Callable[[float], Point], list[float]]:
    """KL exactly quadratic in the step, and the scales asked about."""
    scales: list[float] = []

    def evaluate(scale: float) -> Point:
        scales.append(scale)
        return Point(gain * scale, kl * scale**2)

    return evaluate, scales


@pytest.mark.parametrize("kl", [1.001, 1.5, 4.0, 900.0])
def test_a_step_outside_is_rescaled_onto_the_boundary_by_one_evaluation(kl: float):
    evaluate, scales = quadratic(kl)
    found = boundary_search(evaluate, 1.0, 1.0, 1.0, 0.1, 10)
    assert found.point.kl == pytest.approx(0.99**2) and found.backtracks == 1 and len(scales) == 2


@pytest.mark.parametrize(("kl", "reached"), [(0.89, 0.99**2), (0.2, 0.99**2), (0.01, 0.16)])
def test_a_step_that_falls_short_is_lengthened_once_at_most_fourfold(kl: float, reached: float):
    evaluate, scales = quadratic(kl)
    found = boundary_search(evaluate, 1.0, 1.0, 1.0, 0.1, 10)
    assert found.point.kl == pytest.approx(reached) and found.backtracks == 1 and len(scales) == 2
    assert found.point == evaluate(found.scale)


def test_a_step_on_the_boundary_is_taken_as_it_is():
    evaluate, scales = quadratic(0.95)
    assert boundary_search(evaluate, 1.0, 1.0, 1.0, 0.1, 10).scale == 1 and scales == [1]


@pytest.mark.parametrize("further", [(0.9, 0.95), (2.0, 1.01), (nan, 0.9)])
def test_a_longer_step_that_is_no_better_is_not_taken(further: tuple[float, float]):
    found = boundary_search(Script((1.0, 0.3), further), 1.0, 1.0, 1.0, 0.1, 10)
    assert (found.scale, found.point, found.backtracks, found.reason) == (1, Point(1.0, 0.3), 1, "accepted")


def test_where_nothing_improves_the_boundary_search_halves():
    evaluate = Script(WORSE, LOST, (0.5, 0.2))
    found = boundary_search(evaluate, 1.0, 1.0, 1.0, 0.1, 10)
    assert evaluate.scales == [1, 0.5, 0.25] and found.scale == 0.25


def test_slack_widens_what_is_accepted_and_what_is_aimed_at_when_shrinking():
    assert boundary_search(quadratic(1.9)[0], 1.0, 2.0, 1.0, 0.1, 10).scale == 1
    assert boundary_search(quadratic(8.0)[0], 1.0, 2.0, 1.0, 0.1, 10).point.kl == pytest.approx(2 * 0.99**2)
    assert boundary_search(quadratic(0.5)[0], 1.0, 2.0, 1.0, 0.1, 10).point.kl == pytest.approx(0.99**2)


def test_without_backtracks_there_is_one_evaluation():
    for kl, scale in ((0.1, 1.0), (1.1, 0.0)):
        evaluate, scales = quadratic(kl)
        assert boundary_search(evaluate, 1.0, 1.0, 1.0, 0.1, 0).scale == scale and scales == [1]


@given(
    kl=st.floats(1e-3, 1e3),
    power=st.floats(0.5, 4),
    decline=st.floats(0, 3),
    bound=st.sampled_from([1.0, 2.0]),
    boundary=st.booleans(),
)
def test_whatever_is_accepted_obeys_the_bound_and_improves(
    kl: float, power: float, decline: float, bound: float, boundary: bool
):
    def evaluate(scale: float) -> Point:
        return Point(scale - decline * scale**2, kl * scale**power)

    rest = (bound, 1.0, 0.1, 10)
    found = boundary_search(evaluate, 1.0, *rest) if boundary else halving_search(evaluate, *rest)
    if found.scale > 0:
        assert found.point == evaluate(found.scale) and found.reason == "accepted"
        assert found.point.kl <= bound and found.point.gain > 0
    assert found.backtracks <= 10


def test_discounted_sums_by_hand():
    rewards = np.array([[1.0, 0.0], [2.0, 4.0], [4.0, 0.0]])
    np.testing.assert_array_equal(discounted_sums(rewards, 0.5), [[3.0, 2.0], [4.0, 4.0], [4.0, 0.0]])
    np.testing.assert_array_equal(discounted_sums(rewards, 1.0)[0], rewards.sum(0))
    assert discounted_sums(np.zeros((0, 3)), 0.9).shape == (0, 3)
