"""Any registered Gymnasium environment as a batch of states.

Such an environment is an object with memory, and a state here is a value: the seed of the episode's reset and the
actions since. The last state of an episode owns the living environment, which its step takes on from where it is, so
single paths copy nothing. To step a state that was gone on from, its episode is lived again (from the reset, or from a
copy kept on the way) and then copied for each branch of the vine. Both give the same numbers in an environment that
depends on its seed and its actions alone, as Gymnasium asks of it; a vine first sees whether that holds here.
"""

import copy
import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any
from weakref import finalize

import numpy as np
from gymnasium import Env, Space, spaces
from gymnasium.envs.registration import EnvSpec, make, spec
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import Continuous, Discrete, Step

MAX_LANES = 256  # environments at work at a time
TRIED_STEPS = 20  # of an environment and its copy, to compare them

NOT_THE_ENVIRONMENTS = {"max_episode_steps": "set step_limit=… instead", "render_mode": "training draws nothing"}


@dataclass(eq=False)
class Episode:
    """What led to the states of one lane; it only ever grows."""

    seed: int  # of the reset
    actions: list[Any]  # taken since, in the environment's own form
    env: Env | None = None  # as it is after all of ``actions``; None where it has to be lived again
    copies: dict[int, Env] = field(default_factory=dict)  # number of actions: the environment after them, never stepped

    def __reduce__(self) -> tuple[Any, ...]:
        return Episode, (self.seed, self.actions)  # environments stay in their process


@dataclass(frozen=True, eq=False)
class State:
    """``episode`` after its first ``t`` actions."""

    episode: Episode
    t: int
    obs: NDArray[np.float32]  # `[O]`


States = NDArray[Any]  # `[n]` of `State`


@dataclass(frozen=True)
class Gymnasium:
    """The environment that ``gymnasium.make(id, **kwargs)`` makes, its time limit left to the rollout.

    Observations are flattened, discrete ones are one-hot; controls are clipped to the box. An environment that
    truncates an episode by itself ends it.

    Raises:
        ConfigError: there is no such environment, it cannot be run, or its spaces are of other kinds.
    """

    id: str  # as registered; package:Name-v0 imports the package first
    kwargs: dict[str, Any] | None  # of the environment's constructor

    def __post_init__(self) -> None:
        for key, instead in NOT_THE_ENVIRONMENTS.items():
            if key in (self.kwargs or {}):
                raise ConfigError(f"env.kwargs.{key} is not for the environment: {instead}")
        _ = self._spaces  # which tries the environment

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), astuple(self)  # environments stay in their process

    @property
    def step_limit(self) -> int | None:
        """Steps of an episode that the environment was registered with; None where it was not."""
        return self._spec.max_episode_steps

    @cached_property
    def obs_shape(self) -> tuple[int, ...]:
        """One flat observation."""
        seen = self._spaces[0]
        return (int(seen.n) if isinstance(seen, spaces.Discrete) else int(np.prod(seen.shape)),)  # type: ignore[arg-type]

    @property
    def max_lanes(self) -> int:
        """Every lane has an environment to itself."""
        return MAX_LANES

    @property
    def n_state(self) -> int:
        """That of the observation: the state itself is not known."""
        return self.obs_shape[0]

    @cached_property
    def action_space(self) -> Continuous | Discrete:
        """The box, flat, or the options of each factor."""
        return _controls(self._spaces[1])

    def reset(self, rngs: Sequence[np.random.Generator]) -> States:
        """First states `[n]`, lane i by a reset with a seed from ``rngs[i]``."""
        first = np.empty(len(rngs), object)
        for i, rng in enumerate(rngs):
            seed, env = int(rng.integers(2**31)), self._spare()
            obs, _ = env.reset(seed=seed)
            episode = Episode(seed, [], env)
            finalize(episode, self._unused.append, env).atexit = False  # making one may take longer than an episode
            first[i] = State(episode, 0, self._seen(obs))
        return first

    def observe(self, states: States) -> NDArray[np.float32]:
        """Observations `[n, O]`."""
        return np.array([state.obs for state in states], np.float32).reshape(len(states), *self.obs_shape)

    def step(self, states: States, actions: NDArray[Any]) -> Step:
        """One step of each lane's environment under ``actions`` `[n, A]`."""
        n = len(states)
        after, rewards, ended = np.empty(n, object), np.zeros(n), np.zeros(n, bool)
        for i, (state, action) in enumerate(zip(states, _native(self._spaces[1], actions), strict=True)):
            episode = state.episode
            if episode.env is None or state.t < len(episode.actions):
                episode = self._branch(state)
            env, episode.env = episode.env, None  # should the step raise, nothing goes on from what it leaves
            obs, reward, terminated, truncated, _ = env.step(action)
            episode.actions.append(action)
            episode.env = env
            after[i], rewards[i], ended[i] = (
                State(episode, state.t + 1, self._seen(obs)),
                reward,
                terminated or truncated,
            )
        return Step(after, rewards, ended)

    def require_copies(self) -> None:
        """Raise ConfigError unless a copy of the environment, and another that lived the same, do what it does."""
        needs = "sampler=vine needs an environment that can be copied; use sampler=single"
        actions = list(_native(self._spaces[1], _arbitrary(self.action_space, 2 * TRIED_STEPS)))
        before, after = actions[:TRIED_STEPS], actions[TRIED_STEPS:]
        with self._refusing("cannot be copied", f"; {needs}"):
            env, other = self._made(), self._made()
            same_life = _lived(env, before, seed=0) == _lived(other, before, seed=0)
            copied = _copy(env)
            same_copy = _lived(copied, after) == _lived(env, after)  # in this order: they may share something
            env.close()
            other.close()
        if not same_life:
            raise ConfigError(
                f"env.id={self.id} does not repeat itself after a reset with the same seed, as sampler=vine needs it; "
                "use sampler=single"
            )
        if not same_copy:
            raise ConfigError(f"env.id={self.id}: its copy does not do what it does; {needs}")

    def _branch(self, state: State) -> Episode:
        """An episode of its own that has come to ``state``."""
        past, t = state.episode, state.t
        env = past.copies.pop(t) if t in past.copies else self._lived_again(past, t)
        with suppress(Exception):  # one that cannot be copied, for whatever reason, can be lived again
            past.copies[t] = _copy(env)
        return Episode(past.seed, past.actions[:t], env)

    def _lived_again(self, past: Episode, t: int) -> Env:
        """The environment after the first ``t`` actions, from the last copy before them or from the reset."""
        start = max((known for known in past.copies if known < t), default=0)
        if start:
            env = _copy(past.copies[start])
        else:
            env = self._spare()
            env.reset(seed=past.seed)
        for action in past.actions[start:t]:
            env.step(action)
        return env

    def _seen(self, obs: Any) -> NDArray[np.float32]:
        """An observation `[O]` for the policy, a copy: an environment may write into its own again."""
        space = self._spaces[0]
        if isinstance(space, spaces.Discrete):
            return (np.arange(space.n) == obs - space.start).astype(np.float32)
        return np.array(obs, np.float32).ravel()

    @cached_property
    def _spec(self) -> EnvSpec:
        module, _, name = self.id.rpartition(":")
        if module:
            with self._refusing("cannot be imported", "; install the package or put its folder on PYTHONPATH"):
                importlib.import_module(module)
        with self._refusing("is not registered"):
            return spec(name)

    @cached_property
    def _spaces(self) -> tuple[Space, Space]:
        """Of observations and of actions, from an environment that was made and stepped once."""
        found = self._spec
        with self._refusing("cannot be run"):
            assert found.entry_point is not None, "it has no entry point"
            env = self._made()
            seen, taken = env.observation_space, env.action_space
            for space, name, kinds in ((seen, "observations", OBSERVATIONS), (taken, "actions", ACTIONS)):
                if not isinstance(space, kinds) or (isinstance(space, spaces.Box) and not np.prod(space.shape)):
                    known = " or ".join(kind.__name__ for kind in kinds)
                    raise ConfigError(
                        f"env.id={self.id} has {name} of the kind {space}; only {known} can be used, so wrap it in a "
                        "gymnasium wrapper that changes them and register that"
                    )
            _lived(env, list(_native(taken, _arbitrary(_controls(taken), 1))), seed=0)
            env.close()
        return seen, taken

    @cached_property
    def _unused(self) -> list[Env]:
        """Environments whose episodes nobody remembers."""
        return []

    def _spare(self) -> Env:
        """An environment to be reset."""
        return self._unused.pop() if self._unused else self._made()

    def _made(self) -> Env:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a newer version, and the like
            return make(self._spec, max_episode_steps=-1, disable_env_checker=True, **(self.kwargs or {}))

    @contextmanager
    def _refusing(self, what: str, advice: str = "") -> Iterator[None]:
        """Say in one sentence what Gymnasium or the environment raises."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
            raise ConfigError(f"env.id={self.id} {what} ({said}){advice}") from error


OBSERVATIONS = (spaces.Box, spaces.Discrete)
ACTIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete)


def _controls(space: Space) -> Continuous | Discrete:
    if isinstance(space, spaces.Box):
        return Continuous(*(np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high)))
    n = space.n if isinstance(space, spaces.Discrete) else space.nvec  # type: ignore[attr-defined]
    return Discrete(tuple(int(options) for options in np.ravel(n)))


def _native(space: Space, actions: NDArray[Any]) -> Iterator[Any]:
    """Each of ``actions`` `[n, A]` in the form that ``space`` has."""
    if isinstance(space, spaces.Discrete):
        return iter(actions[:, 0] + space.start)
    if isinstance(space, spaces.Box):
        actions = np.clip(actions, space.low.ravel(), space.high.ravel())
        actions = np.rint(actions) if np.issubdtype(space.dtype, np.integer) else actions
    else:
        actions = actions + np.ravel(space.start)  # type: ignore[attr-defined]
    return iter(actions.reshape(-1, *space.shape).astype(space.dtype))  # type: ignore[misc]


def _arbitrary(space: Continuous | Discrete, n: int) -> NDArray[Any]:
    """``n`` actions `[n, A]` from all over the space."""
    rng = np.random.default_rng(0)
    if isinstance(space, Continuous):
        return space.controls(rng.uniform(-1, 1, (n, space.size)))
    return rng.integers(space.factors, size=(n, space.size))


def _copy(env: Env) -> Env:
    """A copy that goes on as ``env`` would."""
    base = env.unwrapped
    memo: dict[int, Any] = {}
    if isinstance(base, EzPickle) and not hasattr(base, "__deepcopy__"):
        # Its own way to be copied, meant for pickling, is to be made anew; MuJoCo's environments are of this kind.
        memo[id(base)] = twin = object.__new__(type(base))
        vars(twin).update(copy.deepcopy(vars(base), memo))
    return copy.deepcopy(env, memo)


def _lived(env: Env, actions: Sequence[Any], seed: int | None = None) -> list[Any]:
    """What the environment answers to each of ``actions``, after a reset where a ``seed`` is given."""
    answers: list[Any] = []
    if seed is not None:
        answers.append(np.asarray(env.reset(seed=seed)[0]).tobytes())
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, _ = env.step(action)
        answers.append((np.asarray(obs).tobytes(), repr(float(reward)), bool(terminated), bool(truncated)))
        if terminated or truncated:
            env.reset(seed=t)
    return answers
