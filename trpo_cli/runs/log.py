"""One run directory: its rows, their TensorBoard mirror, its checkpoints, its end.

``progress.jsonl`` is the truth and TensorBoard a mirror. Rows reach the disk before the checkpoint that counts them,
so after a crash the rows can only be ahead of it: continuing cuts them back and writes the same ones again.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from omegaconf import OmegaConf

from trpo_cli.errors import RunError
from trpo_cli.runs.checkpoint import (
    CHECKPOINT,
    PREVIOUS,
    BrokenCheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_all,
    write_atomically,
)
from trpo_cli.runs.directory import (
    DONE,
    FORMAT,
    PROGRESS,
    continued,
    differences,
    disk,
    read_json,
    require_same_run,
    take_lock,
    to_json,
)

if TYPE_CHECKING:
    from trpo_cli.runs.tensorboard import TensorBoardMirror


class RunLog:
    """The run directory of one command; ``open`` it, ``resume``, then ``write`` and ``save``, at last ``finish``.

    directory: where the run is
    messages: sentences for the user gathered while opening and resuming (a fallback, other versions than before)
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.messages: list[str] = []
        self._lock = lock
        self._progress = -1
        self._n_rows: int | None = None
        self._mirror: TensorBoardMirror | None = None
        self._config: Mapping[str, Any] = {}
        self._options: Mapping[str, str] = {}
        self._info: dict[str, Any] = {}

    @classmethod
    def open(
        cls, directory: Path, config: Mapping[str, Any], identity: Mapping[str, Any], info: Mapping[str, Any]
    ) -> Self:
        """Takes ``directory`` for this process, and describes the run in it if it is new.

        config: the composed configuration, resolved, for ``.hydra/config.yaml``
        identity: the part of it that decides results; a run with another one is refused
        info: what ``run.json`` says beside it (see `provenance.run_info`)

        Raises ConfigError for another configuration's run or one that another command holds, RunError for the disk.
        Nothing is written before the directory is known to be this configuration's.
        """
        identity = json.loads(json.dumps(identity))
        with disk(directory):
            require_same_run(directory, identity)
            directory.mkdir(parents=True, exist_ok=True)
            log = cls(directory, take_lock(directory))
        log._config, log._options = config, info.get("options", {})
        log._info = json.loads(to_json(info))
        try:
            with disk(directory):
                # Another command may have begun a run here between the first look and the lock.
                earlier = require_same_run(directory, identity)
                if earlier is None:
                    (directory / ".hydra").mkdir(exist_ok=True)
                    yaml = OmegaConf.to_yaml(OmegaConf.create(dict(config)))
                    write_atomically(directory / ".hydra" / "config.yaml", yaml.encode())
                    description = {"format": FORMAT, **info, "identity": identity}
                    write_atomically(directory / "run.json", to_json(description, indent=2))
                else:
                    log.messages += differences(earlier, log._info)
                log._progress = os.open(directory / PROGRESS, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except BaseException:
            log.close()
            raise
        return log

    def resume(self) -> dict[str, Any] | None:
        """The state to continue from, the rows cut back to those it covers; None where the run starts at iteration 0.

        A damaged checkpoint, or one that counts rows which are missing, gives way to its predecessor. Raises RunError
        when neither can be used: the rows then stay as they are. ``run.json`` is told what the rows from here on are
        computed with, where that has changed.
        """
        problems: list[str] = []
        with disk(self.directory):
            for name in (CHECKPOINT, PREVIOUS):
                path = self.directory / name
                if not path.exists():
                    continue
                try:
                    state = load_checkpoint(path)
                except BrokenCheckpointError as error:
                    problems.append(str(error))
                    continue
                end = self._end_of_rows(state["iteration"])
                if end is None:
                    problems.append(f"{PROGRESS} lacks rows that {name} counts")
                    continue
                if name == PREVIOUS:
                    # The next save moves the checkpoint onto the predecessor: that must not be the damaged one.
                    os.replace(path, self.directory / CHECKPOINT)
                os.ftruncate(self._progress, end)
                self._n_rows = state["iteration"]
                self._describe(self._n_rows)
                if problems:
                    self.messages.append(f"{'; '.join(problems)}: continuing from iteration {self._n_rows}.")
                return state
            if problems:
                raise RunError(
                    f"{self.directory} cannot be continued ({'; '.join(problems)}): "
                    "start afresh with another name=, or remove the directory."
                )
            os.ftruncate(self._progress, 0)
            self._n_rows = 0
            self._describe(0)
            return None

    def _describe(self, iteration: int) -> None:
        """Note in ``run.json`` with what the rows from ``iteration`` on are computed."""
        path = self.directory / "run.json"
        before = read_json(path) or {}
        if (now := continued(before, self._info, iteration)) != before:
            write_atomically(path, to_json(now, indent=2))

    def write(self, *parts: Mapping[str, Any]) -> None:
        """Appends one row, the union of ``parts``: numbers and strings by key, null for a number that is not finite.

        A tuple of numbers is no part of the row: TensorBoard alone shows it, as a histogram.

        Raises ValueError for a key set twice and for a row that is not the next iteration's, RunError for the disk.
        """
        row: dict[str, Any] = {}
        distributions: dict[str, tuple[float, ...]] = {}
        for part in parts:
            if twice := row.keys() & part.keys():
                raise ValueError(f"{min(twice)} is set twice in one row")
            row |= {key: _plain(value) for key, value in part.items() if not isinstance(value, tuple)}
            distributions |= {key: value for key, value in part.items() if isinstance(value, tuple)}
        if self._n_rows is None or row.get("iteration") != self._n_rows:
            raise ValueError(f"a row of iteration {row.get('iteration')} where {self._n_rows} comes next")
        with disk(self.directory):
            write_all(self._progress, to_json(row))
            self._n_rows += 1
            if self._mirror is None:
                # A run that is refused or already finished need not wait for this import.
                from trpo_cli.runs.tensorboard import TensorBoardMirror, flat_settings

                settings = flat_settings(self._config, self._options)
                self._mirror = TensorBoardMirror(self.directory, row["iteration"], settings)
            self._mirror.write(row, distributions)

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Makes ``checkpoint``, of the first ``checkpoint["iteration"]`` rows, what ``resume`` returns.

        It holds tensors, numbers, strings and dictionaries of these. Raises RunError when the disk refuses; what was
        saved before then stays.
        """
        if self._n_rows is None or not 0 <= checkpoint["iteration"] <= self._n_rows:
            raise ValueError(
                f"a checkpoint of {checkpoint['iteration']} iterations where {self._n_rows} rows are written"
            )
        with disk(self.directory):
            os.fsync(self._progress)
            save_checkpoint(self.directory, checkpoint)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Marks the run as finished, with ``summary`` in ``done.json``."""
        with disk(self.directory):
            os.fsync(self._progress)
            write_atomically(self.directory / DONE, to_json(summary, indent=2))
            if self._mirror is not None and self._n_rows:
                self._mirror.finish(self._n_rows - 1)

    @property
    def finished(self) -> dict[str, Any] | None:
        """The summary of a finished run, None for one that is not."""
        with disk(self.directory):
            return read_json(self.directory / DONE)

    @property
    def last_row(self) -> dict[str, Any] | None:
        """The last row written, None where there is none."""
        with disk(self.directory):
            rows = (self.directory / PROGRESS).read_bytes().splitlines()
        return json.loads(rows[-1]) if rows else None

    def close(self) -> None:
        """Gives the directory back; safe to call twice."""
        if self._mirror is not None:
            self._mirror.close()
        for descriptor in (self._progress, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._mirror, self._progress, self._lock = None, -1, -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end_of_rows(self, n_rows: int) -> int | None:
        """Byte at which the first ``n_rows`` rows end; None when fewer are whole."""
        end = 0
        with (self.directory / PROGRESS).open("rb") as lines:
            for iteration in range(n_rows):
                line = lines.readline()
                try:
                    whole = line.endswith(b"\n") and json.loads(line)["iteration"] == iteration
                except (ValueError, TypeError, KeyError):
                    whole = False
                if not whole:
                    return None
                end += len(line)
        return end


def _plain(value: Any) -> float | int | str | None:
    """A Python number, string or None for ``value``, which may be an array or tensor of one element."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, float | int | str):
        return value
    raise TypeError(f"a row holds numbers and strings, not {type(value).__name__}")
