"""Laws of conjugate gradient, against dense linear algebra."""

from math import inf, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trpo_cli.optimizers.conjugate_gradient import conjugate_gradient


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
