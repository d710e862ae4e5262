"""What a critic is: a value function that is fitted to each batch, its state a value (not in the paper)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy, chunks

Stats = dict[str, float]


@dataclass(frozen=True)
class CriticState:
    """Parameters of the value network, and the unit of its output."""

    theta: Tensor  # [D]
    mean: float = 0.0  # V of an output of 0, in units of reward
    std: float = 1.0  # what an output of 1 adds, in units of reward
    advantage_variance: float | None = None  # running mean over the batches, in units of reward squared

    def after_advantages(self, variance: float, memory: float) -> tuple[Self, float]:
        """The state after a batch whose advantages have this variance, and the variance relative to the running one.

        memory: weight of the running variance so far. The ratio is at most 1.
        """
        before = variance if self.advantage_variance is None else self.advantage_variance
        running = memory * before + (1 - memory) * variance
        return replace(self, advantage_variance=running), min(1.0, variance / running) if running > 0 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers by name, as a checkpoint holds them."""
        saved = {"theta": self.theta.cpu(), "mean": self.mean, "std": self.std}
        more = {} if self.advantage_variance is None else {"advantage_variance": self.advantage_variance}
        return saved | more

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The state that ``to_dict`` saved."""
        return cls(saved["theta"], saved["mean"], saved["std"], saved.get("advantage_variance"))


class Critic(Protocol):
    """A value function on the policy's inputs."""

    @property
    def gae_lambda(self) -> float:
        """λ of the advantages that are made from it."""
        ...

    @property
    def least_advantage(self) -> float:
        """Deviation of the advantages, relative to the size of the rewards, below which they are errors of V."""
        ...

    @property
    def advantage_memory(self) -> float:
        """Weight of the advantages' running variance. A batch with less variance makes a smaller step; 0: none does."""
        ...

    @property
    def max_states(self) -> int | None:
        """How many states of a batch, over all workers, a fit uses at most; None: all."""
        ...

    def initial(self, rng: np.random.Generator) -> CriticState:
        """The state before the first batch."""
        ...

    def values(self, state: CriticState, inputs: Tensor) -> NDArray[np.float64]:
        """V ``[n]`` in units of reward, for the policy's inputs ``[n, …]``."""
        ...

    def fit(
        self, state: CriticState, inputs: Tensor, targets: NDArray[np.float64], group: Group
    ) -> tuple[CriticState, Stats]:
        """The state fitted to this worker's inputs ``[m, …]`` and targets ``[m]``, and the ``critic/`` statistics."""
        ...


class CriticConfig(Protocol):
    """What ``critic=`` names: hyperparameters that become a critic once the task is known."""

    def build(self, obs_shape: tuple[int, ...]) -> Critic:
        """The critic for observations of this shape; ConfigError if it cannot be."""
        ...


@dataclass(frozen=True)
class Value:
    """A critic with its state, as a sampler asks it."""

    critic: Critic
    state: CriticState
    policy: Policy  # its input map is the critic's too

    @property
    def gae_lambda(self) -> float:
        """λ."""
        return self.critic.gae_lambda

    @property
    def least_advantage(self) -> float:
        """Where advantages begin to mean something."""
        return self.critic.least_advantage

    def __call__(self, obs: NDArray[np.generic]) -> NDArray[np.float64]:
        """V ``[n]`` of observations ``[n, O]``, in units of reward."""
        size = self.policy.chunk_size  # images take a lot of memory
        parts = [self.critic.values(self.state, self.policy.tensor(obs[rows])) for rows in chunks(len(obs), size)]
        return np.concatenate(parts) if parts else np.zeros(0)
