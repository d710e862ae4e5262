"""Figure 4: its numbers beside the published ones, and its drawings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from run_directories import MakeRun, only, read_csv

from trpo_cli.cli.report import main
from trpo_cli.reports import figure4
from trpo_cli.reports.curves import group_into_curves
from trpo_cli.reports.figure4_variants import draw_variants
from trpo_cli.reports.paper import METHODS, TASKS, published_curves
from trpo_cli.reports.read_runs import find_runs


def published_run(make_run: MakeRun, task: str, method: str, shift: float = 0.0, **more: Any) -> Path:
    iterations, scores = published_curves()[task, method]
    dense = np.interp(np.arange(iterations.max() + 1), iterations, scores)
    shifted = np.concatenate([dense[:1], dense[1:] + shift])
    directory = {"single_path": "trpo-single", "vine": "trpo-vine"}.get(method, f"{method}-single")
    return make_run(task, directory, scores=shifted.tolist(), **more)


def test_the_published_curves_come_with_the_package():
    published = published_curves()
    assert len(published) == 25
    assert published["cartpole", "cem"][1][0] == pytest.approx(0.11315)
    assert {task for task, _ in published} == set(TASKS)
    assert {method for _, method in published} == set(METHODS)


@pytest.mark.parametrize(("shift", "difference", "shortfall"), [(0.0, 0.0, 0.0), (-0.5, 0.49, 0.5), (0.5, 0.49, 0.0)])
def test_the_summary_compares_with_the_published_curve(
    make_run: MakeRun, shift: float, difference: float, shortfall: float
):
    run = published_run(make_run, "cartpole", "vine", shift)
    line = figure4.summarise(only(group_into_curves(find_runs([run]))), published_curves()["cartpole", "vine"])
    assert line.difference == pytest.approx(difference, abs=1e-9)  # 49 of 50 iterations are shifted
    assert line.shortfall is not None and line.shortfall[0] == pytest.approx(shortfall, abs=1e-9)
    assert line.start == pytest.approx(0.146, abs=1e-3)
    assert line.steps_per_iteration == 500


def test_a_gap_in_the_digitised_curve_is_interpolated(make_run: MakeRun):
    run = published_run(make_run, "walker", "cem")
    line = figure4.summarise(only(group_into_curves(find_runs([run]))), published_curves()["walker", "cem"])
    assert line.difference == pytest.approx(0.0, abs=1e-12) and len(line.curve.runs[0].rows) == 200


def test_the_drawing_shows_our_mean_solid_and_the_published_curve_dashed_in_one_colour(make_run: MakeRun):
    make_run("cartpole", "trpo-vine", seed=0, scores=[1.0, 2.0])
    root = make_run("cartpole", "trpo-vine", seed=1, scores=[3.0, 2.0]).parents[4]
    published = published_curves()
    axes = only(figure4.draw(group_into_curves(find_runs([root])), published, "iterations").axes)
    ours = only([line for line in axes.lines if line.get_linestyle() == "-"])
    np.testing.assert_array_equal(ours.get_ydata(), [2.0, 2.0])
    same_colour = [line for line in axes.lines if line is not ours and line.get_color() == ours.get_color()]
    np.testing.assert_array_equal(only(same_colour).get_ydata(), published["cartpole", "vine"][1])
    assert only(same_colour).get_linestyle() == "--" and only(same_colour).get_zorder() <= ours.get_zorder()
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(1.0) and band[:, 1].max() == pytest.approx(3.0)
    assert axes.get_xlim() == (0, 50) and axes.get_ylim()[0] <= 0 and axes.get_ylim()[1] >= 10


def test_an_unfinished_run_is_labelled_with_the_iteration_it_reached(make_run: MakeRun):
    make_run("hopper", seed=0, scores=[0.0] * 7, iterations=200, finished=False)
    root = make_run("hopper", seed=1, scores=[0.0] * 200).parents[4]
    axes = only(figure4.draw(group_into_curves(find_runs([root])), published_curves(), "iterations").axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "Single path (2 seeds)\nunfinished: 7 of 200" in labels


def test_the_drawing_against_steps_has_them_on_its_axis(make_run: MakeRun):
    axes = only(figure4.draw(group_into_curves(find_runs([make_run(scores=[1.0, 2.0, 3.0])])), {}, "sim_steps").axes)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [500, 1000, 1500])


def test_figure4_writes_pictures_and_the_numbers_behind_them(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_run("cartpole", "trpo-single", seed=7, scores=[0.1, 0.2])
    root = make_run("walker", "trpo-vine", scores=[0.0, 0.5]).parents[4]
    out = tmp_path / "deep" / "out"
    assert main(["figure4", str(root), "--out", str(out)]) == 0
    rows = read_csv(out / "figure4.csv")
    assert list(rows[0]) == ["task", "method", "seed", "iteration", "sim_steps", "score"]
    assert [list(row.values()) for row in rows[:2]] == [
        ["cartpole", "single_path", "7", "0", "500", "0.1"],
        ["cartpole", "single_path", "7", "1", "1000", "0.2"],
    ]
    for name in ("figure4.png", "figure4_sim_steps.png"):
        assert len(np.unique(imread(out / name)[..., 0])) > 20  # not a blank page
    assert "| cartpole | single_path | 1 " in capsys.readouterr().out


def test_figure4_says_what_the_vine_pays_and_draws_what_was_asked_for(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_run("cartpole", "trpo-single")
    make_run("hopper", "trpo-single")
    root = make_run("cartpole", "trpo-vine").parents[4]
    asked = ["--against", "sim_steps", "--task", "cartpole"]
    assert main(["figure4", str(root), "--out", str(tmp_path), *asked]) == 0
    printed = capsys.readouterr().out
    assert "cartpole: an iteration of the vine simulates 1.00 times the steps of single path." in printed
    assert "hopper" not in printed
    assert (tmp_path / "figure4_sim_steps.png").exists() and not (tmp_path / "figure4.png").exists()


def test_other_settings_of_a_method_stand_in_a_figure_of_their_own(make_run: MakeRun, tmp_path: Path):
    make_run("cartpole", "max_kl-single", scores=[1.0, 2.0])
    make_run("cartpole", "trpo-vine", scores=[1.0, 2.0])
    settings = {"optimizer": {"kl_limit": 0.03}}
    root = make_run("cartpole", "max_kl-single", name="loose", scores=[1.0, 3.0], settings=settings).parents[4]
    curves = group_into_curves(find_runs([root]))
    panel = only(figure4.draw(curves, {}, "iterations").axes)
    assert [line.get_ydata()[-1] for line in panel.lines] == [2.0, 2.0]
    published = published_curves()
    figure = draw_variants(curves, published)
    assert figure is not None
    axes = only(figure.axes)
    assert axes.get_title() == "Cart-pole: Max KL"
    assert [line.get_ydata()[-1] for line in axes.lines] == [published["cartpole", "max_kl"][1][-1], 2.0, 3.0]
    assert "kl_limit=0.03 (1 seed)" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert draw_variants([curve for curve in curves if not curve.changes], published) is None
