"""A fully connected value function, fitted by Gauss-Newton steps."""

from dataclasses import dataclass
from math import prod

import torch

from trpo_cli.critics.value_network import CriticSettings, ValueNetwork
from trpo_cli.errors import ConfigError
from trpo_cli.policies.kernels import NONLINEARITIES
from trpo_cli.policies.mlp import MlpNetwork


@dataclass(frozen=True)
class MlpCritic(CriticSettings):
    """Hyperparameters of a fully connected value function; numbers and sources stand in ``conf/critic/mlp.yaml``."""

    hidden_sizes: tuple[int, ...]  # units of each hidden layer
    nonlinearity: str  # softplus, tanh or relu

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.hidden_sizes):
            raise ConfigError(f"critic.hidden_sizes={list(self.hidden_sizes)}: every layer needs at least 1 unit")
        if self.nonlinearity not in NONLINEARITIES:
            known = ", ".join(NONLINEARITIES)
            raise ConfigError(f"critic.nonlinearity={self.nonlinearity} is unknown; choose one of {known}")
        self.fitting()

    def unused(self) -> dict[str, str]:
        """A linear value function has no hidden layer."""
        return {} if self.hidden_sizes else {"nonlinearity": "critic.hidden_sizes=[] is linear, with no hidden layer"}

    def build(self, obs_shape: tuple[int, ...]) -> ValueNetwork:
        """The critic for observations of this shape."""
        if len(obs_shape) == 3:
            raise ConfigError(
                f"critic=mlp cannot see images, and this task's observation has the shape {list(obs_shape)}; "
                "use critic=conv or critic=none"
            )
        sizes = (prod(obs_shape), *self.hidden_sizes, 1)
        network = MlpNetwork(sizes, self.nonlinearity, output_norm=0.01, hidden_norm=1.0, dtype=torch.float32)
        return self.on(network)
