"""Sections 2 and 3 of the paper on tabular problems, where every quantity is exact.

η, Q, A and ρ are solutions of linear systems. The surrogate L, the bound of Theorem 1 and the maximisation of
Algorithm 1 therefore have no sampling error. A policy is an array ``[S, A]`` of positive probabilities.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

BISECTIONS = 50  # enough for the precision of floating-point numbers


@dataclass(frozen=True)
class TabularMdp:
    """A finite problem. Its reward depends on the state alone, as in the paper.

    transition: `[S, A, S]`, probability of the next state. reward: `[S]`. start: `[S]`, probability of the first state.
    """

    transition: Array
    reward: Array
    start: Array
    gamma: float


def random_mdp(rng: np.random.Generator, n_states: int, n_actions: int, gamma: float) -> TabularMdp:
    """Return a problem with normal rewards. Each action leads to a few likely states."""
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
    """Return V_π `[S]`, the expected discounted sum of rewards from each state."""
    return np.linalg.solve(np.eye(len(mdp.reward)) - mdp.gamma * _state_transitions(mdp, policy), mdp.reward)


def expected_return(mdp: TabularMdp, policy: Array) -> float:
    """Return η(π)."""
    return float(mdp.start @ values(mdp, policy))


def advantages(mdp: TabularMdp, policy: Array) -> Array:
    """Return A_π `[S, A]` = Q_π - V_π."""
    v = values(mdp, policy)
    q = mdp.reward[:, None] + mdp.gamma * mdp.transition @ v
    return q - v[:, None]


def visitation(mdp: TabularMdp, policy: Array) -> Array:
    """Return ρ_π `[S]`, the unnormalised discounted visitation frequencies. Their sum is 1 / (1 - γ)."""
    return np.linalg.solve(np.eye(len(mdp.reward)) - mdp.gamma * _state_transitions(mdp, policy).T, mdp.start)


def return_through_advantages(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return η(new), computed from the advantages of the old policy and the visitation of the new one."""
    return expected_return(mdp, old) + _gain(visitation(mdp, new), new, advantages(mdp, old))  # Eq. (2)


def surrogate(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return L_old(new), which is Eq. (2) with the visitation of the old policy."""
    return expected_return(mdp, old) + _gain(visitation(mdp, old), new, advantages(mdp, old))  # Eq. (3)


def max_kl(old: Array, new: Array) -> float:
    """Return the maximum over states of KL(old ‖ new)."""
    return float(np.sum(old * np.log(old / new), axis=1).max())


def max_total_variation(old: Array, new: Array) -> float:
    """Return the maximum over states of the total variation distance."""
    return float(np.abs(old - new).sum(axis=1).max() / 2)


def penalty(mdp: TabularMdp, old: Array) -> float:
    """Return C, the factor of the max KL in Theorem 1."""
    epsilon = np.abs(advantages(mdp, old)).max()
    return float(4 * epsilon * mdp.gamma / (1 - mdp.gamma) ** 2)  # Eq. (9)


def total_variation_bound(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return the lower bound on η(new) in terms of total variation."""
    return surrogate(mdp, old, new) - penalty(mdp, old) * max_total_variation(old, new) ** 2  # Eq. (8)


def lower_bound(mdp: TabularMdp, old: Array, new: Array) -> float:
    """Return the lower bound on η(new) in terms of KL. Eq. (10) calls it M."""
    return surrogate(mdp, old, new) - penalty(mdp, old) * max_kl(old, new)  # Eq. (9)


def policy_iteration_step(mdp: TabularMdp, old: Array) -> Array:
    """Return the policy that maximises L_old - C max KL: one iteration of Algorithm 1.

    L is a sum over states. For a given limit d on the max KL, each state is therefore a problem of its own, which
    `_best_within` solves. A larger d increases L, but by less and less. The best d is the one at which the increase of
    L per unit of d has fallen to C. It is found by bisection.
    """
    advantage, rho, c = advantages(mdp, old), visitation(mdp, old), penalty(mdp, old)
    # The mean advantage is zero by definition. A rounding error in it would spoil the tiny steps of a large C.
    advantage = advantage - (old * advantage).sum(axis=1, keepdims=True)
    improvable = advantage.max(axis=1) > 1e-12 * np.abs(advantage).max()
    if not improvable.any():
        return old
    low, high = -80.0, 5.0  # of log d
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        slope = _best_within(np.exp(middle), old[improvable], advantage[improvable])[1]
        low, high = (middle, high) if rho[improvable] @ slope > c else (low, middle)
    new = old.copy()
    new[improvable] = _best_within(np.exp(low), old[improvable], advantage[improvable])[0]
    return new


def policy_iteration(mdp: TabularMdp, policy: Array, n_iterations: int) -> Array:
    """Return η of each policy of Algorithm 1, `[n_iterations + 1]`. The first one is ``policy``."""
    returns = [expected_return(mdp, policy)]
    for _ in range(n_iterations):
        policy = policy_iteration_step(mdp, policy)
        returns.append(expected_return(mdp, policy))
    return np.array(returns)


def optimal_return(mdp: TabularMdp) -> float:
    """Return η of the best policy, found by Howard's policy iteration."""
    n_states, n_actions, _ = mdp.transition.shape
    greedy = np.zeros(n_states, dtype=np.int64)
    while True:
        policy = np.eye(n_actions)[greedy]
        advantage = advantages(mdp, policy)
        better = advantage.max(axis=1) > 1e-10
        if not better.any():
            return expected_return(mdp, policy)
        greedy = np.where(better, advantage.argmax(axis=1), greedy)


def _state_transitions(mdp: TabularMdp, policy: Array) -> Array:
    """Return the probability `[S, S]` of the next state under ``policy``."""
    return np.einsum("sa,sat->st", policy, mdp.transition)


def _gain(rho: Array, policy: Array, advantage: Array) -> float:
    return float(rho @ (policy * advantage).sum(axis=1))


def _best_within(limit: float, old: Array, advantage: Array) -> tuple[Array, Array]:
    """Return, for each state, the policy with the largest expected advantage under KL(old ‖ new) <= ``limit``.

    Return also the slope `[S]`: the increase of that advantage per unit of ``limit``, which is the constraint's
    Lagrange multiplier.

    old: `[S, A]`. advantage: `[S, A]`, with mean zero under ``old`` and a positive entry in every state

    The gradient of the Lagrangian is zero at new = old / (Z (1 - t advantage)), with one t > 0 per state and the
    normaliser Z. The KL grows with t from zero without bound, so bisection finds t.
    """
    low, high = np.zeros(len(old)), (1 - 1e-12) / advantage.max(axis=1)
    for _ in range(BISECTIONS):
        t = (low + high) / 2
        tilt = t[:, None] * advantage
        # Both sums are of second order in t. Their terms of first order cancel, so they are left out.
        excess = (old * tilt**2 / (1 - tilt)).sum(axis=1)  # Z - 1
        kl = np.log1p(excess) + (old * (np.log1p(-tilt) + tilt)).sum(axis=1)
        low, high = np.where(kl > limit, low, t), np.where(kl > limit, t, high)
    weights = old / (1 - low[:, None] * advantage)
    normaliser = weights.sum(axis=1)
    return weights / normaliser[:, None], 1 / (np.maximum(low, np.finfo(float).tiny) * normaliser)
