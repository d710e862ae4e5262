"""What an update consumes: M decision states with K actions tried at each, and the three estimators of Section 5.

The surrogate is a mean over states, and so is the KL: a state counts once however many actions were tried there. Sums
run over chunks of states and over workers; nothing is held for the whole batch but the batch itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.dense import at_a_time
from trpo_cli.distributions import Distribution
from trpo_cli.policies import Policy, chunks
from trpo_cli.world import World


@dataclass(frozen=True)
class Paths:
    """The whole episodes behind a batch of single paths, this worker's."""

    episode: NDArray[np.intp]  # [M] the episode that each decision state belongs to
    returns: NDArray[np.float64]  # [n] undiscounted return of each episode


@dataclass(frozen=True)
class Batch:
    """This worker's decision states. The surrogate's value at θ_old is not zero unless the advantages' mean is."""

    obs: NDArray[np.generic]  # [M, O]
    old: Tensor  # [M, P] distribution parameters of the policy that acted
    actions: Tensor  # [M, K, A]
    advantages: Tensor  # [M, K], or Q-values: the estimators do not mind a constant a state
    log_q: Tensor  # [M, K] log-probability of each action under the distribution it was drawn from
    estimator: str  # a key of ESTIMATORS
    n_states: int  # M summed over the workers
    paths: Paths | None = None  # None for a vine, whose states come from no one episode

    def chunks(self, size: int) -> Iterator["Batch"]:
        """The batch in pieces of at most ``size`` states; an accelerator takes more at a time."""
        for s in chunks(len(self.old), at_a_time(size, self.old.device)):
            yield self.rows(s)

    def rows(self, s: slice | NDArray[np.intp]) -> "Batch":
        """Some of the states, by a slice or by their indices."""
        return Batch(
            self.obs[s],
            self.old[s],
            self.actions[s],
            self.advantages[s],
            self.log_q[s],
            self.estimator,
            self.n_states,
            self.paths and Paths(self.paths.episode[s], self.paths.returns),
        )

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on ``device``; observations follow a chunk at a time."""
        tensors = {name: getattr(self, name).to(device) for name in ("old", "actions", "advantages", "log_q")}
        return replace(self, **tensors)


def importance(dist: Distribution, params: Tensor, b: Batch) -> Tensor:
    """Σ_m of π_θ(a|s) / q(a|s) · A(s, a), averaged over the actions of a state: the objective of Eq. (14)."""
    ratio = torch.exp(dist.log_prob(params[:, None], b.actions) - b.log_q)
    return (ratio * b.advantages).mean(1).sum()  # Eq. (14)


def all_actions(dist: Distribution, params: Tensor, b: Batch) -> Tensor:
    """Σ_m of Σ_k π_θ(a_k|s) Q(s, a_k) over every action of a small finite set: Eq. (15)."""
    return (torch.exp(dist.log_prob(params[:, None], b.actions)) * b.advantages).sum()  # Eq. (15)


def self_normalised(dist: Distribution, params: Tensor, b: Batch) -> Tensor:
    """Σ_m of Σ_k w_k Q(s, a_k) / Σ_k w_k with w = π_θ / q: Eq. (16).

    Paper: Eq. (16) divides by π_old, which is q where q = π_old; for any other q the weights need q itself.
    """
    weights = torch.softmax(dist.log_prob(params[:, None], b.actions) - b.log_q, 1)
    return (weights * b.advantages).sum()  # Eq. (16)


ESTIMATORS: dict[str, Callable[[Distribution, Tensor, Batch], Tensor]] = {
    "importance": importance,
    "all_actions": all_actions,
    "self_normalised": self_normalised,
}


def surrogate_gradient(policy: Policy, theta: Tensor, batch: Batch, world: World) -> tuple[Tensor, float]:
    """Gradient ``[D]`` and value of the surrogate at ``theta``, over all workers."""
    total = world.sum(_gradient_and_value(policy, theta, batch)) / batch.n_states
    return total[:-1].to(theta.dtype), float(total[-1])


def squared_path_gradients(policy: Policy, theta: Tensor, batch: Batch, world: World) -> Tensor:
    """Σ over episodes of (Σ_t ∇ log π(a_t|s_t) A_t)² at θ_old, element by element, for each state ``[D]``."""
    assert batch.paths is not None
    order = np.argsort(batch.paths.episode, kind="stable")
    ends = np.flatnonzero(np.diff(batch.paths.episode[order])) + 1
    total = torch.zeros(policy.n_parameters, dtype=torch.float64, device=theta.device)
    for rows in np.split(order, ends):
        total += _gradient_and_value(policy, theta, batch.rows(rows))[:-1].square()
    return (world.sum(total) / batch.n_states).to(theta.dtype)


def _gradient_and_value(policy: Policy, theta: Tensor, batch: Batch) -> Tensor:
    """The sum over this batch's states of the surrogate's gradient and, last, of its value: ``[D + 1]``, float64."""
    estimate = ESTIMATORS[batch.estimator]
    total = torch.zeros(policy.n_parameters + 1, dtype=torch.float64, device=theta.device)
    for chunk in batch.chunks(policy.chunk_size):
        linear = policy.linearize(theta, policy.tensor(chunk.obs))
        params = linear.params.detach().requires_grad_()
        value = estimate(policy.dist, params, chunk)
        (u,) = torch.autograd.grad(value, params)
        total[:-1] += linear.vjp(u)
        total[-1] += value.detach()
    return total


@dataclass(frozen=True)
class Change:
    """How far a policy is from the one that drew the batch, and what the surrogate makes of it."""

    surrogate: float
    mean_kl: float  # nats, mean over all states of KL(old ‖ new)
    max_kl: float  # nats, the largest over all states: D_KL^max of Eq. (9)
    entropy: float  # nats, mean over all states


@torch.no_grad()
def change(policy: Policy, theta: Tensor, batch: Batch, world: World) -> Change:
    """Evaluate ``theta`` on the whole batch, over all workers; values that are not finite come back as they are."""
    estimate = ESTIMATORS[batch.estimator]
    sums = torch.zeros(3, dtype=torch.float64)
    largest = torch.zeros((), dtype=torch.float64)
    for chunk in batch.chunks(policy.chunk_size):
        params = policy.params(theta, policy.tensor(chunk.obs))
        kl = policy.dist.kl(chunk.old, params)
        sums += (
            torch.stack([estimate(policy.dist, params, chunk), kl.sum(), policy.dist.entropy(params).sum()])
            .double()
            .cpu()
        )
        largest = torch.maximum(largest, kl.max().double().cpu())
    value, mean_kl, entropy = (world.sum(sums) / batch.n_states).tolist()
    return Change(value, mean_kl, world.maximum(float(largest)), entropy)
