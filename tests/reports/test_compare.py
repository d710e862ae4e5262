"""Any runs side by side."""

import json
import re
import shutil
from pathlib import Path

import pytest
from run_directories import MakeRun, read_csv

from trpo_cli.cli.report import main
from trpo_cli.reports import compare
from trpo_cli.reports.read_runs import find_runs

OPTIONS = {"env": "cartpole", "policy": "mlp", "sampler": "single", "optimizer": "trpo", "critic": "none"}


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
    finals, rivals, written = capsys.readouterr().out.split("\n\n")
    assert "| collect/episode_return (last 5) | collect/score (last 5) | ± standard error |" in finals.splitlines()[0]
    assert re.search(r"single_path kl_slack=2 +\| 2 +\| 2 +\| 1500 +\| 1.5 +\| 0 +\| 1.5 +\| 1.5 to 1.5 +\|", finals)
    assert re.search(r"cem +\| 1 +\| 3 +\| 2000 +\| 2 +\| – +\| 2 +\| one seed +\|", finals)
    files = [str(tmp_path / name) for name in ("compare.csv", "compare.png", "profile.png")]
    assert written == f"Written: {', '.join(files)}\n"
    assert re.search(r"single_path kl_slack=2 +\| single_path kl_slack=1 +\| 1.00 +\| 0.38 to 1.00 +\|", rivals)


def test_compare_tells_experiments_apart_by_name_where_nothing_else_does(make_run: MakeRun):
    make_run(name="before")
    root = make_run(name="after").parents[4]
    names = {compare.group_name(group) for group in compare.group_runs(find_runs([root]))}
    assert names == {"single_path name=before", "single_path name=after"}


def test_how_long_and_where_a_run_was_computed_makes_no_other_group(make_run: MakeRun, tmp_path: Path):
    settings = ("eval: {every: 5, episodes: 3}", "total_steps: 9000\nlogger: {wandb: {project: x}}", "stop_at: 3")
    for seed, more in enumerate(settings):
        config = make_run(seed=seed, scores=[1.0] * (3 + seed), options=OPTIONS) / ".hydra/config.yaml"
        config.write_text(f"{config.read_text()}{more}\ncheckpoint_every: {seed}\n")
    root = config.parents[6]
    (group,) = compare.group_runs(find_runs([root]))
    assert [run.seed for run in group.runs] == [0, 1, 2]
    assert compare._final_line(group, "collect/score", None)[:3] == ["cartpole", "single_path", "3"]


def test_a_run_made_longer_is_shown_with_its_present_number(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = make_run(scores=[1.0] * 40, options=OPTIONS)
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"command": "trpo-train iterations=2"}))
    assert main(["compare", str(run), "--out", str(tmp_path / "out")]) == 0
    assert re.search(r"^\| cartpole \| single_path \| 1 +\| 40 ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("env", ["hopper_v5", "gymnasium", "atari/pong"])
def test_where_a_score_says_nothing_the_return_is_compared(
    env: str, make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = make_run(env=env, options=OPTIONS | {"env": env})
    assert main(["compare", str(run), "--out", str(tmp_path / "out")]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    assert "| collect/episode_return (last 5) | ± standard error |" in header and "score" not in header


def test_steps_are_drawn_on_a_linear_axis(make_run: MakeRun):
    (axes,) = compare._draw(compare.group_runs(find_runs([make_run()])), "collect/score", "sim_steps").axes
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"]])
def test_a_percent_sign_is_shown_as_one(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(words)
    assert "95%" in (text := capsys.readouterr().out) and "%%" not in text


def test_a_backup_is_no_second_seed(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = make_run()
    shutil.copytree(run, run.with_name("backup"))
    assert main(["compare", str(run.parents[4]), "--out", str(tmp_path)]) == 0
    table, left_out, _ = capsys.readouterr().out.split("\n\n")
    assert re.search(r"single_path +\| 1 +\| 3 +\|", table)
    assert left_out == f"{run.with_name('backup')} is a copy of {run} and does not count."


def test_seeds_without_a_value_at_their_end_are_left_out(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for seed, score in enumerate((1.0, None, 3.0)):
        directory = make_run(seed=seed, scores=[9.0] + [score] * 5)
    assert main(["compare", str(directory.parents[4]), "--out", str(tmp_path / "a")]) == 0
    assert re.search(
        r"single_path +\| 3 +\| 6 +\| 2000 +\| 2 +\| 1 +\| 2 +\| -7.168 to 11.17 +\|", capsys.readouterr().out
    )
    for seed in (7, 8):
        directory = make_run(method="cem-single", seed=seed, scores=[1.0] + [None] * 6)
    assert main(["compare", str(directory.parents[4]), "--out", str(tmp_path / "b")]) == 0
    assert re.search(r"cem +\| 2 +\| 7 +\| – +\| – +\| – +\| – +\| – +\|", capsys.readouterr().out)
