"""Laws of the training state: what a checkpoint holds gives back every number, and only θ follows a device."""

import io
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
import torch

from trpo_cli.optimizers.base import Arrays
from trpo_cli.policies.base import InputMap
from trpo_cli.policies.input_moments import InputMoments
from trpo_cli.samplers.streams import Streams
from trpo_cli.training.state import TrainingState

SEARCHES: dict[str, Arrays | None] = {
    "update": None,
    "search": {"mean": np.arange(3) / 3, "variance": np.ones(3), "iteration": np.asarray(4), "sigma": np.float64(0.1)},
}
EITHER = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def state_with(search: Arrays | None, episode_length: float = 12.5) -> TrainingState:
    input_map = InputMap(np.array([0.1, -3.0]), np.array([2.0, 1 / 3]), 5.0)
    return TrainingState(torch.tensor([0.1, 1 / 3, -2.0]), input_map, search, episode_length, 7, 10**12, 33.25)


def stored(saved: dict[str, Any]) -> dict[str, Any]:
    """What a file gives back that may hold nothing but tensors, numbers, strings and dictionaries of these."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@EITHER
def test_a_checkpoint_gives_back_every_number(search: Arrays | None):
    state = state_with(search)
    back = TrainingState.from_dict(stored(state.to_dict()))
    assert torch.equal(back.theta, state.theta) and back.theta.dtype == state.theta.dtype
    assert (back.episode_length, back.iteration, back.sim_steps_total, back.time_s) == (12.5, 7, 10**12, 33.25)
    for name in ("centre", "half_range"):
        found, expected = getattr(back.input_map, name), getattr(state.input_map, name)
        assert isinstance(found, np.ndarray) and found.dtype == np.float64
        np.testing.assert_array_equal(found, expected)
    assert back.input_map.clip == 5.0
    if search is None:
        assert back.search is None
        return
    assert back.search is not None and back.search.keys() == search.keys()
    for key, value in search.items():
        assert back.search[key].dtype == value.dtype and back.search[key].shape == value.shape
        np.testing.assert_array_equal(back.search[key], value)


def test_a_checkpoint_gives_back_moments_and_streams():
    inputs = InputMoments(3.0, np.array([0.5, 2.0]), np.array([1.0, 0.25]))
    saved = ({"seed": np.array(2**40), "actions": np.zeros((0,))}, {"seed": np.array(1), "actions": np.ones((3, 2))})
    streams = Streams(saved, np.array([0, 3]), np.array([0.0, 1 / 3]), np.array([[1.5, 2.0, 1.0, 0.0]]))
    state = replace(state_with(None), inputs=inputs, streams=streams)
    back = TrainingState.from_dict(stored(state.to_dict()))
    for found, expected in ((back.inputs, inputs), (back.streams, streams)):
        for name, value in vars(expected).items():
            if name != "saved":
                np.testing.assert_array_equal(getattr(found, name), value)
    assert back.streams is not None and back.streams.live is None
    for mine, theirs in zip(back.streams.saved, saved, strict=True):
        assert mine.keys() == theirs.keys()
        for key, array in theirs.items():
            assert mine[key].dtype == array.dtype and mine[key].tolist() == array.tolist()


def test_before_the_first_iteration_no_length_of_an_episode_is_known():
    fresh = TrainingState(torch.zeros(2), InputMap())
    for state in (fresh, TrainingState.from_dict(stored(fresh.to_dict()))):
        assert np.isnan(state.episode_length) and (state.iteration, state.sim_steps_total, state.time_s) == (0, 0, 0.0)
    back = TrainingState.from_dict(stored(state_with(None, nan).to_dict()))
    assert np.isnan(back.episode_length) and back.iteration == 7


@EITHER
def test_what_is_saved_is_a_copy_of_the_input_map(search: Arrays | None):
    state = state_with(search)
    saved = state.to_dict()
    saved["input_map"]["centre"] += 1
    assert state.input_map.centre.tolist() == [0.1, -3.0]


@EITHER
def test_theta_alone_moves_to_a_device(search: Arrays | None):
    state = state_with(search)
    moved = state.to("meta")
    assert moved.theta.device.type == "meta" and state.theta.device.type == "cpu"
    for name, value in vars(state).items():
        assert name == "theta" or getattr(moved, name) is value
    double = state.to(torch.device("cpu"))
    assert torch.equal(double.theta, state.theta)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_checkpoint_lies_on_the_processor():
    saved = state_with(None).to("cuda").to_dict()
    assert saved["theta"].device.type == "cpu" and torch.equal(saved["theta"], state_with(None).theta)
