"""Figure 5: learning curves on seven Atari games over the published dots."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trpo_cli.reports.atari import GAMES, RETURN, SAMPLERS, Dots, Key, of_the_games, published
from trpo_cli.reports.curves import STEPS, Curve, mean_and_error, short_of
from trpo_cli.reports.records import records
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import markdown, number, write_csv

COLOURS = {"single_path": "tab:red", "vine": "tab:blue"}
ITERATIONS = 500  # the paper's
SHORTEST_AXIS = 100  # iterations shown at least, twice as far as ours have come
HALF_WIDTH = 4  # iterations either side that a compared value averages
HEADERS = ["game", "sampler", "iterations", "ours", "published", "difference"]


def report(runs: Sequence[Run], out: Path) -> str:
    """Draw ``figure5.png`` into ``out``, write ``figure5.csv`` and ``figure5.md``; return what to print."""
    ours, dots = of_the_games(runs), published()
    out.mkdir(parents=True, exist_ok=True)
    _draw(ours, dots).savefig(out / "figure5.png", dpi=120)
    ordered = [ours[key] for key in sorted(ours)]
    write_csv(out / "figure5.csv", ["game", "sampler", "iteration", "sim_steps", "score"], _points(ordered))
    text = markdown(HEADERS, [_line(curve, dots) for curve in ordered])
    (out / "figure5.md").write_text(f"# Figure 5 in numbers\n\n{NOTE}\n\n{text}\n\n# Its runs\n\n{records(ordered)}\n")
    return text


NOTE = (
    f"Scores are means over the {2 * HALF_WIDTH + 1} last iterations of ours and over the published dots at the same "
    "iterations; a vine's are those of its trunks."
)


def _points(ordered: Sequence[Curve]) -> list[tuple[object, ...]]:
    return [
        (curve.task, curve.method, row["iteration"], row.get(STEPS), row.get(RETURN))
        for curve in ordered
        for run in curve.runs
        for row in run.rows
    ]


def _line(curve: Curve, dots: dict[Key, Dots]) -> list[str]:
    mean, _ = mean_and_error(curve.table(RETURN))
    last = mean[-(2 * HALF_WIDTH + 1) :]
    middle = len(mean) - 1 - (len(last) - 1) // 2
    theirs = dots[curve.task, curve.method].mean(middle, HALF_WIDTH)
    compared = ["", ""] if theirs is None else [number(theirs), number(float(last.mean()) - theirs)]
    return [curve.task, curve.method, _progress(curve) or str(len(mean)), number(float(last.mean())), *compared]


def _progress(curve: Curve) -> str:
    """How far of the paper's iterations ours came, "" where all did; a run asked for fewer is not finished either."""
    return short_of(ITERATIONS, (run for run in curve.runs if len(run.rows) < ITERATIONS))


def _draw(ours: dict[Key, Curve], dots: dict[Key, Dots]) -> Figure:
    """Return the paper's seven panels: its dots, our curves over them."""
    figure = Figure(figsize=(15, 7.5), layout="constrained")
    longest = max(len(run.rows) for curve in ours.values() for run in curve.runs)
    end = min(max(2 * longest, SHORTEST_AXIS), max(ITERATIONS, longest))
    for i, (game, name) in enumerate(GAMES.items()):
        axes = figure.add_subplot(2, 4, i + 1)
        axes.set_title(name)
        axes.set_xlim(0, end)
        for sampler, sampler_name in SAMPLERS.items():
            _panel(axes, dots[game, sampler], ours.get((game, sampler)), sampler_name, COLOURS[sampler])
        axes.set_xlabel("policy iterations")
        axes.set_ylabel("score")
        axes.grid(alpha=0.25)
        if any((game, sampler) in ours for sampler in SAMPLERS):
            axes.legend(fontsize=8, loc="lower right")
    figure.suptitle("Figure 5: score of an episode (the paper plots its negative). Lines: ours. Dots: published.")
    return figure


def _panel(axes: Axes, theirs: Dots, curve: Curve | None, name: str, colour: str) -> None:
    seen = theirs.iterations <= axes.get_xlim()[1]
    axes.plot(theirs.iterations[seen], theirs.scores[seen], ".", color=colour, markersize=3, alpha=0.35)
    if curve is None:
        return
    mean, error = mean_and_error(curve.table(RETURN))
    x = np.arange(len(mean))
    axes.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    label = ", ".join(filter(None, [name, _progress(curve)]))
    axes.plot(x, mean, color=colour, linewidth=1.6, label=label)
