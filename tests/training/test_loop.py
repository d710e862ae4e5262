"""Laws of the loop: rows and checkpoints in order, a resumed run equals an uninterrupted one, and a toy is learnt."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_sims import Point, mlp, single, trpo, vine

from trpo_cli.optimizers.cem import Cem
from trpo_cli.parallel.group import Group
from trpo_cli.policies.base import InputMap
from trpo_cli.runs.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from trpo_cli.samplers.base import Sampler
from trpo_cli.sims.base import Task
from trpo_cli.training.algorithms import PolicyUpdate, PopulationSearch, Row
from trpo_cli.training.loop import Schedule, train
from trpo_cli.training.state import TrainingState

POINT, N = Point(), 5
TASK = Task(POINT, 20)
SAMPLERS = {"single": single(), "vine": vine(), "steps": single(steps_per_iteration=150)}


class Memory:
    """Keeps rows and checkpoints, and the order in which they came."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.checkpoints: list[TrainingState] = []
        self.order: list[str] = []

    def write(self, row: Row) -> None:
        self.rows.append(row)
        self.order.append("row")

    def save(self, state: TrainingState) -> None:
        self.checkpoints.append(state)
        self.order.append("save")


def algorithm(sampler: Sampler, **settings: Any) -> PolicyUpdate:
    return PolicyUpdate(TASK, mlp(POINT, (4,)), sampler, trpo(fisher_fraction=0.3, **settings), 3)


def run(
    algorithm: Any, start: TrainingState | None = None, iterations: int = N, every: int = 1, stop: Any = lambda: False
) -> tuple[TrainingState, Memory]:
    memory = Memory()
    start = start or algorithm.initial()
    return train(algorithm, start, Schedule(iterations, every), Group(), memory, stop), memory


def rows(memory: Memory) -> list[Row]:
    return [{key: value for key, value in row.items() if not key.startswith("time")} for row in memory.rows]


@pytest.mark.parametrize("kind", [*SAMPLERS, "search"])
def test_a_run_resumed_from_any_checkpoint_writes_the_rows_of_an_uninterrupted_one(kind: str, tmp_path: Path):
    if kind == "search":
        subject: Any = PopulationSearch(TASK, mlp(POINT), Cem(8, 0.25, 0.1, 0.01, 2), 3)
    else:
        subject = algorithm(SAMPLERS[kind])
    end, whole = run(subject)
    for checkpoint in whole.checkpoints:
        save_checkpoint(tmp_path, checkpoint.to_dict())
        state, resumed = run(subject, TrainingState.from_dict(load_checkpoint(tmp_path / CHECKPOINT)))
        assert rows(resumed) == rows(whole)[checkpoint.iteration :]
        same(replace(state, time_s=end.time_s), end)


def same(state: TrainingState, other: TrainingState) -> None:
    """Every array and number of two states is equal."""
    torch.testing.assert_close(state.to_dict(), other.to_dict(), rtol=0, atol=0, equal_nan=True)


def test_the_algorithm_is_told_the_iteration_and_given_the_state_before():
    class Recorded:
        def iterate(self, state: TrainingState, group: Group) -> tuple[TrainingState, Row]:
            told = (state.iteration, float(state.theta))
            return replace(state, theta=state.theta + 1), {"collect/sim_steps": 10, "collect/score": 0.0, "told": told}

    start = TrainingState(torch.tensor(9.0), InputMap(), iteration=2, sim_steps_total=100, time_s=1.0)
    state, memory = run(Recorded(), start)
    assert [row["told"] for row in memory.rows] == [(2, 9), (3, 10), (4, 11)]
    assert state.theta == 12 and state.sim_steps_total == 130 and state.time_s > 1


def test_rows_count_iterations_from_zero_and_steps_and_seconds_so_far():
    state, memory = run(algorithm(SAMPLERS["vine"]))
    assert [row["iteration"] for row in memory.rows] == [0, 1, 2, 3, 4]
    steps = [row["collect/sim_steps"] for row in memory.rows]
    totals = [row["sim_steps_total"] for row in memory.rows]
    assert totals == [sum(steps[: i + 1]) for i in range(N)] and totals[-1] == state.sim_steps_total
    times = [row["time_s"] for row in memory.rows]
    assert times == sorted(times) and times[0] > 0 and times[-1] == state.time_s
    assert all(row["time_s"] >= row["time/collect_s"] + row["time/update_s"] for row in memory.rows[:1])


def test_a_row_is_written_before_the_checkpoint_that_counts_it_and_the_end_is_saved():
    assert run(algorithm(SAMPLERS["single"]))[1].order == ["row", "save"] * 5
    state, memory = run(algorithm(SAMPLERS["single"]), every=2)
    assert memory.order == ["row", "row", "save", "row", "row", "save", "row", "save"]
    assert [c.iteration for c in memory.checkpoints] == [2, 4, 5]
    assert memory.checkpoints[-1] is state


def test_whoever_asks_to_stop_is_heard_between_two_iterations_and_the_state_is_saved():
    answers = iter([False, False, True])
    state, memory = run(algorithm(SAMPLERS["single"]), every=100, stop=lambda: next(answers))
    assert state.iteration == 2 and len(memory.rows) == 2
    assert [c.iteration for c in memory.checkpoints] == [2]
    _, rest = run(algorithm(SAMPLERS["single"]), state)
    assert rows(memory) + rows(rest) == rows(run(algorithm(SAMPLERS["single"]))[1])


def test_a_finished_run_does_nothing_more():
    state, _ = run(algorithm(SAMPLERS["single"]), iterations=2)
    again, memory = run(algorithm(SAMPLERS["single"]), state, iterations=2)
    assert again is state and memory.order == []


@dataclass(frozen=True)
class Scripted:
    """An algorithm whose iterations take a step if their reason is "accepted"."""

    reasons: Sequence[str]

    def initial(self) -> TrainingState:
        return TrainingState(torch.zeros(1), InputMap())

    def iterate(self, state: TrainingState, group: Group) -> tuple[TrainingState, Row]:
        reason = self.reasons[state.iteration]
        update = {"update/accepted": reason == "accepted", "update/reason": reason}
        return state, {"collect/sim_steps": 1, "collect/score": 0.0, **update}


@pytest.mark.parametrize(
    ("reasons", "done"),
    [
        ("no_improvement kl kl kl kl", 4),  # three in a row
        ("kl kl accepted kl kl", 5),  # now and then is fine
        ("kl kl no_improvement kl kl", 5),  # not the same reason
        (5 * "zero_gradient ", 5),  # waits for a first reward
        (5 * "accepted ", 5),
    ],
)
def test_refusals_in_a_row_for_one_reason_end_the_run(reasons: str, done: int):
    subject, schedule = Scripted(reasons.split()), Schedule(5, 1, max_refused=3)
    memory = Memory()
    state = train(subject, subject.initial(), schedule, Group(), memory, lambda: False)
    assert (state.iteration, len(memory.rows)) == (done, done) and memory.checkpoints[-1] is state
    assert schedule.is_stuck(state.refused) is (done < 5)
    for checkpoint in memory.checkpoints:  # a run that was interrupted counts on
        again = TrainingState.from_dict(checkpoint.to_dict())
        assert train(subject, again, schedule, Group(), None, lambda: False).iteration == done
    assert train(subject, state, Schedule(5, 1), Group(), None, lambda: False).iteration == 5


def test_a_worker_that_records_nothing_computes_the_same():
    subject = algorithm(SAMPLERS["single"])
    quiet = train(subject, subject.initial(), Schedule(N, 1), Group(), None, lambda: False)
    assert torch.equal(quiet.theta, run(subject)[0].theta)


@pytest.mark.parametrize("line_search", ["boundary", "halving"])
@pytest.mark.parametrize("kind", ["single", "vine"])
def test_trpo_learns_to_hold_the_point(kind: str, line_search: str):
    sampler = single(n_paths=32) if kind == "single" else vine(n_states=60, n_actions=4, branch_length=8)
    _, memory = run(algorithm(sampler, kl_limit=0.05, line_search=line_search), iterations=15)
    scores = [row["collect/score"] for row in memory.rows]
    assert scores[0] < 0.35 and min(scores[-3:]) > scores[0] + 0.2
    assert all(row["update/mean_kl"] <= 0.05 for row in memory.rows)


@pytest.mark.parametrize(("steps", "total", "expected"), [(100, 250, 3), (100, 300, 3), (100, 301, 4), (100, None, 6)])
def test_a_budget_of_steps_ends_the_run_after_the_iteration_that_reaches_it(
    steps: int, total: int | None, expected: int
):
    schedule = Schedule(6, 1, total)
    done = [n for n in range(7) if schedule.is_done(n, n * steps)]
    assert done[0] == expected


def test_there_is_at_least_one_iteration_even_if_the_first_moments_took_all_steps():
    budget = Schedule(None, 1, total_steps=1000)
    assert [budget.is_done(n, 1000) for n in (0, 1)] == [False, True] and not budget.is_done(5, 999)
