"""Figure 4: learning curves of every method on the paper's four tasks, over the published ones."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import (
    SCORE,
    STEPS,
    Curve,
    best_of_sweeps,
    curves,
    described,
    mean_and_error,
    swept_settings,
)
from trpo_cli.reports.records import records
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import count, markdown, write_csv

# In the paper's order, with the ranges of its axes.
TASKS = {
    "cartpole": ("Cart-pole", (0, 50), (0.0, 10.0)),
    "swimmer": ("Swimmer", (0, 50), (-0.10, 0.15)),
    "hopper": ("Hopper", (0, 200), (-1.0, 2.5)),
    "walker": ("Walker", (0, 200), (-1.0, 3.5)),
}
METHODS = {
    "vine": ("Vine", "tab:blue"),
    "single_path": ("Single path", "tab:red"),
    "natural_gradient": ("Natural gradient", "tab:green"),
    "max_kl": ("Max KL", "tab:purple"),
    "empirical_fim": ("Empirical FIM", "tab:orange"),
    "cem": ("CEM", "tab:cyan"),
    "cma": ("CMA", "tab:brown"),
    "rwr": ("RWR", "tab:pink"),
}
OTHER_COLOURS = ("tab:olive", "black", "tab:gray")
VARIANT_STYLES = ("-.", ":", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
HOPPERS_CURVE = "the published natural gradient curve is the hopper's, point for point"

Published = dict[tuple[str, str], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Summary:
    """One line of the table: a curve in numbers, beside the published one where there is one.

    start, final: mean score over seeds at iteration 0 and over the last five iterations. difference: mean absolute
    difference from the published curve over the iterations of both. shortfall: the most it lies below that curve, and
    at which iteration.
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


HEADERS = ["task", "method", "seeds", "iterations", "start", "final", "mean difference", "worst shortfall"]
HEADERS += ["sim. steps/iteration"]


def published_curves() -> Published:
    """Return the digitised curves of the paper: (task, method) to iterations and scores."""
    text = (files("trpo_cli.reports") / "data" / "figure4.csv").read_text()
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in csv.DictReader(text.splitlines()):
        points.setdefault((row["task"], row["method"]), []).append((float(row["iteration"]), float(row["score"])))
    return {key: (np.array(xy)[:, 0], np.array(xy)[:, 1]) for key, xy in points.items()}


def report(runs: Sequence[Run], out: Path, against: Sequence[str], tasks: Sequence[str]) -> str:
    """Draw the figure into ``out`` and write the numbers behind it; return what to print.

    against: "iterations" gives ``figure4.png``, "sim_steps" ``figure4_sim_steps.png``. tasks: which panels.
    ``figure4.csv`` holds every point, ``figure4.md`` the table and what each curve was run with.
    Raises ConfigError where no run is of one of them.
    """
    shown = [run for run in runs if run.task in tasks]
    if not shown:
        there = ", ".join(sorted({run.task for run in runs}))
        raise ConfigError(f"no run is of a task of Figure 4 ({', '.join(tasks)}); the runs given are of {there}")
    plotted, others = best_of_sweeps(curves(shown), SCORE)
    plotted = sorted(plotted, key=_order)
    out.mkdir(parents=True, exist_ok=True)
    published = published_curves()
    if "iterations" in against:
        _draw(plotted, published).savefig(out / "figure4.png", dpi=120)
    if "sim_steps" in against:
        _draw_against_steps(plotted).savefig(out / "figure4_sim_steps.png", dpi=120)
    write_csv(out / "figure4.csv", ["task", "method", "seed", "iteration", "sim_steps", "score"], _points(plotted))
    summaries = [summarise(curve, published.get((curve.task, curve.method))) for curve in plotted]
    text = "\n".join([markdown(HEADERS, [line.cells() for line in summaries]), *_remarks(summaries, others)])
    behind = f"# The curves of Figure 4 in numbers\n\n{text}\n\n# Their runs\n\n{records(plotted)}\n"
    (out / "figure4.md").write_text(behind)
    return text


def summarise(curve: Curve, published: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> Summary:
    """Return ``curve`` in numbers; a published value between two digitised points is interpolated."""
    mean, _ = mean_and_error(curve.table(SCORE))
    difference, shortfall = None, None
    if published is not None:
        iterations = np.arange(min(len(mean), int(published[0].max()) + 1))
        ahead = mean[iterations] - np.interp(iterations, *published)
        difference = float(np.abs(ahead).mean())
        shortfall = max(0.0, float(-ahead.min())), int(ahead.argmin())
    steps = np.mean([run.column(STEPS)[-1] / len(run.rows) for run in curve.runs])
    return Summary(curve, float(mean[0]), float(curve.finals(SCORE).mean()), float(steps), difference, shortfall)


def _order(curve: Curve) -> tuple[int, int, str]:
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
    """Return the sentences under the table: the sweeps, and what the vine pays."""
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
                losers = "; ".join(f"{described(setting)} ends at {score:.3f}" for setting, score in scores)
                best = described(swept_settings(line.curve))
                lines.append(f"{task}: {line.curve.method} is drawn with {best}, best at the end; {losers}.")
    if any((line.curve.task, line.curve.method) == ("walker", "natural_gradient") for line in summaries):
        lines.append(f"walker: {HOPPERS_CURVE}, so the difference from it says nothing.")
    return ["", *lines] if lines else []


def _draw(plotted: Sequence[Curve], published: Published) -> Figure:
    """Return the paper's panels: ours solid with bands of one standard error, the published curves dashed behind."""
    tasks = [task for task in TASKS if any(curve.task == task for curve in plotted)]
    figure, panels = _panels(tasks)
    for task, axes in zip(tasks, panels, strict=True):
        _, x_range, y_range = TASKS[task]
        ours = [curve for curve in plotted if curve.task == task]
        for method, (name, colour) in METHODS.items():
            if (task, method) in published:
                only = "" if any(curve.method == method for curve in ours) else f"{name}, published only"
                axes.plot(*published[task, method], "--", color=colour, linewidth=1.0, alpha=0.75, label=only or None)
        longest = max(len(run.rows) for curve in ours for run in curve.runs) - 1
        _draw_curves(axes, ours)
        axes.set_xlim(x_range[0], max(x_range[1], longest))
        _include(axes, y_range, ours)
        axes.set_xlabel("policy iterations")
        if task == "walker":
            note = HOPPERS_CURVE.replace("curve ", "curve\n")
            axes.text(0.02, 0.98, note, transform=axes.transAxes, va="top", fontsize=7, color="0.4")
        _legend(axes)
    figure.suptitle("Figure 4: score, the return of an episode / its step limit. Solid: ours. Dashed: published.")
    return figure


def _draw_against_steps(plotted: Sequence[Curve]) -> Figure:
    """Return the same panels over simulated steps, branches included, which the paper does not print."""
    tasks = [task for task in TASKS if any(curve.task == task for curve in plotted)]
    figure, panels = _panels(tasks)
    for task, axes in zip(tasks, panels, strict=True):
        ours = [curve for curve in plotted if curve.task == task]
        _draw_curves(axes, ours, against_steps=True)
        axes.set_xscale("log")
        _include(axes, TASKS[task][2], ours)
        axes.set_xlabel("simulated steps, branches included")
        _legend(axes)
    figure.suptitle("Figure 4 against simulated steps: score, the return of an episode / its step limit")
    return figure


def _panels(tasks: Sequence[str]) -> tuple[Figure, list[Axes]]:
    columns = min(2, len(tasks))
    n_rows = -(-len(tasks) // columns)
    figure = Figure(figsize=(8.2 * columns, 4.6 * n_rows), layout="constrained")
    panels = [figure.add_subplot(n_rows, columns, i + 1) for i in range(len(tasks))]
    for task, axes in zip(tasks, panels, strict=True):
        axes.set_title(TASKS[task][0])
        axes.set_ylabel("score")
        axes.grid(alpha=0.25)
    return figure, panels


def _draw_curves(axes: Axes, ours: Sequence[Curve], against_steps: bool = False) -> None:
    """Draw each curve's mean over seeds with a band of one standard error; a variant in its method's colour."""
    n_variants: dict[str, int] = {}
    unknown = [method for method in dict.fromkeys(curve.method for curve in ours) if method not in METHODS]
    for curve in ours:
        if curve.method in METHODS:
            name, colour = METHODS[curve.method]
        else:
            name, colour = curve.method, OTHER_COLOURS[unknown.index(curve.method) % len(OTHER_COLOURS)]
        style: str | tuple[int, tuple[int, ...]] = "-"
        if curve.changes:
            style = VARIANT_STYLES[n_variants.get(curve.method, 0) % len(VARIANT_STYLES)]
            n_variants[curve.method] = n_variants.get(curve.method, 0) + 1
        mean, error = mean_and_error(curve.table(SCORE))
        x = mean_and_error(curve.table(STEPS))[0] if against_steps else np.arange(len(mean))
        axes.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, mean, linestyle=style, color=colour, linewidth=1.6, label=_legend_text(curve, name))


def _legend_text(curve: Curve, name: str) -> str:
    lines = [name, *([described(curve.changes)] if curve.changes else [])]
    lines[-1] += f" ({len(curve.runs)} seed{'s' * (len(curve.runs) > 1)})"
    return "\n".join([*lines, *([curve.progress] if curve.unfinished else [])])


def _include(axes: Axes, y_range: tuple[float, float], ours: Sequence[Curve]) -> None:
    """Give the vertical axis the paper's range, wider where ours leave it."""
    ends = [np.array(y_range)]
    for curve in ours:
        mean, error = mean_and_error(curve.table(SCORE))
        ends += [mean - error, mean + error]
    low, high = float(np.nanmin(np.concatenate(ends))), float(np.nanmax(np.concatenate(ends)))
    margin = 0.02 * (high - low)
    axes.set_ylim(low - margin, high + margin)


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
