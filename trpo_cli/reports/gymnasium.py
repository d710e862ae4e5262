"""The benchmark on Gymnasium's tasks: ours beside the controls, final policies, several seeds."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import mean_and_error
from trpo_cli.reports.drawing import draw_band
from trpo_cli.reports.read_runs import PROGRESS, Run, read_json, read_run
from trpo_cli.reports.statistics import (
    improvement_with_interval,
    interquartile_mean,
    interquartile_mean_with_interval,
    mean_with_interval,
    profile_with_interval,
)
from trpo_cli.reports.table1 import EVALUATION
from trpo_cli.reports.tables import NONE, count, markdown, number, write_csv, write_table

CONTROL = "control.json"  # the result of another library
GREEDY = "evaluation_greedy.json"  # of trpo-eval greedy=true in a run directory, beside EVALUATION
OURS = ("trpo", "trpo_cli")
LABELS = {OURS: "trpo_cli TRPO", ("trpo", "sb3_contrib"): "sb3-contrib TRPO"}
LABELS |= {("ppo", "stable_baselines3"): "stable-baselines3 PPO"}
RESULTS, CURVES = "benchmark.csv", "curves.csv"
HEADERS = ["env", "algorithm", "implementation", "seed", "steps", "return_greedy", "return_stochastic", "wall_s"]
CURVE_HEADERS = ["env", "algorithm", "implementation", "seed", "steps", "return"]
TABLE = ["task", "steps", "method", "seeds", "greedy, IQM", "95% interval", "greedy, mean", "error"]
TABLE += ["stochastic, IQM", "wall, s", "ours beats it", "95% interval"]
NOTE = "Final policies after so many environment steps. IQM: interquartile mean over seeds, with its 95% interval."
N_POINTS = 40  # of a curve in the CSV

Method = tuple[str, str]  # algorithm, implementation


@dataclass(frozen=True)
class Result:
    """One seed of one method on one task."""

    env: str  # Gymnasium's name
    method: Method
    seed: int
    steps: int
    greedy: float  # mean return of the evaluation's episodes under the most likely actions
    stochastic: float  # the same under sampled actions
    wall_s: float  # of training
    curve: NDArray[np.float64]  # [n, 2] environment steps, mean return in training
    directory: Path | None = None  # that it was read from

    @property
    def key(self) -> tuple[str, Method, int]:
        """What there is one of."""
        return self.env, self.method, self.seed


def report(roots: Sequence[Path], out: Path) -> str:
    """Write table, CSV files and figures of the finished runs and controls under ``roots``. Return the table.

    Rows that stand in ``out`` already, and that no run or control replaces, stay.
    """
    if missing := [root for root in roots if not root.is_dir()]:
        raise ConfigError(f"{missing[0]} is not a directory; give the directory above the runs and controls")
    new: dict[tuple[str, Method, int], Result] = {}
    for result in [*_ours(roots), *_controls(roots)]:
        if result.key in new:
            both = f"{new[result.key].directory} and {result.directory}"
            raise ConfigError(f"{both} are the same method, task and seed: give the directory of one of them")
        new[result.key] = result
    found = {result.key: result for result in _published(out)} | new
    if not found:
        raise ConfigError(f"{', '.join(map(str, roots))}: no finished run that trpo-eval has scored, and no control")
    results = [found[key] for key in sorted(found)]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / RESULTS, HEADERS, [_line(result) for result in results])
    points = [(r.env, *r.method, r.seed, int(x), f"{y:.6g}") for r in results for x, y in r.curve]
    write_csv(out / CURVES, CURVE_HEADERS, points)
    _draw_curves(results).savefig(out / "benchmark.png", dpi=110)
    _draw_profiles(results).savefig(out / "profile.png", dpi=110)
    return _write_table(results, out)


def gymnasium_id(task: str) -> str:
    """Return Gymnasium's name of ``env=task``: HalfCheetah-v5 for half_cheetah_v5; other names are Gymnasium's own."""
    name, found, version = task.rpartition("_v")
    return "".join(word.capitalize() for word in name.split("_")) + f"-v{version}" if found else task


def _ours(roots: Sequence[Path]) -> Iterable[Result]:
    """Return the finished runs of TRPO with streams whose final policy was evaluated both ways."""
    for path in sorted({path.parent for root in roots for path in root.rglob(PROGRESS)}):
        files = [path / name for name in (GREEDY, EVALUATION)]
        run = read_run(path) if all(file.exists() for file in files) else None
        if run is None or not run.finished or (run.optimizer, run.sampler, run.critic) != ("trpo", "single", "mlp"):
            continue
        evaluations = [read_json(file) for file in files]
        if all(evaluation["iterations"] == len(run.rows) for evaluation in evaluations):  # not of an earlier policy
            yield _result_of(run, *(evaluation["return_mean"] for evaluation in evaluations))


def _result_of(run: Run, greedy: float, stochastic: float) -> Result:
    steps, returns = run.column("sim_steps_total"), run.column("collect/episode_return")
    curve = np.stack([steps, returns], axis=1)[~np.isnan(returns)]
    env = run.config["env"].get("id") or gymnasium_id(run.task)
    last = run.rows[-1]
    steps_done, wall_s = last["sim_steps_total"], last["time_s"]
    return Result(env, OURS, run.seed, steps_done, greedy, stochastic, wall_s, _thinned(curve), run.directory)


def _controls(roots: Sequence[Path]) -> Iterable[Result]:
    for path in sorted({path for root in roots for path in root.rglob(CONTROL)}):
        content = _control_content(path)
        method = (content["algorithm"], content["implementation"])
        greedy, stochastic = (float(np.mean(content[f"returns_{how}"])) for how in ("greedy", "stochastic"))
        curve = _thinned(np.array(content["curve"], float).reshape(-1, 2))
        seed, steps, wall_s = (content[name] for name in ("seed", "steps", "wall_s"))
        yield Result(content["env"], method, seed, steps, greedy, stochastic, wall_s, curve, path.parent)


def _control_content(path: Path) -> dict[str, Any]:
    """What a control wrote; ConfigError if it is not complete."""
    content = read_json(path)
    needed = ("env", "algorithm", "implementation", "seed", "steps", "returns_greedy", "returns_stochastic", "wall_s")
    if lacking := [name for name in (*needed, "curve") if name not in content]:
        raise ConfigError(f"{path} has no {lacking[0]}: remove it, and run the control again")
    return content


def _published(out: Path) -> Iterable[Result]:
    """Return the results whose rows stand in ``out``."""
    if not (out / RESULTS).exists():
        return
    curves: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in _rows(out / CURVES):
        curves[tuple(row[name] for name in CURVE_HEADERS[:4])].append((float(row["steps"]), float(row["return"])))
    for row in _rows(out / RESULTS):
        curve = np.array(curves[tuple(row[name] for name in HEADERS[:4])], float).reshape(-1, 2)
        method = (row["algorithm"], row["implementation"])
        greedy, stochastic, wall_s = (float(row[name]) for name in HEADERS[5:])
        yield Result(row["env"], method, int(row["seed"]), int(row["steps"]), greedy, stochastic, wall_s, curve)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _thinned(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return about `N_POINTS` of the points, the last one among them."""
    return curve[:: -max(len(curve) // N_POINTS, 1)][::-1]


def _line(r: Result) -> tuple[object, ...]:
    return (r.env, *r.method, r.seed, r.steps, _rounded(r.greedy), _rounded(r.stochastic), round(r.wall_s, 1))


def _rounded(value: float) -> float:
    """Three decimals, or four significant digits if these are more: of a small return three decimals leave nothing."""
    return round(value, 3) if abs(value) >= 1 else float(f"{value:.4g}")


def _by_method(results: Iterable[Result]) -> dict[Method, list[Result]]:
    """Return the results by method, ours first."""
    groups: dict[Method, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.method].append(result)
    return {method: groups[method] for method in sorted(groups, key=lambda m: (m != OURS, m[0] != "trpo", m))}


def _write_table(results: Sequence[Result], out: Path) -> str:
    lines = []
    for env in sorted({r.env for r in results}):
        methods = _by_method(r for r in results if r.env == env)
        ours = [np.array([r.greedy for r in methods.get(OURS, [])])]
        lines += [_table_line(env, method, members, ours) for method, members in methods.items()]
    return write_table(out / "table.csv", TABLE, lines, f"{NOTE}\n\n{markdown(TABLE, lines)}\n")


def _table_line(env: str, method: Method, members: Sequence[Result], ours: Sequence[NDArray[np.float64]]) -> list[str]:
    greedy = np.array([r.greedy for r in members])
    stochastic = np.array([r.stochastic for r in members])
    mean, error = (float(x[0]) for x in mean_and_error(greedy[:, None]))
    middle, low, high = interquartile_mean_with_interval([greedy])
    several = len(members) > 1
    beats = [NONE, NONE]
    if method != OURS and len(ours[0]):
        probability, *ends = improvement_with_interval(ours, [greedy])
        beats = [f"{probability:.2f}", "{:.2f} to {:.2f}".format(*ends) if several else "one seed"]
    return [
        env,
        count(members[0].steps),
        _label(method),
        str(len(members)),
        number(middle),
        f"{number(low)} to {number(high)}" if several else "one seed",
        number(mean),
        number(error) if several else NONE,
        number(interquartile_mean([stochastic])),
        f"{np.median([r.wall_s for r in members]):.0f}",
        *beats,
    ]


def _draw_curves(results: Sequence[Result]) -> Figure:
    """One panel per task: the mean return in training over seeds, and its interval."""
    envs = sorted({r.env for r in results})
    n_columns = min(len(envs), 4)
    n_rows = -(-len(envs) // n_columns)
    figure = Figure(figsize=(4.2 * n_columns, 3.2 * n_rows + 0.6), layout="constrained")
    for i, env in enumerate(envs):
        axes = figure.add_subplot(n_rows, n_columns, i + 1)
        for method, members in _by_method(r for r in results if r.env == env).items():
            members = [r for r in members if len(r.curve)]
            if not members:
                continue
            x = np.linspace(min(r.curve[0, 0] for r in members), max(r.curve[-1, 0] for r in members), 100)
            table = np.stack([np.interp(x, r.curve[:, 0], r.curve[:, 1], left=np.nan, right=np.nan) for r in members])
            label = f"{_label(method)} ({len(members)})"
            draw_band(axes, x / 1e6, *mean_with_interval(table), label=label, color=_colour(method))
        axes.set_title(env)
        axes.set_xlabel("environment steps, millions")
        axes.set_ylabel("return in training")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7, frameon=False)
    figure.suptitle("Mean over seeds (their number in brackets) with a 95% interval")
    return figure


def _label(method: Method) -> str:
    return LABELS.get(method, " ".join(method))


def _colour(method: Method) -> str:
    """The same colour for a method in every panel; grey for one that is not known."""
    return f"C{list(LABELS).index(method)}" if method in LABELS else "0.5"


def _draw_profiles(results: Sequence[Result]) -> Figure:
    """For every score: the fraction of a method's runs above it, over the tasks that every method has."""
    methods = _by_method(results)
    shared = sorted(set.intersection(*({r.env for r in members} for members in methods.values())))
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    thresholds = np.linspace(0, 1, 200)
    ends = {
        env: (min(r.greedy for r in results if r.env == env), max(r.greedy for r in results if r.env == env))
        for env in shared
    }
    for method, members in methods.items():
        scores = []
        for env in shared:
            low, high = ends[env]
            greedy = np.array([r.greedy for r in members if r.env == env])
            scores.append((greedy - low) / max(high - low, 1e-12))
        if shared:
            label = _label(method)
            draw_band(axes, thresholds, *profile_with_interval(scores, thresholds), label=label)
    axes.set_xlabel("score: 0 is the worst run of the task, 1 its best")
    axes.set_ylabel("fraction of runs above it")
    axes.set_title(f"Performance profiles over {len(shared)} task{'s' * (len(shared) != 1)}, 95% intervals")
    axes.grid(alpha=0.25)
    if shared:
        axes.legend(frameon=False)
    return figure
