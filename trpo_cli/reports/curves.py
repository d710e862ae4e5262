"""Learning curves: a curve is the seeds of one task, one method and one choice of settings."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_cli.reports.read_runs import Run

RETURN, SCORE, STEPS = "collect/episode_return", "collect/score", "sim_steps_total"  # columns of progress.jsonl
LAST = 5  # a final value is the mean over this many iterations, here and in what trpo-train prints
# The paper tries several values of these settings and shows the best.
SWEPT = {"natural_gradient": ("optimizer.penalty",)}

Settings = tuple[tuple[str, Any], ...]  # (key, value), sorted by key
Seeds = tuple[Run, ...]  # runs that differ only in the seed


@dataclass(frozen=True)
class Curve:
    """The seeds of one choice of settings.

    changes: what differs from the main settings, such as ``{"optimizer.kl_slack": 2}``; {} for the main settings
    """

    task: str
    method: str
    changes: dict[str, Any]
    runs: Seeds

    @property
    def label(self) -> str:
        """The method's name and what differs: ``single_path[kl_slack=2]``."""
        return self.method + (f"[{describe(self.changes)}]" if self.changes else "")

    @property
    def planned(self) -> int:
        """The number of iterations of a whole run, the largest over the seeds."""
        return max(run.planned for run in self.runs)

    @property
    def unfinished(self) -> Seeds:
        """The seeds that are not finished, and those that were asked for less than others."""
        asked = max(run.asked for run in self.runs)
        return tuple(run for run in self.runs if not run.finished or run.asked < asked)

    @property
    def progress(self) -> str:
        """The iterations of the unfinished seeds, "unfinished: 37, 112 of 200", or "" if all are finished."""
        return unfinished_note(self.planned, self.unfinished)

    def table(self, key: str) -> NDArray[np.float64]:
        """Return ``key`` by seed and iteration, `[n_seeds, T]`. It is NaN from where a shorter run ends."""
        table = np.full((len(self.runs), max(len(run.rows) for run in self.runs)), np.nan)
        for i, run in enumerate(self.runs):
            table[i, : len(run.rows)] = run.column(key)
        return table

    def x(self, against: str) -> NDArray[Any]:
        """Return the horizontal axis `[T]`: "iterations", or "sim_steps" as the mean over seeds."""
        steps = self.table(STEPS)
        return np.arange(steps.shape[1]) if against == "iterations" else np.nanmean(steps, axis=0)

    def finals(self, key: str) -> NDArray[np.float64]:
        """Return the mean of ``key`` over the last iterations of each finished seed, or of each seed if none is.

        It is NaN for a seed that has no value there.
        """
        runs = [run for run in self.runs if run not in self.unfinished] or self.runs
        last = [run.column(key)[-LAST:] for run in runs]
        return np.array([x[~np.isnan(x)].mean() if not np.isnan(x).all() else np.nan for x in last])


def unfinished_note(planned: int, unfinished: Iterable[Run]) -> str:
    """Return "unfinished: 37, 112 of 200" for these runs, or "" if there are none."""
    reached = ", ".join(str(len(run.rows)) for run in unfinished)
    return f"unfinished: {reached} of {planned}" if reached else ""


def describe(changes: Mapping[str, Any]) -> str:
    """Return ``kl_slack=2, n_paths=64``. If two keys end in the same name, both are given in full."""
    last = {key: key.rpartition(".")[2] for key in changes}
    times = Counter(last.values())
    names = {key: name if times[name] == 1 else key for key, name in last.items()}
    return ", ".join(
        f"{names[key]}={f'{value:g}' if isinstance(value, float) else value}" for key, value in changes.items()
    )


def mean_and_error(table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard error `[T]` over the seeds that have a value. The error of a single seed is 0.

    table: `[n_seeds, T]`, NaN if a seed has no value. The error is std / sqrt(n), with n - 1 in the variance.
    """
    n = (~np.isnan(table)).sum(axis=0)
    mean = np.full(table.shape[1], np.nan)
    np.divide(np.nansum(table, axis=0), n, out=mean, where=n > 0)
    squares = np.nansum((table - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.maximum(n - 1, 1) / np.maximum(n, 1))


def group_into_curves(runs: Iterable[Run]) -> list[Curve]:
    """Group ``runs`` by task, method and settings. The curve of a method's main settings comes first.

    If a seed was run twice with the same settings, the longer run counts.
    """
    groups: dict[tuple[str, str], dict[Settings, list[Run]]] = defaultdict(lambda: defaultdict(list))
    methods: dict[tuple[str, str], set[str]] = defaultdict(set)  # of each experiment on each task
    for run in runs:
        groups[run.task, run.method][_sorted_settings(run)].append(run)
        methods[run.task, run.name].add(run.method)
    found = []
    for (task, method), by_settings in groups.items():
        n_methods = {name: len(those) for (its_task, name), those in methods.items() if its_task == task}
        ranked = main_settings_first([_one_run_per_seed(same) for same in by_settings.values()], n_methods)
        found += [Curve(task, method, _changes(ranked[0][0], seeds[0]), seeds) for seeds in ranked]
    return found


def main_settings_first(variants: Sequence[Seeds], n_methods: Mapping[str, int]) -> list[Seeds]:
    """Sort the variants of a method, each with its own settings, so that its main settings come first.

    No file says which settings are the main ones, so this takes them from how people work. They compare the methods in
    one experiment, and then try other settings of one method in another experiment. The main settings are therefore
    those of the experiment with the most methods on the task. If that leaves several, the first name in the alphabet
    decides, then the largest number of seeds.

    n_methods: on this task, of each experiment (`Run.name`)
    """

    def rank(seeds: Seeds) -> tuple[tuple[int, str], int, str]:
        return min((-n_methods[run.name], run.name) for run in seeds), -len(seeds), repr(_sorted_settings(seeds[0]))

    return sorted(variants, key=rank)


def best_of_sweeps(curves: Sequence[Curve], key: str) -> tuple[list[Curve], list[Curve]]:
    """Return the curves with only the best of each sweep, the one with the best mean final ``key``, and the others.

    The best one stands for the method, so its ``changes`` do not hold the swept settings.
    """
    sweeps: dict[tuple[str, str, str], list[Curve]] = defaultdict(list)
    for curve in curves:
        sweeps[curve.task, curve.method, describe(_changes_without_swept(curve))].append(curve)
    plotted, others = [], []
    for members in sweeps.values():
        best = max(members, key=lambda curve: np.nan_to_num(curve.finals(key).mean(), nan=-np.inf))
        plotted.append(replace(best, changes=_changes_without_swept(best)))
        others += [curve for curve in members if curve is not best]
    return plotted, others


def swept_settings(curve: Curve) -> dict[str, Any]:
    """Return the values of the settings that the paper swept for this method."""
    settings = curve.runs[0].settings
    return {key: settings[key] for key in SWEPT.get(curve.method, ()) if key in settings}


def _changes_without_swept(curve: Curve) -> dict[str, Any]:
    return {key: value for key, value in curve.changes.items() if key not in SWEPT.get(curve.method, ())}


def _sorted_settings(run: Run) -> Settings:
    values = ((key, run.settings[key]) for key in sorted(run.settings))
    return tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in values)


def _one_run_per_seed(runs: Sequence[Run]) -> Seeds:
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
