"""Action distributions as functions of a parameter array.

A distribution has no memory: "the old policy" is the array of parameters it gave out. Every function broadcasts over
leading axes; the last axis of ``params`` is P, of ``actions`` and ``noise`` A or F. KL is always KL(old ‖ new).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi, prod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.sims.base import ActionSpace

Array = NDArray[Any]


class Distribution(Protocol):
    """What policies, samplers and optimizers ask of a family of action distributions."""

    @property
    def n_params(self) -> int:
        """P, of which the last ``n_free`` are the same in every state."""
        ...

    @property
    def n_free(self) -> int:
        """How many of the P parameters do not depend on the state: a part of θ, not of the network's output."""
        ...

    @property
    def n_actions(self) -> int | None:
        """Number of joint actions; None if there are infinitely many."""
        ...

    @property
    def diagonal_fisher(self) -> bool:
        """True if the matrix M of ``fisher_product`` is diagonal."""
        ...

    def all_actions(self) -> NDArray[np.int64]:
        """Every joint action ``[n_actions, A]``."""
        ...

    @property
    def action_size(self) -> int: ...
    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]: ...
    def sample(self, params: Tensor, noise: Tensor) -> Tensor: ...
    def mode(self, params: Tensor) -> Tensor: ...
    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor: ...
    def kl(self, old: Tensor, new: Tensor) -> Tensor: ...
    def entropy(self, params: Tensor) -> Tensor: ...
    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor: ...


@runtime_checkable
class SamplesInNumpy(Protocol):
    """A distribution that can act in NumPy: network output ``[n, n_out]`` and noise ``[n, Z]`` -> params, actions."""

    def in_numpy(self, free: Array) -> Callable[[Array, NDArray[np.float32]], tuple[Array, Array]]: ...


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normals; ``params`` is the means followed by the logarithms of the standard deviations."""

    size: int  # A

    n_actions = None
    diagonal_fisher = True

    @property
    def n_params(self) -> int:
        return 2 * self.size

    @property
    def n_free(self) -> int:
        """The log-stds do not depend on the state."""
        return self.size

    def all_actions(self) -> NDArray[np.int64]:
        raise TypeError("a Gaussian's actions cannot be enumerated")

    @property
    def action_size(self) -> int:
        return self.size

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard normal numbers, ``[*shape, A]``."""
        return rng.standard_normal((*shape, self.size), dtype=np.float32)

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        return params[..., : self.size], params[..., self.size :]

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """The action that ``noise`` picks: mean + std · noise."""
        mean, log_std = self._split(params)
        return mean + log_std.exp() * noise

    def mode(self, params: Tensor) -> Tensor:
        return self._split(params)[0]

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        mean, log_std = self._split(params)
        z = (actions - mean) * torch.exp(-log_std)
        return -0.5 * z.square().sum(-1) - log_std.sum(-1) - 0.5 * self.size * log(2 * pi)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """KL(old ‖ new) in nats."""
        mean_old, log_std_old = self._split(old)
        mean, log_std = self._split(new)
        ratio = torch.exp(2 * (log_std_old - log_std))
        shift = (mean_old - mean) * torch.exp(-log_std)
        return (log_std - log_std_old + 0.5 * (ratio + shift.square() - 1)).sum(-1)

    def entropy(self, params: Tensor) -> Tensor:
        return self._split(params)[1].sum(-1) + 0.5 * self.size * (1 + log(2 * pi))

    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor:
        """M v of Appendix C, M the Hessian of KL in (mean, log std): 1/σ² and 2 on the diagonal."""
        precision = torch.exp(-2 * self._split(params)[1])
        return torch.cat([v[..., : self.size] * precision, 2 * v[..., self.size :]], -1)

    def in_numpy(self, free: Array) -> Callable[[Array, NDArray[np.float32]], tuple[Array, Array]]:
        """``sample`` in NumPy, with the log-stds ``free`` ``[A]``."""
        std = np.exp(free)

        def sample(mean: Array, noise: NDArray[np.float32]) -> tuple[Array, Array]:
            params = np.empty((len(mean), 2 * self.size), mean.dtype)
            params[:, : self.size], params[:, self.size :] = mean, free
            return params, mean + std * noise

        return sample


@dataclass(frozen=True)
class FactoredCategorical:
    """One softmax per factor; ``params`` is the logits of all factors side by side, an action one index per factor."""

    factors: tuple[int, ...]  # number of choices of each factor

    n_free = 0
    diagonal_fisher = False

    @property
    def n_params(self) -> int:
        return sum(self.factors)

    @property
    def action_size(self) -> int:
        return len(self.factors)

    @property
    def n_actions(self) -> int:
        """Number of joint actions."""
        return prod(self.factors)

    def draw_noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Uniform numbers in [0, 1), ``[*shape, F]``."""
        return rng.random((*shape, len(self.factors)), dtype=np.float32)

    def _split(self, array: Tensor) -> tuple[Tensor, ...]:
        return array.split(list(self.factors), -1)

    def sample(self, params: Tensor, noise: Tensor) -> Tensor:
        """The action that ``noise`` picks by the inverse of each factor's distribution function."""
        chosen = []
        for logits, u in zip(self._split(params), noise.unbind(-1), strict=True):
            below = (logits.softmax(-1).cumsum(-1) <= u[..., None]).sum(-1)
            chosen.append(below.clamp(max=logits.shape[-1] - 1))  # the sum of the softmax may round below one
        return torch.stack(chosen, -1)

    def mode(self, params: Tensor) -> Tensor:
        return torch.stack([logits.argmax(-1) for logits in self._split(params)], -1)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(params.shape[:-1], actions.shape[:-1])
        total = params.new_zeros(shape)
        for logits, a in zip(self._split(params), actions.long().unbind(-1), strict=True):
            log_p = logits.log_softmax(-1)
            log_p = log_p.expand(*shape, log_p.shape[-1])
            total = total + log_p.gather(-1, a.expand(shape)[..., None])[..., 0]
        return total

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """KL(old ‖ new) in nats, the sum over the factors."""
        parts = []
        for a, b in zip(self._split(old), self._split(new), strict=True):
            log_a, log_b = a.log_softmax(-1), b.log_softmax(-1)
            parts.append((log_a.exp() * (log_a - log_b)).sum(-1))
        return torch.stack(parts).sum(0)

    def entropy(self, params: Tensor) -> Tensor:
        return torch.stack([-(x.softmax(-1) * x.log_softmax(-1)).sum(-1) for x in self._split(params)]).sum(0)

    def fisher_product(self, params: Tensor, v: Tensor) -> Tensor:
        """M v of Appendix C with M = diag(p) - p pᵀ of each factor, the Hessian of KL in the logits."""
        parts = []
        for logits, w in zip(self._split(params), self._split(v), strict=True):
            p = logits.softmax(-1)
            parts.append(p * (w - (p * w).sum(-1, keepdim=True)))
        return torch.cat(parts, -1)

    def all_actions(self) -> NDArray[np.int64]:
        """Every joint action, ``[K, F]``, for Eq. (15)."""
        grid = np.meshgrid(*[np.arange(n) for n in self.factors], indexing="ij")
        return np.stack([g.reshape(-1) for g in grid], -1)


def distribution_for(actions: ActionSpace) -> Distribution:
    """The shipped family for an action space: factored categorical if it is finite, diagonal Gaussian if not."""
    return DiagonalGaussian(actions.size) if actions.factors is None else FactoredCategorical(actions.factors)
