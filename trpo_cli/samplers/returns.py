"""Returns of episodes: discounted sums of rewards."""

import numpy as np
from numpy.typing import NDArray


def discounted_sums(rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Reward-to-go of every step: ``rewards`` `[T, n]` -> Σ_l γ^l r_{t+l} `[T, n]`, zero beyond the end."""
    sums = np.empty_like(rewards)
    tail = np.zeros(rewards.shape[1:])
    for t in range(len(rewards) - 1, -1, -1):
        tail = sums[t] = rewards[t] + gamma * tail
    return sums
