"""What every sampler does: from a policy to the batch of its next update (Section 5, Figure 1)."""

from dataclasses import dataclass
from math import nan
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli import errors
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.episodes import Stats
from trpo_cli.samplers.randomness import Draw
from trpo_cli.samplers.rollout import Rollout
from trpo_cli.samplers.streams import Streams
from trpo_cli.sims.base import Simulator, Task

ROUNDING = 1e-20  # a variance below this fraction of the mean square is rounding error


class ValueFunction(Protocol):
    """What a sampler asks of a critic."""

    @property
    def gae_lambda(self) -> float:
        """λ of the advantages."""
        ...

    @property
    def least_advantage(self) -> float:
        """Deviation of the advantages, relative to the size of the rewards, below which they are errors of V."""
        ...

    def __call__(self, obs: NDArray[np.generic]) -> NDArray[np.float64]:
        """V ``[n]`` of observations ``[n, O]``, in units of reward."""
        ...


@runtime_checkable
class Budgeted(Protocol):
    """A sampler whose batches may have a budget of environment steps."""

    @property
    def steps_per_iteration(self) -> int | None:
        """The budget; None: there is none."""
        ...


@dataclass(frozen=True)
class Memory:
    """What earlier iterations hand to a sampler."""

    # The expected length of an episode in steps, NaN if unknown. It decides how many steps beyond a budget are
    # simulated and dropped. The batch is the same for every hint.
    hint: float = nan
    value: ValueFunction | None = None  # the critic before this iteration; the batch then has targets for it
    streams: Streams | None = None  # where the streams stand; None before the first iteration


class Sampled(NamedTuple):
    """The batch of one iteration and its statistics."""

    batch: Batch
    stats: Stats
    streams: Streams | None = None  # where the streams stand after it; None if the sampler has none


class Sampler(Protocol):
    """Draws the batch of one iteration."""

    @property
    def whole_paths(self) -> bool:
        """True if the batch consists of whole episodes (`Batch.paths`), which some optimizers need."""
        ...

    @property
    def n_lanes(self) -> int | None:
        """How many episodes run at the same time; more workers would have nothing to do. None: as many as it takes."""
        ...

    def check(self, sim: Simulator, has_critic: bool) -> None:
        """Raise ConfigError if the sampler cannot work with this simulator, or not with or without a critic."""
        ...

    def __call__(
        self, task: Task, policy: Policy, theta: Tensor, draw: Draw, group: Group, memory: Memory = Memory()
    ) -> Sampled:
        """The batch of ``theta`` ``[D]`` and its statistics."""
        ...


def values_beyond(value: ValueFunction, roll: Rollout) -> NDArray[np.float64]:
    """V ``[n]`` of what each lane saw after its last step; 0 if it terminated, because no reward can follow."""
    beyond, goes_on = np.zeros(roll.n_lanes), ~roll.terminated
    beyond[goes_on] = value(roll.final_obs[goes_on])
    return beyond


def require(holds: bool, field: str, value: object, what: str) -> None:
    """Refuse a setting of the sampler with a sentence that names field, value and what would work."""
    errors.require(holds, f"sampler.{field}", value, what)
