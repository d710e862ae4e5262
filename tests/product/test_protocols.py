"""What implements a protocol, and has no more than its members, trains, goes on after a stop, and is shared."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from minimal import Ascent, Controls, FirstChoices, HillClimb, LinearConfig, Net, Plane
from subprocesses import progress, results
from toy_sims import single, trpo, vine

from trpo_cli.optimizers.base import Optimizer, Search
from trpo_cli.optimizers.cem import Cem
from trpo_cli.parallel import processes
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import ActsInNumpy, Linearizes, Network, Policy, PolicyConfig, TakesRows
from trpo_cli.policies.distributions import distribution_for
from trpo_cli.policies.network_policy import NetworkPolicy, ScaledInputs
from trpo_cli.samplers.base import Sampler
from trpo_cli.sims.base import ActionSpace, Copyable, Drawable, Limited, Simulator, Task, Timed
from trpo_cli.training.loop import Schedule
from trpo_cli.training.run import Plan, execute

N = 5
CHOICES, PUSHED = Plane(finite=True), Plane(finite=False)


def linear(sim: Simulator) -> Policy:
    return LinearConfig().build(sim.obs_shape, sim.action_space)


def of_network(sim: Simulator) -> NetworkPolicy:
    dist = distribution_for(sim.action_space)
    return NetworkPolicy(Net(2, dist.n_params - dist.n_free), dist, ScaledInputs(torch.float64), initial_std=0.5)


SHORT_VINE = vine(n_trunks=4, n_states=10, n_actions=3, branch_length=4)
# name: simulator, policy, sampler, optimizer; what is not minimal is as shipped
PARTS: dict[str, tuple[Simulator, Policy, Sampler, Optimizer | Search]] = {
    "all": (CHOICES, linear(CHOICES), FirstChoices(), Ascent()),
    "policy": (CHOICES, linear(CHOICES), single(), trpo()),
    "policy, vine": (CHOICES, linear(CHOICES), SHORT_VINE, trpo()),
    "network": (PUSHED, of_network(PUSHED), single(), trpo()),
    "network, vine": (CHOICES, of_network(CHOICES), SHORT_VINE, trpo()),
    "network, damped by paths": (PUSHED, of_network(PUSHED), single(steps_per_iteration=90), trpo(damping="paths")),
    "network, search": (PUSHED, of_network(PUSHED), single(), Cem(8, 0.5, 0.1, 0.0, 0)),
    "sampler": (PUSHED, of_network(PUSHED), FirstChoices(), trpo()),
    "optimizer": (PUSHED, of_network(PUSHED), single(), Ascent()),
    "search": (CHOICES, linear(CHOICES), FirstChoices(), HillClimb()),
}
every_run = pytest.mark.parametrize("name", PARTS)


def plan(name: str, directory: Path, **changes: Any) -> Plan:
    sim, policy, sampler, optimizer = PARTS[name]
    made = Plan(
        directory=directory,
        command="",
        config={},
        identity={"parts": name},
        options={},
        task=Task(sim, 12),
        policy=policy,
        sampler=sampler,
        optimizer=optimizer,
        device="cpu",
        seed=3,
        schedule=Schedule(N, 1),
    )
    return replace(made, **changes)


def asking_after(n: int, made: Plan, answer: Callable[[], Any]) -> Callable[[], Any]:
    """What asks for a stop once ``n`` iterations of the run are done."""
    return lambda: answer() if len(progress(made.directory)) >= n else 0


def members(described: object) -> set[str]:
    """The public members of an object or of a protocol, and whether it can be called."""
    own = vars(described) if getattr(described, "_is_protocol", False) else dir(described)
    return {name for name in own if not name.startswith("_")} | ({"__call__"} & set(own))


@pytest.mark.parametrize(
    ("protocol", "found"),
    [
        (ActionSpace, Controls(True)),
        (Simulator, CHOICES),
        (Policy, linear(CHOICES)),
        (PolicyConfig, LinearConfig()),
        (Network, Net(2, 5)),
        (Sampler, FirstChoices()),
        (Optimizer, Ascent()),
        (Search, HillClimb()),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_the_objects_have_exactly_the_members_of_their_protocol(protocol: type, found: object):
    assert members(found) == members(protocol) != set()
    assert type(found).__mro__ == (type(found), object)


def test_the_objects_offer_nothing_beside():
    assert not isinstance(CHOICES, Drawable | Timed | Copyable | Limited)
    assert not isinstance(Net(2, 5), Linearizes | ActsInNumpy | TakesRows)
    assert not isinstance(Ascent(), Search)


@every_run
def test_a_run_trains_and_finishes(name: str, tmp_path: Path):
    made = plan(name, tmp_path / "run")
    assert execute(made, Group(), lambda: 0) == 0
    rows = progress(made.directory)
    assert [row["iteration"] for row in rows] == list(range(N))
    assert all(np.isfinite(row["collect/score"]) and row["collect/sim_steps"] > 0 for row in rows)
    state = torch.load(made.directory / "checkpoint.pt", weights_only=True)["state"]
    first = made.algorithm.initial()
    assert torch.isfinite(state["theta"]).all() and not torch.equal(state["theta"], first.theta)
    scale = first.input_map.half_range.tolist()  # measured, where the policy asks for it
    assert state["input_map"]["half_range"].tolist() == scale and (made.policy.input_scale == "fixed") == (scale == [1])


@every_run
def test_a_run_that_was_stopped_goes_on_to_the_same_rows(name: str, tmp_path: Path):
    whole, stopped = (plan(name, tmp_path / folder) for folder in ("whole", "stopped"))
    assert execute(whole, Group(), lambda: 0) == 0
    assert execute(stopped, Group(), asking_after(2, stopped, lambda: signal.SIGTERM)) == 128 + signal.SIGTERM
    assert len(progress(stopped.directory)) == 2
    assert execute(stopped, Group(), lambda: 0) == 0
    assert results(stopped.directory) == results(whole.directory) and len(results(whole.directory)) == N


@every_run
def test_a_run_that_was_killed_goes_on_to_the_same_rows(name: str, tmp_path: Path):
    """Three rows are written then, and the checkpoint counts two of them."""
    whole, killed = (plan(name, tmp_path / folder, schedule=Schedule(N, 2)) for folder in ("whole", "killed"))
    assert execute(whole, Group(), lambda: 0) == 0

    def body() -> None:
        execute(killed, Group(), asking_after(3, killed, lambda: os.kill(os.getpid(), signal.SIGKILL)))

    process = get_context("fork").Process(target=body)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(progress(killed.directory)) == 3
    assert execute(killed, Group(), lambda: 0) == 0
    assert results(killed.directory) == results(whole.directory)


@pytest.mark.parametrize("name", ["all", "network, vine", "search"])
def test_two_workers_share_a_run(name: str, tmp_path: Path):
    alone, shared = (plan(name, tmp_path / folder) for folder in ("alone", "shared"))
    assert execute(alone, Group(), lambda: 0) == 0
    assert processes.run(2, lambda group: execute(shared, group, lambda: 0)) == 0
    for row, expected in zip(results(shared.directory), results(alone.directory), strict=True):
        for key in ("collect/score", "collect/episode_length", "collect/sim_steps"):
            assert row[key] == pytest.approx(expected[key], rel=1e-6)


@pytest.mark.parametrize("name", ["all", "network"])
def test_it_learns(name: str, tmp_path: Path):
    made = plan(name, tmp_path, schedule=Schedule(25, 100))
    assert execute(made, Group(), lambda: 0) == 0
    scores = [row["collect/score"] for row in progress(made.directory)]
    assert np.mean(scores[-5:]) > np.mean(scores[:2]) + 0.05
