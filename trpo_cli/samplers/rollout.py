"""The only sampling loop: lanes that run until they terminate or the noise runs out (Section 5).

One lane is one episode, or one branch of a vine. Finished lanes leave the batch, so no step is simulated in vain and
no mask enters a recursion. What a lane saw is stored packed, one row a decision, in the order of simulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.errors import RunError
from trpo_cli.policies.base import Acting, Policy
from trpo_cli.sims.base import Simulator

LARGEST_REWARD = 1e100  # the squares of returns, summed over a batch, have to be finite too
USELESS = "that is not finite (or, of a reward, beyond 1e100); the environment cannot be trained on"


class Actor(Protocol):
    """Chooses actions; the lanes say which row of a population, or of a stored array, acts where."""

    def __call__(
        self, obs: NDArray[np.generic], lanes: NDArray[np.intp], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """obs ``[n, O]``, lanes ``[n]``, noise ``[n, Z]`` -> distribution parameters ``[n, P]``, actions ``[n, A]``."""
        ...


@dataclass(frozen=True)
class PolicyActor:
    """A policy that acts: one θ ``[D]`` for every lane, or a row of θ ``[Q, D]`` for each."""

    policy: Policy
    theta: Tensor
    greedy: bool = False  # take the distribution's mode; the noise is not used

    def __call__(
        self, obs: NDArray[np.generic], lanes: NDArray[np.intp], noise: NDArray[np.float32]
    ) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        if self._in_numpy is not None:
            return self._in_numpy(obs, noise)
        every_lane = self.theta.dim() == 1 or len(lanes) == len(self.theta)
        theta = self.theta if every_lane else self.theta[torch.from_numpy(lanes)]
        params = self.policy.params(theta, self.policy.tensor(obs))
        dist = self.policy.dist
        actions = dist.mode(params) if self.greedy else dist.sample(params, torch.from_numpy(noise).to(params))
        return params.numpy(), actions.numpy()

    @cached_property
    def _in_numpy(self) -> Acting | None:
        return None if self.greedy or self.theta.dim() > 1 else self.policy.acting(self.theta)


@dataclass(frozen=True)
class Rollout:
    """What n lanes did. Packed arrays have one row for each of the M decisions, ordered by time, then lane."""

    n_lanes: int
    obs: NDArray[np.generic]  # [M, O] observation before each decision
    params: NDArray[np.generic]  # [M, P] what the policy gave out there
    actions: NDArray[np.generic]  # [M, A] in normalised action units
    states: NDArray[np.generic] | None  # [M, S] simulator state before each decision, where asked for
    t: NDArray[np.intp]  # [M] time step of each decision
    lane: NDArray[np.intp]  # [M] its lane
    rewards: NDArray[np.float64]  # [T, n], zero after a lane's end
    lengths: NDArray[np.intp]  # [n] decisions of each lane
    terminated: NDArray[np.bool_]  # [n] False where the noise ran out first

    @property
    def n_steps(self) -> int:
        """Environment steps simulated."""
        return int(self.lengths.sum())


@torch.inference_mode()
def rollout(
    sim: Simulator,
    act: Actor,
    states: NDArray[np.generic],
    noise: NDArray[np.float32],
    keep_states: bool = False,
    keep_decisions: bool = True,
    first_actions: NDArray[np.generic] | None = None,
) -> Rollout:
    """Run every lane from its state until it terminates or ``noise`` ends.

    states: ``[n, S]`` where each lane starts. noise: ``[T, n, Z]``, one row a step and lane; T is the time limit.
    keep_states: store the simulator state of each decision too. keep_decisions: False stores rewards and lengths alone.
    first_actions: ``[n, A]`` taken at the first step in place of the policy's own.
    """
    n_steps, n = noise.shape[:2]
    lanes = np.arange(n)
    rewards = np.zeros((n_steps, n))
    lengths = np.zeros(n, np.intp)
    terminated = np.zeros(n, bool)
    kept: list[tuple[NDArray[np.generic], ...]] = []
    t = 0
    while t < n_steps and len(lanes):
        obs = sim.observe(states)
        if obs.dtype.kind == "f" and not np.isfinite(obs).all():
            raise RunError(f"the simulator returned an observation {USELESS}")
        params, actions = act(obs, lanes, noise[t] if len(lanes) == n else noise[t, lanes])
        if t == 0 and first_actions is not None:
            actions = first_actions
        if keep_decisions:
            row = (obs, params, actions, np.full(len(lanes), t), lanes)
            kept.append((*row, states) if keep_states else row)
        states, step_rewards, ended = sim.step(states, sim.action_space.controls(actions))
        rewards[t, lanes] = step_rewards
        t += 1
        if ended.any():
            lengths[lanes[ended]] = t
            terminated[lanes[ended]] = True
            lanes, states = lanes[~ended], states[~ended]
    lengths[lanes] = t
    if not np.abs(rewards[:t]).max(initial=0) < LARGEST_REWARD:  # false of NaN
        raise RunError(f"the simulator returned a reward {USELESS}")
    if not kept:  # no lane, or nothing to keep: empty columns of the right widths
        obs = sim.observe(states[:0])
        empty = np.zeros(0, np.intp)
        kept.append((obs, *act(obs, empty, noise[0, :0]), empty, empty, states[:0]))
    columns = [np.concatenate(c) for c in zip(*kept, strict=True)]
    return Rollout(
        n_lanes=n,
        obs=columns[0],
        params=columns[1],
        actions=columns[2],
        t=columns[3],
        lane=columns[4],
        states=columns[5] if keep_states else None,
        rewards=rewards[:t],
        lengths=lengths,
        terminated=terminated,
    )


def joined(parts: Sequence[Rollout]) -> Rollout:
    """Several rollouts as one, lanes numbered and packed rows placed part after part."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0] + [p.n_lanes for p in parts])
    rewards = np.zeros((max(len(p.rewards) for p in parts), starts[-1]))
    for start, p in zip(starts, parts, strict=False):
        rewards[: len(p.rewards), start : start + p.n_lanes] = p.rewards
    return Rollout(
        n_lanes=int(starts[-1]),
        obs=np.concatenate([p.obs for p in parts]),
        params=np.concatenate([p.params for p in parts]),
        actions=np.concatenate([p.actions for p in parts]),
        states=None if parts[0].states is None else np.concatenate([p.states for p in parts]),
        t=np.concatenate([p.t for p in parts]),
        lane=np.concatenate([p.lane + start for p, start in zip(parts, starts, strict=False)]),
        rewards=rewards,
        lengths=np.concatenate([p.lengths for p in parts]),
        terminated=np.concatenate([p.terminated for p in parts]),
    )


def first_lanes(roll: Rollout, n: int) -> Rollout:
    """The rollout's first ``n`` lanes."""
    if n == roll.n_lanes:
        return roll
    mine = roll.lane < n
    return Rollout(
        n_lanes=n,
        obs=roll.obs[mine],
        params=roll.params[mine],
        actions=roll.actions[mine],
        states=None if roll.states is None else roll.states[mine],
        t=roll.t[mine],
        lane=roll.lane[mine],
        rewards=roll.rewards[:, :n],
        lengths=roll.lengths[:n],
        terminated=roll.terminated[:n],
    )
