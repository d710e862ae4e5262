"""The Jacobian products J v and Jᵀ u of any network, by ``torch.func``: only the network's output is needed."""

from collections.abc import Callable

import torch
from torch import Tensor

from trpo_cli.policies.base import Linearization


def linearize(output: Callable[[Tensor, Tensor], Tensor], theta: Tensor, inputs: Tensor) -> Linearization:
    """``output(θ, inputs)`` ``[m, P]`` with its products J v (forward mode) and Jᵀ u (reverse mode) at ``theta``."""

    def f(parameters: Tensor) -> Tensor:
        return output(parameters, inputs)

    with torch.enable_grad():
        params, pull_back, *_ = torch.func.vjp(f, theta.detach())
    return Linearization(
        params.detach(),
        jvp=lambda v: torch.func.jvp(f, (theta.detach(),), (v,))[1],
        vjp=lambda u: pull_back(u)[0],
    )


def output_by_row(output: Callable[[Tensor, Tensor], Tensor], theta: Tensor, inputs: Tensor) -> Tensor:
    """θ ``[Q, D]`` on inputs ``[Q, …]`` -> ``[Q, P]``: row q of θ on row q of the inputs."""
    if not len(theta):
        return output(theta.new_zeros(theta.shape[1]), inputs)
    one = torch.func.vmap(lambda parameters, x: output(parameters, x[None])[0])
    return one(theta, inputs)
