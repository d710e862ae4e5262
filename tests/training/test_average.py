"""Laws of ``average_over``: the mean of the last policies, which training does not read and everybody else does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compose import executed, planned

import trpo_cli
from trpo_cli.cli.evaluate import load_trained
from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap
from trpo_cli.runs.load import read_checkpoint
from trpo_cli.training.start import start_from
from trpo_cli.training.state import TrainingState

SMALL = ("iterations=6", "sampler.n_paths=4", "step_limit=40", "optimizer.kl_limit=0.1")
AVERAGED = (*SMALL, "average_over=0.5", "eval.every=3", "eval.episodes=2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return executed(planned(*AVERAGED, f"outputs={tmp_path_factory.mktemp('averaged')}"))


def rows(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    kinds = ("time", "eval")
    return [{key: value for key, value in row.items() if not key.startswith(kinds)} for row in found]


def thetas() -> list[torch.Tensor]:
    """The parameters after each iteration of the run."""
    algorithm = planned(*SMALL).algorithm
    state, found = algorithm.initial(), []
    for iteration in range(6):
        state, _ = algorithm.iterate(replace(state, iteration=iteration), Group.alone())
        found.append(state.theta)
    return found


def test_the_newest_policy_has_the_weight_of_the_fraction(run: Path) -> None:
    # Weight of the newest of k policies: 1 / (0.5 k), at most 1.
    policies = thetas()
    mean = policies[1]
    for theta, weight in zip(policies[2:], (2 / 3, 1 / 2, 2 / 5, 1 / 3), strict=True):
        mean = mean + weight * (theta - mean)
    torch.testing.assert_close(read_checkpoint(run)["average"], mean)


def test_a_fraction_of_1_is_the_plain_mean_of_all() -> None:
    state = TrainingState(torch.zeros(1), InputMap())
    for iteration in range(7):
        state = replace(state, theta=torch.tensor([float(iteration)]), iteration=iteration).averaged(1.0)
    assert state.learnt.item() == pytest.approx(3.0)


def test_training_does_not_read_the_mean(run: Path, tmp_path: Path) -> None:
    assert rows(run) == rows(executed(planned(*SMALL, f"outputs={tmp_path}")))


def test_everyone_who_asks_for_the_policy_gets_the_mean(run: Path) -> None:
    saved = read_checkpoint(run)
    mean, obs = saved["average"], np.array([0.1, -0.2, 0.05, 0.3])
    assert not torch.equal(mean, saved["theta"])
    sim, policy, theta, cfg, _ = load_trained(run)
    assert torch.equal(theta, mean)
    mode = policy.dist.mode(policy.params(mean, policy.tensor(obs[None])))
    assert trpo_cli.load(run).predict(obs)[0] == pytest.approx(sim.action_space.controls(mode.numpy())[0])
    plan = planned(*SMALL)
    start = start_from(run, "last", plan.config, plan.task.sim)
    assert torch.equal(start.source.learnt, mean)
    begun = start.replaces(planned(*SMALL).algorithm.initial())
    assert torch.equal(begun.theta, mean) and begun.average is None
    assert cfg.average_over == 0.5


def test_a_stopped_run_goes_on_with_the_same_mean(run: Path, tmp_path: Path) -> None:
    part = [word for word in AVERAGED if word != "iterations=6"]
    executed(planned(*part, "iterations=2", f"outputs={tmp_path}"))
    whole = executed(planned(*AVERAGED, f"outputs={tmp_path}"))
    assert torch.equal(read_checkpoint(whole)["average"], read_checkpoint(run)["average"])
    with pytest.raises(ConfigError, match="average_over"):
        executed(planned(*SMALL, "average_over=0.25", f"outputs={tmp_path}"))


@pytest.mark.parametrize("value", [0, -0.5, 1.5])
def test_a_fraction_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^average_over={float(value)} must be in \(0, 1\], or null"):
        planned(*SMALL, f"average_over={value}")
