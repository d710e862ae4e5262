"""Trust Region Policy Optimization (Schulman et al., arXiv 1502.05477v5), from the command line.

Symbols used throughout: n lanes (simulated copies), T time steps, S simulator state, O observation, A action, Z noise,
P distribution parameters, D policy parameters θ, M decision states, K actions tried at a state, Q candidates.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trpo_cli.runs.trained import TrainedPolicy


def load(path: str | Path, seed: int | None = None, checkpoint: str = "last") -> "TrainedPolicy":
    """A trained policy, with ``predict(obs) -> (action, state)``; no simulator is made.

    path: a run directory, finished or not, or a file that ``trpo-export`` wrote
    seed: of the actions that ``predict(obs, deterministic=False)`` draws; None: another one each time
    checkpoint: of a run directory: last, or best, the one of the best evaluation (``eval.every``)
    Raises ValueError, with one sentence, if no policy can be read there.
    """
    from trpo_cli.runs import load as loading  # torch is only imported by those who need it

    return loading.load(path, seed, checkpoint)
