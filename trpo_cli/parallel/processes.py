"""Starts and supervises the workers of one machine, or joins those that torchrun started.

The command itself only waits: it forks the workers (a single one too), tells the leader of signals that ask for a
stop, and ends all workers when one dies. How long it takes until a run ends:

- After a signal (Ctrl-C, SIGTERM, SIGHUP): until the iteration is done and saved. A second signal, half a second later
  or more, ends everything at once and loses the iterations since the last checkpoint.
- After the death of a worker: the others have ``GRACE_S`` to notice, then they are killed.
- After the death of the command: its workers die at once.
- If a worker is suspended (SIGSTOP) or stuck: for ever, because it looks like one that simulates for hours.
  Under torchrun, `torch.distributed` gives up after half an hour.
"""

import errno
import os
import select
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from trpo_cli.errors import ConfigError, Interrupted, RunError
from trpo_cli.parallel.children import begin, die_with, end, how_it_ended, leave, start, wait_for_end
from trpo_cli.parallel.group import Group

GRACE_S = 5.0  # for the other workers to end by themselves once one has ended
NO_LIMIT = timedelta(days=365)  # for an exchange between workers of this machine: the command notices deaths

Plan = TypeVar("Plan")
Body = Callable[[Group], int]  # what every worker runs; its exit status


LEADER_IS_DONE = "done"  # what the leader reports at its end


class LostWorkerError(RunError):
    """An exchange with another worker failed, usually because that worker died."""


def n_workers(setting: object, useful: int) -> int:
    """The number of workers that ``workers=`` asks for; ``auto``: all useful ones, or as many as torchrun started."""
    if under_torchrun():
        size = os.environ["WORLD_SIZE"]
        if setting != "auto":
            raise ConfigError(f"workers={setting}: torchrun has started {size} and decides; leave workers out")
        return int(size)
    if setting == "auto":
        return useful
    if isinstance(setting, bool) or not isinstance(setting, int) or setting < 1:
        raise ConfigError(f"workers={setting} must be auto or a whole number >= 1")
    return setting


def under_torchrun() -> bool:
    """True if torchrun (or Slurm, with the same variables) has started this process as one of a group."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def prints_messages() -> bool:
    """True in the process that prints messages: rank 0 under torchrun, otherwise always."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def run(n: int, body: Body) -> int:
    """Run ``body`` in ``n`` workers, or in those of torchrun; returns its exit status (the leader's).

    Raises ConfigError, RunError or BrokenPipeError (standard output was closed) for every error, and Interrupted for a
    signal that ends everything at once.
    """
    if not under_torchrun():
        return _run_forked(n, body)
    return _run_guarded(lambda: _run_in_group(body))


def _run_guarded(work: Callable[[], int]) -> int:
    """Call ``work`` and turn every error in it into one of those that ``run`` raises."""
    try:
        status = work()
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ConfigError, RunError, Interrupted):
        raise
    except BaseException as error:
        if _lost_standard_output(error):
            raise BrokenPipeError(errno.EPIPE, "standard output was closed") from error
        if os.environ.get("TRPO_TRACEBACK"):
            traceback.print_exception(error)
        raise _failure(error) from error
    return status


def _lost_standard_output(error: BaseException) -> bool:
    """True if nobody reads any more what this process prints. A simulator may have lost a pipe of its own instead."""
    if isinstance(error, SystemExit):  # what rich makes of it, after it has replaced the descriptor
        last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        return isinstance(error.__context__, BrokenPipeError) and last.parts[-2:] == ("rich", "console.py")
    poll = select.poll()
    poll.register(1, 0)
    return isinstance(error, BrokenPipeError) and any(state & select.POLLERR for _, state in poll.poll(0))


def _failure(error: BaseException) -> RunError:
    """What failed, and in which line, in one sentence."""
    group = Group()
    who = _name(group.rank, group.size)
    where = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(where.filename)
    if file.parts[-3:-1] == ("torch", "distributed") and isinstance(error, RuntimeError):
        return LostWorkerError(f"{who} lost the connection to another")
    what = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])[:300].removesuffix(": ")
    return RunError(f"{who} failed: {what} ({file.name}:{where.lineno})")


def share_refusal(refusal: ConfigError | None) -> None:
    """Under torchrun, join the group and raise one member's refusal in all of them; otherwise do nothing."""
    if not under_torchrun():
        return
    _join()
    group = Group()
    refusals = [error for error in group.gather_objects(refusal) if error is not None]
    if refusals:
        _leave_after_leader(group)
        raise refusals[0]


def agree_on(prepare: Callable[[], Plan]) -> Plan:
    """Returns ``prepare()``. Under torchrun, if it refuses in one member of the group, all members refuse."""
    try:
        plan = prepare()
    except ConfigError as error:
        share_refusal(error)
        raise
    share_refusal(None)
    return plan


def _join() -> None:
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" in os.environ:
            die_with(os.getppid())
        dist.init_process_group("gloo")


def _leave_after_leader(group: Group) -> None:
    """Wait until the leader has ended: torchrun kills it when another member fails, and it may still have to save."""
    if not group.leads:
        with suppress(RuntimeError):
            group.sums(0.0)  # the leader takes no part: this fails when it ends


def _run_in_group(body: Body) -> int:
    _join()
    group = Group()
    status = body(group)
    if status:
        _leave_after_leader(group)
    dist.destroy_process_group()
    return status


def _run_forked(n: int, body: Body) -> int:
    reports = get_context("fork").SimpleQueue()
    folder = Path(tempfile.mkdtemp(prefix="trpo-")) if n > 1 else None
    workers: list[BaseProcess] = []
    try:
        for rank in range(n):
            workers.append(_start(rank, n, folder, body, reports))
        codes = _supervise(workers)
    finally:
        end(workers)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if workers:
            _restore_cursor(workers[0])
    told: list[Exception] = []
    finished = False
    while not reports.empty():
        report = reports.get()
        if isinstance(report, Exception):
            told.append(report)
        finished |= report == LEADER_IS_DONE
    if _in_order(codes[0]) and not finished and not told:  # a simulator may end its process, with any status
        raise RunError(f"{_name(0, n)} {how_it_ended(codes[0])} before everything was done")
    return _verdict(codes, told)


def _start(rank: int, n: int, folder: Path | None, body: Body, reports: Any) -> BaseProcess:
    try:
        return start(_worker, rank, n, folder, os.getpid(), body, reports)
    except OSError as error:
        reason = f"only {rank} could be started ({error.strerror})"
        raise RunError(f"workers={n}: {reason}; use fewer") from error


def _supervise(workers: list[BaseProcess]) -> list[int | None]:
    """Wait until the leader has ended or any worker has failed, then end all; exit codes, None for the killed ones."""
    running, failed = list(workers), False
    while workers[0] in running and not failed:
        for worker in wait_for_end(running):
            running.remove(worker)
            end([worker])
            failed |= not _in_order(worker.exitcode)
    killed = end(running, GRACE_S)
    return [None if worker in killed else worker.exitcode for worker in workers]


def _in_order(code: int | None) -> bool:
    """True for the exit status of a worker that finished, or stopped because it was asked to."""
    return code is not None and (code == 0 or code >= 128)


def _verdict(codes: list[int | None], told: list[Exception]) -> int:
    """The leader's exit status, or the cause of what went wrong, raised.

    codes: exit code of each worker, None for one that did not end by itself; told: the workers' reports, earliest first
    """
    if _in_order(codes[0]):
        return codes[0] or 0
    for error in told:
        if not isinstance(error, LostWorkerError):
            raise error
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            raise RunError(f"{_name(rank, len(codes))} {how_it_ended(code)}")
    if told:
        raise told[0]
    rank, code = next((rank, code) for rank, code in enumerate(codes) if not _in_order(code))
    raise RunError(f"{_name(rank, len(codes))} {how_it_ended(code)}")


def _name(rank: int, size: int) -> str:
    return f"worker {rank} of {size}" if size > 1 else "the run"


def _restore_cursor(leader: BaseProcess) -> None:
    """Show the cursor again on a new line; the progress bar of a killed leader leaves it hidden."""
    if (leader.exitcode or 0) < 0 and sys.stdout.isatty():
        with suppress(OSError):
            os.write(sys.stdout.fileno(), b"\r\x1b[2K\x1b[?25h")


def _worker(rank: int, size: int, folder: Path | None, parent: int, body: Body, reports: Any) -> None:
    """One worker process, from its fork to its end."""
    begin(parent)
    try:
        status = _run_guarded(lambda: body(Group()) if folder is None else _join_forked(rank, size, folder, body))
    except Interrupted as error:
        status = 128 + error.args[0]
    except BaseException as error:
        told = error if isinstance(error, ConfigError | RunError | BrokenPipeError) else _failure(error)
        reports.put(type(told)(str(told)[:900]))  # short enough for a pipe to take it in one piece
        status = 1
    if rank == 0 and _in_order(status):
        reports.put(LEADER_IS_DONE)
    leave(status)


def _join_forked(rank: int, size: int, folder: Path, body: Body) -> int:
    """Join the other workers and run ``body``; returns its exit status."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    rendezvous = (folder / "rendezvous").as_uri()
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size, timeout=NO_LIMIT)
    group = Group()
    group.sums(0.0)  # returns when all have joined
    shutil.rmtree(folder, ignore_errors=True)  # now: after a kill -9 nothing would remove it
    status = body(group)
    dist.destroy_process_group()
    return status
