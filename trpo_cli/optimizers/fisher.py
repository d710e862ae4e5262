"""The natural gradient direction: Fisher-vector products and conjugate gradient on a sample of the states.

Section 6, point 3, and Appendix C.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from trpo_cli.optimizers.conjugate_gradient import Solution, conjugate_gradient
from trpo_cli.optimizers.surrogate import squared_path_gradients
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Linearization, Policy
from trpo_cli.policies.distributions import DiagonalGaussian, Distribution
from trpo_cli.samplers.batch import Batch

Metric = Callable[[Distribution, Batch, Linearization], Callable[[Tensor], Tensor]]


def analytic_metric(dist: Distribution, b: Batch, linear: Linearization) -> Callable[[Tensor], Tensor]:
    """M of Appendix C: the Hessian of KL in the distribution's parameters, ``[m, P] -> [m, P]``."""
    if isinstance(dist, DiagonalGaussian):  # then M is diagonal, and made once for all products
        diagonal = dist.fisher_product(linear.params, torch.ones_like(linear.params))
        return lambda v: diagonal * v
    return lambda v: dist.fisher_product(linear.params, v)


def empirical_metric(dist: Distribution, b: Batch, linear: Linearization) -> Callable[[Tensor], Tensor]:
    """u uᵀ with u = ∂ log π(a|s) / ∂ params of the action taken: Jᵀ of it is the covariance of ∇ log π (Section 6).

    E[∇ log π] is zero at θ_old, so the second moment is the covariance; K actions of a state are averaged.
    """
    params = linear.params.detach()[:, None].expand(-1, b.actions.shape[1], -1).clone().requires_grad_()
    with torch.enable_grad():
        (scores,) = torch.autograd.grad(dist.log_prob(params, b.actions).sum(), params)  # [m, K, P]

    def product(v: Tensor) -> Tensor:
        return (scores * (scores * v[:, None]).sum(-1, keepdim=True)).mean(1)

    return product


METRICS: dict[str, Metric] = {"analytic": analytic_metric, "empirical": empirical_metric}


def useless(gradient: Tensor) -> str | None:
    """Why a gradient gives no direction, or None where it does."""
    if not bool(torch.isfinite(gradient).all()):
        return "non_finite_gradient"
    return "zero_gradient" if not bool(gradient.any()) else None


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


def sampled(batch: Batch, fraction: float, min_states: int) -> float:
    """The fraction of all workers' states to average over: ``fraction``, or what makes ``min_states`` of them."""
    return min(max(fraction, min_states / batch.n_states), 1.0)


def fisher_matrix(
    policy: Policy,
    theta: Tensor,
    batch: Batch,
    fraction: float,
    rng: np.random.Generator,
    group: Group,
    metric: Metric,
) -> FisherMatrix:
    """The Fisher matrix at ``theta`` on a random ``fraction`` of every worker's states (Appendix C: 10%)."""
    sample = batch
    if fraction < 1:
        n = len(batch.old)
        sample = batch.rows(np.sort(rng.permutation(n)[: ceil(fraction * n)]))
    pieces = []
    for chunk in sample.chunks(policy.chunk_size):
        linear = policy.linearize(theta, policy.tensor(chunk.obs))
        pieces.append((linear, metric(policy.dist, chunk, linear)))
    return FisherMatrix(pieces, int(group.sums(len(sample.old))[0]), group)


DAMPINGS = ("identity", "paths")


def damping_diagonal(
    kind: str, strength: float, policy: Policy, theta: Tensor, batch: Batch, group: Group
) -> Tensor | float:
    """What is added to the Fisher matrix's diagonal while solving for the direction: one number, or ``[D]``.

    identity: ``strength`` everywhere. paths: ``strength`` times the squared gradients of single episodes, which damps
    most where the advantages of an episode pull together (authors' code, for single paths).
    """
    return strength if kind == "identity" else strength * squared_path_gradients(policy, theta, batch, group)


def natural_direction(matrix: FisherMatrix, gradient: Tensor, iterations: int, damping: Tensor | float) -> Solution:
    """s with (A + diag(damping)) s = g, by conjugate gradient."""
    return conjugate_gradient(lambda v: matrix.product(v) + damping * v, gradient, iterations)
