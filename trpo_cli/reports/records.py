"""What stands behind a figure: command, commit, seeds, steps, wall time and machine of every curve."""

from collections.abc import Iterable, Sequence

from trpo_cli.reports.curves import STEPS, Curve
from trpo_cli.reports.runs import Run
from trpo_cli.reports.tables import count, markdown

HEADERS = ["task", "method", "command", "seeds", "iterations", "sim. steps a run", "hours a run", "commit", "machine"]


def records(curves: Sequence[Curve]) -> str:
    """Return a Markdown table with a line for each curve; the command is the first seed's, without its seed."""
    return markdown(HEADERS, [_line(curve) for curve in curves])


def _line(curve: Curve) -> list[str]:
    words = [word for word in str(curve.runs[0].info.get("command", "")).split() if not word.startswith("seed=")]
    hours = [run.column("time_s")[-1] / 3600 for run in curve.runs]
    return [
        curve.task,
        curve.label,
        f"`{' '.join(words)}`",
        ", ".join(str(run.seed) for run in curve.runs),
        ", ".join(dict.fromkeys(str(len(run.rows)) for run in curve.runs)),
        count(sum(run.column(STEPS)[-1] for run in curve.runs) / len(curve.runs)),
        f"{sum(hours) / len(hours):.2g}",
        ", ".join(dict.fromkeys(_commit(run) for run in curve.runs)),
        ", ".join(dict.fromkeys(_machine(run) for run in curve.runs)),
    ]


def _commit(run: Run) -> str:
    """The commit, with a plus where the code differed from it."""
    return str(run.info.get("commit") or "unknown")[:10] + ("+" if run.info.get("dirty") else "")


def _machine(run: Run) -> str:
    return f"{run.info.get('processor', 'unknown')}, {run.info.get('workers', '?')} workers"


def machines(found: Iterable[Curve]) -> str:
    """Return what the runs of these curves ran on, each machine once."""
    infos = [run.info for curve in found for run in curve.runs]
    kinds = {
        f"{info.get('processor', 'unknown')}, {info.get('cores', '?')} cores, {info.get('workers', '?')} workers"
        for info in infos
    }
    return "; ".join(sorted(kinds))
