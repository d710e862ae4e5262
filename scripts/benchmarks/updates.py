"""The cost of an update: Fisher-vector product, gradient and whole step against plain autograd, and its memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from benchmarks.measure import Pair, Row, in_turns, on_cores, pairs, seconds
from benchmarks.tasks import parts
from trpo_cli.optimizers.fisher import analytic_metric, fisher_matrix
from trpo_cli.optimizers.surrogate import surrogate_at, surrogate_gradient
from trpo_cli.optimizers.trust_region import TrustRegion
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy, chunks
from trpo_cli.policies.mlp import MlpNetwork
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

PRODUCT, DOUBLE_BACKPROP = 0.6, 4.0  # targets: a product's share of a gradient's cost, and times faster than the peer
GIB = 2**30
MEMORY_GIB = 4.0  # target, not counting the batch itself
MODULES = {"tanh": nn.Tanh, "softplus": nn.Softplus, "relu": nn.ReLU}


@dataclass(frozen=True)
class UpdateSize:
    """How much to compute."""

    n_states: int
    repeats: int
    double_backprop: bool = False  # measure double backprop too, whose target is for 500 K states


class PlainNetwork(nn.Module):
    """The policy as one would write it in torch, the peer of our own derivatives."""

    def __init__(self, policy: NetworkPolicy, theta: Tensor) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        network = network_of(policy)
        for w, b in network.layers(theta[: network.n_parameters]):
            layer = nn.Linear(*w.shape)
            layer.weight.data, layer.bias.data = w.T.clone(), b[0].clone()
            modules += [layer, MODULES[network.nonlinearity]()]
        self.mean = nn.Sequential(*modules[:-1])
        self.log_std = nn.Parameter(theta[-policy.dist.action_size :].clone())

    def forward(self, obs: Tensor) -> Normal:
        return Normal(self.mean(obs), self.log_std.exp())


def network_of(policy: NetworkPolicy) -> MlpNetwork:
    """The fully connected network of a policy."""
    assert isinstance(policy.network, MlpNetwork)
    return policy.network


def scaled_states(policy: NetworkPolicy, n_states: int) -> NDArray[np.float32]:
    """Observations ``[n_states, O]`` drawn from N(0, 1)."""
    return np.random.default_rng(0).standard_normal((n_states, network_of(policy).sizes[0]), dtype=np.float32)


def synthetic_batch(policy: Policy, theta: Tensor, obs: NDArray[np.generic]) -> Batch:
    """A single-path batch of these observations, with advantages drawn from N(0, 1)."""
    rng, n_states = np.random.default_rng(1), len(obs)
    old = torch.empty(n_states, policy.dist.n_params)
    for rows in chunks(n_states, policy.chunk_size):
        old[rows] = policy.params(theta, policy.tensor(obs[rows]))
    noise = torch.from_numpy(policy.dist.draw_noise(rng, (n_states,)))
    actions = policy.dist.sample(old, noise)
    advantages = torch.from_numpy(rng.standard_normal((n_states, 1), dtype=np.float32))
    log_q = policy.dist.log_prob(old, actions)[:, None]
    return Batch(obs, old, actions[:, None], advantages, log_q, "importance", n_states)


def policy_of(env: str) -> tuple[NetworkPolicy, Tensor, TrustRegion]:
    """Return the task's network with the identity as its input map, a new θ, and TRPO with the task's settings."""
    p = parts(f"env={env}", "policy.input_scale=none")
    assert isinstance(p.algorithm.optimizer, TrustRegion)
    return p.policy, p.theta, p.algorithm.optimizer


def derivatives(env: str, size: UpdateSize) -> list[Row]:
    """Measure product, gradient and step of the task's network on one core, and plain autograd on the same states."""
    policy, theta, trpo = policy_of(env)
    network = network_of(policy)
    hidden = "-".join(str(n) for n in network.sizes[1:-1])
    label = f"{hidden} {network.nonlinearity}, {size.n_states // 1000} K states"
    rounds = on_cores(1, lambda group: _derivatives(policy, theta, trpo, size, group))

    def row(name: str, column: int, peer: int = 0, at_most: float | None = None) -> Row:
        return Row(f"{name}, {label}", "s", PEERS[peer], pairs(rounds, peer, column), at_most=at_most)

    rows = [
        row("Fisher-vector product", 2, at_most=PRODUCT),
        row("linearisation, once an update", 3),
        row("surrogate gradient", 4),
        row("whole TRPO step, fisher_fraction 0.1", 5),
        row("whole TRPO step, fisher_fraction 1", 6),
    ]
    if size.double_backprop:
        times_faster: list[Pair] = [(1 / ours, 1 / theirs) for ours, theirs in pairs(rounds, 1, 2)]
        name = f"Fisher-vector products a second, {label}"
        rows.append(Row(name, "1/s", PEERS[1], times_faster, at_least=DOUBLE_BACKPROP))
    return rows


PEERS = ("one plain autograd gradient", "double backprop of the KL")


def _derivatives(
    policy: NetworkPolicy, theta: Tensor, trpo: TrustRegion, size: UpdateSize, group: Group
) -> list[tuple[float, ...]]:
    """Return seconds: plain gradient, double backprop, our product, linearisation, gradient, steps at 0.1 and at 1."""
    batch, network = synthetic_batch(policy, theta, scaled_states(policy, size.n_states)), PlainNetwork(policy, theta)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal(policy.n_parameters)).to(theta)
    at = surrogate_at(policy, theta, batch, group)

    def linearise() -> Callable[[Tensor], Tensor]:
        return fisher_matrix(at, 1.0, Draw(0), analytic_metric).product

    def product() -> float:
        multiply = linearise()
        multiply(v)  # makes the buffers that every later product uses
        return seconds(lambda: multiply(v))

    def step(fraction: float) -> float:
        optimizer = replace(trpo, fisher_fraction=fraction)
        return seconds(lambda: optimizer(policy, theta, batch, Draw(0), group))

    def double_backprop() -> float:
        return seconds(lambda: plain_product(network, batch, v)) if size.double_backprop else 0.0

    return in_turns(
        size.repeats,
        lambda: seconds(lambda: plain_gradient(network, batch)),
        double_backprop,
        product,
        lambda: seconds(linearise),
        lambda: seconds(lambda: surrogate_gradient(policy, theta, batch, group)),
        lambda: step(0.1),
        lambda: step(1.0),
    )


def plain_gradient(network: PlainNetwork, batch: Batch) -> Tensor:
    """Return the gradient of Eq. (14) by autograd on the whole batch."""
    log_prob = network(torch.from_numpy(batch.obs)).log_prob(batch.actions[:, 0]).sum(-1)
    surrogate = (torch.exp(log_prob - batch.log_q[:, 0]) * batch.advantages[:, 0]).mean()
    return _flat(torch.autograd.grad(surrogate, list(network.parameters())))


def plain_product(network: PlainNetwork, batch: Batch, v: Tensor) -> Tensor:
    """Return the Fisher-vector product as the Hessian of the mean KL, by two passes of autograd on the whole batch."""
    new = network(torch.from_numpy(batch.obs))
    old = Normal(new.mean.detach(), new.stddev.detach())
    kl = kl_divergence(old, new).sum(-1).mean()
    parameters = list(network.parameters())
    gradient = _flat(torch.autograd.grad(kl, parameters, create_graph=True))
    return _flat(torch.autograd.grad(gradient @ v, parameters))


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def memory(env: str, n_states: int, fractions: Sequence[float]) -> list[Row]:
    """Measure the peak memory of one update, without the batch, in a new process for each ``fisher_fraction``."""
    rows = []
    for fraction in fractions:
        code = f"from benchmarks import updates; updates.report_memory({env!r}, {n_states}, {fraction})"
        # The new process imports this package, which lies beside the scripts and is not installed.
        scripts = str(Path(__file__).resolve().parents[1])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([scripts, *sys.path])}
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
        extra = json.loads(done.stdout)
        name = f"update of {env}'s network, {n_states / 1e6:g} M states, fisher_fraction {fraction:g}: memory"
        rows.append(Row(name, "GiB", "bound", [(extra, MEMORY_GIB)], at_most=1.0))
    return rows


def report_memory(env: str, n_states: int, fraction: float) -> None:
    """Print by how many GiB the peak of one update exceeds the memory in use before it. This needs Linux."""
    torch.set_num_threads(1)
    policy, theta, trpo = policy_of(env)
    batch = synthetic_batch(policy, theta, scaled_states(policy, n_states))
    before = _resident("VmRSS")
    replace(trpo, fisher_fraction=fraction)(policy, theta, batch, Draw(0), Group())
    print(json.dumps((_resident("VmHWM") - before) / GIB))


def _resident(field: str) -> int:
    """Return the memory of this process in bytes: now (VmRSS), or its peak so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
