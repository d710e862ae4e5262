"""Laws of the loop: rows and checkpoints in order, a resumed run equals an uninterrupted one, and a toy is learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_sims import Point, mlp, single, trpo, vine

from trpo_cli.optimizers.cem import Cem
from trpo_cli.parallel.group import Group
from trpo_cli.runs.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from trpo_cli.samplers.base import Sampler
from trpo_cli.training.algorithms import PolicyUpdate, PopulationSearch, Row, State
from trpo_cli.training.loop import Progress, train

POINT, N = Point(), 5
SAMPLERS = {"single": single(), "vine": vine(), "steps": single(steps_per_iteration=150)}


class Memory:
    """Keeps rows and checkpoints, and the order in which they came."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.checkpoints: list[State] = []
        self.order: list[str] = []

    def write(self, row: Row) -> None:
        self.rows.append(row)
        self.order.append("row")

    def save(self, checkpoint: State) -> None:
        self.checkpoints.append(checkpoint)
        self.order.append("save")


def algorithm(sampler: Sampler, **settings: Any) -> PolicyUpdate:
    return PolicyUpdate(POINT, mlp(POINT, (4,)), sampler, trpo(fisher_fraction=0.3, **settings), 3)


def run(
    algorithm: Any, progress: Progress | None = None, iterations: int = N, every: int = 1, stop: Any = lambda: False
) -> tuple[Progress, Memory]:
    memory = Memory()
    start = progress or Progress(0, 0, 0.0, algorithm.initial())
    return train(algorithm, start, iterations, every, Group(), memory, stop), memory


def rows(memory: Memory) -> list[Row]:
    return [{key: value for key, value in row.items() if not key.startswith("time")} for row in memory.rows]


@pytest.mark.parametrize("kind", [*SAMPLERS, "search"])
def test_a_run_resumed_from_any_checkpoint_writes_the_rows_of_an_uninterrupted_one(kind: str, tmp_path: Path):
    if kind == "search":
        subject: Any = PopulationSearch(POINT, mlp(POINT), Cem(8, 0.25, 0.1, 0.01, 2), 20, 3)
    else:
        subject = algorithm(SAMPLERS[kind])
    whole_progress, whole = run(subject)
    for checkpoint in whole.checkpoints:
        save_checkpoint(tmp_path, checkpoint)
        progress, resumed = run(subject, Progress(**load_checkpoint(tmp_path / CHECKPOINT)))
        assert rows(resumed) == rows(whole)[checkpoint["iteration"] :]
        assert progress.sim_steps_total == whole_progress.sim_steps_total
        for name, value in whole_progress.state.items():
            assert torch.equal(progress.state[name], value)


def test_the_algorithm_is_told_the_iteration_and_given_the_state_before():
    class Recorded:
        def initial(self) -> State:
            return {"n": 7}

        def iterate(self, state: State, iteration: int, group: Group) -> tuple[State, Row]:
            return {"n": state["n"] + 1}, {"collect/sim_steps": 10, "told": (iteration, state["n"])}

    progress, memory = run(Recorded(), Progress(2, 100, 1.0, {"n": 9}))
    assert [row["told"] for row in memory.rows] == [(2, 9), (3, 10), (4, 11)]
    assert progress.state == {"n": 12} and progress.sim_steps_total == 130 and progress.time_s > 1


def test_rows_count_iterations_from_zero_and_steps_and_seconds_so_far():
    progress, memory = run(algorithm(SAMPLERS["vine"]))
    assert [row["iteration"] for row in memory.rows] == [0, 1, 2, 3, 4]
    steps = [row["collect/sim_steps"] for row in memory.rows]
    totals = [row["sim_steps_total"] for row in memory.rows]
    assert totals == [sum(steps[: i + 1]) for i in range(N)] and totals[-1] == progress.sim_steps_total
    times = [row["time_s"] for row in memory.rows]
    assert times == sorted(times) and times[0] > 0 and times[-1] == progress.time_s
    assert all(row["time_s"] >= row["time/collect_s"] + row["time/update_s"] for row in memory.rows[:1])


def test_a_row_is_written_before_the_checkpoint_that_counts_it_and_the_end_is_saved():
    assert run(algorithm(SAMPLERS["single"]))[1].order == ["row", "save"] * 5
    progress, memory = run(algorithm(SAMPLERS["single"]), every=2)
    assert memory.order == ["row", "row", "save", "row", "row", "save", "row", "save"]
    assert [c["iteration"] for c in memory.checkpoints] == [2, 4, 5]
    assert memory.checkpoints[-1] == progress.checkpoint()


def test_whoever_asks_to_stop_is_heard_between_two_iterations_and_the_state_is_saved():
    answers = iter([False, False, True])
    progress, memory = run(algorithm(SAMPLERS["single"]), every=100, stop=lambda: next(answers))
    assert progress.iteration == 2 and len(memory.rows) == 2
    assert [c["iteration"] for c in memory.checkpoints] == [2]
    _, rest = run(algorithm(SAMPLERS["single"]), progress)
    assert rows(memory) + rows(rest) == rows(run(algorithm(SAMPLERS["single"]))[1])


def test_a_finished_run_does_nothing_more():
    progress, _ = run(algorithm(SAMPLERS["single"]), iterations=2)
    again, memory = run(algorithm(SAMPLERS["single"]), progress, iterations=2)
    assert again is progress and memory.order == []


def test_a_worker_that_records_nothing_computes_the_same():
    subject = algorithm(SAMPLERS["single"])
    quiet = train(subject, Progress(0, 0, 0.0, subject.initial()), N, 1, Group(), None, lambda: False)
    assert torch.equal(quiet.state["theta"], run(subject)[0].state["theta"])


@pytest.mark.parametrize("line_search", ["boundary", "halving"])
@pytest.mark.parametrize("kind", ["single", "vine"])
def test_trpo_learns_to_hold_the_point(kind: str, line_search: str):
    sampler = single(n_paths=32) if kind == "single" else vine(n_states=60, n_actions=4, branch_length=8)
    _, memory = run(algorithm(sampler, kl_limit=0.05, line_search=line_search), iterations=15)
    scores = [row["collect/score"] for row in memory.rows]
    assert scores[0] < 0.35 and min(scores[-3:]) > scores[0] + 0.2
    assert all(row["update/mean_kl"] <= 0.05 for row in memory.rows)
