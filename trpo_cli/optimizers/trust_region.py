"""The TRPO step: maximise the surrogate subject to mean KL(old ‖ new) ≤ δ (Section 6, Appendix C)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, sqrt

import numpy as np
import torch
from torch import Tensor

from trpo_cli.batch import Batch, Change, change, surrogate_gradient
from trpo_cli.numerics import Point, Search, Solution, boundary_search, halving_search
from trpo_cli.optimizers.base import Updated, refused, require
from trpo_cli.optimizers.directions import METRICS, FisherMatrix, fisher_matrix, natural_direction, useless
from trpo_cli.policies import Policy
from trpo_cli.world import World


@dataclass(frozen=True)
class TrustRegion:
    """Hyperparameters of the TRPO step; numbers and sources stand in ``conf/optimizer/trpo.yaml``."""

    kl_limit: float  # δ: bound on the mean KL(old ‖ new) in nats
    kl_slack: float  # a step is accepted up to kl_slack · δ; 1 enforces the constraint, the authors' code has 2
    cg_iterations: int  # k: conjugate gradient iterations
    cg_damping: float  # added to the diagonal of the Fisher matrix while solving for the direction
    fisher_fraction: float  # fraction of the states that the Fisher matrix is averaged over
    fisher: str  # analytic: the Hessian of the KL (Appendix C); empirical: the covariance of ∇ log π
    line_search: str  # boundary: rescale onto the boundary of the trust region; halving: the paper's
    accept_ratio: float  # gain of an accepted step, at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first

    def __post_init__(self) -> None:
        require(0 < self.kl_limit < inf, "kl_limit", self.kl_limit, "a finite number > 0")
        require(1 <= self.kl_slack < inf, "kl_slack", self.kl_slack, "a finite number >= 1")
        require(self.cg_iterations >= 1, "cg_iterations", self.cg_iterations, "at least 1")
        require(0 <= self.cg_damping < inf, "cg_damping", self.cg_damping, "a finite number >= 0")
        require(0 < self.fisher_fraction <= 1, "fisher_fraction", self.fisher_fraction, "in (0, 1]")
        require(self.fisher in METRICS, "fisher", self.fisher, " or ".join(METRICS))
        require(self.line_search in ("boundary", "halving"), "line_search", self.line_search, "boundary or halving")
        require(0 <= self.accept_ratio < 1, "accept_ratio", self.accept_ratio, "in [0, 1)")
        require(self.max_backtracks >= 0, "max_backtracks", self.max_backtracks, "at least 0")

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, rng: np.random.Generator, world: World) -> Updated:
        gradient, surrogate = surrogate_gradient(policy, theta, batch, world)
        if (reason := useless(gradient)) is not None:
            return refused(theta, reason, gradient)
        matrix = fisher_matrix(policy, theta, batch, self.fisher_fraction, rng, world, METRICS[self.fisher])
        solution = natural_direction(matrix, gradient, self.cg_iterations, self.cg_damping)
        step_size = self._step_size(matrix, solution)
        if isinstance(step_size, str):
            return refused(theta, step_size, gradient)
        full_step = step_size * solution.x
        expected_gain = float(gradient @ full_step)
        seen: dict[float, Change] = {}

        def evaluate(scale: float) -> Point:
            seen[scale] = change(policy, theta + scale * full_step, batch, world)
            return Point(seen[scale].surrogate - surrogate, seen[scale].mean_kl)

        search = self._search(evaluate, expected_gain)
        stats: dict[str, float | str | bool] = {
            "update/mean_kl": 0.0,
            "update/max_kl": 0.0,
            "update/surrogate_gain": 0.0,
            "update/expected_gain": search.scale * expected_gain,
            "update/accepted": search.scale > 0,
            "update/reason": search.reason,
            "update/backtracks": search.backtracks,
            "update/step_scale": search.scale,
            "update/cg_residual": solution.residual,
            "update/cg_iterations": solution.iterations,
            "update/gradient_norm": float(gradient.norm()),
            "update/step_norm": search.scale * float(full_step.norm()),
        }
        if search.scale == 0:
            return Updated(theta, stats)
        new = seen[search.scale]
        stats |= {
            "update/mean_kl": new.mean_kl,
            "update/max_kl": new.max_kl,
            "update/surrogate_gain": search.point.gain,
            "update/entropy": new.entropy,
        }
        return Updated(theta + search.scale * full_step, stats)

    def _step_size(self, matrix: FisherMatrix, solution: Solution) -> float | str:
        """β that puts the quadratic model of the KL on δ, or the reason why there is none."""
        s = solution.x
        curvature = float(s @ matrix.product(s))
        if not (isfinite(curvature) and bool(torch.isfinite(s).all())):
            return "non_finite_direction"
        if curvature <= 0:
            return "no_positive_curvature"
        return sqrt(2 * self.kl_limit / curvature)  # Appendix C: β = sqrt(2δ / sᵀAs)

    def _search(self, evaluate: Callable[[float], Point], expected_gain: float) -> Search:
        """Backtrack from the full step until it improves the surrogate and obeys the constraint, both (Appendix C)."""
        bound = self.kl_slack * self.kl_limit
        rest = (expected_gain, self.accept_ratio, self.max_backtracks)
        if self.line_search == "halving":
            return halving_search(evaluate, bound, *rest)
        return boundary_search(evaluate, self.kl_limit, bound, *rest)
