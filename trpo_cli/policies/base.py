"""What a policy is: network × distribution × input map (Section 8.1, Figure 3, Appendix D).

Parameters θ are one flat array that is passed in, and results are on its device. A policy is linearised a chunk of
states at a time.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.policies.distributions import Array, Distribution
from trpo_cli.sims.base import ActionSpace

Acting = Callable[[Array, NDArray[np.float32]], tuple[Array, Array]]  # obs, noise -> params, actions


@dataclass(frozen=True)
class Linearization:
    """A function of θ on one chunk of m inputs, and its Jacobian J at θ as two products.

    P is the number of a network's outputs, or of a policy's distribution parameters.
    """

    params: Tensor  # [m, P]
    jvp: Callable[[Tensor], Tensor]  # v [D] -> J v [m, P]
    vjp: Callable[[Tensor], Tensor]  # u [m, P] -> Jᵀ u [D]


class Network(Protocol):
    """A pure function of flat parameters.

    It may offer more: `Linearizes`, `ActsInNumpy` and `TakesRows`, for speed; `NamesParameters`, for exported files.
    """

    @property
    def n_parameters(self) -> int:
        """D."""
        ...

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Fresh parameters ``[D]``."""
        ...

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on inputs ``[m, …]`` -> ``[m, n_out]``."""
        ...


@runtime_checkable
class Linearizes(Protocol):
    """A network that has its own products J v and Jᵀ u; for others ``torch.func`` makes them."""

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization: ...


@runtime_checkable
class ActsInNumpy(Protocol):
    """A network that also runs in NumPy, inputs ``[n, O]`` -> ``[n, n_out]``: torch is slow after a simulator step."""

    def in_numpy(self, theta: Tensor) -> Callable[[Array], Array]: ...


@runtime_checkable
class NamesParameters(Protocol):
    """A network whose θ ``[D]`` has pieces with names; they stand in θ in the order of the dictionary."""

    def named(self, theta: Tensor) -> dict[str, Tensor]: ...


@runtime_checkable
class TakesRows(Protocol):
    """A network that evaluates many parameter vectors at once: θ ``[Q, D]`` on inputs ``[Q, …]`` -> ``[Q, n_out]``."""

    def output_by_row(self, theta: Tensor, inputs: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class InputMap:
    """An affine map of the observation to about [-1, 1], then a clip; the identity by default."""

    centre: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))  # [O] or [1]
    half_range: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))  # [O] or [1]
    clip: float = inf  # mapped inputs are clipped to plus or minus this

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers by name, as a checkpoint holds them."""
        arrays = {"centre": self.centre, "half_range": self.half_range}
        return {**{name: torch.from_numpy(np.array(x)) for name, x in arrays.items()}, "clip": self.clip}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The map that ``to_dict`` saved."""
        return cls(saved["centre"].numpy(), saved["half_range"].numpy(), saved["clip"])


class Policy(Protocol):
    """What samplers, optimizers, training and evaluation ask of a policy, and all they ask of it."""

    @property
    def dist(self) -> Distribution: ...
    @property
    def n_parameters(self) -> int:
        """D."""
        ...

    @property
    def chunk_size(self) -> int:
        """How many states to evaluate or linearise at a time."""
        ...

    @property
    def input_scale(self) -> str:
        """How the input map comes about: ``fixed``, ``percentile`` or ``running``.

        fixed: it is given. percentile: it is measured before the first iteration. running: it is made after each
        iteration, of all observations so far.
        """
        ...

    @property
    def input_map(self) -> InputMap: ...
    def with_input_map(self, input_map: InputMap) -> "Policy":
        """The same policy behind another input map."""
        ...

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Fresh parameters θ ``[D]``."""
        ...

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        """Observations ``[m, O]`` as ``params`` and ``linearize`` take them: mapped, in the policy's precision."""
        ...

    def params(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on inputs ``[m, …]`` -> ``[m, P]``; θ ``[Q, D]`` on ``[Q, …]`` -> ``[Q, P]``, row by row."""
        ...

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization: ...
    def acting(self, theta: Tensor) -> Acting | None:
        """``params`` and ``dist.sample`` on raw observations, in NumPy, for rollouts; None if torch has to do it."""
        ...


@runtime_checkable
class Exportable(Protocol):
    """A policy that can leave the tool as one graph of tensor operations: ``params(theta, mapped(obs))``."""

    def mapped(self, obs: Tensor) -> Tensor:
        """What `Policy.tensor` makes of observations ``[m, …]``, for observations that are a tensor already."""
        ...

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """θ ``[D]`` as its pieces, in order, by name."""
        ...


class PolicyConfig(Protocol):
    """What ``policy=`` names: hyperparameters that become a policy once the task is known."""

    def build(self, obs_shape: tuple[int, ...], actions: ActionSpace) -> Policy:
        """The policy for observations of this shape and this action space; ConfigError if there is none."""
        ...


def chunks(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of ``range(n)``, at most ``size`` long."""
    return (slice(i, min(i + size, n)) for i in range(0, n, size))
