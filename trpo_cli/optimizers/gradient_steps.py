"""The special cases of Section 7: a step of fixed multiplier along the natural gradient, and one of fixed length
along the gradient. Neither looks at the KL divergence it causes; it is measured all the same.
"""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
import torch
from torch import Tensor

from trpo_cli.optimizers.base import Stats, Updated, refused, require, step_stats
from trpo_cli.optimizers.fisher import (
    DAMPINGS,
    analytic_metric,
    damping_diagonal,
    fisher_matrix,
    natural_direction,
    sampled,
    useless,
)
from trpo_cli.optimizers.surrogate import change, surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch


@dataclass(frozen=True)
class NaturalGradient:
    """θ + (1/λ) A⁻¹ g with a fixed λ and no line search: Eq. (17), Figure 4's natural gradient."""

    penalty: float  # λ, the fixed Lagrange multiplier of Eq. (17)
    cg_iterations: int  # k: conjugate gradient iterations
    cg_damping: float  # added to the diagonal of the Fisher matrix while solving for the direction
    damping: str  # identity: the same everywhere; paths: times the squared gradients of single episodes
    fisher_fraction: float  # fraction of the states that the Fisher matrix is averaged over
    fisher_min_states: int  # unless that is fewer states than this

    def __post_init__(self) -> None:
        require(0 < self.penalty < inf, "penalty", self.penalty, "a finite number > 0")
        require(self.cg_iterations >= 1, "cg_iterations", self.cg_iterations, "at least 1")
        require(0 <= self.cg_damping < inf, "cg_damping", self.cg_damping, "a finite number >= 0")
        require(self.damping in DAMPINGS, "damping", self.damping, " or ".join(DAMPINGS))
        require(0 < self.fisher_fraction <= 1, "fisher_fraction", self.fisher_fraction, "in (0, 1]")
        require(self.fisher_min_states >= 0, "fisher_min_states", self.fisher_min_states, "at least 0")

    def unused(self) -> dict[str, str]:
        """The least number of states, if every state is taken."""
        every = "optimizer.fisher_fraction=1.0 takes every state"
        return {"fisher_min_states": every} if self.fisher_fraction == 1 else {}

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, rng: np.random.Generator, group: Group) -> Updated:
        gradient, surrogate = surrogate_gradient(policy, theta, batch, group)
        if (reason := useless(gradient)) is not None:
            return refused(theta, reason, gradient)
        fraction = sampled(batch, self.fisher_fraction, self.fisher_min_states)
        matrix = fisher_matrix(policy, theta, batch, fraction, rng, group, analytic_metric)
        damping = damping_diagonal(self.damping, self.cg_damping, policy, theta, batch, group)
        solution = natural_direction(matrix, gradient, self.cg_iterations, damping)
        new = theta + solution.x / self.penalty  # Eq. (17)
        found: Stats = {"update/cg_residual": solution.residual, "update/cg_iterations": solution.iterations}
        return _taken(policy, theta, new, gradient, surrogate, batch, group, found)


@dataclass(frozen=True)
class PolicyGradient:
    """The vanilla policy gradient as an L2 trust region: ½‖θ - θ_old‖² ≤ δ, Eq. (18)."""

    l2_limit: float  # δ of Eq. (18)

    def __post_init__(self) -> None:
        require(0 < self.l2_limit < inf, "l2_limit", self.l2_limit, "a finite number > 0")

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, rng: np.random.Generator, group: Group) -> Updated:
        gradient, surrogate = surrogate_gradient(policy, theta, batch, group)
        if (reason := useless(gradient)) is not None:
            return refused(theta, reason, gradient)
        new = theta + sqrt(2 * self.l2_limit) * gradient / gradient.norm()  # Eq. (18)
        return _taken(policy, theta, new, gradient, surrogate, batch, group, {})


def _taken(
    policy: Policy,
    theta: Tensor,
    new: Tensor,
    gradient: Tensor,
    surrogate: float,
    batch: Batch,
    group: Group,
    found: Stats,
) -> Updated:
    """The step as it is, with what it did to the policy; θ_old where it leads to numbers that are not finite."""
    reached = change(policy, new, batch, group)
    if not (bool(torch.isfinite(new).all()) and isfinite(reached.mean_kl) and isfinite(reached.surrogate)):
        return refused(theta, "non_finite", gradient)
    return Updated(new, step_stats(reached, surrogate, gradient, new - theta) | found)
