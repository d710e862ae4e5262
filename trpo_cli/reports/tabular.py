"""Sections 2 and 3 of the paper on tabular problems, where every quantity is exact.

η, Q, A and ρ solve linear systems; the surrogate L, the bound of Theorem 1 and the maximisation of Algorithm 1 have no
sampling error. A policy is an array ``[S, A]`` of probabilities, positive everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

BISECTIONS = 50  # halvings of an interval: to rounding


@dataclass(frozen=True)
class TabularMdp:
    """A finite problem whose reward depends on the state alone, as in the paper.

    transition: `[S, A, S]` probability of the next state. reward: `[S]`. start: `[S]` probability of the first state.
    """

    transition: Array
    reward: Array
    start: Array
    gamma: float


def random_mdp(rng: np.random.Generator, n_states: int, n_actions: int, gamma: float) -> TabularMdp:
    """Return a problem with normal rewards whose actions lead to a few likely states each."""
    transition = rng.dirichlet(np.full(n_states, 0.3), (n_states, n_actions))
    return TabularMdp(transition, rng.standard_normal(n_states), rng.dirichlet(np.ones(n_states)), gamma)


def random_policy(rng: np.random.Generator, mdp: TabularMdp, temperature: float = 1.0) -> Array:
    """Return a softmax policy `[S, A]` with normal logits of standard deviation ``temperature``."""
    logits = temperature * rng.standard_normal(mdp.transition.shape[:2])
    return softmax(logits)


def softmax(logits: Array) -> Array:
    """Return the policy `[S, A]` of ``logits``: `[S, A]`."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def values(mdp: TabularMdp, policy: Array) -> Array:
    """Return V_π `[S]`, the expected discounted sum of the rewards from each state on."""
    return np.linalg.solve(np.eye(len(mdp.reward)) - mdp.gamma * _chain(mdp, policy), mdp.reward)


def expected_return(mdp: TabularMdp, policy: Array) -> float:
    """Return η(π)."""
    return float(mdp.start @ values(mdp, policy))


def advantages(mdp: TabularMdp, policy: Array) -> Array:
    """Return A_π `[S, A]` = Q_π - V_π."""
    v = values(mdp, policy)
    q = mdp.reward[:, None] + mdp.gamma * mdp.transition @ v
    return q - v[:, None]


def visitation(mdp: TabularMdp, policy: Array) -> Array:
    """Return ρ_π `[S]`, the unnormalised discounted visitation frequencies; they sum to 1 / (1 - γ)."""
    return np.linalg.solve(np.eye(len(mdp.reward)) - mdp.gamma * _chain(mdp, policy).T, mdp.start)


def return_through_advantages(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return η(new) through the advantages of the old policy and the visitation of the new one."""
    return expected_return(mdp, old) + _gain(visitation(mdp, new), new, advantages(mdp, old))  # Eq. (2)


def surrogate(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return L_old(new): the same with the visitation of the old policy."""
    return expected_return(mdp, old) + _gain(visitation(mdp, old), new, advantages(mdp, old))  # Eq. (3)


def max_kl(old: Array, new: Array) -> float:
    """Return the maximum over states of KL(old ‖ new)."""
    return float(np.sum(old * np.log(old / new), axis=1).max())


def max_total_variation(old: Array, new: Array) -> float:
    """Return the maximum over states of the total variation distance, half the sum of the absolute differences."""
    return float(np.abs(old - new).sum(axis=1).max() / 2)


def penalty(mdp: TabularMdp, old: Array) -> float:
    """Return C, the coefficient of Theorem 1."""
    epsilon = np.abs(advantages(mdp, old)).max()
    return float(4 * epsilon * mdp.gamma / (1 - mdp.gamma) ** 2)  # Eq. (9)


def total_variation_bound(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return the lower bound on η(new) in terms of total variation."""
    return surrogate(mdp, old, new) - penalty(mdp, old) * max_total_variation(old, new) ** 2  # Eq. (8)


def lower_bound(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return the lower bound on η(new) in terms of KL, M of Eq. (10)."""
    return surrogate(mdp, old, new) - penalty(mdp, old) * max_kl(old, new)  # Eq. (9)


def policy_iteration_step(mdp: TabularMdp, old: Array) -> Array:
    """Return the policy that maximises L_old - C max KL, one iteration of Algorithm 1, to rounding.

    L is a sum over states, so under a common limit d on the KL each state can be solved alone (see `_tilted`), and the
    best d is where the gains that a larger one buys, summed over states, come down to C.
    """
    advantage, rho, c = advantages(mdp, old), visitation(mdp, old), penalty(mdp, old)
    # By definition zero, and what rounding leaves there would spoil the tiny steps that a large C asks for.
    advantage = advantage - (old * advantage).sum(axis=1, keepdims=True)
    worth = advantage.max(axis=1) > 1e-12 * np.abs(advantage).max()
    if not worth.any():
        return old
    low, high = -80.0, 5.0  # of log d
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        slope = _tilted(old[worth], advantage[worth], np.exp(middle))[1]
        low, high = (middle, high) if rho[worth] @ slope > c else (low, middle)
    new = old.copy()
    new[worth] = _tilted(old[worth], advantage[worth], np.exp(low))[0]
    return new


def policy_iteration(mdp: TabularMdp, policy: Array, n_iterations: int) -> Array:
    """Return η of each policy of Algorithm 1, `[n_iterations + 1]`, beginning with ``policy``'s."""
    returns = [expected_return(mdp, policy)]
    for _ in range(n_iterations):
        policy = policy_iteration_step(mdp, policy)
        returns.append(expected_return(mdp, policy))
    return np.array(returns)


def optimal_return(mdp: TabularMdp) -> float:
    """Return η of the best policy, by Howard's policy iteration."""
    n_states, n_actions, _ = mdp.transition.shape
    greedy = np.zeros(n_states, dtype=np.int64)
    while True:
        policy = np.eye(n_actions)[greedy]
        advantage = advantages(mdp, policy)
        better = advantage.max(axis=1) > 1e-10
        if not better.any():
            return expected_return(mdp, policy)
        greedy = np.where(better, advantage.argmax(axis=1), greedy)


def _chain(mdp: TabularMdp, policy: Array) -> Array:
    """Return the probability `[S, S]` of going from each state to each under ``policy``."""
    return np.einsum("sa,sat->st", policy, mdp.transition)


def _gain(rho: Array, policy: Array, advantage: Array) -> float:
    return float(rho @ (policy * advantage).sum(axis=1))


def _tilted(old: Array, advantage: Array, limit: float) -> tuple[Array, Array]:
    """Return for each state the policy of largest expected advantage with KL(old ‖ new) <= ``limit``, and its slope.

    old: `[S, A]`. advantage: `[S, A]`, of mean zero under ``old``, positive somewhere. The slope `[S]` is what a
    larger limit would buy, the multiplier of the constraint.

    Where the gradient of the Lagrangian vanishes, new = old / (Z (1 - t advantage)) with one t > 0 a state and Z the
    normaliser; the KL rises with t from zero without end, so t is found by bisection.
    """
    low, high = np.zeros(len(old)), (1 - 1e-12) / advantage.max(axis=1)
    for _ in range(BISECTIONS):
        t = (low + high) / 2
        tilt = t[:, None] * advantage
        # Both sums are of second order in t: the first orders, which cancel, are taken out by hand.
        excess = (old * tilt**2 / (1 - tilt)).sum(axis=1)  # Z - 1
        kl = np.log1p(excess) + (old * (np.log1p(-tilt) + tilt)).sum(axis=1)
        low, high = np.where(kl > limit, low, t), np.where(kl > limit, t, high)
    weights = old / (1 - low[:, None] * advantage)
    normaliser = weights.sum(axis=1)
    return weights / normaliser[:, None], 1 / (np.maximum(low, np.finfo(float).tiny) * normaliser)
