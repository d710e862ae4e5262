"""Mean and standard deviation of all observations so far: ``policy.input_scale=running``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap

LEAST_STD = 1e-8  # relative to the mean: an input that varies less is a constant, and only centred


@dataclass(frozen=True)
class InputMoments:
    """How many observations there were, their mean, and their spread; the same in every worker."""

    n: float
    mean: NDArray[np.float64]  # [O]
    squares: NDArray[np.float64]  # [O] sum of the squared distances from the mean

    @classmethod
    def none_yet(cls, n_inputs: int) -> Self:
        """Before the first observation."""
        return cls(0.0, np.zeros(n_inputs), np.zeros(n_inputs))

    def with_more(self, obs: NDArray[np.generic], group: Group) -> "InputMoments":
        """With the observations ``[m, …]`` of every worker added (Chan et al. 1983)."""
        x = np.asarray(obs, np.float64).reshape(len(obs), len(self.mean))
        n = group.sums(len(x))[0]
        mean = group.sum_array(x.sum(0)) / n
        squares = group.sum_array(((x - mean) ** 2).sum(0))
        total, apart = self.n + n, mean - self.mean
        return InputMoments(
            total, self.mean + apart * (n / total), self.squares + squares + apart**2 * (self.n * n / total)
        )

    def input_map(self, clip: float) -> InputMap:
        """Mean to 0, standard deviation to 1; the identity before the first observation."""
        if not self.n:
            return InputMap(clip=clip)
        std = np.sqrt(self.squares / self.n)
        return InputMap(self.mean, np.where(std > LEAST_STD * (1 + np.abs(self.mean)), std, 1.0), clip)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers by name, as a checkpoint holds them."""
        return {"n": self.n, "mean": torch.from_numpy(self.mean), "squares": torch.from_numpy(self.squares)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The moments that ``to_dict`` saved."""
        return cls(saved["n"], saved["mean"].numpy(), saved["squares"].numpy())
