"""A fully connected value function, fitted by Gauss-Newton steps."""

from dataclasses import dataclass
from math import prod

import torch

from trpo_cli.critics.gauss_newton import GaussNewton
from trpo_cli.critics.value_network import ValueNetwork
from trpo_cli.errors import ConfigError, require
from trpo_cli.policies.kernels import NONLINEARITIES
from trpo_cli.policies.mlp import MlpNetwork


@dataclass(frozen=True)
class MlpCritic:
    """Hyperparameters of a fully connected value function; numbers and sources stand in ``conf/critic/mlp.yaml``."""

    hidden_sizes: tuple[int, ...]  # units of each hidden layer
    nonlinearity: str  # softplus, tanh or relu
    gae_lambda: float  # λ of the advantages: 1 sums all rewards that follow, 0 looks one step ahead
    steps: int  # Gauss-Newton steps per batch
    cg_iterations: int  # conjugate gradient iterations per step
    damping: float  # added to the diagonal while solving for a step
    target_memory: float  # weight of the targets' mean and deviation so far when a new batch comes

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.hidden_sizes):
            raise ConfigError(f"critic.hidden_sizes={list(self.hidden_sizes)}: every layer needs at least 1 unit")
        if self.nonlinearity not in NONLINEARITIES:
            known = ", ".join(NONLINEARITIES)
            raise ConfigError(f"critic.nonlinearity={self.nonlinearity} is unknown; choose one of {known}")
        require(0 <= self.gae_lambda <= 1, "critic.gae_lambda", self.gae_lambda, "in [0, 1]")
        require(0 <= self.target_memory < 1, "critic.target_memory", self.target_memory, "in [0, 1)")
        self._fitting()

    def _fitting(self) -> GaussNewton:
        """The fit; it checks its own settings."""
        return GaussNewton(self.steps, self.cg_iterations, self.damping)

    def unused(self) -> dict[str, str]:
        """A linear value function has no hidden layer."""
        return {} if self.hidden_sizes else {"nonlinearity": "critic.hidden_sizes=[] is linear, with no hidden layer"}

    def build(self, obs_shape: tuple[int, ...]) -> ValueNetwork:
        """The critic for observations of this shape."""
        if len(obs_shape) == 3:
            raise ConfigError(
                f"critic=mlp cannot see images, and this task's observation has the shape {list(obs_shape)}; "
                "use critic=conv"
            )
        sizes = (prod(obs_shape), *self.hidden_sizes, 1)
        network = MlpNetwork(sizes, self.nonlinearity, output_norm=0.01, hidden_norm=1.0, dtype=torch.float32)
        return ValueNetwork(network, self._fitting(), self.gae_lambda, self.target_memory)
