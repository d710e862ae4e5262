"""The natural gradient direction: A s = g by conjugate gradient (Section 6, point 3, and Appendix C).

TRPO, the natural gradient and the empirical FIM share it; they differ in the matrix, and in the length of the step.
"""

from dataclasses import dataclass
from math import inf, isfinite, sqrt

from torch import Tensor

from trpo_cli.optimizers.base import Stats, require
from trpo_cli.optimizers.conjugate_gradient import Solution, conjugate_gradient
from trpo_cli.optimizers.fisher import METRICS, FisherMatrix, fisher_matrix
from trpo_cli.optimizers.surrogate import Surrogate, squared_path_gradients
from trpo_cli.samplers.randomness import Draw

DAMPINGS = ("identity", "paths")


@dataclass(frozen=True)
class Direction:
    """s with (A + damping) s = g, and the matrix A that it came from."""

    s: Tensor  # [D]
    solution: Solution
    matrix: FisherMatrix

    @property
    def stats(self) -> Stats:
        """The ``update/`` statistics of the conjugate gradient."""
        return {"update/cg_residual": self.solution.residual, "update/cg_iterations": self.solution.iterations}


def boundary_scale(matrix: FisherMatrix, s: Tensor, kl_limit: float) -> float | str:
    """β that puts the quadratic model of the KL along ``s`` ``[D]`` on δ, or the reason why there is none."""
    curvature = float(s @ matrix.product(s))
    if not isfinite(curvature):  # so it is if a number of s is not finite
        return "non_finite_direction"
    if curvature <= 0:
        return "no_positive_curvature"
    return sqrt(2 * kl_limit / curvature)  # Appendix C: β = sqrt(2δ / sᵀAs)


@dataclass(frozen=True)
class NaturalDirection:
    """How the direction is found; the numbers are the optimizers' own fields of the same names."""

    cg_iterations: int  # k: conjugate gradient iterations
    cg_damping: float  # added to the diagonal of the Fisher matrix while solving for the direction
    damping: str  # identity: the same for every parameter; paths: times squared gradients of episodes
    fisher_fraction: float  # fraction of the states that the Fisher matrix is averaged over
    fisher_min_states: int  # use at least this many states, even if fisher_fraction gives fewer
    fisher: str = "analytic"  # the Hessian of the KL (Appendix C); empirical: the covariance of ∇ log π

    def __post_init__(self) -> None:
        require(self.cg_iterations >= 1, "cg_iterations", self.cg_iterations, "at least 1")
        require(0 <= self.cg_damping < inf, "cg_damping", self.cg_damping, "a finite number >= 0")
        require(self.damping in DAMPINGS, "damping", self.damping, " or ".join(DAMPINGS))
        require(0 < self.fisher_fraction <= 1, "fisher_fraction", self.fisher_fraction, "in (0, 1]")
        require(self.fisher_min_states >= 0, "fisher_min_states", self.fisher_min_states, "at least 0")
        require(self.fisher in METRICS, "fisher", self.fisher, " or ".join(METRICS))

    def unused(self) -> dict[str, str]:
        """The least number of states, if every state is taken."""
        every = "optimizer.fisher_fraction=1.0 takes every state"
        return {"fisher_min_states": every} if self.fisher_fraction == 1 else {}

    @property
    def needs_whole_paths(self) -> str:
        """``damping=paths`` sums over whole episodes."""
        return "optimizer.damping=paths" if self.damping == "paths" else ""

    def __call__(self, at: Surrogate, draw: Draw) -> Direction:
        fraction = min(max(self.fisher_fraction, self.fisher_min_states / at.batch.n_states), 1.0)
        matrix = fisher_matrix(at, fraction, draw, METRICS[self.fisher])
        damping = self._damping(at)
        solution = conjugate_gradient(lambda v: matrix.product(v) + damping * v, at.gradient, self.cg_iterations)
        return Direction(solution.x, solution, matrix)

    def _damping(self, at: Surrogate) -> Tensor | float:
        """What is added to the diagonal: one number, or ``[D]``.

        paths: ``cg_damping`` times the squared gradients of single episodes. A parameter is damped most if the steps of
        an episode pull it in one direction (authors' code, for single paths).
        """
        if self.damping == "identity":
            return self.cg_damping
        return self.cg_damping * squared_path_gradients(at.policy, at.theta, at.batch, at.group)
