"""Any runs side by side: one curve per choice of settings, named by the settings that differ."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import LAST, RETURN, SCORE, Curve, describe, mean_and_error
from trpo_cli.reports.drawing import count_seeds, draw_band, label_panel, put_legend_beside
from trpo_cli.reports.read_runs import Run
from trpo_cli.reports.statistics import (
    improvement_with_interval,
    interquartile_mean_with_interval,
    mean_with_interval,
    probability_of_improvement,
    profile_with_interval,
)
from trpo_cli.reports.tables import NONE, markdown, number, write_csv

# Settings of the machine and of the bookkeeping, which do not make two runs different; the scale is in the numbers.
IGNORED = {"seed", "workers", "device", "path_scale", "iterations", "total_steps"}
IGNORED |= {"checkpoint_every", "max_refused", "stop_at", "outputs"}  # sections such as eval are left out as well


def report(runs: Sequence[Run], out: Path, key: str | None, against: str) -> str:
    """Draw ``compare.png`` and ``profile.png``, and write ``compare.csv`` into ``out``. Return the tables.

    The tables hold each group's mean over the last iterations, and how likely one group of a task beats another.

    key: the column of ``progress.jsonl`` to compare; None: the score, or the return if a score tells nothing
    against: the horizontal axis, "iterations" or "sim_steps"

    Raises ConfigError if no run has numbers under ``key``.
    """
    beside = RETURN if key is None and any(run.paid_per_step for run in runs) else None
    key = key or (RETURN if beside is None else SCORE)
    with_key = [run for run in runs if any(isinstance(row.get(key), float | int) for row in run.rows)]
    if not with_key:
        known = sorted({name for run in runs for name, value in run.rows[-1].items() if isinstance(value, float | int)})
        raise ConfigError(f"no run has numbers under {key}; the columns there are: {', '.join(known)}")
    groups = group_runs(with_key)
    out.mkdir(parents=True, exist_ok=True)
    _draw(groups, key, against).savefig(out / "compare.png", dpi=120)
    headers = ["task", "group", "iteration", "n_seeds", "sim_steps", "mean", "low", "high"]
    write_csv(out / "compare.csv", headers, [line for group in groups for line in _points(group, key)])
    _draw_profiles(groups, key).savefig(out / "profile.png", dpi=120)
    headers = ["task", "group", "seeds", "iterations", *([f"{beside} (last {LAST})"] if beside else [])]
    headers += [f"{key} (last {LAST})", "± standard error", "interquartile mean", "95% interval"]
    table = markdown(headers, [_final_line(group, key, beside) for group in groups])
    compared = [group for group in groups if len(_known_finals(group, key))]
    rivals = [_rival_line(*pair, key) for pair in combinations(compared, 2) if pair[0].task == pair[1].task]
    if not rivals:
        return table
    return f"{table}\n\n" + markdown(["task", "group", "beats", "probability", "95% interval"], rivals)


def _final_line(group: Curve, key: str, beside: str | None) -> list[str]:
    """beside: a column whose final mean is told too; None: none."""
    final = _known_finals(group, key)
    reached = group.progress or str(max(len(run.rows) for run in group.runs))
    others = [_known_finals(group, beside)] if beside else []
    first = [group.task, group_name(group), str(len(group.runs)), reached]
    first += [number(float(other.mean())) if len(other) else NONE for other in others]
    if not len(final):
        return [*first, NONE, NONE, NONE, NONE]
    mean, error = mean_and_error(final[:, None])
    middle, low, high = interquartile_mean_with_interval([final])
    spread = [number(float(error[0])), number(middle), f"{number(low)} to {number(high)}"]
    several = spread if len(final) > 1 else [NONE, number(middle), "one seed"]
    return [*first, number(float(mean[0])), *several]


def _known_finals(group: Curve, key: str) -> NDArray[np.float64]:
    """The final values of the seeds that have one: with streams there is none before an episode has ended."""
    final = group.finals(key)
    return final[~np.isnan(final)]


def _rival_line(one: Curve, other: Curve, key: str) -> list[str]:
    """How likely a seed of the better group ends above a seed of the other."""
    ours, theirs = [_known_finals(one, key)], [_known_finals(other, key)]
    if probability_of_improvement(ours, theirs) < 0.5:
        one, other, ours, theirs = other, one, theirs, ours
    probability, low, high = improvement_with_interval(ours, theirs)
    several = min(len(ours[0]), len(theirs[0])) > 1
    interval = f"{low:.2f} to {high:.2f}" if several else "one seed"
    return [one.task, group_name(one), group_name(other), f"{probability:.2f}", interval]


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
    columns = zip((~np.isnan(table)).sum(axis=0), steps, *mean_with_interval(table), strict=True)
    return [(group.task, group_name(group), i, *(value.item() for value in values)) for i, values in enumerate(columns)]


def _draw(groups: Sequence[Curve], key: str, against: str) -> Figure:
    tasks = sorted({group.task for group in groups})
    figure = Figure(figsize=(9, 4.5 * len(tasks)), layout="constrained")
    for i, task in enumerate(tasks):
        axes = figure.add_subplot(len(tasks), 1, i + 1)
        label_panel(axes, task, against, key)
        for group in (group for group in groups if group.task == task):
            notes = [group_name(group).replace(" ", "\n", 1), count_seeds(len(group.runs)), group.progress]
            draw_band(
                axes, group.x(against), *mean_with_interval(group.table(key)), label="\n".join(filter(None, notes))
            )
        put_legend_beside(axes)
    figure.suptitle("Mean over seeds with a 95% interval")
    return figure


def _draw_profiles(groups: Sequence[Curve], key: str) -> Figure:
    """For every value: the fraction of a group's seeds that end above it."""
    tasks = sorted({group.task for group in groups})
    figure = Figure(figsize=(9, 4.5 * len(tasks)), layout="constrained")
    for i, task in enumerate(tasks):
        axes = figure.add_subplot(len(tasks), 1, i + 1)
        members = [group for group in groups if group.task == task and len(_known_finals(group, key))]
        finals = [_known_finals(group, key) for group in members] or [np.zeros(1)]
        values = np.linspace(min(x.min() for x in finals), max(x.max() for x in finals), 200)
        for group, final in zip(members, finals, strict=False):
            label = f"{group_name(group).replace(' ', chr(10), 1)}\n{count_seeds(len(final))}"
            draw_band(axes, values, *profile_with_interval([final], values), label=label)
        axes.set(title=task, xlabel=f"{key}, mean of the last {LAST} iterations", ylabel="fraction of seeds above it")
        axes.grid(alpha=0.25)
        put_legend_beside(axes)
    figure.suptitle("Performance profiles with a 95% interval")
    return figure
