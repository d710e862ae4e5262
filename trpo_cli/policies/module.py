"""Any ``torch.nn.Module`` as a network: its layers may be of any type, and ``torch.func`` makes the products."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from trpo_cli.errors import ConfigError


@dataclass(frozen=True)
class ModuleNetwork:
    """A module as a network: θ ``[D]`` holds its parameters one after the other, in the module's order.

    Raises:
        ConfigError: the module has buffers, as batch normalisation does. A network is a pure function of θ and inputs.
    """

    make: Callable[[], nn.Module]  # makes the module, with fresh parameters; inputs [m, O] -> [m, n_out]

    def __post_init__(self) -> None:
        if names := [name for name, _ in self._module.named_buffers()]:
            raise ConfigError(f"the module has the buffer {names[0]}; use layers without buffers")

    @cached_property
    def _module(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return self.make()

    @cached_property
    def _shapes(self) -> dict[str, torch.Size]:
        return {name: parameter.shape for name, parameter in self._module.named_parameters()}

    @property
    def n_parameters(self) -> int:
        """D."""
        return sum(prod(shape) for shape in self._shapes.values())

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Parameters ``[D]`` of a fresh module, drawn by torch from a seed of ``rng``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            return nn.utils.parameters_to_vector(self.make().parameters()).detach()

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """θ ``[D]`` as the module's parameters, by the module's names."""
        pieces = theta.split([prod(shape) for shape in self._shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on inputs ``[m, …]`` -> ``[m, n_out]``."""
        output: Tensor = torch.func.functional_call(self._module, self.named(theta), (inputs,))
        return output
