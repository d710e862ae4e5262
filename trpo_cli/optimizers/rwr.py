"""Reward-weighted regression: maximum likelihood on the best episodes, Figure 4's RWR (authors' code)."""

from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Updated, require
from trpo_cli.optimizers.surrogate import change, gradient_and_value
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RewardWeightedRegression:
    """The policy most likely to have acted as the best episodes did; weight 1 for these, 0 for the rest.

    Paper: Figure 4 plots RWR and v5 does not describe it; binary weights and L-BFGS are the authors' code's.
    """

    elite_fraction: float  # of the episodes, by return
    max_evaluations: int  # of the likelihood and its gradient, by L-BFGS

    def __post_init__(self) -> None:
        require(0 < self.elite_fraction <= 1, "elite_fraction", self.elite_fraction, "in (0, 1]")
        require(self.max_evaluations >= 1, "max_evaluations", self.max_evaluations, "at least 1")

    @property
    def needs_whole_paths(self) -> str:
        """It ranks whole episodes."""
        return "optimizer=rwr"

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        best, threshold = self._elite(batch, group)
        n_best = int(group.sums(float(len(best.old)))[0])

        def loss(x: Floats) -> tuple[float, Floats]:
            """Minus the mean log-likelihood of the elite's actions, and its gradient."""
            total = gradient_and_value(
                policy,
                torch.as_tensor(x).to(theta),
                best,
                lambda params, chunk: policy.dist.log_prob(params, chunk.actions[:, 0]).sum(),
            )
            mean = -group.sum(total).cpu().numpy() / n_best
            return float(mean[-1]), mean[:-1]

        x = theta.double().cpu().numpy()
        before = loss(x)[0]
        fitted = minimize(loss, x, jac=True, method="L-BFGS-B", options={"maxfun": self.max_evaluations, "ftol": 1e-12})
        better = bool(np.isfinite(fitted.x).all()) and fitted.fun < before
        new = torch.as_tensor(fitted.x).to(theta) if better else theta
        reached = change(policy, new, batch, group)
        return Updated(
            new,
            {
                "update/mean_kl": reached.mean_kl,
                "update/max_kl": reached.max_kl,
                "update/surrogate_gain": reached.surrogate - change(policy, theta, batch, group).surrogate,
                "update/accepted": better,
                "update/reason": "accepted" if better else "no_improvement",
                "update/backtracks": 0,
                "update/cg_residual": nan,  # no linear system is solved
                "update/log_likelihood_gain": before - float(fitted.fun) if better else 0.0,
                "update/elite_return": threshold,
                "update/evaluations": int(fitted.nfev),
                "update/entropy": reached.entropy,
            },
        )

    def _elite(self, batch: Batch, group: Group) -> tuple[Batch, float]:
        """This worker's states of the best episodes, and the lowest return among them."""
        if batch.paths is None:
            raise ConfigError("optimizer=rwr ranks whole episodes and cannot use sampler=vine; use sampler=single")
        returns = np.asarray(group.concatenate(batch.paths.returns), np.float64)
        n = max(round(self.elite_fraction * len(returns)), 1)
        threshold = float(np.sort(returns)[-n])
        return batch.rows(np.flatnonzero(batch.paths.returns[batch.paths.episode] >= threshold)), threshold
