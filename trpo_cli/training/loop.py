"""The loop: iterate, log, checkpoint, until the iterations are done or somebody asks to stop."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from trpo_cli.parallel.group import Group
from trpo_cli.training.algorithms import Algorithm, Row, State


class Recorder(Protocol):
    """Where the leader's rows and checkpoints go."""

    def write(self, row: Row) -> None: ...
    def save(self, checkpoint: State) -> None: ...


@dataclass(frozen=True)
class Progress:
    """Where a run stands between two iterations; what a checkpoint holds."""

    iteration: int  # the next one
    sim_steps_total: int  # environment steps simulated so far
    time_s: float  # seconds spent iterating so far
    state: State  # the algorithm's

    def checkpoint(self) -> State:
        return {
            "iteration": self.iteration,
            "sim_steps_total": self.sim_steps_total,
            "time_s": self.time_s,
            "state": self.state,
        }


def train(
    algorithm: Algorithm,
    progress: Progress,
    iterations: int,
    checkpoint_every: int,
    group: Group,
    recorder: Recorder | None,
    stop: Callable[[], bool],
) -> Progress:
    """Iterate from ``progress`` until ``iterations`` are done or any worker's ``stop()`` is true; where it ended.

    recorder: the leader's; None in the other workers. Whatever ends the loop in order, the last state is saved.
    """
    saved = progress.iteration
    while progress.iteration < iterations and not group.maximum(stop()):
        start = perf_counter()
        state, stats = algorithm.iterate(progress.state, progress.iteration, group)
        steps, seconds = int(stats["collect/sim_steps"]), perf_counter() - start
        progress = Progress(
            iteration=progress.iteration + 1,
            sim_steps_total=progress.sim_steps_total + steps,
            time_s=progress.time_s + seconds,
            state=state,
        )
        if recorder is None:
            continue
        totals: Row = {"sim_steps_total": progress.sim_steps_total, "time_s": progress.time_s}
        totals["time/steps_per_s"] = steps / seconds
        recorder.write({"iteration": progress.iteration - 1} | totals | stats)
        if progress.iteration % checkpoint_every == 0:
            recorder.save(progress.checkpoint())
            saved = progress.iteration
    if recorder is not None and saved < progress.iteration:
        recorder.save(progress.checkpoint())
    return progress
