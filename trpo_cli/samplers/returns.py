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
    rewards: Floats, values: Floats, beyond: Floats, lengths: NDArray[np.intp], gamma: float, lam: float
) -> Floats:
    """Generalised advantage estimates (Schulman et al. 2016, Eq. 16) of every step, `[T, n]`, zero beyond the end.

    δ_t = r_t + γ V(s_{t+1}) - V(s_t), and A_t = Σ_l (γλ)^l δ_{t+l}, cut at each lane's end.
    values: `[T, n]` V(s_t). beyond: `[n]` V of the true observation after a lane's last step; 0 if it terminated.
    lengths: `[n]` steps of each lane.
    """
    advantages = np.zeros_like(rewards)
    lanes = np.arange(rewards.shape[1])
    following = np.zeros_like(values)
    following[:-1] = values[1:]
    following[lengths - 1, lanes] = beyond
    errors = rewards + gamma * following - values
    tail = np.zeros(rewards.shape[1])
    for t in range(len(rewards) - 1, -1, -1):
        alive = t < lengths
        tail = np.where(alive, errors[t] + gamma * lam * tail, 0.0)
        advantages[t] = tail
    return advantages
