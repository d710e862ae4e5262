"""Any runs side by side."""

import re
import shutil
from pathlib import Path

import pytest
from run_directories import MakeRun, read_csv

from trpo_cli.cli.report import main
from trpo_cli.reports import compare
from trpo_cli.reports.read_runs import find_runs


def test_compare_names_each_group_by_the_keys_that_differ(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for seed in (0, 1):
        make_run(name="a", seed=seed, scores=[0.0, 1.0])
        make_run(name="b", seed=seed, scores=[0.0, 3.0], kl_slack=2.0)
    root = make_run(name="a", method="cem-single").parents[4]
    assert main(["compare", str(root), "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "compare.csv")
    last = {row["group"]: (row["n_seeds"], row["mean"]) for row in rows if row["iteration"] == "1"}
    assert last["single_path kl_slack=1"] == ("2", "1.0")
    assert last["single_path kl_slack=2"] == ("2", "3.0")
    assert last["cem"][0] == "1"
    assert (tmp_path / "compare.png").exists() and (tmp_path / "profile.png").exists()
    finals, rivals = capsys.readouterr().out.split("\n\n")
    assert "| collect/score (last 5) | error |" in finals.splitlines()[0]
    assert re.search(r"single_path kl_slack=2 +\| 2 +\| 2 +\| 1.5 +\| 0 +\| 1.5 +\| 1.5 to 1.5 +\|", finals)
    assert re.search(r"cem +\| 1 +\| 3 +\| 2 +\| – +\| 2 +\| one seed +\|", finals)
    assert re.search(r"single_path kl_slack=2 +\| single_path kl_slack=1 +\| 1.00 +\| 0.38 to 1.00 +\|", rivals)


def test_compare_tells_experiments_apart_by_name_where_nothing_else_does(make_run: MakeRun):
    make_run(name="before")
    root = make_run(name="after").parents[4]
    names = {compare.group_name(group) for group in compare.group_runs(find_runs([root]))}
    assert names == {"single_path name=before", "single_path name=after"}


def test_a_backup_is_no_second_seed(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = make_run()
    shutil.copytree(run, run.with_name("backup"))
    assert main(["compare", str(run.parents[4]), "--out", str(tmp_path)]) == 0
    table, left_out = capsys.readouterr().out.split("\n\n")
    assert re.search(r"single_path +\| 1 +\| 3 +\|", table)
    assert left_out == f"{run.with_name('backup')} is a copy of {run} and does not count.\n"


def test_seeds_without_a_value_at_their_end_are_left_out(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for seed, score in enumerate((1.0, None, 3.0)):
        directory = make_run(seed=seed, scores=[9.0] + [score] * 5)
    assert main(["compare", str(directory.parents[4]), "--out", str(tmp_path / "a")]) == 0
    assert re.search(r"single_path +\| 3 +\| 6 +\| 2 +\| 1 +\| 2 +\| -7.168 to 11.17 +\|", capsys.readouterr().out)
    for seed in (7, 8):
        directory = make_run(method="cem-single", seed=seed, scores=[1.0] + [None] * 6)
    assert main(["compare", str(directory.parents[4]), "--out", str(tmp_path / "b")]) == 0
    assert re.search(r"cem +\| 2 +\| 7 +\| – +\| – +\| – +\| – +\|", capsys.readouterr().out)
