"""Returns and advantages of episodes: discounted sums of rewards, with or without a value function."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def discounted_sums(rewards: Floats, gamma: float) -> Floats:
    """Reward-to-go of every step: ``rewards`` `[T, n]` -> Σ_l γ^l r_{t+l} `[T, n]`, zero beyond the end."""
    sums = np.empty_like(rewards)
    tail = np.zeros(rewards.shape[1:])
    for t in range(len(rewards) - 1, -1, -1):
        tail = sums[t] = rewards[t] + gamma * tail
    return sums


def generalised_advantages(
    rewards: Floats, values: Floats, following: Floats, ended: NDArray[np.bool_], gamma: float, lam: float
) -> Floats:
    """Generalised advantage estimates (Schulman et al. 2016, Eq. 16) of every step, `[T, n]`.

    δ_t = r_t + γ V(s_{t+1}) - V(s_t), and A_t = Σ_l (γλ)^l δ_{t+l}, up to the end of the episode or of the arrays.
    values: `[T, n]` V(s_t). following: `[T, n]` V of the true next observation, 0 after a terminal state.
    ended: `[T, n]` the episode ended with this step. Rows beyond a lane's end are 0 in every array, and in the result.
    """
    errors = rewards + gamma * following - values
    advantages = np.empty_like(errors)
    tail = np.zeros(rewards.shape[1:])
    for t in range(len(rewards) - 1, -1, -1):
        tail = advantages[t] = errors[t] + gamma * lam * np.where(ended[t], 0.0, tail)
    return advantages
