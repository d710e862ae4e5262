"""Gauss-Newton steps on a least-squares problem, by conjugate gradient on Jacobian products (Nocedal and Wright, 10.3).

They fit the value function on the whole batch. Sums run over the workers, so a fit does not depend on their number.
"""

from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from trpo_cli.errors import require
from trpo_cli.optimizers.conjugate_gradient import conjugate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Linearization, chunks
from trpo_cli.policies.kernels import CHUNK

MAX_HALVINGS = 10  # of a step that does not make the loss smaller


class Differentiable(Protocol):
    """A network with its Jacobian products, whose last layer can be corrected."""

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Fresh parameters ``[D]``."""
        ...

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """θ ``[D]`` on inputs ``[m, …]`` -> ``[m, 1]``."""
        ...

    def output_layer(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the last layer's weights and biases."""
        ...

    def linearize(self, theta: Tensor, inputs: Tensor) -> Linearization: ...


@dataclass(frozen=True)
class Problem:
    """Fit the one output of a network to targets, over all workers."""

    network: Differentiable
    inputs: Tensor  # [m, O] this worker's
    targets: Tensor  # [m]
    n: int  # targets of all workers
    group: Group
    chunk_size: int = CHUNK  # states linearised at a time

    def loss(self, theta: Tensor) -> float:
        """Half the mean squared error."""
        errors = self.network.output(theta, self.inputs)[:, 0] - self.targets
        return self.group.sums(float(errors.double().square().sum()))[0] / (2 * self.n)

    def mean(self, parts: list[Tensor], like: Tensor) -> Tensor:
        """Σ of ``parts`` ``[D]`` over chunks and workers, divided by n."""
        total = torch.zeros(len(like), dtype=torch.float64)
        for part in parts:
            total += part
        return (self.group.sum(total) / self.n).to(like.dtype)


@dataclass(frozen=True)
class GaussNewton:
    """How a fit is made; the numbers are the critic's own fields of the same names."""

    steps: int  # per batch
    cg_iterations: int  # of conjugate gradient per step
    damping: float  # added to the diagonal of JᵀJ / n

    def __post_init__(self) -> None:
        for name in ("steps", "cg_iterations"):
            require(getattr(self, name) >= 1, f"critic.{name}", getattr(self, name), "at least 1")
        require(0 < self.damping < inf, "critic.damping", self.damping, "a finite number > 0")

    def __call__(self, problem: Problem, theta: Tensor) -> tuple[Tensor, float]:
        """Parameters ``[D]`` with a smaller loss, or ``theta`` itself, and their loss."""
        loss = problem.loss(theta)
        for _ in range(self.steps):
            step = self._step(problem, theta)
            for _ in range(MAX_HALVINGS):
                tried = problem.loss(theta + step)
                if tried < loss:
                    break
                step = step / 2
            else:
                return theta, loss
            theta, loss = theta + step, tried
        return theta, loss

    def _step(self, problem: Problem, theta: Tensor) -> Tensor:
        """s with (JᵀJ / n + damping I) s = -gradient."""
        pieces: list[Linearization] = []
        pulled: list[Tensor] = []
        for rows in chunks(len(problem.inputs), problem.chunk_size):
            linear = problem.network.linearize(theta, problem.inputs[rows])
            pieces.append(linear)
            pulled.append(linear.vjp(linear.params - problem.targets[rows, None]))
        gradient = problem.mean(pulled, theta)

        def product(v: Tensor) -> Tensor:
            return problem.mean([piece.vjp(piece.jvp(v)) for piece in pieces], theta) + self.damping * v

        return conjugate_gradient(product, -gradient, self.cg_iterations).x
