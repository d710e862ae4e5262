"""The range of a policy's inputs, from what a fresh policy sees: percentiles (authors' code), or first moments."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap, Policy
from trpo_cli.policies.input_moments import InputMoments
from trpo_cli.samplers.episodes import Purposes, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.samplers.streams import Streams, run_streams
from trpo_cli.sims.base import Savable, Task

N_STEPS = 10_000  # environment steps of the fresh policy that the percentiles come from
N_LANES = 64  # episodes run at a time until there are enough
FIRST_STEPS, FIRST_LANES = 1000, 4  # the same for running moments, whose steps count, and for slow environments
STRETCH = 4  # steps of each lane of a slow environment after which a stop is looked for
COLUMNS = 2**21  # numbers that are sorted at a time
LOW, HIGH = 10, 90  # percentiles that are mapped to -1 and 1

PURPOSES = Purposes(noise="input_range")
Stop = Callable[[], bool]


def never() -> bool:
    """No stop is asked for."""
    return False


def measure_input_map(
    task: Task, policy: Policy, draw: Draw, at_most: int | None = None, stop: Stop = never
) -> InputMap:
    """The map of the 10th and 90th percentile of every input to -1 and 1, by running the initial policy.

    at_most: environment steps of a slow environment; None: 1000. When ``stop()`` is true, the map is of what was seen.
    The clip stays the policy's own.
    """
    seen = list(_fresh_observations(task, policy, draw, N_STEPS, N_LANES, at_most, stop))
    n_inputs = prod(task.sim.obs_shape)
    low, high = np.empty((2, n_inputs))
    width = max(COLUMNS // sum(map(len, seen)), 1)
    for start in range(0, n_inputs, width):  # in double precision, but never all of it at once
        some = slice(start, start + width)
        values = np.concatenate([obs[:, some] for obs in seen]).astype(np.float64)
        low[some], high[some] = np.percentile(values, [LOW, HIGH], axis=0)
    half_range = (high - low) / 2
    return InputMap((low + high) / 2, np.where(half_range > 1e-8, half_range, 1.0), policy.input_map.clip)


def measure_input_moments(
    task: Task, policy: Policy, draw: Draw, at_most: int | None = None, stop: Stop = never
) -> InputMoments:
    """The first moments of running input scales, by running the initial policy; ``n`` is the number of steps.

    Without them the first update would learn on inputs as they come, and the first map would then change the policy.
    ``at_most`` and ``stop`` are those of `measure_input_map`.
    """
    found = InputMoments.none_yet(prod(task.sim.obs_shape))
    for obs in _fresh_observations(task, policy, draw, FIRST_STEPS, FIRST_LANES, at_most, stop):
        found = found.with_more(obs, Group.alone())
    return found


def _fresh_observations(
    task: Task, policy: Policy, draw: Draw, n_steps: int, n_lanes: int, at_most: int | None, stop: Stop
) -> Iterator[NDArray[Any]]:
    """What the initial policy sees without an input map, ``[m, O]`` at a time, until ``stop()``; at least once.

    A simulator steps many lanes of arrays at once and runs whole episodes of at least ``n_steps`` steps. If its states
    are objects, each lane has an environment of its own, and both making it and stepping it may take long: then there
    are a few lanes, which stop after 1000 steps in all, or after ``at_most``.
    """
    theta = policy.initial(draw.generator("initial_policy"))
    fresh = PolicyActor(policy.with_input_map(InputMap()), theta)
    if isinstance(task.sim, Savable):
        batches = _stretches(task, fresh, draw, min(at_most or FIRST_STEPS, FIRST_STEPS))
    else:
        batches = _episodes(task, fresh, draw, n_steps, n_lanes)
    for obs in batches:
        yield np.asarray(obs).reshape(len(obs), -1)
        if stop():
            return


def _episodes(task: Task, fresh: PolicyActor, draw: Draw, n_steps: int, n_lanes: int) -> Iterator[NDArray[Any]]:
    """Whole episodes, ``n_lanes`` at a time until they have ``n_steps``."""
    lanes, done = range(n_lanes), 0
    while done < n_steps:
        roll = run_episodes(task, fresh, draw, lanes, purposes=PURPOSES)
        yield roll.obs
        lanes, done = range(lanes.stop, lanes.stop + n_lanes), done + roll.n_steps


def _stretches(task: Task, fresh: PolicyActor, draw: Draw, n_steps: int) -> Iterator[NDArray[Any]]:
    """At most ``n_steps`` of a few lanes, a stretch of them at a time; an episode that ends is followed by another."""
    n_lanes = min(FIRST_LANES, task.sim.max_lanes, n_steps)
    streams, left = Streams.begin(n_lanes), n_steps // n_lanes
    for i, start in enumerate(range(0, left, STRETCH)):
        n, here = min(STRETCH, left - start), Draw(draw.seed, i)
        stretch, streams = run_streams(task, fresh, here, n, streams, Group.alone(), PURPOSES)
        yield stretch.obs
