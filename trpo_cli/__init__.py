"""Trust Region Policy Optimization (Schulman et al., arXiv 1502.05477v5), from the command line.

Symbols used throughout: n lanes (simulated copies), T time steps, S simulator state, O observation, A action, Z noise,
P distribution parameters, D policy parameters θ, M decision states, K actions tried at a state, Q candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def train(overrides: Sequence[str]) -> Path:
    """Do what ``trpo-train`` does with these words, a run or the rest of one, and return its run directory.

    Raises ValueError for bad input, before anything starts; RuntimeError if the run cannot go on or was stopped.
    """
    from trpo_cli.cli import python

    return python.train(overrides)


def evaluate(run: str | Path, **words: Any) -> dict[str, Any]:
    """Do what ``trpo-eval`` does, and return what it writes to its JSON file.

    words: as those of ``trpo-eval``, for example ``episodes=20, greedy=True, checkpoint="best"``
    """
    from trpo_cli.cli import python

    return python.evaluate(run, **words)


def export(run: str | Path, out: str | Path, checkpoint: str = "last") -> None:
    """Do what ``trpo-export`` does: write the policy of a run directory to ``out``, and its description beside it."""
    from trpo_cli.runs.export import export as write

    write(Path(run), Path(out), checkpoint)
