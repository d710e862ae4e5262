"""Any module of torch is a network: the same output, and products that agree with finite differences."""

import numpy as np
import pytest
import torch
from torch import nn

from trpo_cli.errors import ConfigError
from trpo_cli.policies.distributions import DiagonalGaussian
from trpo_cli.policies.module import ModuleNetwork
from trpo_cli.policies.network_policy import NetworkPolicy, ScaledInputs


def make() -> nn.Module:
    layers = (nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2))
    return nn.Sequential(*layers).double()


def test_theta_is_the_modules_parameters_and_the_output_its_own():
    network = ModuleNetwork(make)
    theta, inputs = network.initial(np.random.default_rng(3)), torch.randn(5, 4, dtype=torch.float64)
    module = make()
    nn.utils.vector_to_parameters(theta, module.parameters())
    assert len(theta) == network.n_parameters
    torch.testing.assert_close(network.output(theta, inputs), module(inputs))


def test_the_same_generator_gives_the_same_parameters_and_torchs_own_is_left_alone():
    network, before = ModuleNetwork(make), torch.get_rng_state()
    assert torch.equal(*(network.initial(np.random.default_rng(3)) for _ in range(2)))
    assert not torch.equal(*(network.initial(np.random.default_rng(seed)) for seed in (3, 4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_products_of_a_policy_on_it_agree_with_finite_differences():
    policy = NetworkPolicy(ModuleNetwork(make), DiagonalGaussian(2), ScaledInputs(torch.float64), 0.5)
    rng = np.random.default_rng(0)
    theta, inputs = policy.initial(rng), torch.from_numpy(rng.standard_normal((5, 4)))
    v, u = (torch.from_numpy(rng.standard_normal(shape)) for shape in (policy.n_parameters, (5, 4)))
    linear = policy.linearize(theta, inputs)
    difference = (policy.params(theta + 1e-6 * v, inputs) - policy.params(theta - 1e-6 * v, inputs)) / 2e-6
    torch.testing.assert_close(linear.jvp(v), difference, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close((u * linear.jvp(v)).sum(), linear.vjp(u) @ v)
    rows = policy.params(theta.repeat(5, 1), inputs)
    torch.testing.assert_close(rows, policy.params(theta, inputs))


def test_a_module_that_remembers_is_refused():
    with pytest.raises(ConfigError, match="running_mean"):
        ModuleNetwork(lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
