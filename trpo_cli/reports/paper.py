"""What the paper shows: its tasks, methods and games, and the points digitised from its figures."""

import csv
from collections import defaultdict
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

# Figure 4 in the paper's order: the title of each panel and the ranges of its axes.
TASKS = {
    "cartpole": ("Cart-pole", (0, 50), (0.0, 10.0)),
    "swimmer": ("Swimmer", (0, 50), (-0.10, 0.15)),
    "hopper": ("Hopper", (0, 200), (-1.0, 2.5)),
    "walker": ("Walker", (0, 200), (-1.0, 3.5)),
}
# Figure 4's methods in its order, with the colours of our drawings.
METHODS = {
    "vine": ("Vine", "tab:blue"),
    "single_path": ("Single path", "tab:red"),
    "natural_gradient": ("Natural gradient", "tab:green"),
    "max_kl": ("Max KL", "tab:purple"),
    "empirical_fim": ("Empirical FIM", "tab:orange"),
    "cem": ("CEM", "tab:cyan"),
    "cma": ("CMA", "tab:brown"),
    "rwr": ("RWR", "tab:pink"),
}
# The games of Figure 5, Table 1 and Table 3, and the two samplers that they compare.
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

Points = NDArray[np.float64]  # [2, n]: iterations and scores
Published = dict[tuple[str, str], Points]


def published_curves() -> Published:
    """Return the curves of Figure 4 by task and method."""
    return _digitised("figure4.csv", "task", "method", "score")


def published_dots() -> Published:
    """Return the dots of Figure 5 by game and sampler. The figure plots costs; these are scores, minus the cost."""
    return {key: points * [[1], [-1]] for key, points in _digitised("figure5.csv", "game", "sampler", "cost").items()}


def _digitised(file: str, first: str, second: str, value: str) -> Published:
    points = defaultdict(list)
    for row in csv.DictReader((files("trpo_cli.reports") / "data" / file).read_text().splitlines()):
        points[row[first], row[second]].append((float(row["iteration"]), float(row[value])))
    return {key: np.array(pairs).T for key, pairs in points.items()}
