"""Gymnasium's spaces: which ones a policy can use, and its actions in the form that each of them has."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from trpo_cli.sims.base import ActionSpace, Continuous, Discrete

OBSERVATIONS = (spaces.Box, spaces.Discrete)
ACTIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)


def is_usable(space: Space, kinds: tuple[type[Space], ...]) -> bool:
    """True if the space is of one of the kinds and holds at least one number."""
    return isinstance(space, kinds) and not (isinstance(space, spaces.Box) and np.prod(space.shape) == 0)


def n_inputs(space: Space) -> int:
    """Length of a flat observation."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape))  # type: ignore[arg-type]


def flat_observation(space: Space, obs: Any) -> NDArray[np.float32]:
    """An observation `[O]` for the policy. It is a copy, because an environment may overwrite its own array."""
    if isinstance(space, spaces.Discrete):
        return (np.arange(space.n) == obs - space.start).astype(np.float32)
    return np.array(obs, np.float32).ravel()


def action_space(space: Space) -> ActionSpace:
    """The box, flat, or the number of options of each factor."""
    if isinstance(space, spaces.Box):
        return Continuous(*(np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high)))
    n = space.n if isinstance(space, spaces.Discrete) else space.nvec  # type: ignore[attr-defined]
    return Discrete(tuple(int(options) for options in np.ravel(n)))


def native_actions(space: Space, actions: NDArray[Any]) -> Iterator[Any]:
    """Each of ``actions`` `[n, A]` in the form that ``space`` has: shape, type and first option."""
    if isinstance(space, spaces.Discrete):
        return iter(actions[:, 0] + space.start)
    if isinstance(space, spaces.Box):
        actions = np.clip(actions, space.low.ravel(), space.high.ravel())
        actions = np.rint(actions) if np.issubdtype(space.dtype, np.integer) else actions
    else:
        actions = actions + np.ravel(space.start)  # type: ignore[attr-defined]
    return iter(actions.reshape(-1, *space.shape).astype(space.dtype))  # type: ignore[misc]


def arbitrary_actions(space: Space, n: int) -> list[Any]:
    """``n`` actions from all over the space, the same at every call, in the form that ``space`` has."""
    rng, controls = np.random.default_rng(0), action_space(space)
    if controls.factors is None:
        actions = controls.controls(rng.uniform(-1, 1, (n, controls.size)))
    else:
        actions = rng.integers(controls.factors, size=(n, controls.size))
    return list(native_actions(space, actions))
