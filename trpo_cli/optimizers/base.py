"""What every update is: a pure function from a policy's parameters and a batch to new parameters and statistics."""

from dataclasses import dataclass
from math import nan
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.surrogate import Change
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch

Arrays = dict[str, NDArray[Any]]
Stats = dict[str, float | str | bool]


@dataclass(frozen=True)
class Updated:
    """The new parameters, and the ``update/`` statistics of the step."""

    theta: Tensor  # [D]; θ_old itself where no step was taken
    stats: Stats


class Optimizer(Protocol):
    """One policy update from one batch; ``rng`` is the same in every worker."""

    def __call__(
        self, policy: Policy, theta: Tensor, batch: Batch, rng: np.random.Generator, group: Group
    ) -> Updated: ...


def require(holds: bool, field: str, value: object, what: str) -> None:
    """Refuse a hyperparameter with a sentence that names field, value and what would work."""
    if not holds:
        raise ConfigError(f"optimizer.{field}={value} must be {what}")


def step_stats(new: Change, surrogate: float, gradient: Tensor, step: Tensor) -> Stats:
    """The ``update/`` statistics of a step that was taken; ``gradient`` and ``surrogate`` are those at θ_old."""
    return {
        "update/mean_kl": new.mean_kl,
        "update/max_kl": new.max_kl,
        "update/surrogate_gain": new.surrogate - surrogate,
        "update/expected_gain": float(gradient @ step),
        "update/accepted": True,
        "update/reason": "accepted",
        "update/backtracks": 0,
        "update/cg_residual": 0.0,
        "update/gradient_norm": float(gradient.norm()),
        "update/step_norm": float(step.norm()),
        "update/entropy": new.entropy,
    }


def refused(theta: Tensor, reason: str, gradient: Tensor) -> Updated:
    """θ_old as it is, and the name of the reason."""
    return Updated(
        theta,
        {
            "update/mean_kl": 0.0,
            "update/max_kl": 0.0,
            "update/surrogate_gain": 0.0,
            "update/accepted": False,
            "update/reason": reason,
            "update/backtracks": 0,
            "update/cg_residual": nan,  # nothing was solved
            "update/gradient_norm": float(gradient.norm()),
        },
    )


class Search(Protocol):
    """A derivative-free search over parameter vectors: ask, evaluate, tell. The state is a dict of arrays."""

    def start(self, theta: NDArray[np.float64]) -> Arrays: ...
    def ask(self, state: Arrays, rng: np.random.Generator) -> NDArray[np.float64]: ...
    def tell(
        self, state: Arrays, thetas: NDArray[np.float64], returns: NDArray[np.float64]
    ) -> tuple[Arrays, dict[str, float]]: ...
    def mean(self, state: Arrays) -> NDArray[np.float64]: ...
