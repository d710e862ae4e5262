"""Laws of how an episode ends: a terminal state, a truncation by the simulator, or the step limit, which is one too."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from toy_policies import ECHO_ACTOR, ECHO_POLICY, ECHO_THETA, POINT_TASK, WORLD
from toy_sims import Array, Echo, Point, mlp, single, vine

from trpo_cli.errors import RunError
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import Keep, PolicyActor, Rollout, first_lanes, join, rollout
from trpo_cli.samplers.vine import Branches
from trpo_cli.sims.base import Step, Task

CUT_AT = 3  # the step after which the simulator cuts an episode
KEEPS = pytest.mark.parametrize("keep", ["decisions", "states", "rewards"])


@dataclass(frozen=True)
class Cut(Echo):
    """Echo that is truncated after its third step; a state is (steps left, a number of the lane's own, steps done)."""

    n_state = 3

    def reset(self, rngs: Any) -> Array:
        return np.insert(super().reset(rngs), 2, 0.0, axis=1)

    def observe(self, states: Array) -> Array:
        return super().observe(states[:, :2])

    def step(self, states: Array, actions: Array) -> Step:
        done = states[:, 2] + 1
        step = super().step(states[:, :2], actions)
        return Step(np.column_stack([step.states, done]), step.rewards, step.terminated, done == CUT_AT)


def lanes(lengths: list[int]) -> Array:
    return np.stack([lengths, np.linspace(0, 1, len(lengths)), np.zeros(len(lengths))], 1).astype(float)


def roll(lengths: list[int], n_steps: int, keep: Keep = "decisions") -> Rollout:
    noise = np.random.default_rng(0).standard_normal((n_steps, len(lengths), 1)).astype(np.float32)
    return rollout(Cut(), ECHO_ACTOR, lanes(lengths), noise, keep=keep)


@KEEPS
def test_an_episode_that_the_simulator_cuts_is_truncated_and_not_terminated(keep: Keep):
    found = roll([2, 9, 3, 4], n_steps=5, keep=keep)
    assert found.lengths.tolist() == [2, CUT_AT, 3, CUT_AT]
    assert found.terminated.tolist() == [True, False, True, False]  # the third is both at once: terminated wins
    assert found.truncated.tolist() == [False, True, False, True]
    assert not found.rewards[CUT_AT:].any() and len(found.rewards) == CUT_AT


@KEEPS
@pytest.mark.parametrize(("n_steps", "last"), [(5, CUT_AT), (2, 2)], ids=["by the simulator", "by the step limit"])
def test_the_final_observation_is_that_after_the_last_step(n_steps: int, last: int, keep: Keep):
    found = roll([9, 1, 5], n_steps, keep)
    assert found.truncated.tolist() == [True, False, True] and found.lengths.tolist() == [last, 1, last]
    number = np.linspace(0, 1, 3).astype(np.float32)
    assert found.final_obs[0].tolist() == [9 - last, number[0]] and found.final_obs[2].tolist() == [5 - last, number[2]]
    if keep != "rewards":
        assert found.obs[found.column == 0][-1].tolist() == [9 - last + 1, number[0]]  # that of the last decision


def test_the_simulator_and_the_step_limit_at_the_same_step_are_one_truncation():
    found = roll([9, 3], n_steps=CUT_AT)
    assert found.truncated.tolist() == [True, False] and found.terminated.tolist() == [False, True]
    assert found.final_obs[0].tolist() == [6, 0]


def test_how_episodes_ended_survives_joining_and_taking_the_first():
    one, other = roll([9, 1], n_steps=5), roll([2, 4, 9], n_steps=2)
    other = replace(other, lanes=other.lanes + 2)
    both = join([one, other])
    assert both.lanes.tolist() == [0, 1, 2, 3, 4]
    assert both.truncated.tolist() == [True, False, False, True, True]
    np.testing.assert_array_equal(both.final_obs, np.concatenate([one.final_obs, other.final_obs]))
    few = first_lanes(both, 3)
    assert few.lanes.tolist() == [0, 1, 2] and few.truncated.tolist() == [True, False, False]
    np.testing.assert_array_equal(few.final_obs, both.final_obs[:3])


def test_where_nothing_is_said_of_truncation_the_step_limit_alone_truncates():
    found = run_episodes(POINT_TASK, PolicyActor(mlp(Point()), torch.zeros(3).double()), Draw(0), range(20))
    assert (found.truncated == (found.lengths == 20)).all() and (found.truncated == ~found.terminated).all()
    assert 0 < found.terminated.sum() < 20


@pytest.mark.parametrize("sampler", [single(), vine()], ids=["single", "vine"])
def test_a_truncated_episode_does_not_count_as_terminated(sampler: Any):
    task = Task(Cut(12), 20)
    _, stats, _ = sampler(task, ECHO_POLICY, ECHO_THETA, Draw(5), WORLD)
    lengths = task.sim.reset(Draw(5).generators("initial_state", range(stats["collect/n_episodes"])))[:, 0]
    assert stats["collect/terminated_fraction"] == (lengths <= CUT_AT).mean()
    assert stats["collect/episode_length"] == np.minimum(lengths, CUT_AT).mean()
    assert 0 < stats["collect/terminated_fraction"] < 1


def test_a_branch_that_the_simulator_cuts_is_worth_the_more_the_later_it_is_cut():
    class Ten:
        gae_lambda, least_advantage = 1.0, 0.0

        def __call__(self, obs: Array) -> Array:
            return np.full(len(obs), 10.0)

    states = lanes([9, 9, 9])
    states[:, 2] = 0, 1, 2  # steps done, of three
    first = torch.zeros(3, 2, 1).double()
    with_value, without = (
        vine(branch_length=5).q_values(Branches(Cut(), ECHO_ACTOR, value), states, first, Draw(0), range(3))[0]
        for value in (Ten(), None)
    )
    np.testing.assert_allclose(with_value - without, np.repeat([[7.29], [8.1], [9.0]], 2, axis=1))


@KEEPS
def test_a_final_observation_that_is_not_finite_ends_the_run(keep: Keep):
    class Blinded(Cut):
        def observe(self, states: Array) -> Array:
            return np.where(states[:, 2:] == CUT_AT, np.nan, super().observe(states)).astype(np.float32)

    noise = np.zeros((5, 1, 1), np.float32)
    with pytest.raises(RunError, match=r"an observation whose number 1 is NaN \(lane 1 of 1\)"):
        rollout(Blinded(), ECHO_ACTOR, lanes([9]), noise, keep=keep)
