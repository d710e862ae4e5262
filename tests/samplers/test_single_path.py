"""Laws of the single path on simulators with known Q-values (Section 5.1)."""

from math import sqrt

import numpy as np
import pytest
import torch
from toy_policies import (
    CHAIN,
    CHAIN_POLICY,
    CHAIN_THETA,
    ECHO,
    ECHO_ACTOR,
    ECHO_POLICY,
    ECHO_TASK,
    ECHO_THETA,
    POINT,
    POINT_ACTOR,
    POINT_TASK,
    WORLD,
    probabilities,
)
from toy_sims import Array, Echo, scripted, single

from trpo_cli.errors import ConfigError
from trpo_cli.samplers.episodes import run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.sims.base import Task


def test_reward_to_go_is_an_unbiased_estimate_of_q():
    sampler = single(n_paths=1000, baseline="none", standardise=False)
    batch, _, _ = sampler(Task(CHAIN, 8), CHAIN_POLICY, CHAIN_THETA, Draw(1), WORLD)
    first = slice(0, 1000)  # packed by time: the first decision of every path
    place, choice = batch.obs[first].argmax(1), batch.actions[first, 0, 0].numpy()
    q = CHAIN.q_values(probabilities(), 0.9, 8)
    for s in range(4):
        for a in range(3):
            found = batch.advantages[first, 0].numpy()[(place == s) & (choice == a)]
            assert len(found) > 10
            error = found.std() / sqrt(len(found))
            assert abs(found.mean() - q[s, a]) <= 3 * error + 1e-12, (s, a)


def test_with_a_policy_that_is_certain_reward_to_go_is_q_exactly():
    certain = 1e4 * CHAIN_THETA
    sampler = single(n_paths=50, baseline="none", standardise=False)
    batch, _, _ = sampler(Task(CHAIN, 8), CHAIN_POLICY, certain, Draw(1), WORLD)
    q = CHAIN.q_values(probabilities(certain), 0.9, 8)
    first = slice(0, 50)
    place, choice = batch.obs[first].argmax(1), batch.actions[first, 0, 0].numpy()
    np.testing.assert_allclose(batch.advantages[first, 0], q[place, choice], rtol=1e-12)


def test_the_batch_says_which_policy_drew_which_actions():
    batch, _, _ = single()(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(1), WORLD)
    assert batch.estimator == "importance" and batch.actions.shape[1:] == (1, 1) and batch.n_states == len(batch.obs)
    params = ECHO_POLICY.params(ECHO_THETA, ECHO_POLICY.tensor(batch.obs))
    torch.testing.assert_close(batch.old, params)
    torch.testing.assert_close(batch.log_q[:, 0], ECHO_POLICY.dist.log_prob(params, batch.actions[:, 0]))


def test_the_time_baseline_is_the_mean_at_each_step_and_holds_below_five_paths():
    rng = np.random.default_rng(0)
    lengths = np.array([1, 3, 3, 4, 5, 5, 6, 7])  # alive at t = 0…6: 8, 7, 7, 5, 4, 2, 1
    alive = np.arange(7)[:, None] < lengths
    rewards = np.where(alive, rng.standard_normal((7, 8)), 0.0)
    roll = scripted(rewards, lengths)
    found = single(gamma=0.5, standardise=False).advantages(roll, WORLD)
    to_go = sum(0.5**k * np.vstack([rewards[k:], np.zeros((k, 8))]) for k in range(7))
    baseline = [to_go[t][alive[t]].mean() for t in range(4)]
    baseline += [baseline[3]] * 3
    np.testing.assert_allclose(found, [to_go[t, i] - baseline[t] for t, i in zip(roll.t, roll.column, strict=True)])


def test_with_fewer_than_five_paths_in_all_the_baseline_holds_when_the_first_ends():
    rewards = np.array([[1.0, 3.0], [0.0, 4.0]])
    found = single(gamma=1.0, standardise=False).advantages(scripted(rewards, np.array([1, 2])), WORLD)
    np.testing.assert_allclose(found, [1 - 4, 7 - 4, 4 - 4])


def test_the_baseline_of_a_path_cut_off_by_the_budget_is_never_missing():
    # The first lanes of a rollout keep rows of the time at which only later lanes were alive.
    rewards = np.array([[1.0, 3.0], [2.0, 4.0], [0.0, 0.0]])
    found = single(gamma=1.0, standardise=False).advantages(scripted(rewards, np.array([2, 2])), WORLD)
    np.testing.assert_allclose(found, [3 - 5, 7 - 5, 2 - 3, 4 - 3])


@pytest.mark.parametrize("baseline", ["time", "none"])
def test_standardised_advantages_have_unit_variance_and_keep_their_proportions(baseline: str):
    roll = run_episodes(POINT_TASK, POINT_ACTOR, Draw(1), range(16))
    bare = single(baseline=baseline, standardise=False).advantages(roll, WORLD)
    found = single(baseline=baseline).advantages(roll, WORLD)
    assert found.std() == pytest.approx(1.0)
    np.testing.assert_allclose(found * bare.std(), bare)
    close = scripted(1 + 1e-7 * roll.rewards[:1], np.ones(16, int))  # small differences, but more than rounding
    assert single(baseline=baseline).advantages(close, WORLD).std() == pytest.approx(1.0)


@pytest.mark.parametrize("baseline", ["time", "none"])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1e6])
def test_without_variance_there_is_no_advantage(baseline: str, reward: float):
    roll = scripted(np.full((1, 7), reward), np.ones(7, int))
    assert not single(baseline=baseline).advantages(roll, WORLD).any()


def test_what_a_baseline_leaves_by_rounding_is_no_advantage():
    roll = scripted(np.full((3, 7), 0.1), np.full(7, 3))
    assert single(standardise=False).advantages(roll, WORLD).std() > 0
    assert not single().advantages(roll, WORLD).any()


@pytest.mark.parametrize("budget", [1, 20, 50, 137])
def test_a_budget_of_steps_is_met_by_the_fewest_whole_episodes(budget: int):
    bare = {"baseline": "none", "standardise": False}
    everything = run_episodes(ECHO_TASK, ECHO_ACTOR, Draw(3, 2), range(100))
    n = int(np.searchsorted(np.cumsum(everything.lengths), budget)) + 1
    ECHO.calls.clear()
    batch, found, _ = single(steps_per_iteration=budget, **bare)(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(3, 2), WORLD)
    assert found["collect/n_episodes"] == n
    assert everything.lengths[:n].sum() == len(batch.obs) >= budget
    assert found["collect/sim_steps"] == sum(ECHO.calls) >= len(batch.obs)  # those not needed are counted
    assert budget > everything.lengths[: n - 1].sum()
    exact, _, _ = single(n_paths=n, **bare)(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(3, 2), WORLD)

    def rows(b: object) -> Array:
        table = np.column_stack([b.obs, b.actions[:, 0], b.advantages])
        return table[np.lexsort(table.T)]

    np.testing.assert_allclose(rows(batch), rows(exact))


def test_any_budget_gives_finite_advantages_of_at_least_two_paths():
    for seed in range(40):  # one episode in five or so outlives all that are kept
        sampler = single(steps_per_iteration=25)
        batch, found, _ = sampler(Task(Echo(12), 30), ECHO_POLICY, ECHO_THETA, Draw(seed), WORLD)
        assert torch.isfinite(batch.advantages).all() and found["collect/n_episodes"] >= 2
    batch, found, _ = single(steps_per_iteration=1)(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(0), WORLD)
    assert found["collect/n_episodes"] == 2 and batch.advantages.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"gamma": 0.0},
        {"gamma": 1.5},
        {"n_paths": 0},
        {"n_paths": 1},
        {"steps_per_iteration": 0},
        {"baseline": "value"},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(changes: dict[str, object]):
    ((name, value),) = changes.items()
    with pytest.raises(ConfigError, match=rf"sampler\.{name}={value}"):
        single(**changes)


def test_a_single_path_works_with_every_simulator():
    assert single().check(POINT, has_critic=False) is None and single().whole_paths
