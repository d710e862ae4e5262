"""Whole episodes of a policy, shared among the workers: a number of them, or as many as a budget of steps pays for."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.parallel.group import Group
from trpo_cli.policies.distributions import Distribution
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import Keep, PolicyActor, Rollout, first_lanes, join, rollout
from trpo_cli.sims.base import Task

RETURNS = "collect/episode_returns"  # of every episode, which TensorBoard shows as a histogram
LONG_EPISODE = 1000  # steps: the first guess of an episode's length is at most max(1000, budget / 16)
SURPLUS = 1.05  # start 5% more episodes than should be needed: a second wave of a few takes as long as a full one

Stats = dict[str, Any]  # numbers; a tuple of numbers is shown as a histogram


@dataclass(frozen=True)
class Purposes:
    """What an episode's random numbers are drawn for. Different purposes never share random numbers."""

    start: str = "initial_state"
    noise: str = "policy_noise"


TRAINING = Purposes()


def run_episodes(
    task: Task,
    actor: PolicyActor,
    draw: Draw,
    lanes: range,
    keep: Keep = "decisions",
    purposes: Purposes = TRAINING,
) -> Rollout:
    """Whole episodes, one per lane number, from the simulator's own initial states."""
    sim, parts = task.sim, []
    for start in range(lanes.start, max(lanes.stop, lanes.start + 1), sim.max_lanes):  # one pass if there is no lane
        some = range(start, min(start + sim.max_lanes, lanes.stop))
        noise = policy_noise(actor.policy.dist, draw, purposes.noise, some, task.step_limit)
        # The states have no name here: one would hold these lanes while the next ones begin.
        parts.append(rollout(sim, actor, sim.reset(draw.generators(purposes.start, some)), noise, some, keep))
    return join(parts)


@dataclass(frozen=True)
class Budget:
    """How many episodes: the first ones whose steps reach ``steps``, but not fewer than ``least``."""

    steps: int
    least: int = 1


def run_budget(
    task: Task,
    actor: PolicyActor,
    draw: Draw,
    budget: Budget,
    group: Group,
    hint: float = nan,
    keep: Keep = "decisions",
) -> tuple[Rollout, int]:
    """This worker's share of the episodes of a budget, and the steps of all episodes that were simulated and dropped.

    hint: the expected length of an episode in steps, NaN if unknown. It decides how many episodes are simulated and
    dropped. The episodes that are kept are the same for every hint and every number of workers.
    """
    waves: list[Rollout] = []
    n_lanes = steps = dropped = 0
    while steps < budget.steps:
        # Start as many lanes as the mean length so far says are still needed.
        mean_length = steps / n_lanes if n_lanes else hint
        if isnan(mean_length):
            wave = ceil(budget.steps / min(task.step_limit, max(LONG_EPISODE, budget.steps // 16)))
        else:
            wave = ceil(SURPLUS * (budget.steps - steps) / mean_length)
        wave = max(wave, budget.least - n_lanes)
        share = group.share(wave)
        part = run_episodes(task, actor, draw, range(n_lanes + share.start, n_lanes + share.stop), keep)
        lengths = group.concatenate(part.lengths)
        needed = max(first_until(lengths.tolist(), budget.steps - steps), budget.least - n_lanes)
        waves.append(first_lanes(part, min(max(needed - share.start, 0), len(share))))
        steps += int(lengths[:needed].sum())
        dropped += int(lengths[needed:].sum())
        n_lanes += wave
    return join(waves), dropped


def first_until(lengths: Sequence[int], budget: int) -> int:
    """How many leading lengths are needed until their sum reaches ``budget``; all of them if it never does."""
    reached = int(np.searchsorted(np.cumsum(lengths), budget)) + 1
    return min(reached, len(lengths))


def policy_noise(dist: Distribution, draw: Draw, purpose: str, lanes: range, n_steps: int) -> NDArray[np.float32]:
    """The noise of each lane's action choices, ``[T, n, Z]``."""
    noise = np.empty((n_steps, len(lanes), dist.action_size), np.float32)
    for i, rng in enumerate(draw.generators(purpose, lanes)):
        noise[:, i] = dist.draw_noise(rng, (n_steps,))
    return noise


def episode_stats(roll: Rollout, step_limit: int, group: Group, of_budget: bool = False) -> Stats:
    """The ``collect/`` statistics of whole episodes, over all workers.

    of_budget: ``roll`` is what `run_budget` returned. Its last episode is the one that crosses the budget, and a long
    episode crosses more often than a short one: with it, the mean of n episodes would be too high by about c² / n of
    itself, with c the standard deviation of their lengths over the mean length. So it is left out of all but the
    numbers of episodes and steps, if there are others. What remains is right to first order in 1 / n.
    """
    n_episodes, n_steps = group.sums(roll.n_lanes, roll.n_steps)
    counted = roll.lanes < n_episodes - 1 if of_budget and n_episodes > 1 else np.ones(roll.n_lanes, bool)
    returns = roll.rewards.sum(0)[counted]
    success = np.full(0, nan) if roll.success is None else roll.success[counted]
    sums = (len(returns), returns.sum(), roll.lengths[counted].sum(), roll.terminated[counted].sum())
    n, total, steps, ended, solved, told = group.sums(*sums, np.nansum(success), (~np.isnan(success)).sum())
    mean = total / n
    variance = group.sums(((returns - mean) ** 2).sum())[0] / n  # the mean first: sums of squares could be all rounding
    return {
        "collect/episode_return": mean,
        "collect/episode_return_std": variance**0.5,
        "collect/episode_return_max": group.maximum(float(returns.max(initial=-inf))),
        "collect/episode_return_min": -group.maximum(float(-returns.min(initial=inf))),
        "collect/score": mean / step_limit,
        "collect/episode_length": steps / n,
        "collect/n_episodes": int(n_episodes),
        "collect/terminated_fraction": ended / n,
        "collect/sim_steps": int(n_steps),
        RETURNS: tuple(sorted(group.concatenate(returns).tolist())),
        **({"collect/success_fraction": solved / told} if told else {}),
    }
