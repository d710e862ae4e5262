"""The spaces of an environment as Gymnasium names them, for people who use a policy without its simulator."""

from math import inf
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from trpo_cli.sims.base import Simulator


@runtime_checkable
class HasSpaces(Protocol):
    """A simulator whose environment has Gymnasium's spaces; for others `spaces_of` makes them."""

    @property
    def spaces(self) -> tuple[Space, Space]:
        """Of observations and of actions."""


def spaces_of(sim: Simulator) -> tuple[Space, Space]:
    """The spaces of observations and of actions."""
    if isinstance(sim, HasSpaces):
        return sim.spaces
    actions = sim.action_space
    seen = _pictures(sim.obs_shape) if len(sim.obs_shape) == 3 else spaces.Box(-inf, inf, sim.obs_shape, np.float64)
    if actions.factors is None:
        low, high = (actions.controls(np.full(actions.size, bound)) for bound in (-1.0, 1.0))
        return seen, spaces.Box(low.astype(np.float32), high.astype(np.float32))
    if len(actions.factors) == 1:
        return seen, spaces.Discrete(actions.factors[0])
    return seen, spaces.MultiDiscrete(list(actions.factors))


def _pictures(shape: tuple[int, ...]) -> Space:
    """Bytes in channels, rows and columns."""
    return spaces.Box(0, 255, shape, np.uint8)


def to_json(space: Space) -> dict[str, Any]:
    """What `from_json` takes: dictionaries, lists, numbers and strings. It takes infinity as a string too."""
    match space:
        case spaces.Box():
            bounds = {"low": _short(space.low), "high": _short(space.high)}
            return {"kind": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}
        case spaces.Dict():
            return {"kind": "Dict", "spaces": {name: to_json(part) for name, part in space.spaces.items()}}
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [to_json(part) for part in space.spaces]}
    raise TypeError(f"{space} cannot be written as JSON")


def from_json(content: dict[str, Any]) -> Space:
    """The space that `to_json` wrote."""
    match content["kind"]:
        case "Box":
            shape, dtype = tuple(content["shape"]), np.dtype(content["dtype"])
            low, high = (np.broadcast_to(np.array(content[name], np.float64), shape) for name in ("low", "high"))
            return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype)
        case "Discrete":
            return spaces.Discrete(content["n"], start=content["start"])
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(content["nvec"]), start=np.array(content["start"]))
        case "MultiBinary":
            return spaces.MultiBinary(content["shape"])
        case "Dict":
            return spaces.Dict({name: from_json(part) for name, part in content["spaces"].items()})
        case "Tuple":
            return spaces.Tuple([from_json(part) for part in content["spaces"]])
    raise ValueError(
        f"kind={content['kind']} is no space: give Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
    )


def _short(bounds: NDArray[Any]) -> Any:
    """One bound if all are the same; else a list of the array's shape."""
    same = bounds.size and (bounds == bounds.flat[0]).all()
    return bounds.flat[0].item() if same else bounds.tolist()
