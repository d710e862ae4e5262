"""The surrogate objective around θ_old, and how far a new policy is from the old one (Section 6).

Sums run over chunks of states and over workers; no intermediate result is stored for the whole batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import ESTIMATORS, Batch


@dataclass(frozen=True)
class Change:
    """How far a policy is from the one that drew the batch, and its surrogate."""

    surrogate: float
    mean_kl: float  # nats, mean over all states of KL(old ‖ new)
    max_kl: float  # nats, the largest over all states: D_KL^max of Eq. (9)
    entropy: float  # nats, mean over all states


@dataclass(frozen=True)
class Surrogate:
    """The surrogate of a batch at θ_old, over all workers, and what changes at any other θ."""

    policy: Policy
    theta: Tensor  # [D] θ_old
    batch: Batch
    group: Group
    gradient: Tensor  # [D] at θ_old
    value: float  # at θ_old

    def change(self, theta: Tensor) -> Change:
        """Evaluate ``theta`` on the whole batch."""
        return change(self.policy, theta, self.batch, self.group)


def surrogate_at(policy: Policy, theta: Tensor, batch: Batch, group: Group) -> Surrogate:
    """The surrogate with its gradient and value at ``theta``, the policy that drew the batch."""
    gradient, value = surrogate_gradient(policy, theta, batch, group)
    return Surrogate(policy, theta, batch, group, gradient, value)


def surrogate_gradient(policy: Policy, theta: Tensor, batch: Batch, group: Group) -> tuple[Tensor, float]:
    """Gradient ``[D]`` and value of the surrogate at ``theta``, over all workers."""
    total = group.sum(_of_surrogate(policy, theta, batch)) / batch.n_states
    return total[:-1].to(theta.dtype), float(total[-1])


def squared_path_gradients(policy: Policy, theta: Tensor, batch: Batch, group: Group) -> Tensor:
    """Σ over episodes of (Σ_t ∇ log π(a_t|s_t) A_t)² at θ_old, element by element, divided by M: ``[D]``."""
    assert batch.paths is not None
    order = np.argsort(batch.paths.episode, kind="stable")
    ends = np.flatnonzero(np.diff(batch.paths.episode[order])) + 1
    total = torch.zeros(policy.n_parameters, dtype=torch.float64, device=theta.device)
    for rows in np.split(order, ends):
        total += _of_surrogate(policy, theta, batch.rows(rows))[:-1].square()
    return (group.sum(total) / batch.n_states).to(theta.dtype)


def _of_surrogate(policy: Policy, theta: Tensor, batch: Batch) -> Tensor:
    estimate = ESTIMATORS[batch.estimator]
    return gradient_and_value(policy, theta, batch, lambda params, chunk: estimate(policy.dist, params, chunk))


def gradient_and_value(
    policy: Policy, theta: Tensor, batch: Batch, objective: Callable[[Tensor, Batch], Tensor]
) -> Tensor:
    """Gradient and, last, value of a sum over this worker's states: ``[D + 1]``, float64.

    objective: distribution parameters ``[m, P]`` and their m states -> the sum over these.
    """
    total = torch.zeros(policy.n_parameters + 1, dtype=torch.float64, device=theta.device)
    for chunk in batch.chunks(policy.chunk_size):
        linear = policy.linearize(theta, policy.tensor(chunk.obs))
        params = linear.params.detach().requires_grad_()
        value = objective(params, chunk)
        (u,) = torch.autograd.grad(value, params)
        total[:-1] += linear.vjp(u)
        total[-1] += value.detach()
    return total


@torch.no_grad()
def change(policy: Policy, theta: Tensor, batch: Batch, group: Group) -> Change:
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
    value, mean_kl, entropy = (group.sum(sums) / batch.n_states).tolist()
    return Change(value, mean_kl, group.maximum(float(largest)), entropy)
