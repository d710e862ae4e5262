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
Pair = tuple[float, float]  # ours and theirs, measured one right after the other


@dataclass(frozen=True)
class Row:
    """One measurement: ours against a peer or a limit, in the same unit."""

    name: str
    unit: str
    peer: str  # what ours is measured against
    pairs: Sequence[Pair]
    at_least: float | None = None  # target of the ratio ours / theirs
    at_most: float | None = None

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios: what slows the machine for a while slows both of a pair."""
        return median(ours / theirs for ours, theirs in self.pairs)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def met(self) -> bool | None:
        """None where the row has no target."""
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.ratio <= self.at_most if self.at_most is not None else None

    def record(self) -> dict[str, Any]:
        """The row as it stands in the JSON file."""
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
    """Call every measure once a repeat, in the given order and back in turns, so that drift favours none."""
    rounds = []
    for i in range(repeats):
        order = range(len(measures)) if i % 2 == 0 else range(len(measures) - 1, -1, -1)
        found = {j: measures[j]() for j in order}
        rounds.append(tuple(found[j] for j in range(len(measures))))
    return rounds


def pairs(rounds: Sequence[tuple[float, ...]], theirs: int, ours: int = 0) -> list[Pair]:
    """Two of the columns that ``in_turns`` gave."""
    return [(values[ours], values[theirs]) for values in rounds]


class Clock:
    """What ``seconds`` reads: the wall clock, or processor time, which other programs stretch less."""

    now: Callable[[], float] = perf_counter


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    start = Clock.now()
    action()
    return Clock.now() - start


def seconds_of_all(action: Callable[[], object], group: Group) -> float:
    """How long the slowest worker takes for one call that all begin together."""
    group.sums(0.0)
    return group.maximum(seconds(action))


def on_cores(n: int, task: Callable[[Group], Answer]) -> Answer:
    """Run ``task`` in ``n`` joined processes with one core each, as a run's workers are; the leader's answer."""
    answers = get_context("fork").SimpleQueue()

    def body(group: Group) -> int:
        with pinned(group.rank):
            torch.set_num_threads(1)
            answer = task(group)
        if group.leads:
            answers.put(answer)
        return 0

    if processes.run(n, body) or answers.empty():
        raise RunError("a measuring process was stopped")
    return answers.get()


@contextmanager
def pinned(rank: int) -> Iterator[None]:
    """Keep this process on one core of those it may use (Linux; elsewhere it stays free)."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[rank % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def watched(action: Callable[[], Answer]) -> tuple[Answer, float]:
    """What ``action`` answers, and how many cores other programs kept at work meanwhile (NaN where not Linux)."""
    machine, own, start = _machine_cpu_s(), _own_cpu_s(), perf_counter()
    answer = action()
    others = (_machine_cpu_s() - machine) - (_own_cpu_s() - own)
    return answer, max(others / (perf_counter() - start), 0.0)


def _machine_cpu_s() -> float:
    """Seconds that all cores together have been at work since the machine started."""
    if not Path("/proc/stat").exists():
        return nan
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(int(ticks) for ticks in (user, nice, system, irq, softirq, steal)) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    """Processor seconds of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
