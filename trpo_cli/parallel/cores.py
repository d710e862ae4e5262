"""How many cores this process may use: its affinity, and a container's share of processor time."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def available_cores(root: Path = Path("/")) -> int:
    """Whole cores that this process may use, at least 1.

    root: where ``proc`` and ``sys`` lie
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(int(min([cores, *_shares(root)])), 1)


def _shares(root: Path) -> Iterator[float]:
    """The limits, in cores, of the control groups that this process is in: cpu.max of version 2, cfs quotas of 1.

    A group is limited by those above it too. Inside a container its own group is often the root of what can be seen.
    """
    groups, lines = root / "sys/fs/cgroup", []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        within = Path(path.lstrip("/"))
        for folder in (within, *within.parents):
            if not controllers:
                yield from _ratio(groups / folder / "cpu.max")
            elif "cpu" in controllers.split(","):
                here = groups / "cpu" / folder
                yield from _ratio(here / "cpu.cfs_quota_us", here / "cpu.cfs_period_us")


def _ratio(*files: Path) -> Iterator[float]:
    """The quota divided by the period, which stand in one file or in two; nothing if there is no limit."""
    with suppress(OSError, ValueError):  # no such file, or the word max
        quota, period = (float(word) for file in files for word in file.read_text().split())
        if quota > 0 and period > 0:
            yield quota / period
