"""What the measurements share: rows of the table, pairs measured in turns, and processes pinned to cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch

from trpo_cli.errors import RunError
from trpo_cli.parallel import processes
from trpo_cli.parallel.group import Group

Answer = TypeVar("Answer")
Pair = tuple[float, float]  # ours and theirs, one measured right after the other


@dataclass(frozen=True)
class Row:
    """One measurement: ours against a peer or a limit, in one unit."""

    name: str
    unit: str
    peer: str  # what ours is measured against
    pairs: Sequence[Pair]
    at_least: float | None = None  # target of the ratio ours / theirs
    at_most: float | None = None

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios. If the machine is slow for a while, it slows both values of a pair."""
        return median(ours / theirs for ours, theirs in self.pairs)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """True if the target is met, None if the row has no target."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.ratio <= self.at_most if self.at_most is not None else None

    def record(self) -> dict[str, Any]:
        """Return the row as the JSON file holds it."""
        ours, theirs = zip(*self.pairs, strict=True)
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": median(ours),
            "peer": self.peer,
            "theirs": median(theirs),
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "pairs": [list(pair) for pair in self.pairs],
        }


def in_turns(repeats: int, *measures: Callable[[], float]) -> list[tuple[float, ...]]:
    """Call every measure once per repeat, forwards and backwards in turns, so that a drift of speed favours none."""
    rounds = []
    for i in range(repeats):
        order = range(len(measures)) if i % 2 == 0 else range(len(measures) - 1, -1, -1)
        found = {j: measures[j]() for j in order}
        rounds.append(tuple(found[j] for j in range(len(measures))))
    return rounds


def pairs(rounds: Sequence[tuple[float, ...]], theirs: int, ours: int = 0) -> list[Pair]:
    """Return two of the columns that ``in_turns`` returned."""
    return [(values[ours], values[theirs]) for values in rounds]


class Clock:
    """The clock of ``seconds``: wall time, or processor time, which other programs disturb less."""

    now: Callable[[], float] = perf_counter


def seconds(action: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = Clock.now()
    action()
    return Clock.now() - start


def seconds_of_all(action: Callable[[], object], group: Group) -> float:
    """Return how long the slowest worker takes for one call. All workers start it together."""
    group.sums(0.0)
    return group.maximum(seconds(action))


def on_cores(n: int, task: Callable[[Group], Answer]) -> Answer:
    """Run ``task`` in a group of ``n`` processes with one core each, as a run's workers. Return the leader's answer."""
    answers = get_context("fork").SimpleQueue()

    def body(group: Group) -> int:
        with pinned(group.rank):
            torch.set_num_threads(1)
            answer = task(group)
        if group.leads:
            answers.put(answer)
        return 0

    if processes.run(n, body) or answers.empty():
        raise RunError("a process of the measurement was stopped")
    return answers.get()


@contextmanager
def pinned(rank: int) -> Iterator[None]:
    """Keep this process on one of the cores that it may use. This works on Linux only; elsewhere it does nothing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[rank % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def watch(action: Callable[[], Answer]) -> tuple[Answer, float]:
    """Return the answer of ``action``, and how many cores other programs used meanwhile (NaN if this is not Linux)."""
    machine, own, start = _machine_cpu_s(), _own_cpu_s(), perf_counter()
    answer = action()
    others = (_machine_cpu_s() - machine) - (_own_cpu_s() - own)
    return answer, max(others / (perf_counter() - start), 0.0)


def _machine_cpu_s() -> float:
    """Return the busy seconds of all cores together since the machine started."""
    if not Path("/proc/stat").exists():
        return nan
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(int(ticks) for ticks in (user, nice, system, irq, softirq, steal)) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    """Return the processor seconds of this process and of the children that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
