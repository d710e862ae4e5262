"""Laws of the table that ends a sweep: every job once, with what its run directory says."""

import json
from pathlib import Path

from trpo_cli.cli.sweep_table import Job, Ledger, final_score, table


def run(folder: Path, name: str, scores: list[float], end: str = "") -> str:
    """A run directory with these scores, and a row that is being written."""
    directory = folder / name
    directory.mkdir()
    rows = [json.dumps({"iteration": i, "collect/score": score}) + "\n" for i, score in enumerate(scores)]
    (directory / "progress.jsonl").write_text("".join(rows) + end)
    return str(directory)


def test_each_job_is_a_line_with_its_state_score_and_iterations(tmp_path: Path):
    jobs = [
        Job(["env=cartpole", "sampler=vine"], run(tmp_path, "a", [1.0, 2.5]), 0),
        Job(["env=hopper", "sampler=vine"], run(tmp_path, "b", [0.5], '{"iteration": 1, "coll'), 1),
        Job(["env=hopper", "sampler=single"], str(tmp_path / "never"), 2),
    ]
    lines = [line.split() for line in table(jobs).splitlines()]
    assert lines == [
        ["job", "state", "score", "iterations", "directory"],
        ["env=cartpole", "sampler=vine", "finished", "2.5", "2", str(tmp_path / "a")],
        ["env=hopper", "sampler=vine", "failed", "0.5", "1", str(tmp_path / "b")],
        ["env=hopper", "sampler=single", "refused", "-", "-", "-"],
    ]


def test_seeds_of_one_setting_are_averaged_and_the_best_stands_first(tmp_path: Path):
    jobs = [
        Job([f"env={env}", f"seed={seed}"], run(tmp_path, f"{env}{seed}", [score]), status)
        for env, seed, score, status in (("a", 0, 1.0, 0), ("a", 1, 3.0, 0), ("b", 0, 7.0, 0), ("b", 1, 100.0, 1))
    ]
    assert [line.split() for line in table(jobs).splitlines()[-3:]] == [
        ["setting", "seeds", "mean", "final", "score"],
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


def test_the_final_score_is_the_last_rows(tmp_path: Path):
    assert final_score(Path(run(tmp_path, "a", [1.0, 4.0], '{"iter'))) == 4.0
    assert final_score(Path(run(tmp_path, "b", []))) is None and final_score(tmp_path / "none") is None
