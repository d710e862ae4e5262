"""Laws of the table that ends a sweep: every job once, with what its run directory says."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from run_directories import write_run

from trpo_cli.cli.sweep_table import Job, Ledger, final_score, table
from trpo_cli.reports.curves import Curve
from trpo_cli.reports.read_runs import find_runs


def run(folder: Path, name: str, scores: Sequence[float | None], end: str = "") -> str:
    """A run directory with these scores, and a row that is being written."""
    directory = folder / name
    directory.mkdir()
    rows = [json.dumps({"iteration": i, "collect/score": score}) + "\n" for i, score in enumerate(scores)]
    (directory / "progress.jsonl").write_text("".join(rows) + end)
    return str(directory)


def test_each_job_is_a_line_with_its_state_score_and_iterations(tmp_path: Path):
    jobs = [
        Job(["env=cartpole", "sampler=vine"], run(tmp_path, "a", [9.0, 0.5, 2.5, 2.5, 2.5, 4.5]), 0),
        Job(["env=hopper", "sampler=vine"], run(tmp_path, "b", [0.5], '{"iteration": 1, "coll'), 1),
        Job(["env=hopper", "sampler=single"], str(tmp_path / "never"), 2),
    ]
    lines = [line.split() for line in table(jobs).splitlines()]
    assert lines == [
        ["job", "state", "score", "(last", "5)", "iterations", "directory"],
        ["env=cartpole", "sampler=vine", "finished", "2.5", "6", str(tmp_path / "a")],
        ["env=hopper", "sampler=vine", "failed", "0.5", "1", str(tmp_path / "b")],
        ["env=hopper", "sampler=single", "refused", "-", "-", "-"],
    ]


def test_seeds_of_one_setting_are_averaged_and_the_best_stands_first(tmp_path: Path):
    jobs = [
        Job([f"env={env}", f"seed={seed}"], run(tmp_path, f"{env}{seed}", [score]), status)
        for env, seed, score, status in (("a", 0, 1.0, 0), ("a", 1, 3.0, 0), ("b", 0, 7.0, 0), ("b", 1, 100.0, 1))
    ]
    assert [line.split() for line in table(jobs).splitlines()[-3:]] == [
        ["setting", "seeds", "mean", "score", "(last", "5)"],
        ["env=b", "1", "7"],  # the seed that failed does not count
        ["env=a", "2", "2", "±", "1"],  # √2 / √2
    ]


def test_the_ledger_holds_what_jobs_enter_while_it_is_open_and_leaves_nothing():
    job = Job(["seed=0"], None, 2)
    job.add()  # nobody asks
    with Ledger() as ledger:
        job.add()
        Job(["seed=1"], "x", 0).add()
        assert ledger.jobs() == [job, Job(["seed=1"], "x", 0)]
    assert not ledger._path.exists()
    job.add()


def test_the_final_score_is_the_mean_of_the_last_five_iterations_as_in_the_reports(tmp_path: Path):
    scores = [100.0, 1.0, 4.0, None, 2.0, 3.0]
    assert final_score(Path(run(tmp_path, "a", scores, '{"iter'))) == 2.5
    curve = Curve("cartpole", "single_path", {}, tuple(find_runs([write_run(tmp_path, scores=scores)])))
    assert curve.finals("collect/score").tolist() == [2.5]
    assert final_score(Path(run(tmp_path, "b", []))) is None and final_score(tmp_path / "none") is None


@pytest.mark.parametrize("broken", ["x" * 300, "damaged"])
def test_a_job_whose_rows_cannot_be_read_costs_no_other_its_line(broken: str, tmp_path: Path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/progress.jsonl").write_text("no row\n")
    jobs = [Job(["a=1"], str(tmp_path / broken), 1), Job(["a=2"], run(tmp_path, "b", [3.0]), 0)]
    lines = [line.split() for line in table(jobs).splitlines()[1:]]
    assert lines == [["a=1", "failed", "-", "-", "-"], ["a=2", "finished", "3", "1", str(tmp_path / "b")]]


def test_one_setting_written_in_two_ways_is_one_run(tmp_path: Path):
    directory = run(tmp_path, "a", [3.0])
    same = Job(["policy.initial_std=0.5"], directory, 0)
    assert len(table([same, same]).splitlines()) == 3  # no means: there is one seed
    other = Job(["policy.initial_std=0.5", "seed=1"], run(tmp_path, "b", [5.0]), 0)
    assert table([same, same, other]).splitlines()[-1].split() == ["policy.initial_std=0.5", "2", "4", "±", "1"]
