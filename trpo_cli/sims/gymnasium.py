"""Any registered Gymnasium environment as a batch of states.

A Gymnasium environment is an object with memory. A state here is a value: the seed of the episode's reset, and the
actions since then. The newest state of an episode holds the real environment object; stepping it just calls env.step.
To step an older state, the episode is replayed from the reset (or from a saved copy). Single paths step only newest
states, so they never copy or replay anything. The vine steps older states, and copies one environment per branch.

Stepping and replaying give the same numbers if the environment depends only on its seed and its actions, as Gymnasium
demands. Before the vine starts, `Gymnasium.require_copies` checks whether this is so.
"""

import copy
import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, field
from functools import cached_property
from math import prod
from typing import Any
from weakref import finalize

import numpy as np
from gymnasium import Env, Space
from gymnasium.envs.registration import EnvSpec, make, spec
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import ActionSpace, Drawable, SavedState, Step
from trpo_cli.sims.gymnasium_names import require_arguments, way_to
from trpo_cli.sims.gymnasium_spaces import (
    action_space,
    arbitrary_actions,
    batch,
    exact,
    native_actions,
    require_usable,
    seen,
    shape_seen,
)

MAX_LANES = 256  # environments that are used at the same time
TRIED_STEPS = 20  # steps for which an environment and its copy are compared


@dataclass(eq=False)
class Episode:
    """What led to the states of one lane. It only ever grows."""

    seed: int  # of the reset
    actions: list[Any]  # taken since the reset, in the environment's own form
    env: Env | None = None  # the environment after all of ``actions``; None: the episode has to be replayed
    copies: dict[int, Env] = field(default_factory=dict)  # number of actions -> the environment after them; not stepped

    def __reduce__(self) -> tuple[Any, ...]:
        return Episode, (self.seed, self.actions)  # an environment cannot leave its process


@dataclass(frozen=True, eq=False)
class State:
    """``episode`` after its first ``t`` actions."""

    episode: Episode
    t: int
    obs: NDArray[Any]  # `[O]`, or a picture `[channels, rows, columns]`


States = NDArray[Any]  # `[n]` of `State`


@dataclass(frozen=True)
class Gymnasium:
    """The environment that ``gymnasium.make(id, **kwargs)`` makes, without its time limit: that is the rollout's.

    Observations are flattened, and discrete ones are one-hot; pictures keep their shape. Controls are clipped to the
    box. If the environment truncates an episode by itself, `step` reports it as truncated, so that a value function
    estimates what would have followed. If the environment reports a terminal state at the same step, the step is
    terminated only: nothing would have followed.

    Raises:
        ConfigError: there is no such environment, it cannot be run, or its spaces are of kinds that cannot be used.
    """

    id: str  # as registered; package:Name-v0 imports the package first
    kwargs: dict[str, Any] | None  # arguments of the environment's constructor

    def __post_init__(self) -> None:
        require_arguments(self.kwargs or {})
        self._require_usable()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), astuple(self)  # an environment cannot leave its process

    @property
    def step_limit(self) -> int | None:
        """The limit on the steps of an episode that the environment was registered with; None: it has no limit."""
        return self._spec.max_episode_steps

    @cached_property
    def obs_shape(self) -> tuple[int, ...]:
        """One flat observation, or channels, rows and columns of a picture."""
        return shape_seen(self._spaces[0])

    @property
    def max_lanes(self) -> int:
        """Each lane has its own environment."""
        return MAX_LANES

    @property
    def n_state(self) -> int:
        """Dimension of the observation; the state itself is not known."""
        return prod(self.obs_shape)

    @property
    def spaces(self) -> tuple[Space, Space]:
        """The environment's own, of observations and of actions."""
        return self._spaces

    @cached_property
    def action_space(self) -> ActionSpace:
        """The box, flat, or the number of options of each factor."""
        return action_space(self._spaces[1])

    def reset(self, rngs: Sequence[np.random.Generator]) -> States:
        """First states `[n]`; lane i is reset with a seed from ``rngs[i]``."""
        first = np.empty(len(rngs), object)
        for i, rng in enumerate(rngs):
            seed, env = int(rng.integers(2**31)), self._take_from_pool()
            obs, _ = env.reset(seed=seed)
            episode = Episode(seed, [], env)
            # When nobody holds the episode any more, its environment goes back to the pool. Making a new one may take
            # longer than an episode. At the end of the process there is no need to do this.
            finalize(episode, self._pool.append, env).atexit = False
            first[i] = State(episode, 0, seen(self._spaces[0], obs))
        return first

    def observe(self, states: States) -> NDArray[Any]:
        """Observations `[n, O]`; references to pictures `[n, 1]`, so that a batch holds each of them once."""
        return batch(self._spaces[0], [state.obs for state in states])

    def step(self, states: States, actions: NDArray[Any]) -> Step:
        """One step of each lane's environment under ``actions`` `[n, A]`."""
        n, (observations, controls) = len(states), self._spaces
        after, rewards = np.empty(n, object), np.zeros(n)
        ended, cut = np.zeros(n, bool), np.zeros(n, bool)
        for i, (state, action) in enumerate(zip(states, native_actions(controls, actions), strict=True)):
            episode = state.episode
            if episode.env is None or state.t < len(episode.actions):
                episode = self._branch(state)
            env, episode.env = episode.env, None  # if the step raises an exception, its environment is not used again
            obs, reward, terminated, truncated, _ = env.step(action)
            episode.actions.append(action)
            episode.env = env
            after[i], rewards[i] = State(episode, state.t + 1, seen(observations, obs)), reward
            ended[i], cut[i] = terminated, truncated and not terminated
        return Step(after, rewards, ended, cut)

    def require_copies(self) -> None:
        """Raise ConfigError unless the environment repeats itself after a reset, and its copy continues as it does."""
        self._require_repeats("which sampler=vine needs; use sampler=single")
        needs = "sampler=vine needs an environment that can be copied; use sampler=single"
        actions = arbitrary_actions(self._spaces[1], 2 * TRIED_STEPS)
        before, after = actions[:TRIED_STEPS], actions[TRIED_STEPS:]
        with self._refusing("cannot be copied", f"; {needs}"):
            env = self._make()
            _answers(env, before, seed=0)
            copied = _copy(env)
            continues = _answers(copied, after) == _answers(env, after)  # the copy first: the two may share something
            env.close()
        if not continues:
            raise ConfigError(f"env.id={self.id}: a copy of it does not continue as the original does; {needs}")

    def _require_repeats(self, needed: str) -> None:
        """Raise ConfigError unless the environment gives the same answers after two resets with the same seed."""
        actions = arbitrary_actions(self._spaces[1], TRIED_STEPS)
        with self._refusing("cannot be replayed", f", {needed}"):
            one, other = self._make(), self._make()
            repeats = _answers(one, actions, seed=0) == _answers(other, actions, seed=0)
            one.close()
            other.close()
        if not repeats:
            raise ConfigError(f"env.id={self.id} does not repeat itself after a reset with the same seed, {needed}")

    def for_film(self) -> Drawable:
        """The same environment, made so that it draws its states; ConfigError if it cannot."""
        from trpo_cli.sims.gymnasium_film import Drawn

        return Drawn(self.id, (self.kwargs or {}) | {"render_mode": "rgb_array"})

    def require_saving(self) -> None:
        """Raise ConfigError unless the environment repeats itself after a reset: a saved episode is replayed."""
        self._require_repeats("which sampler.streams needs; use sampler.streams=null")

    def to_saved(self, states: States) -> list[SavedState]:
        """Per state the seed of its reset, the actions since then, and its observation."""
        return [
            {
                "seed": np.array(state.episode.seed),
                "actions": np.array(state.episode.actions[: state.t]),
                "obs": state.obs,
            }
            for state in states
        ]

    def from_saved(self, saved: Sequence[SavedState]) -> States:
        """States whose episodes are replayed when they are first stepped."""
        states = np.empty(len(saved), object)
        for i, lane in enumerate(saved):
            episode = Episode(int(lane["seed"]), list(lane["actions"]))
            states[i] = State(episode, len(episode.actions), lane["obs"])
        return states

    def _branch(self, state: State) -> Episode:
        """A new episode that has come to ``state``, with an environment of its own."""
        past, t = state.episode, state.t
        env = past.copies.pop(t) if t in past.copies else self._replay(past, t)
        with suppress(Exception):  # if it cannot be copied, for whatever reason, it can be replayed
            past.copies[t] = _copy(env)
        return Episode(past.seed, past.actions[:t], env)

    def _replay(self, past: Episode, t: int) -> Env:
        """The environment after the first ``t`` actions, replayed from the last copy before them or from the reset."""
        start = max((known for known in past.copies if known < t), default=0)
        if start:
            env = _copy(past.copies[start])
        else:
            env = self._take_from_pool()
            env.reset(seed=past.seed)
        for action in past.actions[start:t]:
            env.step(action)
        return env

    @cached_property
    def _spec(self) -> EnvSpec:
        module, _, name = self.id.rpartition(":")
        if module:
            with self._refusing("cannot be imported", "; install the package or put its folder on PYTHONPATH"):
                importlib.import_module(module)
        try:
            return spec(name)
        except Exception as error:
            raise ConfigError(f"env.id={self.id} is not registered; {way_to(self.id)}") from error

    @cached_property
    def _spaces(self) -> tuple[Space, Space]:
        """The spaces of observations and of actions."""
        found = self._spec
        with self._refusing("cannot be run"):
            assert found.entry_point is not None, "it has no entry point"
            env = self._make()
            env.close()
            return env.observation_space, env.action_space

    def _require_usable(self) -> None:
        """Raise ConfigError unless both spaces can be used and the environment can be reset and stepped."""
        observations, actions = self._spaces
        require_usable(self.id, observations, actions)
        with self._refusing("cannot be run"):
            env = self._make()
            _answers(env, arbitrary_actions(actions, 1), seed=0)
            env.close()

    @cached_property
    def _pool(self) -> list[Env]:
        """Environments whose episodes nobody holds any more."""
        return []

    def _take_from_pool(self) -> Env:
        """An environment to be reset: from the pool, or a new one if the pool is empty or used ones do not repeat."""
        return self._pool.pop() if self._pool and self._can_be_reused else self._make()

    @cached_property
    def _can_be_reused(self) -> bool:
        """Whether an environment that has been used gives the same answers after a reset as a new one.

        If not even two new ones agree, nothing is lost by using one again.
        """
        actions = arbitrary_actions(self._spaces[1], 10 * TRIED_STEPS)
        with self._refusing("cannot be run"):
            envs = [self._make() for _ in range(3)]
            _answers(envs[0], actions, seed=1)
            used, new, other = (_answers(env, actions, seed=0) for env in envs)
            for env in envs:
                env.close()
        return used == new or new != other

    def _make(self) -> Env:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example that there is a newer version
            return make(self._spec, max_episode_steps=-1, disable_env_checker=True, **(self.kwargs or {}))

    @contextmanager
    def _refusing(self, what: str, advice: str = "") -> Iterator[None]:
        """Turn an exception of Gymnasium or of the environment into a ConfigError of one sentence."""
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
            raise ConfigError(f"env.id={self.id} {what} ({said}){advice}") from error


def _copy(env: Env) -> Env:
    """A copy of the environment that continues as ``env`` would."""
    base = env.unwrapped
    memo: dict[int, Any] = {}  # of copy.deepcopy: id of an object -> its copy
    if isinstance(base, EzPickle) and not hasattr(base, "__deepcopy__"):
        # copy.deepcopy would call the constructor of an EzPickle again (Gymnasium's MuJoCo environments are of this
        # kind): the result would be a new environment, and not a copy of this one in its present state. So make an
        # empty object of the same class and copy every attribute into it. With the empty object in ``memo``, deepcopy
        # uses it wherever a wrapper or an attribute refers to the original.
        memo[id(base)] = twin = object.__new__(type(base))
        vars(twin).update(copy.deepcopy(vars(base), memo))
    return copy.deepcopy(env, memo)


def _answers(env: Env, actions: Sequence[Any], seed: int | None = None) -> list[Any]:
    """What the environment returns for each of ``actions``; with a ``seed``, it is reset first."""
    answers: list[Any] = []
    if seed is not None:
        answers.append(exact(env.observation_space, env.reset(seed=seed)[0]))
    for t, action in enumerate(actions):
        obs, reward, terminated, truncated, _ = env.step(action)
        answers.append((exact(env.observation_space, obs), repr(float(reward)), bool(terminated), bool(truncated)))
        if terminated or truncated:
            env.reset(seed=t)
    return answers
