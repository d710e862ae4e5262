"""What every simulator offers: pure functions of a batch of states, one lane a row.

A lane is one copy of the task. `step` never changes its inputs and lane i of its result depends on lane i of its
inputs alone, so saving, restoring and branching (the vine of Section 5.2) are indexing. A simulator has no memory, no
time limit and no automatic reset: those belong to the rollout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Continuous:
    """Real-valued controls in a box; the policy acts in normalised units, where the box is [-1, 1]."""

    low: Floats  # `[A]` least control, in the simulator's unit; -inf where there is none
    high: Floats  # `[A]` greatest control, in the simulator's unit; inf where there is none

    @property
    def size(self) -> int:
        """Number of controls A."""
        return len(self.low)

    @property
    def centre(self) -> Floats:
        """`[A]` middle of the box; 0 where a bound is infinite."""
        return np.where(self._bounded, 0.5 * self.low + 0.5 * self.high, 0.0)

    @property
    def half_range(self) -> Floats:
        """`[A]` half the width of the box; 1 where a bound is infinite."""
        return np.where(self._bounded, 0.5 * self.high - 0.5 * self.low, 1.0)

    @property
    def _bounded(self) -> NDArray[np.bool_]:
        return np.isfinite(self.low) & np.isfinite(self.high)

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


MAX_LANES = 1024  # where lanes cost nothing but the noise that they may not use up


class Step(NamedTuple):
    """What one control step makes of a batch of n lanes."""

    states: Any  # `[n, S]` states after the step
    rewards: Floats  # `[n]` reward of the step
    terminated: NDArray[np.bool_]  # `[n]` the episode ends with this step


class Simulator(Protocol):
    """A task as pure functions; states are an array (or a dataclass of arrays) whose first axis is the lane."""

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""

    @property
    def action_space(self) -> Continuous | Discrete:
        """The controls `step` takes."""

    @property
    def n_state(self) -> int:
        """Dimension of the state as the paper counts it: positions and velocities."""

    @property
    def max_lanes(self) -> int:
        """Lanes that a process rolls at once: what bounds their memory."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> Any:
        """First states, lane i drawn from ``rngs[i]`` alone."""

    def observe(self, states: Any) -> NDArray[Any]:
        """What the policy sees of each state, `[n, *obs_shape]`; of pictures, references to single frames, `[n, K]`."""

    def step(self, states: Any, actions: NDArray[Any]) -> Step:
        """One control step from ``states`` under ``actions`` `[n, A]`, in the action space's unit."""


@runtime_checkable
class Drawable(Protocol):
    """What a simulator may offer beside, for films of its episodes.

    One whose step lasts a known time says how long in seconds as ``dt``.
    """

    def render(self, states: Any) -> NDArray[np.uint8]:
        """Pictures `[n, height, width, 3]` of ``states``, red, green and blue."""
