"""Laws of the fit: a step solves the damped least-squares problem, and no fit makes the loss larger."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trpo_cli.critics.gauss_newton import GaussNewton, Problem
from trpo_cli.parallel.group import Group
from trpo_cli.policies.kernels import CHUNK
from trpo_cli.policies.mlp import MlpNetwork

M, DAMPING = 20, 0.3
RNG = np.random.default_rng(0)
LINEAR = MlpNetwork((3, 1), "tanh", 1.0, 1.0, torch.float64)
THETA = LINEAR.initial(RNG)
INPUTS, TARGETS = (torch.from_numpy(RNG.standard_normal(shape)) for shape in ((M, 3), (M,)))
JACOBIAN = torch.cat([INPUTS, torch.ones(M, 1).double()], 1)
ERRORS = JACOBIAN @ THETA - TARGETS
GRADIENT, MATRIX = JACOBIAN.T @ ERRORS / M, JACOBIAN.T @ JACOBIAN / M + DAMPING * torch.eye(4).double()


def problem(chunk_size: int = CHUNK, n: int = M) -> Problem:
    return Problem(LINEAR, INPUTS, TARGETS, n, Group(), chunk_size)


def test_the_loss_is_half_the_squared_errors_over_the_targets_of_all_workers():
    assert problem().loss(THETA) == pytest.approx(float(ERRORS.square().mean()) / 2)
    assert problem(n=2 * M).loss(THETA) == pytest.approx(float(ERRORS.square().mean()) / 4)


@pytest.mark.parametrize("chunk_size", [7, CHUNK])
def test_a_step_solves_the_damped_system_however_the_states_are_cut(chunk_size: int):
    found, loss = GaussNewton(1, 20, DAMPING)(problem(chunk_size), THETA)
    torch.testing.assert_close(found, THETA - torch.linalg.solve(MATRIX, GRADIENT), rtol=1e-4, atol=1e-5)
    assert loss == problem().loss(found)


def test_there_are_as_many_steps_and_iterations_of_conjugate_gradient_as_were_asked_for():
    expected = THETA
    for steps in (1, 2, 3):
        g = GRADIENT + JACOBIAN.T @ JACOBIAN @ (expected - THETA) / M
        expected = expected - (g @ g) / (g @ MATRIX @ g) * g  # one iteration from zero is a step of steepest descent
        torch.testing.assert_close(GaussNewton(steps, 1, DAMPING)(problem(), THETA)[0], expected)


@pytest.mark.parametrize(("step", "reached", "loss"), [(1.0, 1.0, 0.0), (512.0, 1.0, 0.0), (1024.0, 0.0, 1.0)])
def test_a_step_is_halved_until_the_loss_is_smaller_ten_times_at_most(
    step: float, reached: float, loss: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(GaussNewton, "_step", lambda *_: torch.tensor([step]))
    parabola: Any = SimpleNamespace(loss=lambda theta: float((theta - 1).square()))
    assert GaussNewton(1, 1, DAMPING)(parabola, torch.zeros(1)) == (torch.tensor([reached]), loss)
