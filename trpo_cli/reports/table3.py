"""Table 3: the paper's settings for Atari beside ours, as configured and as measured on each game."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trpo_cli.reports.atari import GAMES, Key, of_the_games
from trpo_cli.reports.curves import Curve
from trpo_cli.reports.records import machines, workers
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import count, markdown, number, write_csv

NONE = "–"
ITERATIONS, CORES = 500, 16  # of the paper's runs
SP, VINE = "single_path", "vine"

Cell = Callable[[Curve], str]


def _config(key: str) -> Cell:
    return lambda curve: str(curve.runs[0].settings.get(key, ""))


def _steps(curve: Curve) -> str:
    steps = curve.runs[0].settings.get("sampler.steps_per_iteration")
    return "" if steps is None else count(steps)


def _mean(key: str) -> Cell:
    return lambda curve: count(float(np.mean([run.column(key).mean() for run in curve.runs])))


def _kl(curve: Curve) -> str:
    kl = np.concatenate([run.column("update/mean_kl") for run in curve.runs])
    return f"mean {np.nanmean(kl):.4f}, max {np.nanmax(kl):.4f}"


def _reached(curve: Curve) -> str:
    return str(max(len(run.rows) for run in curve.runs))


def _by_machine(curve: Curve) -> dict[tuple[str, int], float]:
    """Wall time of an iteration for each set of workers, in words and how many; the median, for busy spells."""
    times: dict[tuple[str, int], list[float]] = {}
    for run in curve.runs:
        seconds = np.diff(run.column("time_s"), prepend=0)
        for part in run.parts:
            key = (workers(part.info), int(part.info.get("workers", 1)))
            times.setdefault(key, []).extend(seconds[part.rows.start : part.rows.stop])
    return {key: float(np.median(each)) for key, each in times.items()}


def _per_machine(value: Callable[[float, int], float]) -> Cell:
    """A cell with a number of (seconds an iteration, workers) for each set of workers."""

    def cell(curve: Curve) -> str:
        return " / ".join(number(round(value(s, n), 1)) for (_, n), s in _by_machine(curve).items())

    return cell


def _workers(curve: Curve) -> str:
    return " / ".join(words for words, _ in _by_machine(curve))


_seconds = _per_machine(lambda seconds, n: seconds)
_hours = _per_machine(lambda seconds, n: seconds * ITERATIONS / 3600)
_hours_on_many_cores = _per_machine(lambda seconds, n: seconds * ITERATIONS / 3600 * n / CORES)


# Label, the paper's value, the sampler it is about, as configured, as measured.
ROWS: tuple[tuple[str, str, str, Cell | None, Cell | None], ...] = (
    ("Total num. policy params", "33500", SP, None, lambda curve: str(curve.runs[0].info.get("n_parameters", ""))),
    ("Vine: sim. steps per iter.", "400K", VINE, _steps, _mean("collect/sim_steps")),
    ("SP: sim. steps per iter.", "100K", SP, _steps, _mean("collect/sim_steps")),
    ("Vine: policy iter.", "500", VINE, lambda curve: str(curve.planned), _reached),
    ("SP: policy iter.", "500", SP, lambda curve: str(curve.planned), _reached),
    ("Vine: stepsize (mean KL)", "0.01", VINE, _config("optimizer.kl_limit"), _kl),
    ("SP: stepsize (mean KL)", "0.01", SP, _config("optimizer.kl_limit"), _kl),
    ("Discount", "0.99", SP, _config("sampler.gamma"), None),
    ("Vine: rollouts per state", "~4", VINE, _config("sampler.n_actions"), None),
    ("Vine: rollout length [a]", NONE, VINE, _config("sampler.branch_length"), None),
    ("Vine: steps of the trunks [a]", NONE, VINE, _config("sampler.trunk_steps"), None),
    ("Vine: states per iter. [a]", NONE, VINE, None, _mean("collect/n_states")),
    ("Vine: measured with [c]", NONE, VINE, None, _workers),
    ("SP: measured with [c]", NONE, SP, None, _workers),
    ("Vine: seconds an iteration", NONE, VINE, None, _seconds),
    ("SP: seconds an iteration", NONE, SP, None, _seconds),
    ("Vine: hours for 500 iterations here [b]", NONE, VINE, None, _hours),
    ("SP: hours for 500 iterations here [b]", NONE, SP, None, _hours),
    ("Vine: hours for 500 iterations on 16 cores [b]", "~30", VINE, None, _hours_on_many_cores),
    ("SP: hours for 500 iterations on 16 cores [b]", "~30", SP, None, _hours_on_many_cores),
)
NOTES = (
    "[a] The paper gives neither the length of a vine's branches on Atari nor the share of its trunks.",
    "[b] From the median time of an iteration; on 16 cores as if the work divided by the number of workers.",
    "[c] Where a run went on with other workers, one number for each set of them, in their order.",
)


def report(runs: Sequence[Run], out: Path) -> str:
    """Write ``table3.md`` and ``table3.csv`` into ``out``; return the former."""
    ours = of_the_games(runs)
    headers = ["", "paper", "configured", *GAMES.values()]
    rows = [_line(row, ours) for row in ROWS]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "table3.csv", ["row", "paper", "configured", *GAMES], rows)
    text = "\n\n".join([markdown(headers, rows), *NOTES, f"Measured on: {machines(ours.values())}."]) + "\n"
    (out / "table3.md").write_text(text)
    return text


def _line(row: tuple[str, str, str, Cell | None, Cell | None], ours: dict[Key, Curve]) -> list[str]:
    label, theirs, sampler, configured, measured = row
    found = {game: ours[game, sampler] for game in GAMES if (game, sampler) in ours}
    settings = dict.fromkeys(configured(curve) for curve in found.values()) if configured is not None else {}
    cells = [measured(found[game]) if measured is not None and game in found else NONE for game in GAMES]
    return [label, theirs, ", ".join(settings) or NONE, *cells]
