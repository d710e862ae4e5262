"""A policy from any network: an input map, the network, and an action distribution."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, log, nan
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.policies import autodiff
from trpo_cli.policies.base import (
    Acting,
    ActsInNumpy,
    InputMap,
    Linearization,
    Linearizes,
    NamesParameters,
    Network,
    TakesRows,
)
from trpo_cli.policies.distributions import Array, Distribution, SamplesInNumpy
from trpo_cli.policies.kernels import CHUNK


class Inputs(Protocol):
    """How observations become the network's inputs."""

    @property
    def input_map(self) -> InputMap: ...
    def with_map(self, input_map: InputMap) -> "Inputs": ...
    def tensor(self, obs: NDArray[np.generic]) -> Tensor: ...
    def mapped(self, obs: Tensor) -> Tensor: ...
    def array(self, obs: Array) -> Array: ...


@dataclass(frozen=True)
class ScaledInputs:
    """Real-valued observations, mapped and in the network's precision."""

    dtype: torch.dtype
    input_map: InputMap = InputMap()  # noqa: RUF009 - a frozen value

    def with_map(self, input_map: InputMap) -> "ScaledInputs":
        """The same with another map."""
        return replace(self, input_map=input_map)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """The map as (shift, scale): x -> shift + scale · x."""
        scale = 1 / self.input_map.half_range
        maps = (-self.input_map.centre * scale, scale)
        return tuple(torch.as_tensor(m, dtype=self.dtype) for m in maps)  # type: ignore[return-value]

    @cached_property
    def _affine_arrays(self) -> tuple[Array, Array]:
        shift, scale = self._affine
        return shift.numpy(), scale.numpy()

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        """Observations ``[..., O]`` as a tensor."""
        return self.mapped(torch.from_numpy(obs))

    def mapped(self, obs: Tensor) -> Tensor:
        """The map on observations that are a tensor already."""
        shift, scale = self._affine
        x = torch.addcmul(shift, obs.to(self.dtype), scale)
        clip = self.input_map.clip
        return x if clip == inf else x.clamp_(-clip, clip)

    def array(self, obs: Array) -> Array:
        """Observations ``[n, O]`` as an array."""
        shift, scale = self._affine_arrays
        x = obs * scale + shift
        clip = self.input_map.clip
        return x if clip == inf else np.minimum(np.maximum(x, -clip), clip)


@dataclass(frozen=True)
class NetworkPolicy:
    """A policy from its three parts; θ is the network's parameters, then the distribution's own (log-stds ``[A]``)."""

    network: Network
    dist: Distribution
    inputs: Inputs
    initial_std: float = nan  # of continuous actions, in normalised action units
    input_scale: str = "fixed"  # or percentile, or running: see `Policy.input_scale`
    chunk_size: int = CHUNK

    @property
    def n_parameters(self) -> int:
        """D."""
        return self.network.n_parameters + self.dist.n_free

    def unused(self) -> dict[str, str]:
        """Only a distribution with parameters of its own has an initial standard deviation."""
        return {} if self.dist.n_free else {"initial_std": "the actions are discrete"}

    @property
    def input_map(self) -> InputMap:
        """The map of observations to inputs."""
        return self.inputs.input_map

    def with_input_map(self, input_map: InputMap) -> "NetworkPolicy":
        """The same policy behind another input map."""
        return replace(self, inputs=self.inputs.with_map(input_map))

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        """Observations as the network's inputs."""
        return self.inputs.tensor(obs)

    def mapped(self, obs: Tensor) -> Tensor:
        """The same for observations that are a tensor already."""
        return self.inputs.mapped(obs)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """θ ``[D]`` as its pieces, in order, by name."""
        weights, free = self._split(theta)
        pieces = self.network.named(weights) if isinstance(self.network, NamesParameters) else {"theta": weights}
        return pieces | ({"log_std": free} if self.dist.n_free else {})

    def initial(self, rng: np.random.Generator) -> Tensor:
        """A fresh θ ``[D]``."""
        theta = self.network.initial(rng)
        if not self.dist.n_free:
            return theta
        return torch.cat([theta, theta.new_full((self.dist.n_free,), log(self.initial_std))])

    def _split(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """θ ``[..., D]`` as the network's parameters and the distribution's own."""
        n = self.network.n_parameters
        return theta[..., :n], theta[..., n:]

    def _complete(self, output: Tensor, free: Tensor) -> Tensor:
        """Distribution parameters ``[m, P]``: the network's output, then the distribution's own parameters."""
        return torch.cat([output, free.expand(output.shape[0], -1)], -1) if self.dist.n_free else output

    def params(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on inputs ``[m, …]`` -> ``[m, P]``; θ ``[Q, D]`` on ``[Q, …]`` -> ``[Q, P]``, row by row."""
        weights, free = self._split(theta)
        inputs = inputs if inputs.device == theta.device else inputs.to(theta.device)
        if theta.dim() == 1:
            return self._complete(self.network.output(weights, inputs), free)
        if isinstance(self.network, TakesRows):
            return self._complete(self.network.output_by_row(weights, inputs), free)
        return self._complete(autodiff.output_by_row(self.network.output, weights, inputs), free)

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization:
        """The policy on inputs ``[m, …]``, with J v and Jᵀ u."""
        weights, free = self._split(theta)
        inputs = inputs.to(theta.device)
        if isinstance(self.network, Linearizes):
            linear = self.network.linearize(weights, inputs)
        else:
            linear = autodiff.linearize(self.network.output, weights, inputs)
        if not self.dist.n_free:
            return linear
        n_out = linear.params.shape[1]

        def jvp(v: Tensor) -> Tensor:
            weights, free = self._split(v)
            return self._complete(linear.jvp(weights), free)

        def vjp(u: Tensor) -> Tensor:
            return torch.cat([linear.vjp(u[:, :n_out]), u[:, n_out:].sum(0)])

        return Linearization(self._complete(linear.params, free), jvp, vjp)

    def acting(self, theta: Tensor) -> Acting | None:
        """``params`` and ``dist.sample`` on raw observations ``[n, O]``, in NumPy, if network and distribution can.

        After a simulator step torch's code is no longer in the CPU's cache: one call then takes five times as long as
        this whole function.
        """
        if not (isinstance(self.network, ActsInNumpy) and isinstance(self.dist, SamplesInNumpy)):
            return None
        weights, free = self._split(theta)
        network: Callable[[Array], Array] = self.network.in_numpy(weights)
        sample = self.dist.in_numpy(free.numpy())
        array = self.inputs.array
        return lambda obs, noise: sample(network(array(obs)), noise)
