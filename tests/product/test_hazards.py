"""Environments that go wrong, with every method: the run goes on where it safely can, or ends in a sentence."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compose import planned
from numpy.typing import NDArray
from subprocesses import progress

from trpo_cli.errors import RunError
from trpo_cli.parallel import processes
from trpo_cli.sims.base import Floats, Step
from trpo_cli.sims.cartpole import CartPole
from trpo_cli.sims.locomotion import Locomotion
from trpo_cli.training.run import Plan, execute


@dataclass(frozen=True)
class Hazard(CartPole):
    """The cart-pole with something wrong in it."""

    kind: str

    def __post_init__(self) -> None:
        """Nothing to check."""

    def observe(self, states: Floats) -> NDArray[np.float32]:
        seen = super().observe(states).copy()
        if self.kind == "blind":
            return 0 * seen
        if self.kind == "unseen":
            seen[states[:, 1] > 0.5] = np.nan
        return seen

    def step(self, states: Floats, actions: Floats) -> Step:
        step = super().step(states, actions)
        moving = states[:, 1] > 0.5
        if self.kind == "raises" and moving.any():
            raise ValueError("the pole is broken")
        rewards = {
            "undefined": np.where(moving, np.nan, step.rewards),
            "infinite": np.where(moving, np.inf, step.rewards),
            "indifferent": np.zeros(len(states)),
            "huge": 1e200 * step.rewards,
        }.get(self.kind, step.rewards)
        return Step(step.states, rewards, step.terminated | (self.kind == "short"))


SINGLE = ("step_limit=30", "sampler.n_paths=8", "iterations=3")
TWIGS = ("sampler=vine", "step_limit=30", "sampler.n_trunks=4", "sampler.n_states=10", "sampler.branch_length=9")
SEARCH = ("step_limit=30", "optimizer.population=20", "iterations=3")
METHODS = {
    **{m: (f"optimizer={m}", *SINGLE) for m in ("trpo", "natural_gradient", "policy_gradient", "max_kl", "rwr")},
    "empirical_fim": ("optimizer=empirical_fim", *SINGLE),
    "vine": (*TWIGS, "iterations=3"),
    "vine_max_kl": (*TWIGS, "optimizer=max_kl", "iterations=3"),
    "cem": ("optimizer=cem", *SEARCH),
    "cma": ("optimizer=cma", *SEARCH),
}
CASES = [(method, n) for method in METHODS for n in (1, 2) if n == 1 or method in ("trpo", "vine", "rwr", "cem")]
SEARCHES = ("cem", "cma")
UNUSABLE_REWARD = "which is not a finite number below 1e100 in size; the environment cannot be used for training"
everywhere = pytest.mark.parametrize(("method", "n"), CASES)


@pytest.fixture
def carried_out(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """The rows of a method's run on a cart-pole with a hazard, in so many workers."""

    def run(kind: str, method: str, n: int, *words: str) -> list[dict[str, Any]]:
        plan = planned(*METHODS[method], *words, f"outputs={tmp_path}")
        return rows(replace(plan, task=replace(plan.task, sim=Hazard(*astuple(plan.task.sim), kind))), n)

    return run


def rows(plan: Plan, n: int) -> list[dict[str, Any]]:
    assert processes.run(n, lambda group: execute(plan, group, lambda: 0)) == 0
    found = progress(plan.directory)
    assert len(found) == plan.schedule.iterations
    state = torch.load(plan.directory / "checkpoint.pt", weights_only=True)["state"]
    assert torch.isfinite(state["theta"]).all()
    return found


@everywhere
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("unseen", "the simulator returned an observation whose number 1 is NaN (lane "),
        ("undefined", UNUSABLE_REWARD),
        ("infinite", UNUSABLE_REWARD),
        ("huge", UNUSABLE_REWARD),
        ("raises", "failed: ValueError: the pole is broken (test_hazards.py:"),
    ],
)
def test_what_cannot_be_trained_on_ends_the_run(
    kind: str, sentence: str, method: str, n: int, carried_out: Callable[..., Any]
):
    with pytest.raises(RunError) as caught:
        carried_out(kind, method, n)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@everywhere
def test_episodes_of_one_step(method: str, n: int, carried_out: Callable[..., Any]):
    for row in carried_out("short", method, n):
        assert row["collect/episode_length"] == 1 and row["collect/terminated_fraction"] == 1
        assert None not in [value for key, value in row.items() if key.startswith("collect/")]


@everywhere
def test_without_differences_between_returns_no_step_is_taken(method: str, n: int, carried_out: Callable[..., Any]):
    for row in carried_out("indifferent", method, n):
        assert row["collect/episode_return"] == 0
        if method not in (*SEARCHES, "rwr"):  # which rank episodes, and any order of equals will do
            assert (row["update/accepted"], row["update/reason"]) == (False, "zero_gradient")


@everywhere
def test_a_singular_fisher_matrix_is_no_obstacle(method: str, n: int, carried_out: Callable[..., Any]):
    """Of a policy that sees nothing, the weights have no effect, and no damping hides that."""
    undamped = ("optimizer.cg_damping=0",) if method in ("trpo", "natural_gradient", "empirical_fim", "vine") else ()
    found = carried_out("blind", method, n, *undamped)
    if method not in SEARCHES:
        assert any(row["update/accepted"] for row in found), [row["update/reason"] for row in found]


@pytest.mark.parametrize("sampler", ["single", "vine"])
@pytest.mark.parametrize("n", [1, 2])
def test_an_unstable_simulation_costs_its_episodes_and_no_more(sampler: str, n: int, tmp_path: Path, capfd: Any):
    words = {"single": ("sampler.n_paths=6", "sampler.steps_per_iteration=null"), "vine": TWIGS[2:]}[sampler]
    plan = planned(
        "env=walker",
        f"sampler={sampler}",
        *words,
        "step_limit=20",
        "policy.input_scale=none",
        "iterations=2",
        f"outputs={tmp_path}",
    )
    assert isinstance(plan.task.sim, Locomotion)
    plan.task.sim._engine.model.opt.timestep = 0.5
    for row in rows(plan, n):
        assert row["collect/terminated_fraction"] > 0 and np.isfinite(row["collect/episode_return"])
    assert not list(tmp_path.rglob("MUJOCO_LOG.TXT"))
