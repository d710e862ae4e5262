"""The network of the Atari games: its parameters, its derivatives, and pixels as bytes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from compose import composed

from trpo_cli.config.build import build
from trpo_cli.errors import ConfigError
from trpo_cli.policies.conv import Conv, ConvNetwork
from trpo_cli.sims.base import Continuous, Discrete

JOYSTICK = Discrete((3, 3, 2))
SMALL = Conv((3, 4), 3, 2, (5,), "tanh", 128.0, 128.0, 0.7, 1.0).build((2, 12, 9), Discrete((3, 2)))
assert isinstance(SMALL.network, ConvNetwork)
NETWORK = SMALL.network


def atari() -> Conv:
    return build(composed("env=atari/pong")[0].policy, "policy")


def images(n: int, shape: tuple[int, ...] = (2, 12, 9), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def by_modules(network: ConvNetwork, theta: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    """The same network, as torch's functions have it."""
    pieces = [p.view(s) for p, s in zip(theta.split(network._lengths), network._shapes, strict=True)]
    x = (obs.to(theta.dtype) - 128) / 128
    for i, (w, b) in enumerate(zip(pieces[::2], pieces[1::2], strict=True)):
        x = torch.nn.functional.conv2d(x, w, b, network.stride) if i < len(network.filters) else x.flatten(1) @ w + b
        x = x if 2 * i + 2 == len(pieces) else torch.tanh(x)
    return x


def test_the_papers_network_has_33500_parameters():
    policy = atari().build((4, 52, 40), JOYSTICK)
    assert policy.n_parameters == 33_500
    assert [s for s in policy.network._shapes if len(s) != 1] == [(16, 4, 4, 4), (16, 16, 4, 4), (1408, 20), (20, 8)]


def test_its_initial_units_have_the_given_norms():
    theta = SMALL.initial(np.random.default_rng(0))
    w1, _, w2, _, w3, _, w4, b4 = (
        p.view(s) for p, s in zip(theta.split(NETWORK._lengths), NETWORK._shapes, strict=True)
    )
    for filters in (w1, w2):
        torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(len(filters)))
    torch.testing.assert_close(w3.norm(dim=0), torch.ones(5))
    torch.testing.assert_close(w4.norm(dim=0), torch.full((5,), 0.7))
    assert not b4.any() and torch.equal(theta, SMALL.initial(np.random.default_rng(0)))


@pytest.mark.parametrize("n", [1, 64, 100])
def test_its_outputs_are_those_of_torchs_own_layers(n: int):
    theta, obs = SMALL.initial(np.random.default_rng(1)), SMALL.tensor(images(n))
    torch.testing.assert_close(SMALL.params(theta, obs), by_modules(NETWORK, theta, obs))
    torch.testing.assert_close(SMALL.linearize(theta, obs).params, by_modules(NETWORK, theta, obs))


def test_each_row_of_a_population_sees_its_own_image():
    thetas = torch.stack([SMALL.initial(np.random.default_rng(i)) for i in range(4)])
    obs = SMALL.tensor(images(4))
    rows = torch.cat([SMALL.params(t, o[None]) for t, o in zip(thetas, obs, strict=True)])
    torch.testing.assert_close(SMALL.params(thetas, obs), rows)
    assert SMALL.params(thetas[:0], obs[:0]).shape == (0, 5)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_jacobian_products_are_those_of_autograd(nonlinearity: str):
    reference = replace(NETWORK, nonlinearity=nonlinearity)
    policy = replace(SMALL, network=reference)
    theta, obs = policy.initial(np.random.default_rng(2)), policy.tensor(images(6))
    linear = policy.linearize(theta, obs)

    def network(t: torch.Tensor) -> torch.Tensor:
        out = by_modules(reference, t, obs)
        return out if nonlinearity == "tanh" else rectified(reference, t, obs)

    v, u = torch.randn(policy.n_parameters), torch.randn(6, 5)
    _, jvp = torch.autograd.functional.jvp(network, theta, v)
    _, vjp = torch.autograd.functional.vjp(network, theta, u)
    torch.testing.assert_close(linear.jvp(v), jvp, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(linear.vjp(u), vjp, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((linear.jvp(v) * u).sum(), v @ linear.vjp(u), rtol=1e-4, atol=1e-4)


def rectified(network: ConvNetwork, theta: torch.Tensor, obs: torch.Tensor) -> torch.Tensor:
    pieces = [p.view(s) for p, s in zip(theta.split(network._lengths), network._shapes, strict=True)]
    (w1, b1), (w2, b2), (w3, b3), (w4, b4) = zip(pieces[::2], pieces[1::2], strict=True)
    x = torch.relu(torch.nn.functional.conv2d((obs.float() - 128) / 128, w1, b1, network.stride))
    x = torch.relu(torch.nn.functional.conv2d(x, w2, b2, network.stride))
    return torch.relu(x.flatten(1) @ w3 + b3) @ w4 + b4


def test_references_to_frames_and_stacked_frames_are_the_same_pixels():
    frames = images(5, (12, 9))
    references = np.empty((4, 2), object)
    for i in range(4):
        references[i, 0], references[i, 1] = frames[i], frames[i + 1]
    stacked = np.stack([frames[:4], frames[1:]], 1)
    assert torch.equal(SMALL.tensor(references), SMALL.tensor(stacked))
    assert SMALL.tensor(references).dtype == torch.uint8 and SMALL.tensor(references[:0]).shape == (0, 2, 12, 9)


@pytest.mark.parametrize(
    ("shape", "actions", "sentence"),
    [
        ((4,), JOYSTICK, "policy=atari needs images, and this task's observation has the shape"),
        ((4, 52, 40), Continuous(np.zeros(2), np.ones(2)), "policy=atari chooses among discrete actions"),
        ((4, 8, 40), JOYSTICK, r"policy.filters=\[16, 16\]: an image of 8 × 40 is too small.*policy\.kernel_size$"),
    ],
)
def test_tasks_it_cannot_play_are_refused_in_a_sentence(
    shape: tuple[int, ...], actions: Discrete | Continuous, sentence: str
):
    with pytest.raises(ConfigError, match=sentence):
        atari().build(shape, actions)


def test_continuous_actions_have_a_mean_from_the_image_and_a_deviation_of_their_own():
    policy = build(composed("policy=conv")[0].policy, "policy").build((3, 20, 20), Continuous(-np.ones(2), np.ones(2)))
    theta, obs = policy.initial(np.random.default_rng(0)), policy.tensor(images(5, (3, 20, 20)))
    mean, log_std = policy.params(theta, obs).split(2, 1)
    assert mean.shape == (5, 2) and len(mean.unique()) == 10 and torch.allclose(log_std.exp(), torch.tensor(0.5))
    linear = policy.linearize(theta, obs)
    v, u = torch.randn(policy.n_parameters), torch.randn(5, 4)
    torch.testing.assert_close((linear.jvp(v) * u).sum(), v @ linear.vjp(u), rtol=1e-4, atol=1e-4)
    assert policy.n_parameters == policy.network.n_parameters + 2 and policy.unused() == {}


@pytest.mark.parametrize("std", [0.0, -1.0, float("inf")])
def test_a_deviation_that_is_none_is_refused(std: float):
    with pytest.raises(ConfigError, match=rf"^policy\.initial_std={std} must be a finite number > 0$"):
        replace(build(composed("policy=conv")[0].policy, "policy"), initial_std=std)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"filters": ()}, r"policy.filters=\[\]"),
        ({"kernel_size": 0}, "policy.kernel_size=0 must be at least 1"),
        ({"nonlinearity": "softplus"}, "policy.nonlinearity=softplus must be tanh or relu"),
        ({"input_half_range": 0.0}, "policy.input_half_range=0.0 must be a finite number > 0"),
        ({"input_centre": float("nan")}, "policy.input_centre=nan must be a finite number"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(changes: dict[str, object], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        replace(atari(), **changes)
