"""Any registered Gymnasium environment as a batch of states.

A Gymnasium environment is an object with memory. A state here is a value: the seed of the episode's reset, and the
actions since then. The newest state of an episode holds the real environment object; stepping it just calls env.step.
To step an older state, the episode is replayed from the reset (or from a saved copy). Single paths step only newest
states, so they never copy or replay anything. The vine steps older states, and copies one environment per branch.

Stepping and replaying give the same numbers if the environment depends only on its seed and its actions, as Gymnasium
demands. Before the vine starts, `Gymnasium.require_copies` checks whether this is so.

The environment never runs in the command's own process: it is tried in a child process, and used in the workers.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from functools import cached_property
from math import nan, prod
from typing import Any
from weakref import finalize

import numpy as np
from gymnasium import Env, Space
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError, Interrupted, RunError, require
from trpo_cli.sims.base import ActionSpace, Drawable, SavedState, Step
from trpo_cli.sims.gymnasium_guard import fault_of_reset, fault_of_step, is_flag, said
from trpo_cli.sims.gymnasium_names import require_arguments
from trpo_cli.sims.gymnasium_pool import Environments, copy_of
from trpo_cli.sims.gymnasium_probe import Findings, findings, require_copies
from trpo_cli.sims.gymnasium_spaces import action_space, batch, native_actions, seen, shape_seen

SUCCESS = "is_success"  # key of Gymnasium's info by which goal environments say whether an episode counts as solved


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
    # Environments that a process has open at the same time, at most. It changes no number of a run, so env files of
    # users need not say it.
    max_lanes: int = 256

    def __post_init__(self) -> None:
        require(self.max_lanes >= 1, "env.max_lanes", self.max_lanes, "at least 1")
        require_arguments(self.kwargs or {})
        _ = self._found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), astuple(self)  # an environment cannot leave its process

    @property
    def step_limit(self) -> int | None:
        """The limit on the steps of an episode that the environment was registered with; None: it has no limit."""
        return self._found.step_limit

    @property
    def name(self) -> str:
        """What error messages call it."""
        return f"env.id={self.id}"

    @property
    def remarks(self) -> list[str]:
        """What the user should know of the environment, in sentences."""
        if not self._found.repeats:
            return [
                f"{self.name} does not repeat itself after a reset with the same seed: a run that is stopped and "
                "resumed differs from one that is not, and begins new episodes."
            ]
        if not self._found.reusable:
            return [f"{self.name} remembers earlier episodes after a reset, so it is made anew for each episode."]
        return []

    @cached_property
    def obs_shape(self) -> tuple[int, ...]:
        """One flat observation, or channels, rows and columns of a picture."""
        return shape_seen(self._spaces[0])

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
        with self._here.called("reset()"):
            for i, rng in enumerate(rngs):
                seed = int(rng.integers(2**31))
                first[i] = State(*self._started(seed, f"lane {i + 1} of {len(rngs)}"))
        return first

    def _started(self, seed: int, lane: str) -> tuple[Episode, int, NDArray[Any]]:
        """A new episode, its number of steps, 0, and its first observation."""
        here, answer = self._here, None
        try:
            env = here.take()
            here.watch.calls += 1
            answer = env.reset(seed=seed)
            obs, _ = answer
            found = seen(self._spaces[0], obs)
            if found.shape != self.obs_shape:
                raise ValueError  # `_failure` says what is wrong
        except (RunError, Interrupted):
            raise
        except BaseException as error:
            fault = "" if answer is None else fault_of_reset(answer, self._spaces[0])
            raise self._failure(error, fault, f"the reset with the seed {seed}, {lane}") from error
        return self._episode(seed, [], env), 0, found

    def observe(self, states: States) -> NDArray[Any]:
        """Observations `[n, O]`; references to pictures `[n, 1]`, so that a batch holds each of them once."""
        return batch(self._spaces[0], [state.obs for state in states])

    def step(self, states: States, actions: NDArray[Any]) -> Step:
        """One step of each lane's environment under ``actions`` `[n, A]`."""
        if self._here.border.apart:
            with self._here.called("step()"):
                return self._stepped(states, actions)
        return self._stepped(states, actions)

    def _stepped(self, states: States, actions: NDArray[Any]) -> Step:
        n, (observations, controls), watch = len(states), self._spaces, self._here.watch
        shape = self.obs_shape
        after, rewards = np.empty(n, object), np.zeros(n)
        ended, cut = np.zeros(n, bool), np.zeros(n, bool)
        success: NDArray[np.float64] | None = None
        answer: Any = None
        i, watch.inside = 0, "step()"
        try:
            for i, (state, action) in enumerate(zip(states, native_actions(controls, actions), strict=True)):
                episode, answer = state.episode, None
                if episode.env is None or state.t < len(episode.actions):
                    episode = self._branch(state)
                env, episode.env = episode.env, None  # after an exception its environment is not used again
                watch.calls += 1
                answer = env.step(action)
                obs, reward, terminated, truncated, info = answer
                episode.actions.append(action)
                episode.env = env
                found = seen(observations, obs)
                if found.shape != shape or not (
                    terminated.__class__ is truncated.__class__ is bool or (is_flag(terminated) and is_flag(truncated))
                ):
                    raise ValueError  # `_failure` says what is wrong
                after[i], rewards[i] = State(episode, state.t + 1, found), float(reward)
                ended[i], cut[i] = terminated, truncated and not terminated
                if info.__class__ is dict and SUCCESS in info:
                    success = np.full(n, nan) if success is None else success
                    with suppress(TypeError, ValueError):  # not a number: nothing is told
                        success[i] = float(info[SUCCESS]) > 0
        except (RunError, Interrupted):
            raise
        except BaseException as error:
            fault = "" if answer is None else fault_of_step(answer, observations)
            where = f"step {states[i].t + 1} of an episode, lane {i + 1} of {n}"
            raise self._failure(error, fault, where) from error
        watch.inside = ""
        return Step(after, rewards, ended, cut, success)

    def _failure(self, error: BaseException, fault: str, where: str) -> RunError:
        """The sentence for an error that left the environment, or for an answer of it with a fault."""
        return RunError(
            f"{self.name}: {fault} ({where})" if fault else f"{self.name} failed at {where} ({said(error)})"
        )

    def _episode(self, seed: int, actions: list[Any], env: Env) -> Episode:
        """An episode that gives its environment back when nobody holds it any more: making one may take long."""
        episode = Episode(seed, actions, env)
        if self._here.owns(env):
            finalize(episode, self._here.give_back, env).atexit = False
        return episode

    def require_copies(self) -> None:
        """Raise ConfigError unless the environment repeats itself after a reset, and its copy continues as it does."""
        self._require_repeats("which sampler=vine needs; use sampler=single")
        require_copies(self.id, self.kwargs, self._spaces[1])

    def _require_repeats(self, needed: str) -> None:
        """Raise ConfigError unless the environment gives the same answers after two resets with the same seed."""
        if not self._found.repeats:
            raise ConfigError(f"env.id={self.id} does not repeat itself after a reset with the same seed, {needed}")

    def for_film(self) -> Drawable:
        """The same environment, made so that it draws its states; ConfigError if it cannot."""
        from trpo_cli.sims.gymnasium_film import Drawn

        return Drawn(self.id, (self.kwargs or {}) | {"render_mode": "rgb_array"}, self.max_lanes)

    def require_saving(self) -> None:
        """Every environment can be saved; see `from_saved`."""

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
        """States whose episodes are replayed when they are first stepped.

        If the environment does not repeat itself, a replay would lead elsewhere: then these are first states of new
        episodes.
        """
        if not self._found.repeats:
            return self.reset([np.random.default_rng(int(lane["seed"])) for lane in saved])
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
            past.copies[t] = copy_of(env)
        return self._episode(past.seed, past.actions[:t], env)

    def _replay(self, past: Episode, t: int) -> Env:
        """The environment after the first ``t`` actions, replayed from the last copy before them or from the reset."""
        start = max((known for known in past.copies if known < t), default=0)
        if start:
            env = copy_of(past.copies[start])
        else:
            env = self._here.take()
            env.reset(seed=past.seed)
        for action in past.actions[start:t]:
            self._here.watch.calls += 1
            env.step(action)
        return env

    @cached_property
    def _found(self) -> Findings:
        """What was found out about the environment before the run."""
        return findings(self.id, self.kwargs)

    @cached_property
    def _spaces(self) -> tuple[Space, Space]:
        """The spaces of observations and of actions."""
        return self._found.observations, self._found.actions

    @cached_property
    def _here(self) -> Environments:
        """The environments of this process."""
        here = Environments(self.id, self.kwargs, self._found.reusable)
        here.border.apart = self._found.apart
        return here
