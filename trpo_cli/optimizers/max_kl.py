"""The step that bounds the KL divergence at every state: Eq. (11), Figure 4's max KL.

Linear objective, one quadratic constraint per state: maximise gᵀx subject to ½ xᵀ(A_s + εI)x ≤ δ for every state s. The
dual has one multiplier per state, nearly all of them zero, so it is solved on a working set: the states with the
largest violation are added until no constraint is violated. A_s = B_sᵀB_s has the rank of the distribution's
parameters, so only B_s is ever formed.
"""

from dataclasses import dataclass, replace
from itertools import chain
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from trpo_cli.optimizers.base import Updated, refusal, require, why_useless
from trpo_cli.optimizers.line_search import LineSearch
from trpo_cli.optimizers.surrogate import Surrogate, surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import Policy
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw

Floats = NDArray[np.float64]
Place = tuple[int, int]  # a state of the batch: worker, row


@dataclass(frozen=True)
class MaxKl:
    """Hyperparameters of the step under D_KL^max ≤ δ; numbers and sources in ``conf/optimizer/max_kl.yaml``."""

    kl_limit: float  # δ: bound on KL(old ‖ new) in nats at every state of the batch
    kl_slack: float  # a step is accepted up to kl_slack · δ at the worst state
    ridge: float  # ε, added to the diagonal of every state's Fisher matrix
    states_per_round: int  # violated states that each round adds to the working set
    max_rounds: int  # after these rounds the step is scaled down to meet every constraint
    tolerance: float  # of the constraints, as a fraction of δ
    line_search: str  # boundary or halving, as for trpo
    accept_ratio: float  # an accepted step gains at least this fraction of what the linear model promises
    max_backtracks: int  # trials after the first

    def __post_init__(self) -> None:
        require(0 < self.ridge < inf, "ridge", self.ridge, "a finite number > 0")
        require(self.states_per_round >= 1, "states_per_round", self.states_per_round, "at least 1")
        require(self.max_rounds >= 1, "max_rounds", self.max_rounds, "at least 1")
        require(0 < self.tolerance < 1, "tolerance", self.tolerance, "in (0, 1)")
        self._search()

    @property
    def needs_whole_paths(self) -> str:
        """Any batch will do."""
        return ""

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        at = surrogate_at(policy, theta, batch, group)
        if (reason := why_useless(at.gradient)) is not None:
            return refusal(at, reason)
        bounded = replace(self, kl_limit=self.kl_limit * batch.kl_fraction)
        full_step, n_working, rounds = bounded.solve(Constraints(at, self.ridge), at.gradient)
        updated = bounded._search()(at, full_step)
        return Updated(updated.theta, updated.stats | {"update/working_set": n_working, "update/rounds": rounds})

    def _search(self) -> LineSearch:
        """The line search on the largest divergence; it checks its own settings."""
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
        working: dict[Place, Working] = {}
        rounds = 0
        while rounds < self.max_rounds:
            worst, violated = constraints.most_violated(x, self.states_per_round)
            new = {place: Working(factor) for place, factor in violated if place not in working}
            if working and (worst <= (1 + self.tolerance) * self.kl_limit or not new):
                break
            working |= new
            factors = np.stack([state.factor for state in working.values()])
            start = np.array([state.multiplier for state in working.values()])
            dual = Dual(factors, g, self.kl_limit, self.ridge)
            x, multipliers = dual.solve(start, self.tolerance)
            binding = multipliers > 1e-7 * multipliers.max()
            solved = zip(working.items(), multipliers, binding, strict=True)
            working = {place: Working(state.factor, m) for (place, state), m, kept in solved if kept}
            rounds += 1
        worst, _ = constraints.most_violated(x, 1)
        x = x * sqrt(self.kl_limit / worst)
        return torch.as_tensor(x).to(gradient), len(working), rounds


class Working(NamedTuple):
    """A state of the working set."""

    factor: Floats  # B `[P, D]`
    multiplier: float = 0.0  # λ


class Dual:
    """The dual problem on a working set: minimise ½ gᵀH⁻¹g + δ Σ_s λ_s over λ ≥ 0; x = H⁻¹g is the primal solution.

    H = Σ_s λ_s (B_sᵀB_s + εI) = BᵀΛB + sI, where B ``[W·P, D]`` has the rows of all B_s, Λ is diagonal with each λ_s on
    the P rows of its state, and s = ε Σ_s λ_s. By the Woodbury identity, with R = Λ^½ and the Gram matrix G = BBᵀ,

        H⁻¹g = (g - BᵀR (sI + RGR)⁻¹ RBg) / s = (g - Bᵀw) / s,    w = R (sI + RGR)⁻¹ R Bg.

    So only matrices of size W·P are solved, and B x = (Bg - Gw) / s needs no D-vector either.

    factors: the B_s, ``[W, P, D]``. g: ``[D]``.
    """

    def __init__(self, factors: Floats, g: Floats, kl_limit: float, ridge: float) -> None:
        self._n, self._p, _ = factors.shape
        self._g, self._kl_limit, self._ridge = g, kl_limit, ridge
        self._rows = factors.reshape(self._n * self._p, -1)
        self._gram, self._rows_g, self._g_squared = self._rows @ self._rows.T, self._rows @ g, float(g @ g)
        # The size of the multipliers if all states shared one: in units of it they are about one.
        self._unit = sqrt(self._g_squared / (2 * kl_limit * (np.trace(self._gram) / self._n + ridge)))

    def solve(self, start: Floats, tolerance: float) -> tuple[Floats, Floats]:
        """x ``[D]`` and the multipliers ``[W]``, from the multipliers ``start``; tolerance: a fraction of δ."""
        begin = np.maximum(start / self._unit, 0.01 / self._n)
        bounds = [(1e-12, None)] * self._n  # H must stay positive
        # The gradient is what is left of each constraint, as a fraction of δ.
        options = {"maxiter": 500, "ftol": 1e-15, "gtol": 0.1 * tolerance}
        result = minimize(self._objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        multipliers = result.x * self._unit
        w, s = self._woodbury(multipliers)
        return (self._g - self._rows.T @ w) / s, multipliers

    def _woodbury(self, multipliers: Floats) -> tuple[Floats, float]:
        """w ``[W·P]`` and s."""
        s, root = self._ridge * multipliers.sum(), np.sqrt(np.repeat(multipliers, self._p))
        inner = root[:, None] * self._gram * root + s * np.eye(self._n * self._p)
        return root * np.linalg.solve(inner, root * self._rows_g), s

    def _objective(self, scaled: Floats) -> tuple[float, Floats]:
        """The dual and its gradient, for multipliers in units of ``unit``."""
        w, s = self._woodbury(scaled * self._unit)
        b_x = (self._rows_g - self._gram @ w) / s
        g_h_g = (self._g_squared - self._rows_g @ w) / s
        x_squared = (self._g_squared - 2 * self._rows_g @ w + w @ self._gram @ w) / s**2
        quadratic = 0.5 * ((b_x**2).reshape(self._n, self._p).sum(1) + self._ridge * x_squared)
        value = 0.5 * g_h_g / (self._unit * self._kl_limit) + scaled.sum()
        return value, 1 - quadratic / self._kl_limit


class Constraints:
    """Every state's quadratic model of KL(old ‖ new), this worker's states linearised once."""

    def __init__(self, at: Surrogate, ridge: float) -> None:
        self._at, self._ridge = at, ridge
        chunks = at.batch.chunks(at.policy.chunk_size)
        self._pieces = [at.policy.linearize(at.theta, at.policy.tensor(chunk.obs)) for chunk in chunks]

    def most_violated(self, x: Floats, n: int) -> tuple[float, list[tuple[Place, Floats]]]:
        """The largest ½ xᵀ(A_s + εI)x of all workers' states, and place and factor B_s ``[P, D]`` of the n largest."""
        step = torch.as_tensor(x).to(self._at.theta)
        values = [torch.zeros(0, dtype=torch.float64)]
        for piece in self._pieces:
            image = piece.jvp(step)
            values.append(
                (0.5 * image * self._at.policy.dist.fisher_product(piece.params, image)).sum(1).double().cpu()
            )
        mine, rows = torch.cat(values).topk(min(n, len(self._at.batch.old)))
        places = [(self._at.group.rank, int(row)) for row in rows]
        found = [(value, (place, self._factor(place[1]))) for value, place in zip(mine.tolist(), places, strict=True)]
        everyone = sorted(chain(*self._at.group.gather_objects(found)), key=lambda item: -item[0])[:n]
        return everyone[0][0] + 0.5 * self._ridge * float(x @ x), [state for _, state in everyone]

    def _factor(self, row: int) -> Floats:
        """B ``[P, D]`` of one state with BᵀB = JᵀMJ, by the square root of M."""
        policy = self._at.policy
        linear = policy.linearize(self._at.theta, policy.tensor(self._at.batch.obs[row : row + 1]))
        basis = torch.eye(linear.params.shape[1]).to(linear.params)
        metric = policy.dist.fisher_product(linear.params.expand(len(basis), -1), basis).double().cpu()
        jacobian = torch.stack([linear.vjp(e[None]) for e in basis]).double().cpu()
        values, vectors = torch.linalg.eigh(metric)
        return (values.clamp(min=0).sqrt()[:, None] * (vectors.T @ jacobian)).numpy()
