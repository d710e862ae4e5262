"""Figure 5: our learning curves on seven Atari games over the published dots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trpo_cli.reports.atari import RETURN, Key, curves_of_games
from trpo_cli.reports.curves import STEPS, Curve, mean_and_error, unfinished_note
from trpo_cli.reports.drawing import draw_band, label_panel
from trpo_cli.reports.paper import GAMES, METHODS, SAMPLERS, Points, Published, published_dots
from trpo_cli.reports.provenance_table import provenance_table
from trpo_cli.reports.read_runs import Run
from trpo_cli.reports.tables import markdown, number, write_csv

ITERATIONS = 500  # of the paper's runs
SHORTEST_AXIS = 100  # iterations; a longer axis shows twice the iterations of our longest run
HALF_WIDTH = 4  # a compared score averages this many iterations on either side
HEADERS = ["game", "sampler", "iterations", "ours", "published", "difference"]
NOTE = (
    f"Scores are means over the {2 * HALF_WIDTH + 1} last iterations of ours and over the published dots at the same "
    "iterations; a vine's are those of its trunks."
)


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``figure5.png``, ``figure5.csv`` and ``figure5.md`` into ``out``. Return the text to print."""
    ours, dots = curves_of_games(runs), published_dots()
    out.mkdir(parents=True, exist_ok=True)
    _draw(ours, dots).savefig(out / "figure5.png", dpi=120)
    ordered = [ours[key] for key in sorted(ours)]
    write_csv(out / "figure5.csv", ["game", "sampler", "iteration", "sim_steps", "score"], _points(ordered))
    text, runs_table = markdown(HEADERS, [_line(curve, dots) for curve in ordered]), provenance_table(ordered)
    (out / "figure5.md").write_text(f"# Figure 5 in numbers\n\n{NOTE}\n\n{text}\n\n# Its runs\n\n{runs_table}\n")
    return text


def _points(ordered: Sequence[Curve]) -> list[tuple[object, ...]]:
    return [
        (curve.task, curve.method, row["iteration"], row.get(STEPS), row.get(RETURN))
        for curve in ordered
        for run in curve.runs
        for row in run.rows
    ]


def _line(curve: Curve, dots: Published) -> list[str]:
    mean, _ = mean_and_error(curve.table(RETURN))
    last = mean[-(2 * HALF_WIDTH + 1) :]
    middle = len(mean) - 1 - (len(last) - 1) // 2
    theirs = _mean_of_dots(dots[curve.task, curve.method], middle)
    compared = ["", ""] if theirs is None else [number(theirs), number(float(last.mean()) - theirs)]
    return [curve.task, curve.method, _progress(curve) or str(len(mean)), number(float(last.mean())), *compared]


def _mean_of_dots(dots: Points, iteration: int) -> float | None:
    """Return the mean score of the dots at most `HALF_WIDTH` from ``iteration``, or None if there is none."""
    iterations, scores = dots
    near = np.abs(iterations - iteration) <= HALF_WIDTH
    return float(scores[near].mean()) if near.any() else None


def _progress(curve: Curve) -> str:
    """Return how many of the paper's iterations the unfinished runs reached, "" if every run reached all of them."""
    return unfinished_note(ITERATIONS, (run for run in curve.runs if len(run.rows) < ITERATIONS))


def _draw(ours: dict[Key, Curve], dots: Published) -> Figure:
    """Return the paper's seven panels: its dots, with our curves over them."""
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    longest = max(len(run.rows) for curve in ours.values() for run in curve.runs)
    end = min(max(2 * longest, SHORTEST_AXIS), max(ITERATIONS, longest))
    for i, (game, name) in enumerate(GAMES.items()):
        axes = figure.add_subplot(2, 4, i + 1)
        label_panel(axes, name, "iterations", "score")
        axes.set_xlim(0, end)
        for sampler in SAMPLERS:
            _draw_sampler(axes, sampler, dots[game, sampler], ours.get((game, sampler)))
        if any((game, sampler) in ours for sampler in SAMPLERS):
            axes.legend(fontsize=8, loc="lower right")
    figure.suptitle("Figure 5: score of an episode (the paper plots its negative). Lines: ours. Dots: published.")
    return figure


def _draw_sampler(axes: Axes, sampler: str, dots: Points, curve: Curve | None) -> None:
    colour = METHODS[sampler][1]
    iterations, scores = dots[:, dots[0] <= axes.get_xlim()[1]]
    axes.plot(iterations, scores, ".", color=colour, markersize=3, alpha=0.35)
    if curve is not None:
        mean, error = mean_and_error(curve.table(RETURN))
        label = ", ".join(filter(None, [SAMPLERS[sampler], _progress(curve)]))
        line = {"color": colour, "linewidth": 1.6, "label": label}
        draw_band(axes, curve.x("iterations"), mean, mean - error, mean + error, **line)
