"""What every simulator offers: pure functions of a batch of states, one row per lane.

A lane is one copy of the task. `step` never changes its inputs, and lane i of its result depends only on lane i of its
inputs. So saving a state, restoring it and branching from it (the vine of Section 5.2) are indexing. A simulator has no
memory, no time limit and no automatic reset: these belong to the rollout.

`Simulator` is complete: an object with exactly its members can be trained on. What a simulator may offer in addition is
declared by the small protocols after it: `Drawable`, `Filmable`, `Timed`, `Copyable`, `Savable`, `Limited`, `Named`,
`Remarking`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError

Floats = NDArray[np.float64]


class ActionSpace(Protocol):
    """The controls that a simulator takes, and how they are made from the policy's actions."""

    @property
    def size(self) -> int:
        """Numbers per action: controls, or chosen options."""

    @property
    def factors(self) -> tuple[int, ...] | None:
        """Number of options of each factor; None if the controls are real numbers."""

    def controls(self, actions: NDArray[Any]) -> NDArray[Any]:
        """What `Simulator.step` takes, ``[..., size]``, for actions ``[..., size]`` of the policy."""


@dataclass(frozen=True, eq=False)
class Continuous:
    """Real-valued controls in a box. The policy acts in normalised units, in which the box is [-1, 1]."""

    low: Floats  # `[A]` smallest control, in the simulator's unit; -inf if there is none
    high: Floats  # `[A]` greatest control, in the simulator's unit; inf if there is none

    @property
    def size(self) -> int:
        """Number of controls A."""
        return len(self.low)

    @property
    def factors(self) -> None:
        """None: the controls are real numbers."""
        return None

    @cached_property
    def centre(self) -> Floats:
        """`[A]` middle of the box; 0 if a bound is infinite."""
        low, high = self._finite_bounds
        return 0.5 * low + 0.5 * high

    @cached_property
    def half_range(self) -> Floats:
        """`[A]` half the width of the box; 1 if a bound is infinite."""
        low, high = self._finite_bounds
        return 0.5 * high - 0.5 * low

    @property
    def _finite_bounds(self) -> tuple[Floats, Floats]:
        """The bounds; -1 and 1 if one of the two is infinite."""
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        return np.where(bounded, self.low, -1.0), np.where(bounded, self.high, 1.0)

    def controls(self, normalised: NDArray[Any]) -> Floats:
        """Controls `[..., A]` of normalised actions `[..., A]`: centre + half-range * action, not clipped."""
        return self.centre + self.half_range * np.asarray(normalised, dtype=np.float64)


@dataclass(frozen=True)
class Discrete:
    """A factored choice: one of ``factors[j]`` options for each factor j (Appendix D)."""

    factors: tuple[int, ...]  # number of options of each factor

    @property
    def size(self) -> int:
        """Number of factors."""
        return len(self.factors)

    def controls(self, actions: NDArray[Any]) -> NDArray[np.int64]:
        """The option indices `[..., size]` as integers."""
        return np.asarray(actions, dtype=np.int64)


MAX_LANES = (
    1024  # for simulators whose lanes are cheap; bounds the memory for noise, drawn for whole episodes in advance
)


class Step(NamedTuple):
    """What one control step makes of a batch of n lanes.

    An episode can end in two ways. After a terminal state no reward can follow: a value function takes the value of
    ``states`` as 0. After a truncation rewards would have followed: a value function estimates them from ``states``.
    """

    states: Any  # `[n, S]` states after the step
    rewards: Floats  # `[n]` reward of the step
    terminated: NDArray[np.bool_]  # `[n]` the step reached a terminal state; the value of the new state is 0
    # `[n]` the environment itself cut the episode here, without a terminal state; the value of the new state is
    # estimated. None: never. No lane is both: terminated wins.
    truncated: NDArray[np.bool_] | None = None
    # `[n]` 1 if the task counts as solved at this step, 0 if not; NaN if nobody says. None: of no lane
    success: Floats | None = None


class Simulator(Protocol):
    """A task as pure functions. States are an array, or a dataclass of arrays, whose first axis is the lane."""

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""

    @property
    def action_space(self) -> ActionSpace:
        """The controls that `step` takes."""

    @property
    def n_state(self) -> int:
        """Dimension of the state as the paper counts it: positions and velocities."""

    @property
    def max_lanes(self) -> int:
        """How many lanes a process steps at once; this bounds their memory."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> Any:
        """First states; lane i draws from ``rngs[i]`` and from nothing else."""

    def observe(self, states: Any) -> NDArray[Any]:
        """What the policy sees of each state, `[n, *obs_shape]`; for images, references to single frames, `[n, K]`."""

    def step(self, states: Any, actions: NDArray[Any]) -> Step:
        """One control step from ``states`` under ``actions`` `[n, A]`, in the action space's unit."""


@runtime_checkable
class Drawable(Protocol):
    """A simulator whose states can be drawn, for films of its episodes."""

    def render(self, states: Any) -> NDArray[np.uint8]:
        """Pictures `[n, height, width, 3]` of ``states``: red, green and blue."""


@runtime_checkable
class Filmable(Protocol):
    """A simulator that draws its states only if it is made for a film, because drawing takes time and libraries."""

    def for_film(self) -> Drawable:
        """The same simulator, made so that it draws its states; ConfigError if it cannot."""


@runtime_checkable
class Timed(Protocol):
    """A simulator whose step lasts a known time, so that a film of it can run at the right speed."""

    @property
    def dt(self) -> float:
        """Seconds per control step."""


@runtime_checkable
class Copyable(Protocol):
    """A simulator that has to check whether its states can be stepped more than once.

    A simulator whose states are plain arrays needs no check and does not have this member.
    """

    def require_copies(self) -> None:
        """Raise ConfigError unless several branches can start from one state, as the vine needs it."""


SavedState = dict[str, NDArray[Any]]  # one lane's state as arrays of numbers, by name


@runtime_checkable
class Savable(Protocol):
    """A simulator whose states are objects, and that can turn them into arrays of numbers and back, for a checkpoint.

    A simulator whose states are plain arrays of numbers does not have these members.
    """

    def require_saving(self) -> None:
        """Raise ConfigError unless a state that was saved continues as the original would."""

    def to_saved(self, states: Any) -> list[SavedState]:
        """Each of the states ``[n]`` as arrays."""

    def from_saved(self, saved: Sequence[SavedState]) -> Any:
        """The states ``[n]`` that `to_saved` turned into arrays."""


def to_saved(sim: "Simulator", states: NDArray[Any]) -> list[SavedState]:
    """Each of the states ``[n]`` of ``sim`` as arrays."""
    return sim.to_saved(states) if isinstance(sim, Savable) else [{"state": np.array(state)} for state in states]


def from_saved(sim: "Simulator", saved: Sequence[SavedState]) -> NDArray[Any]:
    """The states ``[n]`` of ``sim`` that `to_saved` turned into arrays."""
    states: NDArray[Any] = (
        sim.from_saved(saved) if isinstance(sim, Savable) else np.array([lane["state"] for lane in saved])
    )
    return states


def require_savable(sim: "Simulator", needs: str) -> None:
    """Raise ConfigError unless the states of ``sim`` can be saved in a checkpoint; ``needs`` says what needs it."""
    if isinstance(sim, Savable):
        sim.require_saving()
    elif np.asarray(sim.reset([np.random.default_rng(0)])).dtype == object:
        raise ConfigError(f"{needs} needs states that can be saved, and those of this simulator cannot be")


@runtime_checkable
class Limited(Protocol):
    """A simulator that may know how long an episode of its environment usually lasts at most."""

    @property
    def step_limit(self) -> int | None:
        """The limit on the steps of an episode that the environment was registered with; None: it has no limit."""


@runtime_checkable
class Named(Protocol):
    """A simulator that has a name of its own for error messages; any other is "the simulator"."""

    @property
    def name(self) -> str:
        """Such as "env.id=CartPole-v1"."""


@runtime_checkable
class Remarking(Protocol):
    """A simulator that may have something to say to the user before a run, which goes on nevertheless."""

    @property
    def remarks(self) -> list[str]:
        """Sentences; shown once, and kept in run.json."""


@dataclass(frozen=True)
class Task:
    """A simulator and the limit on the steps of an episode: there is one limit, and everybody uses it.

    Reaching the limit is a truncation, not a terminal state: a value function estimates what would have followed.

    Raises:
        ConfigError: the limit is less than one step.
    """

    sim: Simulator
    step_limit: int

    def __post_init__(self) -> None:
        if not self.step_limit >= 1:
            raise ConfigError(f"step_limit={self.step_limit} must be at least 1")
