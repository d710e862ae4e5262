"""Any runs side by side: one curve per choice of settings, named by the settings that differ."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import Curve, describe
from trpo_cli.reports.drawing import count_seeds, draw_band, label_panel, put_legend_beside
from trpo_cli.reports.read_runs import Run
from trpo_cli.reports.tables import markdown, number, write_csv

RESAMPLES = 2000
# Settings of the machine and of the bookkeeping, which do not make two runs different; the scale is in the numbers.
IGNORED = {"seed", "workers", "device", "path_scale", "iterations", "total_steps", "checkpoint_every", "outputs"}


def report(runs: Sequence[Run], out: Path, key: str, against: str) -> str:
    """Draw ``compare.png`` and write ``compare.csv`` into ``out``. Return the table of final values.

    key: the column of ``progress.jsonl`` to compare
    against: the horizontal axis, "iterations" or "sim_steps"

    Raises ConfigError if no run has numbers under ``key``.
    """
    with_key = [run for run in runs if any(isinstance(row.get(key), float | int) for row in run.rows)]
    if not with_key:
        known = sorted({name for run in runs for name, value in run.rows[-1].items() if isinstance(value, float | int)})
        raise ConfigError(f"no run has numbers under {key}; the columns there are: {', '.join(known)}")
    groups = group_runs(with_key)
    out.mkdir(parents=True, exist_ok=True)
    _draw(groups, key, against).savefig(out / "compare.png", dpi=120)
    headers = ["task", "group", "iteration", "n_seeds", "sim_steps", "mean", "low", "high"]
    write_csv(out / "compare.csv", headers, [line for group in groups for line in _points(group, key)])
    lines = []
    for group in groups:
        final = group.finals(key)
        mean, low, high = (number(float(value[0])) for value in bootstrap(final[:, None]))
        interval = f"{low} to {high}" if len(final) > 1 else "one seed"
        reached = group.progress or str(len(group.runs[0].rows))
        lines.append([group.task, group_name(group), str(len(group.runs)), reached, mean, interval])
    return markdown(["task", "group", "seeds", "iterations", f"final {key}", "95% interval"], lines)


def group_name(group: Curve) -> str:
    """Return the method, and what differs from the other groups of this method on the task."""
    return f"{group.method} {describe(group.changes)}".strip()


def group_runs(runs: Sequence[Run]) -> list[Curve]:
    """Group ``runs`` by task, method and configuration, one curve per group."""
    members: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        members[run.task, run.method, repr(sorted(_configuration(run).items()))].append(run)
    groups = []
    for (task, method, _), same in members.items():
        rivals = [_configuration(other[0]) for (a, b, _), other in members.items() if (a, b) == (task, method)]
        changes = {key: _configuration(same[0]).get(key, "unset") for key in _keys_that_differ(rivals)}
        groups.append(Curve(task, method, changes, tuple(sorted(same, key=lambda run: run.seed))))
    return sorted(groups, key=lambda group: (group.task, group_name(group)))


def bootstrap(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean over seeds and the ends of its 95% percentile bootstrap interval, each `[T]`.

    table: `[n_seeds, T]`, NaN if a seed has no value. The interval of a single seed has width 0.
    """
    draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    weights = np.stack([(draws == seed).sum(axis=1) for seed in range(len(table))], axis=1)
    present = ~np.isnan(table)
    n = weights @ present
    # A resample may miss every seed that has this iteration. It is then left out.
    means = np.divide(weights @ np.nan_to_num(table), n, out=np.full(n.shape, np.nan), where=n > 0)
    some = present.any(axis=0)
    mean = np.divide(np.nansum(table, axis=0), present.sum(axis=0), out=np.full(n.shape[1], np.nan), where=some)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    low[some], high[some] = np.nanquantile(means[:, some], [0.025, 0.975], axis=0)
    return mean, low, high


def _configuration(run: Run) -> dict[str, Any]:
    own = {key: value for key, value in run.config.items() if not isinstance(value, dict) and key not in IGNORED}
    return {**run.settings, **own}


def _keys_that_differ(rivals: Sequence[dict[str, Any]]) -> list[str]:
    """Return the keys that differ among ``rivals``. The experiment's name is left out if the others tell them apart."""
    keys = sorted({key for rival in rivals for key in rival if len({repr(other.get(key)) for other in rivals}) > 1})
    others = [key for key in keys if key != "name"]
    apart = len({repr([rival.get(key) for key in others]) for rival in rivals}) == len(rivals)
    return others if apart else keys


def _points(group: Curve, key: str) -> list[tuple[object, ...]]:
    table, steps = group.table(key), group.x("sim_steps")
    columns = zip((~np.isnan(table)).sum(axis=0), steps, *bootstrap(table), strict=True)
    return [(group.task, group_name(group), i, *(value.item() for value in values)) for i, values in enumerate(columns)]


def _draw(groups: Sequence[Curve], key: str, against: str) -> Figure:
    tasks = sorted({group.task for group in groups})
    figure = Figure(figsize=(9, 4.5 * len(tasks)), layout="constrained")
    for i, task in enumerate(tasks):
        axes = figure.add_subplot(len(tasks), 1, i + 1)
        label_panel(axes, task, against, key)
        for group in (group for group in groups if group.task == task):
            notes = [group_name(group).replace(" ", "\n", 1), count_seeds(len(group.runs)), group.progress]
            draw_band(axes, group.x(against), *bootstrap(group.table(key)), label="\n".join(filter(None, notes)))
        if against == "sim_steps":
            axes.set_xscale("log")
        put_legend_beside(axes)
    figure.suptitle("Mean over seeds with a 95% bootstrap interval")
    return figure
