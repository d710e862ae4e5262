"""Where the curves of a figure come from: command, commit, seeds, steps, wall time and machine of each."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trpo_cli.reports.curves import STEPS, Curve
from trpo_cli.reports.tables import count, markdown

Info = Mapping[str, Any]  # what run.json says about a part of a run

HEADERS = ["task", "method", "command", "seeds", "iterations", "sim. steps a run", "hours a run", "commit", "machine"]


def provenance_table(curves: Sequence[Curve]) -> str:
    """Return a Markdown table with one line per curve. Its command is that of the first seed, without the seed."""
    return markdown(HEADERS, [_line(curve) for curve in curves])


def _line(curve: Curve) -> list[str]:
    commands = dict.fromkeys(_command(part.info) for part in curve.runs[0].parts)
    hours = [run.column("time_s")[-1] / 3600 for run in curve.runs]
    return [
        curve.task,
        curve.label,
        ", then ".join(f"`{command}`" for command in commands),
        ", ".join(str(run.seed) for run in curve.runs),
        ", ".join(dict.fromkeys(str(len(run.rows)) for run in curve.runs)),
        count(sum(run.column(STEPS)[-1] for run in curve.runs) / len(curve.runs)),
        f"{sum(hours) / len(hours):.2g}",
        ", ".join(dict.fromkeys(_commit(part.info) for run in curve.runs for part in run.parts)),
        ", ".join(dict.fromkeys(_machine(part.info) for run in curve.runs for part in run.parts)),
    ]


def _command(info: Info) -> str:
    return shlex.join(word for word in shlex.split(info.get("command", "")) if not word.startswith("seed="))


def _commit(info: Info) -> str:
    """Return the commit, with a plus sign if the code differed from it."""
    return str(info.get("commit") or "unknown")[:10] + ("+" if info.get("dirty") else "")


def _machine(info: Info) -> str:
    return f"{info.get('processor', 'unknown')}, {describe_workers(info)}"


def describe_workers(info: Info) -> str:
    """Return the number of workers, and the device of the updates if that was not the CPU."""
    device = info.get("device", "cpu")
    return f"{info.get('workers', '?')} workers" + ("" if device == "cpu" else f" and one {device}")


def describe_machines(curves: Iterable[Curve]) -> str:
    """Return the machines that the runs of these curves ran on, each once."""
    infos = [part.info for curve in curves for run in curve.runs for part in run.parts]
    kinds = {f"{i.get('processor', 'unknown')}, {i.get('cores', '?')} cores, {describe_workers(i)}" for i in infos}
    return "; ".join(sorted(kinds))
