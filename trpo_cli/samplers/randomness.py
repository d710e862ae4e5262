"""One random generator for each purpose, iteration and lane, and for nothing else.

A lane's random numbers depend on (seed, purpose, iteration, lane) alone: not on what ran before, which is why a resumed
run equals an uninterrupted one, and not on how many workers share the lanes.
"""

from collections.abc import Iterable

import numpy as np

PURPOSES = (
    "initial_policy",
    "input_range",
    "initial_state",
    "policy_noise",
    "rollout_set",
    "branch_action",
    "branch_noise",
    "fisher_sample",
    "candidates",
    "evaluation",
    "evaluation_start",
)


def generator(seed: int, purpose: str, iteration: int = 0, lane: int = 0) -> np.random.Generator:
    """The generator of one purpose, iteration and lane of a run with this seed."""
    return np.random.Generator(np.random.PCG64((seed, PURPOSES.index(purpose), iteration, lane)))


def generators(seed: int, purpose: str, iteration: int, lanes: Iterable[int]) -> list[np.random.Generator]:
    """One generator a lane."""
    return [generator(seed, purpose, iteration, lane) for lane in lanes]
