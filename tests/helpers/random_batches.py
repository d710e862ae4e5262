"""Random batches of small policies, and the same computation in several workers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from toy_sims import mlp

from trpo_cli.parallel import processes
from trpo_cli.parallel.group import Group
from trpo_cli.policies.network_policy import NetworkPolicy
from trpo_cli.samplers.batch import Batch, Paths
from trpo_cli.sims.base import Continuous, Discrete

KINDS = ("gaussian", "categorical")


@dataclass(frozen=True)
class Spaces:
    """As much of a simulator as a policy is built from."""

    obs_shape: tuple[int, ...]
    action_space: Continuous | Discrete


SPACES = {
    "gaussian": Spaces((3,), Continuous(-np.ones(2), np.ones(2))),
    "categorical": Spaces((3,), Discrete((3, 2))),
}


def draw(
    kind: str, m: int, k: int = 1, seed: int = 0, hidden_sizes: tuple[int, ...] = ()
) -> tuple[NetworkPolicy, Tensor, Batch]:
    """A policy, its θ_old, and ``m`` states with ``k`` actions of it each; episodes of 5 states where ``k`` is 1."""
    rng = np.random.default_rng(seed)
    policy = mlp(SPACES[kind], hidden_sizes)  # type: ignore[arg-type]
    theta = torch.from_numpy(0.5 * rng.standard_normal(policy.n_parameters))
    obs = rng.standard_normal((m, 3))
    old = policy.params(theta, policy.tensor(obs))
    actions = policy.dist.sample(old[:, None], torch.from_numpy(policy.dist.draw_noise(rng, (m, k))).double())
    batch = Batch(
        obs,
        old,
        actions,
        torch.from_numpy(rng.standard_normal((m, k))),
        policy.dist.log_prob(old[:, None], actions),
        "importance",
        m,
        Paths(np.arange(m) // 5, rng.standard_normal(-(-m // 5))) if k == 1 else None,
    )
    return policy, theta, batch


def share_of(batch: Batch, group: Group) -> Batch:
    """This worker's part of the batch: whole episodes where it has any."""
    if batch.paths is None:
        mine = group.share(len(batch.old))
        return batch.rows(slice(mine.start, mine.stop))
    episodes = group.share(len(batch.paths.returns))
    rows = np.flatnonzero((batch.paths.episode >= episodes.start) & (batch.paths.episode < episodes.stop))
    part = batch.rows(slice(rows[0], rows[-1] + 1))
    paths = Paths(batch.paths.episode[rows] - episodes.start, batch.paths.returns[episodes.start : episodes.stop])
    return replace(part, paths=paths)


def in_workers(size: int, body: Callable[[Group], Any]) -> list[Any]:
    """What ``body`` returns in each of ``size`` worker processes."""
    with TemporaryDirectory() as folder:

        def keep(group: Group) -> int:
            torch.set_num_threads(1)
            torch.save(body(group), Path(folder, f"{group.rank}.pt"))
            return 0

        assert processes.run(size, keep) == 0
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(size)]


def dense_fisher(policy: NetworkPolicy, theta: Tensor, batch: Batch) -> Tensor:
    """The Hessian of KL(old ‖ new) at θ_old of every state ``[M, D, D]``, by differentiating twice."""

    def hessian(row: int) -> Tensor:
        obs = policy.tensor(batch.obs[row : row + 1])
        return torch.autograd.functional.hessian(
            lambda p: policy.dist.kl(batch.old[row], policy.params(p, obs)[0]), theta
        )

    return torch.stack([hessian(row) for row in range(len(batch.old))])


def dense_gradient(policy: NetworkPolicy, theta: Tensor, batch: Batch) -> Tensor:
    """The gradient of Eq. (14) at ``theta``."""

    def objective(p: Tensor) -> Tensor:
        params = policy.params(p, policy.tensor(batch.obs))[:, None]
        return ((policy.dist.log_prob(params, batch.actions) - batch.log_q).exp() * batch.advantages).mean()

    return torch.func.grad(objective)(theta)
