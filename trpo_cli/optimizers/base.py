"""What every update is: a pure function from a policy's parameters and a batch to new parameters and statistics."""

from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trpo_cli import errors
from trpo_cli.optimizers.surrogate import Change, Surrogate
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

Arrays = dict[str, NDArray[Any]]
Stats = dict[str, float | str | bool]


@dataclass(frozen=True)
class Updated:
    """The new parameters, and the ``update/`` statistics of the step."""

    theta: Tensor  # [D]; θ_old itself if no step was taken
    stats: Stats


class Optimizer(Protocol):
    """One policy update from one batch."""

    @property
    def needs_whole_paths(self) -> str:
        """The setting that needs whole episodes (`Batch.paths`), which a vine cannot give; "" if any batch will do."""
        ...

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        """From θ_old ``[D]``, which drew the batch, to the new parameters; ``draw`` is the same in every worker."""
        ...


@runtime_checkable
class Search(Protocol):
    """A derivative-free search over parameter vectors: ask, evaluate, tell. Its state is a dictionary of arrays.

    Every candidate is scored by one whole episode, so no sampler takes part.
    """

    def start(self, theta: NDArray[np.float64]) -> Arrays:
        """The state of a search that starts at ``theta`` ``[D]``."""
        ...

    def ask(self, state: Arrays, rng: np.random.Generator) -> NDArray[np.float64]:
        """The candidates ``[Q, D]`` of this iteration."""
        ...

    def tell(
        self, state: Arrays, thetas: NDArray[np.float64], returns: NDArray[np.float64]
    ) -> tuple[Arrays, dict[str, float]]:
        """The next state and the ``update/`` statistics, from the returns ``[Q]`` of the candidates."""
        ...

    def mean(self, state: Arrays) -> NDArray[np.float64]:
        """The parameters ``[D]`` to evaluate or keep."""
        ...


def require(holds: bool, field: str, value: object, what: str) -> None:
    """Refuse a hyperparameter with a sentence that names field, value and what would work."""
    errors.require(holds, f"optimizer.{field}", value, what)


def why_useless(gradient: Tensor) -> str | None:
    """Why a gradient gives no direction; None if it does."""
    if not bool(torch.isfinite(gradient).all()):
        return "non_finite_gradient"
    return "zero_gradient" if not bool(gradient.any()) else None


def step_stats(new: Change, at: Surrogate, step: Tensor) -> Stats:
    """The ``update/`` statistics of a step ``[D]`` that was taken from ``at``."""
    return {
        "update/mean_kl": new.mean_kl,
        "update/max_kl": new.max_kl,
        "update/surrogate_gain": new.surrogate - at.value,
        "update/expected_gain": float(at.gradient @ step),
        "update/accepted": True,
        "update/reason": "accepted",
        "update/backtracks": 0,
        "update/cg_residual": nan,  # unless a linear system was solved
        "update/gradient_norm": float(at.gradient.norm()),
        "update/step_norm": float(step.norm()),
        "update/entropy": new.entropy,
    }


def refusal(at: Surrogate, reason: str) -> Updated:
    """θ_old as it is, bit for bit, and the reason."""
    return Updated(
        at.theta,
        {
            "update/mean_kl": 0.0,
            "update/max_kl": 0.0,
            "update/surrogate_gain": 0.0,
            "update/accepted": False,
            "update/reason": reason,
            "update/backtracks": 0,
            "update/cg_residual": nan,
            "update/gradient_norm": float(at.gradient.norm()),
        },
    )


def take(at: Surrogate, new: Tensor) -> Updated:
    """The step to ``new`` ``[D]`` without a search, and what it does to the policy; θ_old if a number is not finite."""
    reached = at.change(new)
    if not (bool(torch.isfinite(new).all()) and isfinite(reached.mean_kl) and isfinite(reached.surrogate)):
        return refusal(at, "non_finite")
    return Updated(new, step_stats(reached, at, new - at.theta))
