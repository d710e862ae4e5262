"""The two line searches of Appendix C."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import NamedTuple


class Point(NamedTuple):
    """The surrogate's gain and the mean KL at one multiple of the full step."""

    gain: float
    kl: float


@dataclass(frozen=True)
class Search:
    """Where a line search ended. ``scale`` is 0 where no multiple of the step was acceptable."""

    scale: float
    point: Point
    backtracks: int  # evaluations after the first
    reason: str  # "accepted", "kl", "no_improvement" or "non_finite": why the last trial failed


def _refusal(point: Point, kl_bound: float, least_gain: float) -> str | None:
    """Why a trial point cannot be accepted, or None where it can: improvement and constraint, both."""
    if not (isfinite(point.gain) and isfinite(point.kl)):
        return "non_finite"
    if point.kl > kl_bound:
        return "kl"
    if not point.gain > max(least_gain, 0.0):
        return "no_improvement"
    return None


def halving_search(
    evaluate: Callable[[float], Point], kl_bound: float, expected_gain: float, accept_ratio: float, max_backtracks: int
) -> Search:
    """Try 1, 1/2, 1/4, … of the step until the surrogate improves and the mean KL is within bounds (Appendix C).

    evaluate: multiple of the full step -> Point.
    expected_gain: what the linear model promises for the full step; a trial must reach ``accept_ratio`` of its share.
    """
    scale, reason, point = 1.0, "", Point(0.0, 0.0)
    for n in range(max_backtracks + 1):
        point = evaluate(scale)
        reason = _refusal(point, kl_bound, accept_ratio * expected_gain * scale) or "accepted"
        if reason == "accepted":
            return Search(scale, point, n, reason)
        scale /= 2
    return Search(0.0, point, max_backtracks, reason)


MARGIN = 0.99  # rescaled steps aim one per cent inside the boundary


NEAR = 0.9  # a KL above this fraction of the limit counts as on the boundary


def boundary_search(
    evaluate: Callable[[float], Point],
    kl_limit: float,
    kl_bound: float,
    expected_gain: float,
    accept_ratio: float,
    max_backtracks: int,
) -> Search:
    """Land on the boundary of the trust region: rescale by sqrt(limit / KL), halve only where nothing improves.

    KL is nearly quadratic in the step, so one rescaling lands where halving would throw three quarters of the trust
    region away. A first step that falls short of ``kl_limit`` (the Fisher matrix came from a sample of the states) is
    lengthened once in the same way.

    kl_limit: the δ that a lengthened step aims at. kl_bound: the KL that is still accepted, at least ``kl_limit``.
    """
    scale, reason, point = 1.0, "", Point(0.0, 0.0)
    for n in range(max_backtracks + 1):
        point = evaluate(scale)
        reason = _refusal(point, kl_bound, accept_ratio * expected_gain * scale) or "accepted"
        if reason == "accepted":
            found = Search(scale, point, n, reason)
            short = point.kl < NEAR * kl_limit and n < max_backtracks
            return _lengthen(evaluate, found, kl_limit, kl_bound) if short and n == 0 else found
        scale *= MARGIN * sqrt(kl_bound / point.kl) if reason == "kl" else 0.5
    return Search(0.0, point, max_backtracks, reason)


def _lengthen(evaluate: Callable[[float], Point], found: Search, kl_limit: float, kl_bound: float) -> Search:
    """Take a step that stops short of the boundary once further, and keep the better of the two points."""
    growth = min(MARGIN * sqrt(kl_limit / found.point.kl), 4.0) if found.point.kl > 0 else 4.0
    point = evaluate(found.scale * growth)
    better = _refusal(point, kl_bound, found.point.gain) is None
    n = found.backtracks + 1
    scale, point = (found.scale * growth, point) if better else (found.scale, found.point)
    return Search(scale, point, n, "accepted")
