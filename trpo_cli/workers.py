"""Starts and supervises the workers of one machine, or joins those that torchrun started.

The command itself only waits: it forks the workers, passes signals on to the leader, and ends them all when one dies.
"""

import ctypes
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic
from typing import Any

import torch.distributed as dist

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.world import World

GRACE_S = 3.0  # for the others to end by themselves once one worker has died
PR_SET_PDEATHSIG = 1  # prctl: the kernel's signal to a process whose parent died

Body = Callable[[World], int]  # what every worker runs; its exit status


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def n_workers(setting: object) -> int:
    """The number of workers that ``workers=`` asks for on this machine."""
    if setting == "auto":
        return available_cores()
    if isinstance(setting, bool) or not isinstance(setting, int) or setting < 1:
        raise ConfigError(f"workers={setting} must be auto or a whole number >= 1")
    return setting


def under_torchrun() -> bool:
    """True where torchrun, or whoever sets the same variables, has started this process as one of a group."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def run(setting: object, body: Body) -> int:
    """Run ``body`` in every worker and return the leader's exit status; RunError where a worker died."""
    if under_torchrun():
        return _in_group(body)
    n = n_workers(setting)
    return body(World()) if n == 1 else _forked(n, body)


def _in_group(body: Body) -> int:
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return body(World())


def _forked(n: int, body: Body) -> int:
    context = get_context("fork")
    reports = context.SimpleQueue()
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="trpo-") as folder:
        url = (Path(folder) / "rendezvous").as_uri()
        workers = [
            context.Process(target=_worker, args=(rank, n, url, os.getpid(), body, reports), daemon=True)
            for rank in range(n)
        ]
        handlers = {}
        try:
            for worker in workers:
                worker.start()
            handlers = {s: signal.signal(s, _forward_to(workers[0])) for s in (signal.SIGINT, signal.SIGTERM)}
            dead = _first_failure(workers)
            if dead is not None:
                _end(workers, GRACE_S)
        finally:
            for s, handler in handlers.items():
                signal.signal(s, handler)
            _end(workers, 0.0)
    told: dict[int, Exception] = {}
    while not reports.empty():
        rank, error = reports.get()
        told[rank] = error
    if dead is None:
        return workers[0].exitcode or 0
    rank, exitcode = dead
    if isinstance(told.get(rank), ConfigError):
        raise told[rank]
    if exitcode >= 128:  # the leader stopped in order because it was asked to
        return exitcode
    what = (
        f"was killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"failed: {told.get(rank, 'no reason')}"
    )
    raise RunError(f"worker {rank} of {n} {what}; the last checkpoint is intact, the same command resumes")


def _forward_to(leader: BaseProcess) -> Callable[[int, Any], None]:
    def forward(number: int, frame: Any) -> None:
        if leader.pid is not None and leader.is_alive():
            os.kill(leader.pid, number)

    return forward


def _first_failure(workers: list[BaseProcess]) -> tuple[int, int] | None:
    """Wait for all workers; rank and exit status of the first that ended badly, as soon as it did."""
    running = {worker.sentinel: rank for rank, worker in enumerate(workers)}
    while running:
        for sentinel in wait(list(running)):
            rank = running.pop(sentinel)  # type: ignore[arg-type]
            workers[rank].join()
            code = workers[rank].exitcode
            if code:
                return rank, code
    return None


def _end(workers: list[BaseProcess], grace: float) -> None:
    """Give the workers ``grace`` seconds to end, then kill what is left."""
    deadline = monotonic() + grace
    for worker in workers:
        if worker.pid is not None:
            worker.join(max(deadline - monotonic(), 0.0))
    for worker in workers:
        if worker.pid is not None and worker.is_alive():
            worker.kill()
            worker.join()


def _worker(rank: int, size: int, url: str, parent: int, body: Body, reports: Any) -> None:
    """One worker process, in a process group of its own: Ctrl-C reaches the command, which tells the leader."""
    _die_with(parent)
    os.setpgid(0, 0)
    for s in (signal.SIGINT, signal.SIGTERM):
        signal.signal(s, signal.SIG_IGN)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    try:
        dist.init_process_group("gloo", init_method=url, rank=rank, world_size=size)
        status = body(World())
        dist.destroy_process_group()
    except (ConfigError, RunError) as error:
        reports.put((rank, error))
        status = 2 if isinstance(error, ConfigError) else 1
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        reports.put((rank, RunError(f"{type(error).__name__}: {error} ({place})")))
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # nothing of the parent's, which this process is a copy of, is to be cleaned up here


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however that happens (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)
