"""The results of a sweep: a line for each job, and means over the seeds, from the jobs' run directories."""

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from types import TracebackType
from typing import Self

from trpo_cli.runs.files import last_row

_LEDGER = "TRPO_SWEEP"  # environment variable: the file that every job of a sweep adds its line to


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
        return [Job(**json.loads(line)) for line in self._path.read_text().splitlines()]


def final_score(directory: Path) -> float | None:
    """The score of the last iteration; None if there is none."""
    row = last_row(directory)
    return None if row is None else row.get("collect/score")


def table(jobs: Sequence[Job]) -> str:
    """A line for each job, then the mean over seeds with its standard error if a setting has several."""
    lines = [("job", "state", "score", "iterations", "directory")]
    scores: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        row = last_row(Path(job.directory)) if job.directory else None
        score = None if row is None else row.get("collect/score")
        shown = "-" if score is None else f"{score:.4g}"
        done = "-" if row is None else str(row["iteration"] + 1)
        lines.append(
            (" ".join(job.overrides) or "-", _state(job), shown, done, "-" if row is None else str(job.directory))
        )
        if score is not None and job.status == 0:
            scores[" ".join(word for word in job.overrides if not word.startswith("seed="))].append(score)
    if all(len(several) == 1 for several in scores.values()):
        return _align(lines)
    means = [("setting", "seeds", "mean final score")]
    for setting, several in sorted(scores.items(), key=lambda item: -mean(item[1])):
        error = f" ± {stdev(several) / sqrt(len(several)):.2g}" if len(several) > 1 else ""
        means.append((setting or "all", str(len(several)), f"{mean(several):.4g}{error}"))
    return f"{_align(lines)}\n\n{_align(means)}"


def _state(job: Job) -> str:
    if job.status == 0:
        return "finished"
    return "refused" if job.status == 2 else "failed"


def _align(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
