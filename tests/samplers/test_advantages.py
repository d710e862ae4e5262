"""Generalised advantage estimates: a hand-computed example with every kind of cut, and the two ends of λ."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_policies import ECHO_ACTOR
from toy_sims import Chain, Echo, Point, mlp, single, vine

from trpo_cli.parallel.group import Group
from trpo_cli.samplers.base import Memory
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.returns import discounted_sums, generalised_advantages
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.samplers.vine import Branches
from trpo_cli.sims.base import Task

GAMMA, LAM = 0.9, 0.8
# Lane 0 terminates after two steps, lane 1 is truncated after three, lane 2 after one.
REWARDS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0], [0.0, 6.0, 0.0]])
VALUES = np.array([[0.5, 0.25, 2.0], [1.5, 1.0, 0.0], [0.0, 3.0, 0.0]])
FOLLOWING = np.array([[1.5, 1.0, 8.0], [0.0, 3.0, 0.0], [0.0, 7.0, 0.0]])
LENGTHS = np.array([2, 3, 1])
ENDED = np.arange(3)[:, None] == LENGTHS - 1


class Constant:
    """A value function that gives the same everywhere."""

    def __init__(self, value: float, gae_lambda: float) -> None:
        self.value, self.gae_lambda, self.least_advantage = value, gae_lambda, 0.0

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        return np.full(len(obs), self.value)


def test_by_hand_with_all_three_cuts():
    found = generalised_advantages(REWARDS, VALUES, FOLLOWING, ENDED, GAMMA, LAM)
    lane_0 = [1 + GAMMA * 1.5 - 0.5, 4 - 1.5]
    lane_1 = [2 + GAMMA * 1 - 0.25, 5 + GAMMA * 3 - 1, 6 + GAMMA * 7 - 3]
    decay = GAMMA * LAM
    np.testing.assert_allclose(found[:, 0], [lane_0[0] + decay * lane_0[1], lane_0[1], 0])
    last = lane_1[1] + decay * lane_1[2]
    np.testing.assert_allclose(found[:, 1], [lane_1[0] + decay * last, last, lane_1[2]])
    np.testing.assert_allclose(found[:, 2], [3 + GAMMA * 8 - 2, 0, 0])


def test_lambda_1_without_bootstrapping_is_reward_to_go_minus_v_and_lambda_0_the_one_step_error():
    alive = np.arange(3)[:, None] < LENGTHS
    monte_carlo = generalised_advantages(REWARDS, VALUES, np.where(ENDED, 0, FOLLOWING), ENDED, GAMMA, 1.0)
    np.testing.assert_allclose(monte_carlo, np.where(alive, discounted_sums(REWARDS, GAMMA) - VALUES, 0))
    one_step = generalised_advantages(REWARDS, VALUES, FOLLOWING, ENDED, GAMMA, 0.0)
    np.testing.assert_allclose(one_step, REWARDS + GAMMA * FOLLOWING - VALUES)


def test_an_episode_that_ends_has_the_advantages_that_it_would_have_alone():
    rewards, values, following = np.random.default_rng(0).random((3, 6, 1))
    ended = np.arange(6)[:, None] == 3
    whole = generalised_advantages(rewards, values, following, ended, GAMMA, LAM)
    parts = [
        generalised_advantages(rewards[rows], values[rows], following[rows], ended[rows], GAMMA, LAM)
        for rows in (slice(0, 4), slice(4, 6))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole)


@pytest.mark.parametrize("length", [1, 7, 40])
def test_with_the_true_value_beyond_it_the_step_limit_does_not_matter(length: int):
    """Reward 1 for ever has the value 1 / (1 - γ): advantages are then zero, whatever the limit."""
    sim = Endless()
    policy = mlp(sim)
    theta = policy.initial(np.random.default_rng(0))
    sampler = single(gamma=GAMMA, n_paths=3, standardise=False)
    true = Constant(1 / (1 - GAMMA), LAM)
    batch, _, _ = sampler(Task(sim, length), policy, theta, Draw(0), Group(), Memory(value=true))
    torch.testing.assert_close(batch.advantages, torch.zeros_like(batch.advantages), atol=1e-9, rtol=0)
    np.testing.assert_allclose(batch.targets, 1 / (1 - GAMMA))


class Noisy(Constant):
    """The true value of `Endless`, with errors of about ``size`` in its place."""

    def __init__(self, size: float) -> None:
        super().__init__(1 / (1 - GAMMA), LAM)
        self.size, self.least_advantage = size, 0.1

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        return super().__call__(obs) * (1 + self.size * np.sin(50 * obs[:, 0]))


@pytest.mark.parametrize("streams", [None, 2])
@pytest.mark.parametrize("standardise", [True, False])
def test_errors_of_the_value_function_alone_give_the_policy_no_direction(streams: int | None, standardise: bool):
    sim = Endless()
    policy = mlp(sim)
    theta = policy.initial(np.random.default_rng(0))
    sampler = single(gamma=GAMMA, streams=streams, steps_per_iteration=60, standardise=standardise)
    small, large = (
        sampler(Task(sim, 30), policy, theta, Draw(0), Group(), Memory(value=Noisy(size))).batch.advantages
        for size in (0.002, 0.05)
    )
    assert not small.any()
    assert large.all()


def test_advantages_of_whole_episodes_by_hand_and_what_lies_beyond_the_limit():
    class Remaining(Constant):
        def __call__(self, obs: np.ndarray) -> np.ndarray:
            return self.value * np.asarray(obs, float)[:, 0]  # the steps that are left

    value, sampler = Remaining(3.0, LAM), single(gamma=GAMMA, n_paths=9, standardise=False)
    roll = run_episodes(Task(Echo(), 4), ECHO_ACTOR, Draw(0), range(9))
    found, targets, variance = sampler.estimated_advantages_of_episodes(roll, value, Group())
    for lane in range(9):
        rows = roll.column == lane
        v = [*value(roll.obs[rows]), 0.0 if roll.terminated[lane] else value(roll.final_obs[[lane]])[0]]
        expected, tail = [], 0.0
        for t in range(roll.lengths[lane] - 1, -1, -1):
            tail = roll.rewards[t, lane] + GAMMA * v[t + 1] - v[t] + GAMMA * LAM * tail
            expected.append(tail)
        np.testing.assert_allclose(found[rows], expected[::-1])
        np.testing.assert_allclose(targets[rows], found[rows] + v[:-1])
    assert 0 < roll.terminated.sum() < 9
    standardised, same, _ = replace(sampler, standardise=True).estimated_advantages_of_episodes(roll, value, Group())
    np.testing.assert_allclose(standardised, (found - found.mean()) / found.std())
    np.testing.assert_array_equal(same, targets)
    assert variance == pytest.approx(found.var())


def test_advantages_that_are_rounding_beside_the_values_are_none():
    sim = Endless()
    policy = mlp(sim)
    memory, theta = Memory(value=Constant((1 + 1e-15) / (1 - GAMMA), LAM)), policy.initial(np.random.default_rng(0))
    for standardise in (False, True):
        sampler = single(gamma=GAMMA, standardise=standardise)
        batch, _, _ = sampler(Task(sim, 40), policy, theta, Draw(0), Group(), memory)
        assert not batch.advantages.any()


class Endless(Point):
    """A point that is paid 1 per step and never ends."""

    def step(self, states, actions):
        after = super().step(states, actions)
        return after._replace(rewards=np.ones(len(states)), terminated=np.zeros(len(states), bool))


@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_branch_that_did_not_terminate_is_worth_what_its_last_state_is(length: int):
    sim = Endless()
    policy = mlp(sim)
    theta = policy.initial(np.random.default_rng(0))
    sampler = vine(gamma=GAMMA, branch_length=length, n_states=5, standardise=False)
    batch, _, _ = sampler(Task(sim, 9), policy, theta, Draw(0), Group(), Memory(value=Constant(1 / (1 - GAMMA), LAM)))
    np.testing.assert_allclose(batch.targets, 1 / (1 - GAMMA))


def test_a_branch_that_terminated_is_worth_its_rewards_alone():
    sim = Chain()
    policy = mlp(sim)
    theta = policy.initial(np.random.default_rng(0))
    sampler = vine(gamma=GAMMA, branch_length=200, n_states=6)
    states = np.full((2, 1), 3.0)  # the place before the last
    actions = torch.full((2, 3, 1), 2)  # right: into the last place, which ends the episode

    branches = Branches(sim, PolicyActor(policy, theta), Constant(1e6, LAM))
    q_values, _ = sampler.q_values(branches, states, actions, Draw(0), range(2))
    np.testing.assert_allclose(q_values, sim.rewards[3, 2])
