"""Laws of the input map: what is given is used, what is measured are percentiles of the fresh policy's steps."""

from collections.abc import Sequence
from itertools import count
from math import inf
from typing import Any

import numpy as np
import pytest
from toy_sims import Array, Echo, Point, mlp

from trpo_cli.policies.base import InputMap
from trpo_cli.policies.mlp import Mlp
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers import input_range
from trpo_cli.samplers.episodes import Purposes, policy_noise, run_episodes
from trpo_cli.samplers.input_range import measure_input_map, measure_input_moments
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor, rollout
from trpo_cli.sims.base import SavedState, Simulator, Step, Task
from trpo_cli.training.algorithms import initial_state


def policy_of(sim: Simulator, input_scale: Any, clip: float = inf) -> NetworkPolicy:
    return Mlp((), "tanh", 0.5, 0.01, 1.0, "float64", input_scale, clip).build(sim.obs_shape, sim.action_space)


def measured(sim: Simulator, seed: int = 0, step_limit: int = 20) -> InputMap:
    """The input map that training starts with."""
    return initial_state(Task(sim, step_limit), policy_of(sim, "percentile", 5.0), seed).input_map


def test_known_half_ranges_are_taken_as_they_are_and_none_is_the_identity():
    given, bare = (
        initial_state(Task(Echo(), 20), policy_of(Echo(), x, 3.0), 0).input_map for x in ([2.0, 4.0], "none")
    )
    assert given.centre.tolist() == [0, 0] and given.half_range.tolist() == [2, 4] and given.clip == 3
    assert bare.centre.tolist() == [0] and bare.half_range.tolist() == [1] and bare.clip == 3


class Watched(Point):
    """Keeps the states that a decision was taken in."""

    def __init__(self) -> None:
        object.__setattr__(self, "seen", [])

    def step(self, states: Array, actions: Array) -> Step:
        self.seen.append(states.copy())
        return super().step(states, actions)


def test_the_tenth_and_ninetieth_percentiles_go_to_minus_one_and_one():
    sim, policy = Watched(), mlp(Point())
    found = measured(sim)
    assert found.clip == 5.0
    low, high = np.percentile(np.concatenate(sim.seen).astype(np.float32).astype(float), [10, 90])
    np.testing.assert_allclose((np.array([low, high]) - found.centre) / found.half_range, [-1, 1])
    # The same policy on other lanes sees the same: 80 of 100 inputs within [-1, 1].
    act = PolicyActor(policy, policy.initial(Draw(0).generator("initial_policy")))
    draw = Draw(9, 9)
    states = sim.reset(draw.generators("initial_state", range(1000)))
    obs = rollout(sim, act, states, policy_noise(policy.dist, draw, "evaluation", range(1000), 20)).obs
    assert abs((np.abs((obs - found.centre) / found.half_range) <= 1).mean() - 0.8) < 0.03


def test_the_fresh_policy_acts_under_noise_that_training_never_draws():
    sim = Watched()
    measured(sim)
    policy, states = mlp(Point()), sim.seen[0]
    act = PolicyActor(policy, policy.initial(Draw(0).generator("initial_policy")))
    noise = policy_noise(policy.dist, Draw(0), "input_range", range(64), 20)
    np.testing.assert_array_equal(sim.seen[1], states + 0.3 * act(sim.observe(states), np.arange(64), noise[0])[1])


def test_at_least_ten_thousand_steps_of_different_episodes_are_seen():
    sim = Watched()
    measured(sim)
    states = np.concatenate(sim.seen)
    assert 10_000 <= len(states) < 10_000 + 64 * 20
    assert len(np.unique(states)) == len(states)


def test_batch_simulators_are_measured_on_whole_episodes_as_published_runs_were():
    policy, draw, purposes = mlp(Point()), Draw(0), Purposes(noise="input_range")
    act = PolicyActor(policy, policy.initial(draw.generator("initial_policy")))
    waves = (run_episodes(Task(Point(), 20), act, draw, range(i, i + 64), purposes=purposes) for i in count(0, 64))
    seen = np.zeros((0, 1))
    while len(seen) < 10_000:
        seen = np.concatenate([seen, next(waves).obs])
    low, high = np.percentile(seen, [10, 90], axis=0)
    found = measured(Point())
    assert found.centre == (low + high) / 2 and found.half_range == (high - low) / 2


def test_many_inputs_are_sorted_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    whole = measured(Echo(), step_limit=3)
    monkeypatch.setattr(input_range, "COLUMNS", 1)
    parts = measured(Echo(), step_limit=3)
    assert parts.centre.tolist() == whole.centre.tolist() and parts.half_range.tolist() == whole.half_range.tolist()


class Slow(Watched):
    """An environment per lane, as Gymnasium has it."""

    def require_saving(self) -> None: ...

    def to_saved(self, states: Array) -> list[SavedState]:
        return [{"state": state} for state in states]

    def from_saved(self, saved: Sequence[SavedState]) -> Array:
        return np.array([lane["state"] for lane in saved])


@pytest.mark.parametrize(("budget", "n"), [(None, 1000), (5000, 1000), (50, 48), (3, 3)])
@pytest.mark.parametrize("measure", [measure_input_map, measure_input_moments])
def test_a_slow_environment_takes_few_steps_in_few_lanes(measure: Any, budget: int | None, n: int):
    """However long an episode may be."""
    sim = Slow()
    found = measure(Task(sim, 10**9), policy_of(sim, "running"), Draw(0), budget)
    assert sum(map(len, sim.seen)) == n and max(map(len, sim.seen)) == min(n, 4)
    seen = np.concatenate(sim.seen).astype(np.float32)
    if measure is measure_input_map:
        np.testing.assert_allclose(found.centre, np.percentile(seen, [10, 90]).mean(), rtol=1e-5)
    else:
        assert found.n == n
        np.testing.assert_allclose(found.mean, seen.mean(), rtol=1e-5)


@pytest.mark.parametrize("kind", [Slow, Watched])
@pytest.mark.parametrize("measure", [measure_input_map, measure_input_moments])
def test_a_stop_ends_the_measurement_after_its_next_part(measure: Any, kind: type[Watched]):
    sim = kind()
    measure(Task(sim, 20), policy_of(sim, "running"), Draw(0), stop=lambda: True)
    assert 0 < sum(map(len, sim.seen)) <= (16 if kind is Slow else 64 * 20)


def test_an_input_that_never_changes_keeps_its_unit():
    class Still(Echo):
        def observe(self, states: Array) -> Array:
            return np.column_stack([7.0 + 1e-12 * states[:, 0], states[:, 0]])

    found = measured(Still(), step_limit=3)
    assert found.centre[0] == pytest.approx(7) and found.half_range[0] == 1 and found.half_range[1] != 1


def test_the_map_is_a_function_of_the_seed_and_ignores_the_map_the_policy_has():
    one, other = measured(Point()), measured(Point(), seed=1)
    assert one.centre != other.centre
    far = policy_of(Point(), "percentile").with_input_map(InputMap(np.array([100.0]), np.array([0.01]), 7.0))
    again = measure_input_map(Task(Point(), 20), far, Draw(0))
    assert again.centre == one.centre and again.half_range == one.half_range
    assert (again.clip, one.clip) == (7.0, 5.0)  # the clip stays the policy's own


def test_running_scales_begin_with_the_moments_of_what_the_fresh_policy_sees():
    policy = policy_of(Point(), "running")
    found = measure_input_moments(Task(Point(), 50), policy, Draw(0))
    assert 1000 <= found.n < 1200 and 0.3 < found.input_map(5.0).half_range[0] < 1.5
    again = measure_input_moments(Task(Point(), 50), policy, Draw(0))
    assert again.mean.tolist() == found.mean.tolist() and again.n == found.n
    assert measure_input_moments(Task(Point(), 1), policy, Draw(0)).n == 1000  # in episodes of one step
