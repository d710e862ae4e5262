"""One random generator per purpose, iteration and lane.

A lane's random numbers depend on (seed, purpose, iteration, lane) only. They do not depend on what ran before, so a
resumed run equals an uninterrupted one. They do not depend on how many workers share the lanes either.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# The numbers are part of every published result: never change one, only add new ones.
PURPOSES = {
    "initial_policy": 0,
    "input_range": 1,
    "initial_state": 2,
    "policy_noise": 3,
    "rollout_set": 4,
    "branch_action": 5,
    "branch_noise": 6,
    "fisher_sample": 7,
    "candidates": 8,
    "evaluation": 9,
    "evaluation_start": 10,
    "initial_critic": 11,
    "critic_sample": 12,
    "greedy_start": 13,
    "greedy_noise": 14,
}


@dataclass(frozen=True)
class Draw:
    """The random numbers of one iteration of a run: the only way to a generator."""

    seed: int
    iteration: int = 0

    def generator(self, purpose: str, lane: int = 0) -> np.random.Generator:
        """The generator of one purpose and one lane; lanes are numbered over all workers."""
        return np.random.Generator(np.random.PCG64((self.seed, PURPOSES[purpose], self.iteration, lane)))

    def generators(self, purpose: str, lanes: Iterable[int]) -> list[np.random.Generator]:
        """One generator per lane."""
        return [self.generator(purpose, lane) for lane in lanes]
