"""Gymnasium's spaces: what a policy sees of an observation, and which spaces are refused with a way out."""

import numpy as np
import pytest
from compose import executed, planned
from gymnasium import Space, spaces
from subprocesses import results

from trpo_cli.cli.evaluate import Request, evaluate
from trpo_cli.errors import ConfigError
from trpo_cli.sims.gymnasium_spaces import (
    arbitrary_actions,
    batch,
    exact,
    is_picture,
    require_usable,
    seen,
    shape_seen,
)

BOX, BYTES = spaces.Box(-1.0, 1.0, (2, 2)), np.uint8
NESTED = spaces.Dict({"a": BOX, "b": spaces.Tuple((spaces.Discrete(3, start=4), spaces.MultiBinary(2)))})


class Mission(Space):
    """A space of a kind of its own, as MiniGrid has it."""

    def __repr__(self):
        return f"Mission({(lambda: 0)}, {object()})"


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (BOX, np.array([[1, 2], [3, 4]]), [1, 2, 3, 4]),
        (spaces.Discrete(3, start=4), 5, [0, 1, 0]),
        (spaces.MultiBinary([2, 2]), np.array([[1, 0], [0, 1]]), [1, 0, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 0]), [0, 1, 1, 0, 0]),
        (NESTED, {"a": np.ones((2, 2), np.float32), "b": (6, np.array([0, 1]))}, [1, 1, 1, 1, 0, 0, 1, 0, 1]),
    ],
)
def test_an_observation_is_one_flat_array(space, obs, expected):
    found = seen(space, obs)
    assert found.dtype == np.float32 and found.tolist() == expected and shape_seen(space) == (len(expected),)
    assert batch(space, [found, found]).shape == (2, len(expected)) and batch(space, []).shape == (0, len(expected))


@pytest.mark.parametrize(("shape", "axis"), [((64, 48, 3), 2), ((3, 84, 84), 0), ((20, 20, 1), 2)])
def test_a_picture_keeps_its_bytes_with_the_channels_first_and_is_held_once(shape, axis):
    space = spaces.Box(0, 255, shape, BYTES)
    picture = np.random.default_rng(0).integers(0, 256, shape, BYTES)
    found = seen(space, picture)
    np.testing.assert_array_equal(found, np.moveaxis(picture, axis, 0))
    assert found.dtype == BYTES and found.shape == shape_seen(space) and found.flags.c_contiguous
    assert not np.shares_memory(found, picture)
    references = batch(space, [found, found])
    assert references.shape == (2, 1) and references[0, 0] is references[1, 0] is found
    assert batch(space, []).shape == (0, 1)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (7, 7, 3), BYTES),  # MiniGrid's codes
        spaces.Box(0, 1, (20, 20, 3), BYTES),
        spaces.Box(0.0, 255.0, (20, 20, 3)),
        spaces.Box(0, 255, (20, 20), BYTES),
    ],
)
def test_other_arrays_are_numbers(space):
    assert not is_picture(space) and shape_seen(space) == (np.prod(space.shape),)


def test_nested_observations_are_compared_by_their_numbers():
    one, other = ({"a": np.full((2, 2), x, np.float32), "b": (4, np.array([1, 1]))} for x in (0.5, 0.25))
    assert exact(NESTED, one) == exact(NESTED, {**one}) != exact(NESTED, other)


@pytest.mark.parametrize("space", [spaces.MultiBinary([2, 3]), spaces.MultiDiscrete([2, 3], start=[1, 5])])
def test_actions_have_the_form_of_their_space(space):
    actions = arbitrary_actions(space, 30)
    assert all(space.contains(action) for action in actions) and len(np.unique(actions, axis=0)) > 5


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (spaces.Text(4), "Text("),
        (spaces.Sequence(BOX), "Sequence("),
        (spaces.Graph(BOX, None), "Graph("),
        (Mission(), "of the kind Mission(…, …); only"),
        (spaces.Dict({"image": BOX, "mission": Mission()}), "of the kind Mission(…, …) (observation['mission']); only"),
        (spaces.Dict({}), "of the kind Dict(); only"),
        (spaces.Box(0.0, 1.0, (0,)), "Box([], [], (0,)"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_with_a_way_out(space, told):
    with pytest.raises(ConfigError, match=r"^env\.id=A-v0 has observations") as caught:
        require_usable("A-v0", space, spaces.Discrete(2))
    sentence = str(caught.value)
    assert told in sentence and "use env.id=mine:" in sentence and " at 0x" not in sentence and "\n" not in sentence


@pytest.mark.parametrize("space", [NESTED, spaces.Text(4), spaces.Sequence(BOX)])
def test_actions_of_other_kinds_are_refused_with_a_way_out(space):
    with pytest.raises(ConfigError, match=r"^env\.id=A-v0 has actions.*TransformAction.*use env\.id=mine:"):
        require_usable("A-v0", BOX, space)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Named", ["sampler=single", "sampler.steps_per_iteration=64", "policy.input_scale=none"]),
        ("Pictured", ["policy=conv", "critic=conv", "sampler.steps_per_iteration=64", "sampler.streams=2"]),
        ("Pictured", ["policy=conv", "critic=none", "sampler.steps_per_iteration=64"]),
    ],
)
def test_what_it_sees_is_trained_on_and_scored(kind, words, tmp_path):
    env = ("env=gymnasium", f"env.id=gym_envs:{kind}Walk-v0", "step_limit=20", f"outputs={tmp_path}")
    run = executed(planned(*env, *words, "iterations=2"))
    assert [row["iteration"] for row in results(run)] == [0, 1]
    assert len(evaluate(Request(str(run), episodes=3))["returns"]) == 3


def test_a_network_for_pictures_is_asked_for_where_there_are_pictures():
    words = ("env=gymnasium", "env.id=gym_envs:PicturedWalk-v0")
    with pytest.raises(ConfigError, match=r"\[3, 16, 12\]; use policy=conv, with critic=conv or critic=none$"):
        planned(*words)
    with pytest.raises(ConfigError, match=r"policy=atari chooses among discrete actions.*; use policy=conv$"):
        planned(*words, "policy=atari")
    with pytest.raises(ConfigError, match=r"critic=mlp cannot see images.*use critic=conv or critic=none$"):
        planned(*words, "policy=conv")
