"""``logger=tensorboard``: event files in the run directory."""

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trpo_cli.runs.logger import Distributions, LoggedRun, Row

if TYPE_CHECKING:
    from trpo_cli.runs.tensorboard import TensorBoardMirror


@dataclass
class TensorBoard:
    """Event files. They are written in the run's own process: a row is on the disk before the run goes on."""

    def look_at(self, directory: str) -> str:
        """TensorBoard's own command."""
        return f"tensorboard --logdir {shlex.quote(directory)}"

    def open(self, run: LoggedRun) -> int:
        """The event file is made with the first row."""
        self._run = run
        self._mirror: TensorBoardMirror | None = None
        return run.first_iteration

    def write(self, row: Row, distributions: Distributions) -> None:
        """Write a row."""
        if self._mirror is None:
            # Imported late: a run that is refused or already finished does not wait for this import.
            from trpo_cli.runs.tensorboard import TensorBoardMirror, flat_settings

            settings = flat_settings(self._run.config, self._run.options)
            self._mirror = TensorBoardMirror(self._run.directory, row["iteration"], settings)
        self._mirror.write(row, distributions)
        self._last = row["iteration"]

    def close(self, finished: bool) -> None:
        """Close the event file, if there is one."""
        if self._mirror is not None:
            try:
                if finished:
                    self._mirror.finish(self._last)
            finally:
                self._mirror.close()
                self._mirror = None
