"""A convolutional value function, fitted by Gauss-Newton steps on a part of the batch."""

from dataclasses import dataclass

from trpo_cli.critics.value_network import CriticSettings, ValueNetwork
from trpo_cli.errors import ConfigError, require
from trpo_cli.policies.conv import CHUNK, ConvLayers


@dataclass(frozen=True)
class ConvCritic(ConvLayers, CriticSettings):
    """Hyperparameters of a convolutional value function; numbers and sources stand in ``conf/critic/conv.yaml``."""

    max_states: int  # states of a batch that the fit uses at most, drawn at random

    def __post_init__(self) -> None:
        self.check_layers("critic")
        require(self.max_states >= 1, "critic.max_states", self.max_states, "at least 1")
        self.fitting()

    def build(self, obs_shape: tuple[int, ...]) -> ValueNetwork:
        """The critic for images of this shape."""
        if len(obs_shape) != 3:
            raise ConfigError(
                f"critic=conv needs images, and this task's observation has the shape {list(obs_shape)}; use critic=mlp"
            )
        network = self.network("critic", obs_shape, 1, output_norm=0.01, hidden_norm=1.0)
        return self.on(network, self.max_states, CHUNK)
