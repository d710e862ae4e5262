"""Runs with ``logger=``: what is chosen, what is written, and that it is no part of a run's identity."""

import re
import shlex
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
from compose import CONF, executed, planned
from own_loggers import LINES
from subprocesses import progress, results

from trpo_cli.cli.sweeps import job_name
from trpo_cli.errors import ConfigError
from trpo_cli.loggers import packages
from trpo_cli.loggers.background import Background
from trpo_cli.loggers.tensorboard import TensorBoard
from trpo_cli.parallel import processes
from trpo_cli.parallel.group import Group
from trpo_cli.training.run import Plan, execute

OPTIONS = {
    "lines": "# @package logger.lines\n_target_: own_loggers.Lines\nlabel: score\n",
    "meddles": "# @package logger.meddles\n_target_: own_loggers.Meddles\n",
    "misplaced": "_target_: own_loggers.Lines\n",
    "lacking": "# @package logger.lacking\n_target_: own_loggers.Opens\n",
}


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration, with loggers of one's own."""
    folder = tmp_path_factory.mktemp("own") / "conf"
    shutil.copytree(CONF, folder)
    for name, text in OPTIONS.items():
        (folder / "logger" / f"{name}.yaml").write_text(text)
    return folder


def small(conf: Path, folder: Path, *words: str, n: int = 3) -> Plan:
    numbers = (f"iterations={n}", "sampler.n_paths=4", "step_limit=20", "workers=1", f"outputs={folder}")
    return planned(*numbers, *words, conf=conf)


def kinds(plan: Plan) -> list[str]:
    chosen = [logger.logger if isinstance(logger, Background) else logger for logger in plan.loggers]
    return [type(logger).__name__ for logger in chosen]


def test_one_logger_several_or_none(conf: Path, tmp_path: Path):
    assert kinds(small(conf, tmp_path)) == ["TensorBoard"]
    assert isinstance(small(conf, tmp_path).loggers[0], TensorBoard)  # in the run's process
    assert kinds(small(conf, tmp_path, "logger=none")) == []
    assert kinds(small(conf, tmp_path, "logger=lines", "logger.lines.label=x")) == ["Lines"]
    assert kinds(small(conf, tmp_path, "logger=[tensorboard,lines,meddles]")) == ["TensorBoard", "Lines", "Meddles"]


def test_the_rows_are_the_same_with_and_without_and_the_last_line_says_where(
    conf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    plain = executed(small(conf, tmp_path, "logger=none", "name=none"))
    assert capfd.readouterr().out.splitlines()[-1] == f"Look at it: {plain}/progress.jsonl"
    logged = executed(small(conf, tmp_path, "logger=[tensorboard,lines,meddles]", "name=all"))
    assert capfd.readouterr().out.splitlines()[-1] == f"Look at it: tensorboard --logdir {logged}"
    assert results(logged) == results(plain) and len(results(plain)) == 3
    assert not list(plain.glob("events*")) and len(list(logged.glob("events*"))) == 1
    assert {path.name for path in plain.iterdir()} >= {"progress.jsonl", "run.json", "checkpoint.pt", "done.json"}
    lines = [line.split() for line in (logged / LINES).read_text().splitlines()]
    assert [(int(i), float(score)) for i, _, score, *_ in lines] == [
        (row["iteration"], row["collect/score"]) for row in progress(plain)
    ]
    assert lines[0][3:] == ["4", "collect/episode_returns"]


def test_loggers_are_no_part_of_a_run(conf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    first, second = small(conf, tmp_path, "logger=none"), small(conf, tmp_path, "logger=[tensorboard,lines]")
    assert first.identity == second.identity and first.directory == second.directory
    assert (
        execute(first, Group(), lambda: signal.SIGTERM * (len(progress(first.directory)) >= 2)) == 128 + signal.SIGTERM
    )
    executed(second)
    assert [line.split()[0] for line in (first.directory / LINES).read_text().splitlines()] == ["0", "1", "2"]
    done = (first.directory / "done.json").read_bytes()
    capfd.readouterr()
    executed(small(conf, tmp_path, "logger=meddles"))
    assert "is finished" in capfd.readouterr().out
    assert (first.directory / "done.json").read_bytes() == done
    assert not (first.directory / "logger.meddles.log").exists()
    whole = executed(small(conf, tmp_path, "name=whole"))
    assert results(first.directory) == results(whole)


def test_jobs_that_differ_by_logger_only_are_the_same_run():
    swept = ["logger=none", "logger.wandb.tags=[a]", "+logger.wandb.name=b", "workers=2"]
    assert job_name("train", swept) == "train/workers=2" and job_name("train", swept[:3]) == "train"


def test_only_the_leader_logs(conf: Path, tmp_path: Path):
    plan = small(conf, tmp_path, "logger=lines")
    assert processes.run(2, lambda group: execute(plan, group, lambda: 0)) == 0
    assert [line.split()[0] for line in (plan.directory / LINES).read_text().splitlines()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("logger=tensorbord", "logger=tensorbord does not exist; did you mean logger=tensorboard? choices: "),
        ("loger=none", "loger does not exist; did you mean logger?"),
        ("logger=null", "logger=null does not exist; choices: "),
        ("logger=[]", "logger has no value; set logger=…"),
        ("logger=[] sede=3", "sede does not exist; did you mean seed?"),
        (
            "logger=[tensorboard,wandb] logger.wandb.projct=x",
            "logger.wandb.projct does not exist; did you mean",
        ),
        ("logger.lines.label=x", "logger.lines.label does not exist with the chosen options; it belongs to "),
        ("logger=lines logger.lines.lable=x", "logger.lines.lable does not exist; did you mean logger.lines.label?"),
        ("logger=lines logger.lines=3", "logger.lines=3 is not a logger's section of keys; "),
        ("logger=wandb logger.wandb.mode=disabled", "logger.wandb.mode=disabled must be online or offline"),
        ("logger=wandb logger.wandb.tags=a", "logger.wandb.tags=a is not a list; write 'logger.wandb.tags=[a]'"),
        ("logger=wandb logger.wandb.wait_s=inf", "logger.wandb.wait_s=inf must be a finite number > 0"),
        ("logger=mlflow logger.mlflow.wait_s=0", "logger.mlflow.wait_s=0.0 must be a finite number > 0"),
        ("logger=misplaced", "logger._target_=own_loggers.Lines is not a logger's section of keys; "),
        ("logger=lacking", "logger.lacking: it needs open, write, close, and Opens lacks write, close"),
        ("wandb=true", "wandb does not exist; 'logger=[tensorboard,wandb]' logs there too"),
        ("tensorboard=true", "tensorboard does not exist; logger=tensorboard, the default, writes what"),
        ("logger.wandb.project=x", "logger.wandb.project does not exist with the chosen options; it belongs to "),
    ],
)
def test_what_is_wrong_is_one_sentence(words: str, sentence: str, conf: Path, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        small(conf, tmp_path, *words.split())
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


README = (Path(__file__).parents[2] / "README.md").read_text().partition("\n## Loggers\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", re.findall(r"^trpo-train (.*?) *#", README, re.M))
def test_the_commands_of_the_readme_are_right_if_the_packages_are_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packages, "find_spec", lambda name: find_spec("json"))
    plan = planned(*shlex.split(command), f"outputs={tmp_path}")
    named = re.findall(r"tensorboard|wandb|mlflow", shlex.split(command)[1])
    assert [kind.lower() for kind in kinds(plan)] == named


def test_the_readme_shows_every_logger():
    assert all(f"logger={name}" in README or f",{name}]" in README for name in ("wandb", "mlflow", "none"))


@pytest.mark.parametrize("option", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_told_before_the_environment_is_tried(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        small(CONF, tmp_path, f"logger=[tensorboard,{option}]", "env=gymnasium", "env.id=Nothing-v0")
    assert str(caught.value) == (
        f"logger={option} needs the package {option}, which is not installed: pip install 'trpo_cli[{option}]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_packages_name_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """W&B leaves folders ``wandb``."""
    (tmp_path / "no_such_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"^logger=x needs the package no_such_package"):
        packages.require_package("no_such_package", "x")
    packages.require_package("json", "x")
