"""How runs become curves: seeds, variants, sweeps, means."""

import json
from dataclasses import replace

import numpy as np
import pytest
from run_directories import MakeRun, only

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import best_of_sweeps, group_into_curves, mean_and_error
from trpo_cli.reports.read_runs import find_runs


def test_the_band_is_the_standard_error_of_the_seeds_that_got_there():
    mean, error = mean_and_error(np.array([[1.0, 5.0, 7.0], [3.0, 5.0, np.nan]]))
    np.testing.assert_allclose(mean, [2.0, 5.0, 7.0])
    np.testing.assert_allclose(error, [1.0, 0.0, 0.0])  # std of (1, 3) is √2, over √2 seeds
    three = np.array([[0.0], [1.0], [5.0]])
    np.testing.assert_allclose(mean_and_error(three)[1], three.std(ddof=1) / np.sqrt(3))


def test_settings_that_differ_make_a_variant_and_the_experiment_with_most_methods_is_the_plain_one(make_run: MakeRun):
    for seed in (0, 1):
        make_run(name="authors_slack", seed=seed, kl_slack=2.0)  # first in the alphabet
        make_run(name="fig4", seed=seed)
    root = make_run(name="fig4", method="trpo-vine").parents[4]
    found = {curve.label: [run.name for run in curve.runs] for curve in group_into_curves(find_runs([root]))}
    assert found == {
        "single_path": ["fig4", "fig4"],
        "single_path[kl_slack=2]": ["authors_slack", "authors_slack"],
        "vine": ["fig4"],
    }


def test_a_run_of_an_older_format_is_refused_with_the_script_that_rewrites_it(make_run: MakeRun):
    directory = make_run()
    description = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps(description | {"format": 1}))
    with pytest.raises(ConfigError, match=r"run\.json has format 1: rewrite it with scripts/rewrite_runs"):
        find_runs([directory])


def test_workers_seed_and_name_do_not_make_a_variant(make_run: MakeRun):
    make_run(seed=0, name="a")
    root = make_run(seed=1, name="b").parents[4]
    curve = only(group_into_curves(find_runs([root])))
    assert [run.seed for run in curve.runs] == [0, 1] and curve.changes == {}


def test_within_an_experiment_the_settings_with_most_seeds_are_the_main_ones(make_run: MakeRun):
    make_run(seed=0)
    for seed in (1, 2):
        root = make_run(seed=seed, kl_slack=2.0).parents[4]
    found = {curve.label: len(curve.runs) for curve in group_into_curves(find_runs([root]))}
    assert found == {"single_path": 2, "single_path[kl_slack=1]": 1}


def test_the_steps_of_a_curve_are_the_mean_over_its_seeds(make_run: MakeRun):
    make_run(seed=0)
    curve = only(group_into_curves(find_runs([make_run(seed=1).parents[4]])))
    one, other = curve.runs
    rows = [row | {"sim_steps_total": 3 * row["sim_steps_total"]} for row in other.rows]
    np.testing.assert_array_equal(
        replace(curve, runs=(one, replace(other, rows=rows))).x("sim_steps"), [1000, 2000, 3000]
    )


def test_of_two_runs_of_a_seed_the_longer_one_counts(make_run: MakeRun):
    for name, n in (("a", 2), ("b", 4), ("c", 3)):
        root = make_run(name=name, scores=[1.0] * n).parents[4]
    assert [run.name for run in only(group_into_curves(find_runs([root]))).runs] == ["b"]


def test_of_a_sweep_the_best_final_score_stands_for_the_method(make_run: MakeRun):
    for penalty, final in ((3.0, 1.0), (0.3, 8.0), (0.03, 4.0)):
        path = make_run(
            method="natural_gradient-single", name=f"ng{penalty}", scores=[0.0, *[final] * 5], penalty=penalty
        )
    plotted, others = best_of_sweeps(group_into_curves(find_runs([path.parents[4]])), "collect/score")
    assert only(plotted).label == "natural_gradient"
    assert only(plotted).runs[0].settings["optimizer.penalty"] == 0.3
    assert sorted(curve.runs[0].settings["optimizer.penalty"] for curve in others) == [0.03, 3.0]


def test_a_final_score_is_the_mean_of_the_last_five_iterations_of_the_finished_seeds(make_run: MakeRun):
    make_run(seed=0, scores=[100.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    make_run(seed=1, scores=[50.0], iterations=6, finished=False)
    root = make_run(seed=2, scores=[50.0, 50.0]).parents[4]  # asked for less than the others
    curve = only(group_into_curves(find_runs([root])))
    assert curve.progress == "unfinished: 1, 2 of 6"
    np.testing.assert_array_equal(curve.finals("collect/score"), [3.0])
