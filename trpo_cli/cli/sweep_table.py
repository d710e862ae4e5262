"""The results of a sweep: a line for each job, and means over the seeds, from the jobs' run directories."""

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from types import TracebackType
from typing import Any, Self

from trpo_cli.runs.files import DESCRIPTION, LAST, RETURN, SCORE, final, last_rows, read_json, score_is_shown

_LEDGER = "TRPO_SWEEP"  # environment variable: the file that every job of a sweep adds its line to
SHOWN = {RETURN: f"return (last {LAST})", SCORE: f"score (last {LAST})"}  # means over so many iterations


@dataclass(frozen=True)
class Job:
    """One job as it ended: its overrides, its run directory, and the exit status."""

    overrides: list[str]
    directory: str | None  # None if the configuration was refused before it had one
    status: int

    def add(self) -> None:
        """Add the job to the sweep's ledger, from any process; do nothing if the ledger cannot be reached."""
        if path := os.environ.get(_LEDGER):
            with suppress(OSError):  # a job on another machine
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
                os.write(descriptor, (json.dumps(asdict(self)) + "\n").encode())
                os.close(descriptor)


class Ledger:
    """The jobs of one sweep. Inside the ``with`` block this process and its children can add jobs."""

    def __enter__(self) -> Self:
        descriptor, name = tempfile.mkstemp(prefix="sweep-", suffix=".jsonl")
        os.close(descriptor)
        self._path, os.environ[_LEDGER] = Path(name), name
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del os.environ[_LEDGER]
        self._path.unlink(missing_ok=True)

    def jobs(self) -> list[Job]:
        """The jobs that have ended, the earliest first."""
        return [Job(**json.loads(line)) for line in self._path.read_text(encoding="utf-8").splitlines()]


def final_score(directory: Path) -> float | None:
    """The mean score of the last iterations that have one, as in ``trpo-report compare``; None if none has."""
    return final(last_rows(directory, LAST), SCORE)


def table(jobs: Sequence[Job]) -> str:
    """A line for each job, then the mean over seeds with its standard error if a setting has several.

    Two jobs with one run directory, as those of ``policy.initial_std=0.5,0.50``, are one run.
    """
    rows = [_last_rows(job) for job in jobs]
    finals = [_finals(job, its) for job, its in zip(jobs, rows, strict=True)]
    shown = [key for key in SHOWN if key == RETURN or any(key in its for its in finals)]
    lines = [("job", "state", *(SHOWN[key] for key in shown), "iterations", "directory")]
    settings: dict[str, dict[str | None, dict[str, float]]] = defaultdict(dict)  # finals of each, by directory
    for job, last, its in zip(jobs, rows, finals, strict=True):
        done, directory = (str(last[-1]["iteration"] + 1), str(job.directory)) if last else ("-", "-")
        values = (f"{its[key]:.4g}" if key in its else "-" for key in shown)
        lines.append((" ".join(job.overrides) or "-", _state(job), *values, done, directory))
        if its and job.status == 0:
            settings[" ".join(word for word in job.overrides if not word.startswith("seed="))][job.directory] = its
    if all(len(several) == 1 for several in settings.values()):
        return _align(lines)
    means = [("setting", "seeds", *(f"mean {SHOWN[key]} ± standard error" for key in shown))]
    columns = {name: {key: _values(runs.values(), key) for key in shown} for name, runs in settings.items()}
    best_first = sorted(columns, key=lambda name: [-mean(x or [0.0]) for x in columns[name].values()][::-1])
    for name in best_first:
        cells = (_mean_and_error(columns[name][key]) for key in shown)
        means.append((name or "all", str(len(settings[name])), *cells))
    return f"{_align(lines)}\n\n{_align(means)}"


def _values(finals: Iterable[Mapping[str, float]], key: str) -> list[float]:
    return [its[key] for its in finals if key in its]


def _mean_and_error(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{mean(values):.4g}" + (f" ± {stdev(values) / sqrt(len(values)):.2g}" if len(values) > 1 else "")


def _finals(job: Job, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The job's final return and, if it tells anything, its final score."""
    env = ""
    with suppress(OSError, ValueError):
        env = ((read_json(Path(str(job.directory)) / DESCRIPTION) or {}).get("options") or {}).get("env", "")
    found = {RETURN: final(rows, RETURN), **({SCORE: final(rows, SCORE)} if score_is_shown(env) else {})}
    return {key: value for key, value in found.items() if value is not None}


def what_is_missing(jobs: Sequence[Job]) -> str:
    """What the command says at the end of a sweep of which not every job has finished."""
    refused, failed = (sum(_state(job) == state for job in jobs) for state in ("refused", "failed"))
    again = "not every job of the sweep has finished; the same command runs the missing jobs"
    if not refused:
        return again
    told = f"{refused} of {len(jobs)} jobs of the sweep are refused, for the reasons above; they need other words"
    return f"{told}. The same command runs the missing jobs" if failed else told


def _last_rows(job: Job) -> list[dict[str, Any]]:
    """The job's last rows; none if they cannot be read: one such job must not cost the whole table."""
    with suppress(OSError, ValueError):
        return last_rows(Path(job.directory), LAST) if job.directory else []
    return []


def _state(job: Job) -> str:
    if job.status == 0:
        return "finished"
    return "refused" if job.status == 2 else "failed"


def _align(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
