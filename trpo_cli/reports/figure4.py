"""Figure 4: our learning curves of every method on the paper's four tasks, over the published curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import (
    LAST,
    SCORE,
    STEPS,
    Curve,
    best_of_sweeps,
    describe,
    group_into_curves,
    mean_and_error,
    swept_settings,
)
from trpo_cli.reports.drawing import count_seeds, draw_band, label_panel, put_legend_beside
from trpo_cli.reports.figure4_variants import FILE as VARIANTS
from trpo_cli.reports.figure4_variants import draw_variants
from trpo_cli.reports.paper import METHODS, TASKS, Points, Published, published_curves
from trpo_cli.reports.provenance_table import provenance_table
from trpo_cli.reports.read_runs import Run
from trpo_cli.reports.tables import count, markdown, write_csv

FILES = {"iterations": "figure4.png", "sim_steps": "figure4_sim_steps.png"}  # by horizontal axis
TITLES = {
    "iterations": "Figure 4: score, the return of an episode / its step limit. Solid: ours. Dashed: published.",
    "sim_steps": "Figure 4 against simulated steps: score, the return of an episode / its step limit",
}
OTHER_COLOURS = ("tab:olive", "black", "tab:gray")
HOPPERS_CURVE = "the published natural gradient curve is the hopper's, point for point"
HEADERS = ["task", "method", "seeds", "iterations", "start", f"final (last {LAST})", "mean difference"]
HEADERS += ["worst shortfall", "sim. steps/iteration"]


@dataclass(frozen=True)
class Summary:
    """One line of the table: a curve in numbers, compared with the published curve if there is one.

    start, final: mean score over seeds, at iteration 0 and over the last five iterations
    difference: mean absolute difference from the published curve, over the iterations that both have
    shortfall: the largest distance below the published curve, and its iteration
    """

    curve: Curve
    start: float
    final: float
    steps_per_iteration: float
    difference: float | None
    shortfall: tuple[float, int] | None

    def cells(self) -> list[str]:
        """Return the line as text."""
        reached = self.curve.progress or f"{len(self.curve.runs[0].rows)}"
        line = [self.curve.task, self.curve.label, str(len(self.curve.runs)), reached, f"{self.start:.3f}"]
        line += [f"{self.final:.3f}", "" if self.difference is None else f"{self.difference:.3f}"]
        worst = "" if self.shortfall is None else f"{self.shortfall[0]:.3f} at {self.shortfall[1]}"
        return [*line, worst, count(self.steps_per_iteration)]


def report(runs: Sequence[Run], out: Path, against: Sequence[str], tasks: Sequence[str]) -> str:
    """Draw the figure into ``out`` and write the numbers behind it. Return the text to print.

    against: the horizontal axes to draw, "iterations" (``figure4.png``) and "sim_steps" (``figure4_sim_steps.png``);
    curves with other settings of a method stand in ``figure4_variants.png`` only
    tasks: the panels to draw

    ``figure4.csv`` holds every point, ``figure4.md`` the table and where each curve comes from.
    Raises ConfigError if no run is of one of the tasks.
    """
    shown = [run for run in runs if run.task in tasks]
    if not shown:
        there = ", ".join(sorted({run.task for run in runs}))
        raise ConfigError(f"no run is of a task of Figure 4 ({', '.join(tasks)}); the runs given are of {there}")
    plotted, others = best_of_sweeps(group_into_curves(shown), SCORE)
    plotted = sorted(plotted, key=_place)
    out.mkdir(parents=True, exist_ok=True)
    published = published_curves()
    for axis in against:
        draw(plotted, published, axis).savefig(out / FILES[axis], dpi=120)
    if (variants := draw_variants(plotted, published)) is not None:
        variants.savefig(out / VARIANTS, dpi=100)
    write_csv(out / "figure4.csv", ["task", "method", "seed", "iteration", "sim_steps", "score"], _points(plotted))
    summaries = [summarise(curve, published.get((curve.task, curve.method))) for curve in plotted]
    text = "\n".join([markdown(HEADERS, [line.cells() for line in summaries]), *_remarks(summaries, others)])
    behind = f"# The curves of Figure 4 in numbers\n\n{text}\n\n# Their runs\n\n{provenance_table(plotted)}\n"
    (out / "figure4.md").write_text(behind)
    return text


def summarise(curve: Curve, published: Points | None) -> Summary:
    """Return ``curve`` in numbers. Between two digitised points the published curve is interpolated."""
    mean, _ = mean_and_error(curve.table(SCORE))
    difference, shortfall = None, None
    if published is not None:
        iterations = np.arange(min(len(mean), int(published[0].max()) + 1))
        ahead = mean[iterations] - np.interp(iterations, *published)
        difference = float(np.abs(ahead).mean())
        shortfall = max(0.0, float(-ahead.min())), int(ahead.argmin())
    steps = np.mean([run.column(STEPS)[-1] / len(run.rows) for run in curve.runs])
    return Summary(curve, float(mean[0]), float(curve.finals(SCORE).mean()), float(steps), difference, shortfall)


def _place(curve: Curve) -> tuple[int, int, str]:
    """Return what sorts curves into the paper's order of tasks and methods."""
    methods = list(METHODS)
    place = methods.index(curve.method) if curve.method in methods else len(methods)
    return list(TASKS).index(curve.task), place, curve.label


def _points(plotted: Sequence[Curve]) -> list[tuple[object, ...]]:
    return [
        (curve.task, curve.label, run.seed, row["iteration"], row.get(STEPS), row.get(SCORE))
        for curve in plotted
        for run in curve.runs
        for row in run.rows
    ]


def _remarks(summaries: Sequence[Summary], others: Sequence[Curve]) -> list[str]:
    """Return the sentences under the table: the steps of the vine, and the other settings of each sweep."""
    lines = []
    for task in dict.fromkeys(line.curve.task for line in summaries):
        main = {line.curve.method: line for line in summaries if line.curve.task == task and not line.curve.changes}
        if {"vine", "single_path"} <= main.keys():
            ratio = main["vine"].steps_per_iteration / main["single_path"].steps_per_iteration
            lines.append(f"{task}: an iteration of the vine simulates {ratio:.2f} times the steps of single path.")
        for line in main.values():
            rest = [curve for curve in others if (curve.task, curve.method) == (task, line.curve.method)]
            if rest:
                scores = [(swept_settings(curve), curve.finals(SCORE).mean()) for curve in rest]
                losers = "; ".join(f"{describe(setting)} ends at {score:.3f}" for setting, score in scores)
                best = describe(swept_settings(line.curve))
                lines.append(f"{task}: {line.curve.method} is drawn with {best}, best at the end; {losers}.")
    if any((line.curve.task, line.curve.method) == ("walker", "natural_gradient") for line in summaries):
        lines.append(f"walker: {HOPPERS_CURVE}, so the difference from it says nothing.")
    return ["", *lines] if lines else []


def draw(plotted: Sequence[Curve], published: Published, against: str) -> Figure:
    """Return the paper's panels, without other settings of a method.

    Our curves are solid, with bands of one standard error; the published ones are dashed.

    against: "iterations" or "sim_steps", which counts branches too. The paper prints no steps, so its curves are drawn
    against iterations only.
    """
    tasks = [task for task in TASKS if any(curve.task == task for curve in plotted)]
    columns = min(2, len(tasks))
    n_rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(8.2 * columns, 4.6 * n_rows), layout="constrained")
    for i, task in enumerate(tasks):
        axes = figure.add_subplot(n_rows, columns, i + 1)
        title, x_range, y_range = TASKS[task]
        ours = [curve for curve in plotted if curve.task == task and not curve.changes]
        label_panel(axes, title, against, "score")
        if against == "iterations":
            _draw_published(axes, task, published, {curve.method for curve in ours})
            longest = max(len(run.rows) for curve in ours for run in curve.runs) - 1
            axes.set_xlim(x_range[0], max(x_range[1], longest))
        else:
            axes.set_xscale("log")
        _draw_ours(axes, ours, against)
        _set_y_range(axes, y_range, ours)
        put_legend_beside(axes)
    figure.suptitle(TITLES[against])
    return figure


def _draw_published(axes: Axes, task: str, published: Published, ours: set[str]) -> None:
    """Draw the published curves. One enters the legend only if we have no curve of its method."""
    for method, (name, colour) in METHODS.items():
        if (task, method) in published:
            label = None if method in ours else f"{name}, published only"
            axes.plot(*published[task, method], "--", color=colour, linewidth=1.0, alpha=0.75, label=label)
    if task == "walker":
        note = HOPPERS_CURVE.replace("curve ", "curve\n")
        axes.text(0.02, 0.98, note, transform=axes.transAxes, va="top", fontsize=7, color="0.4")


def _draw_ours(axes: Axes, ours: Sequence[Curve], against: str) -> None:
    """Draw the mean of each curve over its seeds."""
    unknown = [method for method in dict.fromkeys(curve.method for curve in ours) if method not in METHODS]
    for curve in ours:
        if curve.method in METHODS:
            name, colour = METHODS[curve.method]
        else:
            name, colour = curve.method, OTHER_COLOURS[unknown.index(curve.method) % len(OTHER_COLOURS)]
        mean, error = mean_and_error(curve.table(SCORE))
        line = {"color": colour, "linewidth": 1.6, "label": _legend_text(curve, name)}
        draw_band(axes, curve.x(against), mean, mean - error, mean + error, **line)


def _legend_text(curve: Curve, name: str) -> str:
    return f"{name} {count_seeds(len(curve.runs))}" + (f"\n{curve.progress}" if curve.unfinished else "")


def _set_y_range(axes: Axes, y_range: tuple[float, float], ours: Sequence[Curve]) -> None:
    """Give the vertical axis the paper's range, extended if our curves leave it."""
    ends = [np.array(y_range)]
    for curve in ours:
        mean, error = mean_and_error(curve.table(SCORE))
        ends += [mean - error, mean + error]
    low, high = float(np.nanmin(np.concatenate(ends))), float(np.nanmax(np.concatenate(ends)))
    margin = 0.02 * (high - low)
    axes.set_ylim(low - margin, high + margin)
