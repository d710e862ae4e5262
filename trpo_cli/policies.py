"""Networks from observations to distribution parameters (Section 8.1, Figure 3, Appendix D).

Parameters θ are one flat array that is passed in. A policy is linearised a chunk of states at a time: the products
J v and Jᵀ u of Appendix C are written out on saved activations, and a chunk is small enough to stay in the cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from trpo_cli.distributions import DiagonalGaussian, Distribution, FactoredCategorical
from trpo_cli.errors import ConfigError
from trpo_cli.sims.base import Continuous, Discrete

CHUNK = 4096  # states linearised at a time: the activations of one chunk stay in the second-level cache

# name: (f(z), f'(z) as a function of z and f(z))
NONLINEARITIES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "softplus": (softplus, lambda z, a: torch.sigmoid(z)),
    "tanh": (torch.tanh, lambda z, a: 1 - a * a),
    "relu": (torch.relu, lambda z, a: (z > 0).to(z.dtype)),
}


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
    def initial(self, rng: np.random.Generator) -> Tensor: ...
    def params(self, theta: Tensor, obs: Tensor) -> Tensor: ...
    def linearize(self, theta: Tensor, obs: Tensor) -> Linearization: ...
    def tensor(self, obs: NDArray[np.generic]) -> Tensor: ...


@dataclass(frozen=True)
class MlpPolicy:
    """A fully connected network; for continuous actions a state-independent log-std vector follows its weights in θ.

    θ is laid out layer by layer: weights ``[fan_in, fan_out]``, biases ``[fan_out]``; then log-stds ``[A]``.
    """

    sizes: tuple[int, ...]  # inputs, hidden layers, outputs
    dist: Distribution
    nonlinearity: str
    input_map: InputMap
    initial_std: float  # of a Gaussian policy, in normalised action units
    output_norm: float  # of each output column of the initial weights
    hidden_norm: float  # of each hidden column
    dtype: torch.dtype
    device: str

    @property
    def _n_network(self) -> int:
        return sum((a + 1) * b for a, b in zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def _gaussian(self) -> bool:
        return isinstance(self.dist, DiagonalGaussian)

    @property
    def n_parameters(self) -> int:
        """D."""
        return self._n_network + (self.dist.action_size if self._gaussian else 0)

    def initial(self, rng: np.random.Generator) -> Tensor:
        """A fresh θ ``[D]``: random directions of the given column norms, zero biases (authors' code)."""
        parts: list[NDArray[np.float64]] = []
        for i, (a, b) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            w = rng.standard_normal((a, b))
            norm = self.output_norm if i == len(self.sizes) - 2 else self.hidden_norm
            parts += [(w * norm / np.linalg.norm(w, axis=0)).ravel(), np.zeros(b)]
        if self._gaussian:
            parts.append(np.full(self.dist.action_size, np.log(self.initial_std)))
        return torch.as_tensor(np.concatenate(parts), dtype=self.dtype, device=self.device)

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        """Observations ``[..., O]`` as the network takes them in: scaled, in its precision, on its device."""
        centre, scale = self._affine
        x = (torch.from_numpy(obs).to(self.device, self.dtype) - centre) * scale
        return x if self.input_map.clip == inf else x.clamp_(-self.input_map.clip, self.input_map.clip)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """Centre and reciprocal half-range of the input map."""
        maps = (self.input_map.centre, 1 / self.input_map.half_range)
        return tuple(torch.as_tensor(m, dtype=self.dtype, device=self.device) for m in maps)  # type: ignore[return-value]

    def _layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of θ ``[..., D]`` as (weights ``[..., a, b]``, biases ``[..., 1, b]``)."""
        layers, start = [], 0
        for a, b in zip(self.sizes, self.sizes[1:], strict=False):
            w = theta[..., start : start + a * b].unflatten(-1, (a, b))
            start += a * b
            layers.append((w, theta[..., None, start : start + b]))
            start += b
        return layers

    def _head(self, theta: Tensor, out: Tensor) -> Tensor:
        """Distribution parameters from the network's output ``[m, A]``: the log-stds of θ beside the means."""
        if not self._gaussian:
            return out
        return torch.cat([out, theta[..., self._n_network :].expand_as(out)], -1)

    def params(self, theta: Tensor, obs: Tensor) -> Tensor:
        """θ ``[D]`` on scaled obs ``[m, O]`` -> ``[m, P]``; θ ``[Q, D]`` on ``[Q, O]`` -> ``[Q, P]``, row by row."""
        x = obs if theta.dim() == 1 else obs[:, None]
        layers = self._layers(theta)
        f, _ = NONLINEARITIES[self.nonlinearity]
        for i, (w, b) in enumerate(layers):
            x = torch.addmm(b[0], x, w) if theta.dim() == 1 else torch.baddbmm(b, x, w)
            if i < len(layers) - 1:
                x = f(x)
        return self._head(theta, x if theta.dim() == 1 else x[:, 0])

    def linearize(self, theta: Tensor, obs: Tensor) -> Linearization:
        """The policy on scaled obs ``[m, O]``, with J v and Jᵀ u on activations saved once."""
        layers = self._layers(theta)
        f, slope = NONLINEARITIES[self.nonlinearity]
        inputs, slopes = [obs], []
        for w, b in layers[:-1]:
            z = torch.addmm(b[0], inputs[-1], w)
            inputs.append(f(z))
            slopes.append(slope(z, inputs[-1]))
        out = torch.addmm(layers[-1][1][0], inputs[-1], layers[-1][0])
        n_out = out.shape[-1]

        def jvp(v: Tensor) -> Tensor:
            tangent = None
            for i, ((w, _), (dw, db)) in enumerate(zip(layers, self._layers(v), strict=True)):
                dz = torch.addmm(db[0], inputs[i], dw)
                if tangent is not None:
                    dz = dz.addmm_(tangent, w)
                tangent = dz if i == len(layers) - 1 else dz.mul_(slopes[i])
            assert tangent is not None
            return self._head(v, tangent)

        def vjp(u: Tensor) -> Tensor:
            result = torch.empty_like(theta)
            delta = u[:, :n_out]
            for i in range(len(layers) - 1, -1, -1):
                w_out, b_out = self._layers(result)[i]
                torch.mm(inputs[i].T, delta, out=w_out)
                torch.sum(delta, 0, out=b_out[0])
                if i:
                    delta = (delta @ layers[i][0].T).mul_(slopes[i - 1])
            if self._gaussian:
                result[self._n_network :] = u[:, n_out:].sum(0)
            return result

        return Linearization(self._head(theta, out), jvp, vjp)


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """Consecutive slices of ``range(n)``, at most ``size`` long."""
    return (slice(i, min(i + size, n)) for i in range(0, n, size))


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
    input_scale: Any  # half-range of each input, "percentile" (of a fresh policy's steps) or "none"
    input_clip: float  # scaled inputs are clipped to plus or minus this

    def __post_init__(self) -> None:
        named = self.input_scale in ("percentile", "none")
        if not named and not (isinstance(self.input_scale, list) and all(_positive(x) for x in self.input_scale)):
            raise ConfigError(
                f"policy.input_scale={self.input_scale} must be percentile, none, or a list of numbers > 0, "
                "one an input"
            )
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

    def build(self, obs_shape: tuple[int, ...], actions: Continuous | Discrete, device: str) -> MlpPolicy:
        """The policy for observations of this shape and this action space, its input map still the identity."""
        if isinstance(self.input_scale, list) and len(self.input_scale) != prod(obs_shape):
            raise ConfigError(
                f"policy.input_scale has {len(self.input_scale)} numbers and the observation {prod(obs_shape)}: "
                "give one an input"
            )
        dist: Distribution
        if isinstance(actions, Continuous):
            dist, n_out = DiagonalGaussian(actions.size), actions.size
        else:
            dist, n_out = FactoredCategorical(actions.factors), sum(actions.factors)
        sizes = (prod(obs_shape), *self.hidden_sizes, n_out)
        dtype = torch.float32 if self.precision == "float32" else torch.float64
        return MlpPolicy(
            sizes,
            dist,
            self.nonlinearity,
            InputMap(),
            self.initial_std,
            self.output_norm,
            self.hidden_norm,
            dtype,
            device,
        )
