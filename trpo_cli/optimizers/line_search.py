"""The line search of Appendix C: from a full step to the step taken, or to θ_old and the reason why."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import NamedTuple

from torch import Tensor

from trpo_cli.optimizers.base import Stats, Updated, refusal, require, step_stats
from trpo_cli.optimizers.surrogate import Change, Surrogate

MARGIN = 0.99  # rescaled steps aim one per cent inside the boundary
NEAR = 0.9  # a KL above this fraction of the limit counts as on the boundary


class Point(NamedTuple):
    """One multiple of the full step: what it gains, and the KL divergence that the search bounds."""

    gain: float  # of the surrogate, over its value at θ_old
    kl: float  # nats
    change: Change | None = None  # all that is known of it


Evaluate = Callable[[float], Point]  # multiple of the full step -> what it does


@dataclass(frozen=True)
class Found:
    """Where a line search ended. ``scale`` is 0 if no multiple of the step was acceptable."""

    scale: float
    point: Point
    backtracks: int  # evaluations after the first
    reason: str  # "accepted", "kl", "no_improvement" or "non_finite": why the last trial failed


def why_refused(point: Point, kl_bound: float, least_gain: float) -> str | None:
    """Why a trial point cannot be accepted; None if it can: improvement and constraint, both."""
    if not (isfinite(point.gain) and isfinite(point.kl)):
        return "non_finite"
    if point.kl > kl_bound:
        return "kl"
    if not point.gain > max(least_gain, 0.0):
        return "no_improvement"
    return None


@dataclass(frozen=True)
class LineSearch:
    """Backtracks until the surrogate improves and the divergence is within bounds, both, on the whole batch."""

    kind: str  # boundary: rescale onto the boundary of the trust region; halving: the paper's
    kl_limit: float  # δ
    kl_slack: float  # a step is accepted up to kl_slack · δ
    accept_ratio: float  # an accepted step gains at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first
    divergence: Callable[[Change], float]  # the divergence that is bounded: the mean over states or the largest

    def __post_init__(self) -> None:
        require(0 < self.kl_limit < inf, "kl_limit", self.kl_limit, "a finite number > 0")
        require(1 <= self.kl_slack < inf, "kl_slack", self.kl_slack, "a finite number >= 1")
        require(self.kind in ("boundary", "halving"), "line_search", self.kind, "boundary or halving")
        require(0 <= self.accept_ratio < 1, "accept_ratio", self.accept_ratio, "in [0, 1)")
        require(self.max_backtracks >= 0, "max_backtracks", self.max_backtracks, "at least 0")

    @property
    def kl_bound(self) -> float:
        """The KL divergence up to which a step is accepted, nats."""
        return self.kl_slack * self.kl_limit

    def __call__(self, at: Surrogate, full_step: Tensor) -> Updated:
        """Search from θ_old along ``full_step`` ``[D]``."""

        def evaluate(scale: float) -> Point:
            change = at.change(at.theta + scale * full_step)
            return Point(change.surrogate - at.value, self.divergence(change), change)

        search = self.halving if self.kind == "halving" else self.boundary
        found = search(evaluate, float(at.gradient @ full_step))
        stats: Stats = {"update/backtracks": found.backtracks, "update/step_scale": found.scale}
        if found.scale == 0 or found.point.change is None:
            return Updated(at.theta, refusal(at, found.reason).stats | stats)
        step = found.scale * full_step
        return Updated(at.theta + step, step_stats(found.point.change, at, step) | stats)

    def halving(self, evaluate: Evaluate, expected_gain: float) -> Found:
        """Try 1, 1/2, 1/4, … of the step until the surrogate improves and the KL is within bounds (Appendix C).

        expected_gain: what the linear model promises for the full step, and scale times that for a trial.
        """
        scale, reason, point = 1.0, "", Point(0.0, 0.0)
        for n in range(self.max_backtracks + 1):
            point = evaluate(scale)
            reason = why_refused(point, self.kl_bound, self.accept_ratio * expected_gain * scale) or "accepted"
            if reason == "accepted":
                return Found(scale, point, n, reason)
            scale /= 2
        return Found(0.0, point, self.max_backtracks, reason)

    def boundary(self, evaluate: Evaluate, expected_gain: float) -> Found:
        """Land on the boundary of the trust region: rescale by sqrt(δ / KL), halve only if nothing improves.

        KL is nearly quadratic in the step, so one rescaling lands where halving would throw three quarters of the trust
        region away. A first step that falls short of δ (the Fisher matrix came from a sample of the states) is
        lengthened once in the same way.
        """
        scale, reason, point = 1.0, "", Point(0.0, 0.0)
        for n in range(self.max_backtracks + 1):
            point = evaluate(scale)
            reason = why_refused(point, self.kl_bound, self.accept_ratio * expected_gain * scale) or "accepted"
            if reason == "accepted":
                found = Found(scale, point, n, reason)
                short = point.kl < NEAR * self.kl_limit and n < self.max_backtracks
                return self._lengthen(evaluate, found) if short and n == 0 else found
            scale *= MARGIN * sqrt(self.kl_bound / point.kl) if reason == "kl" else 0.5
        return Found(0.0, point, self.max_backtracks, reason)

    def _lengthen(self, evaluate: Evaluate, found: Found) -> Found:
        """Take a step that stops short of the boundary once further, and keep the better of the two points."""
        growth = min(MARGIN * sqrt(self.kl_limit / found.point.kl), 4.0) if found.point.kl > 0 else 4.0
        point = evaluate(found.scale * growth)
        better = why_refused(point, self.kl_bound, found.point.gain) is None
        n = found.backtracks + 1
        scale, point = (found.scale * growth, point) if better else (found.scale, found.point)
        return Found(scale, point, n, "accepted")
