"""The fully connected policy (Section 8.1, Figure 3): its products J v and Jᵀ u are written out on saved activations.

A chunk of states is small enough to stay in the processor's cache.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf, prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import Acting, InputMap, Linearization
from trpo_cli.policies.distributions import DiagonalGaussian, Distribution, FactoredCategorical
from trpo_cli.policies.kernels import CHUNK, IN_NUMPY, NONLINEARITIES, Array, by_column, outer, scratch
from trpo_cli.sims.base import Continuous, Discrete


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

    chunk_size = CHUNK

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

    def unused(self) -> dict[str, str]:
        """Only a Gaussian has a standard deviation."""
        return {} if self._gaussian else {"initial_std": "the actions are discrete"}

    def initial(self, rng: np.random.Generator) -> Tensor:
        """A fresh θ ``[D]``: random directions of the given column norms, zero biases (authors' code)."""
        parts: list[NDArray[np.float64]] = []
        for i, (a, b) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            w = rng.standard_normal((a, b))
            norm = self.output_norm if i == len(self.sizes) - 2 else self.hidden_norm
            parts += [(w * norm / np.linalg.norm(w, axis=0)).ravel(), np.zeros(b)]
        if self._gaussian:
            parts.append(np.full(self.dist.action_size, np.log(self.initial_std)))
        return torch.as_tensor(np.concatenate(parts), dtype=self.dtype)

    def tensor(self, obs: NDArray[np.generic]) -> Tensor:
        """Observations ``[..., O]`` as the network takes them in: scaled, and in its precision."""
        shift, scale = self._affine
        x = torch.addcmul(shift, torch.from_numpy(obs).to(self.dtype), scale)
        return x if self.input_map.clip == inf else x.clamp_(-self.input_map.clip, self.input_map.clip)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        """The input map as (shift, scale): x -> shift + scale · x."""
        scale = 1 / self.input_map.half_range
        maps = (-self.input_map.centre * scale, scale)
        return tuple(torch.as_tensor(m, dtype=self.dtype) for m in maps)  # type: ignore[return-value]

    def _layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of θ ``[..., D]`` as (weights ``[..., a, b]``, biases ``[..., 1, b]``)."""
        lead, pieces = theta.shape[:-1], theta.split_with_sizes(self._lengths, -1)
        fans = zip(self.sizes, self.sizes[1:], strict=False)
        each = zip(fans, pieces[::2], pieces[1::2], strict=False)
        return [(w.view(*lead, a, b), bias.view(*lead, 1, b)) for (a, b), w, bias in each]

    @cached_property
    def _lengths(self) -> list[int]:
        """Numbers in each piece of θ: weights and biases of each layer, then the log-stds."""
        layers = [n for a, b in zip(self.sizes, self.sizes[1:], strict=False) for n in (a * b, b)]
        return layers + [self.dist.action_size] * self._gaussian

    def _head(self, theta: Tensor, out: Tensor) -> Tensor:
        """Distribution parameters from the network's output ``[m, A]``: the log-stds of θ beside the means."""
        if not self._gaussian:
            return out
        return torch.cat([out, theta[..., self._n_network :].expand_as(out)], -1)

    def params(self, theta: Tensor, obs: Tensor) -> Tensor:
        """θ ``[D]`` on scaled obs ``[m, O]`` -> ``[m, P]``; θ ``[Q, D]`` on ``[Q, O]`` -> ``[Q, P]``, row by row."""
        obs = obs.to(theta.device)
        x = obs if theta.dim() == 1 else obs[:, None]
        layers = self._layers(theta)
        f, _ = NONLINEARITIES[self.nonlinearity]
        for i, (w, b) in enumerate(layers):
            x = torch.addmm(b, x, by_column(w)) if theta.dim() == 1 else torch.baddbmm(b, x, w)
            if i < len(layers) - 1:
                x = f(x)
        return self._head(theta, x if theta.dim() == 1 else x[:, 0])

    def acting(self, theta: Tensor) -> Acting | None:
        """What a rollout does with θ ``[D]``, in NumPy: ``params`` and ``dist.sample`` of raw obs ``[n, O]``.

        Each simulator step drives torch out of the processor's caches, and getting it back takes five times as long as
        all of this. None where torch has to do it: discrete actions.
        """
        if not self._gaussian:
            return None
        shift, scale = (m.numpy() for m in self._affine)
        *hidden, (w_out, b_out) = [(w.numpy(), b.numpy()) for w, b in self._layers(theta)]
        log_std = theta[self._n_network :].numpy()
        std, clip, f = np.exp(log_std), self.input_map.clip, IN_NUMPY[self.nonlinearity]

        def act(obs: Array, noise: NDArray[np.float32]) -> tuple[Array, Array]:
            x = obs * scale + shift
            if clip < inf:
                x = np.minimum(np.maximum(x, -clip), clip)
            for w, b in hidden:
                x = f(x @ w + b)
            mean = x @ w_out + b_out
            return np.concatenate([mean, np.broadcast_to(log_std, mean.shape)], 1), mean + std * noise

        return act

    def linearize(self, theta: Tensor, obs: Tensor) -> Linearization:
        """The policy on scaled obs ``[m, O]``, with J v and Jᵀ u on activations saved once."""
        obs, layers = obs.to(theta.device), self._layers(theta)
        f, slope = NONLINEARITIES[self.nonlinearity]
        inputs, slopes = [obs], []
        for w, b in layers[:-1]:
            z = torch.addmm(b, inputs[-1], w)
            inputs.append(f(z))
            slopes.append(slope(z, inputs[-1]))
        w, b = layers[-1]
        out = torch.addmm(b, inputs[-1], by_column(w))
        n_out = out.shape[-1]

        def jvp(v: Tensor) -> Tensor:
            tangents = self._layers(v)
            dw, db = tangents[-1]
            result = torch.addmm(db, inputs[-1], by_column(dw))
            tangent = None
            for i, ((w, _), (dw, db)) in enumerate(zip(layers[:-1], tangents[:-1], strict=True)):
                dz = torch.addmm(db, inputs[i], dw, out=scratch(i, inputs[i + 1]))
                if tangent is not None:
                    dz.addmm_(tangent, w)
                tangent = dz.mul_(slopes[i])
            if tangent is not None:
                result.addmm_(tangent, by_column(layers[-1][0]))
            return self._head(v, result)

        def vjp(u: Tensor) -> Tensor:
            result = torch.empty_like(theta)
            delta = u[:, :n_out]
            for i, (w_out, b_out) in reversed(list(enumerate(self._layers(result)))):
                w_out.copy_(outer(inputs[i], delta))
                torch.sum(delta, 0, keepdim=True, out=b_out)
                if i:
                    delta = torch.mm(delta, layers[i][0].T, out=scratch(i - 1, inputs[i])).mul_(slopes[i - 1])
            if self._gaussian:
                result[self._n_network :] = u[:, n_out:].sum(0)
            return result

        return Linearization(self._head(theta, out), jvp, vjp)


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

    def unused(self) -> dict[str, str]:
        """What a linear policy does not need; ``MlpPolicy.unused`` says the rest."""
        linear = "policy.hidden_sizes=[] is linear, with no hidden layer"
        return {} if self.hidden_sizes else {"nonlinearity": linear, "hidden_norm": linear}

    def build(self, obs_shape: tuple[int, ...], actions: Continuous | Discrete) -> MlpPolicy:
        """The policy for observations of this shape and this action space; its input map is a clip alone."""
        if len(obs_shape) == 3:
            raise ConfigError(
                f"policy=mlp sees no images, and this task's observation has the shape {list(obs_shape)}; "
                "use policy=atari"
            )
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
            InputMap(clip=self.input_clip),
            self.initial_std,
            self.output_norm,
            self.hidden_norm,
            dtype,
        )
