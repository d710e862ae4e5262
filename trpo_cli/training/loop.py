"""The loop: iterate, log, checkpoint, until the iterations are done, no step is taken any more, or someone stops it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

from trpo_cli.parallel.group import Group
from trpo_cli.training.algorithms import Algorithm, Row
from trpo_cli.training.state import TrainingState

PASSING = "zero_gradient"  # a refusal that may pass by itself: so far no action has been better than another


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
    max_refused: int | None = None  # iterations in a row without a step that end the run; None: any number

    def is_done(self, iterations: int, steps: int) -> bool:
        """True if a run with so many iterations and environment steps has come to its end; there is at least one."""
        limits = ((iterations, self.iterations), (steps, self.total_steps))
        return iterations > 0 and any(limit is not None and done >= limit for done, limit in limits)

    def is_stuck(self, refused: int) -> bool:
        """True if so many refusals in a row show that no step will be taken any more."""
        return self.max_refused is not None and refused >= self.max_refused


def train(
    algorithm: Algorithm,
    state: TrainingState,
    schedule: Schedule,
    group: Group,
    recorder: Recorder | None,
    stop: Callable[[], bool],
) -> TrainingState:
    """Iterate from ``state`` until the schedule is done or stuck, or any worker's ``stop()`` is true; the last state.

    recorder: the leader's; None in the other workers. The last state is saved unless an error ends the loop.
    """
    saved = state.iteration

    def ends() -> bool:
        return schedule.is_done(state.iteration, state.sim_steps_total) or schedule.is_stuck(state.refused)

    while not ends() and not group.maximum(stop()):
        start = perf_counter()
        after, stats = algorithm.iterate(state, group)
        steps, seconds = int(stats["collect/sim_steps"]), perf_counter() - start
        refused, refusal = _refusals(state, stats)
        state = replace(
            after,
            refused=refused,
            refusal=refusal,
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


def _refusals(before: TrainingState, stats: Row) -> tuple[int, str]:
    """How many iterations in a row took no step for the same reason, and the reason; 0 if the last one took a step."""
    reason = "" if stats.get("update/accepted", True) else str(stats.get("update/reason", ""))
    if reason in ("", PASSING):
        return 0, ""
    return before.refused + 1 if reason == before.refusal else 1, reason
