"""What Figure 5 and Tables 1 and 3 share: the seven games, their runs, and the paper's numbers."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import Curve, curves
from trpo_cli.reports.runs import Run

GAMES = {
    "beam_rider": "Beam Rider",
    "breakout": "Breakout",
    "enduro": "Enduro",
    "pong": "Pong",
    "qbert": "Q*bert",
    "seaquest": "Seaquest",
    "space_invaders": "Space Invaders",
}
SAMPLERS = {"single_path": "single path", "vine": "vine"}
RETURN = "collect/episode_return"  # the game's score: Figure 5 plots its negative

Key = tuple[str, str]  # game, sampler


@dataclass(frozen=True)
class Dots:
    """The digitised dots of one panel's variant."""

    iterations: NDArray[np.float64]
    scores: NDArray[np.float64]

    def mean(self, iteration: int, half_width: int) -> float | None:
        """Return the mean of the dots at most ``half_width`` from ``iteration``, None where there is none."""
        near = np.abs(self.iterations - iteration) <= half_width
        return float(self.scores[near].mean()) if near.any() else None


def published() -> dict[Key, Dots]:
    """Return the dots of Figure 5 as scores, which are its costs with the other sign."""
    points: dict[Key, list[tuple[float, float]]] = {}
    for row in csv.DictReader((files("trpo_cli.reports") / "data" / "figure5.csv").read_text().splitlines()):
        points.setdefault((row["game"], row["sampler"]), []).append((float(row["iteration"]), -float(row["cost"])))
    return {key: Dots(*np.array(xy).T) for key, xy in points.items()}


def of_the_games(runs: Sequence[Run]) -> dict[Key, Curve]:
    """Return the TRPO runs of the seven games by game and sampler; ConfigError where there is none.

    Runs of other settings than most of their game's are left out.
    """
    shown = [run for run in runs if run.task in GAMES and run.method in SAMPLERS]
    if not shown:
        there = ", ".join(sorted({run.task for run in runs}))
        raise ConfigError(f"no run is TRPO on a game of Figure 5 ({', '.join(GAMES)}); the runs given are of {there}")
    return {(curve.task, curve.method): curve for curve in curves(shown) if not curve.changes}
