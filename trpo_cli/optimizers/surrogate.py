"""The surrogate objective and its gradient, and the KL divergence of a new policy from the old (Section 6).

Sums run over chunks of states and over workers; nothing is held for the whole batch but the batch itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import ESTIMATORS, Batch


def surrogate_gradient(policy: Policy, theta: Tensor, batch: Batch, group: Group) -> tuple[Tensor, float]:
    """Gradient ``[D]`` and value of the surrogate at ``theta``, over all workers."""
    total = group.sum(_gradient_and_value(policy, theta, batch)) / batch.n_states
    return total[:-1].to(theta.dtype), float(total[-1])


def squared_path_gradients(policy: Policy, theta: Tensor, batch: Batch, group: Group) -> Tensor:
    """Σ over episodes of (Σ_t ∇ log π(a_t|s_t) A_t)² at θ_old, element by element, for each state ``[D]``."""
    assert batch.paths is not None
    order = np.argsort(batch.paths.episode, kind="stable")
    ends = np.flatnonzero(np.diff(batch.paths.episode[order])) + 1
    total = torch.zeros(policy.n_parameters, dtype=torch.float64, device=theta.device)
    for rows in np.split(order, ends):
        total += _gradient_and_value(policy, theta, batch.rows(rows))[:-1].square()
    return (group.sum(total) / batch.n_states).to(theta.dtype)


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
