"""Processes that the command forks: they end when it ends, and so does every process that they start themselves.

An environment is a program of a stranger. It runs in such a process only, so what it does to its process (its working
directory, signal handlers, threads, settings, a crash) does not reach the command, or other jobs of a sweep.

Each process leads a process group of its own. A terminal's Ctrl-C does not reach it, nor simulators that it started,
and whatever is left of the group when the process ends is killed.
"""

import atexit
import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context, parent_process, util
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread, Timer, current_thread, main_thread
from time import monotonic
from typing import Any, TypeVar

from trpo_cli.errors import Interrupted

PR_SET_PDEATHSIG = 1  # prctl: the kernel's signal to a process whose parent died
CLOSE_S = 10.0  # for everything that a process does when it ends, such as closing environments
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Answer = TypeVar("Answer")
Handler = TypeVar("Handler", bound=Callable[..., None])

_alive: dict[int, BaseProcess] = {}  # process id -> the process that this one has started and not yet ended
_starting = False
_masks: list[set[Any]] = []  # of signals, before the forks that are going on


class LostChildError(RuntimeError):
    """A process ended without an answer; the argument says how."""


def for_command(handler: Handler) -> Handler:
    """A signal handler for the command alone: no process that is forked from it keeps it."""
    handler.kept_by = "command"  # type: ignore[attr-defined]
    return handler


def for_workers(handler: Handler) -> Handler:
    """A signal handler for the command and the processes that `start` forks, but not for what these fork."""
    handler.kept_by = "workers"  # type: ignore[attr-defined]
    return handler


def _before_fork() -> None:
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS))


def _after_fork_in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _after_fork_in_child() -> None:
    """Give a process that an environment has forked the system's own signal handlers, or it could not be ended."""
    for number in (*SIGNALS, signal.SIGTSTP):
        if not _starting and getattr(signal.getsignal(number), "kept_by", None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


# A signal that comes before the handlers are in place waits until they are: Python would lose it.
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def start(target: Callable[..., None], *args: Any) -> BaseProcess:
    """Fork a process that runs ``target``, which calls `begin` first and `leave` at its end; OSError if it cannot."""
    global _starting
    # Not daemonic: those may not start processes of their own.
    process = get_context("fork").Process(target=target, args=args, daemon=False)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, AttributeError):  # closed, or None
            stream.flush()
    _starting = True
    try:
        process.start()
    finally:
        _starting = False
    assert process.pid is not None
    with suppress(OSError):  # here too: nobody knows which of the two processes goes on first
        os.setpgid(process.pid, process.pid)
    _alive[process.pid] = process
    return process


def begin(parent: int) -> None:
    """In a process that `start` has forked: take its own group, its signal handlers, and the parent's death."""
    global _starting
    _starting = False
    _alive.clear()
    with suppress(OSError):
        os.setpgid(0, 0)
    atexit._clear()  # those of the command
    for number in (*SIGNALS, signal.SIGTSTP):
        if getattr(signal.getsignal(number), "kept_by", None) == "command":
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTSTP else _stop)
    die_with(parent)


@for_workers
def _stop(number: int, frame: object) -> None:
    """End this process in order: every ``finally`` is carried out, and `leave` closes what is open."""
    for later in SIGNALS:
        signal.signal(later, signal.SIG_IGN)
    raise Interrupted(number)


def leave(status: int) -> None:
    """End this process as Python would, but within ``CLOSE_S``: exit handlers, then its own children."""
    timer = Timer(CLOSE_S, os._exit, [status])
    timer.daemon = True
    timer.start()
    with suppress(BaseException):
        atexit._run_exitfuncs()
    with suppress(BaseException):
        for child in active_children():  # Python would wait until they end by themselves
            child.terminate()
        util._exit_function()  # type: ignore[attr-defined]
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(status)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError inside the block if it takes longer; in the main thread only, where signals are handled."""
    if current_thread() is not main_thread():
        yield
        return

    def over(number: int, frame: object) -> None:
        raise TimeoutError(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before if before is not None else signal.SIG_DFL)


def die_with(parent: int) -> None:
    """Have this process killed when its parent dies, for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    elif (command := parent_process()) is not None:
        Thread(target=lambda: (command.join(), os._exit(1)), daemon=True).start()
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


@for_command
def pause(number: int, frame: object) -> None:
    """Ctrl-Z: stop the processes, which it does not reach, and this one; later let all of them go on."""
    for signal_number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in _alive:
            with suppress(OSError):
                os.killpg(pid, signal_number)
        if signal_number == signal.SIGSTOP:
            os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_end(processes: Iterable[BaseProcess], seconds: float | None = None) -> list[BaseProcess]:
    """Wait until one of the processes has ended, or the time is over; returns those that have ended."""
    watched = {_descriptor(process): process for process in processes}
    try:
        return [watched[fd] for fd in wait(list(watched), seconds)]  # type: ignore[index]
    finally:
        _close(watched)


def _descriptor(process: BaseProcess) -> int:
    """A descriptor that can be read when the process has ended. Its sentinel waits for its children as well."""
    if hasattr(os, "pidfd_open"):
        assert process.pid is not None
        with suppress(OSError):  # not on every system, or the process is gone
            return os.pidfd_open(process.pid)
    return process.sentinel


def _close(watched: dict[int, BaseProcess]) -> None:
    for fd, process in watched.items():
        if fd != process.sentinel:
            os.close(fd)


def end(processes: Iterable[BaseProcess], grace_s: float = 0.0) -> list[BaseProcess]:
    """Kill what is left of the groups of processes; returns those that had not ended by themselves in ``grace_s``."""
    started = [process for process in processes if process.pid in _alive]
    running, deadline = list(started), monotonic() + grace_s
    while running:
        seconds = max(deadline - monotonic(), 0.0)
        ended = wait_for_end(running, seconds)
        running = [process for process in running if process not in ended]
        if not seconds:
            break
    for process in started:
        assert process.pid is not None
        with suppress(OSError):  # before it is waited for: until then nobody else can get the number of its group
            os.killpg(process.pid, signal.SIGKILL)
    for process in started:
        process.join()
        _alive.pop(process.pid or 0)
    return running


def end_all() -> None:
    """Ask every process for its end, and kill those that go on."""
    processes = list(_alive.values())
    for process in processes:
        with suppress(OSError):
            os.kill(process.pid or 0, signal.SIGTERM)
    end(processes, CLOSE_S / 2)


def in_child(work: Callable[[], Answer]) -> Answer:
    """What ``work`` returns or raises, in a process of its own.

    Raises LostChildError if that process ends before. What ``work`` returns has to be an object that pickle can carry.
    """
    reader, writer = get_context("fork").Pipe(duplex=False)
    process = start(_answer, work, writer, os.getpid())
    writer.close()
    descriptor = _descriptor(process)
    try:
        wait([reader, descriptor])
        told = reader.recv_bytes() if reader.poll() else b""
    except EOFError:
        told = b""
    finally:
        reader.close()
        _close({descriptor: process})
        end([process], CLOSE_S)
    if not told:
        raise LostChildError(how_it_ended(process.exitcode))
    raised, answer = pickle.loads(told)
    if raised:
        raise answer
    return answer


def _answer(work: Callable[[], Any], writer: Connection, parent: int) -> None:
    begin(parent)
    try:
        told = pickle.dumps((False, work()))
    except BaseException as error:
        try:
            told = pickle.dumps((True, error))
            pickle.loads(told)
        except Exception:
            told = pickle.dumps((True, RuntimeError(f"{type(error).__name__}: {error}")))
    with suppress(OSError):  # the command is gone
        writer.send_bytes(told)
    leave(0)


def how_it_ended(code: int | None) -> str:
    """The exit code of a process in words."""
    if code is not None and code < 0:
        reason = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{reason}"
    return f"ended with status {code}"
