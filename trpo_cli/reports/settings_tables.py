"""What Tables 2 and 3 share: rows that compare the paper's settings with ours, as configured and as measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_cli.reports.curves import Curve
from trpo_cli.reports.tables import NONE, count

SP, VINE = "single_path", "vine"

Cell = Callable[[Curve], str]  # "" if there is no value


@dataclass(frozen=True)
class Row:
    """One setting of the paper.

    paper: its values, one per task or one for all games
    method: the method that the row is about
    configured, measured: how a curve shows our value; None if there is no such value
    """

    label: str
    paper: tuple[str, ...]
    method: str
    configured: Cell | None
    measured: Cell | None


def show(cell: Cell | None, curve: Curve | None) -> str:
    """Return the text of a cell, a dash if it has no value."""
    return NONE if cell is None or curve is None else cell(curve) or NONE


def setting(key: str) -> Cell:
    """Return a cell that shows a setting."""
    return lambda curve: _text(curve.runs[0].settings.get(key))


def info(key: str) -> Cell:
    """Return a cell that shows a value of ``run.json``."""
    return lambda curve: _text(curve.runs[0].info.get(key))


def scaled(name: str) -> Cell:
    """Return a cell that shows a `scaled_setting`."""
    return lambda curve: _text(scaled_setting(curve, name))


def mean(key: str) -> Cell:
    """Return a cell that shows the mean of a column over iterations and seeds."""

    def cell(curve: Curve) -> str:
        value = float(np.mean([run.column(key).mean() for run in curve.runs]))
        return "" if np.isnan(value) else count(value)

    return cell


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(part) for part in value) or "none"
    return "" if value is None else str(value)


def scaled_setting(curve: Curve, name: str) -> int | None:
    """Return ``sampler.<name>`` times ``sampler.scale``, the number that a run draws, or None if it is unset."""
    settings = curve.runs[0].settings
    value = settings.get(f"sampler.{name}")
    return None if value is None else max(round(value * settings.get("sampler.scale", 1)), 1)


def q_values(curve: Curve) -> str:
    """Return how many Q-values a vine estimates per iteration."""
    n_states, n_actions = scaled_setting(curve, "n_states"), curve.runs[0].settings.get("sampler.n_actions")
    return "" if n_states is None or n_actions is None else str(n_states * n_actions)


def configured_steps(curve: Curve) -> str:
    """Return the steps that an iteration simulates at most, according to its settings."""
    steps, limit = scaled_setting(curve, "steps_per_iteration"), curve.runs[0].settings.get("sampler.step_limit")
    n_paths, n_trunks = scaled_setting(curve, "n_paths"), scaled_setting(curve, "n_trunks")
    length = curve.runs[0].settings.get("sampler.branch_length")
    if steps is not None:
        return count(steps)
    if curve.method == SP and n_paths is not None and limit is not None:
        return count(n_paths * limit)
    if curve.method == VINE and n_trunks is not None and limit is not None and q_values(curve) and length is not None:
        return count(n_trunks * limit + int(q_values(curve)) * length)
    return ""


def planned_iterations(curve: Curve) -> str:
    """Return how many iterations were asked for."""
    return str(curve.planned)


def mean_kl(curve: Curve) -> str:
    """Return the mean and the largest of the steps' mean KL."""
    kl = np.concatenate([run.column("update/mean_kl") for run in curve.runs])
    kl = kl[~np.isnan(kl)]
    return f"mean {kl.mean():.4f}, max {kl.max():.4f}" if len(kl) else ""
