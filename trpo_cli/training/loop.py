"""The loop: iterate, log, checkpoint, until the iterations are done or a stop is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

from trpo_cli.parallel.group import Group
from trpo_cli.training.algorithms import Algorithm, Row
from trpo_cli.training.state import TrainingState


class Recorder(Protocol):
    """Where the leader's rows and checkpoints go."""

    def write(self, row: Row) -> None: ...
    def save(self, state: TrainingState) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """When the loop ends, and when it saves."""

    iterations: int | None  # at most; None: as many as total_steps allows
    checkpoint_every: int
    total_steps: int | None = None  # environment steps; the iteration that reaches them is the last

    def is_done(self, iterations: int, steps: int) -> bool:
        """True if a run with so many iterations and environment steps has come to its end; there is at least one."""
        limits = ((iterations, self.iterations), (steps, self.total_steps))
        return iterations > 0 and any(limit is not None and done >= limit for done, limit in limits)


def train(
    algorithm: Algorithm,
    state: TrainingState,
    schedule: Schedule,
    group: Group,
    recorder: Recorder | None,
    stop: Callable[[], bool],
) -> TrainingState:
    """Iterate from ``state`` until the schedule is done or any worker's ``stop()`` is true; returns the last state.

    recorder: the leader's; None in the other workers. The last state is saved unless an error ends the loop.
    """
    saved = state.iteration
    while not schedule.is_done(state.iteration, state.sim_steps_total) and not group.maximum(stop()):
        start = perf_counter()
        after, stats = algorithm.iterate(state, group)
        steps, seconds = int(stats["collect/sim_steps"]), perf_counter() - start
        state = replace(
            after,
            iteration=state.iteration + 1,
            sim_steps_total=state.sim_steps_total + steps,
            time_s=state.time_s + seconds,
        )
        if recorder is None:
            continue
        totals: Row = {"sim_steps_total": state.sim_steps_total, "time_s": state.time_s}
        totals["time/steps_per_s"] = steps / seconds
        recorder.write({"iteration": state.iteration - 1} | totals | stats)
        if state.iteration % schedule.checkpoint_every == 0:
            recorder.save(state)
            saved = state.iteration
    if recorder is not None and saved < state.iteration:
        recorder.save(state)
    return state
