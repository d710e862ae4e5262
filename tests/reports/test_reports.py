"""Reports from run directories: what is read, how runs become curves, and the numbers and pictures that come out."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_hex
from matplotlib.image import imread

from trpo_cli.cli.report import _parser, main
from trpo_cli.errors import ConfigError
from trpo_cli.reports import compare, figure4, table3, theory
from trpo_cli.reports.curves import best_of_sweeps, curves, mean_and_error
from trpo_cli.reports.records import records
from trpo_cli.reports.runs import find_runs, flat

MakeRun = Callable[..., Path]

SAMPLERS = {
    "single": {"gamma": 0.99, "n_paths": 64, "steps_per_iteration": None},
    "vine": {"gamma": 0.99, "n_trunks": 2, "n_states": 125, "n_actions": 4, "branch_length": 100},
}


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A function that writes one run directory below ``tmp_path / "outputs"`` and returns it."""

    def make(
        env: str = "cartpole",
        method: str = "trpo-single",
        seed: int = 0,
        scores: Sequence[float] = (1.0, 2.0, 3.0),
        finished: bool = True,
        name: str = "fig4",
        iterations: int | None = None,
        **optimizer: Any,
    ) -> Path:
        directory = tmp_path / "outputs" / name / env / method / f"seed{seed}"
        (directory / ".hydra").mkdir(parents=True)
        config = {
            "seed": seed,
            "name": name,
            "iterations": len(scores) if iterations is None else iterations,
            "workers": seed + 1,
        }
        identity = {
            "seed": seed,
            "step_limit": 1000,
            "env": {"_target_": "trpo_cli.sims.X"},
            "policy": {"hidden_sizes": [50, 50]},
            "sampler": SAMPLERS[method.rpartition("-")[2]],
            "optimizer": {"kl_limit": 0.01, "kl_slack": 1.0, **optimizer},
        }
        (directory / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
        info = {"n_parameters": 3356, "obs_dim": 11, "state_dim": 12, "action_dim": 3}
        machine = {"workers": seed + 1, "processor": "Some CPU", "cores": 2}
        (directory / "run.json").write_text(json.dumps({"format": 2, **info, **machine, "identity": identity}))
        rows = [
            {
                "iteration": i,
                "sim_steps_total": 500 * (i + 1),
                "time_s": 60.0 * (i + 1),
                "collect/score": score,
                "collect/sim_steps": 500,
                "collect/n_episodes": 64,
                "update/mean_kl": 0.009 + 0.0001 * i,
            }
            for i, score in enumerate(scores)
        ]
        (directory / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if finished:
            (directory / "done.json").write_text("{}")
        return directory

    return make


def only(found: Sequence[Any]) -> Any:
    assert len(found) == 1
    return found[0]


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_run_is_read_with_its_task_method_seed_and_rows(make_run: MakeRun):
    directory = make_run("walker", "natural_gradient-single", seed=3, scores=[0.5, 0.75])
    run = only(find_runs([directory.parents[4]]))
    assert (run.task, run.method, run.seed, run.name, run.planned) == ("walker", "natural_gradient", 3, "fig4", 2)
    assert run.finished
    np.testing.assert_array_equal(run.column("collect/score"), [0.5, 0.75])
    assert np.isnan(run.column("no such column")).all()


@pytest.mark.parametrize(
    ("directory", "method"),
    [
        ("trpo-single", "single_path"),
        ("trpo-vine", "vine"),
        ("max_kl-single", "max_kl"),
        ("natural_gradient-vine", "natural_gradient_vine"),
        ("cem-vine", "cem"),
    ],
)
def test_methods_are_named_as_in_the_published_csv(make_run: MakeRun, directory: str, method: str):
    assert only(find_runs([make_run(method=directory)])).method == method


def test_a_run_continued_elsewhere_names_both_machines_and_times_each_by_itself(make_run: MakeRun):
    directory = make_run(scores=[1.0, 2.0, 3.0, 4.0])
    description = json.loads((directory / "run.json").read_text()) | {
        "command": "trpo-train seed=0",
        "commit": "a" * 40,
    }
    elsewhere = {"iteration": 3, "workers": 16, "cores": 16, "device": "Some GPU", "command": "trpo-train device=cuda"}
    (directory / "run.json").write_text(json.dumps(description | {"continued": [elsewhere]}))
    rows = [json.loads(line) for line in (directory / "progress.jsonl").read_text().splitlines()]
    for row, seconds in zip(rows, (60.0, 120.0, 180.0, 190.0), strict=True):
        row["time_s"] = seconds
    (directory / "progress.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = only(curves(find_runs([directory])))
    assert [(part.rows, part.info["workers"]) for part in found.runs[0].parts] == [(range(3), 1), (range(3, 4), 16)]
    line = records([found]).splitlines()[-1]
    assert "`trpo-train`, then `trpo-train device=cuda`" in line and line.count("a" * 10) == 1
    assert "Some CPU, 1 workers, Some CPU, 16 workers and one Some GPU" in line
    assert table3._seconds(found) == "60 / 10" and table3._workers(found) == "1 workers / 16 workers and one Some GPU"
    assert table3._hours_on_many_cores(found) == "0.5 / 1.4"  # 500 · 60 s / 16 and 500 · 10 s


def test_a_row_cut_off_in_the_middle_is_not_a_row(make_run: MakeRun):
    directory = make_run(scores=[1.0, 2.0], finished=False)
    with (directory / "progress.jsonl").open("a") as file:
        file.write('{"iteration": 2, "collect/sc')
    run = only(find_runs([directory]))
    assert len(run.rows) == 2 and not run.finished


def test_a_run_given_twice_counts_once_and_one_without_rows_not_at_all(make_run: MakeRun):
    directory = make_run(seed=0)
    (make_run(seed=1) / "progress.jsonl").write_text("")
    assert [run.seed for run in find_runs([directory, directory.parent])] == [0]


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
    found = {curve.label: [run.name for run in curve.runs] for curve in curves(find_runs([root]))}
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
    curve = only(curves(find_runs([root])))
    assert [run.seed for run in curve.runs] == [0, 1] and curve.changes == {}


def test_of_a_sweep_the_best_final_score_stands_for_the_method(make_run: MakeRun):
    for penalty, final in ((3.0, 1.0), (0.3, 8.0), (0.03, 4.0)):
        path = make_run(
            method="natural_gradient-single", name=f"ng{penalty}", scores=[0.0, *[final] * 5], penalty=penalty
        )
    plotted, others = best_of_sweeps(curves(find_runs([path.parents[4]])), "collect/score")
    assert only(plotted).label == "natural_gradient"
    assert only(plotted).runs[0].settings["optimizer.penalty"] == 0.3
    assert sorted(curve.runs[0].settings["optimizer.penalty"] for curve in others) == [0.03, 3.0]


def test_a_final_score_is_the_mean_of_the_last_five_iterations_of_the_finished_seeds(make_run: MakeRun):
    make_run(seed=0, scores=[100.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    make_run(seed=1, scores=[50.0], iterations=6, finished=False)
    root = make_run(seed=2, scores=[50.0, 50.0]).parents[4]  # asked for less than the others
    curve = only(curves(find_runs([root])))
    assert curve.progress == "unfinished: 1, 2 of 6"
    np.testing.assert_array_equal(curve.finals("collect/score"), [3.0])


def published_run(make_run: MakeRun, task: str, method: str, shift: float = 0.0, **more: Any) -> Path:
    iterations, scores = figure4.published_curves()[task, method]
    dense = np.interp(np.arange(iterations.max() + 1), iterations, scores)
    shifted = np.concatenate([dense[:1], dense[1:] + shift])
    directory = {"single_path": "trpo-single", "vine": "trpo-vine"}.get(method, f"{method}-single")
    return make_run(task, directory, scores=shifted.tolist(), **more)


def test_the_published_curves_come_with_the_package():
    published = figure4.published_curves()
    assert len(published) == 25
    assert published["cartpole", "cem"][1][0] == pytest.approx(0.11315)
    assert {task for task, _ in published} == set(figure4.TASKS)
    assert {method for _, method in published} == set(figure4.METHODS)


@pytest.mark.parametrize(("shift", "difference", "shortfall"), [(0.0, 0.0, 0.0), (-0.5, 0.49, 0.5), (0.5, 0.49, 0.0)])
def test_the_summary_compares_with_the_published_curve(
    make_run: MakeRun, shift: float, difference: float, shortfall: float
):
    run = published_run(make_run, "cartpole", "vine", shift)
    line = figure4.summarise(only(curves(find_runs([run]))), figure4.published_curves()["cartpole", "vine"])
    assert line.difference == pytest.approx(difference, abs=1e-9)  # 49 of 50 iterations are shifted
    assert line.shortfall is not None and line.shortfall[0] == pytest.approx(shortfall, abs=1e-9)
    assert line.start == pytest.approx(0.146, abs=1e-3)
    assert line.steps_per_iteration == 500


def test_a_gap_in_the_digitised_curve_is_interpolated(make_run: MakeRun):
    run = published_run(make_run, "walker", "cem")
    line = figure4.summarise(only(curves(find_runs([run]))), figure4.published_curves()["walker", "cem"])
    assert line.difference == pytest.approx(0.0, abs=1e-12) and len(line.curve.runs[0].rows) == 200


def test_the_drawing_shows_our_mean_solid_and_the_published_curve_dashed_in_one_colour(make_run: MakeRun):
    make_run("cartpole", "trpo-vine", seed=0, scores=[1.0, 2.0])
    root = make_run("cartpole", "trpo-vine", seed=1, scores=[3.0, 2.0]).parents[4]
    published = figure4.published_curves()
    axes = only(figure4._draw(curves(find_runs([root])), published).axes)
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
    axes = only(figure4._draw(curves(find_runs([root])), figure4.published_curves()).axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "Single path (2 seeds)\nunfinished: 7 of 200" in labels


def test_the_drawing_against_steps_has_them_on_its_axis(make_run: MakeRun):
    axes = only(figure4._draw_against_steps(curves(find_runs([make_run(scores=[1.0, 2.0, 3.0])]))).axes)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [500, 1000, 1500])


def test_a_variant_has_its_methods_colour_and_another_line(make_run: MakeRun):
    make_run(name="fig4")
    root = make_run(name="slack", kl_slack=2.0).parents[4]
    make_run(name="fig4", method="trpo-vine")
    axes = only(figure4._draw_against_steps(curves(find_runs([root]))).axes)
    red = [line for line in axes.lines if to_hex(line.get_color()) == to_hex("tab:red")]
    assert sorted(line.get_linestyle() for line in red) == ["-", "-."]


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


def test_table2_sets_the_paper_beside_settings_and_measurements(make_run: MakeRun, tmp_path: Path):
    make_run("hopper", "trpo-single", scores=[0.0] * 4)
    root = make_run("hopper", "trpo-vine", scores=[0.0] * 2, iterations=200, finished=False).parents[4]
    assert main(["table2", str(root), "--out", str(tmp_path)]) == 0
    rows = {row["row"]: row for row in read_csv(tmp_path / "table2.csv")}

    def hopper(label: str) -> tuple[str, str, str]:
        (row,) = (row for name, row in rows.items() if name.startswith(label))
        return row["hopper: paper"], row["hopper: configured"], row["hopper: measured"]

    assert hopper("State space") == ("12", "–", "12")
    assert hopper("Total num.") == ("4806", "–", "3356")
    assert hopper("SP: sim. steps") == ("1M", "64K", "500")  # 512 / 8 paths of 1000
    assert hopper("Vine: sim. steps") == ("1M", "52K", "500")  # 2 trunks of 1000, 125 · 4 branches of 100
    assert hopper("Vine: Q-values") == ("2500", "500", "–")
    assert hopper("SP: num. path") == ("1000", "64", "64")
    assert hopper("SP: policy iter.") == ("200", "4", "4")
    assert hopper("Vine: policy iter.") == ("200", "200", "2 (unfinished)")
    assert hopper("SP: stepsize") == ("0.01", "0.01", "mean 0.0091, max 0.0093")
    assert hopper("SP: computation time") == ("35", "–", "4")
    assert hopper("Hidden") == ("50", "50, 50", "–")
    assert rows["State space dim. [a]"]["walker: paper"] == "20"
    assert rows["State space dim. [a]"]["walker: measured"] == "–"
    text = (tmp_path / "table2.md").read_text()
    assert "[a] Section 8.1 gives the walker 18" in text and "Some CPU, 2 cores, 1 workers" in text


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
    names = {group.name for group in compare.grouped(find_runs([root]))}
    assert names == {"single_path name=before", "single_path name=after"}


def test_theory_draws_and_finds_the_bound_to_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(theory, "N_PAIRS", 40)
    monkeypatch.setattr(theory, "N_PROBLEMS", 1)
    monkeypatch.setattr(theory, "N_ITERATIONS", 2)
    assert main(["theory", "--out", str(tmp_path), "--seed", "3"]) == 0
    assert "Eq. 9 held for 40 of 40 random pairs" in capsys.readouterr().out
    rows = read_csv(tmp_path / "theory.csv")
    assert len(rows) == 40 and all(float(row["improvement"]) >= float(row["bound"]) for row in rows)
    assert (tmp_path / "theory.png").exists()


def break_a_row(directory: Path) -> None:
    (directory / "progress.jsonl").write_text('{"iteration": 0}\nnot json\n')


def remove_the_config(directory: Path) -> None:
    (directory / ".hydra" / "config.yaml").unlink()


def empty_the_config(directory: Path) -> None:
    (directory / ".hydra" / "config.yaml").write_text("a: 1\n")


def break_the_description(directory: Path) -> None:
    (directory / "run.json").write_text("{")


def rename_the_method(directory: Path) -> None:
    directory.parent.rename(directory.parent.with_name("trpo"))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (break_a_row, "line 2 is not JSON"),
        (remove_the_config, "cannot read"),
        (empty_the_config, "lacks seed and iterations"),
        (break_the_description, "run.json"),
        (rename_the_method, "does not end in <env>/<optimizer>-<sampler>/seed<seed>"),
    ],
)
def test_a_run_that_cannot_be_read_is_named(make_run: MakeRun, spoil: Callable[[Path], None], sentence: str):
    directory = make_run()
    root = directory.parents[4]
    spoil(directory)
    with pytest.raises(ConfigError, match=sentence):
        find_runs([root])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["figure4", "nowhere", "--out", "out"], "nowhere is not a directory"),
        (["figure4", ".", "--out", "out", "--task", "walker"], "no run is of a task of Figure 4 (walker)"),
        (["table2", ".", "--out", "out"], "no run is TRPO, single path or vine, on a task of Table 2"),
        (["compare", ".", "--out", "out", "--key", "collect/scoer"], "no run has numbers under collect/scoer"),
        (["figure4", ".", "--out", "a_file"], "a_file"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
):
    root = make_run().parents[4]
    (root / "a_file").touch()
    monkeypatch.chdir(root)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_torch_is_not_imported():
    code = "import sys, trpo_cli.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_settings_are_flattened_to_dotted_keys():
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_help_says_what_every_report_is_for_and_shows_commands_that_parse(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    page = capsys.readouterr().out
    assert end.value.code == 0
    examples = [line.split("   ")[0].split()[1:] for line in page.splitlines() if line.startswith("  trpo-report ")]
    assert {words[0] for words in examples} == {"figure4", "figure5", "table2", "compare", "theory"}
    for words in examples:
        assert _parser().parse_args(words).report == words[0]
        assert re.search(rf"^ +{words[0]} +\S+ \S+", page, re.MULTILINE)
