"""The line search of Appendix C: from a full step to the step taken, or to θ_old and the reason why."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from torch import Tensor

from trpo_cli.optimizers.base import Stats, Updated, refused, require, step_stats
from trpo_cli.optimizers.step_searches import Point, boundary_search, halving_search
from trpo_cli.optimizers.surrogate import Change, change
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch


@dataclass(frozen=True)
class LineSearch:
    """Backtracks until the surrogate improves and the divergence is within bounds, both, on the whole batch."""

    kind: str  # boundary: rescale onto the boundary of the trust region; halving: the paper's
    kl_limit: float  # δ
    kl_slack: float  # a step is accepted up to kl_slack · δ
    accept_ratio: float  # gain of an accepted step, at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first
    divergence: Callable[[Change], float]  # which divergence is bounded: the mean over states or the largest

    def __post_init__(self) -> None:
        require(0 < self.kl_limit < inf, "kl_limit", self.kl_limit, "a finite number > 0")
        require(1 <= self.kl_slack < inf, "kl_slack", self.kl_slack, "a finite number >= 1")
        require(self.kind in ("boundary", "halving"), "line_search", self.kind, "boundary or halving")
        require(0 <= self.accept_ratio < 1, "accept_ratio", self.accept_ratio, "in [0, 1)")
        require(self.max_backtracks >= 0, "max_backtracks", self.max_backtracks, "at least 0")

    def __call__(
        self,
        policy: Policy,
        theta: Tensor,
        full_step: Tensor,
        gradient: Tensor,
        surrogate: float,
        batch: Batch,
        group: Group,
    ) -> Updated:
        """Search from ``theta`` along ``full_step`` ``[D]``; ``gradient`` and ``surrogate`` are those at ``theta``."""
        expected_gain = float(gradient @ full_step)
        seen: dict[float, Change] = {}

        def evaluate(scale: float) -> Point:
            seen[scale] = change(policy, theta + scale * full_step, batch, group)
            return Point(seen[scale].surrogate - surrogate, self.divergence(seen[scale]))

        bound = self.kl_slack * self.kl_limit
        rest = (expected_gain, self.accept_ratio, self.max_backtracks)
        if self.kind == "halving":
            search = halving_search(evaluate, bound, *rest)
        else:
            search = boundary_search(evaluate, self.kl_limit, bound, *rest)
        found: Stats = {"update/backtracks": search.backtracks, "update/step_scale": search.scale}
        if search.scale == 0:
            return Updated(theta, refused(theta, search.reason, gradient).stats | found)
        step = search.scale * full_step
        return Updated(theta + step, step_stats(seen[search.scale], surrogate, gradient, step) | found)
