"""Where a policy's inputs lie: known half-ranges, or percentiles of what a fresh policy sees (authors' code)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trpo_cli.policies.base import InputMap
from trpo_cli.policies.conv import Conv, ConvPolicy
from trpo_cli.policies.mlp import Mlp, MlpPolicy
from trpo_cli.samplers.episodes import run_paths
from trpo_cli.samplers.randomness import generator
from trpo_cli.sims.base import Simulator

N_STEPS = 10_000  # environment steps of the fresh policy that the percentiles come from
N_LANES = 64  # episodes run at a time until there are enough
LOW, HIGH = 10, 90  # percentiles that are mapped to -1 and 1

Network = MlpPolicy | ConvPolicy


def mapped(policy: Network, centre: NDArray[np.float64], half_range: NDArray[np.float64]) -> Network:
    """The policy with its inputs mapped by ``centre`` and ``half_range``, ``[O]`` or ``[1]``; its clip stays."""
    return replace(policy, input_map=replace(policy.input_map, centre=centre, half_range=half_range))


def input_map(config: Mlp | Conv, sim: Simulator, policy: Network, seed: int, step_limit: int) -> InputMap:
    """The fixed affine map of ``policy.input_scale``; percentiles are measured by running the initial policy.

    Pixels need no measuring: their map stands in the configuration.
    """
    if not isinstance(config, Mlp):
        return policy.input_map
    if config.input_scale == "none":
        return InputMap(clip=config.input_clip)
    if config.input_scale != "percentile":
        half_range = np.asarray(config.input_scale, float)
        return InputMap(np.zeros_like(half_range), half_range, config.input_clip)
    theta = policy.initial(generator(seed, "initial_policy"))
    unscaled = replace(policy, input_map=InputMap())
    seen, n, lanes = [], 0, range(N_LANES)
    while n < N_STEPS:
        roll = run_paths(sim, unscaled, theta, seed, 0, lanes, step_limit, purpose="input_range")
        seen.append(np.asarray(roll.obs, np.float64).reshape(roll.n_steps, -1))
        n, lanes = n + roll.n_steps, range(lanes.stop, lanes.stop + N_LANES)
    low, high = np.percentile(np.concatenate(seen), [LOW, HIGH], axis=0)
    half_range = (high - low) / 2
    return InputMap((low + high) / 2, np.where(half_range > 1e-8, half_range, 1.0), config.input_clip)
