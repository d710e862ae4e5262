"""Table 1: scores on the seven games, the paper's rows and ours as ``trpo-eval`` measured them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trpo_cli.errors import ConfigError
from trpo_cli.reports.atari import GAMES, SAMPLERS, of_the_games
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import markdown, number, write_csv

EVALUATION, RANDOM = "evaluation.json", "evaluation_random.json"  # what trpo-eval leaves in a run directory
NONE = "–"
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


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``table1.md`` and ``table1.csv`` into ``out``; return the former."""
    ours = of_the_games(runs)
    rows = [[name, *map(str, values)] for name, values in PAPER.items()]
    measured = {
        "Random, ours": [_first(RANDOM, [c for (g, _), c in ours.items() if g == game]) for game in GAMES],
        **{
            f"TRPO, {name}, ours": [_first(EVALUATION, [ours[game, s]] if (game, s) in ours else []) for game in GAMES]
            for s, name in SAMPLERS.items()
        },
    }
    if not any(cell for cells in measured.values() for cell in cells):
        raise ConfigError(f"no run has an {EVALUATION}: evaluate them first, trpo-eval run=…")
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "table1.csv", ["row", *GAMES], rows + [line for row in measured.items() for line in _plain(*row)])
    shown = [[name, *(_shown(cell, name) for cell in cells)] for name, cells in measured.items()]
    text = f"{markdown(['', *GAMES.values()], rows + shown)}\n\n{NOTE}\n"
    (out / "table1.md").write_text(text)
    return text


def _first(name: str, found: Sequence[Any]) -> dict[str, Any] | None:
    """Return the first evaluation of this name that the runs of these curves hold."""
    for run in (run for curve in found for run in curve.runs):
        path = run.directory / name
        if path.is_file():
            try:
                return dict(json.loads(path.read_text()))
            except ValueError as error:
                raise ConfigError(f"cannot read {path}: it is not JSON") from error
    return None


def _plain(name: str, cells: Sequence[dict[str, Any] | None]) -> list[list[str]]:
    keys = {"": "return_mean", ", standard error": "return_standard_error", ", episodes": "episodes"}
    if "Random" not in name:
        keys[", iterations"] = "iterations"
    return [
        [name + suffix, *("" if cell is None or cell.get(key) is None else number(float(cell[key])) for cell in cells)]
        for suffix, key in keys.items()
    ]


def _shown(cell: dict[str, Any] | None, name: str) -> str:
    if cell is None:
        return NONE
    error = cell.get("return_standard_error")
    text = number(round(float(cell["return_mean"]), 1)) + ("" if error is None else f" ± {error:.2g}")
    return text if "Random" in name else f"{text} ({cell['iterations']})"
