"""A logger in a process of its own, so that it can neither delay nor change the run.

Packages of loggers draw random numbers, install signal handlers, print, change the working directory, start threads
and wait for servers. In a process of their own none of this reaches the training. The leader of a run sends its rows
through a socket and never waits for it: what the socket does not take at once stays in memory and is sent with a later
row. Only the end of the run waits, and not longer than the logger's ``wait_s``.
"""

import json
import os
import secrets
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from select import select
from time import monotonic
from typing import Any

from trpo_cli.parallel.children import SIGNALS, begin, end, how_it_ended, leave, start
from trpo_cli.runs.checkpoint import write_atomically
from trpo_cli.runs.logger import Distributions, LoggedRun, Logger, OpenLogger, Row, Waits

WAIT_S = 30.0  # for a logger that does not say how long the end of a run waits for it
MOST_WAITING = 64 * 2**20  # bytes of rows that a logger has not taken; with more it is given up
ID = "logger_id"  # the file of a run directory that holds `LoggedRun.id`


class Background:
    """A `Logger` that passes everything on to another one, in a process of its own.

    name: in messages, logger.wandb for example; what the process prints goes to the file ``<name>.log``
    """

    def __init__(self, name: str, logger: Logger) -> None:
        self.logger = logger
        self._name = name
        self._wait_s = logger.wait_s if isinstance(logger, Waits) else WAIT_S
        self._socket: socket.socket | None = None
        self._process: BaseProcess | None = None
        self._run: LoggedRun
        self._outbox, self._inbox = bytearray(), bytearray()

    def open(self, run: LoggedRun) -> int:
        """Start the process, which opens the logger. It looks up itself which rows are missing there."""
        self._run = replace(run, id=_kept_id(run.directory))
        self._outbox, self._inbox = bytearray(), bytearray()
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        try:
            self._process = start(self._serve, theirs, os.getpid())
        except OSError as error:
            self._give_up(f"its process could not be started ({error.strerror})")
        theirs.close()
        return run.first_iteration

    def write(self, row: Row, distributions: Distributions) -> None:
        """Send a row, without waiting."""
        self._send({"row": row, "distributions": distributions})
        if len(self._outbox) > MOST_WAITING:
            self._give_up(f"it has left {MOST_WAITING >> 20} MiB of rows waiting")

    def close(self, finished: bool) -> None:
        """Wait until the logger has taken every row and closed, at most ``wait_s``."""
        self._send({"finished": finished})
        deadline = monotonic() + self._wait_s
        while self._socket is not None:
            if (left := deadline - monotonic()) <= 0:
                self._give_up(f"it was not done {self._wait_s:g} s after the last row ({self._name}.wait_s)")
                break
            select([self._socket], [self._socket] if self._outbox else [], [], left)
            self._exchange()

    def _send(self, message: dict[str, Any]) -> None:
        if self._socket is not None:
            self._outbox += json.dumps(message).encode() + b"\n"
            self._exchange()

    def _exchange(self) -> None:
        """Send and receive what goes at once."""
        assert self._socket is not None
        with suppress(OSError):  # it takes no more, or has ended: then nothing is received either
            while self._outbox:
                del self._outbox[: self._socket.send(self._outbox)]
        received = b"-"
        with suppress(BlockingIOError, ConnectionResetError):
            while received := self._socket.recv(1 << 16):
                self._inbox += received
        *lines, rest = self._inbox.split(b"\n")
        self._inbox = bytearray(rest)
        for line in lines:
            self._hear(json.loads(line))
        if not received and self._socket is not None:
            self._give_up()

    def _hear(self, message: dict[str, str]) -> None:
        if "told" in message:
            self._run.tell(message["told"])
        elif "failed" in message:
            self._give_up(message["failed"])
        else:
            self._end()

    def _give_up(self, reason: str = "") -> None:
        """Tell the user that the logger has failed, and why; without a ``reason`` its process has died."""
        process = self._process
        self._end()
        if process is not None and not reason:
            reason = f"its process {how_it_ended(process.exitcode)}"
        self._run.tell(f"{self._name} has failed, the run has not: {reason}")

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            end([self._process])
        self._socket, self._process = None, None
        self._outbox.clear()

    def _serve(self, theirs: socket.socket, parent: int) -> None:
        """The life of the logger's process."""
        begin(parent)
        assert self._socket is not None
        self._socket.close()

        def send(kind: str, text: str) -> None:
            with suppress(OSError):  # the run has ended
                theirs.sendall(json.dumps({kind: text}).encode() + b"\n")

        status = 1
        try:
            _settle_in(self._run.directory, f"{self._name}.log")
            opened = OpenLogger(self.logger, replace(self._run, tell=lambda text: send("told", text)))
            for message in map(json.loads, theirs.makefile("rb")):
                if "finished" in message:
                    opened.close(message["finished"])
                    send("closed", "")
                    status = 0
                    break
                opened.write(message["row"], message["distributions"])
        except BaseException as error:
            send("failed", " ".join(f"{type(error).__name__}: {error}".split())[:300].removesuffix(": "))
        leave(status)


def _settle_in(directory: Path, log: str) -> None:
    """Make the process a plain one: in the run directory, with its output in a file there, and nothing to read."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.chdir(directory)
    for stream, target in ((0, os.devnull), (1, log), (2, log)):
        file = os.open(target, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, stream)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115


def _kept_id(directory: Path) -> str:
    """The run's id in its directory. It is made with the first logger that needs one."""
    if not (directory / ID).exists():
        write_atomically(directory / ID, f"{secrets.token_hex(6)}\n".encode())
    return (directory / ID).read_text().strip()
