"""Gymnasium's spaces: which ones a policy can use, observations as it sees them, and actions as each space has them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import ActionSpace, Continuous, Discrete

LEAVES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)  # an array of numbers each
LEAST_SIDE = 10  # rows and columns of a picture; smaller arrays of bytes, such as MiniGrid's 7 x 7 x 3, are codes


def require_usable(env_id: str, observations: Space, actions: Space) -> None:
    """Raise ConfigError unless observations can be turned into numbers, and actions can be made from numbers."""
    if unusable := _unusable_part(observations):
        raise ConfigError(
            f"env.id={env_id} has observations of the kind {unusable}; only Box, Discrete, MultiDiscrete, MultiBinary, "
            f"and Dict and Tuple of these can be used; {_way_out('FilterObservation or TransformObservation')}"
        )
    if isinstance(actions, spaces.Dict | spaces.Tuple) or (unusable := _unusable_part(actions)):
        raise ConfigError(
            f"env.id={env_id} has actions of the kind {_shown(actions)}; only Box, Discrete, MultiDiscrete and "
            f"MultiBinary can be used; {_way_out('TransformAction')}"
        )


def _way_out(wrapper: str) -> str:
    return (
        f"in a file mine.py, register an environment that wraps this one, for example in {wrapper} of "
        "gymnasium.wrappers, and use env.id=mine:ITS_ID"
    )


def _unusable_part(space: Space, place: str = "") -> str:
    """The kind of the first part that is no array of numbers, and its place in a Dict or Tuple; nothing if all are."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        found = [text for key, part in inner if (text := _unusable_part(part, f"{place}[{key!r}]"))]
        return found[0] if found else "" if spaces.flatdim(space) else _shown(space)
    if isinstance(space, LEAVES) and 0 not in (space.shape or ()):
        return ""
    return _shown(space) + (f" (observation{place})" if place else "")


def _shown(space: Space) -> str:
    """The space in one line, without addresses of objects in memory."""
    text = re.sub(r"<[^,()]* at 0x\w+>", "…", str(space))
    return " ".join(text.split())[:200]


def shape_seen(space: Space) -> tuple[int, ...]:
    """Shape of an observation as the policy sees it: channels, rows and columns of a picture, or one flat array."""
    if is_picture(space):
        sides = list(space.shape or ())
        return (sides.pop(channels_axis(space)), *sides)
    return (spaces.flatdim(space),)


def is_picture(space: Space) -> bool:
    """True for bytes from 0 to 255 in rows, columns and channels, or channels first."""
    if not (isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3):
        return False
    return bool(min(np.delete(space.shape, channels_axis(space))) >= LEAST_SIDE and (space.high == 255).all())


def channels_axis(space: Space) -> int:
    """The axis of a picture's channels: the shorter one of the last and the first."""
    assert space.shape is not None
    return 2 if space.shape[2] <= space.shape[0] else 0


def seen(space: Space, obs: Any) -> NDArray[Any]:
    """An observation for the policy: a picture `[channels, rows, columns]` in bytes, or numbers `[O]`.

    It is a copy, because an environment may overwrite its own array.
    """
    if is_picture(space):
        return np.array(np.moveaxis(np.asarray(obs, np.uint8), channels_axis(space), 0), order="C")
    if isinstance(space, spaces.Discrete):
        return (np.arange(space.n) == obs - space.start).astype(np.float32)
    if isinstance(space, spaces.Box):
        return np.array(obs, np.float32).ravel()
    return np.array(spaces.flatten(space, obs), np.float32)


def batch(space: Space, observations: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What `seen` made of n observations: `[n, O]`, or references to pictures `[n, 1]`, so that each is held once."""
    if not is_picture(space):
        return np.array(observations, np.float32).reshape(len(observations), *shape_seen(space))
    pictures = np.empty((len(observations), 1), object)
    for i, picture in enumerate(observations):
        pictures[i, 0] = picture
    return pictures


def exact(space: Space, obs: Any) -> bytes:
    """The bytes of an observation, to tell whether two are the same."""
    structured = isinstance(space, spaces.Dict | spaces.Tuple)
    return np.asarray(spaces.flatten(space, obs) if structured else obs).tobytes()


def action_space(space: Space) -> ActionSpace:
    """The box, flat, or the number of options of each factor."""
    if isinstance(space, spaces.Box):
        return Continuous(*(np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high)))
    if isinstance(space, spaces.MultiBinary):
        return Discrete((2,) * int(np.prod(space.shape)))
    n = space.n if isinstance(space, spaces.Discrete) else space.nvec  # type: ignore[attr-defined]
    return Discrete(tuple(int(options) for options in np.ravel(n)))


def native_actions(space: Space, actions: NDArray[Any]) -> Iterator[Any]:
    """Each of ``actions`` `[n, A]` in the form that ``space`` has: shape, type and first option."""
    if isinstance(space, spaces.Discrete):
        return iter(actions[:, 0] + space.start)
    if isinstance(space, spaces.Box):
        actions = np.clip(actions, space.low.ravel(), space.high.ravel())
        actions = np.rint(actions) if np.issubdtype(space.dtype, np.integer) else actions
    elif isinstance(space, spaces.MultiDiscrete):
        actions = actions + np.ravel(space.start)
    return iter(actions.reshape(-1, *space.shape).astype(space.dtype))  # type: ignore[misc]


def arbitrary_actions(space: Space, n: int) -> list[Any]:
    """``n`` actions from all over the space, the same at every call, in the form that ``space`` has."""
    rng, controls = np.random.default_rng(0), action_space(space)
    if controls.factors is None:
        actions = controls.controls(rng.uniform(-1, 1, (n, controls.size)))
    else:
        actions = rng.integers(controls.factors, size=(n, controls.size))
    return list(native_actions(space, actions))
