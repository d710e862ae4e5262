"""The protocols of a simulator: who offers what, and the check of a task."""

import math

import numpy as np
import pytest
from planar_bodies import shipped
from toy_sims import Chain, Point, cartpole

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import Continuous, Copyable, Discrete, Drawable, Limited, Simulator, Step, Task, Timed
from trpo_cli.sims.gymnasium import Gymnasium
from trpo_cli.sims.locomotion import Locomotion

OFFERS = (Drawable, Timed, Copyable, Limited)


def hopper() -> Locomotion:
    return shipped("hopper")


@pytest.mark.parametrize(
    ("sim", "offered"),
    [
        (Chain(), ()),
        (cartpole(), (Drawable, Timed)),
        (hopper(), (Drawable, Timed)),
        (Gymnasium("CartPole-v1", None, 256), (Copyable, Limited)),
    ],
    ids=["chain", "cartpole", "hopper", "gymnasium"],
)
def test_what_a_simulator_offers_beside_the_protocol(sim: Simulator, offered: tuple[type, ...]):
    assert tuple(protocol for protocol in OFFERS if isinstance(sim, protocol)) == offered


def test_real_valued_controls_have_no_factors():
    assert Continuous(-np.ones(2), np.ones(2)).factors is None
    assert Discrete((3, 2)).factors == (3, 2)


def test_a_step_says_nothing_of_truncation_unless_told():
    assert Step(np.zeros(1), np.zeros(1), np.zeros(1, bool)).truncated is None


@pytest.mark.parametrize("limit", [0, -3, math.nan])
def test_a_task_has_a_limit_of_at_least_one_step(limit: float):
    with pytest.raises(ConfigError, match=rf"^step_limit={limit} must be at least 1$"):
        Task(Point(), limit)  # type: ignore[arg-type]
    assert Task(Point(), 1).step_limit == 1
