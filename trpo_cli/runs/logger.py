"""What a logger is: it takes copies of a run's rows elsewhere. ``progress.jsonl`` does not depend on loggers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trpo_cli.runs.files import PROGRESS

Row = Mapping[str, Any]  # numbers, strings and None, for NaN and infinity; its "iteration" counts from 0
Distributions = Mapping[str, Sequence[float]]  # what is no number of a row: the returns of an iteration's episodes


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told about a run."""

    directory: Path  # of the run, absolute; files of the logger belong there
    title: str  # the run directory below outputs=: train/cartpole/trpo-single/seed0
    first_iteration: int  # the next one; rows before it are in progress.jsonl
    config: Mapping[str, Any]  # the composed and resolved configuration
    options: Mapping[str, str]  # the option chosen for each group
    command: str
    commit: str | None
    tell: Callable[[str], None]  # shows a sentence to the user
    id: str = ""  # random letters and digits, the same whenever the run goes on; "" for loggers in the run's process


class Logger(Protocol):
    """What ``logger=`` names: settings that become a logger when a run opens it.

    Each logger is in a process of its own and may take its time there, print, or raise an error: then the run goes on
    without it. That process begins in the run directory. A logger that is `InProcess` has no process of its own.
    """

    def open(self, run: LoggedRun) -> int:
        """Begin, or go on. Return the first iteration that this logger lacks.

        It gets the rows from there on: those before ``run.first_iteration`` at once, and no row before it, even if
        the run computes it again.
        """
        ...

    def write(self, row: Row, distributions: Distributions) -> None:
        """Log one row, the next iteration's; rows that were written before this command have no distributions."""
        ...

    def close(self, finished: bool) -> None:
        """Bring to an end what was written. finished: False if the run was stopped and can be resumed."""
        ...


@runtime_checkable
class InProcess(Logger, Protocol):
    """A logger that works in the run's own process: it has to be quick, and may not fail."""

    def look_at(self, directory: str) -> str:
        """The command that shows what the logger wrote for the run in ``directory``."""
        ...


@runtime_checkable
class Waits(Protocol):
    """A logger that says how long the end of a run waits for it at most; any other gets half a minute."""

    @property
    def wait_s(self) -> float:
        """Seconds."""


class OpenLogger:
    """A logger that a run has opened: every row from the first one that it lacks, each once."""

    def __init__(self, logger: Logger, run: LoggedRun) -> None:
        self._logger = logger
        self._next = logger.open(run)
        for row in _rows(run.directory, self._next, run.first_iteration):
            self.write(row, {})

    def write(self, row: Row, distributions: Distributions) -> None:
        """Log a row, unless the logger has the row of this iteration already."""
        if row["iteration"] >= self._next:
            self._logger.write(row, distributions)

    def close(self, finished: bool) -> None:
        """See `Logger.close`."""
        self._logger.close(finished)


def _rows(directory: Path, start: int, end: int) -> Iterator[dict[str, Any]]:
    """The rows of the iterations from ``start`` to ``end``, which is not included."""
    if start < end:
        with (directory / PROGRESS).open("rb") as lines:
            yield from map(json.loads, islice(lines, start, end))
