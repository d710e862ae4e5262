"""Ctrl-C, SIGTERM and SIGHUP: the first one asks for a stop after the running iteration, a later one stops at once."""

import os
import signal
from contextlib import suppress
from math import inf
from mmap import mmap
from time import monotonic
from typing import Any

from trpo_cli.errors import Interrupted
from trpo_cli.parallel.children import SIGNALS, for_workers, pause
from trpo_cli.parallel.processes import prints_messages

INSIST_S = 0.5  # a signal this soon after the first is ignored: timeout(1) and torchrun send it twice


class StopRequest:
    """Inside the ``with`` block the first signal is noted, and a later one ends the command at once.

    A call returns the number of the noted signal, or 0, also in workers that were forked inside the block.
    """

    def __init__(self) -> None:
        self._noted = mmap(-1, 1)  # shared with the workers
        self._command = os.getpid()
        self._since = inf
        self._handlers: dict[int, Any] = {}

    def __call__(self) -> int:
        return self._noted[0]

    def __enter__(self) -> "StopRequest":
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup
            self._handlers[number] = signal.signal(number, self._note)
        if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
            self._handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, pause)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            # After a request the command is ending: no further signal may disturb it.
            signal.signal(number, signal.SIG_IGN if self() and number != signal.SIGTSTP else handler)

    @for_workers
    def _note(self, number: int, frame: object) -> None:
        self._noted[0] = self._noted[0] or number
        if os.getpid() != self._command:
            return  # a worker
        if monotonic() - self._since > INSIST_S:
            for taken in SIGNALS:
                signal.signal(taken, signal.SIG_IGN)
            raise Interrupted(number)
        if self._since == inf:
            self._since = monotonic()
            if prints_messages():
                with suppress(OSError):  # not print: the signal may have interrupted one
                    os.write(2, b"\nStopping after this iteration; once more stops at once.\n")
