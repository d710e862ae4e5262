"""The loop: iterate, log, checkpoint, until the iterations are done, no step is taken any more, or someone stops it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan, nan
from time import perf_counter
from typing import Protocol

from trpo_cli.parallel.group import Group
from trpo_cli.parallel.settings import seed_global_generators
from trpo_cli.training.algorithms import Algorithm, Row
from trpo_cli.training.evaluation import GreedyEvaluation
from trpo_cli.training.state import TrainingState

SECONDS = "seconds"  # that an iteration took, among its numbers while its evaluation is still to come
PASSING = "zero_gradient"  # a refusal that may pass by itself: so far no action has been better than another


class Recorder(Protocol):
    """Where the leader's rows and checkpoints go."""

    def write(self, row: Row) -> None: ...
    def save(self, state: TrainingState) -> None: ...
    def save_best(self, state: TrainingState) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """When the loop ends, and when it saves."""

    iterations: int | None  # at most; None: as many as total_steps allows
    checkpoint_every: int
    total_steps: int | None = None  # environment steps; the iteration that reaches them is the last
    max_refused: int | None = None  # iterations in a row without a step that end the run; None: any number
    stop_at: float | None = None  # score that ends the run; None: none does

    def is_done(self, iterations: int, steps: int, score: float | None = None) -> bool:
        """True if a run with so many iterations, environment steps and this score has come to its end.

        There is at least one iteration.
        """
        reached = nan if score is None else score
        limits = ((iterations, self.iterations), (steps, self.total_steps), (reached, self.stop_at))
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
    evaluate: GreedyEvaluation | None = None,
    seed: int = 0,
) -> TrainingState:
    """Iterate from ``state`` until the schedule is done or stuck, or any worker's ``stop()`` is true; the last state.

    evaluate: between iterations; None: never
    recorder: the leader's; None in the other workers. The last state is saved unless an error ends the loop.
    stop: also ends an evaluation. What its iteration has learnt is saved, and is not computed again.
    seed: of the generators that the whole process shares, which an environment may draw from; they are seeded anew in
    each iteration, differently in each worker
    """
    saved = state.iteration

    def ends() -> bool:
        return schedule.is_done(state.iteration, state.sim_steps_total, state.score) or schedule.is_stuck(state.refused)

    while not ends() and not group.maximum(stop()):
        seed_global_generators(seed, state.iteration, group.rank)
        start = perf_counter()
        if state.pending is None:
            after, stats = algorithm.iterate(state, group)
            seconds = perf_counter() - start
        else:  # a stop broke off the evaluation of this iteration
            after, stats = replace(state, pending=None), dict(state.pending)
            seconds = stats.pop(SECONDS)
        steps = int(stats["collect/sim_steps"])
        refused, refusal = _refusals(state, stats)
        state = replace(
            after,
            refused=refused,
            refusal=refusal,
            iteration=state.iteration + 1,
            sim_steps_total=state.sim_steps_total + steps,
            time_s=state.time_s + seconds,
            score=state.score if evaluate else _known(stats["collect/score"]),
        )
        is_best = False
        if evaluate is not None and evaluate.is_due(state.iteration):
            found = evaluate(state, group, stop)
            if found is None:
                state = replace(after, pending=stats | {SECONDS: seconds})
                break
            score, earlier = found["eval/score"], evaluate.best_before(state)
            is_best = earlier is None or score > earlier
            state = replace(state, score=score, best=score if is_best else earlier, best_of=evaluate.episodes)
            state = replace(state, time_s=state.time_s + found["time/eval_s"])
            stats = stats | found
        if recorder is None:
            continue
        totals: Row = {"sim_steps_total": state.sim_steps_total, "time_s": state.time_s}
        totals["time/steps_per_s"] = steps / seconds
        recorder.write({"iteration": state.iteration - 1} | totals | stats)
        if is_best:
            recorder.save_best(state)
        if state.iteration % schedule.checkpoint_every == 0:
            recorder.save(state)
            saved = state.iteration
    if recorder is not None and (saved < state.iteration or state.pending is not None):
        recorder.save(state)
    return state


def _known(score: float) -> float | None:
    """The score of a batch; None before the first episode of a stream has ended."""
    return None if isnan(score) else score


def _refusals(before: TrainingState, stats: Row) -> tuple[int, str]:
    """How many iterations in a row took no step for the same reason, and the reason; 0 if the last one took a step."""
    reason = "" if stats.get("update/accepted", True) else str(stats.get("update/reason", ""))
    if reason in ("", PASSING):
        return 0, ""
    return before.refused + 1 if reason == before.refusal else 1, reason
