"""The results of a sweep: a line for each job, and means over the seeds, from the jobs' run directories."""

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from types import TracebackType
from typing import Any, Self

from trpo_cli.reports.curves import LAST
from trpo_cli.runs.files import last_rows

_LEDGER = "TRPO_SWEEP"  # environment variable: the file that every job of a sweep adds its line to
SCORE = f"score (last {LAST})"  # the mean over so many iterations


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
    return _mean_score(last_rows(directory, LAST))


def _mean_score(rows: Sequence[Mapping[str, Any]]) -> float | None:
    scores = [row["collect/score"] for row in rows if row.get("collect/score") is not None]
    return mean(scores) if scores else None


def table(jobs: Sequence[Job]) -> str:
    """A line for each job, then the mean over seeds with its standard error if a setting has several.

    Two jobs with one run directory, as those of ``policy.initial_std=0.5,0.50``, are one run.
    """
    lines = [("job", "state", SCORE, "iterations", "directory")]
    scores: dict[str, dict[str | None, float]] = defaultdict(dict)  # of each setting, by directory
    for job in jobs:
        rows = _last_rows(job)
        score = _mean_score(rows)
        shown = "-" if score is None else f"{score:.4g}"
        done, directory = (str(rows[-1]["iteration"] + 1), str(job.directory)) if rows else ("-", "-")
        lines.append((" ".join(job.overrides) or "-", _state(job), shown, done, directory))
        if score is not None and job.status == 0:
            setting = " ".join(word for word in job.overrides if not word.startswith("seed="))
            scores[setting][job.directory] = score
    if all(len(several) == 1 for several in scores.values()):
        return _align(lines)
    means = [("setting", "seeds", f"mean {SCORE}")]
    for setting, several in sorted(scores.items(), key=lambda item: -mean(item[1].values())):
        error = f" ± {stdev(several.values()) / sqrt(len(several)):.2g}" if len(several) > 1 else ""
        means.append((setting or "all", str(len(several)), f"{mean(several.values()):.4g}{error}"))
    return f"{_align(lines)}\n\n{_align(means)}"


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
