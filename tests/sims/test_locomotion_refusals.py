"""Settings of a planar body that are refused, with the key, the value and what would be right."""

import math

import pytest
from planar_bodies import shipped

from trpo_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_skip": 0}, r"env\.frame_skip=0 must be >= 1$"),
        ({"timestep": 0.0}, r"env\.timestep=0\.0 must be > 0 and finite \(null "),
        ({"timestep": math.nan}, r"env\.timestep=nan must"),
        ({"velocity_of": "torso"}, r"env\.velocity_of=torso must be one of mass, root$"),
        ({"integrator": "rk45"}, r"env\.integrator=rk45 .*\bmodel, euler, rk4, implicit, implicitfast$"),
        ({"torque_limits": [50.0, -1.0, 9.0]}, r"env\.torque_limits=\[50\.0, -1\.0, 9\.0\] must"),
        ({"control_cost": -1.0}, r"env\.control_cost=-1\.0 must"),
        ({"control_cost_unit": "force"}, r"env\.control_cost_unit=force .*\btorque, control$"),
        ({"model": "hoper.xml"}, r"env\.model=hoper\.xml .*\bhopper\.xml"),
        ({"healthy_height": [2.0, 0.8]}, r"env\.healthy_height=\[2\.0, 0\.8\] must be \[low, high\]"),
        ({"velocity_clip": math.nan}, r"env\.velocity_clip=nan must .*\.inf"),
        ({"impact_cost": 1e-5}, r"env\.feet=\[\] must .*env\.impact_cost=1e-05"),
    ],
)
def test_bad_numbers_are_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        shipped("hopper", **changes)


def test_torque_limits_want_one_number_per_joint():
    with pytest.raises(ConfigError, match=r"env\.torque_limits=\[50\.0\] must have 3 numbers"):
        shipped("hopper", torque_limits=[50.0]).reset([])


def test_an_unknown_foot_is_refused_with_the_names_that_exist():
    with pytest.raises(ConfigError, match=r"'paw'.*foot_geom"):
        shipped("walker", feet=["paw"]).reset([])
