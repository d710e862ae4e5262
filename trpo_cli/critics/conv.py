"""A convolutional value function, fitted by Gauss-Newton steps on a part of the batch."""

from dataclasses import dataclass

from trpo_cli.critics.gauss_newton import GaussNewton
from trpo_cli.critics.value_network import ValueNetwork
from trpo_cli.errors import ConfigError, require
from trpo_cli.policies.conv import CHUNK, check_layers, network_of


@dataclass(frozen=True)
class ConvCritic:
    """Hyperparameters of a convolutional value function; numbers and sources stand in ``conf/critic/conv.yaml``."""

    filters: tuple[int, ...]  # of each convolution
    kernel_size: int  # pixels
    stride: int  # pixels
    hidden_sizes: tuple[int, ...]  # units of each dense layer before the output
    nonlinearity: str  # tanh or relu
    input_centre: float  # brightness that is mapped to 0
    input_half_range: float  # difference in brightness between what is mapped to 0 and to 1
    gae_lambda: float  # λ of the advantages: 1 sums all rewards that follow, 0 looks one step ahead
    steps: int  # Gauss-Newton steps per batch
    cg_iterations: int  # conjugate gradient iterations per step
    damping: float  # added to the diagonal while solving for a step
    max_states: int  # states of a batch that the fit uses at most, drawn at random
    target_memory: float  # weight of the targets' mean and deviation so far when a new batch comes

    def __post_init__(self) -> None:
        check_layers(self, "critic")
        require(0 <= self.gae_lambda <= 1, "critic.gae_lambda", self.gae_lambda, "in [0, 1]")
        require(self.max_states >= 1, "critic.max_states", self.max_states, "at least 1")
        require(0 <= self.target_memory < 1, "critic.target_memory", self.target_memory, "in [0, 1)")
        self._fitting()

    def _fitting(self) -> GaussNewton:
        """The fit; it checks its own settings."""
        return GaussNewton(self.steps, self.cg_iterations, self.damping)

    def build(self, obs_shape: tuple[int, ...]) -> ValueNetwork:
        """The critic for images of this shape."""
        if len(obs_shape) != 3:
            raise ConfigError(
                f"critic=conv needs images, and this task's observation has the shape {list(obs_shape)}; use critic=mlp"
            )
        network = network_of(self, "critic", obs_shape, 1, output_norm=0.01, hidden_norm=1.0)
        return ValueNetwork(network, self._fitting(), self.gae_lambda, self.target_memory, self.max_states, CHUNK)
