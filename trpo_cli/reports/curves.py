"""Runs grouped into learning curves: the seeds of one task, one method and one choice of settings."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.reports.runs import Run

SCORE, STEPS = "collect/score", "sim_steps_total"  # columns of progress.jsonl
LAST = 5  # iterations that a final score averages
# The paper shows the best of a sweep over the multiplier of the natural gradient.
SWEPT = {"natural_gradient": ("optimizer.penalty", "optimizer.step_size")}

Settings = tuple[tuple[str, Any], ...]  # (key, value) in the order of the keys


@dataclass(frozen=True)
class Curve:
    """The seeds of one choice of settings.

    changes: what differs from the settings that the figure is about, ``{"optimizer.kl_slack": 2}``; {} for those.
    """

    task: str
    method: str
    changes: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """The method's name and what differs: ``single_path[kl_slack=2]``."""
        return self.method + (f"[{described(self.changes)}]" if self.changes else "")

    @property
    def planned(self) -> int:
        """How many iterations were asked for, the most of any seed."""
        return max(run.planned for run in self.runs)

    @property
    def unfinished(self) -> tuple[Run, ...]:
        """The seeds that have not come to the end; one that was asked for less than the others is among them."""
        return tuple(run for run in self.runs if not run.finished or len(run.rows) < self.planned)

    @property
    def progress(self) -> str:
        """How far the unfinished seeds got, "unfinished: 37, 112 of 200"; "" where all finished."""
        return short_of(self.planned, self.unfinished)

    def table(self, key: str) -> NDArray[np.float64]:
        """Return ``key`` by seed and iteration `[n_seeds, T]`; NaN where a run has not got there."""
        table = np.full((len(self.runs), max(len(run.rows) for run in self.runs)), np.nan)
        for i, run in enumerate(self.runs):
            table[i, : len(run.rows)] = run.column(key)
        return table

    def finals(self, key: str) -> NDArray[np.float64]:
        """Return the mean of ``key`` over each seed's last iterations; of the finished seeds where there are any."""
        runs = [run for run in self.runs if run not in self.unfinished] or self.runs
        return np.array([run.column(key)[-LAST:].mean() for run in runs])


def short_of(planned: int, unfinished: Iterable[Run]) -> str:
    """Return "unfinished: 37, 112 of 200" for the runs that have not got there; "" for none."""
    reached = ", ".join(str(len(run.rows)) for run in unfinished)
    return f"unfinished: {reached} of {planned}" if reached else ""


def described(changes: dict[str, Any]) -> str:
    """Return ``kl_slack=2, n_paths=64`` for settings; a last name that two of them share is given in full."""
    last = Counter(key.rpartition(".")[2] for key in changes)
    names = {key: key.rpartition(".")[2] if last[key.rpartition(".")[2]] == 1 else key for key in changes}
    return ", ".join(
        f"{names[key]}={f'{value:g}' if isinstance(value, float) else value}" for key, value in changes.items()
    )


def mean_and_error(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard error `[T]` over the seeds that have a value; the error is 0 for a single seed.

    table: `[n_seeds, T]`, NaN where a seed has none. The error is std / sqrt(n), with n - 1 in the variance.
    """
    n = (~np.isnan(table)).sum(axis=0)
    mean = np.full(table.shape[1], np.nan)
    np.divide(np.nansum(table, axis=0), n, out=mean, where=n > 0)
    squares = np.nansum((table - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))


def curves(runs: Iterable[Run]) -> list[Curve]:
    """Group ``runs`` by task, method and settings, and name each group by how it differs from the main one.

    Of several settings of one method the main ones are those of the experiment (`Run.name`) with the most methods on
    the task. Where a seed was run twice with the same settings, the longer run counts.
    """
    groups: dict[tuple[str, str], dict[Settings, list[Run]]] = defaultdict(lambda: defaultdict(list))
    methods: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        groups[run.task, run.method][_frozen(run)].append(run)
        methods[run.task, run.name].add(run.method)

    found = []
    for (task, method), by_settings in groups.items():
        seeds = {settings: _one_a_seed(members) for settings, members in by_settings.items()}

        def rank(settings: Settings, task: str = task, seeds: dict[Settings, tuple[Run, ...]] = seeds) -> Any:
            names = [(-len(methods[task, run.name]), run.name) for run in seeds[settings]]
            return min(names), -len(seeds[settings]), repr(settings)

        main, *_ = ranked = sorted(seeds, key=rank)
        for settings in ranked:
            found.append(Curve(task, method, _changes(seeds[main][0], seeds[settings][0]), seeds[settings]))
    return found


def best_of_sweeps(found: Sequence[Curve], key: str) -> tuple[list[Curve], list[Curve]]:
    """Return the curves with, of each sweep, the one of best mean final ``key`` only, and the others.

    The best is named without the swept setting, so it stands for the method.
    """
    sweeps: dict[tuple[str, str, str], list[Curve]] = defaultdict(list)
    for curve in found:
        sweeps[curve.task, curve.method, described(_without_swept(curve))].append(curve)
    plotted, others = [], []
    for members in sweeps.values():
        best = max(members, key=lambda curve: np.nan_to_num(curve.finals(key).mean(), nan=-np.inf))
        plotted.append(replace(best, changes=_without_swept(best)))
        others += [curve for curve in members if curve is not best]
    return plotted, others


def swept_settings(curve: Curve) -> dict[str, Any]:
    """Return the values of the settings that the paper swept for this method."""
    settings = curve.runs[0].settings
    return {key: settings[key] for key in SWEPT.get(curve.method, ()) if key in settings}


def _without_swept(curve: Curve) -> dict[str, Any]:
    return {key: value for key, value in curve.changes.items() if key not in SWEPT.get(curve.method, ())}


def _frozen(run: Run) -> Settings:
    values = ((key, run.settings[key]) for key in sorted(run.settings))
    return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in values)


def _one_a_seed(runs: Sequence[Run]) -> tuple[Run, ...]:
    by_seed: dict[int, Run] = {}
    for run in runs:
        if run.seed not in by_seed or len(run.rows) > len(by_seed[run.seed].rows):
            by_seed[run.seed] = run
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def _changes(main: Run, other: Run) -> dict[str, Any]:
    keys = sorted(main.settings.keys() | other.settings.keys())
    unset = object()
    return {
        key: other.settings.get(key, "unset")
        for key in keys
        if main.settings.get(key, unset) != other.settings.get(key, unset)
    }
