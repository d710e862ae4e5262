"""Laws of the sampling loop on simulators whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_sims import Array, Chain, Echo, Point, mlp

from trpo_cli.errors import RunError
from trpo_cli.samplers.rollout import Keep, PolicyActor, Rollout, first_lanes, join, rollout
from trpo_cli.sims.base import Step

T = 5  # time limit; Echo's lanes live 1 to 6 steps
ECHO_THETA = torch.tensor([0.1, -0.2, 0.3, np.log(0.5)]).double()  # 0.1 obs_0 - 0.2 obs_1 + 0.3, std 0.5
PACKED = ("obs", "params", "actions", "states", "t", "column")
FIELDS = (*PACKED, "rewards", "lengths", "terminated", "truncated", "final_obs")


def actor(**changes: object) -> PolicyActor:
    return PolicyActor(mlp(Echo()), ECHO_THETA, **changes)


def noise(n: int, n_steps: int = T, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n_steps, n, 1)).astype(np.float32)


def lanes(lengths: list[int]) -> Array:
    return np.stack([lengths, np.linspace(0, 1, len(lengths))], 1).astype(float)


def roll(lengths: list[int], keep: Keep = "states", **changes: object) -> Rollout:
    return rollout(Echo(), actor(), lanes(lengths), noise(len(lengths)), keep=keep, **changes)


def same(one: Rollout, other: Rollout) -> None:
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-12, err_msg=name)


def test_every_step_of_every_lane_by_hand():
    states, u = lanes([3, 1, 6]), noise(3)
    found = rollout(Echo(), actor(), states, u, keep="states")
    assert found.lengths.tolist() == [3, 1, T] and found.terminated.tolist() == [True, True, False]
    assert found.n_steps == 9 and found.rewards.shape == (T, 3)
    order = [(t, i) for t in range(T) for i in range(3) if t < found.lengths[i]]
    assert list(zip(found.t, found.column, strict=True)) == order
    for row, (t, i) in enumerate(order):
        state = states[i] - (t, 0)
        obs = state.astype(np.float32).astype(float)
        mean = obs @ (0.1, -0.2) + 0.3
        action = mean + 0.5 * u[t, i, 0]
        np.testing.assert_array_equal(found.states[row], state)
        np.testing.assert_array_equal(found.obs[row], obs)
        np.testing.assert_allclose(found.params[row], [mean, np.log(0.5)])
        np.testing.assert_allclose(found.actions[row], [action])
        np.testing.assert_allclose(found.rewards[t, i], 1 + 2 * action)  # the control: centre 1, half-range 2
    assert not found.rewards[np.arange(T)[:, None] >= found.lengths].any()


def test_lanes_know_nothing_of_one_another():
    lengths = [3, 1, 6, 2]
    together, u = roll(lengths), noise(4)
    one_by_one = [
        rollout(Echo(), actor(), lanes(lengths)[[i]], u[:, [i]], range(i, i + 1), "states") for i in range(len(lengths))
    ]
    apart = join(one_by_one)
    order = np.lexsort((apart.column, apart.t))
    packed = {name: getattr(apart, name)[order] for name in PACKED}
    same(together, replace(apart, **packed))
    np.testing.assert_array_equal(apart.lanes, together.lanes)


def test_finished_lanes_are_not_stepped_and_the_states_given_are_left_alone():
    sim, states = Echo(), lanes([3, 1, 2])
    states.flags.writeable = False
    found = rollout(sim, actor(), states, noise(3))
    assert sim.calls == [3, 2, 1] and sum(sim.calls) == found.n_steps
    assert found.states is None and len(found.rewards) == 3  # not T: nothing lived longer


def test_more_noise_changes_nothing_before_the_limit_and_the_limit_is_no_termination():
    short = rollout(Echo(), actor(), lanes([6, 2]), noise(2, 9)[:3])
    long = rollout(Echo(), actor(), lanes([6, 2]), noise(2, 9))
    np.testing.assert_array_equal(short.rewards, long.rewards[:3])
    assert short.lengths.tolist() == [3, 2] and short.terminated.tolist() == [False, True]
    assert long.lengths.tolist() == [6, 2] and long.terminated.tolist() == [True, True]


def test_first_actions_replace_the_policys_first_and_no_other():
    first = np.array([[7.0], [8.0]])
    free, forced = roll([4, 4]), roll([4, 4], first_actions=first)
    np.testing.assert_array_equal(forced.actions[:2], first)
    np.testing.assert_array_equal(forced.rewards[0], 1 + 2 * first[:, 0])
    np.testing.assert_array_equal(forced.rewards[1:], free.rewards[1:])  # Echo's states do not depend on actions


def test_without_decisions_the_rewards_are_the_same_and_the_columns_empty():
    kept, bare = roll([3, 1, 6]), roll([3, 1, 6], keep="rewards")
    for name in ("rewards", "lengths", "terminated", "truncated", "final_obs", "lanes"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(bare, name))
    assert bare.obs.shape == (0, 2) and len(bare.params) == len(bare.actions) == 0
    assert bare.states is None and bare.t.shape == bare.column.shape == (0,)


def test_a_population_acts_lane_by_lane_after_others_have_ended_too():
    policy, lengths = mlp(Echo()), [2, 5, 1, 4]
    thetas = torch.from_numpy(np.random.default_rng(3).standard_normal((4, 4)))
    found = rollout(Echo(), PolicyActor(policy, thetas), lanes(lengths), noise(4))
    for i in range(4):
        alone = rollout(Echo(), PolicyActor(policy, thetas[i]), lanes(lengths)[[i]], noise(4)[:, [i]])
        np.testing.assert_allclose(found.rewards[: lengths[i], [i]], alone.rewards)


def test_a_greedy_actor_takes_the_mode_whatever_the_noise():
    for seed in (0, 1):
        found = rollout(Echo(), actor(greedy=True), lanes([3, 4]), noise(2, seed=seed))
        np.testing.assert_array_equal(found.actions, found.params[:, :1])


def test_discrete_actions_reach_the_simulator_as_the_choices_they_are():
    chain, states = Chain(), np.array([[0.0], [2.0], [3.0]])
    policy = mlp(chain)
    uniform = np.random.default_rng(0).random((6, 3, 1)).astype(np.float32)
    found = rollout(
        chain, PolicyActor(policy, torch.zeros(policy.n_parameters).double()), states, uniform, keep="states"
    )
    np.testing.assert_array_equal(found.actions[:3, 0], np.floor(3 * uniform[0, :, 0]))
    paid = chain.rewards[found.states[:, 0].astype(int), found.actions[:, 0]]
    np.testing.assert_array_equal(found.rewards[found.t, found.column], paid)


def test_joined_rollouts_are_their_lanes_side_by_side_and_the_first_lanes_come_back():
    one, other = roll([2, 3]), roll([1, 6, 4])
    both = join([one, other])
    assert both.n_lanes == 5 and both.n_steps == one.n_steps + other.n_steps
    assert both.lengths.tolist() == [2, 3, 1, 5, 4] and both.rewards.shape == (T, 5)
    np.testing.assert_array_equal(both.rewards[:3, :2], one.rewards)
    np.testing.assert_array_equal(both.rewards[:, 2:], other.rewards)
    paid = both.rewards[both.t, both.column]  # the packed rows still point at their own rewards
    np.testing.assert_allclose(paid, 1 + 2 * both.actions[:, 0])
    back = first_lanes(both, 2)
    assert back.rewards[3:].any() == np.False_
    same(replace(back, rewards=back.rewards[:3]), one)
    assert first_lanes(both, 5) is both and join([one]) is one


def test_no_lane_at_all_gives_empty_arrays_of_the_right_widths():
    found = roll([])
    assert found.n_steps == 0 and found.obs.shape == (0, 2) and found.states.shape == (0, 2)
    assert found.params.shape == (0, 2) and found.actions.shape == (0, 1) and found.rewards.sum(0).shape == (0,)


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf, 1e101, -1e101])
def test_a_reward_that_cannot_be_added_up_ends_the_run(reward: float):
    class Broken(Point):
        def step(self, states: Array, actions: Array) -> Step:
            step = super().step(states, actions)
            return step._replace(rewards=np.where(step.rewards < 0.5, reward, step.rewards))

    policy = mlp(Point())
    act = PolicyActor(policy, torch.zeros(policy.n_parameters).double())
    assert rollout(Broken(), act, np.array([[0.0]]), noise(1, 1)).rewards[0, 0] == 1
    sentence = (
        "a reward of .*, which is not a finite number below 1e100 in size; the environment cannot be used for training"
    )
    with pytest.raises(RunError, match=sentence):
        rollout(Broken(), act, np.array([[0.0], [1.0]]), noise(2))
