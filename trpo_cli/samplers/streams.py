"""Streams: episodes that run on from one iteration into the next, each giving the same number of steps to a batch.

A value function estimates what lies beyond the end of the batch, so a batch need not consist of whole episodes. An
episode that ends within an iteration is followed at once by a new one in the same stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from trpo_cli.parallel.group import Group
from trpo_cli.samplers.episodes import RETURNS, TRAINING, Purposes, Stats, policy_noise
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor, observe, require_finite, solved
from trpo_cli.sims.base import SavedState, Simulator, Task, from_saved, to_saved

RECENT = 100  # the statistics are those of so many episodes that ended last


@dataclass(frozen=True)
class Streams:
    """Where N streams stand between two iterations, and how their last episodes went. The same in every worker."""

    saved: tuple[SavedState, ...]  # [N] simulator states
    t: NDArray[np.intp]  # [N] steps of the current episodes so far
    returns: NDArray[np.float64]  # [N] rewards of the current episodes so far
    # [k, 4] return, length, terminated (0 or 1) and success (0, 1, or NaN: not told) of the last k <= 100 episodes
    recent: NDArray[np.float64]
    # This worker's states as the simulator has them: they cost less than making them from ``saved``. None after a load.
    live: NDArray[np.generic] | None = None

    @classmethod
    def begin(cls, n: int) -> Self:
        """Streams whose first episodes are still to be started."""
        return cls((), np.zeros(n, np.intp), np.zeros(n), np.zeros((0, 4)))

    def to_dict(self) -> dict[str, Any]:
        """Tensors by name, as a checkpoint holds them."""
        states = [{name: torch.from_numpy(np.array(x)) for name, x in state.items()} for state in self.saved]
        rest = {name: torch.from_numpy(getattr(self, name)) for name in ("t", "returns", "recent")}
        return {"states": dict(enumerate(states)), **rest}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The streams that ``to_dict`` saved."""
        states = [{name: x.numpy() for name, x in state.items()} for state in saved["states"].values()]
        recent = saved["recent"].numpy()  # which had no success in older versions
        recent = np.column_stack([recent, np.full((len(recent), 4 - recent.shape[1]), nan)])
        return cls(tuple(states), saved["t"].numpy(), saved["returns"].numpy(), recent)


@dataclass(frozen=True)
class Stretch:
    """What this worker's n streams did in T steps. Packed arrays have one row per decision: by time, then stream."""

    obs: NDArray[np.generic]  # [T n, O] observation before each decision
    params: NDArray[np.generic]  # [T n, P] the policy's output for it
    actions: NDArray[np.generic]  # [T n, A] in normalised action units
    rewards: NDArray[np.float64]  # [T, n]
    terminated: NDArray[np.bool_]  # [T, n] the step ended an episode, and no reward could follow
    truncated: NDArray[np.bool_]  # [T, n] the step ended an episode, and rewards could have followed; never both
    cut_obs: NDArray[np.generic]  # [k, O] observation after each truncated step, by time, then stream
    last_obs: NDArray[np.generic]  # [n, O] observation after the last step

    @property
    def ended(self) -> NDArray[np.bool_]:
        """``[T, n]`` the step ended an episode."""
        return self.terminated | self.truncated


def run_streams(
    task: Task,
    actor: PolicyActor,
    draw: Draw,
    n_steps: int,
    before: Streams,
    group: Group,
    purposes: Purposes = TRAINING,
) -> tuple[Stretch, Streams]:
    """This worker's share of the streams, ``n_steps`` further, and where all streams stand then."""
    sim, mine = task.sim, group.share(len(before.t))
    n = len(mine)
    first_states = draw.generators(purposes.start, mine)
    noise = policy_noise(actor.policy.dist, draw, purposes.noise, mine, n_steps)
    states = _present_states(sim, before, mine, first_states)
    t, returns = before.t[mine.start : mine.stop].copy(), before.returns[mine.start : mine.stop].copy()
    rewards = np.zeros((n_steps, n))
    terminated, truncated = np.zeros((n_steps, n), bool), np.zeros((n_steps, n), bool)
    decisions: list[tuple[Any, ...]] = []
    cut_obs: list[NDArray[np.generic]] = []
    finished: list[tuple[int, int, tuple[float, ...]]] = []  # step, stream, its row of `Streams.recent`
    obs, numbers = observe(sim, states), np.arange(mine.start, mine.stop)
    if not n:  # more workers than streams: empty columns of the right widths
        decisions.append((obs, *actor(obs, numbers, noise[0])))
    for k in range(n_steps if n else 0):
        params, actions = actor(obs, numbers, noise[k])
        decisions.append((obs, params, actions))
        step = sim.step(states, sim.action_space.controls(actions))
        states, rewards[k], terminated[k] = step.states, step.rewards, step.terminated
        t += 1
        returns += step.rewards
        cut = t >= task.step_limit if step.truncated is None else (t >= task.step_limit) | step.truncated
        if (cut | step.terminated).any():
            truncated[k] = cut & ~step.terminated
            ended = np.flatnonzero(cut | step.terminated)
            if truncated[k].any():
                cut_obs.append(observe(sim, states[truncated[k]]))
            success = np.full(n, nan) if step.success is None else step.success
            finished += [
                (k, mine.start + i, (returns[i], t[i], float(terminated[k, i]), success[i])) for i in ended.tolist()
            ]
            states = states.copy()
            states[ended] = sim.reset([first_states[i] for i in ended])
            t[ended], returns[ended] = 0, 0.0
        obs = observe(sim, states)
    require_finite(rewards, sim)
    packed = [np.concatenate(column) for column in zip(*decisions, strict=True)]
    after_cuts = np.concatenate([obs[:0], *cut_obs])
    stretch = Stretch(packed[0], packed[1], packed[2], rewards, terminated, truncated, after_cuts, obs)
    return stretch, _after(before, to_saved(sim, states), (t, returns), finished, states, group)


def _present_states(
    sim: Simulator, before: Streams, mine: range, first_states: Sequence[np.random.Generator]
) -> NDArray[np.generic]:
    """The states ``[n, S]`` at which this worker's streams stand."""
    if before.live is not None:
        return before.live
    if not before.saved:
        return sim.reset(first_states)
    return from_saved(sim, before.saved)[mine.start : mine.stop]  # of all: none alone would not tell the states' width


def _after(
    before: Streams,
    saved: list[SavedState],
    current: tuple[NDArray[np.intp], NDArray[np.float64]],
    finished: list[tuple[int, int, tuple[float, ...]]],
    live: NDArray[np.generic],
    group: Group,
) -> Streams:
    """All workers' streams, from what this worker's have come to."""
    everybody = group.gather_objects((saved, *current, finished))
    states = tuple(state for part in everybody for state in part[0])
    t, returns = (np.concatenate([part[i] for part in everybody]) for i in (1, 2))
    ended = sorted(row for part in everybody for row in part[3])  # by time, then stream
    recent = np.concatenate([before.recent, np.array([row for _, _, row in ended]).reshape(-1, 4)])
    return Streams(states, t, returns, recent[-RECENT:], live)


def stream_stats(stretch: Stretch, after: Streams, step_limit: int, group: Group) -> Stats:
    """The ``collect/`` statistics, of the episodes that ended last; NaN before the first one has ended."""
    n_ended, n_steps = group.sums(stretch.ended.sum(), stretch.rewards.size)
    known = len(after.recent) > 0
    returns, lengths, terminated, success = after.recent.T if known else np.full((4, 1), nan)
    stats = {
        "collect/episode_return": float(returns.mean()),
        "collect/episode_return_std": float(returns.std()),
        "collect/episode_return_max": float(returns.max()),
        "collect/episode_return_min": float(returns.min()),
        "collect/score": float(returns.mean()) / step_limit,
        "collect/episode_length": float(lengths.mean()),
        "collect/n_episodes": int(n_ended),
        "collect/terminated_fraction": float(terminated.mean()),
        "collect/sim_steps": int(n_steps),
    }
    stats |= solved(success, "collect/success_fraction")
    return stats | ({RETURNS: tuple(sorted(returns.tolist()))} if known else {})
