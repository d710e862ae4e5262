"""What a decision of Atari costs a process when many run at the same time, and which part of it grows.

If the emulator alone slows down, the cores share it: hardware threads, caches or their clock. If only the sampler does,
look at page faults and at the number of lanes. If only the network does, look at torch's threads and at the caches.
"""

from collections.abc import Callable
from resource import RUSAGE_SELF, getrusage

import numpy as np

from benchmarks.atari import AtariSize, emulator, parts
from benchmarks.measure import Row, on_cores, pairs, seconds_of_all
from benchmarks.sampling import own_sampler
from benchmarks.tasks import Parts
from trpo_cli.parallel.group import Group
from trpo_cli.samplers.rollout import PolicyActor

GAME = "pong"


def numbers_of_processes(n_cores: int) -> list[int]:
    """One, half of the cores and all of them; below half, two processes need not share a core's hardware threads."""
    return sorted({1, max(1, n_cores // 2), n_cores})


def decision_costs(n_workers: int, size: AtariSize) -> list[Row]:
    """Microseconds and page faults per decision and process: sampler and network, each against the emulator alone."""

    def task(group: Group) -> list[tuple[float, ...]]:
        p = parts(GAME)
        sampler, alone = own_sampler(p, size.lanes, size.step_limit, group), emulator(parts(GAME), size, group)
        network = _network(p, size, group)
        sampler()  # makes the emulators
        return [
            (*_cost_and_faults(sampler, size, group), *_cost_and_faults(alone, size, group), network())
            for _ in range(size.repeats)
        ]

    rounds = on_cores(n_workers, task)
    name = f"decision of {GAME}, {n_workers} processes, {size.lanes} lanes each"
    alone = "act x 4 alone, as many processes"
    faults = [(1 + ours, 1 + theirs) for ours, theirs in pairs(rounds, 3, ours=1)]  # 1, because there may be none
    return [
        Row(name, "µs", alone, pairs(rounds, 2)),
        Row(f"{name}: the network alone", "µs", alone, pairs(rounds, 2, ours=4)),
        Row(f"{name}: page faults", "per 1000, + 1", alone, faults),
    ]


def _cost_and_faults(rate: Callable[[], float], size: AtariSize, group: Group) -> tuple[float, float]:
    """One call of ``rate``: µs per decision and process, and page faults per 1000 decisions."""
    before = getrusage(RUSAGE_SELF).ru_minflt
    cost = 1e6 * group.size / rate()
    return cost, 1000 * (getrusage(RUSAGE_SELF).ru_minflt - before) / (size.lanes * size.step_limit)


def _network(p: Parts, size: AtariSize, group: Group) -> Callable[[], float]:
    """Measure the policy on the same observations over and over: µs per decision and process."""
    act, lanes = PolicyActor(p.policy, p.theta), np.arange(size.lanes)
    obs = p.sim.observe(p.sim.reset([np.random.default_rng(lane) for lane in range(size.lanes)]))
    noise = p.policy.dist.draw_noise(np.random.default_rng(0), (size.step_limit, size.lanes))

    def play() -> None:
        for row in noise:
            act(obs, lanes, row)

    def cost() -> float:
        return 1e6 * seconds_of_all(play, group) / (size.lanes * size.step_limit)

    return cost
