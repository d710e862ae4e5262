"""What an update consumes: M decision states with K actions tried at each, and the three estimators of Section 5.

The surrogate is a mean over states, and so is the KL: a state counts once, however many actions were tried in it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import chunks
from trpo_cli.policies.distributions import Distribution
from trpo_cli.policies.kernels import at_a_time


@dataclass(frozen=True)
class Paths:
    """The whole episodes behind a batch of single paths, this worker's."""

    episode: NDArray[np.intp]  # [M] the episode that each decision state belongs to
    returns: NDArray[np.float64]  # [n] undiscounted return of each episode


@dataclass(frozen=True)
class Batch:
    """This worker's decision states. Note: the surrogate at θ_old is the mean advantage, which need not be 0."""

    obs: NDArray[np.generic]  # [M, O]
    old: Tensor  # [M, P] distribution parameters of the policy that acted
    actions: Tensor  # [M, K, A]
    advantages: Tensor  # [M, K]; Q-values are fine too: a constant per state changes no estimator's gradient
    log_q: Tensor  # [M, K] log-probability of each action under the distribution it was drawn from
    estimator: str  # a key of ESTIMATORS
    n_states: int  # M summed over the workers
    paths: Paths | None = None  # None for a vine, whose states come from many episodes
    targets: NDArray[np.float64] | None = None  # [M] of the value function; None if there is none
    advantage_variance: float | None = None  # of all workers' advantages by a value function, before standardisation
    kl_fraction: float = 1.0  # of δ that a step may use

    def chunks(self, size: int) -> Iterator["Batch"]:
        """The batch in pieces of at most ``size`` states; a GPU takes more at a time."""
        for s in chunks(len(self.old), at_a_time(size, self.old.device)):
            yield self.rows(s)

    def rows(self, s: slice | NDArray[np.intp]) -> "Batch":
        """Some of the states, by a slice or by their indices."""
        return replace(
            self,
            obs=self.obs[s],
            old=self.old[s],
            actions=self.actions[s],
            advantages=self.advantages[s],
            log_q=self.log_q[s],
            paths=None if self.paths is None else Paths(self.paths.episode[s], self.paths.returns),
            targets=None if self.targets is None else self.targets[s],
        )

    def some(self, n: int, rng: np.random.Generator) -> "Batch":
        """``n`` of this worker's states, drawn at random, in their order."""
        return self.rows(np.sort(rng.permutation(len(self.old))[:n]))

    def gathered(self, group: Group) -> "Batch":
        """The states of all workers, in rank order."""
        changes: dict[str, Any] = {
            name: torch.cat(group.gather_objects(getattr(self, name)))
            for name in ("old", "actions", "advantages", "log_q")
        }
        changes["obs"] = group.concatenate(self.obs)
        if self.targets is not None:
            changes["targets"] = group.concatenate(self.targets)
        if self.paths is not None:
            first = sum(group.gather_objects(len(self.paths.returns))[: group.rank])  # of this worker's episodes
            episode: Any = group.concatenate(self.paths.episode + first)
            returns: Any = group.concatenate(self.paths.returns)
            changes["paths"] = Paths(episode, returns)
        return replace(self, **changes)

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on ``device``; observations are moved chunk by chunk."""
        tensors = {name: getattr(self, name).to(device) for name in ("old", "actions", "advantages", "log_q")}
        return replace(self, **tensors)


def importance_weights(dist: Distribution, b: Batch) -> Tensor:
    """What each action of a state counts for in an expectation over π_old ``[M, K]``: π_old / (K q), or π_old of all.

    Over the draws of actions they add up to 1 on average; for actions that π_old drew each is 1/K.
    """
    weights = torch.exp(dist.log_prob(b.old[:, None], b.actions) - b.log_q)
    return weights if b.estimator == "all_actions" else weights / b.actions.shape[1]


def importance(dist: Distribution, params: Tensor, b: Batch) -> Tensor:
    """Σ_m of π_θ(a|s) / q(a|s) · A(s, a), averaged over the actions tried in each state: the objective of Eq. (14)."""
    ratio = torch.exp(dist.log_prob(params[:, None], b.actions) - b.log_q)
    return (ratio * b.advantages).mean(1).sum()  # Eq. (14)


def all_actions(dist: Distribution, params: Tensor, b: Batch) -> Tensor:
    """Σ_m of Σ_k π_θ(a_k|s) Q(s, a_k) over every action of a small finite set: Eq. (15)."""
    return (torch.exp(dist.log_prob(params[:, None], b.actions)) * b.advantages).sum()  # Eq. (15)


def self_normalised(dist: Distribution, params: Tensor, b: Batch) -> Tensor:
    """Σ_m of Σ_k w_k Q(s, a_k) / Σ_k w_k with w = π_θ / q: Eq. (16).

    Paper: Eq. (16) divides by π_old, which is q only if q = π_old; for any other q the weights need q itself.
    """
    weights = torch.softmax(dist.log_prob(params[:, None], b.actions) - b.log_q, 1)
    return (weights * b.advantages).sum()  # Eq. (16)


ESTIMATORS: dict[str, Callable[[Distribution, Tensor, Batch], Tensor]] = {
    "importance": importance,
    "all_actions": all_actions,
    "self_normalised": self_normalised,
}
