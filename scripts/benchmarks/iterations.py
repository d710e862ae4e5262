"""Whole TRPO iterations: against sb3-contrib, with one worker against all, and where the time goes."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measure import Pair, Row, in_turns, on_cores, pairs
from benchmarks.tasks import parts
from trpo_cli.parallel.group import Group

SB3, SCALING, UPDATE_SHARE, ZOO = (
    10.0,
    0.925,
    0.1,
    1 / 6,
)  # targets; 0.925 means that two workers are 1.85 times as fast as one
SB3_ENVS = 10


@dataclass(frozen=True)
class Timing:
    """One iteration."""

    steps: int  # environment steps
    collect_s: float
    update_s: float  # of the policy, and of the value function if there is one

    @property
    def steps_per_s(self) -> float:
        return self.steps / (self.collect_s + self.update_s)


def iterate(overrides: Sequence[str], n_workers: int, n: int, surviving: bool = False) -> list[Timing]:
    """Time ``n`` iterations of a new run in pinned processes, after one iteration that is not counted."""

    def task(group: Group) -> list[Timing]:
        algorithm = parts(*overrides, surviving=surviving).algorithm
        state, timings = algorithm.initial(), []
        for i in range(n + 1):
            state, row = algorithm.iterate(replace(state, iteration=i), group)
            collect, update, critic = (float(row.get(f"time/{part}_s", 0)) for part in ("collect", "update", "critic"))
            timings.append(Timing(int(row["collect/sim_steps"]), collect, update + critic))
        return timings[1:]

    return on_cores(n_workers, task)


def against_sb3(n_steps: int, n_workers: int, n: int, repeats: int) -> list[Row]:
    """Measure a Hopper-v5 iteration of ours on every core, and one of sb3-contrib. No row if that is not installed.

    Ours has no value function, as in the paper; `against_zoo` measures the settings that people train with. The target
    compares with one environment, sb3-contrib's default. With several, its policy acts for all in one call.
    """
    if find_spec("sb3_contrib") is None:
        return []

    def ours() -> float:
        overrides = ["env=hopper_v5", "critic=none", f"sampler.steps_per_iteration={n_steps}"]
        return _rate(iterate(overrides, n_workers, n))

    rounds = in_turns(repeats, ours, lambda: _sb3_rate(n_steps, n, 1), lambda: _sb3_rate(n_steps, n, SB3_ENVS))
    name = f"TRPO iteration, Hopper-v5, 64-64, {n_steps // 1000} K steps, ours without a value function"
    return [
        Row(name, "steps/s", "sb3-contrib TRPO", pairs(rounds, 1), at_least=SB3),
        Row(name, "steps/s", f"sb3-contrib TRPO, {SB3_ENVS} environments", pairs(rounds, 2)),
    ]


def _sb3_rate(n_steps: int, n: int, n_envs: int) -> float:
    """Return the steps/s of sb3-contrib, in a new process that may use every core."""
    return _in_a_process([str(Path(__file__).with_name("sb3.py")), str(n_steps), str(n), str(n_envs)])


def _in_a_process(words: Sequence[str]) -> float:
    """Return the number that a Python program prints last; every core is at its disposal."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {key: value for key, value in os.environ.items() if key not in threads}
    environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def against_zoo(n_steps: int, n_workers: int, repeats: int) -> list[Row]:
    """Measure how long training on Hopper-v5 takes, and sb3-contrib with RL Zoo's settings. No row if not installed.

    Both have a value function; an iteration of ours has 1024 steps, of theirs 2048.
    """
    if find_spec("sb3_contrib") is None:
        return []
    n = -(-n_steps // 1024)
    rounds = in_turns(
        repeats,
        lambda: sum(t.collect_s + t.update_s for t in iterate(["env=hopper_v5"], n_workers, n)),
        lambda: _in_a_process(["-m", "benchmarks.zoo", str(n * 1024)]),
    )
    name = f"training with the default settings, Hopper-v5, {n * 1024 // 1000} K steps"
    return [Row(name, "s", "sb3-contrib TRPO, RL Zoo's settings", pairs(rounds, 1), at_most=ZOO)]


def scaling(n_steps: int, n_workers: int, n: int, repeats: int) -> list[Row]:
    """Compare a Hopper-v5 iteration of ``n_workers`` with ``n_workers`` times the speed of one worker."""
    overrides = ["env=hopper_v5", "critic=none", f"sampler.steps_per_iteration={n_steps}"]
    rounds = in_turns(
        repeats,
        lambda: _rate(iterate(overrides, n_workers, n)),
        lambda: n_workers * _rate(iterate(overrides, 1, n)),
    )
    name = f"TRPO iteration, Hopper-v5, {n_steps // 1000} K steps, {n_workers} workers"
    return [Row(name, "steps/s", f"{n_workers} times one worker", pairs(rounds, 1), at_least=SCALING)]


def update_share(n_paths: int, n_workers: int, n: int) -> list[Row]:
    """Measure the update's share of an iteration at the paper's hopper settings, with every path as long as its limit.

    Only ``n_paths`` of the paper's 1000 paths are run. Both parts grow in proportion to the number of paths, and fixed
    costs weigh more if there are fewer.
    """
    timings = iterate(["env=hopper", f"sampler.n_paths={n_paths}"], n_workers, n, surviving=True)
    shares: list[Pair] = [(t.update_s, t.collect_s + t.update_s) for t in timings]
    name = f"update, hopper at the paper's settings, {timings[0].steps // 1000} K of 1000 K steps"
    return [Row(name, "s", "whole iteration", shares, at_most=UPDATE_SHARE)]


def _rate(timings: Sequence[Timing]) -> float:
    """Return the steps/s over several iterations."""
    return sum(t.steps for t in timings) / sum(t.collect_s + t.update_s for t in timings)
