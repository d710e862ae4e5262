"""Laws of the line search: improvement and constraint, both, on the whole batch, or θ_old and the reason why."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_batches import KINDS, draw
from torch import Tensor

from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Updated
from trpo_cli.optimizers.line_search import Found, LineSearch, Point
from trpo_cli.optimizers.surrogate import Change, change, surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch

WORLD, LIMIT = Group(), 0.01
DIVERGENCES: dict[str, Callable[[Change], float]] = {"mean_kl": lambda c: c.mean_kl, "max_kl": lambda c: c.max_kl}
BOTH = pytest.mark.parametrize("line_search", ["boundary", "halving"])


def searcher(line_search: str, divergence: str = "mean_kl", **changes: Any) -> LineSearch:
    numbers = {"kl_limit": LIMIT, "kl_slack": 1.0, "accept_ratio": 0.1, "max_backtracks": 10}
    return LineSearch(**{"kind": line_search, **numbers, "divergence": DIVERGENCES[divergence], **changes})


def right(drawn: tuple[NetworkPolicy, Tensor, Batch]) -> tuple[NetworkPolicy, Tensor, Batch]:
    """The same batch, where it pays to go to the right: the gain is nearly linear in the step."""
    policy, theta, batch = drawn
    return policy, theta, replace(batch, advantages=batch.actions[..., 0] - batch.old[:, None, 0])


def search(line: LineSearch, drawn: tuple[NetworkPolicy, Tensor, Batch], length: float) -> Updated:
    """From θ_old along the gradient, a full step of this length."""
    policy, theta, batch = drawn
    at = surrogate_at(policy, theta, batch, WORLD)
    return line(at, length * at.gradient / at.gradient.norm())


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(KINDS),
    length=st.floats(-3, 2).map(lambda e: 10**e),
    line_search=st.sampled_from(["boundary", "halving"]),
    divergence=st.sampled_from(["mean_kl", "max_kl"]),
    slack=st.sampled_from([1.0, 2.0]),
)
def test_a_step_taken_improves_and_keeps_the_constraint_and_any_other_is_not_taken(
    seed: int, kind: str, length: float, line_search: str, divergence: str, slack: float
):
    policy, theta, batch = drawn = draw(kind, 20, seed=seed)
    updated = search(searcher(line_search, divergence, kl_slack=slack, max_backtracks=4), drawn, length)
    stats, before = updated.stats, change(policy, theta, batch, WORLD)
    if not stats["update/accepted"]:
        assert updated.theta is theta and stats["update/step_scale"] == 0
        assert stats["update/reason"] in ("kl", "no_improvement", "non_finite")
        return
    after = change(policy, updated.theta, batch, WORLD)
    assert DIVERGENCES[divergence](after) <= slack * LIMIT and after.surrogate > before.surrogate
    assert stats["update/surrogate_gain"] == pytest.approx(after.surrogate - before.surrogate)
    assert stats["update/surrogate_gain"] >= 0.1 * stats["update/expected_gain"] * (1 - 1e-9)
    assert float((updated.theta - theta).norm()) == pytest.approx(length * stats["update/step_scale"])


@pytest.mark.parametrize("divergence", ["mean_kl", "max_kl"])
def test_the_boundary_is_reached_from_both_sides_and_halving_stops_where_a_power_of_two_falls(divergence: str):
    drawn = right(draw("gaussian", 50))
    for length in (0.05, 0.2, 0.5):
        found = search(searcher("boundary", divergence), drawn, length).stats
        assert (0.9 if length < 0.5 else 0.6) * LIMIT <= found[f"update/{divergence}"] <= LIMIT
        halved = search(searcher("halving", divergence), drawn, length).stats
        n = halved["update/backtracks"]
        assert halved["update/step_scale"] == 0.5**n
        assert (
            n == 0
            or search(searcher("halving", divergence, max_backtracks=n - 1), drawn, length).stats["update/reason"]
            == "kl"
        )


def test_the_divergence_that_is_bounded_is_the_one_given():
    drawn = right(draw("gaussian", 50))
    mean, worst = (search(searcher("boundary", d), drawn, 1.0).stats for d in ("mean_kl", "max_kl"))
    assert mean["update/max_kl"] > LIMIT >= worst["update/max_kl"]
    assert worst["update/mean_kl"] < 0.85 * LIMIT < mean["update/mean_kl"] <= LIMIT


@BOTH
def test_a_search_that_fails_returns_the_old_parameters_themselves_and_the_reason(line_search: str):
    policy, theta, batch = right(draw("gaussian", 50))
    line, drawn = searcher(line_search), (policy, theta, batch)
    down = search(line, drawn, -0.01)
    assert down.theta is theta and down.stats["update/reason"] == "no_improvement"
    far = search(searcher(line_search, max_backtracks=0), drawn, 10.0)
    assert far.theta is theta and far.stats["update/reason"] == "kl" and far.stats["update/mean_kl"] == 0
    nowhere = line(surrogate_at(policy, theta, batch, WORLD), torch.full_like(theta, torch.nan))
    assert nowhere.theta is theta and nowhere.stats["update/reason"] == "non_finite"
    assert nowhere.stats["update/backtracks"] == 10 and nowhere.stats["update/accepted"] is False


@BOTH
def test_a_step_must_reach_its_share_of_the_promised_gain(line_search: str):
    at = surrogate_at(*right(draw("gaussian", 50)), WORLD)
    step = 0.05 * at.gradient / at.gradient.norm()
    stats = {}
    for promise in (1.0, 1e3):  # a promise that is a thousand times the truth cannot be kept by a tenth of it
        line = searcher(line_search, kl_limit=10.0)
        stats[promise] = line(replace(at, gradient=promise * at.gradient), step).stats
    assert stats[1.0]["update/accepted"] and stats[1e3]["update/reason"] == "no_improvement"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"kl_limit": 0.0}, "optimizer.kl_limit=0.0 must be a finite number > 0"),
        ({"kl_limit": np.nan}, "optimizer.kl_limit=nan must be a finite number > 0"),
        ({"kl_slack": 0.9}, "optimizer.kl_slack=0.9 must be a finite number >= 1"),
        ({"kind": "armijo"}, "optimizer.line_search=armijo must be boundary or halving"),
        ({"accept_ratio": 1.0}, r"optimizer.accept_ratio=1.0 must be in \[0, 1\)"),
        ({"max_backtracks": -1}, "optimizer.max_backtracks=-1 must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, Any], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        searcher("boundary", **setting)


class Script:
    """Answers from a list, and remembers the scales it was asked about."""

    def __init__(self, *points: tuple[float, float]) -> None:
        self.points = [Point(*p) for p in points]
        self.scales: list[float] = []

    def __call__(self, scale: float) -> Point:
        self.scales.append(scale)
        return self.points[len(self.scales) - 1]


def unit(**changes: Any) -> LineSearch:
    """A search within KL <= 1; the halving and the boundary method of it take any evaluation."""
    return searcher("boundary", kl_limit=1.0, **changes)


GOOD, OUTSIDE, WORSE, LOST = (1.0, 0.5), (1.0, 1.1), (-1.0, 0.5), (nan, 0.5)


def test_halving_tries_halves_until_both_conditions_hold():
    evaluate = Script(OUTSIDE, WORSE, (1.0, nan), GOOD)
    found = unit().halving(evaluate, 0.1)
    assert evaluate.scales == [1, 0.5, 0.25, 0.125]
    assert found == Found(0.125, Point(*GOOD), 3, "accepted")


@pytest.mark.parametrize(
    ("last", "reason"), [(OUTSIDE, "kl"), (WORSE, "no_improvement"), (LOST, "non_finite"), ((inf, 0.1), "non_finite")]
)
@pytest.mark.parametrize("search", ["halving", "boundary"])
def test_a_search_without_success_says_why_the_last_trial_failed(search: str, last: tuple[float, float], reason: str):
    evaluate = Script(OUTSIDE, WORSE, last)
    line = unit(max_backtracks=2)
    found = (line.halving if search == "halving" else line.boundary)(evaluate, 0.1)
    assert (found.scale, found.backtracks, found.reason, len(evaluate.scales)) == (0, 2, reason, 3)


def test_the_bound_on_the_kl_is_inclusive_and_a_gain_must_reach_its_share_of_the_promise():
    once = unit(max_backtracks=0)
    assert once.halving(Script((1.0, 1.0)), 1.0).scale == 1
    assert once.halving(Script((1.0, 1.0 + 1e-12)), 1.0).reason == "kl"
    evaluate = Script((0.39, 0.1), (0.21, 0.1))  # of a promised 0.8: 0.4 is half of it, 0.2 half of its half
    assert unit(accept_ratio=0.5, max_backtracks=5).halving(evaluate, 0.8).scale == 0.5
    assert unit(accept_ratio=0.0, max_backtracks=0).halving(Script((0.0, 0.1)), 1.0).reason == "no_improvement"
    assert once.halving(Script((-0.01, 0.1)), -1.0).reason == "no_improvement"


def quadratic(kl: float, gain: float = 1.0) -> tuple[Callable[[float], Point], list[float]]:
    """KL exactly quadratic in the step, and the scales asked about."""
    scales: list[float] = []

    def evaluate(scale: float) -> Point:
        scales.append(scale)
        return Point(gain * scale, kl * scale**2)

    return evaluate, scales


@pytest.mark.parametrize("kl", [1.001, 1.5, 4.0, 900.0])
def test_a_step_outside_is_rescaled_onto_the_boundary_by_one_evaluation(kl: float):
    evaluate, scales = quadratic(kl)
    found = unit().boundary(evaluate, 1.0)
    assert found.point.kl == pytest.approx(0.99**2) and found.backtracks == 1 and len(scales) == 2


@pytest.mark.parametrize(("kl", "reached"), [(0.89, 0.99**2), (0.2, 0.99**2), (0.01, 0.16)])
def test_a_step_that_falls_short_is_lengthened_once_at_most_fourfold(kl: float, reached: float):
    evaluate, scales = quadratic(kl)
    found = unit().boundary(evaluate, 1.0)
    assert found.point.kl == pytest.approx(reached) and found.backtracks == 1 and len(scales) == 2
    assert found.point == evaluate(found.scale)


def test_a_step_whose_kl_rounds_to_zero_is_lengthened_fourfold():
    evaluate = Script((0.1, 0.0), (0.4, 0.5))
    assert unit().boundary(evaluate, 0.1).scale == 4 and evaluate.scales == [1, 4]


def test_a_step_on_the_boundary_is_taken_as_it_is():
    evaluate, scales = quadratic(0.95)
    assert unit().boundary(evaluate, 1.0).scale == 1 and scales == [1]


@pytest.mark.parametrize("further", [(0.9, 0.95), (2.0, 1.01), (nan, 0.9)])
def test_a_longer_step_that_is_no_better_is_not_taken(further: tuple[float, float]):
    found = unit().boundary(Script((1.0, 0.3), further), 1.0)
    assert (found.scale, found.point, found.backtracks, found.reason) == (1, Point(1.0, 0.3), 1, "accepted")


def test_where_nothing_improves_the_boundary_search_halves():
    evaluate = Script(WORSE, LOST, (0.5, 0.2))
    found = unit().boundary(evaluate, 1.0)
    assert evaluate.scales == [1, 0.5, 0.25] and found.scale == 0.25


def test_slack_widens_what_is_accepted_and_what_is_aimed_at_when_shrinking():
    loose = unit(kl_slack=2.0)
    assert loose.boundary(quadratic(1.9)[0], 1.0).scale == loose.boundary(quadratic(0.95)[0], 1.0).scale == 1
    assert loose.boundary(quadratic(8.0)[0], 1.0).point.kl == pytest.approx(2 * 0.99**2)
    assert loose.boundary(quadratic(0.5)[0], 1.0).point.kl == pytest.approx(0.99**2)


def test_without_backtracks_there_is_one_evaluation():
    for kl, scale in ((0.1, 1.0), (1.1, 0.0)):
        evaluate, scales = quadratic(kl)
        assert unit(max_backtracks=0).boundary(evaluate, 1.0).scale == scale and scales == [1]


@given(
    kl=st.floats(1e-3, 1e3),
    power=st.floats(0.5, 4),
    decline=st.floats(0, 3),
    bound=st.sampled_from([1.0, 2.0]),
    boundary=st.booleans(),
)
def test_whatever_is_accepted_obeys_the_bound_and_improves(
    kl: float, power: float, decline: float, bound: float, boundary: bool
):
    def evaluate(scale: float) -> Point:
        return Point(scale - decline * scale**2, kl * scale**power)

    line = unit(kl_slack=bound)
    found = (line.boundary if boundary else line.halving)(evaluate, 1.0)
    if found.scale > 0:
        assert found.point == evaluate(found.scale) and found.reason == "accepted"
        assert found.point.kl <= bound and found.point.gain > 0
    assert found.backtracks <= 10
