"""The range of a policy's inputs, from what a fresh policy sees: percentiles (authors' code), or first moments."""

from math import prod

import numpy as np
from numpy.typing import NDArray

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap, Policy
from trpo_cli.policies.input_moments import InputMoments
from trpo_cli.samplers.episodes import Purposes, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task

N_STEPS = 10_000  # environment steps of the fresh policy that the percentiles come from
N_LANES = 64  # episodes run at a time until there are enough
FIRST_STEPS, FIRST_LANES = 1000, 4  # the same for running moments, whose steps count
LOW, HIGH = 10, 90  # percentiles that are mapped to -1 and 1


def measure_input_map(task: Task, policy: Policy, draw: Draw) -> InputMap:
    """The map of the 10th and 90th percentile of every input to -1 and 1, by running the initial policy.

    The clip stays the policy's own.
    """
    seen = np.concatenate(_fresh_observations(task, policy, draw, N_STEPS, N_LANES))
    low, high = np.percentile(seen, [LOW, HIGH], axis=0)
    half_range = (high - low) / 2
    return InputMap((low + high) / 2, np.where(half_range > 1e-8, half_range, 1.0), policy.input_map.clip)


def measure_input_moments(task: Task, policy: Policy, draw: Draw) -> InputMoments:
    """The first moments of running input scales, by running the initial policy; ``n`` is the number of steps.

    Without them the first update would learn on inputs as they come, and the first map would then change the policy.
    """
    found = InputMoments.none_yet(prod(task.sim.obs_shape))
    for obs in _fresh_observations(task, policy, draw, FIRST_STEPS, FIRST_LANES):
        found = found.with_more(obs, Group.alone())
    return found


def _fresh_observations(
    task: Task, policy: Policy, draw: Draw, n_steps: int, n_lanes: int
) -> list[NDArray[np.float64]]:
    """What the initial policy sees without an input map in whole episodes of at least ``n_steps`` steps, ``[m, O]``."""
    theta = policy.initial(draw.generator("initial_policy"))
    fresh = PolicyActor(policy.with_input_map(InputMap()), theta)
    seen: list[NDArray[np.float64]] = []
    lanes = range(n_lanes)
    while sum(map(len, seen)) < n_steps:
        roll = run_episodes(task, fresh, draw, lanes, purposes=Purposes(noise="input_range"))
        seen.append(np.asarray(roll.obs, np.float64).reshape(roll.n_steps, -1))
        lanes = range(lanes.stop, lanes.stop + n_lanes)
    return seen
