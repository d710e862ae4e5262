"""Whole episodes of a policy, shared among the workers: a number of them, or as many as a budget of steps pays for."""

from math import ceil, inf, isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.parallel.group import Group, first_until
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.randomness import generators
from trpo_cli.samplers.rollout import PolicyActor, Rollout, first_lanes, joined, rollout
from trpo_cli.sims.base import Simulator

RETURNS = "collect/episode_returns"  # of every episode, which TensorBoard shows as a histogram
LONG_EPISODE = 1000  # steps; what is expected at most where nothing is known, or a 16th of the budget if that is more
SURPLUS = 1.05  # episodes of a wave, of those expected to do: a second wave, of a few, takes as long as a whole one

Stats = dict[str, Any]  # numbers, and tuples of them: a distribution


def run_paths(
    sim: Simulator,
    policy: Policy,
    theta: Tensor,
    seed: int,
    iteration: int,
    lanes: range,
    step_limit: int,
    keep_states: bool = False,
    purpose: str = "policy_noise",
    greedy: bool = False,
) -> Rollout:
    """Whole episodes of the policy, one a lane number, from the simulator's own initial states.

    purpose: what the noise is drawn for, see ``seeding``. greedy: the policy's mode acts, not a sample.
    """
    act, parts = PolicyActor(policy, theta, greedy), []
    for start in range(lanes.start, max(lanes.stop, lanes.start + 1), sim.max_lanes):
        lane_group = range(start, min(start + sim.max_lanes, lanes.stop))
        states = sim.reset(generators(seed, "initial_state", iteration, lane_group))
        noise = policy_noise(policy, seed, purpose, iteration, lane_group, step_limit)
        parts.append(rollout(sim, act, states, noise, keep_states))
    return joined(parts)


def run_budget(
    sim: Simulator,
    policy: Policy,
    theta: Tensor,
    seed: int,
    iteration: int,
    budget: int,
    least: int,
    step_limit: int,
    group: Group,
    keep_states: bool = False,
    expected_length: float = nan,
) -> tuple[Rollout, int]:
    """This worker's share of the first episodes, ``least`` or more, whose steps reach ``budget``.

    expected_length: steps of an episode, as far as is known beforehand; it decides what is dropped, not what is kept

    Also returns the steps that all workers simulated in episodes beyond the budget, which are dropped.
    """
    waves: list[Rollout] = []
    n_lanes = steps = dropped = 0
    while steps < budget:
        # As many lanes as the mean length so far says are missing: the same waves for any number of workers.
        mean_length = steps / n_lanes if n_lanes else expected_length
        if isnan(mean_length):
            wave = ceil(budget / min(step_limit, max(LONG_EPISODE, budget // 16)))
        else:
            wave = ceil(SURPLUS * (budget - steps) / mean_length)
        wave = max(wave, least - n_lanes)
        share = group.share(wave)
        mine = range(n_lanes + share.start, n_lanes + share.stop)
        part = run_paths(sim, policy, theta, seed, iteration, mine, step_limit, keep_states)
        lengths = group.concatenate(part.lengths)
        needed = max(first_until(lengths.tolist(), budget - steps), least - n_lanes)
        waves.append(first_lanes(part, min(max(needed - share.start, 0), len(share))))
        steps += int(lengths[:needed].sum())
        dropped += int(lengths[needed:].sum())
        n_lanes += wave
    return joined(waves), dropped


def policy_noise(
    policy: Policy, seed: int, purpose: str, iteration: int, lanes: range, n_steps: int
) -> NDArray[np.float32]:
    """The noise of each lane's action choices, ``[T, n, Z]``."""
    noise = np.empty((n_steps, len(lanes), policy.dist.action_size), np.float32)
    for i, rng in enumerate(generators(seed, purpose, iteration, lanes)):
        noise[:, i] = policy.dist.draw_noise(rng, (n_steps,))
    return noise


def episode_stats(roll: Rollout, step_limit: int, group: Group) -> Stats:
    """The ``collect/`` statistics of whole episodes, over all workers."""
    returns = roll.rewards.sum(0)
    n, total, squares, steps, ended = group.sums(
        roll.n_lanes, returns.sum(), (returns**2).sum(), roll.n_steps, roll.terminated.sum()
    )
    mean = total / n
    return {
        "collect/episode_return": mean,
        "collect/episode_return_std": max(squares / n - mean**2, 0.0) ** 0.5,
        "collect/episode_return_max": group.maximum(float(returns.max(initial=-inf))),
        "collect/episode_return_min": -group.maximum(float(-returns.min(initial=inf))),
        "collect/score": mean / step_limit,
        "collect/episode_length": steps / n,
        "collect/n_episodes": int(n),
        "collect/terminated_fraction": ended / n,
        "collect/sim_steps": int(steps),
        RETURNS: tuple(sorted(group.concatenate(returns).tolist())),
    }
