"""Running moments: those of all observations at once, for any cut into batches and any number of workers."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from random_batches import in_workers

from trpo_cli.parallel.group import Group
from trpo_cli.policies.input_moments import InputMoments

OBS = np.random.default_rng(0).normal([1e4, -3.0, 7.0], [0.1, 50.0, 0.0], (90, 3))
CUTS = (0, 7, 8, 60, 90)


def moments(group: Group) -> InputMoments:
    found = InputMoments.none_yet(3)
    for start, stop in pairwise(CUTS):
        mine = group.share(stop - start)
        found = found.with_more(OBS[start + mine.start : start + mine.stop], group)
    return found


@pytest.mark.parametrize("size", [1, 2, 3])
def test_mean_and_deviation_are_those_of_all_observations(size: int):
    everybody: list[Any] = [moments(Group())] if size == 1 else in_workers(size, moments)
    for found in everybody:
        input_map = found.input_map(5.0)
        np.testing.assert_allclose(input_map.centre, OBS.mean(0), rtol=1e-12)
        np.testing.assert_allclose(input_map.half_range[:2], OBS.std(0)[:2], rtol=1e-9)
        assert input_map.half_range[2] == 1 and input_map.clip == 5  # a constant input is centred alone


def test_an_input_is_a_constant_if_it_varies_by_rounding_and_not_if_it_varies_a_little():
    signs = np.array([[-1.0], [1.0]])
    found = InputMoments.none_yet(4).with_more([5.0, 1e6, 1e6, 0.0] + signs * [1e-6, 1e-3, 1e-1, 1e-9], Group())
    np.testing.assert_allclose(found.input_map(9.0).half_range, [1e-6, 1.0, 1e-1, 1.0], rtol=1e-3)


def test_before_the_first_observation_the_map_is_the_identity():
    input_map = InputMoments.none_yet(2).input_map(3.0)
    assert input_map.centre.tolist() == [0] and input_map.half_range.tolist() == [1] and input_map.clip == 3
