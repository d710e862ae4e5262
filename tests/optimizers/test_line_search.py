"""Laws of the line search on a policy: improvement and constraint, both, on the whole batch, or θ_old and why."""

from collections.abc import Callable
from dataclasses import replace
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
from trpo_cli.optimizers.line_search import LineSearch
from trpo_cli.optimizers.surrogate import Change, change, surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.mlp import MlpPolicy
from trpo_cli.samplers.batch import Batch

WORLD, LIMIT = Group(), 0.01
DIVERGENCES: dict[str, Callable[[Change], float]] = {"mean_kl": lambda c: c.mean_kl, "max_kl": lambda c: c.max_kl}
BOTH = pytest.mark.parametrize("line_search", ["boundary", "halving"])


def searcher(line_search: str, divergence: str = "mean_kl", **changes: Any) -> LineSearch:
    numbers = {"kl_limit": LIMIT, "kl_slack": 1.0, "accept_ratio": 0.1, "max_backtracks": 10}
    return LineSearch(**{"kind": line_search, **numbers, "divergence": DIVERGENCES[divergence], **changes})


def right(drawn: tuple[MlpPolicy, Tensor, Batch]) -> tuple[MlpPolicy, Tensor, Batch]:
    """The same batch, where it pays to go to the right: the gain is nearly linear in the step."""
    policy, theta, batch = drawn
    return policy, theta, replace(batch, advantages=batch.actions[..., 0] - batch.old[:, None, 0])


def search(line: LineSearch, drawn: tuple[MlpPolicy, Tensor, Batch], length: float) -> Updated:
    """From θ_old along the gradient, a full step of this length."""
    policy, theta, batch = drawn
    gradient, surrogate = surrogate_gradient(policy, theta, batch, WORLD)
    full_step = length * gradient / gradient.norm()
    return line(policy, theta, full_step, gradient, surrogate, batch, WORLD)


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
    gradient, surrogate = surrogate_gradient(policy, theta, batch, WORLD)
    nowhere = line(policy, theta, torch.full_like(theta, torch.nan), gradient, surrogate, batch, WORLD)
    assert nowhere.theta is theta and nowhere.stats["update/reason"] == "non_finite"
    assert nowhere.stats["update/backtracks"] == 10 and nowhere.stats["update/accepted"] is False


@BOTH
def test_a_step_must_reach_its_share_of_the_promised_gain(line_search: str):
    policy, theta, batch = right(draw("gaussian", 50))
    gradient, surrogate = surrogate_gradient(policy, theta, batch, WORLD)
    step = 0.05 * gradient / gradient.norm()
    stats = {}
    for promise in (1.0, 1e3):  # a promise that is a thousand times the truth cannot be kept by a tenth of it
        line = searcher(line_search, kl_limit=10.0)
        stats[promise] = line(policy, theta, step, promise * gradient, surrogate, batch, WORLD).stats
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
