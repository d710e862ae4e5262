"""The record of one run: its rows, their copies in loggers, its checkpoints, its end.

``progress.jsonl`` is the truth, loggers get copies. A row reaches the disk before the checkpoint that counts it, so
after a crash the rows can only be ahead of the checkpoint. Resuming cuts them back, and the run writes the same rows
again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from omegaconf import OmegaConf

from trpo_cli.errors import ConfigError, StuckError
from trpo_cli.runs.checkpoint import (
    BEST,
    CHECKPOINT,
    PREVIOUS,
    BrokenCheckpointError,
    checkpoint_bytes,
    load_checkpoint,
    save_checkpoint,
    write_all,
    write_atomically,
)
from trpo_cli.runs.directory import (
    FORMAT,
    continued_description,
    describe_differences,
    disk_errors,
    require_same_run,
    take_lock,
    to_json,
)
from trpo_cli.runs.files import DESCRIPTION, DONE, PROGRESS, json_value, last_row, read_json
from trpo_cli.runs.logger import LoggedRun, Logger, OpenLogger


class RunLog:
    """The run directory of one command. Call `open` and `resume`, then `write` and `save`, finally `finish`.

    directory: of the run
    messages: sentences for the user, until `take_messages` takes them
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.messages: list[str] = []
        self._lock = lock
        self._progress = -1
        self._n_rows: int | None = None
        self._loggers: Sequence[Logger] = ()
        self._opened: list[OpenLogger] = []
        self._config: Mapping[str, Any] = {}
        self._info: dict[str, Any] = {}

    @classmethod
    def open(
        cls,
        directory: Path,
        config: Mapping[str, Any],
        identity: Mapping[str, Any],
        info: Mapping[str, Any],
        loggers: Sequence[Logger] = (),
    ) -> Self:
        """Lock ``directory`` for this process. If it is new, write the description of the run into it.

        config: the composed and resolved configuration, for ``.hydra/config.yaml``
        identity: the part of it that decides the results
        info: the rest of ``run.json`` (see `provenance.run_info`)
        loggers: get a copy of each row; `resume` opens them

        Raises ConfigError if the directory holds a run with another identity or is used by another command, and
        RunError if the disk fails. Nothing is written into the directory of another run.
        """
        identity = json.loads(json.dumps(identity))
        with disk_errors(directory):
            require_same_run(directory, identity)
            directory.mkdir(parents=True, exist_ok=True)
            log = cls(directory, take_lock(directory))
        log._config, log._loggers = config, loggers
        log._info = json.loads(to_json(info))
        try:
            with disk_errors(directory):
                # Another command may have started a run here before this one had the lock.
                earlier = require_same_run(directory, identity)
                if earlier is None:
                    log._write_config()
                    description = {"format": FORMAT, **info, "identity": identity}
                    write_atomically(directory / DESCRIPTION, to_json(description, indent=2))
                else:
                    log.messages += describe_differences(earlier, log._info)
                log._progress = os.open(directory / PROGRESS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except BaseException:
            log.close()
            raise
        return log

    def _write_config(self) -> None:
        """Write the configuration of the present command."""
        (self.directory / ".hydra").mkdir(exist_ok=True)
        yaml = OmegaConf.to_yaml(OmegaConf.create(dict(self._config)))
        write_atomically(self.directory / ".hydra" / "config.yaml", yaml.encode())

    def earlier_setting(self, key: str) -> Any:
        """A setting of the command that wrote the rows; None if there was none."""
        path = self.directory / ".hydra" / "config.yaml"
        found = OmegaConf.select(OmegaConf.load(path), key) if path.exists() else None
        return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found

    def resume(self) -> dict[str, Any] | None:
        """Return the state to continue from, or None if the run starts at iteration 0. Cut the rows back to that state.

        If the checkpoint is damaged, or counts rows that are missing, its predecessor is used. If neither can be used,
        this raises RunError and leaves the rows as they are. It raises ConfigError, and leaves them too, if there are
        more rows than a crash leaves behind a checkpoint. ``run.json`` records what changed since the last command.
        """
        with disk_errors(self.directory):
            name, state, end, problems = self._latest_usable_checkpoint()
            if problems and name is None:
                raise StuckError(
                    f"{self.directory} cannot be continued ({'; '.join(problems)}): "
                    "start a new run with another name=, or remove the directory."
                )
            n_lost = self._rows_from(end)
            if not problems:
                self._require_explained(name, state, n_lost)
            if name == PREVIOUS:
                # The next save makes the checkpoint the predecessor. That must not be the damaged one.
                os.replace(self.directory / PREVIOUS, self.directory / CHECKPOINT)
            if n_lost:
                self.messages.append(_dropped(n_lost))
            os.ftruncate(self._progress, end)
            (self.directory / DONE).unlink(missing_ok=True)  # it goes on
            self._write_config()  # which may ask for more iterations than before
            self._n_rows = 0 if state is None else state["iteration"]
            self._record_changes(self._n_rows)
            self._open_loggers(self._n_rows)
        if problems:
            self.messages.append(f"{'; '.join(problems)}: continuing from iteration {self._n_rows}.")
        return state

    def _latest_usable_checkpoint(self) -> tuple[str | None, dict[str, Any] | None, int, list[str]]:
        """Return its file name, its state, the byte at which its rows end, and what is wrong with later ones."""
        problems: list[str] = []
        for name in (CHECKPOINT, PREVIOUS):
            if not (self.directory / name).exists():
                continue
            try:
                state = load_checkpoint(self.directory / name)
            except BrokenCheckpointError as error:
                problems.append(str(error))
                continue
            end = self._end_of_rows(state["iteration"])
            if end is not None:
                return name, state, end, problems
            problems.append(f"{PROGRESS} lacks rows that {name} counts")
        return None, None, 0, problems

    def _rows_from(self, start: int) -> int:
        """Return the number of complete rows from byte ``start`` on."""
        with (self.directory / PROGRESS).open("rb") as file:
            file.seek(start)
            return sum(line.startswith(b"{") and line.endswith(b"}\n") for line in file)

    def _require_explained(self, name: str | None, state: dict[str, Any] | None, n_lost: int) -> None:
        """Raise ConfigError if more rows follow the checkpoint ``name`` than a crash leaves: some checkpoint is gone.

        After a crash the rows are ahead by one interval between checkpoints, by two if it hit the change of the files.
        A finished run is ahead by none.
        """
        interval = self.earlier_setting("checkpoint_every") or 1
        ahead = 0 if (self.directory / DONE).exists() else 2 * interval if name == PREVIOUS else interval
        if n_lost > ahead:
            counted = 0 if state is None else state["iteration"]
            found = f"{name}, which counts {counted} of them" if name else f"no {CHECKPOINT}"
            raise ConfigError(
                f"{self.directory} holds {_count(n_lost + counted)} in {PROGRESS} and {found}: "
                f"put the latest {CHECKPOINT} back, start a new run with another name=, or remove the directory."
            )

    def _end_of_rows(self, n_rows: int) -> int | None:
        """Return the byte at which the first ``n_rows`` rows end, or None if there are fewer complete rows."""
        end = 0
        with (self.directory / PROGRESS).open("rb") as lines:
            for iteration in range(n_rows):
                line = lines.readline()
                try:
                    complete = line.endswith(b"\n") and json.loads(line)["iteration"] == iteration
                except (ValueError, TypeError, KeyError):
                    complete = False
                if not complete:
                    return None
                end += len(line)
        return end

    def _record_changes(self, iteration: int) -> None:
        """Record in ``run.json`` what computes the rows from ``iteration`` on, if that has changed."""
        path = self.directory / DESCRIPTION
        before = read_json(path) or {}
        if (now := continued_description(before, self._info, iteration)) != before:
            write_atomically(path, to_json(now, indent=2))

    def _open_loggers(self, iteration: int) -> None:
        run = LoggedRun(
            directory=self.directory,
            title=os.path.relpath(self.directory, self._config.get("outputs", self.directory.parent)),
            first_iteration=iteration,
            config=self._config,
            options=self._info.get("options", {}),
            command=self._info.get("command", ""),
            commit=self._info.get("commit"),
            tell=self.messages.append,
        )
        self._opened += [OpenLogger(logger, run) for logger in self._loggers]

    def write(self, *parts: Mapping[str, Any]) -> None:
        """Append one row, the union of ``parts``. It holds numbers and strings; NaN and infinity become null.

        A tuple of numbers is not written into the row. Loggers get it as a distribution.

        Raises ValueError if two parts have the same key or the row is not the next iteration's, RunError if the disk
        fails.
        """
        row: dict[str, Any] = {}
        distributions: dict[str, tuple[float, ...]] = {}
        for part in parts:
            if twice := row.keys() & part.keys():
                raise ValueError(f"{min(twice)} is set twice in one row")
            row |= {key: json_value(value) for key, value in part.items() if not isinstance(value, tuple)}
            distributions |= {key: value for key, value in part.items() if isinstance(value, tuple)}
        if self._n_rows is None or row.get("iteration") != self._n_rows:
            raise ValueError(f"a row has iteration {row.get('iteration')}, but the next one is {self._n_rows}")
        with disk_errors(self.directory):
            write_all(self._progress, to_json(row))
            self._n_rows += 1
            for logger in self._opened:
                logger.write(row, distributions)

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Save ``checkpoint``, the state after the first ``checkpoint["iteration"]`` rows, for `resume`.

        It holds tensors, numbers, strings and dictionaries of these. If the disk fails, this raises RunError, and the
        earlier checkpoints remain.
        """
        if self._n_rows is None or not 0 <= checkpoint["iteration"] <= self._n_rows:
            raise ValueError(f"a checkpoint counts {checkpoint['iteration']} rows, but {self._n_rows} are written")
        with disk_errors(self.directory):
            os.fsync(self._progress)
            save_checkpoint(self.directory, checkpoint)

    def save_best(self, checkpoint: dict[str, Any]) -> None:
        """Keep ``checkpoint`` in ``best.pt``, in place of the one before it."""
        with disk_errors(self.directory):
            write_atomically(self.directory / BEST, checkpoint_bytes(checkpoint))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the run as finished, with ``summary`` in ``done.json``, and close the loggers."""
        with disk_errors(self.directory):
            os.fsync(self._progress)
            write_atomically(self.directory / DONE, to_json(summary, indent=2))
            self.close_loggers(finished=True)

    def close_loggers(self, finished: bool = False) -> None:
        """Wait, for a limited time, until the loggers have every row, and close them. It is safe to call this twice."""
        while self._opened:
            self._opened.pop(0).close(finished)

    def take_messages(self) -> list[str]:
        """The sentences for the user that nobody has taken yet."""
        taken, self.messages[:] = list(self.messages), []
        return taken

    @property
    def finished(self) -> dict[str, Any] | None:
        """The summary in ``done.json``, or None if the run is not finished."""
        with disk_errors(self.directory):
            return read_json(self.directory / DONE)

    @property
    def last_row(self) -> dict[str, Any] | None:
        """The last row written, or None if there is none."""
        with disk_errors(self.directory):
            return last_row(self.directory)

    def close(self) -> None:
        """Close the files and release the lock. It is safe to call this twice."""
        self.close_loggers()
        for descriptor in (self._progress, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._progress, self._lock = -1, -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _count(n_rows: int) -> str:
    return f"{n_rows} row{'s' * (n_rows != 1)}"


def _dropped(n_rows: int) -> str:
    return f"dropping {_count(n_rows)} after the last checkpoint, to be computed again"
