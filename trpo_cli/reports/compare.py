"""Any runs side by side: one curve for each choice of settings, named by the settings that differ."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import STEPS, Curve, described
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import markdown, number, write_csv

RESAMPLES = 2000
# Settings of the machine and of the bookkeeping, which do not make two runs different; the scale is in the numbers.
IGNORED = {"seed", "workers", "device", "path_scale"}


@dataclass(frozen=True)
class Group:
    """The seeds of one choice of settings on one task, named by what differs from the other groups there."""

    name: str
    curve: Curve


def report(runs: Sequence[Run], out: Path, key: str, against: str) -> str:
    """Draw ``compare.png`` and write ``compare.csv`` into ``out``; return the table of final values.

    key: the column of ``progress.jsonl`` to compare. against: "iterations" or "sim_steps".
    Raises ConfigError where no run has numbers under ``key``.
    """
    with_key = [run for run in runs if any(isinstance(row.get(key), float | int) for row in run.rows)]
    if not with_key:
        known = sorted({name for run in runs for name, value in run.rows[-1].items() if isinstance(value, float | int)})
        raise ConfigError(f"no run has numbers under {key}; the columns there are: {', '.join(known)}")
    groups = grouped(with_key)
    out.mkdir(parents=True, exist_ok=True)
    _draw(groups, key, against).savefig(out / "compare.png", dpi=120)
    headers = ["task", "group", "iteration", "n_seeds", "sim_steps", "mean", "low", "high"]
    write_csv(out / "compare.csv", headers, [line for group in groups for line in _points(group, key)])
    lines = []
    for group in groups:
        final = group.curve.finals(key)
        mean, low, high = (number(float(value[0])) for value in bootstrap(final[:, None]))
        interval = f"{low} to {high}" if len(final) > 1 else "one seed"
        reached = group.curve.progress or str(len(group.curve.runs[0].rows))
        lines.append([group.curve.task, group.name, str(len(group.curve.runs)), reached, mean, interval])
    return markdown(["task", "group", "seeds", "iterations", f"final {key}", "95% interval"], lines)


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Group ``runs`` by task, method and configuration; a name holds the method and the keys that differ for it."""
    members: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        members[run.task, run.method, repr(sorted(_configuration(run).items()))].append(run)
    groups = []
    for (task, method, _), same in members.items():
        rivals = [_configuration(other[0]) for (a, b, _), other in members.items() if (a, b) == (task, method)]
        changes = {key: _configuration(same[0]).get(key, "unset") for key in _telling(rivals)}
        curve = Curve(task, method, changes, tuple(sorted(same, key=lambda run: run.seed)))
        groups.append(Group(f"{method} {described(changes)}".strip(), curve))
    return sorted(groups, key=lambda group: (group.curve.task, group.name))


def bootstrap(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean over seeds and a 95% percentile bootstrap interval of it, each `[T]`.

    table: `[n_seeds, T]`, NaN where a seed has no value. One seed has an interval of no width.
    """
    draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))
    weights = np.stack([(draws == seed).sum(axis=1) for seed in range(len(table))], axis=1)
    there = ~np.isnan(table)
    n = weights @ there
    # A resample may miss every seed that got this far; it then says nothing.
    means = np.divide(weights @ np.nan_to_num(table), n, out=np.full(n.shape, np.nan), where=n > 0)
    mean = np.divide(np.nansum(table, axis=0), there.sum(axis=0), out=np.full(n.shape[1], np.nan), where=there.any(0))
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    low[there.any(0)], high[there.any(0)] = np.nanquantile(means[:, there.any(0)], [0.025, 0.975], axis=0)
    return mean, low, high


def _configuration(run: Run) -> dict[str, Any]:
    own = {key: value for key, value in run.config.items() if not isinstance(value, dict) and key not in IGNORED}
    return {**run.settings, **own}


def _telling(rivals: Sequence[dict[str, Any]]) -> list[str]:
    """Return the keys that tell ``rivals`` apart; without the experiment's name where the others do."""
    keys = sorted({key for rival in rivals for key in rival if len({repr(other.get(key)) for other in rivals}) > 1})
    others = [key for key in keys if key != "name"]
    apart = len({repr([rival.get(key) for key in others]) for rival in rivals}) == len(rivals)
    return others if apart else keys


def _points(group: Group, key: str) -> list[tuple[object, ...]]:
    table, steps = group.curve.table(key), np.nanmean(group.curve.table(STEPS), axis=0)
    n = (~np.isnan(table)).sum(axis=0)
    task, columns = group.curve.task, zip(n, steps, *bootstrap(table), strict=True)
    return [(task, group.name, i, *(value.item() for value in values)) for i, values in enumerate(columns)]


def _draw(groups: Sequence[Group], key: str, against: str) -> Figure:
    tasks = sorted({group.curve.task for group in groups})
    figure = Figure(figsize=(9, 4.5 * len(tasks)), layout="constrained")
    for i, task in enumerate(tasks):
        axes = figure.add_subplot(len(tasks), 1, i + 1)
        for group in (group for group in groups if group.curve.task == task):
            mean, low, high = bootstrap(group.curve.table(key))
            x = np.arange(len(mean)) if against == "iterations" else np.nanmean(group.curve.table(STEPS), axis=0)
            seeds = f"({len(group.curve.runs)} seed{'s' * (len(group.curve.runs) > 1)})"
            notes = [group.name.replace(" ", "\n", 1), seeds, group.curve.progress]
            (line,) = axes.plot(x, mean, label="\n".join(filter(None, notes)))
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_title(task)
        axes.set_xlabel("policy iterations" if against == "iterations" else "simulated steps, branches included")
        if against == "sim_steps":
            axes.set_xscale("log")
        axes.set_ylabel(key)
        axes.grid(alpha=0.25)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    figure.suptitle("Mean over seeds with a 95% bootstrap interval")
    return figure
