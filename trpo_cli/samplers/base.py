"""What every sampler does: from a policy to the batch of its next update (Section 5, Figure 1)."""

from math import nan
from typing import Protocol

from torch import Tensor

from trpo_cli.errors import ConfigError
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.episodes import Stats
from trpo_cli.sims.base import Simulator

ROUNDING = 1e-20  # variances below this fraction of the mean square are rounding, and no ground to prefer an action


class Sampler(Protocol):
    """Draws the batch of one iteration."""

    def check(self, sim: Simulator) -> None:
        """Raise ConfigError where the sampler cannot work with this simulator."""
        ...

    def __call__(
        self, sim: Simulator, policy: Policy, theta: Tensor, seed: int, iteration: int, group: Group, hint: float = nan
    ) -> tuple[Batch, Stats]:
        """The batch of ``theta`` ``[D]`` and its statistics.

        hint: steps of an episode, as far as they are known beforehand. It decides how much is simulated beyond a
        budget of steps and dropped, and nothing else.
        """
        ...


def require(holds: bool, field: str, value: object, what: str) -> None:
    if not holds:
        raise ConfigError(f"sampler.{field}={value} must be {what}")
