"""The products that ``torch.func`` makes for a network that offers its output only, beside those written by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_sims import Chain, Echo, mlp

from trpo_cli.policies.base import ActsInNumpy, Linearizes, Network, TakesRows
from trpo_cli.policies.network_policy import NetworkPolicy

KINDS = pytest.mark.parametrize("sim", [Echo(), Chain()], ids=["gaussian", "categorical"])
FUNCTIONS = pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
SHAPES = pytest.mark.parametrize("hidden", [(), (5,), (6, 4)], ids=str)
N_INPUTS = {"Echo": 2, "Chain": 4}


@dataclass(frozen=True)
class Bare:
    """A network with the members of `Network` and no others, around one that has more."""

    whole: Network

    @property
    def n_parameters(self) -> int:
        return self.whole.n_parameters

    def initial(self, rng: np.random.Generator) -> Tensor:
        return self.whole.initial(rng)

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        return self.whole.output(theta, inputs)


@dataclass(frozen=True)
class Normalised:
    """Four hidden units behind a layer normalisation, of which nobody has written the derivatives."""

    n_inputs: int
    n_outputs: int

    @property
    def n_parameters(self) -> int:
        return 4 * self.n_inputs + 8 + 4 * self.n_outputs

    def initial(self, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal(self.n_parameters))

    def output(self, theta: Tensor, inputs: Tensor) -> Tensor:
        w_in, gain, bias, w_out = theta.split([4 * self.n_inputs, 4, 4, 4 * self.n_outputs])
        hidden = torch.nn.functional.layer_norm(inputs @ w_in.view(self.n_inputs, 4), (4,), gain, bias)
        return torch.tanh(hidden) @ w_out.view(4, self.n_outputs)


def bare(policy: NetworkPolicy) -> NetworkPolicy:
    """The same policy, its network's own products hidden."""
    return replace(policy, network=Bare(policy.network))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_bare_networks_offer_nothing_but_their_output():
    for network in (bare(mlp(Echo(), (5,))).network, Normalised(2, 1)):
        assert not isinstance(network, Linearizes | TakesRows | ActsInNumpy)
    assert isinstance(mlp(Echo(), (5,)).network, Linearizes)
    assert bare(mlp(Echo())).acting(normal(4)) is None


@SHAPES
@FUNCTIONS
@KINDS
def test_they_are_those_written_by_hand(sim: Any, nonlinearity: str, hidden: tuple[int, ...]):
    written = mlp(sim, hidden, nonlinearity)
    theta, x = normal(written.n_parameters), normal(9, N_INPUTS[type(sim).__name__], seed=1)
    by_hand, found = written.linearize(theta, x), bare(written).linearize(theta, x)
    close(found.params, by_hand.params)
    assert not found.params.requires_grad
    v, u = normal(written.n_parameters, seed=2), normal(*by_hand.params.shape, seed=3)
    for _ in range(2):  # no call spoils what was saved
        close(found.jvp(v), by_hand.jvp(v))
        close(found.vjp(u), by_hand.vjp(u))


@SHAPES
@FUNCTIONS
@KINDS
def test_one_theta_for_every_row_acts_as_the_hand_written_batch_does(sim: Any, nonlinearity: str, hidden: Any):
    written = mlp(sim, hidden, nonlinearity)
    thetas, x = normal(7, written.n_parameters), normal(7, N_INPUTS[type(sim).__name__], seed=1)
    close(bare(written).params(thetas, x), written.params(thetas, x))
    one_by_one = [written.params(theta, row[None]) for theta, row in zip(thetas, x, strict=True)]
    close(bare(written).params(thetas, x), torch.cat(one_by_one))


def finite_difference(f: Callable[[Tensor], Tensor], theta: Tensor, v: Tensor) -> Tensor:
    """The derivative of ``f`` at ``theta`` along ``v`` to the fourth order."""
    h = 1e-3
    near, far = (f(theta + k * h * v) - f(theta - k * h * v) for k in (1, 2))
    return (8 * near - far) / (12 * h)


@KINDS
def test_a_network_with_layer_normalisation_needs_no_derivatives_of_its_own(sim: Any):
    written = mlp(sim)
    n_outputs = written.dist.n_params - written.dist.n_free
    policy = replace(written, network=Normalised(N_INPUTS[type(sim).__name__], n_outputs))
    theta, x = normal(policy.n_parameters), normal(9, N_INPUTS[type(sim).__name__], seed=1)
    linear = policy.linearize(theta, x)
    v, u = normal(policy.n_parameters, seed=2), normal(*linear.params.shape, seed=3)
    along = finite_difference(lambda p: policy.params(p, x), theta, v)
    assert along.abs().max() > 0.1
    torch.testing.assert_close(linear.jvp(v), along, rtol=1e-7, atol=1e-7)
    close((u * linear.jvp(v)).sum(), linear.vjp(u) @ v)  # <u, J v> = <Jᵀ u, v>
    rows = [policy.params(t, row[None]) for t, row in zip(normal(9, policy.n_parameters, seed=4), x, strict=True)]
    close(policy.params(normal(9, policy.n_parameters, seed=4), x), torch.cat(rows))


@KINDS
def test_where_gradients_are_switched_off_the_products_are_the_same(sim: Any):
    policy = bare(mlp(sim, (5,)))
    theta, x = normal(policy.n_parameters), normal(9, N_INPUTS[type(sim).__name__], seed=1)
    linear = policy.linearize(theta, x)
    u = normal(*linear.params.shape, seed=3)
    with torch.no_grad():
        quiet = policy.linearize(theta, x)
        close(quiet.vjp(u), linear.vjp(u))
        close(quiet.jvp(theta), linear.jvp(theta))
