"""Laws of whole episodes: shared by budget, grouped, counted, and the same whatever is known before."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from toy_policies import (
    ECHO_ACTOR,
    ECHO_POLICY,
    ECHO_TASK,
    ECHO_THETA,
    POINT_POLICY,
    POINT_TASK,
    POINT_THETA,
    WORLD,
)
from toy_sims import Array, Echo, mlp, scripted, single, vine

from trpo_cli.samplers.base import Memory, Sampler
from trpo_cli.samplers.episodes import Budget, episode_stats, first_until, run_budget, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.samplers.single_path import SinglePath
from trpo_cli.samplers.vine import Vine
from trpo_cli.sims.base import Task


@pytest.mark.parametrize("sampler", [single(steps_per_iteration=137), vine(trunk_steps=40)], ids=["single", "vine"])
def test_what_is_expected_of_an_episode_decides_what_is_dropped_and_nothing_else(sampler: SinglePath | Vine):
    batches, steps = [], []
    for expected in (nan, 0.5, 3.0, 1e6):
        batch, found, _ = sampler(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(3, 2), WORLD, Memory(expected))
        order = np.lexsort(np.column_stack([batch.obs, batch.advantages]).T)
        batches.append([x[order] for x in (batch.obs, batch.actions.numpy(), batch.advantages.numpy())])
        steps.append(found["collect/sim_steps"])
    for other in batches[1:]:
        for ours, theirs in zip(batches[0], other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert steps[1] > max(steps[2:])  # the shorter the episodes are taken to be, the more of them


@pytest.mark.parametrize(
    ("lengths", "budget", "n"), [([3, 4, 5], 1, 1), ([3, 4, 5], 3, 1), ([3, 4, 5], 4, 2), ([3, 4, 5], 99, 3)]
)
def test_the_fewest_leading_items_that_reach_a_budget(lengths: list[int], budget: int, n: int):
    assert first_until(lengths, budget) == n


def test_many_paths_run_in_groups_that_do_not_show(monkeypatch: pytest.MonkeyPatch):
    whole = run_episodes(ECHO_TASK, ECHO_ACTOR, Draw(3, 2), range(5, 30))
    monkeypatch.setattr(Echo, "max_lanes", 7)
    pieces = run_episodes(ECHO_TASK, ECHO_ACTOR, Draw(3, 2), range(5, 30))
    np.testing.assert_array_equal(whole.lengths, pieces.lengths)
    np.testing.assert_allclose(whole.rewards, pieces.rewards)


def test_the_statistics_of_episodes_by_hand():
    roll = scripted(np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]), np.array([1, 2, 2]))
    found = episode_stats(replace(roll, terminated=np.array([True, False, False])), 10, WORLD)
    assert found == {
        "collect/episode_return": 3.0,
        "collect/episode_return_std": pytest.approx(np.std([1, 4, 4])),
        "collect/episode_return_max": 4.0,
        "collect/episode_return_min": 1.0,
        "collect/score": 0.3,
        "collect/episode_length": pytest.approx(5 / 3),
        "collect/n_episodes": 3,
        "collect/terminated_fraction": pytest.approx(1 / 3),
        "collect/sim_steps": 5,
        "collect/episode_returns": (1.0, 4.0, 4.0),
    }
    losses = episode_stats(replace(roll, rewards=-roll.rewards), 10, WORLD)
    assert (losses["collect/episode_return_max"], losses["collect/episode_return_min"]) == (-1.0, -4.0)


@pytest.mark.parametrize(("hint", "dropped"), [(10.0, 50), (nan, 0)])
def test_one_wave_of_episodes_starts_with_a_surplus_of_five_per_cent(hint: float, dropped: int):
    task = Task(Ten(), 10)
    roll, found = run_budget(task, PolicyActor(mlp(Ten()), ECHO_THETA), Draw(0), Budget(1000), WORLD, hint)
    assert (roll.n_steps, found) == (1000, dropped)


class Ten(Echo):
    """Echo whose episodes have ten steps."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> Array:
        return super().reset(rngs) * (0, 1) + (10, 0)


SMALL_BUDGETS = [
    single(steps_per_iteration=10),
    vine(trunk_steps=10, n_states=1, n_actions=2, branch_length=1),
]


@pytest.mark.parametrize("sampler", SMALL_BUDGETS, ids=["single", "vine"])
def test_the_episode_that_crosses_a_budget_does_not_make_the_mean_too_high(sampler: Sampler):
    """Episodes of 1 to 6 steps: 3.5 on average, and 3.9 with the episodes that cross a budget of ten steps."""
    found = [sampler(ECHO_TASK, ECHO_POLICY, ECHO_THETA, Draw(3, i), WORLD).stats for i in range(200)]
    lengths = np.array([stats["collect/episode_length"] for stats in found])
    assert abs(lengths.mean() - 3.5) < 3 * lengths.std() / 200**0.5
    for stats in found:
        assert len(stats["collect/episode_returns"]) == stats["collect/n_episodes"] - 1


def test_the_only_episode_of_a_budget_counts():
    roll = scripted(np.array([[1.0], [2.0]]), np.array([2]))
    found = episode_stats(roll, 10, WORLD, of_budget=True)
    assert found["collect/episode_return"] == 3 and found["collect/episode_length"] == 2


def test_all_but_the_last_episode_of_a_budget_are_in_the_statistics_and_every_step_is_counted():
    roll = scripted(np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 1.0]]), np.array([1, 2, 2]))
    several = replace(roll, lanes=np.array([1, 2, 0]), terminated=np.array([True, True, False]))  # after two waves
    found = episode_stats(several, 10, WORLD, of_budget=True)
    assert found["collect/episode_returns"] == (1.0, 4.0) and found["collect/episode_length"] == 1.5
    assert found["collect/terminated_fraction"] == 0.5 and found["collect/episode_return_max"] == 4
    assert (found["collect/n_episodes"], found["collect/sim_steps"]) == (3, 5)


def test_the_deviation_of_large_returns_is_not_lost_in_rounding():
    returns = 1e9 + np.array([0.0, 3.0, 3.0])
    found = episode_stats(scripted(returns[None], np.array([1, 1, 1])), 10, WORLD)
    assert found["collect/episode_return_std"] == pytest.approx(2**0.5)


@pytest.mark.parametrize("sampler", [single(), vine()], ids=["single", "vine"])
def test_a_batch_is_a_function_of_theta_seed_and_iteration(sampler: Sampler):
    def draw(seed: int, iteration: int) -> Array:
        batch, _, _ = sampler(POINT_TASK, POINT_POLICY, POINT_THETA, Draw(seed, iteration), WORLD)
        return np.column_stack([batch.obs, batch.actions[:, 0], batch.advantages[:, :1]])

    np.testing.assert_array_equal(draw(0, 0), draw(0, 0))
    assert not np.isin(draw(0, 0), draw(0, 1)).any() and not np.isin(draw(0, 0), draw(1, 0)).any()
