"""The rows of a run as TensorBoard scalars.

Written without ``torch.utils.tensorboard.SummaryWriter``: no thread that a fork would lose or that would report a full
disk by a traceback of its own, one record a row, on its way to the disk as soon as the row is.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class TensorBoardMirror:
    """One event file in ``directory``; what earlier files hold from ``first_iteration`` on no longer counts."""

    def __init__(self, directory: Path, first_iteration: int) -> None:
        name = f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        self._file = (directory / name).open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2", step=first_iteration))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=first_iteration))

    def write(self, row: Mapping[str, Any]) -> None:
        """Mirrors the numbers of ``row``, each under its key, at step ``row["iteration"]``."""
        values = [
            Summary.Value(tag=key, simple_value=value)
            for key, value in row.items()
            if isinstance(value, int | float) and key != "iteration"
        ]
        self._add(Event(summary=Summary(value=values), step=row["iteration"]))

    def close(self) -> None:
        """Ends the file; nothing is left to flush."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
