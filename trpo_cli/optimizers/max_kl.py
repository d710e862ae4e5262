"""The step that bounds the KL divergence at every state: Eq. (11), Figure 4's max KL.

Linear objective, one quadratic constraint a state: maximise gᵀx subject to ½ xᵀ(A_s + εI)x ≤ δ for every state s. The
dual has one multiplier a state, nearly all of them zero, so it is solved on a working set that takes in the states
violated most until none is. A_s = B_sᵀB_s has the rank of the distribution's parameters: only B_s is ever formed.
"""

from dataclasses import dataclass
from itertools import chain
from math import inf, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from trpo_cli.optimizers.base import Updated, refused, require
from trpo_cli.optimizers.fisher import useless
from trpo_cli.optimizers.line_search import LineSearch
from trpo_cli.optimizers.surrogate import surrogate_gradient
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch

Floats = NDArray[np.float64]
Place = tuple[int, int]  # a state of the batch: worker, row


@dataclass(frozen=True)
class MaxKl:
    """Hyperparameters of the step under D_KL^max ≤ δ; numbers and sources in ``conf/optimizer/max_kl.yaml``."""

    kl_limit: float  # δ: bound on KL(old ‖ new) in nats at every state of the batch
    kl_slack: float  # a step is accepted up to kl_slack · δ at the worst state
    ridge: float  # ε, added to the diagonal of every state's Fisher matrix
    states_per_round: int  # violated states that each round adds to the working set
    max_rounds: int  # rounds before what violation is left is scaled away
    tolerance: float  # of the constraints, as a fraction of δ
    line_search: str  # boundary or halving, as for trpo
    accept_ratio: float  # gain of an accepted step, at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first

    def __post_init__(self) -> None:
        require(0 < self.ridge < inf, "ridge", self.ridge, "a finite number > 0")
        require(self.states_per_round >= 1, "states_per_round", self.states_per_round, "at least 1")
        require(self.max_rounds >= 1, "max_rounds", self.max_rounds, "at least 1")
        require(0 < self.tolerance < 1, "tolerance", self.tolerance, "in (0, 1)")
        _ = self._line_search  # which checks the rest

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, rng: np.random.Generator, group: Group) -> Updated:
        gradient, surrogate = surrogate_gradient(policy, theta, batch, group)
        if (reason := useless(gradient)) is not None:
            return refused(theta, reason, gradient)
        constraints = Constraints(policy, theta, batch, self.ridge, group)
        full_step, n_working, rounds = self.solve(constraints, gradient)
        updated = self._line_search(policy, theta, full_step, gradient, surrogate, batch, group)
        return Updated(updated.theta, updated.stats | {"update/working_set": n_working, "update/rounds": rounds})

    @property
    def _line_search(self) -> LineSearch:
        return LineSearch(
            kind=self.line_search,
            kl_limit=self.kl_limit,
            kl_slack=self.kl_slack,
            accept_ratio=self.accept_ratio,
            max_backtracks=self.max_backtracks,
            divergence=lambda new: new.max_kl,
        )

    def solve(self, constraints: "Constraints", gradient: Tensor) -> tuple[Tensor, int, int]:
        """The maximiser ``[D]`` of gᵀx under every state's constraint, its working set's size, the rounds taken."""
        g = gradient.double().cpu().numpy()
        x = g
        working: dict[Place, tuple[Floats, float]] = {}  # state: its factor and its multiplier
        for rounds in range(self.max_rounds):  # noqa: B007 - the count is part of the answer
            worst, found = constraints.most_violated(x, self.states_per_round)
            new = {place: (factor, 0.0) for place, factor in found if place not in working}
            if working and (worst <= (1 + self.tolerance) * self.kl_limit or not new):
                break
            working |= new
            factors, start = (list(part) for part in zip(*working.values(), strict=True))
            x, multipliers = self._solve_dual(np.stack(factors), np.array(start), g)
            solved = zip(working, factors, multipliers, strict=True)
            working = {place: (f, m) for place, f, m in solved if m > 1e-7 * multipliers.max()}
        worst, _ = constraints.most_violated(x, 1)
        x = x * sqrt(self.kl_limit / worst)
        return torch.as_tensor(x).to(gradient), len(working), rounds

    def _solve_dual(self, factors: Floats, start: Floats, g: Floats) -> tuple[Floats, Floats]:
        """Minimise ½ gᵀH⁻¹g + δ Σλ over λ ≥ 0 with H = Σ λ_s (B_sᵀB_s + εI); x = H⁻¹g is the primal solution.

        factors: B ``[W, P, D]``. With s = ε Σλ everything but x itself lives in the W·P rows of B (Woodbury).
        """
        n, p, _ = factors.shape
        rows = factors.reshape(n * p, -1)
        gram, along, g_squared = rows @ rows.T, rows @ g, float(g @ g)

        def solution(multipliers: Floats) -> tuple[Floats, float, Floats]:
            """Λ^½ (sI + Λ^½ G Λ^½)⁻¹ Λ^½ B g, s, and B x."""
            s, root = self.ridge * multipliers.sum(), np.sqrt(np.repeat(multipliers, p))
            inner = root[:, None] * gram * root + s * np.eye(n * p)
            weights = root * np.linalg.solve(inner, root * along)
            return weights, s, (along - gram @ weights) / s

        def dual(scaled: Floats) -> tuple[float, Floats]:
            multipliers = scaled * unit
            weights, s, images = solution(multipliers)
            g_h_g = (g_squared - along @ weights) / s
            x_squared = (g_squared - 2 * along @ weights + weights @ gram @ weights) / s**2
            quadratic = 0.5 * ((images**2).reshape(n, p).sum(1) + self.ridge * x_squared)
            return 0.5 * g_h_g / (unit * self.kl_limit) + scaled.sum(), 1 - quadratic / self.kl_limit

        # The size of the multipliers if all states shared one: it makes the problem's numbers about one.
        unit = sqrt(g_squared / (2 * self.kl_limit * (np.trace(gram) / n + self.ridge)))
        begin = np.maximum(start / unit, 0.01 / n)
        bounds = [(1e-12, None)] * n  # H must stay positive
        # The gradient is what is left of each constraint, as a fraction of δ.
        options = {"maxiter": 500, "ftol": 1e-15, "gtol": 0.1 * self.tolerance}
        result = minimize(dual, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        multipliers = result.x * unit
        weights, s, _ = solution(multipliers)
        return (g - rows.T @ weights) / s, multipliers


class Constraints:
    """Every state's quadratic model of KL(old ‖ new), this worker's states linearised once."""

    def __init__(self, policy: Policy, theta: Tensor, batch: Batch, ridge: float, group: Group) -> None:
        self._policy, self._theta, self._batch, self._ridge, self._world = policy, theta, batch, ridge, group
        self._pieces = [policy.linearize(theta, policy.tensor(chunk.obs)) for chunk in batch.chunks(policy.chunk_size)]

    def most_violated(self, x: Floats, n: int) -> tuple[float, list[tuple[Place, Floats]]]:
        """The largest ½ xᵀ(A_s + εI)x of all workers' states, and place and factor B_s ``[P, D]`` of the n largest."""
        step = torch.as_tensor(x).to(self._theta)
        values = [torch.zeros(0, dtype=torch.float64)]
        for piece in self._pieces:
            image = piece.jvp(step)
            values.append((0.5 * image * self._policy.dist.fisher_product(piece.params, image)).sum(1).double().cpu())
        mine, rows = torch.cat(values).topk(min(n, len(self._batch.old)))
        places = [(self._world.rank, int(row)) for row in rows]
        found = [(value, (place, self._factor(place[1]))) for value, place in zip(mine.tolist(), places, strict=True)]
        everyone = sorted(chain(*self._world.gather_objects(found)), key=lambda item: -item[0])[:n]
        return everyone[0][0] + 0.5 * self._ridge * float(x @ x), [state for _, state in everyone]

    def _factor(self, row: int) -> Floats:
        """B ``[P, D]`` of one state with BᵀB = JᵀMJ, by the square root of M."""
        policy = self._policy
        linear = policy.linearize(self._theta, policy.tensor(self._batch.obs[row : row + 1]))
        basis = torch.eye(linear.params.shape[1]).to(linear.params)
        metric = policy.dist.fisher_product(linear.params.expand(len(basis), -1), basis).double().cpu()
        jacobian = torch.stack([linear.vjp(e[None]) for e in basis]).double().cpu()
        values, vectors = torch.linalg.eigh(metric)
        return (values.clamp(min=0).sqrt()[:, None] * (vectors.T @ jacobian)).numpy()
