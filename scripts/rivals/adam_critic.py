"""A value function that is fitted by Adam on minibatches, as most libraries do it; the rival of Gauss-Newton.

trpo-train --config-dir scripts/rivals/conf env=hopper_v5 critic=adam workers=1, with scripts on PYTHONPATH.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from trpo_cli.critics.gauss_newton import Problem
from trpo_cli.critics.value_network import ValueNetwork
from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import chunks
from trpo_cli.policies.mlp import MlpNetwork

DECAY, SQUARES_DECAY, EPSILON = 0.9, 0.999, 1e-8  # Kingma and Ba 2015


@dataclass(frozen=True)
class Adam:
    """Passes over the batch in minibatches; the moments start at zero for every batch."""

    epochs: int  # passes over the batch
    minibatch: int  # states per step
    learning_rate: float

    def __call__(self, problem: Problem, theta: Tensor) -> tuple[Tensor, float]:
        """Parameters ``[D]`` after the last step, and their loss."""
        if problem.group.size > 1:
            raise ConfigError("critic=adam works with workers=1 alone")
        rng, theta = np.random.default_rng(0), theta.clone()
        mean, squares, n_steps = torch.zeros_like(theta), torch.zeros_like(theta), 0
        for _ in range(self.epochs):
            order = torch.from_numpy(rng.permutation(len(problem.inputs)))
            for rows in chunks(len(order), self.minibatch):
                chosen = order[rows]
                linear = problem.network.linearize(theta, problem.inputs[chosen])
                gradient = linear.vjp((linear.params - problem.targets[chosen, None]) / len(chosen))
                n_steps += 1
                mean.lerp_(gradient, 1 - DECAY)
                squares.lerp_(gradient.square(), 1 - SQUARES_DECAY)
                size = (squares / (1 - SQUARES_DECAY**n_steps)).sqrt_().add_(EPSILON)
                theta.addcdiv_(mean, size, value=-self.learning_rate / (1 - DECAY**n_steps))
        return theta, problem.loss(theta)


@dataclass(frozen=True)
class AdamCritic:
    """Hyperparameters; the numbers stand in ``conf/critic/adam.yaml`` beside this file."""

    hidden_sizes: tuple[int, ...]
    nonlinearity: str
    gae_lambda: float
    epochs: int
    minibatch: int
    learning_rate: float
    least_advantage: float
    advantage_memory: float
    target_memory: float

    def build(self, obs_shape: tuple[int, ...]) -> ValueNetwork:
        """The critic for observations of this shape."""
        sizes = (prod(obs_shape), *self.hidden_sizes, 1)
        network = MlpNetwork(sizes, self.nonlinearity, output_norm=0.01, hidden_norm=1.0, dtype=torch.float32)
        fitting = Adam(self.epochs, self.minibatch, self.learning_rate)
        numbers = (self.gae_lambda, self.least_advantage, self.advantage_memory, self.target_memory)
        return ValueNetwork(network, fitting, *numbers)
