"""The TRPO step: maximise the surrogate subject to mean KL(old ‖ new) ≤ δ (Section 6, Appendix C)."""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
import torch
from torch import Tensor

from trpo_cli.optimizers.base import Stats, Updated, refused, require
from trpo_cli.optimizers.conjugate_gradient import Solution
from trpo_cli.optimizers.fisher import (
    DAMPINGS,
    METRICS,
    FisherMatrix,
    damping_diagonal,
    fisher_matrix,
    natural_direction,
    sampled,
    useless,
)
from trpo_cli.optimizers.line_search import LineSearch
from trpo_cli.optimizers.surrogate import surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch


@dataclass(frozen=True)
class TrustRegion:
    """Hyperparameters of the TRPO step; numbers and sources stand in ``conf/optimizer/trpo.yaml``."""

    kl_limit: float  # δ: bound on the mean KL(old ‖ new) in nats
    kl_slack: float  # a step is accepted up to kl_slack · δ; 1 enforces the constraint, the authors' code has 2
    cg_iterations: int  # k: conjugate gradient iterations
    cg_damping: float  # added to the diagonal of the Fisher matrix while solving for the direction
    damping: str  # identity: the same everywhere; paths: times the squared gradients of single episodes
    fisher_fraction: float  # fraction of the states that the Fisher matrix is averaged over
    fisher_min_states: int  # unless that is fewer states than this
    fisher: str  # analytic: the Hessian of the KL (Appendix C); empirical: the covariance of ∇ log π
    line_search: str  # boundary: rescale onto the boundary of the trust region; halving: the paper's
    accept_ratio: float  # gain of an accepted step, at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first

    def __post_init__(self) -> None:
        require(self.cg_iterations >= 1, "cg_iterations", self.cg_iterations, "at least 1")
        require(0 <= self.cg_damping < inf, "cg_damping", self.cg_damping, "a finite number >= 0")
        require(self.damping in DAMPINGS, "damping", self.damping, " or ".join(DAMPINGS))
        require(0 < self.fisher_fraction <= 1, "fisher_fraction", self.fisher_fraction, "in (0, 1]")
        require(self.fisher_min_states >= 0, "fisher_min_states", self.fisher_min_states, "at least 0")
        require(self.fisher in METRICS, "fisher", self.fisher, " or ".join(METRICS))
        _ = self._line_search  # which checks the rest

    def unused(self) -> dict[str, str]:
        """The least number of states, if every state is taken."""
        every = "optimizer.fisher_fraction=1.0 takes every state"
        return {"fisher_min_states": every} if self.fisher_fraction == 1 else {}

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, rng: np.random.Generator, group: Group) -> Updated:
        gradient, surrogate = surrogate_gradient(policy, theta, batch, group)
        if (reason := useless(gradient)) is not None:
            return refused(theta, reason, gradient)
        fraction = sampled(batch, self.fisher_fraction, self.fisher_min_states)
        matrix = fisher_matrix(policy, theta, batch, fraction, rng, group, METRICS[self.fisher])
        damping = damping_diagonal(self.damping, self.cg_damping, policy, theta, batch, group)
        solution = natural_direction(matrix, gradient, self.cg_iterations, damping)
        step_size = self._step_size(matrix, solution)
        if isinstance(step_size, str):
            return refused(theta, step_size, gradient)
        updated = self._line_search(policy, theta, step_size * solution.x, gradient, surrogate, batch, group)
        solved: Stats = {"update/cg_residual": solution.residual, "update/cg_iterations": solution.iterations}
        return Updated(updated.theta, updated.stats | solved)

    @property
    def _line_search(self) -> LineSearch:
        return LineSearch(
            kind=self.line_search,
            kl_limit=self.kl_limit,
            kl_slack=self.kl_slack,
            accept_ratio=self.accept_ratio,
            max_backtracks=self.max_backtracks,
            divergence=lambda new: new.mean_kl,
        )

    def _step_size(self, matrix: FisherMatrix, solution: Solution) -> float | str:
        """β that puts the quadratic model of the KL on δ, or the reason why there is none."""
        s = solution.x
        curvature = float(s @ matrix.product(s))
        if not (isfinite(curvature) and bool(torch.isfinite(s).all())):
            return "non_finite_direction"
        if curvature <= 0:
            return "no_positive_curvature"
        return sqrt(2 * self.kl_limit / curvature)  # Appendix C: β = sqrt(2δ / sᵀAs)
