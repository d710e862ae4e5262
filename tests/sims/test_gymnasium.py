"""Gymnasium's environments as values: the laws of a simulator, Gymnasium's own numbers, and every refusal."""

import pickle
import re
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
from compose import executed, planned
from subprocesses import results

from trpo_cli.errors import ConfigError
from trpo_cli.parallel import processes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.sims.base import Continuous, Discrete
from trpo_cli.sims.gymnasium import Gymnasium
from trpo_cli.sims.gymnasium_pool import Environments
from trpo_cli.training.run import execute

WALKS = [
    f"gym_envs:{kind}Walk-v0" for kind in ("", "Numbered", "Tall", "Pushed", "Stepped", "Shifted", "Factored", "Locked")
]
WALKS += ["gym_envs:NamedWalk-v0"]
IDS = ["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Hopper-v5", *WALKS]
SMALL = (
    "step_limit=30",
    "sampler.steps_per_iteration=null",
    "sampler.n_paths=8",
    "policy.input_scale=none",
    "critic=none",
)
NAMES = ("single", "vine")
TWIGS = (
    "sampler=vine",
    "step_limit=30",
    "sampler.n_trunks=4",
    "sampler.n_states=9",
    "sampler.branch_length=8",
    "policy.input_scale=none",
    "critic=none",
)


def simulator(env_id, **kwargs):
    return Gymnasium(env_id, kwargs or None, 256)


def actions_for(sim, n, seed):
    rng, space = np.random.default_rng(seed), sim.action_space
    if isinstance(space, Continuous):
        return space.controls(rng.uniform(-1.5, 1.5, (n, space.size)))
    return rng.integers(space.factors, size=(n, space.size))


def walked(sim, n_steps=6, n=3):
    """For each step: the states before it, the actions and the `Step`. Lanes go on after the end of their episode."""
    states, story = sim.reset(Draw(0).generators("initial_state", range(n))), []
    for t in range(n_steps):
        actions = actions_for(sim, n, t)
        step = sim.step(states, actions)
        story.append((states, actions, step))
        states = step.states
    return story


def assert_same(sim, found, expected):
    np.testing.assert_array_equal(found.rewards, expected.rewards)
    np.testing.assert_array_equal(found.terminated, expected.terminated)
    np.testing.assert_array_equal(found.truncated, expected.truncated)
    np.testing.assert_array_equal(sim.observe(found.states), sim.observe(expected.states))


@pytest.mark.parametrize("env_id", IDS)
def test_a_stored_state_steps_to_the_same_again_in_any_order_and_company(env_id):
    sim = simulator(env_id)
    story = walked(sim)
    for t in (4, 1, 1, 5, 0):
        states, actions, step = story[t]
        assert_same(sim, sim.step(states, actions), step)
        order = np.array([2, 0, 1])
        moved = sim.step(states[order], actions[order])
        np.testing.assert_array_equal(moved.rewards, step.rewards[order])
        np.testing.assert_array_equal(sim.observe(moved.states), sim.observe(step.states)[order])
    twice = sim.step(np.repeat(story[2][0], 2), np.repeat(story[2][1], 2, axis=0))
    np.testing.assert_array_equal(twice.rewards[::2], twice.rewards[1::2])
    np.testing.assert_array_equal(sim.observe(twice.states)[::2], sim.observe(story[2][2].states))


@pytest.mark.parametrize("env_id", IDS)
def test_branches_of_a_state_go_on_independently(env_id):
    sim = simulator(env_id)
    story = walked(sim)
    branches, expected = np.repeat(story[1][0][:1], 2), story[1:5]
    others = [actions_for(sim, 1, 100 + t) for t in range(4)]
    for (_, actions, step), other in zip(expected, others, strict=True):
        after = sim.step(branches, np.concatenate([actions[:1], other]))
        np.testing.assert_array_equal(sim.observe(after.states)[0], sim.observe(step.states)[0])
        assert after.rewards[0] == step.rewards[0]
        branches = after.states


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Hopper-v5", "gym_envs:FactoredWalk-v0"])
def test_states_travel_to_another_process(env_id):
    sim = simulator(env_id)
    story = walked(sim)
    for t in (5, 2):
        states, actions, step = story[t]
        assert_same(sim, sim.step(pickle.loads(pickle.dumps(states)), actions), step)
    last = story[-1][2].states
    actions = actions_for(sim, 3, 9)
    far = sim.step(pickle.loads(pickle.dumps(last)), actions)
    assert_same(sim, far, sim.step(last, actions))
    copied = pickle.loads(pickle.dumps(sim))
    assert copied == sim and copied.obs_shape == sim.obs_shape


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Hopper-v5"])
def test_steps_are_gymnasiums_own(env_id):
    sim, env = simulator(env_id), gymnasium.make(env_id)
    (rng,) = Draw(0).generators("initial_state", [0])
    seen, _ = env.reset(seed=int(rng.integers(2**31)))
    states = sim.reset(Draw(0).generators("initial_state", [0]))
    np.testing.assert_array_equal(sim.observe(states)[0], np.float32(seen))
    for t in range(20):
        action = env.action_space.sample() if env_id != "CartPole-v1" else t % 2
        step = sim.step(states, np.array(action).reshape(1, -1))
        seen, reward, terminated, _, _ = env.step(action)
        np.testing.assert_array_equal(sim.observe(step.states)[0], np.float32(seen))
        assert step.rewards[0] == reward and step.terminated[0] == terminated
        states = step.states
        if terminated:
            break
    env.close()


def test_single_paths_copy_nothing_and_replay_nothing(monkeypatch):
    sim = simulator("gym_envs:LockedWalk-v0")
    monkeypatch.setattr(Gymnasium, "_branch", lambda *_: pytest.fail("a state was gone on from twice"))
    walked(sim)


def test_environments_of_forgotten_episodes_are_used_again(monkeypatch):
    sim, made = simulator("gym_envs:Walk-v0"), []
    make = Environments.new
    monkeypatch.setattr(Environments, "new", lambda self: made.append(make(self)) or made[-1])
    for _ in range(3):
        walked(sim, n_steps=2)
    assert len(made) == 3


def test_lanes_start_from_their_own_seed():
    sim = simulator("CartPole-v1")
    whole, part = (sim.reset(Draw(7, 2).generators("initial_state", lanes)) for lanes in (range(5), range(2, 5)))
    np.testing.assert_array_equal(sim.observe(whole)[2:], sim.observe(part))
    assert len(np.unique(sim.observe(whole)[:, 0])) == 5
    assert sim.observe(whole[:0]).shape == (0, 4) and len(sim.step(whole[:0], np.zeros((0, 1), int)).rewards) == 0


@pytest.mark.parametrize(
    ("env_id", "obs_shape", "space"),
    [
        ("gym_envs:NumberedWalk-v0", (5,), (2,)),
        ("gym_envs:TallWalk-v0", (12,), (2,)),
        ("gym_envs:FactoredWalk-v0", (2,), (2, 3)),
        ("gym_envs:ShiftedWalk-v0", (2,), (2,)),
        ("gym_envs:PushedWalk-v0", (2,), [(-2, 4), (-2, 4)]),
        ("gym_envs:NamedWalk-v0", (28,), (2, 2)),
        ("gym_envs:PicturedWalk-v0", (3, 16, 12), [(-1, 1), (-1, 1)]),
    ],
)
def test_spaces(env_id, obs_shape, space):
    sim = simulator(env_id)
    assert sim.obs_shape == obs_shape and sim.n_state == np.prod(obs_shape) and sim.step_limit == 30
    if isinstance(sim.action_space, Discrete):
        assert sim.action_space.factors == space
    else:
        assert list(zip(sim.action_space.low, sim.action_space.high, strict=True)) == space


def test_a_discrete_observation_is_one_hot():
    sim = simulator("gym_envs:NumberedWalk-v0", length=4)
    seen = sim.observe(sim.reset(Draw(0).generators("initial_state", range(30))))
    assert set(map(tuple, seen)) == set(map(tuple, np.eye(5)[:4].astype(np.float32)))


def test_an_environment_that_cuts_its_episodes_reports_them_as_truncated_and_not_as_terminated():
    steps = [step for _, _, step in walked(simulator("gym_envs:WearyWalk-v0", length=9), 3, n=2)]
    assert [step.truncated.tolist() for step in steps] == [[False] * 2, [False] * 2, [True] * 2]
    assert not any(step.terminated.any() for step in steps)


def test_a_terminal_state_at_the_step_that_is_cut_is_terminated_only():
    sim = simulator("gym_envs:WearyWalk-v0", length=3, wind=0.0)  # three steps to the right from the first place
    seeds = np.random.default_rng(1).spawn(30)
    states = sim.reset(seeds)
    states = states[sim.observe(states)[:, 0] == 0]
    assert len(states) > 3
    for _ in range(3):
        step = sim.step(states, np.ones((len(states), 1), int))
        states = step.states
    assert step.terminated.all() and not step.truncated.any()


def refusal(env_id, kwargs=None):
    """The one sentence in which an environment is refused."""
    with pytest.raises(ConfigError) as caught:
        Gymnasium(env_id, kwargs, 256)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("env_id", "told"),
    [
        ("CartPole-v99", ["is not registered; did you mean env.id=CartPole-v1?"]),
        ("gym_envs:Wlk-v0", ["is not registered; did you mean env.id=gym_envs:Walk-v0?"]),
        ("no such", ["is not registered; if another package registers it, write env.id=package:no such"]),
        pytest.param(
            "LunarLander-v3",
            ["cannot be run", "Box2D"],
            marks=pytest.mark.skipif(find_spec("Box2D") is not None, reason="Box2D is installed"),
        ),
        ("gym_envs:ToldWalk-v0", ["observations", "Text(", "(observation['words'][0])", "env.id=mine:"]),
        ("gym_envs:SpokenWalk-v0", ["actions", "Text(", "MultiDiscrete and MultiBinary", "env.id=mine:"]),
        ("gym_envs:EmptyWalk-v0", ["observations", "Box([], [], (0,)", "env.id=mine:"]),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason_and_a_way_out(env_id, told):
    sentence = refusal(env_id)
    assert sentence.startswith(f"env.id={env_id} ") and all(word in sentence for word in told), sentence


def test_the_refusals_word_for_word():
    broken = r"env\.id=gym_envs:BrokenWalk-v0 cannot be run \(OSError: the road is closed, gym_envs\.py:\d+\)"
    assert re.fullmatch(broken, refusal("gym_envs:BrokenWalk-v0"))
    assert refusal("nowhere:A-v0") == (
        "env.id=nowhere:A-v0 cannot be imported (No module named 'nowhere'); "
        "install the package or put its folder on PYTHONPATH"
    )
    assert refusal("CartPole-v1", {"max_episode_steps": 5}).startswith(
        "env.kwargs.max_episode_steps is not an argument of the environment: "
    )


def test_an_argument_that_the_environment_does_not_know_is_named():
    sentence = refusal("CartPole-v1", {"wings": 2})
    assert sentence.startswith("env.id=CartPole-v1 cannot be run") and "wings" in sentence


@pytest.mark.parametrize("words", [[], ["env.id=CartPole-v1", "env.kwargs=5"], ["env.id=[CartPole-v1]"]])
def test_wrong_words_for_an_environment_are_named(words):
    key = words[-1].partition("=")[0] if words else "env.id"
    with pytest.raises(ConfigError, match=rf"^{key}\b"):
        planned("env=gymnasium", *words)


def test_an_environment_without_a_limit_needs_one():
    with pytest.raises(ConfigError, match="step_limit"):
        planned("env=gymnasium", "env.id='gym_envs:EndlessWalk-v0'")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Locked", "cannot be copied (TypeError: cannot pickle '_thread.lock' object, copy.py:"),
        ("Shared", "a copy of it does not continue as the original does"),
        ("Unseeded", "does not repeat itself after a reset with the same seed"),
    ],
)
def test_the_vine_refuses_what_cannot_be_copied_and_single_paths_do_not(kind, reason):
    words = ("env=gymnasium", f"env.id=gym_envs:{kind}Walk-v0")
    assert planned(*words, "critic=none").task.step_limit == 30
    with pytest.raises(ConfigError, match=f"^env.id=gym_envs:{kind}Walk-v0") as caught:
        planned(*words, "sampler=vine")
    assert reason in str(caught.value) and str(caught.value).endswith("use sampler=single")


def test_arguments_and_the_time_limit_come_from_the_environment_unless_given():
    plan = planned("env=gymnasium", "env.id=gym_envs:Walk-v0", "env.kwargs={length: 9}")
    assert plan.task.sim.kwargs == {"length": 9} and plan.config["step_limit"] == plan.task.step_limit == 30
    assert planned("env=gymnasium", "env.id=gym_envs:EndlessWalk-v0", "step_limit=7").task.step_limit == 7
    assert planned("env=gymnasium", "env.id=CartPole-v1").config["step_limit"] == 500


@pytest.mark.parametrize(
    "sampler", [(*SMALL, "sampler.n_paths=24"), (*TWIGS, "sampler.n_states=30", "sampler.n_trunks=8")], ids=NAMES
)
@pytest.mark.parametrize("kind", ["Walk", "FactoredWalk", "PushedWalk"])
def test_another_packages_environment_learns(kind, sampler, tmp_path):
    """Straight out of the walk takes 4.4 steps, to and fro more than 15."""
    words = ("env=gymnasium", f"env.id=gym_envs:{kind}-v0", "env.kwargs={length: 6}", *sampler, f"outputs={tmp_path}")
    settings = ("optimizer.kl_limit=0.1", "policy.hidden_sizes=[]", "policy.input_scale=none", "iterations=25")
    returns = [row["collect/episode_return"] for row in results(executed(planned(*words, *settings)))]
    assert np.mean(returns[:3]) < -9 and np.mean(returns[-5:]) > -8, returns


@pytest.mark.parametrize("sampler", [SMALL, TWIGS], ids=NAMES)
def test_two_workers_sample_what_one_does(sampler, tmp_path):
    rows = {}
    for n in (1, 2):
        plan = planned(
            "env=gymnasium", "env.id=Acrobot-v1", *sampler, "iterations=2", f"outputs={tmp_path}", f"name=w{n}"
        )
        assert processes.run(n, lambda group, plan=plan: execute(plan, group, lambda: 0)) == 0
        rows[n] = results(plan.directory)
    for one, two in zip(rows[1], rows[2], strict=True):
        numbers = [key for key, value in one.items() if key.startswith("collect/") and not isinstance(value, str)]
        np.testing.assert_allclose([two[k] for k in numbers], [one[k] for k in numbers], rtol=1e-6)


def test_a_run_that_is_continued_comes_to_the_same_rows(tmp_path):
    words = ("env=gymnasium", "env.id=gym_envs:PushedWalk-v0", *SMALL)
    executed(planned(*words, "iterations=2", f"outputs={tmp_path}", "name=parted"))
    parted = executed(planned(*words, "iterations=4", f"outputs={tmp_path}", "name=parted"))
    assert results(parted) == results(executed(planned(*words, "iterations=4", f"outputs={tmp_path}", "name=whole")))


@pytest.mark.parametrize(
    ("task", "env_id"),
    [
        ("ant_v5", "Ant-v5"),
        ("humanoid_v5", "Humanoid-v5"),
        ("reacher_v5", "Reacher-v5"),
        ("pusher_v5", "Pusher-v5"),
        ("inverted_pendulum_v5", "InvertedPendulum-v5"),
        ("inverted_double_pendulum_v5", "InvertedDoublePendulum-v5"),
    ],
)
def test_the_tasks_that_gymnasium_computes_are_its_own_with_its_limit(task, env_id):
    plan = planned(f"env={task}")
    sim, env = plan.task.sim, gymnasium.make(env_id)
    assert plan.task.step_limit == env.spec.max_episode_steps and plan.critic is not None
    seed = int(np.random.default_rng(5).integers(2**31))
    obs, _ = env.reset(seed=seed)
    states = sim.reset([np.random.default_rng(5)])
    for t in range(60):
        np.testing.assert_array_equal(sim.observe(states)[0], np.float32(obs))
        action = actions_for(sim, 1, t)
        control = np.clip(action[0], env.action_space.low, env.action_space.high).astype(env.action_space.dtype)
        obs, reward, terminated, _, _ = env.step(control)
        step = sim.step(states, action)
        states = step.states
        assert (step.rewards[0], step.terminated[0]) == (reward, terminated)
        if terminated:
            break
    env.close()


def test_an_environment_that_remembers_earlier_episodes_is_made_anew_for_each():
    assert simulator("gym_envs:Walk-v0").remarks == []
    sim = simulator("gym_envs:RememberingWalk-v0")
    assert sim.remarks == [f"{sim.name} remembers earlier episodes after a reset, so it is made anew for each episode."]
    first, again = walked(sim), walked(sim)
    for (_, _, one), (_, _, other) in zip(first, again, strict=True):
        assert_same(sim, other, one)
