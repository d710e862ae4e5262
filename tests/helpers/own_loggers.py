"""Loggers that a user might write, each a few lines, and some that misbehave."""

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trpo_cli.runs.logger import Distributions, LoggedRun, Row

LINES = "own_rows.txt"  # in the run directory
ENDS = "own_ends.txt"


@dataclass
class Lines:
    """A line for each row: its iteration and score. The file itself says which rows it has."""

    label: str = "score"

    def open(self, run: LoggedRun) -> int:
        path = Path(LINES)  # its process begins in the run directory
        self.file = path.open("a", buffering=1)
        print(f"opened for {run.id}")
        return len(path.read_text().splitlines())

    def write(self, row: Row, distributions: Distributions) -> None:
        returns = "".join(f" {len(values)} {key}" for key, values in distributions.items())
        self.file.write(f"{row['iteration']} {self.label} {row['collect/score']}{returns}\n")

    def close(self, finished: bool) -> None:
        with Path(ENDS).open("a") as file:
            file.write(f"{finished}\n")


@dataclass
class Opens:
    """It lacks the rest."""

    def open(self, run: LoggedRun) -> int:
        return run.first_iteration


@dataclass
class Raises:
    """It fails ``where``: in open, write (of iteration 1) or close; by exit it ends its process."""

    where: str

    def _maybe(self, here: str) -> None:
        if self.where == f"exit in {here}":
            os._exit(3)
        if self.where == here:
            raise OSError(f"no server\nin {here}")

    def open(self, run: LoggedRun) -> int:
        self._maybe("open")
        return run.first_iteration

    def write(self, row: Row, distributions: Distributions) -> None:
        if row["iteration"] == 1:
            self._maybe("write")

    def close(self, finished: bool) -> None:
        self._maybe("close")


@dataclass
class Hangs:
    """It never comes back from its first row."""

    wait_s: float

    def open(self, run: LoggedRun) -> int:
        run.tell(f"see {run.title}")
        return run.first_iteration

    def write(self, row: Row, distributions: Distributions) -> None:
        time.sleep(3600)

    def close(self, finished: bool) -> None:
        raise AssertionError("it has not come back")


@dataclass
class Meddles:
    """It changes everything that a process has only one of, with each row."""

    def open(self, run: LoggedRun) -> int:
        self.write({}, {})
        return run.first_iteration

    def write(self, row: Row, distributions: Distributions) -> None:
        random.random(), np.random.random()
        random.seed(1), np.random.seed(1)
        os.environ["TRPO_MEDDLED"] = "1"
        os.chdir("/")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        print("noise")
        os.write(2, b"noise\n")

    def close(self, finished: bool) -> None:
        self.write({}, {})
