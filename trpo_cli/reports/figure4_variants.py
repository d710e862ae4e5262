"""Beside Figure 4: what other settings of a method change, one panel per task and method."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trpo_cli.reports.curves import SCORE, Curve, describe, mean_and_error
from trpo_cli.reports.drawing import count_seeds, draw_band, label_panel
from trpo_cli.reports.paper import METHODS, TASKS, Published

FILE = "figure4_variants.png"
TITLE = "Other settings of a method, beside those of Figure 4. Dashed: published."
COLUMNS = 4
COLOURS = ("tab:orange", "tab:green", "tab:red", "tab:brown")  # of the variants


def draw_variants(curves: Sequence[Curve], published: Published) -> Figure | None:
    """Return a panel per task and method that was run with other settings too; None if there is no such method."""
    several = {(curve.task, curve.method) for curve in curves if curve.changes}
    shown = [key for key in dict.fromkeys((curve.task, curve.method) for curve in curves) if key in several]
    if not shown:
        return None
    columns = min(COLUMNS, len(shown))
    n_rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.4 * columns, 4.4 * n_rows), layout="constrained")
    for i, (task, method) in enumerate(shown):
        axes = figure.add_subplot(n_rows, columns, i + 1)
        same = [curve for curve in curves if (curve.task, curve.method) == (task, method)]
        name = METHODS[method][0] if method in METHODS else method
        label_panel(axes, f"{TASKS[task][0]}: {name}", "iterations", "score")
        if (task, method) in published:
            axes.plot(*published[task, method], "--", color="black", linewidth=1.2, label="published")
        _draw(axes, same)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8, frameon=False)
    figure.suptitle(TITLE)
    return figure


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw the main settings in blue and each variant in a colour of its own, with bands of one standard error."""
    variants = [curve for curve in curves if curve.changes]
    for curve in curves:
        colour = COLOURS[variants.index(curve) % len(COLOURS)] if curve.changes else "tab:blue"
        what = describe(curve.changes).replace(", ", "\n") if curve.changes else "as in Figure 4"
        progress = f"\n{curve.progress}" if curve.unfinished else ""
        mean, error = mean_and_error(curve.table(SCORE))
        label = f"{what} {count_seeds(len(curve.runs))}{progress}"
        draw_band(axes, curve.x("iterations"), mean, mean - error, mean + error, color=colour, label=label)
