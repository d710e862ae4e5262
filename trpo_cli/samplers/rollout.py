"""The only sampling loop: lanes that run until they end or the noise runs out (Section 5).

One lane is one episode, or one branch of a vine. Finished lanes leave the batch, so no step is wasted and no sum needs
a mask. What the lanes saw is stored packed, one row per decision, in the order of simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.errors import RunError
from trpo_cli.policies.base import Acting, Policy
from trpo_cli.sims.base import Named, Simulator

LARGEST_REWARD = 1e100  # the squares of returns, summed over a batch, have to be finite too
Keep = Literal["decisions", "states", "rewards"]


class Actor(Protocol):
    """Chooses actions; the numbers of the lanes say which row of a population acts in which lane."""

    def __call__(
        self, obs: NDArray[np.generic], lanes: NDArray[np.intp], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """obs ``[n, O]``, lanes ``[n]``, noise ``[n, Z]`` -> distribution parameters ``[n, P]``, actions ``[n, A]``."""
        ...


@dataclass(frozen=True)
class PolicyActor:
    """A policy that acts: one θ ``[D]`` for every lane, or one row of θ ``[Q, D]`` per lane."""

    policy: Policy
    theta: Tensor
    greedy: bool = False  # take the distribution's mode; the noise is not used
    first_lane: int = 0  # the lane that the first row of θ ``[Q, D]`` acts in

    def __call__(
        self, obs: NDArray[np.generic], lanes: NDArray[np.intp], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        if self._in_numpy is not None:
            return self._in_numpy(obs, noise)
        with torch.inference_mode():  # here, and not around the simulator, which may need gradients of its own
            return self._in_torch(obs, lanes, noise)

    def _in_torch(
        self, obs: NDArray[np.generic], lanes: NDArray[np.intp], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        every_lane = self.theta.dim() == 1 or len(lanes) == len(self.theta)
        theta = self.theta if every_lane else self.theta[torch.from_numpy(lanes - self.first_lane)]
        params = self.policy.params(theta, self.policy.tensor(obs))
        dist = self.policy.dist
        actions = dist.mode(params) if self.greedy else dist.sample(params, torch.from_numpy(noise).to(params))
        return params.numpy(), actions.numpy()

    @cached_property
    def _in_numpy(self) -> Acting | None:
        return None if self.greedy or self.theta.dim() > 1 else self.policy.acting(self.theta)


def solved(success: NDArray[np.float64], key: str) -> dict[str, float]:
    """The fraction of solved episodes under ``key``, of those of which it is told; nothing if it is told of none.

    success: ``[n]`` 1 if an episode counts as solved, 0 if not, NaN if it is not told
    """
    told = success[~np.isnan(success)]
    return {key: float(told.mean())} if told.size else {}


@dataclass(frozen=True)
class Rollout:
    """What n lanes did. Packed arrays have one row per decision (M of them), ordered by time, then lane."""

    lanes: NDArray[np.intp]  # [n] the number of each lane among the lanes of all workers
    obs: NDArray[np.generic]  # [M, O] observation before each decision
    params: NDArray[np.generic]  # [M, P] the policy's output for it
    actions: NDArray[np.generic]  # [M, A] in normalised action units
    states: NDArray[np.generic] | None  # [M, S] simulator state before each decision, if asked for
    t: NDArray[np.intp]  # [M] time step of each decision
    column: NDArray[np.intp]  # [M] place of its lane in the arrays below
    rewards: NDArray[np.float64]  # [T, n], zero after a lane's end
    lengths: NDArray[np.intp]  # [n] decisions of each lane
    terminated: NDArray[np.bool_]  # [n] the task ended the lane: no reward can follow
    truncated: NDArray[np.bool_]  # [n] cut by the simulator, or because the noise ran out; never both
    final_obs: NDArray[np.generic]  # [n, O] observation after the last step of each truncated lane
    success: NDArray[np.float64] | None = None  # [n] the last that `Step.success` told; NaN for a lane of which nothing

    @property
    def n_lanes(self) -> int:
        """n."""
        return len(self.lanes)

    @property
    def n_steps(self) -> int:
        """Environment steps simulated."""
        return int(self.lengths.sum())


PACKED = ("obs", "params", "actions", "states", "t", "column")  # one row per decision; the rest is per lane
BY_LANE = ("lanes", "lengths", "terminated", "truncated", "final_obs")


def rollout(
    sim: Simulator,
    act: Actor,
    states: NDArray[np.generic],
    noise: NDArray[np.float32],
    lanes: range | None = None,
    keep: Keep = "decisions",
    first_actions: NDArray[np.generic] | None = None,
) -> Rollout:
    """Run every lane from its state until the simulator ends it or ``noise`` runs out.

    states: ``[n, S]``, the start of each lane. noise: ``[T, n, Z]``, one row per step and lane; T is the step limit.
    lanes: numbers of the lanes among those of all workers; from 0 on unless given.
    keep: what is stored per decision. decisions: all but the simulator's state; states: that too; rewards: nothing.
    first_actions: ``[n, A]``, taken at the first step instead of the policy's own.
    """
    n_steps, n = noise.shape[:2]
    numbers = np.arange(n) if lanes is None else np.arange(lanes.start, lanes.stop)
    running = np.arange(n)  # columns of the lanes that have not ended
    rewards, lengths, terminated = np.zeros((n_steps, n)), np.zeros(n, np.intp), np.zeros(n, bool)
    decisions: list[tuple[Any, ...]] = []
    obs = observe(sim, states)
    final_obs, success = np.zeros_like(obs), np.full(n, np.nan)
    t = 0
    while t < n_steps and len(running):
        if t == 0 and first_actions is not None and keep == "rewards":
            params, actions = None, first_actions  # the policy's own actions are not needed
        else:
            everybody = len(running) == n
            names, drawn = (numbers, noise[t]) if everybody else (numbers[running], noise[t, running])
            params, actions = act(obs, names, drawn)
            actions = first_actions if t == 0 and first_actions is not None else actions
        if keep != "rewards":
            decisions.append((obs, params, actions, states, np.full(len(running), t), running))
        step = sim.step(states, sim.action_space.controls(actions))
        states, rewards[t, running] = step.states, step.rewards
        if step.success is not None:
            success[running] = np.where(np.isnan(step.success), success[running], step.success)
        t += 1
        cut = step.terminated if step.truncated is None else step.terminated | step.truncated
        if cut.any():
            lengths[running[cut]] = t
            terminated[running] = step.terminated
            if (open_end := cut & ~step.terminated).any():
                final_obs[running[open_end]] = observe(sim, states[open_end])
            running, states = running[~cut], states[~cut]
        obs = observe(sim, states)
    lengths[running] = t
    final_obs[running] = obs
    require_finite(rewards[:t], sim)
    if not decisions:  # no lane, or nothing to keep: empty columns, of the right widths if somebody may read them
        nothing, empty = obs[:0], np.zeros(0, np.intp)
        params, actions = (nothing, nothing) if keep == "rewards" else act(nothing, empty, noise[0, :0])
        decisions.append((nothing, params, actions, states[:0], empty, empty))
    packed = {name: np.concatenate(column) for name, column in zip(PACKED, zip(*decisions, strict=True), strict=True)}
    by_lane = (numbers, lengths, terminated, ~terminated, final_obs)
    columns: dict[str, Any] = packed | dict(zip(BY_LANE, by_lane, strict=True))
    columns |= {} if keep == "states" else {"states": None}
    return Rollout(**columns, rewards=rewards[:t], success=success)


def require_finite(rewards: NDArray[np.float64], sim: Simulator) -> None:
    """RunError for a reward, of ``[T, n]`` in T steps of n lanes, that cannot be added up."""
    if not np.abs(rewards).max(initial=0) < LARGEST_REWARD:  # false for NaN
        t, lane = np.argwhere(~(np.abs(rewards) < LARGEST_REWARD))[0]
        raise RunError(
            f"{_name(sim)} returned a reward of {rewards[t, lane]:g} (step {t + 1}, lane {lane + 1} of "
            f"{rewards.shape[1]}), which is not a finite number below 1e100 in size; the environment cannot be used "
            "for training"
        )


def observe(sim: Simulator, states: NDArray[np.generic]) -> NDArray[np.generic]:
    """The observations of ``states``; RunError if one is not finite."""
    obs = sim.observe(states)
    if obs.dtype.kind == "f" and not np.isfinite(obs).all():
        lane, *place = np.argwhere(~np.isfinite(obs))[0]
        what = "NaN" if np.isnan(obs[lane, *place]) else "infinite, or too large for single precision (3.4e38)"
        raise RunError(
            f"{_name(sim)} returned an observation whose number {', '.join(str(i + 1) for i in place)} is {what} "
            f"(lane {lane + 1} of {len(obs)}); the environment cannot be used for training"
        )
    return obs


def _name(sim: Simulator) -> str:
    return sim.name if isinstance(sim, Named) else "the simulator"


def join(parts: Sequence[Rollout]) -> Rollout:
    """Several rollouts as one: lanes and packed rows placed part after part."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [p.n_lanes for p in parts])
    rewards = np.zeros((max(len(p.rewards) for p in parts), starts[-1]))
    for start, p in zip(starts, parts, strict=False):
        rewards[: len(p.rewards), start : start + p.n_lanes] = p.rewards
    moved = [replace(p, column=p.column + start) for p, start in zip(parts, starts, strict=False)]
    columns: dict[str, Any] = {
        field.name: np.concatenate([getattr(p, field.name) for p in moved])
        for field in fields(Rollout)
        if field.name != "rewards" and getattr(parts[0], field.name) is not None
    }
    return Rollout(**{"states": None, **columns, "rewards": rewards})


def first_lanes(roll: Rollout, n: int) -> Rollout:
    """The rollout's first ``n`` lanes."""
    if n == roll.n_lanes:
        return roll
    mine = roll.column < n
    packed = {name: getattr(roll, name) for name in PACKED}
    chosen: dict[str, Any] = {name: None if x is None else x[mine] for name, x in packed.items()}
    chosen |= {name: getattr(roll, name)[:n] for name in BY_LANE}
    success = None if roll.success is None else roll.success[:n]
    return Rollout(**chosen, rewards=roll.rewards[:, :n], success=success)
