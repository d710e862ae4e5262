"""A value function on a network: its units and its fit.

The network predicts targets in units of their running mean and deviation. When these change, its last layer is
corrected, so that the value function stays what it was (van Hasselt et al. 2016, "Pop-Art").
"""

from dataclasses import dataclass, replace
from math import inf, nan, sqrt
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.critics.base import CriticState, Stats
from trpo_cli.critics.gauss_newton import Differentiable, GaussNewton, Problem
from trpo_cli.errors import require
from trpo_cli.parallel.group import Group
from trpo_cli.policies.kernels import CHUNK

LEAST_STD = 1e-8  # of the targets, relative to their size: below it they are a constant


class Fitting(Protocol):
    """How the network is fitted to a batch; `GaussNewton` is one."""

    def __call__(self, problem: Problem, theta: Tensor) -> tuple[Tensor, float]:
        """Fitted parameters ``[D]``, from ``theta`` on, and their loss."""
        ...


@dataclass(frozen=True)
class ValueNetwork:
    """A critic on one network."""

    network: Differentiable
    fitting: Fitting
    gae_lambda: float
    least_advantage: float
    advantage_memory: float
    target_memory: float  # weight of the targets' mean and deviation so far when a new batch comes
    max_states: int | None = None  # of a batch that a fit uses at most, over all workers; None: all
    chunk_size: int = CHUNK  # states linearised at a time

    def initial(self, rng: np.random.Generator) -> CriticState:
        """A fresh network."""
        return CriticState(self.network.initial(rng))

    @torch.no_grad()
    def values(self, state: CriticState, inputs: Tensor) -> NDArray[np.float64]:
        """V ``[n]``."""
        output = self.network.output(state.theta, _as(state.theta, inputs))[:, 0]
        return state.mean + state.std * output.double().cpu().numpy()

    @torch.no_grad()
    def fit(
        self, state: CriticState, inputs: Tensor, targets: NDArray[np.float64], group: Group
    ) -> tuple[CriticState, Stats]:
        """New units first, then the fit in these units."""
        mean, variance, n = _moments(targets, group)
        _, unexplained, _ = _moments(targets - self.values(state, inputs), group)
        state = self.in_new_units(state, mean, variance)
        scaled = torch.from_numpy((targets - state.mean) / state.std).to(state.theta)
        problem = Problem(self.network, _as(state.theta, inputs), scaled, n, group, self.chunk_size)
        theta, loss = self.fitting(problem, state.theta)
        explained = 1 - unexplained / variance if variance > 0 else nan
        return replace(state, theta=theta), {"critic/explained_variance": explained, "critic/loss": loss}

    def in_new_units(self, state: CriticState, mean: float, variance: float) -> CriticState:
        """The same value function, its output in units of the targets so far; ``mean`` and ``variance`` are the new."""
        keep = self.target_memory if (state.mean, state.std) != (0.0, 1.0) else 0.0  # nothing to keep at first
        new_mean = keep * state.mean + (1 - keep) * mean
        # Without squares of the means themselves, whose difference could be all rounding.
        std = sqrt(keep * state.std**2 + (1 - keep) * (variance + keep * (state.mean - mean) ** 2))
        new_std = std if std > LEAST_STD * abs(new_mean) else 1.0
        theta = state.theta.clone()
        weights, biases = self.network.output_layer(theta)
        weights *= state.std / new_std
        biases.copy_((state.std * biases + state.mean - new_mean) / new_std)
        return replace(state, theta=theta, mean=new_mean, std=new_std)


def _as(theta: Tensor, inputs: Tensor) -> Tensor:
    """Inputs in θ's precision; images stay bytes."""
    return inputs.to(theta) if inputs.is_floating_point() else inputs


def _moments(x: NDArray[np.float64], group: Group) -> tuple[float, float, int]:
    """Mean, variance and number over all workers; the mean is subtracted before squaring, against rounding."""
    n, total = group.sums(len(x), x.sum())
    mean = total / n
    return mean, group.sums(((x - mean) ** 2).sum())[0] / n, int(n)


@dataclass(frozen=True)
class CriticSettings:
    """What every shipped critic is configured with, beside its network."""

    gae_lambda: float  # λ of the advantages: 1 sums all rewards that follow, 0 looks one step ahead
    least_advantage: float  # advantages that vary less, relative to the rewards, are errors of V: no step of the policy
    advantage_memory: float  # weight of the advantages' running variance; a batch with less makes a smaller step; 0: no
    steps: int  # Gauss-Newton steps per batch
    cg_iterations: int  # conjugate gradient iterations per step
    damping: float  # added to the diagonal while solving for a step
    target_memory: float  # weight of the targets' mean and deviation so far when a new batch comes

    def on(self, network: Differentiable, max_states: int | None = None, chunk_size: int = CHUNK) -> ValueNetwork:
        """The critic with these settings on a network."""
        numbers = (self.gae_lambda, self.least_advantage, self.advantage_memory, self.target_memory)
        return ValueNetwork(network, self.fitting(), *numbers, max_states, chunk_size)

    def fitting(self) -> GaussNewton:
        """The fit; ConfigError if a setting is out of range."""
        require(0 <= self.gae_lambda <= 1, "critic.gae_lambda", self.gae_lambda, "in [0, 1]")
        require(0 <= self.least_advantage < inf, "critic.least_advantage", self.least_advantage, "a finite number >= 0")
        for name in ("advantage_memory", "target_memory"):
            require(0 <= getattr(self, name) < 1, f"critic.{name}", getattr(self, name), "in [0, 1)")
        return GaussNewton(self.steps, self.cg_iterations, self.damping)
