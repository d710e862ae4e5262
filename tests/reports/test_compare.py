"""Any runs side by side."""

from pathlib import Path

import numpy as np
import pytest
from run_directories import MakeRun, read_csv

from trpo_cli.cli.report import main
from trpo_cli.reports import compare
from trpo_cli.reports.read_runs import find_runs


def test_the_bootstrap_interval_is_that_of_the_mean():
    table = np.random.default_rng(0).normal(5.0, 2.0, size=(400, 1))
    mean, low, high = (float(value[0]) for value in compare.bootstrap(table))
    error = table.std() / 20
    assert mean == pytest.approx(table.mean())
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)


def test_compare_names_each_group_by_the_keys_that_differ(make_run: MakeRun, tmp_path: Path):
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
    assert (tmp_path / "compare.png").exists()


def test_compare_tells_experiments_apart_by_name_where_nothing_else_does(make_run: MakeRun):
    make_run(name="before")
    root = make_run(name="after").parents[4]
    names = {compare.group_name(group) for group in compare.group_runs(find_runs([root]))}
    assert names == {"single_path name=before", "single_path name=after"}
