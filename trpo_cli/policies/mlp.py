"""The fully connected network (Section 8.1, Figure 3): its products J v and Jᵀ u are written out on saved activations.

A chunk of states is small enough to stay in the processor's cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.errors import ConfigError, require
from trpo_cli.policies.base import InputMap, Linearization
from trpo_cli.policies.distributions import Array, distribution_for
from trpo_cli.policies.kernels import IN_NUMPY, NONLINEARITIES, by_column, outer, scratch
from trpo_cli.policies.network_policy import NetworkPolicy, ScaledInputs
from trpo_cli.sims.base import ActionSpace


@dataclass(frozen=True)
class MlpNetwork:
    """A fully connected network. θ holds, layer by layer, weights ``[fan_in, fan_out]`` and biases ``[fan_out]``."""

    sizes: tuple[int, ...]  # inputs, hidden layers, outputs
    nonlinearity: str
    output_norm: float  # of each output column of the initial weights
    hidden_norm: float  # of each hidden column
    dtype: torch.dtype

    @property
    def n_parameters(self) -> int:
        """D."""
        return sum((a + 1) * b for a, b in pairwise(self.sizes))

    def initial(self, rng: np.random.Generator) -> Tensor:
        """A fresh θ ``[D]``: random directions of the given column norms, zero biases (authors' code)."""
        parts: list[NDArray[np.float64]] = []
        for i, (a, b) in enumerate(pairwise(self.sizes)):
            w = rng.standard_normal((a, b))
            norm = self.output_norm if i == len(self.sizes) - 2 else self.hidden_norm
            parts += [(w * norm / np.linalg.norm(w, axis=0)).ravel(), np.zeros(b)]
        return torch.as_tensor(np.concatenate(parts), dtype=self.dtype)

    @cached_property
    def _lengths(self) -> list[int]:
        """Numbers in each piece of θ: weights and biases of each layer."""
        return [n for a, b in pairwise(self.sizes) for n in (a * b, b)]

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of θ ``[..., D]`` as (weights ``[..., a, b]``, biases ``[..., 1, b]``)."""
        lead, pieces = theta.shape[:-1], theta.split_with_sizes(self._lengths, -1)
        each = zip(pairwise(self.sizes), pieces[::2], pieces[1::2], strict=True)
        return [(w.view(*lead, a, b), bias.view(*lead, 1, b)) for (a, b), w, bias in each]

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Weights ``w0 [fan_in, fan_out]``, biases ``b0 [fan_out]``, ``w1``, ``b1``, … of θ ``[D]``."""
        layers = enumerate(self.layers(theta))
        return {name: x for i, (w, b) in layers for name, x in ((f"w{i}", w), (f"b{i}", b[0]))}

    def output_layer(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the last layer's weights ``[fan_in, n_out]`` and biases ``[1, n_out]``."""
        return self.layers(theta)[-1]

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on inputs ``[m, O]`` -> ``[m, n_out]``."""
        f, _ = NONLINEARITIES[self.nonlinearity]
        *hidden, (w_out, b_out) = self.layers(theta)
        x = inputs
        for w, b in hidden:
            x = f(torch.addmm(b, x, by_column(w)))
        return torch.addmm(b_out, x, by_column(w_out))

    def output_by_row(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[Q, D]`` on inputs ``[Q, O]`` -> ``[Q, n_out]``."""
        f, _ = NONLINEARITIES[self.nonlinearity]
        *hidden, (w_out, b_out) = self.layers(theta)
        x = inputs[:, None]
        for w, b in hidden:
            x = f(torch.baddbmm(b, x, w))
        return torch.baddbmm(b_out, x, w_out)[:, 0]

    def in_numpy(self, theta: Tensor) -> Callable[[Array], Array]:
        """``output`` of θ ``[D]`` in NumPy."""
        *hidden, (w_out, b_out) = [(w.numpy(), b.numpy()) for w, b in self.layers(theta)]
        f = IN_NUMPY[self.nonlinearity]

        def output(x: Array) -> Array:
            for w, b in hidden:
                x = f(x @ w + b)
            return x @ w_out + b_out

        return output

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization:
        """The network on inputs ``[m, O]``, with J v and Jᵀ u on activations saved once."""
        layers = self.layers(theta)
        f, slope = NONLINEARITIES[self.nonlinearity]
        seen, slopes = [inputs], []  # inputs of each layer, and the slopes of its nonlinearity
        for w, b in layers[:-1]:
            z = torch.addmm(b, seen[-1], w)
            seen.append(f(z))
            slopes.append(slope(z, seen[-1]))
        w, b = layers[-1]
        out = torch.addmm(b, seen[-1], by_column(w))

        def jvp(v: Tensor) -> Tensor:
            tangents = self.layers(v)
            dw, db = tangents[-1]
            result = torch.addmm(db, seen[-1], by_column(dw))
            tangent = None
            for i, ((w, _), (dw, db)) in enumerate(zip(layers[:-1], tangents[:-1], strict=True)):
                dz = torch.addmm(db, seen[i], dw, out=scratch(i, seen[i + 1]))
                if tangent is not None:
                    dz.addmm_(tangent, w)
                tangent = dz.mul_(slopes[i])
            if tangent is not None:
                result.addmm_(tangent, by_column(layers[-1][0]))
            return result

        def vjp(u: Tensor) -> Tensor:
            result, delta = torch.empty_like(theta), u
            for i, (w_out, b_out) in reversed(list(enumerate(self.layers(result)))):
                w_out.copy_(outer(seen[i], delta))
                torch.sum(delta, 0, keepdim=True, out=b_out)
                if i:
                    delta = torch.mm(delta, layers[i][0].T, out=scratch(i - 1, seen[i])).mul_(slopes[i - 1])
            return result

        return Linearization(out, jvp, vjp)


def _positive(x: object) -> bool:
    return isinstance(x, int | float) and 0 < x < inf


@dataclass(frozen=True)
class Mlp:
    """Hyperparameters of a fully connected policy; numbers and sources stand in ``conf/policy/mlp.yaml``."""

    hidden_sizes: tuple[int, ...]  # units of each hidden layer; () is a linear policy
    nonlinearity: str  # softplus, tanh or relu
    initial_std: float  # of continuous actions, as a fraction of half the action range
    output_norm: float  # norm of each output column of the initial weights
    hidden_norm: float  # norm of each hidden column of the initial weights
    precision: str  # float32 or float64
    input_scale: Any  # half-range of each input, "percentile" (of a fresh policy's steps), "running" or "none"
    input_clip: float  # scaled inputs are clipped to plus or minus this

    def __post_init__(self) -> None:
        named = self.input_scale in ("percentile", "running", "none")
        listed = isinstance(self.input_scale, list) and all(_positive(x) for x in self.input_scale)
        what = "percentile, running, none, or a list of numbers > 0, one per input"
        require(named or listed, "policy.input_scale", self.input_scale, what)
        if not self.input_clip > 0:
            raise ConfigError(f"policy.input_clip={self.input_clip} must be > 0 (.inf for no clip)")
        if any(n < 1 for n in self.hidden_sizes):
            raise ConfigError(f"policy.hidden_sizes={list(self.hidden_sizes)}: every layer needs at least 1 unit")
        if self.nonlinearity not in NONLINEARITIES:
            known = ", ".join(NONLINEARITIES)
            raise ConfigError(f"policy.nonlinearity={self.nonlinearity} is unknown; choose one of {known}")
        for name in ("initial_std", "output_norm", "hidden_norm"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"policy.{name}={getattr(self, name)} must be a finite number > 0")
        if self.precision not in ("float32", "float64"):
            raise ConfigError(f"policy.precision={self.precision} must be float32 or float64")

    def unused(self) -> dict[str, str]:
        """What a linear policy does not need; `NetworkPolicy.unused` says the rest."""
        linear = "policy.hidden_sizes=[] is linear, with no hidden layer"
        return {} if self.hidden_sizes else {"nonlinearity": linear, "hidden_norm": linear}

    def build(self, obs_shape: tuple[int, ...], actions: ActionSpace) -> NetworkPolicy:
        """The policy for observations of this shape and this action space."""
        n_inputs = prod(obs_shape)
        if len(obs_shape) == 3:
            raise ConfigError(
                f"policy=mlp cannot see images, and this task's observation has the shape {list(obs_shape)}; "
                "use policy=conv, with critic=conv or critic=none"
            )
        if isinstance(self.input_scale, list) and len(self.input_scale) != n_inputs:
            raise ConfigError(
                f"policy.input_scale has {len(self.input_scale)} numbers and the observation {n_inputs}: "
                "give one per input"
            )
        dist, dtype = distribution_for(actions), torch.float32 if self.precision == "float32" else torch.float64
        sizes = (n_inputs, *self.hidden_sizes, dist.n_params - dist.n_free)
        half_range = np.asarray(self.input_scale if isinstance(self.input_scale, list) else [1.0], float)
        input_map = InputMap(np.zeros_like(half_range), half_range, self.input_clip)
        return NetworkPolicy(
            MlpNetwork(sizes, self.nonlinearity, self.output_norm, self.hidden_norm, dtype),
            dist,
            ScaledInputs(dtype, input_map),
            self.initial_std,
            input_scale=self.input_scale if self.input_scale in ("percentile", "running") else "fixed",
        )
