"""Table 3: the paper's settings for Atari beside ours, as configured and as measured on each game."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trpo_cli.reports.atari import Key, curves_of_games
from trpo_cli.reports.curves import Curve
from trpo_cli.reports.paper import GAMES
from trpo_cli.reports.provenance_table import describe_machines, describe_workers
from trpo_cli.reports.read_runs import Run
from trpo_cli.reports.settings_tables import (
    SP,
    VINE,
    Cell,
    Row,
    configured_steps,
    info,
    mean,
    mean_kl,
    planned_iterations,
    setting,
    show,
)
from trpo_cli.reports.tables import NONE, markdown, number, write_table

ITERATIONS, CORES = 500, 16  # of the paper's runs


def _reached(curve: Curve) -> str:
    return str(max(len(run.rows) for run in curve.runs))


def _seconds_by_workers(curve: Curve) -> dict[tuple[str, int], float]:
    """Return the seconds per iteration for each set of workers, by its description and its number of workers.

    It is a median, which other programs on the machine disturb less than a mean.
    """
    times: dict[tuple[str, int], list[float]] = {}
    for run in curve.runs:
        seconds = np.diff(run.column("time_s"), prepend=0)
        for part in run.parts:
            key = (describe_workers(part.info), int(part.info.get("workers", 1)))
            times.setdefault(key, []).extend(seconds[part.rows.start : part.rows.stop])
    return {key: float(np.median(each)) for key, each in times.items()}


def _for_each_set(value: Callable[[float, int], float]) -> Cell:
    """Return a cell with a number for each set of workers, from its seconds per iteration and its workers."""

    def cell(curve: Curve) -> str:
        return " / ".join(number(round(value(s, n), 1)) for (_, n), s in _seconds_by_workers(curve).items())

    return cell


def _workers(curve: Curve) -> str:
    return " / ".join(words for words, _ in _seconds_by_workers(curve))


_seconds = _for_each_set(lambda seconds, n: seconds)
_hours = _for_each_set(lambda seconds, n: seconds * ITERATIONS / 3600)
_hours_on_many_cores = _for_each_set(lambda seconds, n: seconds * ITERATIONS / 3600 * n / CORES)


ROWS = (
    Row("Total num. policy params", ("33500",), SP, None, info("n_parameters")),
    Row("Vine: sim. steps per iter.", ("400K",), VINE, configured_steps, mean("collect/sim_steps")),
    Row("SP: sim. steps per iter.", ("100K",), SP, configured_steps, mean("collect/sim_steps")),
    Row("Vine: policy iter.", ("500",), VINE, planned_iterations, _reached),
    Row("SP: policy iter.", ("500",), SP, planned_iterations, _reached),
    Row("Vine: stepsize (mean KL)", ("0.01",), VINE, setting("optimizer.kl_limit"), mean_kl),
    Row("SP: stepsize (mean KL)", ("0.01",), SP, setting("optimizer.kl_limit"), mean_kl),
    Row("Discount", ("0.99",), SP, setting("sampler.gamma"), None),
    Row("Vine: rollouts per state", ("~4",), VINE, setting("sampler.n_actions"), None),
    Row("Vine: rollout length [a]", (NONE,), VINE, setting("sampler.branch_length"), None),
    Row("Vine: steps of the trunks [a]", (NONE,), VINE, setting("sampler.trunk_steps"), None),
    Row("Vine: states per iter. [a]", (NONE,), VINE, None, mean("collect/n_states")),
    Row("Vine: measured with [c]", (NONE,), VINE, None, _workers),
    Row("SP: measured with [c]", (NONE,), SP, None, _workers),
    Row("Vine: seconds an iteration", (NONE,), VINE, None, _seconds),
    Row("SP: seconds an iteration", (NONE,), SP, None, _seconds),
    Row("Vine: hours for 500 iterations here [b]", (NONE,), VINE, None, _hours),
    Row("SP: hours for 500 iterations here [b]", (NONE,), SP, None, _hours),
    Row("Vine: hours for 500 iterations on 16 cores [b]", ("~30",), VINE, None, _hours_on_many_cores),
    Row("SP: hours for 500 iterations on 16 cores [b]", ("~30",), SP, None, _hours_on_many_cores),
)
NOTES = (
    "[a] The paper gives neither the length of a vine's branches on Atari nor the share of its trunks.",
    "[b] From the median time of an iteration; on 16 cores as if the work divided by the number of workers.",
    "[c] Where a run went on with other workers, one number for each set of them, in their order.",
)


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``table3.md`` and ``table3.csv`` into ``out``. Return the content of the former."""
    ours = curves_of_games(runs)
    headers = ["", "paper", "configured", *GAMES.values()]
    rows = [_line(row, ours) for row in ROWS]
    machines = f"Measured on: {describe_machines(ours.values())}."
    text = "\n\n".join([markdown(headers, rows), *NOTES, machines]) + "\n"
    return write_table(out / "table3.csv", ["row", "paper", "configured", *GAMES], rows, text)


def _line(row: Row, ours: dict[Key, Curve]) -> list[str]:
    curves = [ours.get((game, row.method)) for game in GAMES]
    configured = dict.fromkeys(show(row.configured, curve) for curve in curves if curve is not None)
    return [row.label, *row.paper, ", ".join(configured) or NONE, *(show(row.measured, curve) for curve in curves)]
