"""The vanilla policy gradient of Section 7: a step of fixed length. Its KL divergence is measured, not bounded."""

from dataclasses import dataclass
from math import inf, sqrt

from torch import Tensor

from trpo_cli.optimizers.base import Updated, refusal, require, take, why_useless
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw


@dataclass(frozen=True)
class PolicyGradient:
    """The vanilla policy gradient as an L2 trust region: ½‖θ - θ_old‖² ≤ δ, Eq. (18)."""

    l2_limit: float  # δ of Eq. (18)

    def __post_init__(self) -> None:
        require(0 < self.l2_limit < inf, "l2_limit", self.l2_limit, "a finite number > 0")

    @property
    def needs_whole_paths(self) -> str:
        """Any batch will do."""
        return ""

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        at = surrogate_at(policy, theta, batch, group)
        if (reason := why_useless(at.gradient)) is not None:
            return refusal(at, reason)
        return take(at, theta + sqrt(2 * self.l2_limit) * at.gradient / at.gradient.norm())  # Eq. (18)
