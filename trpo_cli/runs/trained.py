"""A trained policy as its user sees it: observations in, actions out, both as the environment has them."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.vector.utils import batch_space, iterate
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import Policy
from trpo_cli.policies.distributions import Distribution
from trpo_cli.runs.files import finite
from trpo_cli.sims.base import Continuous
from trpo_cli.sims.gymnasium_spaces import action_space, is_picture, native_actions, seen, shape_seen
from trpo_cli.sims.spaces import from_json, to_json

FORMAT = 1  # of a description; it goes up when its keys change
Params = Callable[[NDArray[Any]], NDArray[Any]]  # observations as the policy sees them [n, …] -> [n, P]


@dataclass(frozen=True)
class Description:
    """What a policy is, without its parameters."""

    observation_space: Space
    action_space: Space
    policy: Mapping[str, Any]  # class and hyperparameters, as in the run's configuration
    about: Mapping[str, Any]  # where it comes from: environment, versions, commit, score

    def to_dict(self) -> dict[str, Any]:
        """JSON values, by name; infinity is a string."""
        return {
            "format": FORMAT,
            **finite(self.about),
            "observation_space": finite(to_json(self.observation_space)),
            "action_space": finite(to_json(self.action_space)),
            "policy": finite(self.policy),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], path: Path) -> Self:
        """The description that ``to_dict`` made; ConfigError, naming ``path``, if it is none."""
        rest = dict(content)
        if rest.pop("format", None) != FORMAT:
            raise ConfigError(f"{path} is no description of a policy of format {FORMAT}: export the policy again")
        observations, actions = (from_json(rest.pop(name)) for name in ("observation_space", "action_space"))
        policy = {name: float(x) if x in ("inf", "-inf") else x for name, x in rest.pop("policy").items()}
        return cls(observations, actions, policy, rest)

    def build(self) -> Policy:
        """The policy, with the input map of its configuration; ConfigError if its class is not to be had."""
        values = dict(self.policy)
        target = str(values.pop("_target_"))
        module, _, name = target.rpartition(".")
        try:
            config = getattr(import_module(module), name)
        except Exception as error:  # the module may raise anything when it is imported
            raise ConfigError(f"the policy's class {target} cannot be imported ({error})") from error
        known = {field.name for field in fields(config)}
        policy: Policy = config(**{key: value for key, value in values.items() if key in known}).build(
            shape_seen(self.observation_space), action_space(self.action_space)
        )
        return policy


def input_shape(description: Description) -> tuple[int, ...]:
    """The shape of one observation for an exported graph: the environment's own if it is one array, else flat."""
    space = description.observation_space
    return space.shape if isinstance(space, spaces.Box) else shape_seen(space)


def input_dtype(description: Description) -> np.dtype[Any]:
    """The type of observations for an exported graph."""
    space = description.observation_space
    return np.dtype(space.dtype) if isinstance(space, spaces.Box) else np.dtype(np.float32)


def read_description(path: Path) -> Description:
    """The description beside an exported file; ConfigError if there is none."""
    beside = path.with_suffix(".json")
    try:
        return Description.from_dict(json.loads(beside.read_bytes()), beside)
    except FileNotFoundError:
        raise ConfigError(f"{path} has no description beside it: {beside.name} belongs to it, copy both") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{beside} is no description of a policy ({error}): export the policy again") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class Normal(NamedTuple):
    """Independent normal distributions of the controls, before they are clipped to the action space."""

    mean: NDArray[np.float64]  # of the action space's shape, after the axis of a batch; in the environment's unit
    std: NDArray[np.float64]  # the same


class Categorical(NamedTuple):
    """One choice per factor."""

    probabilities: tuple[NDArray[np.float64], ...]  # of each factor: of its options, after the axis of a batch


class TrainedPolicy:
    """A policy to act with. ``trpo_cli.load`` makes one."""

    def __init__(self, description: Description, dist: Distribution, params: Params, seed: int | None = None) -> None:
        self.description, self._dist, self._params = description, dist, params
        self._controls = action_space(description.action_space)
        self._rng = np.random.default_rng(seed)

    @property
    def observation_space(self) -> Space:
        """The environment's, as a space of Gymnasium."""
        return self.description.observation_space

    @property
    def action_space(self) -> Space:
        """The environment's, as a space of Gymnasium."""
        return self.description.action_space

    def predict(self, obs: Any, deterministic: bool = True) -> tuple[Any, None]:
        """The action for one observation, or the actions for a batch of them, and None: the policy has no memory.

        obs: as the environment gives it, or with one more axis in front
        deterministic: the most likely action; False draws from the policy, as in training
        Raises ValueError for an observation of another shape.
        """
        inputs, single = self._inputs(obs)
        params = torch.from_numpy(self._params(inputs))
        if deterministic:
            chosen = self._dist.mode(params)
        else:
            noise = torch.from_numpy(self._dist.draw_noise(self._rng, (len(inputs),)))
            chosen = self._dist.sample(params, noise.to(params))
        actions = list(native_actions(self.action_space, self._controls.controls(chosen.numpy())))
        return (actions[0] if single else np.array(actions)), None

    def distribution(self, obs: Any) -> Normal | Categorical:
        """What ``predict`` draws from with ``deterministic=False``, for one observation or a batch."""
        inputs, single = self._inputs(obs)
        params = self._params(inputs).astype(np.float64)
        if isinstance(self._controls, Continuous):  # one of the two that `action_space` makes
            shape = self.action_space.shape or ()
            mean, log_std = np.split(params, 2, -1)
            numbers = (self._controls.controls(mean), self._controls.half_range * np.exp(log_std))
            return Normal(*(x.reshape(*([] if single else [len(x)]), *shape) for x in numbers))
        logits = np.split(params, np.cumsum(self._controls.factors)[:-1], -1)  # type: ignore[arg-type]
        each = (np.exp(x - x.max(-1, keepdims=True)) for x in logits)
        probabilities = (x / x.sum(-1, keepdims=True) for x in each)
        return Categorical(tuple(x[0] if single else x for x in probabilities))

    def _inputs(self, obs: Any) -> tuple[NDArray[Any], bool]:
        """Observations as the policy sees them ``[n, …]``, and whether there was one without an axis for a batch."""
        space = self.observation_space
        sizes = self._sizes(obs, space, "obs")
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{place} {'one' if n is None else n}" for place, n in sizes.items())
            raise ConfigError(f"the parts of obs hold different numbers of observations: {told}; {self._wanted()}")
        n = next(iter(sizes.values()))
        if n is None:
            return self._seen([obs]), True
        has_parts = isinstance(space, spaces.Dict | spaces.Tuple)
        return self._seen(list(iterate(batch_space(space, n), obs) if has_parts else obs)), False

    def _sizes(self, obs: Any, space: Space, place: str) -> dict[str, int | None]:
        """For each array of ``obs`` how many observations it holds; None: one, without an axis for a batch."""
        if isinstance(space, spaces.Dict | spaces.Tuple):
            keys, kind = _parts(space), Mapping if isinstance(space, spaces.Dict) else tuple
            given = list(obs) if isinstance(obs, Mapping) else list(range(len(obs))) if isinstance(obs, tuple) else []
            if not isinstance(obs, kind) or set(given) != set(keys):
                raise ConfigError(f"{place}={obs!r:.100} has not the parts {keys}{_of_reset(obs)}; {self._wanted()}")
            sizes: dict[str, int | None] = {}
            for key in keys:
                sizes |= self._sizes(obs[key], space.spaces[key], f"{place}[{key!r}]")
            return sizes
        wanted = space.shape or ()
        try:
            shape = np.shape(obs)
        except ValueError as error:
            raise ConfigError(f"{place}={obs!r:.100} is no array{_of_reset(obs)}; {self._wanted()}") from error
        if shape == wanted:
            return {place: None}
        if shape[1:] == wanted and len(shape) == len(wanted) + 1:
            return {place: shape[0]}
        raise ConfigError(f"{place} has the shape {shape}; {self._wanted()}")

    def _seen(self, observations: list[Any]) -> NDArray[Any]:
        space, shape = self.observation_space, shape_seen(self.observation_space)
        for obs in observations:
            _require_member(obs, space, self._wanted)
        if isinstance(space, spaces.Box) and not is_picture(space):
            return np.asarray(observations, np.float64).reshape(len(observations), *shape)
        return np.array([seen(space, obs) for obs in observations]).reshape(len(observations), *shape)

    def _wanted(self) -> str:
        return (
            f"this policy's observations are {self.observation_space}, one of them or a batch: the same with one more "
            "axis in front of every array"
        )


def _of_reset(obs: Any) -> str:
    """A hint for an observation that still has its ``info`` beside it."""
    pair = isinstance(obs, tuple) and len(obs) == 2 and isinstance(obs[1], Mapping)
    return " (it looks like what env.reset() returns: give its first part)" if pair else ""


def _parts(space: spaces.Dict | spaces.Tuple) -> list[Any]:
    return list(space.spaces) if isinstance(space, spaces.Dict) else list(range(len(space.spaces)))


def _require_member(obs: Any, space: Space, wanted: Callable[[], str]) -> None:
    """Raise ConfigError for what the space does not have: other options or bytes, numbers that are not finite.

    Bounds of real numbers are not checked: environments leave them too.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key in _parts(space):
            _require_member(obs[key], space.spaces[key], wanted)
        return
    x = np.asarray(obs)
    if isinstance(space, spaces.Box) and not is_picture(space):
        if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
            raise ConfigError(f"obs={obs!r:.100} has numbers that are not finite; {wanted()}")
        return
    low, high = _options(space)
    if x.shape != (space.shape or ()) or x.dtype.kind not in "iub" or (x < low).any() or (x > high).any():
        raise ConfigError(f"obs={obs!r:.100} is none of its space; {wanted()}")


def _options(space: Space) -> tuple[Any, Any]:
    """Smallest and greatest whole number of a space of whole numbers."""
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    return 0, 255 if isinstance(space, spaces.Box) else 1  # a picture, or bits
