"""Laws of the networks: an independent forward pass, the Jacobian's two products, initial scales, the input map."""

from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from toy_sims import Chain, Echo, mlp

from trpo_cli.config.build import build
from trpo_cli.config.schema import conf_dir, register_schema
from trpo_cli.errors import ConfigError
from trpo_cli.policies.base import InputMap, chunks
from trpo_cli.policies.kernels import CHUNK, NONLINEARITIES, at_a_time
from trpo_cli.policies.mlp import Mlp, MlpNetwork
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.sims.base import Continuous, Discrete

MODULES = {"softplus": nn.Softplus, "tanh": nn.Tanh, "relu": nn.ReLU}
SHAPES = pytest.mark.parametrize("hidden", [(), (5,), (5, 5)], ids=str)  # equal widths share buffers
KINDS = pytest.mark.parametrize("sim", [Echo(), Chain()], ids=["gaussian", "categorical"])
FUNCTIONS = pytest.mark.parametrize("nonlinearity", MODULES)
NUMBERS: dict[str, Any] = {
    "hidden_sizes": (4,),
    "nonlinearity": "tanh",
    "initial_std": 0.5,
    "output_norm": 0.01,
    "hidden_norm": 1.0,
    "precision": "float64",
    "input_scale": "none",
    "input_clip": inf,
}


def network_of(policy: NetworkPolicy) -> MlpNetwork:
    assert isinstance(policy.network, MlpNetwork)
    return policy.network


def random_theta(policy: NetworkPolicy, *shape: int) -> torch.Tensor:
    return torch.from_numpy(0.8 * np.random.default_rng(1).standard_normal((*shape, policy.n_parameters)))


def inputs(policy: NetworkPolicy, n: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(2).standard_normal((n, network_of(policy).sizes[0])))


@FUNCTIONS
@SHAPES
@KINDS
def test_the_forward_pass_is_that_of_torch_modules_with_the_same_numbers(sim: Any, hidden: Any, nonlinearity: str):
    policy = mlp(sim, hidden, nonlinearity)
    theta, x = random_theta(policy), inputs(policy)
    rest, stack = theta, []
    for a, b in pairwise(network_of(policy).sizes):
        layer = nn.Linear(a, b, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(rest[: a * b].reshape(a, b).T)
            layer.bias.copy_(rest[a * b : (a + 1) * b])
        rest = rest[(a + 1) * b :]
        stack += [layer, MODULES[nonlinearity]()]
    expected = nn.Sequential(*stack[:-1])(x).detach()
    if len(rest):
        expected = torch.cat([expected, rest.expand(len(x), -1)], 1)  # the log-stds
    torch.testing.assert_close(policy.params(theta, x), expected)
    torch.testing.assert_close(policy.linearize(theta, x).params, expected)


@FUNCTIONS
@SHAPES
@KINDS
def test_the_products_with_the_jacobian_are_those_of_torch_func(sim: Any, hidden: Any, nonlinearity: str):
    policy = mlp(sim, hidden, nonlinearity)
    theta, x = random_theta(policy), inputs(policy)
    linear = policy.linearize(theta, x)
    rng = np.random.default_rng(3)
    v, u = (torch.from_numpy(rng.standard_normal(s)) for s in (theta.shape, linear.params.shape))
    jacobian = torch.func.jacrev(lambda p: policy.params(p, x))(theta)  # [m, P, D]
    torch.testing.assert_close(linear.jvp(v), jacobian @ v)
    torch.testing.assert_close(linear.vjp(u), torch.einsum("mpd,mp->d", jacobian, u))
    torch.testing.assert_close(linear.jvp(v), jacobian @ v)  # and again: no call spoils what was saved
    torch.testing.assert_close((u * linear.jvp(v)).sum(), linear.vjp(u) @ v)


@SHAPES
@KINDS
def test_what_one_call_gave_out_no_other_call_changes(sim: Any, hidden: Any):
    policy = mlp(sim, hidden)
    theta, x = random_theta(policy), inputs(policy, CHUNK + 3)
    pieces = [policy.linearize(theta, x[s]) for s in (slice(None), slice(0, 9), slice(9, 50))]
    first = [(p.params, p.jvp(theta), p.vjp(p.params)) for p in pieces]
    copies = [[t.clone() for t in given] for given in first]
    for p in reversed(pieces):
        p.jvp(-theta)
        p.vjp(-p.params)
    again = [(p.params, p.jvp(theta), p.vjp(p.params)) for p in pieces]
    for given, copy, repeated in zip(first, copies, again, strict=True):
        for a, b, c in zip(given, copy, repeated, strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)
    torch.testing.assert_close(pieces[0].jvp(theta)[9:50], pieces[2].jvp(theta))  # with more rows than a chunk


@SHAPES
@KINDS
def test_a_population_acts_as_its_members_one_by_one(sim: Any, hidden: Any):
    policy = mlp(sim, hidden)
    thetas, x = random_theta(policy, 7), inputs(policy, 7)
    one_by_one = torch.cat([policy.params(theta, row[None]) for theta, row in zip(thetas, x, strict=True)])
    torch.testing.assert_close(policy.params(thetas, x), one_by_one)


def test_fresh_weights_have_columns_of_the_given_norms_and_zero_biases():
    policy = mlp(Echo(), (5, 4))
    theta = policy.initial(np.random.default_rng(4))
    network = network_of(policy)
    (w1, b1), (w2, b2), (w3, b3) = network.layers(theta[: network.n_parameters])
    for w, norm in ((w1, 1.0), (w2, 1.0), (w3, 0.01)):
        torch.testing.assert_close(w.norm(dim=0), torch.full((w.shape[1],), norm).double())
    assert not torch.cat([b1, b2, b3], 1).any()
    assert w1.shape == (2, 5) and w1.std() > 0.1
    std = policy.params(theta, inputs(policy))[:, 1:].exp()
    torch.testing.assert_close(std, torch.full_like(std, 0.5))


def test_a_fresh_theta_is_a_function_of_the_generator():
    policy = mlp(Echo(), (5,))
    one, same, other = (policy.initial(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize(("env", "n_parameters"), [("cartpole", 6), ("swimmer", 364)])
def test_the_shipped_policies_have_as_many_parameters_as_the_papers(env: str, n_parameters: int):
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", [f"env={env}"])
    sim = build(cfg.env, "env")
    policy = build(cfg.policy, "policy").build(sim.obs_shape, sim.action_space)
    assert policy.n_parameters == n_parameters == len(policy.initial(np.random.default_rng(0)))


def test_inputs_are_centred_scaled_and_then_clipped_and_the_observations_left_alone():
    policy = mlp(Echo())
    obs = np.array([[1.0, 30.0], [3.0, -30.0]], np.float32)
    identity = policy.tensor(obs)
    assert identity.dtype == torch.float64 and identity.tolist() == obs.tolist()
    scaled = policy.with_input_map(InputMap(np.array([1.0, 0.0]), np.array([2.0, 5.0]), 4.0))
    assert scaled.tensor(obs).tolist() == [[0.0, 4.0], [1.0, -4.0]]
    assert scaled.inputs.array(obs).tolist() == scaled.tensor(obs).tolist()
    assert obs.tolist() == [[1.0, 30.0], [3.0, -30.0]]


def test_the_precision_is_that_of_everything_the_policy_gives_out():
    policy = mlp(Echo(), (3,), precision="float32")
    theta = policy.initial(np.random.default_rng(0))
    x = policy.tensor(np.zeros((2, 2)))
    assert theta.dtype == x.dtype == policy.params(theta, x).dtype == torch.float32


def test_the_outputs_fit_the_action_space():
    box, choices = Continuous(-np.ones(3), np.ones(3)), Discrete((3, 2))
    gaussian, factored = (Mlp(**NUMBERS).build((2, 5), space) for space in (box, choices))
    assert network_of(gaussian).sizes == (10, 4, 3) and gaussian.n_parameters == 11 * 4 + 5 * 3 + 3
    assert network_of(factored).sizes == (10, 4, 5) and factored.n_parameters == 11 * 4 + 5 * 5


def test_chunks_cover_every_row_once():
    for n in (0, 1, 6, 7, 8, 21):
        rows = [i for s in chunks(n, 7) for i in range(n)[s]]
        assert rows == list(range(n)) and all(s.stop - s.start <= 7 and s.stop <= n for s in chunks(n, 7))


def test_a_cpu_takes_as_many_states_at_a_time_as_its_cache_holds_and_a_gpu_more():
    assert [at_a_time(64, torch.device(name)) for name in ("cpu", "cuda")] == [64, 8192]


@FUNCTIONS
def test_the_slope_of_a_nonlinearity_is_torchs_own_at_zero_too(nonlinearity: str):
    z, (f, slope) = torch.tensor([-1.5, 0.0, 2.0], requires_grad=True), NONLINEARITIES[nonlinearity]
    (expected,) = torch.autograd.grad(MODULES[nonlinearity]()(z).sum(), z)
    torch.testing.assert_close(slope(z.detach(), f(z.detach())), expected)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("hidden_sizes", (3, 0), r"policy\.hidden_sizes=\[3, 0\]"),
        ("nonlinearity", "selu", r"policy\.nonlinearity=selu"),
        ("initial_std", 0.0, r"policy\.initial_std=0\.0"),
        ("output_norm", -1.0, r"policy\.output_norm=-1\.0"),
        ("hidden_norm", inf, r"policy\.hidden_norm=inf"),
        ("precision", "float16", r"policy\.precision=float16"),
        ("input_scale", "auto", r"policy\.input_scale=auto"),
        ("input_scale", [1.0, 0.0], r"policy\.input_scale=\[1\.0, 0\.0\]"),
        ("input_clip", 0.0, r"policy\.input_clip=0\.0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any, named: str):
    with pytest.raises(ConfigError, match=named):
        Mlp(**{**NUMBERS, field: value})


def test_an_input_scale_of_another_length_than_the_observation_is_refused():
    with pytest.raises(ConfigError, match=r"policy\.input_scale has 2 numbers and the observation 3"):
        Mlp(**{**NUMBERS, "input_scale": [1.0, 2.0]}).build((3,), Discrete((2,)))
