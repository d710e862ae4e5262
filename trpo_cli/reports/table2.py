"""Table 2: the paper's settings beside ours, as configured and as measured."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import Curve, curves
from trpo_cli.reports.records import machines
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import count, markdown, write_csv

TASKS = ("swimmer", "hopper", "walker")
NONE = "–"
SP, VINE = "single_path", "vine"

Cell = Callable[[Curve], str]  # "" where there is nothing to say
Ours = dict[tuple[str, str], Curve]  # by task and method

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


def _config(key: str) -> Cell:
    """Return a cell that shows a setting."""

    def cell(curve: Curve) -> str:
        value = curve.runs[0].settings.get(key)
        if isinstance(value, list):
            return ", ".join(str(part) for part in value) or "none"
        return "" if value is None else str(value)

    return cell


def _drawn(curve: Curve, setting: str) -> int | None:
    """Return how many a run draws of ``sampler.<setting>``; None if unset."""
    value: int | None = curve.runs[0].settings.get(f"sampler.{setting}")
    return value


def _scaled(setting: str) -> Cell:
    """Return a cell that shows how many a run draws."""

    def cell(curve: Curve) -> str:
        n = _drawn(curve, setting)
        return "" if n is None else str(n)

    return cell


def _info(key: str) -> Cell:
    """Return a cell that shows what a run measured of itself once."""

    def cell(curve: Curve) -> str:
        value = curve.runs[0].info.get(key)
        return "" if value is None else str(value)

    return cell


def _configured_steps(curve: Curve) -> str:
    """Return the steps an iteration simulates at most, by its settings."""
    settings, steps = curve.runs[0].settings, _drawn(curve, "steps_per_iteration")
    limit, n_paths, n_trunks = settings.get("step_limit"), _drawn(curve, "n_paths"), _drawn(curve, "n_trunks")
    if curve.method == SP and steps is not None:
        return count(steps)
    if curve.method == SP and n_paths is not None and limit is not None:
        return count(n_paths * limit)
    q_values, length = _q_values(curve), settings.get("sampler.branch_length")
    if curve.method == VINE and n_trunks is not None and limit is not None and q_values and length is not None:
        return count(n_trunks * limit + int(q_values) * length)
    return ""


def _paths(curve: Curve) -> str:
    if _drawn(curve, "steps_per_iteration") is not None:
        return f"until {_configured_steps(curve)} steps"
    return _scaled("n_paths")(curve)


def _q_values(curve: Curve) -> str:
    n_states, n_actions = _drawn(curve, "n_states"), curve.runs[0].settings.get("sampler.n_actions")
    return "" if n_states is None or n_actions is None else str(n_states * n_actions)


def _planned(curve: Curve) -> str:
    return str(curve.runs[0].planned)


def _mean(key: str) -> Cell:
    """Return a cell that shows the mean of a column over iterations and seeds."""

    def cell(curve: Curve) -> str:
        mean = float(np.mean([run.column(key).mean() for run in curve.runs]))
        return "" if np.isnan(mean) else count(mean)

    return cell


def _measured_iterations(curve: Curve) -> str:
    reached = sorted({len(run.rows) for run in curve.runs})
    span = str(reached[0]) if len(reached) == 1 else f"{reached[0]} to {reached[-1]}"
    return span + (" (unfinished)" if curve.unfinished else "")


def _measured_kl(curve: Curve) -> str:
    kl = np.concatenate([run.column("update/mean_kl") for run in curve.runs])
    kl = kl[~np.isnan(kl)]
    return f"mean {kl.mean():.4f}, max {kl.max():.4f}" if len(kl) else ""


def _measured_minutes(curve: Curve) -> str:
    """Return the wall time of a run, the mean over the finished seeds; of all where none has finished."""
    runs = [run for run in curve.runs if run not in curve.unfinished] or curve.runs
    mean = np.mean([float(run.column("time_s")[-1]) / 60 for run in runs])
    return f"{mean:.3g}" + ("" if runs[0] not in curve.unfinished else f" for {_measured_iterations(curve)}")


# Label, the paper's values for swimmer, hopper and walker, the method it is about, as configured, as measured.
ROWS: tuple[tuple[str, tuple[str, str, str], str, Cell | None, Cell | None], ...] = (
    ("State space dim. [a]", ("10", "12", "20"), SP, None, _info("state_dim")),
    ("Network inputs [b]", (NONE, NONE, NONE), SP, None, _info("obs_dim")),
    ("Control space dim.", ("2", "3", "6"), SP, None, _info("action_dim")),
    ("Total num. policy params [b]", ("364", "4806", "8206"), SP, None, _info("n_parameters")),
    ("SP: sim. steps per iter. [c]", ("50K", "1M", "1M"), SP, _configured_steps, _mean("collect/sim_steps")),
    ("Vine: sim. steps per iter. [d]", ("50K", "1M", "1M"), VINE, _configured_steps, _mean("collect/sim_steps")),
    ("SP: policy iter. [e]", ("200", "200", "200"), SP, _planned, _measured_iterations),
    ("Vine: policy iter. [e]", ("200", "200", "200"), VINE, _planned, _measured_iterations),
    ("SP: stepsize (mean KL) [f]", ("0.01", "0.01", "0.01"), SP, _config("optimizer.kl_limit"), _measured_kl),
    ("Vine: stepsize (mean KL) [f]", ("0.01", "0.01", "0.01"), VINE, _config("optimizer.kl_limit"), _measured_kl),
    ("Hidden layer size [b]", ("30", "50", "50"), SP, _config("policy.hidden_sizes"), None),
    ("Discount", ("0.99", "0.99", "0.99"), SP, _config("sampler.gamma"), None),
    ("Vine: rollout length", ("50", "100", "100"), VINE, _config("sampler.branch_length"), None),
    ("Vine: rollouts per state", ("4", "4", "4"), VINE, _config("sampler.n_actions"), None),
    ("Vine: Q-values per batch", ("500", "2500", "2500"), VINE, _q_values, None),
    ("Vine: num. rollouts for sampling", ("16", "16", "16"), VINE, _scaled("n_trunks"), None),
    ("Vine: len. rollouts for sampling", ("1000", "1000", "1000"), VINE, _config("step_limit"), None),
    ("Vine: computation time (minutes)", ("2", "14", "40"), VINE, None, _measured_minutes),
    ("SP: num. path [c]", ("50", "1000", "10000"), SP, _paths, _mean("collect/n_episodes")),
    ("SP: path len. [e]", ("1000", "1000", "1000"), SP, _config("step_limit"), _mean("collect/episode_length")),
    ("SP: computation time (minutes)", ("5", "35", "100"), SP, None, _measured_minutes),
)


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``table2.md`` and ``table2.csv`` into ``out``; return the former.

    A task or method without runs leaves its cells empty. Raises ConfigError where there is no run of any.
    """
    ours = {
        (curve.task, curve.method): curve
        for curve in curves(run for run in runs if run.task in TASKS and run.method in (SP, VINE))
        if not curve.changes
    }
    if not ours:
        raise ConfigError(f"no run is TRPO, single path or vine, on a task of Table 2 ({', '.join(TASKS)})")
    headers = ["", *(f"{task}: {of}" for task in TASKS for of in ("paper", "configured", "measured"))]
    rows = [_line(row, ours) for row in ROWS]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "table2.csv", ["row", *headers[1:]], rows)
    notes = [f"[{letter}] {text}" for letter, text in FOOTNOTES.items()]
    text = "\n\n".join([markdown(headers, rows), *notes, _machines(ours.values())]) + "\n"
    (out / "table2.md").write_text(text)
    return text


def _line(row: tuple[str, tuple[str, str, str], str, Cell | None, Cell | None], ours: Ours) -> list[str]:
    label, published, method, configured, measured = row
    cells = [label]
    for task, value in zip(TASKS, published, strict=True):
        curve = ours.get((task, method))
        cells.append(value)
        cells += [NONE if cell is None or curve is None else cell(curve) or NONE for cell in (configured, measured)]
    return cells


def _machines(found: Collection[Curve]) -> str:
    """Return what the times were measured on, and how many seeds each is the mean of."""
    seeds = ", ".join(f"{curve.task} {curve.method} {len(curve.runs)}" for curve in found)
    return f"Measured on: {machines(found)}. Means over seeds: {seeds}."
