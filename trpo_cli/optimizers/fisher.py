"""The Fisher matrix as a product, on a sample of the states (Section 6, point 3, and Appendix C)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from trpo_cli.optimizers.surrogate import Surrogate
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Linearization
from trpo_cli.policies.distributions import Distribution
from trpo_cli.samplers.batch import Batch, importance_weights
from trpo_cli.samplers.randomness import Draw

Metric = Callable[[Distribution, Batch, Linearization], Callable[[Tensor], Tensor]]


def analytic_metric(dist: Distribution, b: Batch, linear: Linearization) -> Callable[[Tensor], Tensor]:
    """M of Appendix C: the Hessian of KL in the distribution's parameters, ``[m, P] -> [m, P]``."""
    if dist.diagonal_fisher:  # then it is computed once for all products
        diagonal = dist.fisher_product(linear.params, torch.ones_like(linear.params))
        return lambda v: diagonal * v
    return lambda v: dist.fisher_product(linear.params, v)


def empirical_metric(dist: Distribution, b: Batch, linear: Linearization) -> Callable[[Tensor], Tensor]:
    """u uᵀ with u = ∂ log π(a|s) / ∂ params of the action taken: Jᵀ of it is the covariance of ∇ log π (Section 6).

    E[∇ log π] is zero at θ_old, so the second moment is the covariance. It is an expectation over π_old: the K actions
    tried in a state weigh π_old / q each, or π_old if every action was tried.
    """
    weights = importance_weights(dist, b)[..., None]  # [m, K, 1]
    params = linear.params.detach()[:, None].expand(-1, b.actions.shape[1], -1).clone().requires_grad_()
    with torch.enable_grad():
        (scores,) = torch.autograd.grad(dist.log_prob(params, b.actions).sum(), params)  # [m, K, P]

    def product(v: Tensor) -> Tensor:
        return (weights * scores * (scores * v[:, None]).sum(-1, keepdim=True)).sum(1)

    return product


METRICS: dict[str, Metric] = {"analytic": analytic_metric, "empirical": empirical_metric}


@dataclass(frozen=True)
class FisherMatrix:
    """A = mean over states of Jᵀ M J at θ (Appendix C), as a product; activations are saved once, chunk by chunk."""

    pieces: list[tuple[Linearization, Callable[[Tensor], Tensor]]]
    n_states: int  # states in the sample, over all workers
    group: Group

    def product(self, v: Tensor) -> Tensor:
        """A v, ``[D]``; a chunk's three factors follow one another while it is in the cache."""
        total = torch.zeros(len(v), dtype=torch.float64, device=v.device)
        for linear, metric in self.pieces:
            total += linear.vjp(metric(linear.jvp(v)))  # Jᵀ M J v
        return (self.group.sum(total) / self.n_states).to(v.dtype)


def fisher_matrix(at: Surrogate, fraction: float, draw: Draw, metric: Metric) -> FisherMatrix:
    """The Fisher matrix at θ_old on a random ``fraction`` of every worker's states (Appendix C: 10%)."""
    policy, sample = at.policy, at.batch
    if fraction < 1:
        sample = sample.some(ceil(fraction * len(sample.old)), draw.generator("fisher_sample"))
    pieces = []
    for chunk in sample.chunks(policy.chunk_size):
        linear = policy.linearize(at.theta, policy.tensor(chunk.obs))
        pieces.append((linear, metric(policy.dist, chunk, linear)))
    return FisherMatrix(pieces, int(at.group.sums(len(sample.old))[0]), at.group)
