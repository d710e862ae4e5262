"""What every drawing of learning curves shares: the axes, the band around a mean, the legend beside a panel."""

from typing import Any

from matplotlib.axes import Axes
from numpy.typing import NDArray

X_AXES = {"iterations": "policy iterations", "sim_steps": "simulated steps, branches included"}


def label_panel(axes: Axes, title: str, against: str, y_label: str) -> None:
    """Give a panel its title, its labels and a grid. against: one of `X_AXES`."""
    axes.set_title(title)
    axes.set_xlabel(X_AXES[against])
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.25)


def draw_band(
    axes: Axes, x: NDArray[Any], mean: NDArray[Any], low: NDArray[Any], high: NDArray[Any], **line: Any
) -> None:
    """Draw a mean as a line, and the range from ``low`` to ``high`` as a pale band of the same colour."""
    (drawn,) = axes.plot(x, mean, **line)
    axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def put_legend_beside(axes: Axes) -> None:
    """Put the legend to the right of the panel, where it covers no curve."""
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def count_seeds(n: int) -> str:
    """Return ``(1 seed)`` or ``(5 seeds)``."""
    return f"({n} seed{'s' * (n > 1)})"
