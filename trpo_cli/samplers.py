"""Single path and vine: from a policy to the batch of its next update (Section 5, Figure 1).

Both draw a lane's randomness from (seed, purpose, iteration, lane) and share the lanes among the workers.
"""

from dataclasses import dataclass
from math import inf, nan
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.batch import Batch, Paths
from trpo_cli.distributions import FactoredCategorical
from trpo_cli.episodes import Stats, episode_stats, policy_noise, run_budget, run_paths
from trpo_cli.errors import ConfigError
from trpo_cli.numerics import discounted_sums
from trpo_cli.policies import Policy, chunks
from trpo_cli.rollouts import PolicyActor, Rollout, rollout
from trpo_cli.seeding import generator, generators
from trpo_cli.sims.base import Discrete, Simulator
from trpo_cli.world import World

ROUNDING = 1e-20  # variances below this fraction of the mean square are rounding, and no ground to prefer an action
FEW_PATHS = 5  # with fewer paths alive the baseline keeps its last value (authors' code)


class Sampler(Protocol):
    """Draws the batch of one iteration."""

    def check(self, sim: Simulator) -> None:
        """Raise ConfigError where the sampler cannot work with this simulator."""
        ...

    def __call__(
        self, sim: Simulator, policy: Policy, theta: Tensor, seed: int, iteration: int, world: World, hint: float = nan
    ) -> tuple[Batch, Stats]:
        """The batch of ``theta`` ``[D]`` and its statistics.

        hint: steps of an episode, as far as they are known beforehand. It decides how much is simulated beyond a
        budget of steps and dropped, and nothing else.
        """
        ...


def _require(holds: bool, field: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"sampler.{field}={value} must be {what}")


@dataclass(frozen=True)
class SinglePath:
    """Section 5.1: whole episodes, Monte-Carlo returns; numbers and sources in ``conf/sampler/single.yaml``."""

    gamma: float  # discount
    step_limit: int  # environment steps of an episode
    n_paths: int  # episodes a batch
    steps_per_iteration: int | None  # where set: episodes until their steps reach it, and n_paths is not used
    scale: float  # fraction of the paths, or steps, that is really drawn
    baseline: str  # time: mean return of each time step is subtracted; none
    standardise: bool  # divide the advantages by their standard deviation over the batch

    def __post_init__(self) -> None:
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "in (0, 1]")
        _require(self.step_limit >= 1, "step_limit", self.step_limit, "at least 1")
        _require(self.n_paths >= 1, "n_paths", self.n_paths, "at least 1")
        steps = self.steps_per_iteration
        _require(steps is None or steps >= 1, "steps_per_iteration", steps, "at least 1, or null to use n_paths")
        _require(0 < self.scale < inf, "scale", self.scale, "a finite number > 0")
        _require(self.baseline in ("time", "none"), "baseline", self.baseline, "time or none")
        if self.baseline == "time" and steps is None:
            _require(self.n_paths > 1, "n_paths", self.n_paths, "at least 2 where sampler.baseline=time")

    def check(self, sim: Simulator) -> None:
        """Single paths work with every simulator."""

    def __call__(
        self, sim: Simulator, policy: Policy, theta: Tensor, seed: int, iteration: int, world: World, hint: float = nan
    ) -> tuple[Batch, Stats]:
        roll, dropped = self.paths(sim, policy, theta, seed, iteration, world, hint)
        advantages = self.advantages(roll, world)
        old, actions = (torch.from_numpy(x) for x in (roll.params, roll.actions))
        batch = Batch(
            obs=roll.obs,
            old=old,
            actions=actions[:, None],
            advantages=torch.from_numpy(advantages).to(old)[:, None],
            log_q=policy.dist.log_prob(old, actions)[:, None],
            estimator="importance",
            n_states=int(world.sums(len(advantages))[0]),
            paths=Paths(roll.lane, roll.rewards.sum(0)),
        )
        stats = episode_stats(roll, self.step_limit, world)
        stats["collect/sim_steps"] += dropped
        return batch, stats

    def paths(
        self, sim: Simulator, policy: Policy, theta: Tensor, seed: int, iteration: int, world: World, hint: float = nan
    ) -> tuple[Rollout, int]:
        """This worker's share of the batch's episodes, and the steps all workers simulated beyond the budget."""
        least = 2 if self.baseline == "time" else 1  # one path alone is its own baseline
        if self.steps_per_iteration is None:
            lanes = world.share(max(round(self.n_paths * self.scale), least))
            return run_paths(sim, policy, theta, seed, iteration, lanes, self.step_limit), 0
        budget = max(round(self.steps_per_iteration * self.scale), 1)
        return run_budget(
            sim, policy, theta, seed, iteration, budget, least, self.step_limit, world, expected_length=hint
        )

    def advantages(self, roll: Rollout, world: World) -> NDArray[np.float64]:
        """Reward-to-go less the time-dependent baseline, standardised: ``[M]``, one for each decision of ``roll``.

        Paper: Section 5.1 uses the bare returns; baseline and standardisation are the authors' code's.
        """
        returns = discounted_sums(roll.rewards, self.gamma)
        values = returns[roll.t, roll.lane]
        if self.baseline == "time":
            values = values - self._time_baseline(returns, roll, world)[roll.t]
        if not self.standardise:
            return values
        raw = returns[roll.t, roll.lane]
        n, total, size = world.sums(len(values), values.sum(), (raw**2).sum())
        # The mean first: in the difference of two sums of squares, rounding alone would pass for a variance.
        variance = world.sums(((values - total / n) ** 2).sum())[0] / n
        return values / variance**0.5 if variance > ROUNDING * size / n else np.zeros_like(values)

    def _time_baseline(self, returns: NDArray[np.float64], roll: Rollout, world: World) -> NDArray[np.float64]:
        """Mean return of the paths alive at each time step ``[T]``; few paths left keep the last mean."""
        n_steps = int(world.maximum(len(returns)))
        sums = np.zeros((2, n_steps))
        alive = np.arange(len(returns))[:, None] < roll.lengths
        sums[0, : len(returns)] = np.where(alive, returns, 0).sum(1)
        sums[1, : len(returns)] = alive.sum(1)
        totals, counts = world.sum_array(sums)
        enough = counts >= min(FEW_PATHS, counts[0])
        last = np.maximum.accumulate(np.where(enough, np.arange(n_steps), 0))
        return totals[last] / counts[last]


@dataclass(frozen=True)
class Vine:
    """Section 5.2: branches from stored states under common random numbers; numbers in ``conf/sampler/vine.yaml``."""

    gamma: float  # discount
    step_limit: int  # environment steps of a trunk
    n_trunks: int  # trunk episodes a batch
    trunk_steps: int | None  # where set: trunk episodes until their steps reach it, and n_trunks is not used
    n_states: int  # size of the rollout set, drawn uniformly from all visited states
    steps_per_iteration: int | None  # where set: branches until all steps reach it, and n_states is not used
    n_actions: int  # K: actions tried at each
    branch_length: int  # environment steps of a branch, its first action included
    scale: float  # fraction of the trunks and of the rollout set that is really drawn
    proposal: str  # what the actions are drawn from: policy (π_old) or uniform
    estimator: str  # self_normalised, importance, all_actions; auto: all_actions where K covers the action set
    common_random_numbers: bool  # the branches of a state share their noise
    standardise: bool  # divide by the mean over states of the std over the state's Q-values

    def __post_init__(self) -> None:
        _require(0 < self.gamma <= 1, "gamma", self.gamma, "in (0, 1]")
        for name in ("step_limit", "n_trunks", "n_states", "branch_length"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name, other in (("trunk_steps", "n_trunks"), ("steps_per_iteration", "n_states")):
            steps = getattr(self, name)
            _require(steps is None or steps >= 1, name, steps, f"at least 1, or null to use {other}")
        _require(
            self.n_actions >= 2, "n_actions", self.n_actions, "at least 2: one action has nothing to be better than"
        )
        _require(0 < self.scale < inf, "scale", self.scale, "a finite number > 0")
        _require(self.proposal in ("policy", "uniform"), "proposal", self.proposal, "policy or uniform")
        known = ("auto", "self_normalised", "importance", "all_actions")
        _require(self.estimator in known, "estimator", self.estimator, "one of " + ", ".join(known))

    def check(self, sim: Simulator) -> None:
        """Enumeration and uniform proposals need a finite action set, branches an environment that can be copied."""
        if (require_copies := getattr(sim, "require_copies", None)) is not None:
            require_copies()
        discrete = isinstance(sim.action_space, Discrete)
        _require(discrete or self.proposal == "policy", "proposal", self.proposal, "policy for continuous actions")
        _require(
            discrete or self.estimator != "all_actions",
            "estimator",
            self.estimator,
            "self_normalised for continuous actions",
        )

    def _enumerates(self, policy: Policy) -> bool:
        """True where every action of the set is tried (Eq. 15)."""
        dist = policy.dist
        if not isinstance(dist, FactoredCategorical):
            return False
        return self.estimator == "all_actions" or (self.estimator == "auto" and dist.n_actions <= self.n_actions)

    def __call__(
        self, sim: Simulator, policy: Policy, theta: Tensor, seed: int, iteration: int, world: World, hint: float = nan
    ) -> tuple[Batch, Stats]:
        trunks, dropped = self.trunks(sim, policy, theta, seed, iteration, world, hint)
        states, mine = self.rollout_set(trunks, seed, iteration, world)
        obs = sim.observe(states)
        with torch.inference_mode():
            old = policy.params(theta, policy.tensor(obs))
        actions, log_q = self.tried_actions(policy, old, seed, iteration, mine)
        q_values, branch_steps = self.q_values(sim, policy, theta, states, actions, seed, iteration, mine)
        batch = Batch(
            obs=obs,
            old=old.clone(),
            actions=actions,
            advantages=torch.from_numpy(self.advantages(q_values, world)).to(old),
            log_q=log_q,
            estimator="all_actions" if self._enumerates(policy) else self._sampled_estimator,
            n_states=int(world.sums(len(obs))[0]),
        )
        stats = episode_stats(trunks, self.step_limit, world)
        branch_steps_total, n_told_apart = world.sums(branch_steps, (np.ptp(q_values, axis=1) > 0).sum())
        stats["collect/sim_steps"] += int(branch_steps_total) + dropped
        return batch, stats | {
            "collect/branch_steps": int(branch_steps_total),
            "collect/n_states": batch.n_states,
            "collect/told_apart_fraction": n_told_apart / batch.n_states,
        }

    @property
    def _sampled_estimator(self) -> str:
        return "self_normalised" if self.estimator == "auto" else self.estimator

    def trunks(
        self, sim: Simulator, policy: Policy, theta: Tensor, seed: int, iteration: int, world: World, hint: float = nan
    ) -> tuple[Rollout, int]:
        """This worker's share of the trunk episodes with their states, and the steps all simulated beyond a budget."""
        if self.trunk_steps is None:
            lanes = world.share(max(round(self.n_trunks * self.scale), 1))
            return run_paths(sim, policy, theta, seed, iteration, lanes, self.step_limit, keep_states=True), 0
        budget = max(round(self.trunk_steps * self.scale), 1)
        return run_budget(sim, policy, theta, seed, iteration, budget, 1, self.step_limit, world, True, hint)

    def _n_states(self, trunk_steps: int) -> int:
        """Size of the rollout set: as configured, or what the steps left by the trunks pay for."""
        if self.steps_per_iteration is None:
            return max(round(self.n_states * self.scale), 1)
        left = round(self.steps_per_iteration * self.scale) - trunk_steps
        return max(left // (self.n_actions * self.branch_length), 1)

    def rollout_set(
        self, trunks: Rollout, seed: int, iteration: int, world: World
    ) -> tuple[NDArray[np.generic], range]:
        """States drawn without replacement, uniformly from all that all workers' trunks visited.

        Returns this worker's share of them ``[m, S]`` and its place among all; all are taken where there are too few.
        """
        assert trunks.states is not None
        counts = world.gather_objects(trunks.n_steps)
        start, total = sum(counts[: world.rank]), sum(counts)
        n = min(self._n_states(total), total)
        chosen = np.sort(generator(seed, "rollout_set", iteration).choice(total, n, replace=False, shuffle=False))
        here = chosen[(chosen >= start) & (chosen < start + trunks.n_steps)] - start
        lane_major = np.lexsort((trunks.t, trunks.lane))  # the same numbering of the visits for any number of workers
        states = world.concatenate(trunks.states[lane_major[here]])
        mine = world.share(n)
        return states[mine.start : mine.stop], mine

    def tried_actions(
        self, policy: Policy, old: Tensor, seed: int, iteration: int, mine: range
    ) -> tuple[Tensor, Tensor]:
        """K actions for each state ``[m, K, A]`` and the log-probability of each under q ``[m, K]``."""
        dist = policy.dist
        if self._enumerates(policy):
            assert isinstance(dist, FactoredCategorical)
            actions = torch.from_numpy(dist.all_actions()).expand(len(old), -1, -1)
            return actions, torch.zeros(actions.shape[:2], dtype=old.dtype)
        noise = np.empty((len(mine), self.n_actions, dist.action_size), np.float32)
        for i, rng in enumerate(generators(seed, "branch_action", iteration, mine)):
            noise[i] = dist.draw_noise(rng, (self.n_actions,))
        q = (old if self.proposal == "policy" else torch.zeros_like(old))[:, None].clone()
        actions = dist.sample(q, torch.from_numpy(noise).to(old))
        return actions, dist.log_prob(q, actions)

    def q_values(
        self,
        sim: Simulator,
        policy: Policy,
        theta: Tensor,
        states: NDArray[np.generic],
        actions: Tensor,
        seed: int,
        iteration: int,
        mine: range,
    ) -> tuple[NDArray[np.float64], int]:
        """Discounted reward of one branch for each state and action ``[m, K]``, and the steps simulated for them.

        Paper: nothing is added for what lies beyond a branch's end, as in the authors' code.
        """
        m, k = actions.shape[:2]
        act, first = PolicyActor(policy, theta), actions.numpy()
        q_values, n_steps = np.zeros((m, k)), 0
        for rows in chunks(m, max(sim.max_lanes // k, 1)):
            places = range(mine.start + rows.start, mine.start + rows.stop)
            noise = self._branch_noise(policy, seed, iteration, places, k)
            starts, tried = np.repeat(states[rows], k, axis=0), first[rows].reshape(-1, first.shape[-1])
            roll = rollout(sim, act, starts, noise, keep_decisions=False, first_actions=tried)
            discounts = self.gamma ** np.arange(len(roll.rewards))
            q_values[rows] = (discounts @ roll.rewards).reshape(-1, k)
            n_steps += roll.n_steps
        return q_values, n_steps

    def _branch_noise(self, policy: Policy, seed: int, iteration: int, places: range, k: int) -> NDArray[np.float32]:
        """The noise ``[T, m k, Z]`` of the branches of the states at ``places`` in the whole rollout set."""
        if self.common_random_numbers:
            noise = policy_noise(policy, seed, "branch_noise", iteration, places, self.branch_length)
            return np.repeat(noise, k, axis=1)  # the same noise for the K branches of a state
        lanes = range(places.start * k, places.stop * k)
        return policy_noise(policy, seed, "branch_noise", iteration, lanes, self.branch_length)

    def advantages(self, q_values: NDArray[np.float64], world: World) -> NDArray[np.float64]:
        """Q-values ``[m, K]`` less their mean over the actions of a state, in units of their typical spread."""
        advantages = q_values - q_values.mean(1, keepdims=True)
        if not self.standardise:
            return advantages
        spread, size, n = world.sums(advantages.std(1).sum(), np.abs(q_values).mean(1).sum(), len(advantages))
        return advantages / (spread / n) if spread > ROUNDING**0.5 * size else np.zeros_like(advantages)
