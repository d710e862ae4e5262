"""Laws of the table that ends a sweep: every job once, with what its run directory says."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from run_directories import write_run

from trpo_cli.cli.sweep_table import Job, Ledger, final_score, table, what_is_missing
from trpo_cli.reports import curves
from trpo_cli.reports.curves import Curve
from trpo_cli.reports.read_runs import find_runs
from trpo_cli.runs.files import LAST, final_words, score_is_shown

OPTIONS = {"env": "cartpole", "sampler": "single", "optimizer": "trpo"}


def run(folder: Path, name: str, scores: Sequence[float | None], end: str = "") -> str:
    """A run directory with these scores, and a row that is being written."""
    directory = folder / name
    directory.mkdir()
    values = [(score, None if score is None else 100 * score) for score in scores]
    columns = ({"collect/score": score, "collect/episode_return": paid} for score, paid in values)
    rows = [json.dumps({"iteration": i, **those}) + "\n" for i, those in enumerate(columns)]
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
        ["job", "state", "return", "(last", "5)", "score", "(last", "5)", "iterations", "directory"],
        ["env=cartpole", "sampler=vine", "finished", "250", "2.5", "6", str(tmp_path / "a")],
        ["env=hopper", "sampler=vine", "failed", "50", "0.5", "1", str(tmp_path / "b")],
        ["env=hopper", "sampler=single", "refused", "-", "-", "-", "-"],
    ]


def test_seeds_of_one_setting_are_averaged_and_the_best_stands_first(tmp_path: Path):
    jobs = [
        Job([f"env={env}", f"seed={seed}"], run(tmp_path, f"{env}{seed}", [score]), status)
        for env, seed, score, status in (("a", 0, 1.0, 0), ("a", 1, 3.0, 0), ("b", 0, 7.0, 0), ("b", 1, 100.0, 1))
    ]
    assert [line.split() for line in table(jobs).splitlines()[-3:]] == [
        [
            "setting",
            "seeds",
            "mean",
            "return",
            "(last",
            "5)",
            "±",
            "standard",
            "error",
            "mean",
            "score",
            "(last",
            "5)",
            "±",
            "standard",
            "error",
        ],
        ["env=b", "1", "700", "7"],  # the seed that failed does not count
        ["env=a", "2", "200", "±", "1e+02", "2", "±", "1"],  # √2 / √2
    ]


def test_where_a_score_says_nothing_the_return_stands_alone(tmp_path: Path):
    jobs = []
    for seed in (0, 1):
        directory = run(tmp_path, f"g{seed}", [1.0 + 2 * seed])
        (Path(directory) / "run.json").write_text('{"options": {"env": "hopper_v5"}}')
        jobs.append(Job([f"seed={seed}"], directory, 0))
    header, *_, means, line = table(jobs).splitlines()
    assert "score" not in header + means and line.split() == ["all", "2", "200", "±", "1e+02"]


def test_a_final_value_is_the_same_everywhere(tmp_path: Path):
    assert LAST == curves.LAST
    rows = [{"collect/score": score, "collect/episode_return": 10 * score} for score in (9.0, 1.0, 2.0, 3.0, 4.0, 5.0)]
    assert final_words(rows, True) == "return 30, score 3 (mean of the last 5 iterations)"
    assert final_words(rows, False) == "return 30 (mean of the last 5 iterations)"
    assert final_words([], True) == "return -, score - (mean of the last 5 iterations)"
    for option in ("cartpole", "hopper", "hopper_v5", "gymnasium", "atari", "atari/pong", "lander"):
        directory = write_run(tmp_path / option.replace("/", "_"), options=OPTIONS | {"env": option})
        (found,) = find_runs([directory])
        assert found.paid_per_step is score_is_shown(option) is (option in ("cartpole", "hopper", "lander"))


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
    assert lines == [["a=1", "failed", "-", "-", "-", "-"], ["a=2", "finished", "300", "3", "1", str(tmp_path / "b")]]


def test_one_setting_written_in_two_ways_is_one_run(tmp_path: Path):
    directory = run(tmp_path, "a", [3.0])
    same = Job(["policy.initial_std=0.5"], directory, 0)
    assert len(table([same, same]).splitlines()) == 3  # no means: there is one seed
    other = Job(["policy.initial_std=0.5", "seed=1"], run(tmp_path, "b", [5.0]), 0)
    assert table([same, same, other]).splitlines()[-1].split() == [
        "policy.initial_std=0.5",
        "2",
        "400",
        "±",
        "1e+02",
        "4",
        "±",
        "1",
    ]


def test_the_same_command_is_only_told_to_help_jobs_that_it_helps():
    refused, failed, finished = (Job(["a=1"], "x", status) for status in (2, 1, 0))
    again = "the same command runs the missing jobs"
    assert what_is_missing([failed, finished]) == f"not every job of the sweep has finished; {again}"
    told = "2 of 3 jobs of the sweep are refused, for the reasons above; they need other words"
    assert what_is_missing([refused, refused, finished]) == told
    assert what_is_missing([refused, refused, failed]) == f"{told}. {again.capitalize()}"
