"""What a policy is: a network from observations to distribution parameters (Section 8.1, Figure 3, Appendix D).

Parameters θ are one flat array that is passed in, and results are on its device. A policy is linearised a chunk of
states at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.policies.distributions import Distribution
from trpo_cli.policies.kernels import Array

Acting = Callable[[Array, NDArray[np.float32]], tuple[Array, Array]]  # obs, noise -> params, actions


@dataclass(frozen=True)
class Linearization:
    """A policy's output on one chunk of states, and its Jacobian J at θ as two products."""

    params: Tensor  # [m, P]
    jvp: Callable[[Tensor], Tensor]  # v [D] -> J v [m, P]
    vjp: Callable[[Tensor], Tensor]  # u [m, P] -> Jᵀ u [D]


@dataclass(frozen=True)
class InputMap:
    """A fixed affine map of the observation to about [-1, 1], then a clip; the identity by default."""

    centre: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))  # [O] or [1]
    half_range: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))  # [O] or [1]
    clip: float = inf


class Policy(Protocol):
    """What samplers and optimizers ask of a policy."""

    @property
    def dist(self) -> Distribution: ...
    @property
    def n_parameters(self) -> int: ...
    @property
    def chunk_size(self) -> int:
        """States to evaluate or linearise at a time."""
        ...

    def initial(self, rng: np.random.Generator) -> Tensor: ...
    def params(self, theta: Tensor, obs: Tensor) -> Tensor: ...
    def acting(self, theta: Tensor) -> Acting | None: ...
    def linearize(self, theta: Tensor, obs: Tensor) -> Linearization: ...
    def tensor(self, obs: NDArray[np.generic]) -> Tensor: ...


def chunks(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``range(n)``, at most ``size`` long."""
    return (slice(i, min(i + size, n)) for i in range(0, n, size))
