"""The runs behind Figure 5, Table 1 and Table 3."""

from collections.abc import Sequence

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import Curve, group_into_curves
from trpo_cli.reports.paper import GAMES, SAMPLERS
from trpo_cli.reports.read_runs import Run

RETURN = "collect/episode_return"  # the score of the game

Key = tuple[str, str]  # game, sampler


def curves_of_games(runs: Sequence[Run]) -> dict[Key, Curve]:
    """Return the TRPO runs on the seven games. Runs with other than the main settings are left out.

    Raises ConfigError if there is none.
    """
    shown = [run for run in runs if run.task in GAMES and run.method in SAMPLERS]
    if not shown:
        there = ", ".join(sorted({run.task for run in runs}))
        raise ConfigError(f"no run is TRPO on a game of Figure 5 ({', '.join(GAMES)}); the runs given are of {there}")
    return {(curve.task, curve.method): curve for curve in group_into_curves(shown) if not curve.changes}
