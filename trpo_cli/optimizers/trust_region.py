"""The TRPO step: maximise the surrogate subject to mean KL(old ‖ new) ≤ δ (Section 6, Appendix C)."""

from dataclasses import dataclass

from torch import Tensor

from trpo_cli.optimizers.base import Updated, refusal, why_useless
from trpo_cli.optimizers.line_search import LineSearch
from trpo_cli.optimizers.natural_direction import NaturalDirection, boundary_scale
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw


@dataclass(frozen=True)
class TrustRegion:
    """Hyperparameters of the TRPO step; numbers and sources stand in ``conf/optimizer/trpo.yaml``."""

    kl_limit: float  # δ: bound on the mean KL(old ‖ new) in nats
    kl_slack: float  # a step is accepted up to kl_slack · δ; 1 enforces the constraint, the authors' code has 2
    cg_iterations: int  # k: conjugate gradient iterations
    cg_damping: float  # added to the diagonal of the Fisher matrix while solving for the direction
    damping: str  # identity: the same for every parameter; paths: times squared gradients of episodes
    fisher_fraction: float  # fraction of the states that the Fisher matrix is averaged over
    fisher_min_states: int  # use at least this many states, even if fisher_fraction gives fewer
    fisher: str  # analytic: the Hessian of the KL (Appendix C); empirical: the covariance of ∇ log π
    line_search: str  # boundary: rescale onto the boundary of the trust region; halving: the paper's
    accept_ratio: float  # an accepted step gains at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first

    def __post_init__(self) -> None:
        self._parts(self.kl_limit)

    def unused(self) -> dict[str, str]:
        """What the direction does not use."""
        return self._parts(self.kl_limit)[0].unused()

    @property
    def needs_whole_paths(self) -> str:
        """The damping, for some of its values."""
        return self._parts(self.kl_limit)[0].needs_whole_paths

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        limit = self.kl_limit * batch.kl_fraction
        find_direction, search = self._parts(limit)
        at = surrogate_at(policy, theta, batch, group)
        if (reason := why_useless(at.gradient)) is not None:
            return refusal(at, reason)
        direction = find_direction(at, draw)
        scale = boundary_scale(direction.matrix, direction.s, limit)
        if isinstance(scale, str):
            return refusal(at, scale)
        updated = search(at, scale * direction.s)
        return Updated(updated.theta, updated.stats | direction.stats)

    def _parts(self, kl_limit: float) -> tuple[NaturalDirection, LineSearch]:
        """Direction and line search; each checks its own settings."""
        direction = NaturalDirection(
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            damping=self.damping,
            fisher_fraction=self.fisher_fraction,
            fisher_min_states=self.fisher_min_states,
            fisher=self.fisher,
        )
        search = LineSearch(
            kind=self.line_search,
            kl_limit=kl_limit,
            kl_slack=self.kl_slack,
            accept_ratio=self.accept_ratio,
            max_backtracks=self.max_backtracks,
            divergence=lambda new: new.mean_kl,
        )
        return direction, search
