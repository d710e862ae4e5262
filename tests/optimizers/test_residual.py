"""The residual of the conjugate gradient is a number where a linear system was solved, and nowhere else."""

from math import isfinite, isnan

import pytest
import torch
from random_batches import draw
from toy_sims import shipped, trpo

from trpo_cli.optimizers.base import Optimizer
from trpo_cli.parallel.group import Group
from trpo_cli.samplers.randomness import Draw

KEY = "update/cg_residual"


def natural() -> Optimizer:
    return shipped("optimizer/natural_gradient", penalty=0.3, fisher_fraction=1.0, damping="identity", cg_damping=0.01)


SOLVES = {"trpo": trpo(), "natural_gradient": natural(), "empirical_fim": trpo(fisher="empirical")}
SOLVES_NONE = {name: shipped(f"optimizer/{name}") for name in ("policy_gradient", "max_kl", "rwr")}


def row(optimizer: Optimizer, zero: bool = False) -> dict[str, object]:
    policy, theta, batch = draw("gaussian", 60)
    if zero:
        batch.advantages.zero_()
    return optimizer(policy, theta, batch, Draw(0), Group()).stats


@pytest.mark.parametrize("name", SOLVES)
def test_methods_that_solve_a_linear_system_say_how_well(name: str):
    stats = row(SOLVES[name])
    assert stats["update/accepted"] and isfinite(stats[KEY]) and 0 <= stats[KEY] < 1
    assert isnan(row(SOLVES[name], zero=True)[KEY])  # none was solved


@pytest.mark.parametrize("name", SOLVES_NONE)
def test_methods_that_solve_none_have_no_residual(name: str):
    stats = row(SOLVES_NONE[name])
    assert stats["update/accepted"] and isnan(stats[KEY])


def test_a_step_that_the_line_search_refuses_has_the_residual_of_its_direction():
    policy, theta, batch = draw("gaussian", 60)
    optimizer = trpo(max_backtracks=0, line_search="halving", kl_limit=100.0)
    stats = optimizer(policy, theta, batch, Draw(0), Group()).stats
    assert not stats["update/accepted"] and isfinite(stats[KEY])
    assert torch.equal(optimizer(policy, theta, batch, Draw(0), Group()).theta, theta)
