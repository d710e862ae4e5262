"""Vine: branches from states along trunk episodes, under common random numbers (Section 5.2)."""

from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy, chunks
from trpo_cli.policies.distributions import Distribution
from trpo_cli.samplers.base import ROUNDING, Memory, Sampled, ValueFunction, require, values_beyond
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.episodes import Budget, episode_stats, policy_noise, run_budget, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import PolicyActor, Rollout, rollout
from trpo_cli.sims.base import Copyable, Simulator, Task


@dataclass(frozen=True)
class Vine:
    """Section 5.2: branches from stored states under common random numbers; numbers in ``conf/sampler/vine.yaml``."""

    gamma: float  # discount
    n_trunks: int  # trunk episodes per batch
    trunk_steps: int | None  # if set: trunk episodes until their steps reach it, and n_trunks is not used
    n_states: int  # size of the rollout set, drawn uniformly from all visited states
    steps_per_iteration: int | None  # if set: branches until all steps reach it, and n_states is not used
    n_actions: int  # K: actions tried at each state; every action of the set for Eq. 15
    branch_length: int  # environment steps of a branch, its first action included
    proposal: str  # what the actions are drawn from: policy (π_old) or uniform
    estimator: str  # self_normalised, importance, all_actions; auto: all_actions if K covers the action set
    common_random_numbers: bool  # the branches of a state share their noise
    standardise: bool  # divide by the mean over states of the std over the state's Q-values

    def __post_init__(self) -> None:
        require(0 < self.gamma <= 1, "gamma", self.gamma, "in (0, 1]")
        for name in ("n_trunks", "n_states", "branch_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name, other in (("trunk_steps", "n_trunks"), ("steps_per_iteration", "n_states")):
            steps = getattr(self, name)
            require(steps is None or steps >= 1, name, steps, f"at least 1, or null to use {other}")
        require(self.n_actions >= 2, "n_actions", self.n_actions, "at least 2: one action has none to compare with")
        require(self.proposal in ("policy", "uniform"), "proposal", self.proposal, "policy or uniform")
        known = ("auto", "self_normalised", "importance", "all_actions")
        require(self.estimator in known, "estimator", self.estimator, "one of " + ", ".join(known))

    @property
    def whole_paths(self) -> bool:
        """A batch consists of single states, each with its branches."""
        return False

    @property
    def n_lanes(self) -> None:
        """There are more branches than workers."""
        return None

    def unused(self) -> dict[str, str]:
        """The numbers of trunks and states, if there are budgets of steps."""
        budgets = {"n_trunks": ("trunk_steps", self.trunk_steps)}
        budgets["n_states"] = ("steps_per_iteration", self.steps_per_iteration)
        return {
            name: f"sampler.{budget}={steps} is set, or add sampler.{budget}=null"
            for name, (budget, steps) in budgets.items()
            if steps is not None
        }

    def check(self, sim: Simulator, has_critic: bool) -> None:
        """Enumeration and uniform proposals need a finite action set, branches an environment that can be copied."""
        if isinstance(sim, Copyable):
            sim.require_copies()
        finite = sim.action_space.factors is not None
        require(finite or self.proposal == "policy", "proposal", self.proposal, "policy for continuous actions")
        require(
            finite or self.estimator != "all_actions",
            "estimator",
            self.estimator,
            "self_normalised for continuous actions",
        )

    def _enumerates(self, dist: Distribution) -> bool:
        """True if every action of the set is tried (Eq. 15)."""
        if dist.n_actions is None:
            return False
        return self.estimator == "all_actions" or (self.estimator == "auto" and dist.n_actions <= self.n_actions)

    def __call__(
        self, task: Task, policy: Policy, theta: Tensor, draw: Draw, group: Group, memory: Memory = Memory()
    ) -> Sampled:
        actor, value = PolicyActor(policy, theta), memory.value
        trunks, dropped = self.trunks(task, actor, draw, group, memory.hint)
        states, mine = self.rollout_set(trunks, draw, group, self._n_tried(policy.dist))
        obs = task.sim.observe(states)
        with torch.inference_mode():
            old = policy.params(theta, policy.tensor(obs))
        actions, log_q = self.tried_actions(policy.dist, old, draw, mine)
        branches = Branches(task.sim, actor, value)
        q_values, branch_steps = self.q_values(branches, states, actions, draw, mine)
        batch = Batch(
            obs=obs,
            old=old.clone(),
            actions=actions,
            advantages=torch.from_numpy(self.advantages(q_values, group)).to(old),
            log_q=log_q,
            estimator="all_actions" if self._enumerates(policy.dist) else self._sampled_estimator,
            n_states=int(group.sums(len(obs))[0]),
            targets=None if value is None else state_values(policy.dist, old, actions, log_q, q_values),
        )
        stats = episode_stats(trunks, task.step_limit, group, of_budget=self.trunk_steps is not None)
        branch_steps_total, n_told_apart = group.sums(branch_steps, (np.ptp(q_values, axis=1) > 0).sum())
        stats["collect/sim_steps"] += int(branch_steps_total) + dropped
        stats |= {
            "collect/branch_steps": int(branch_steps_total),
            "collect/n_states": batch.n_states,
            "collect/told_apart_fraction": n_told_apart / batch.n_states,
        }
        return Sampled(batch, stats)

    @property
    def _sampled_estimator(self) -> str:
        return "self_normalised" if self.estimator == "auto" else self.estimator

    def trunks(
        self, task: Task, actor: PolicyActor, draw: Draw, group: Group, hint: float = nan
    ) -> tuple[Rollout, int]:
        """This worker's trunk episodes with their states, and the steps that all workers simulated and dropped."""
        if self.trunk_steps is None:
            return run_episodes(task, actor, draw, group.share(self.n_trunks), keep="states"), 0
        return run_budget(task, actor, draw, Budget(self.trunk_steps), group, hint, keep="states")

    def _n_tried(self, dist: Distribution) -> int:
        """K: actions tried at each state."""
        every = dist.n_actions if self._enumerates(dist) else None
        return every or self.n_actions

    def _n_states(self, trunk_steps: int, k: int) -> int:
        """Size of the rollout set: as configured, or as many states as the steps left by the trunks pay for."""
        if self.steps_per_iteration is None:
            return self.n_states
        left = self.steps_per_iteration - trunk_steps
        return max(left // (k * self.branch_length), 1)

    def rollout_set(self, trunks: Rollout, draw: Draw, group: Group, k: int) -> tuple[NDArray[np.generic], range]:
        """States drawn without replacement, uniformly from all visits of all workers' trunks.

        k: actions that will be tried at each state, which decides how many states a budget of steps pays for.
        Returns this worker's share of them ``[m, S]`` and its place among all. If there are too few, all are taken.
        The visits are numbered lane by lane over all workers: the set is the same however many workers there are.
        """
        assert trunks.states is not None
        lanes, lengths = group.concatenate(trunks.lanes), group.concatenate(trunks.lengths)
        by_lane = np.argsort(lanes)
        starts = np.empty(len(lanes), np.intp)  # number of each lane's first visit
        starts[by_lane] = np.cumsum(lengths[by_lane]) - lengths[by_lane]
        total = int(lengths.sum())
        n = min(self._n_states(total, k), total)
        chosen = np.sort(draw.generator("rollout_set").choice(total, n, replace=False, shuffle=False))
        first = sum(group.gather_objects(trunks.n_lanes)[: group.rank])  # in the table of all workers' lanes
        number = starts[first : first + trunks.n_lanes][trunks.column] + trunks.t  # of each visit of this worker
        here = np.flatnonzero(np.isin(number, chosen))
        states, order = group.concatenate(trunks.states[here]), np.argsort(group.concatenate(number[here]))
        mine = group.share(n)
        return states[order[mine.start : mine.stop]], mine

    def tried_actions(self, dist: Distribution, old: Tensor, draw: Draw, mine: range) -> tuple[Tensor, Tensor]:
        """K actions per state ``[m, K, A]``, and the log-probability of each under q ``[m, K]``."""
        if self._enumerates(dist):
            actions = torch.from_numpy(dist.all_actions()).expand(len(old), -1, -1)
            return actions, torch.zeros(actions.shape[:2], dtype=old.dtype)
        noise = np.empty((len(mine), self.n_actions, dist.action_size), np.float32)
        for i, rng in enumerate(draw.generators("branch_action", mine)):
            noise[i] = dist.draw_noise(rng, (self.n_actions,))
        q = (old if self.proposal == "policy" else torch.zeros_like(old))[:, None].clone()
        actions = dist.sample(q, torch.from_numpy(noise).to(old))
        return actions, dist.log_prob(q, actions)

    def q_values(
        self, branches: "Branches", states: NDArray[np.generic], actions: Tensor, draw: Draw, mine: range
    ) -> tuple[NDArray[np.float64], int]:
        """Discounted reward of one branch per state and action ``[m, K]``, and the steps simulated for them.

        mine: the places of these states in the whole rollout set. A branch of L steps that did not terminate ends in a
        state s: with a value function γ^L V(s) is added.
        Without one nothing is added for what lies beyond a branch's end, as in the paper and the authors' code.
        """
        sim, actor = branches.sim, branches.actor
        m, k = actions.shape[:2]
        first = actions.numpy()
        q_values, n_steps = np.zeros((m, k)), 0
        for rows in chunks(m, max(sim.max_lanes // k, 1)):
            places = range(mine.start + rows.start, mine.start + rows.stop)
            noise = self._branch_noise(actor.policy.dist, draw, places, k)
            starts, tried = np.repeat(states[rows], k, axis=0), first[rows].reshape(-1, first.shape[-1])
            roll = rollout(sim, actor, starts, noise, keep="rewards", first_actions=tried)
            discounts = self.gamma ** np.arange(len(roll.rewards))
            q = discounts @ roll.rewards
            if branches.value is not None:
                q = q + self.gamma**roll.lengths * values_beyond(branches.value, roll)
            q_values[rows] = q.reshape(-1, k)
            n_steps += roll.n_steps
        return q_values, n_steps

    def _branch_noise(self, dist: Distribution, draw: Draw, places: range, k: int) -> NDArray[np.float32]:
        """The noise ``[T, m k, Z]`` of the branches of the states at ``places`` in the whole rollout set."""
        if self.common_random_numbers:
            noise = policy_noise(dist, draw, "branch_noise", places, self.branch_length)
            return np.repeat(noise, k, axis=1)  # the K branches of each state share their noise
        lanes = range(places.start * k, places.stop * k)
        return policy_noise(dist, draw, "branch_noise", lanes, self.branch_length)

    def advantages(self, q_values: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
        """Q-values ``[m, K]`` minus their mean over the actions of each state, in units of their typical spread."""
        advantages = q_values - q_values.mean(1, keepdims=True)
        if not self.standardise:
            return advantages
        spread, size, n = group.sums(advantages.std(1).sum(), np.abs(q_values).mean(1).sum(), len(advantages))
        return advantages / (spread / n) if spread > ROUNDING**0.5 * size else np.zeros_like(advantages)


@dataclass(frozen=True)
class Branches:
    """What branches are run with."""

    sim: Simulator
    actor: PolicyActor
    value: ValueFunction | None


def state_values(
    dist: Distribution, old: Tensor, actions: Tensor, log_q: Tensor, q_values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """V of each state ``[m]`` under π_old: the mean of its Q-values with weights π_old / q, as in Eq. (16)."""
    weights = torch.softmax(dist.log_prob(old[:, None], actions) - log_q, 1)
    values: NDArray[np.float64] = (weights.double().numpy() * q_values).sum(1)
    return values
