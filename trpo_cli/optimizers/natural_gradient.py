"""The natural gradient of Section 7: a fixed multiplier, no line search; its KL divergence is measured, not bounded."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from trpo_cli.optimizers.base import Updated, refusal, require, take, why_useless
from trpo_cli.optimizers.natural_direction import NaturalDirection
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw


@dataclass(frozen=True)
class NaturalGradient:
    """θ + (1/λ) A⁻¹ g with a fixed λ and no line search: Eq. (17), Figure 4's natural gradient."""

    penalty: float  # λ, the fixed Lagrange multiplier of Eq. (17)
    cg_iterations: int  # k: conjugate gradient iterations
    cg_damping: float  # added to the diagonal of the Fisher matrix while solving for the direction
    damping: str  # identity: the same for every parameter; paths: times squared gradients of episodes
    fisher_fraction: float  # fraction of the states that the Fisher matrix is averaged over
    fisher_min_states: int  # use at least this many states, even if fisher_fraction gives fewer

    def __post_init__(self) -> None:
        require(0 < self.penalty < inf, "penalty", self.penalty, "a finite number > 0")
        self._direction()

    def unused(self) -> dict[str, str]:
        """What the direction does not use."""
        return self._direction().unused()

    @property
    def needs_whole_paths(self) -> str:
        """The damping, for some of its values."""
        return self._direction().needs_whole_paths

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        at = surrogate_at(policy, theta, batch, group)
        if (reason := why_useless(at.gradient)) is not None:
            return refusal(at, reason)
        direction = self._direction()(at, draw)
        updated = take(at, theta + direction.s / self.penalty)  # Eq. (17)
        return Updated(
            updated.theta, updated.stats | direction.stats if updated.stats["update/accepted"] else updated.stats
        )

    def _direction(self) -> NaturalDirection:
        """How the direction is found; it checks its own settings."""
        return NaturalDirection(
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            damping=self.damping,
            fisher_fraction=self.fisher_fraction,
            fisher_min_states=self.fisher_min_states,
        )
