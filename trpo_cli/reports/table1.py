"""Table 1: scores on the seven games, the paper's rows and ours as ``trpo-eval`` measured them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trpo_cli.errors import ConfigError
from trpo_cli.reports.atari import curves_of_games
from trpo_cli.reports.curves import Curve
from trpo_cli.reports.paper import GAMES, SAMPLERS
from trpo_cli.reports.read_runs import Run, read_json
from trpo_cli.reports.tables import NONE, markdown, number, write_table

EVALUATION, RANDOM = "evaluation.json", "evaluation_random.json"  # the files of trpo-eval in a run directory
PAPER = {
    "Random": (354, 1.2, 0, -20.4, 157, 110, 179),
    "Human (Mnih et al. 2013)": (7456, 31.0, 368, -3.0, 18900, 28010, 3690),
    "Deep Q Learning (Mnih et al. 2013)": (4092, 168.0, 470, 20.0, 1952, 1705, 581),
    "UCC-I (Guo et al. 2014)": (5702, 380, 741, 21, 20025, 2995, 692),
    "TRPO, single path": (1425.2, 10.8, 534.6, 20.9, 1973.5, 1908.6, 568.4),
    "TRPO, vine": (859.5, 34.2, 430.8, 20.9, 7732.5, 788.4, 450.2),
}
NOTE = (
    "Ours: mean ± standard error of whole games of the stochastic policy, as `trpo-eval` plays them, and the "
    "iterations that the policy was trained for. Random chooses uniformly among the factors of the action. The paper "
    "does not say how its own rows were scored; its Q*bert exceeds every dot of Figure 5, and its Enduro single path "
    "stopped at iteration 283."
)

Result = dict[str, Any]  # the content of an evaluation file


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``table1.md`` and ``table1.csv`` into ``out``. Return the content of the former."""
    ours = curves_of_games(runs)
    rows = [[name, *map(str, values)] for name, values in PAPER.items()]
    measured = {
        "Random, ours": [_first(RANDOM, [c for (g, _), c in ours.items() if g == game]) for game in GAMES],
        **{
            f"TRPO, {name}, ours": [_first(EVALUATION, [ours[game, s]] if (game, s) in ours else []) for game in GAMES]
            for s, name in SAMPLERS.items()
        },
    }
    if not any(result for results in measured.values() for result in results):
        raise ConfigError(f"no run has an {EVALUATION}: evaluate the runs first, with trpo-eval run=…")
    shown = [[name, *(_cell(result, name) for result in results)] for name, results in measured.items()]
    text = f"{markdown(['', *GAMES.values()], rows + shown)}\n\n{NOTE}\n"
    lines = rows + [line for row in measured.items() for line in _csv_lines(*row)]
    return write_table(out / "table1.csv", ["row", *GAMES], lines, text)


def _first(name: str, curves: Sequence[Curve]) -> Result | None:
    """Return the first run's evaluation of this name; of several, which differ in episodes and seed, the longest."""
    named = re.compile(rf"{Path(name).stem}(_episodes\d+)?(_seed\d+)?\.json")
    for run in (run for curve in curves for run in curve.runs):
        found = [read_json(path) for path in sorted(run.directory.glob("*.json")) if named.fullmatch(path.name)]
        if found:
            return max(found, key=lambda result: int(result["episodes"]))
    return None


def _csv_lines(name: str, results: Sequence[Result | None]) -> list[list[str]]:
    keys = {"": "return_mean", ", standard error": "return_standard_error", ", episodes": "episodes"}
    if "Random" not in name:
        keys[", iterations"] = "iterations"
    return [
        [name + suffix, *("" if one is None or one.get(key) is None else number(float(one[key])) for one in results)]
        for suffix, key in keys.items()
    ]


def _cell(result: Result | None, name: str) -> str:
    if result is None:
        return NONE
    error = result.get("return_standard_error")
    text = number(round(float(result["return_mean"]), 1)) + ("" if error is None else f" ± {error:.2g}")
    return text if "Random" in name else f"{text} ({result['iterations']})"
