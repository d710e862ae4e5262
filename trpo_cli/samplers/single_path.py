"""Single path (Section 5.1): whole episodes and Monte-Carlo returns, or a value function and streams."""

from dataclasses import dataclass, replace
from math import nan
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.base import ROUNDING, Memory, Sampled, ValueFunction, require, values_beyond
from trpo_cli.samplers.batch import Batch, Paths
from trpo_cli.samplers.episodes import Budget, episode_stats, run_budget, run_episodes
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.returns import discounted_sums, generalised_advantages
from trpo_cli.samplers.rollout import PolicyActor, Rollout
from trpo_cli.samplers.streams import Streams, Stretch, run_streams, stream_stats
from trpo_cli.sims.base import Simulator, Task, require_savable

FEW_PATHS = 5  # with fewer paths alive the baseline keeps its last value (authors' code)


class Estimated(NamedTuple):
    """What a value function says of a batch."""

    advantages: NDArray[np.float64]  # [M]
    targets: NDArray[np.float64]  # [M] of the value function
    variance: float  # of the advantages of all workers, before they were standardised


@dataclass(frozen=True)
class SinglePath:
    """Section 5.1: whole episodes, Monte-Carlo returns; numbers and sources in ``conf/sampler/single.yaml``."""

    gamma: float  # discount
    n_paths: int  # episodes per batch
    steps_per_iteration: int | None  # if set: episodes until their steps reach it, and n_paths is not used
    baseline: str  # time: mean return of each time step is subtracted; none
    standardise: bool  # divide the advantages by their standard deviation over the batch
    streams: int | None  # episodes that run on from one iteration into the next; null: whole episodes

    def __post_init__(self) -> None:
        require(0 < self.gamma <= 1, "gamma", self.gamma, "in (0, 1]")
        require(self.n_paths >= 1, "n_paths", self.n_paths, "at least 1")
        steps = self.steps_per_iteration
        require(steps is None or steps >= 1, "steps_per_iteration", steps, "at least 1, or null to use n_paths")
        require(self.baseline in ("time", "none"), "baseline", self.baseline, "time or none")
        if self.baseline == "time" and steps is None:
            require(self.n_paths > 1, "n_paths", self.n_paths, "at least 2 with sampler.baseline=time")
        if self.streams is not None:
            require(self.streams >= 1, "streams", self.streams, "at least 1, or null for whole episodes")
            least = f"at least sampler.streams={self.streams}, one step per stream; or add sampler.streams=null"
            require(steps is not None and steps >= self.streams, "steps_per_iteration", steps, least)

    @property
    def whole_paths(self) -> bool:
        """A batch of streams is cut where its steps end; any other consists of whole episodes."""
        return self.streams is None

    @property
    def n_lanes(self) -> int | None:
        """The streams, or the episodes if their number is given."""
        return self.streams or (self.n_paths if self.steps_per_iteration is None else None)

    def unused(self) -> dict[str, str]:
        """The number of paths, if there are streams or a budget of steps."""
        if self.streams is not None:
            instead = "add sampler.streams=null sampler.steps_per_iteration=null for whole episodes"
            return {"n_paths": f"sampler.streams={self.streams} run on without an end, or {instead}"}
        steps = self.steps_per_iteration
        reason = f"sampler.steps_per_iteration={steps} is set, or add sampler.steps_per_iteration=null"
        return {} if steps is None else {"n_paths": reason}

    def check(self, sim: Simulator, has_critic: bool) -> None:
        """Streams need a value function and states that can be saved; whole episodes work with every simulator."""
        if self.streams is not None:
            what = "null without a value function, which estimates what follows the end of a batch; or choose a critic="
            require(has_critic, "streams", self.streams, what)
            require_savable(sim, f"sampler.streams={self.streams}")

    def __call__(
        self, task: Task, policy: Policy, theta: Tensor, draw: Draw, group: Group, memory: Memory = Memory()
    ) -> Sampled:
        actor, value = PolicyActor(policy, theta), memory.value
        if self.streams is not None:
            assert self.steps_per_iteration is not None and value is not None
            before, n_steps = memory.streams or Streams.begin(self.streams), self.steps_per_iteration // self.streams
            stretch, after = run_streams(task, actor, draw, n_steps, before, group)
            batch = self._estimated_batch(policy, stretch, self.estimated_advantages(stretch, value, group), group)
            return Sampled(batch, stream_stats(stretch, after, task.step_limit, group), after)
        roll, dropped = self.paths(task, actor, draw, group, memory.hint)
        if value is None:
            batch = self._batch(policy, roll, self.advantages(roll, group), group)
        else:
            found = self.estimated_advantages_of_episodes(roll, value, group)
            batch = self._estimated_batch(policy, roll, found, group)
        stats = episode_stats(roll, task.step_limit, group, of_budget=self.steps_per_iteration is not None)
        stats["collect/sim_steps"] += dropped
        return Sampled(replace(batch, paths=Paths(roll.column, roll.rewards.sum(0))), stats)

    def _batch(
        self,
        policy: Policy,
        seen: Rollout | Stretch,
        advantages: NDArray[np.float64],
        group: Group,
    ) -> Batch:
        """The batch of decisions with their advantages ``[M]``."""
        old, actions = (torch.from_numpy(x) for x in (seen.params, seen.actions))
        return Batch(
            obs=seen.obs,
            old=old,
            actions=actions[:, None],
            advantages=torch.from_numpy(advantages).to(old)[:, None],
            log_q=policy.dist.log_prob(old, actions)[:, None],
            estimator="importance",
            n_states=int(group.sums(len(advantages))[0]),
        )

    def _estimated_batch(self, policy: Policy, seen: Rollout | Stretch, found: "Estimated", group: Group) -> Batch:
        """The batch of decisions with what a value function says of them."""
        batch = self._batch(policy, seen, found.advantages, group)
        return replace(batch, targets=found.targets, advantage_variance=found.variance)

    def paths(self, task: Task, actor: PolicyActor, draw: Draw, group: Group, hint: float = nan) -> tuple[Rollout, int]:
        """This worker's share of the batch's episodes, and the steps that all workers simulated and dropped."""
        least = 2 if self.baseline == "time" else 1  # one path alone is its own baseline
        if self.steps_per_iteration is None:
            return run_episodes(task, actor, draw, group.share(self.n_paths)), 0
        return run_budget(task, actor, draw, Budget(self.steps_per_iteration, least), group, hint)

    def advantages(self, roll: Rollout, group: Group) -> NDArray[np.float64]:
        """Reward-to-go minus the time-dependent baseline, standardised: ``[M]``, one per decision of ``roll``.

        Paper: Section 5.1 uses the bare returns; baseline and standardisation are the authors' code's.
        """
        returns = discounted_sums(roll.rewards, self.gamma)
        values = raw = returns[roll.t, roll.column]
        if self.baseline == "time":
            values = values - self._time_baseline(returns, roll, group)[roll.t]
        if not self.standardise:
            return values
        _, std = _mean_and_std(values, raw, group)
        return values / std if std > 0 else np.zeros_like(values)

    def estimated_advantages_of_episodes(self, roll: Rollout, value: ValueFunction, group: Group) -> "Estimated":
        """Advantages by a value function, standardised, and its targets (Schulman et al. 2016).

        What lies beyond a time limit, or beyond the simulator's own cut, is V of the true next observation.
        """
        seen, lanes = value(roll.obs), np.arange(roll.n_lanes)
        values, following, ended = np.zeros((3, *roll.rewards.shape))
        values[roll.t, roll.column] = seen
        following[:-1] = values[1:]
        following[roll.lengths - 1, lanes] = values_beyond(value, roll)
        ended[roll.lengths - 1, lanes] = True
        found = generalised_advantages(roll.rewards, values, following, ended > 0, self.gamma, value.gae_lambda)
        return self._standardised(found[roll.t, roll.column], seen, value.least_advantage, roll.rewards, group)

    def estimated_advantages(self, stretch: Stretch, value: ValueFunction, group: Group) -> "Estimated":
        """The same for streams: what lies beyond the end of the batch is V of the true next observation too."""
        seen = value(stretch.obs)
        values = seen.reshape(stretch.rewards.shape)
        following = np.concatenate([values[1:], value(stretch.last_obs)[None]])
        following[stretch.truncated] = value(stretch.cut_obs)
        following[stretch.terminated] = 0.0
        found = generalised_advantages(stretch.rewards, values, following, stretch.ended, self.gamma, value.gae_lambda)
        return self._standardised(found.ravel(), seen, value.least_advantage, stretch.rewards, group)

    def _standardised(
        self,
        advantages: NDArray[np.float64],
        values: NDArray[np.float64],
        least: float,
        rewards: NDArray[np.float64],
        group: Group,
    ) -> "Estimated":
        """Advantages with mean 0 and standard deviation 1 if that is asked for, and the targets.

        All advantages are 0 if their deviation is below ``least`` of the root mean square of the rewards. Once a pole
        stands, every return is the same and what is left are errors of V: each step to the trust region's boundary,
        however small the errors, would follow them, until the pole falls.
        """
        targets = advantages + values
        mean, std = _mean_and_std(advantages, targets, group)
        n, squares = group.sums(len(advantages), (rewards**2).sum())
        if std <= least * (squares / n) ** 0.5:
            return Estimated(np.zeros_like(advantages), targets, std**2)
        return Estimated((advantages - mean) / std if self.standardise else advantages, targets, std**2)

    def _time_baseline(self, returns: NDArray[np.float64], roll: Rollout, group: Group) -> NDArray[np.float64]:
        """Mean return of the paths alive at each time step ``[T]``; with few paths left the last mean is kept."""
        n_steps = int(group.maximum(len(returns)))
        sums = np.zeros((2, n_steps))
        alive = np.arange(len(returns))[:, None] < roll.lengths
        sums[0, : len(returns)] = np.where(alive, returns, 0).sum(1)
        sums[1, : len(returns)] = alive.sum(1)
        totals, counts = group.sum_array(sums)
        enough = counts >= min(FEW_PATHS, counts[0])
        last = np.maximum.accumulate(np.where(enough, np.arange(n_steps), 0))
        return totals[last] / counts[last]


def _mean_and_std(x: NDArray[np.float64], size_of: NDArray[np.float64], group: Group) -> tuple[float, float]:
    """Mean and standard deviation over all workers; the deviation is 0 if it is rounding beside ``size_of``."""
    n, total, size = group.sums(len(x), x.sum(), (size_of**2).sum())
    # Subtract the mean first: the difference of two sums of squares could be all rounding.
    variance = group.sums(((x - total / n) ** 2).sum())[0] / n
    return total / n, variance**0.5 if variance > ROUNDING * size / n else 0.0
