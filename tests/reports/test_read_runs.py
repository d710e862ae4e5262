"""How a run is read from its directory, and what is said if it cannot be."""

import json
import shutil
from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest
import yaml
from run_directories import MakeRun, only, write_run

from trpo_cli.errors import ConfigError
from trpo_cli.reports.curves import Curve
from trpo_cli.reports.read_runs import find_runs, read_run, without_copies


def test_a_run_is_read_with_its_task_method_seed_and_rows(make_run: MakeRun):
    directory = make_run("walker", "natural_gradient-single", seed=3, scores=[0.5, 0.75])
    run = only(find_runs([directory.parents[4]]))
    assert (run.task, run.method, run.seed, run.name, run.planned) == ("walker", "natural_gradient", 3, "fig4", 2)
    assert run.finished
    np.testing.assert_array_equal(run.column("collect/score"), [0.5, 0.75])
    assert np.isnan(run.column("no such column")).all()


@pytest.mark.parametrize(
    ("option", "env", "task"),
    [
        ("hopper", {}, "hopper"),
        ("atari/pong", {"game": "pong"}, "pong"),
        ("gymnasium", {"id": "CartPole-v1"}, "CartPole-v1"),
        ("atari", {"game": "ms_pacman"}, "ms_pacman"),
        ("reacher_v5", {"id": "Reacher-v5"}, "reacher_v5"),
    ],
)
def test_task_method_and_seed_do_not_depend_on_the_names_of_folders(
    make_run: MakeRun, tmp_path: Path, option: str, env: dict[str, str], task: str
):
    options = {"env": option, "optimizer": "max_kl", "sampler": "vine", "critic": "mlp"}
    path = make_run(seed=3, options=options) / ".hydra/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"env": env}))
    run = only(find_runs([path.parents[1].rename(tmp_path / "best")]))
    assert (run.task, run.method, run.seed) == (task, "max_kl_vine_mlp", 3)


def test_a_run_that_was_extended_and_stopped_is_not_finished(make_run: MakeRun):
    directory = make_run(scores=[1.0, 2.0, 3.0])
    for iterations, finished in ((3, True), (2, False)):
        (directory / "done.json").write_text(json.dumps({"iterations": iterations}))
        assert only(find_runs([directory])).finished is finished


def test_copies_are_named_and_count_once(make_run: MakeRun):
    options = {"env": "cartpole", "optimizer": "trpo", "sampler": "single"}
    run, other_name, other_seed, again = (
        make_run(seed=seed, name=name, scores=scores, options=options)
        for seed, name, scores in ((0, "a", [1.0, 2.0, 3.0]), (0, "b", [1.0]), (1, "a", [1.0]), (0, "c", [1.0]))
    )
    copy, backup = run.with_name("seed7"), run.parents[4] / "backup"
    shutil.copytree(run, copy)
    shutil.copytree(run, backup)
    rows = (backup / "progress.jsonl").read_text().splitlines(keepends=True)
    (backup / "progress.jsonl").write_text("".join(rows[:2]))  # of an earlier day
    again.joinpath(".hydra/config.yaml").write_text(run.joinpath(".hydra/config.yaml").read_text())
    again.joinpath("progress.jsonl").write_text(rows[0].replace("60.0", "61.0"))  # the same command, run once more
    found, left_out = without_copies(find_runs([run.parents[4]]))
    assert {one.directory for one in found} == {run, other_name, other_seed}
    assert sorted(left_out) == sorted(
        [
            f"{copy} is a copy of {run} and does not count.",
            f"{backup} is a copy of {run} and does not count.",
            f"{again} has the name, the settings and the seed of {run} and does not count.",
        ]
    )


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
    ("spoil", "named"),
    [
        (break_a_row, r"progress\.jsonl line 2 is not JSON"),
        (remove_the_config, r"cannot read .*config\.yaml"),
        (empty_the_config, r"config\.yaml .*seed .*iterations"),
        (break_the_description, r"cannot read .*run\.json"),
        (rename_the_method, r"trpo/seed0 .*<env>/<optimizer>-<sampler>\[-<critic>\]/seed<seed>"),
    ],
)
def test_a_run_that_cannot_be_read_is_named(make_run: MakeRun, spoil: Callable[[Path], None], named: str):
    directory = make_run()
    root = directory.parents[4]
    spoil(directory)
    with pytest.raises(ConfigError, match=named):
        find_runs([root])


def test_a_budget_of_steps_says_how_long_a_run_is(tmp_path: Path):
    for finished, n_rows, planned in ((True, 2, 2), (False, 2, 5)):  # 500 steps per row of 2,300
        directory = write_run(tmp_path / str(n_rows + finished), scores=[1.0] * n_rows, finished=finished)
        config = yaml.safe_load((directory / ".hydra/config.yaml").read_text())
        (directory / ".hydra/config.yaml").write_text(
            yaml.safe_dump(config | {"iterations": None, "total_steps": 2300})
        )
        run = read_run(directory)
        assert run is not None and run.asked == (inf, 2300) and run.planned == planned


def test_seeds_that_reach_their_budget_of_steps_in_fewer_iterations_are_finished(tmp_path: Path):
    runs = []
    for seed, n_rows in enumerate((4, 3, 2)):
        directory = write_run(tmp_path, seed=seed, scores=[1.0] * n_rows, finished=seed < 2)
        config = yaml.safe_load((directory / ".hydra/config.yaml").read_text())
        (directory / ".hydra/config.yaml").write_text(
            yaml.safe_dump(config | {"iterations": None, "total_steps": 1900})
        )
        runs.append(read_run(directory))
    curve = Curve("cartpole", "single_path", {}, tuple(run for run in runs if run is not None))
    assert [run.seed for run in curve.unfinished] == [2] and curve.progress == "unfinished: 2 of 4"
