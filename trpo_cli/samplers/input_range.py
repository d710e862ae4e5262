"""The range of a policy's inputs: percentiles of what a fresh policy sees (authors' code)."""

import numpy as np

from trpo_cli.policies.base import InputMap, Policy
from trpo_cli.samplers.episodes import Purposes, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor
from trpo_cli.sims.base import Task

N_STEPS = 10_000  # environment steps of the fresh policy that the percentiles come from
N_LANES = 64  # episodes run at a time until there are enough
LOW, HIGH = 10, 90  # percentiles that are mapped to -1 and 1


def measure_input_map(task: Task, policy: Policy, draw: Draw) -> InputMap:
    """The map of the 10th and 90th percentile of every input to -1 and 1, by running the initial policy.

    The clip stays the policy's own.
    """
    theta = policy.initial(draw.generator("initial_policy"))
    fresh = PolicyActor(policy.with_input_map(InputMap()), theta)
    seen, n, lanes = [], 0, range(N_LANES)
    while n < N_STEPS:
        roll = run_episodes(task, fresh, draw, lanes, purposes=Purposes(noise="input_range"))
        seen.append(np.asarray(roll.obs, np.float64).reshape(roll.n_steps, -1))
        n, lanes = n + roll.n_steps, range(lanes.stop, lanes.stop + N_LANES)
    low, high = np.percentile(np.concatenate(seen), [LOW, HIGH], axis=0)
    half_range = (high - low) / 2
    return InputMap((low + high) / 2, np.where(half_range > 1e-8, half_range, 1.0), policy.input_map.clip)
