"""Streams: each gives its share of steps, episodes run on, and neither a checkpoint nor the workers change a batch."""

import io
from functools import cache
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from compose import planned
from random_batches import in_workers
from toy_sims import Array, Chain, Echo, Point, cartpole, mlp, single

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.base import Memory, Sampled
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.samplers.single_path import SinglePath
from trpo_cli.samplers.streams import Streams, run_streams
from trpo_cli.sims.base import Simulator, Task
from trpo_cli.sims.gymnasium import Gymnasium

WORLD = Group()
GAMMA, LAM = 0.9, 0.8


class Linear:
    """V is the first number of the observation."""

    gae_lambda, least_advantage = LAM, 0.0

    def __call__(self, obs: Array) -> Array:
        return np.asarray(obs, float)[:, 0]


def streams(n: int, steps: int, **changes: Any) -> SinglePath:
    return single(gamma=GAMMA, streams=n, steps_per_iteration=steps, standardise=False, **changes)


def policy_for(sim: Simulator) -> tuple[Policy, torch.Tensor]:
    policy = mlp(sim)
    return policy, policy.initial(np.random.default_rng(0))


def iterations(sampler: SinglePath, task: Task, n: int, group: Group = WORLD, value: Any = None) -> list[Sampled]:
    """``n`` iterations under one θ, each from where the one before it ended."""
    policy, theta = policy_for(task.sim)
    found: list[Sampled] = []
    for i in range(n):
        streams = found[-1].streams if found else None
        if i == 2 and streams is not None:
            streams = loaded(streams)  # every worker finds its own streams in a checkpoint
        found.append(sampler(task, policy, theta, Draw(3, i), group, Memory(value=value or Linear(), streams=streams)))
    return found


def by_stream(found: list[Sampled], n: int) -> Array:
    """Observations of each stream ``[n, T, O]``, its iterations one after the other."""
    return np.concatenate([np.asarray(b.obs).reshape(-1, n, b.obs.shape[-1]) for b, _, _ in found]).swapaxes(0, 1)


def test_episodes_run_on_into_the_next_iteration_and_new_ones_follow_at_once():
    found = iterations(streams(3, 12), Task(Echo(), 30), 5)
    for obs in by_stream(found, 3):  # (steps left, number of the episode's own)
        assert len(obs) == 5 * 4
        for (left, name), (next_left, next_name) in pairwise(obs):
            assert (next_left, next_name) == (left - 1, name) if left > 1 else next_name != name
    names = [name for obs in by_stream(found, 3) for left, name in obs if left == 1]
    assert sum(stats["collect/n_episodes"] for _, stats, _ in found) == len(names) > 9
    assert all(stats["collect/sim_steps"] == 12 == batch.n_states for batch, stats, _ in found)


def test_the_statistics_are_those_of_the_last_hundred_episodes():
    task = Task(Echo(), 30)
    first = iterations(streams(2, 2), Task(Echo(), 30), 1)[0]
    if first.stats["collect/n_episodes"] == 0:
        assert np.isnan(first.stats["collect/score"]) and "collect/episode_returns" not in first.stats
    found = iterations(streams(4, 200), task, 4)
    lengths, so_far = [], [0] * 4
    for row, (left, _) in enumerate(np.concatenate([b.obs for b, _, _ in found])):
        so_far[row % 4] += 1
        if left <= 1:
            lengths.append(so_far[row % 4])
            so_far[row % 4] = 0
    last = found[-1]
    assert last.streams is not None and last.streams.recent[:, 1].tolist() == lengths[-100:]
    returns, steps, terminated, _ = last.streams.recent.T
    assert last.stats["collect/episode_return"] == pytest.approx(returns.mean())
    assert last.stats["collect/episode_length"] == pytest.approx(steps.mean()) and terminated.all()
    assert last.stats["collect/episode_return_min"] == returns.min() < returns.max()
    assert last.stats["collect/episode_return_max"] == returns.max()
    assert last.stats["collect/episode_return_std"] == pytest.approx(returns.std())
    assert last.stats["collect/episode_returns"] == tuple(sorted(returns))
    assert last.stats["collect/score"] == pytest.approx(returns.mean() / 30)


def test_a_batch_has_as_many_steps_of_every_stream_as_the_budget_pays_for():
    ((batch, stats, _),) = iterations(streams(4, 11), Task(Echo(), 30), 1)
    assert batch.n_states == stats["collect/sim_steps"] == 8


class Bandit(Echo):
    """Echo that stays in its state, and gives back the array that it was given."""

    def step(self, states: Array, actions: Array) -> Any:
        return super().step(states, actions)._replace(states=states)


@pytest.mark.parametrize("sim", [Echo(), Bandit()])
def test_the_streams_before_an_iteration_are_left_alone(sim: Simulator):
    task, (policy, theta) = Task(sim, 3), policy_for(sim)
    actor = PolicyActor(policy, theta)
    _, before = run_streams(task, actor, Draw(0), 4, Streams.begin(3), WORLD)
    (seen, one), (again, other) = (run_streams(task, actor, Draw(0, 1), 7, before, WORLD) for _ in range(2))
    np.testing.assert_array_equal(seen.obs, again.obs)
    for name in ("t", "returns", "recent"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("limit", [2, 30])
def test_an_episode_ends_at_the_limit_and_where_the_simulator_cuts_it(limit: int):
    class Cut(Echo):
        def step(self, states: Array, actions: Array) -> Any:
            return super().step(states, actions)._replace(truncated=states[:, 0] == 4)

    policy, theta = policy_for(Echo())
    task, actor = Task(Cut(9), limit), PolicyActor(policy, theta)
    stretch, after = run_streams(task, actor, Draw(0), 40, Streams.begin(3), WORLD)
    cut = (stretch.obs[:, 0] == 4).reshape(40, 3)
    assert cut.any() and stretch.truncated[cut].all() and after.recent[:, 1].max() == min(limit, 6)
    assert np.array_equal(stretch.truncated, cut) == (limit == 30)


def test_a_step_that_terminates_at_the_limit_is_not_truncated():
    policy, theta = policy_for(Echo())
    stretch, _ = run_streams(Task(Echo(3), 3), PolicyActor(policy, theta), Draw(0), 30, Streams.begin(3), WORLD)
    assert stretch.terminated.any() and not stretch.truncated.any() and not len(stretch.cut_obs)


def test_a_reward_that_is_not_finite_ends_the_run():
    class Broken(Echo):
        def step(self, states: Array, actions: Array) -> Any:
            return super().step(states, actions)._replace(rewards=np.full(len(states), np.nan))

    with pytest.raises(RunError, match="a reward of nan"):
        iterations(streams(2, 4), Task(Broken(), 30), 1)


def test_returns_count_every_step_of_an_episode_however_many_iterations_it_spans():
    class Payer(Echo):
        def step(self, states: Array, actions: Array) -> Any:
            return super().step(states, actions)._replace(rewards=np.full(len(states), 2.0))

    found = iterations(streams(2, 4), Task(Payer(9), 30), 12)
    recent = found[-1].streams.recent  # type: ignore[union-attr]
    assert len(recent) > 5
    np.testing.assert_array_equal(recent[:, 0], 2 * recent[:, 1])
    assert recent[:, 1].max() > 4


def test_advantages_by_hand_across_a_terminal_state_a_limit_and_the_end_of_the_batch():
    """Reward 1, V = 10 s + 7 for a state that counts its steps s; one stream terminates at s = 3, all end at 5."""

    class Counter(Point):
        def reset(self, rngs: Any) -> Array:
            return np.array([(0.0, i) for i in range(len(rngs))]).reshape(-1, 2)

        def observe(self, states: Array) -> Any:
            return 10 * states[:, :1] + 7

        def step(self, states: Array, actions: Array) -> Any:
            after = states + np.array([1.0, 0.0])
            return (
                super()
                .step(states[:, :1], actions)
                ._replace(
                    states=after,
                    rewards=np.ones(len(states)),
                    terminated=(after[:, 0] == 3) & (states[:, 1] == 0),
                )
            )

    ((batch, _, _),) = iterations(streams(2, 14), Task(Counter(), 5), 1)
    advantages = batch.advantages.numpy()[:, 0].reshape(7, 2)

    def expected(lane: int) -> list[float]:
        errors, ends = [], []
        for t in range(7):
            s = t % (3 if lane == 0 else 5)
            terminal, limit = lane == 0 and s == 2, lane == 1 and s == 4
            errors.append(1 + GAMMA * (0 if terminal else 10 * (s + 1) + 7) - (10 * s + 7))
            ends.append(terminal or limit)
        found, tail = [], 0.0
        for error, end in zip(errors[::-1], ends[::-1], strict=True):
            tail = error + (0 if end else GAMMA * LAM * tail)
            found.append(tail)
        return found[::-1]

    # After stream 0 begins again, its new state is lane 0 of a reset of one lane: it terminates at 3 again.
    np.testing.assert_allclose(advantages[:, 0], expected(0))
    np.testing.assert_allclose(advantages[:5, 1], expected(1)[:5])
    np.testing.assert_allclose(batch.targets, batch.advantages.numpy()[:, 0] + batch.obs[:, 0])


@pytest.mark.parametrize("length", [1, 7, 40])
def test_with_the_true_value_beyond_it_no_cut_matters(length: int):
    class Endless(Point):
        def step(self, states: Array, actions: Array) -> Any:
            after = super().step(states, actions)
            cut = np.arange(len(states)) == 1  # the simulator's own cut, in one stream
            return after._replace(rewards=np.ones(len(states)), terminated=np.zeros(len(states), bool), truncated=cut)

    class Exact:
        gae_lambda, least_advantage = LAM, 0.0

        def __call__(self, obs: Array) -> Array:
            return np.full(len(obs), 1 / (1 - GAMMA))

    for batch, stats, _ in iterations(streams(3, 33), Task(Endless(), length), 3, value=Exact()):
        np.testing.assert_allclose(batch.advantages, 0, atol=1e-9)
        assert stats["collect/terminated_fraction"] in (0, pytest.approx(np.nan, nan_ok=True))


SIMS = {
    "cart-pole": lambda: cartpole(),
    "chain": lambda: Chain(),
    "hopper": lambda: planned("env=hopper_v5").task.sim,
    "pong": lambda: planned("env=atari/pong", "env.sticky_actions=0.25").task.sim,
    "gymnasium, discrete": lambda: Gymnasium("CartPole-v1", None, 256),
    "gymnasium, continuous": lambda: Gymnasium("Pendulum-v1", None, 256),
    "gymnasium, MuJoCo": lambda: Gymnasium("Reacher-v5", None, 256),
}


def loaded(streams: Streams) -> Streams:
    """What a checkpoint gives back."""
    file = io.BytesIO()
    torch.save(streams.to_dict(), file)
    file.seek(0)
    return Streams.from_dict(torch.load(file, weights_only=True))


@pytest.mark.parametrize("name", SIMS)
def test_what_a_checkpoint_holds_goes_on_as_the_streams_themselves_would(name: str):
    sim = SIMS[name]()
    task = Task(sim, 9)
    policy = planned("env=atari/pong").policy if name == "pong" else mlp(sim)
    actor = PolicyActor(policy, policy.initial(np.random.default_rng(0)))
    before = Streams.begin(3)
    for i in range(3):
        _, before = run_streams(task, actor, Draw(0, i), 5, before, WORLD)
    one, after_one = run_streams(task, actor, Draw(0, 3), 13, loaded(before), WORLD)
    other, after_other = run_streams(task, actor, Draw(0, 3), 13, before, WORLD)
    for ours, theirs in zip(vars(one).values(), vars(other).values(), strict=True):
        same = [np.array_equal(a, b) for a, b in zip(ours.ravel(), theirs.ravel(), strict=True)]
        assert ours.shape == theirs.shape and all(same)
    assert after_one.t.tolist() == after_other.t.tolist()
    np.testing.assert_array_equal(after_one.recent, after_other.recent)


def drawn(group: Group) -> list[Any]:
    """What every worker's streams give, in the order of streams."""
    found = []
    for n in (1, 5):
        for batch, stats, after in iterations(streams(n, 6 * n), Task(cartpole(), 20), 4, group):
            shape = (6, -1)
            columns = [x.reshape(*shape, *x.shape[1:]) for x in (batch.obs, batch.actions.numpy(), batch.targets)]
            whole = [np.concatenate(group.gather_objects(column), 1) for column in columns]
            found.append((whole, stats, after.t, after.recent, [state["state"] for state in after.saved]))
    return found


@cache
def alone() -> list[Any]:
    return drawn(WORLD)


@pytest.mark.parametrize("size", [2, 3])
def test_the_number_of_workers_changes_no_batch_even_with_fewer_streams_than_workers(size: int):
    for part in in_workers(size, drawn):
        for ours, theirs in zip(part, alone(), strict=True):
            for a, b in zip(ours[0], theirs[0], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12)
            assert {k: v for k, v in ours[1].items() if v == v} == {k: v for k, v in theirs[1].items() if v == v}
            for a, b in zip(ours[2:], theirs[2:], strict=True):
                np.testing.assert_array_equal(a, b)


def test_streams_that_cannot_work_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"^sampler\.streams=0 must be at least 1"):
        streams(0, 10)
    with pytest.raises(ConfigError, match=r"^sampler\.steps_per_iteration=3 must be at least sampler\.streams=4"):
        streams(4, 3)
    with pytest.raises(ConfigError, match=r"^sampler\.steps_per_iteration=null must be at least sampler\.streams=4"):
        single(streams=4)
    with pytest.raises(ConfigError, match=r"^sampler\.streams=4 must be null without a value function"):
        streams(4, 8).check(cartpole(), has_critic=False)
    assert streams(4, 8).check(cartpole(), has_critic=True) is None
    assert not streams(4, 8).whole_paths and single().whole_paths


def test_saved_streams_of_an_environment_that_does_not_repeat_itself_begin_new_episodes():
    class Random(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.random.default_rng().random(1, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.random.default_rng().random(1, np.float32), 0.0, False, False, {}

    gymnasium.register("Unrepeatable-v0", Random, max_episode_steps=10)
    sim = Gymnasium("Unrepeatable-v0", None, 256)
    streams(2, 4).check(sim, has_critic=True)
    rngs = [np.random.default_rng(i) for i in range(2)]
    states = sim.step(sim.reset(rngs), np.zeros((2, 1))).states
    again = sim.from_saved(sim.to_saved(states))
    assert [state.t for state in again] == [0, 0] and sim.step(again, np.zeros((2, 1))).states[0].t == 1
