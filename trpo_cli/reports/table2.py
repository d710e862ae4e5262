"""Table 2: the paper's settings for locomotion beside ours, as configured and as measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import Curve, group_into_curves
from trpo_cli.reports.paper import TASKS as FIGURE_4_TASKS
from trpo_cli.reports.provenance_table import describe_machines
from trpo_cli.reports.read_runs import Run
from trpo_cli.reports.settings_tables import (
    SP,
    VINE,
    Row,
    configured_steps,
    info,
    mean,
    mean_kl,
    planned_iterations,
    q_values,
    scaled,
    scaled_setting,
    setting,
    show,
)
from trpo_cli.reports.tables import NONE, markdown, write_table

TASKS = tuple(task for task in FIGURE_4_TASKS if task != "cartpole")

FOOTNOTES = {
    "a": "Section 8.1 gives the walker 18 dimensions, Table 2 gives it 20; the authors' code has 18.",
    "b": "Of the paper's counts 364 fits 9 inputs and one layer of 30, 4806 fits 41 inputs and two layers of 50, and "
    "8206 fits no network with a hidden size of 50 and 6 outputs. Figure 3 draws one hidden layer, the appendix says "
    "several; the authors' code has one for the swimmer and two for hopper and walker.",
    "c": "The walker's 10000 single paths of 1000 steps are 10M steps, and the same column says 1M. The authors' code "
    "has at most 200K (swimmer) and 512K (hopper, walker).",
    "d": "The vine's numbers do not give its steps: 500 Q-values of 50 steps and 16 trunks of 1000 are 41K (the table "
    "says 50K), 2500 of 100 and 16 trunks 266K (the table says 1M). With the Q-values read as states they are 116K and "
    "1.016M.",
    "e": "Table 2 has 200 iterations for the swimmer, Figure 4 shows 50, as the authors' code has. Its paths are 1000 "
    "steps long in Table 2 and 500 in the authors' code.",
    "f": "δ bounds the mean KL in the paper; the authors' code accepts a step up to 2δ.",
}


def _paths(curve: Curve) -> str:
    if scaled_setting(curve, "steps_per_iteration") is not None:
        return f"until {configured_steps(curve)} steps"
    return scaled("n_paths")(curve)


def _measured_iterations(curve: Curve) -> str:
    reached = sorted({len(run.rows) for run in curve.runs})
    span = str(reached[0]) if len(reached) == 1 else f"{reached[0]} to {reached[-1]}"
    return span + (" (unfinished)" if curve.unfinished else "")


def _measured_minutes(curve: Curve) -> str:
    """Return the mean wall time of the finished runs. If none is finished, return that of all, and how far they got."""
    runs = [run for run in curve.runs if run not in curve.unfinished] or curve.runs
    minutes = np.mean([float(run.column("time_s")[-1]) / 60 for run in runs])
    return f"{minutes:.3g}" + ("" if runs[0] not in curve.unfinished else f" for {_measured_iterations(curve)}")


ROWS = (
    Row("State space dim. [a]", ("10", "12", "20"), SP, None, info("state_dim")),
    Row("Network inputs [b]", (NONE, NONE, NONE), SP, None, info("obs_dim")),
    Row("Control space dim.", ("2", "3", "6"), SP, None, info("action_dim")),
    Row("Total num. policy params [b]", ("364", "4806", "8206"), SP, None, info("n_parameters")),
    Row("SP: sim. steps per iter. [c]", ("50K", "1M", "1M"), SP, configured_steps, mean("collect/sim_steps")),
    Row("Vine: sim. steps per iter. [d]", ("50K", "1M", "1M"), VINE, configured_steps, mean("collect/sim_steps")),
    Row("SP: policy iter. [e]", ("200", "200", "200"), SP, planned_iterations, _measured_iterations),
    Row("Vine: policy iter. [e]", ("200", "200", "200"), VINE, planned_iterations, _measured_iterations),
    Row("SP: stepsize (mean KL) [f]", ("0.01", "0.01", "0.01"), SP, setting("optimizer.kl_limit"), mean_kl),
    Row("Vine: stepsize (mean KL) [f]", ("0.01", "0.01", "0.01"), VINE, setting("optimizer.kl_limit"), mean_kl),
    Row("Hidden layer size [b]", ("30", "50", "50"), SP, setting("policy.hidden_sizes"), None),
    Row("Discount", ("0.99", "0.99", "0.99"), SP, setting("sampler.gamma"), None),
    Row("Vine: rollout length", ("50", "100", "100"), VINE, setting("sampler.branch_length"), None),
    Row("Vine: rollouts per state", ("4", "4", "4"), VINE, setting("sampler.n_actions"), None),
    Row("Vine: Q-values per batch", ("500", "2500", "2500"), VINE, q_values, None),
    Row("Vine: num. rollouts for sampling", ("16", "16", "16"), VINE, scaled("n_trunks"), None),
    Row("Vine: len. rollouts for sampling", ("1000", "1000", "1000"), VINE, setting("sampler.step_limit"), None),
    Row("Vine: computation time (minutes)", ("2", "14", "40"), VINE, None, _measured_minutes),
    Row("SP: num. path [c]", ("50", "1000", "10000"), SP, _paths, mean("collect/n_episodes")),
    Row(
        "SP: path len. [e]", ("1000", "1000", "1000"), SP, setting("sampler.step_limit"), mean("collect/episode_length")
    ),
    Row("SP: computation time (minutes)", ("5", "35", "100"), SP, None, _measured_minutes),
)


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``table2.md`` and ``table2.csv`` into ``out``. Return the content of the former.

    The cells of a task or method without runs stay empty. Raises ConfigError if no task has runs.
    """
    ours = {
        (curve.task, curve.method): curve
        for curve in group_into_curves(run for run in runs if run.task in TASKS and run.method in (SP, VINE))
        if not curve.changes
    }
    if not ours:
        raise ConfigError(f"no run is TRPO, single path or vine, on a task of Table 2 ({', '.join(TASKS)})")
    headers = ["", *(f"{task}: {of}" for task in TASKS for of in ("paper", "configured", "measured"))]
    rows = [_line(row, ours) for row in ROWS]
    notes = [f"[{letter}] {text}" for letter, text in FOOTNOTES.items()]
    seeds = ", ".join(f"{curve.task} {curve.method} {len(curve.runs)}" for curve in ours.values())
    notes.append(f"Measured on: {describe_machines(ours.values())}. Means over seeds: {seeds}.")
    text = "\n\n".join([markdown(headers, rows), *notes]) + "\n"
    return write_table(out / "table2.csv", ["row", *headers[1:]], rows, text)


def _line(row: Row, ours: dict[tuple[str, str], Curve]) -> list[str]:
    cells = [row.label]
    for task, value in zip(TASKS, row.paper, strict=True):
        curve = ours.get((task, row.method))
        cells += [value, show(row.configured, curve), show(row.measured, curve)]
    return cells
