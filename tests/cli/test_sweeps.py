"""Laws of sweeps: a directory and a share of the cores for each job, no job stops another, with every launcher."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose import CONF, planned
from subprocesses import HELPERS, ROOT, Launched, progress, trpo_train, until

from trpo_cli.cli.sweeps import granted_cores, job_name
from trpo_cli.parallel.cores import available_cores

SHORT = ("iterations=2", "name=s")
BASE = "cartpole/trpo-single"
JOBLIB = "hydra/launcher=joblib_local"


def sweep(folder: Path, *words: str, **environment: str) -> Launched:
    return trpo_train(folder, "-m", *SHORT, *words, **environment)


def done(folder: Path) -> list[str]:
    """The finished runs of a sweep."""
    runs = folder / "outputs" / "s"
    return sorted(str(path.parent.relative_to(runs)) for path in runs.rglob("done.json"))


def table(command: Launched) -> dict[str, list[str]]:
    """State, iterations and directory of each job, as the command's last words say."""
    lines = command.output().rpartition("\njob ")[2].partition("\n\n")[0].splitlines()[1:]
    found = [re.fullmatch(r"(\S.*?)  +(\w+)  +\S+  +\S+  +(\S+)  +(\S+)", line) for line in lines]
    return {line[1]: [line[2], line[3], line[4]] for line in found if line is not None}


def n_started(command: Launched) -> int:
    """Jobs that simulated something."""
    return command.output().count(" workers)")


@pytest.mark.parametrize("launcher", [(), (JOBLIB,)], ids=["basic", "joblib"])
def test_each_job_has_its_directory_and_finished_ones_are_left_alone(launcher: tuple[str, ...], tmp_path: Path):
    words = ("seed=0,1", "workers=1,2", *launcher)
    with sweep(tmp_path, *words) as command:
        assert command.ended() == 0, command.errors()
    assert done(tmp_path) == [f"workers={n}/{BASE}/seed{seed}" for n in (1, 2) for seed in (0, 1)]
    for run in done(tmp_path):
        about = json.loads((tmp_path / "outputs" / "s" / run / "run.json").read_text())
        assert (f"workers={about['workers']}", f"seed{about['identity']['seed']}") == (run[:9], run[-5:])
        program, *again = shlex.split(about["command"])  # which may be typed in, as it stands there
        assert program == "trpo-train" and planned(*again).directory == Path("outputs/s") / run
    assert table(command) == {
        f"seed={seed} workers={n}": ["finished", "2", f"outputs/s/workers={n}/{BASE}/seed{seed}"]
        for n in (1, 2)
        for seed in (0, 1)
    }
    *_, first, second, _, longer = command.output().splitlines()
    assert longer == "Make a job longer: trpo-train continue=DIRECTORY iterations=…, or total_steps=… if that ends it"
    means = [line.split()[:2] for line in (first, second)]
    assert sorted(means) == [["workers=1", "2"], ["workers=2", "2"]]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("progress.jsonl")}
    with sweep(tmp_path, *words) as command:
        assert command.ended() == 0, command.errors()
    assert command.output().count("is finished (2 iterations") == 4
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("progress.jsonl")} == before


def test_jobs_that_run_at_the_same_time_share_the_cores(tmp_path: Path):
    with sweep(tmp_path, "seed=0,1", "workers=auto", JOBLIB) as command:
        assert command.ended() == 0, command.errors()
    used = [json.loads(path.read_text())["workers"] for path in tmp_path.rglob("run.json")]
    assert used == 2 * [max(available_cores() // 2, 1)]
    lines = [line for line in command.output().splitlines() if re.search("iteration [12]/2 ", line)]
    assert {line[:9] for line in lines} == {"[seed=0] ", "[seed=1] "}  # they share the terminal


@pytest.mark.parametrize("launcher", [(), (JOBLIB,)], ids=["basic", "joblib"])
def test_a_job_that_fails_says_so_and_stops_no_other(launcher: tuple[str, ...], tmp_path: Path):
    with sweep(tmp_path, "optimizer.kl_limit=-1,0.01", "workers=1", *launcher) as command:
        assert command.ended() == 2
    assert command.sentences() == [
        "trpo-train: optimizer.kl_limit=-1: optimizer.kl_limit=-1.0 must be a finite number > 0",
        "trpo-train: 1 of 2 jobs of the sweep are refused, for the reasons above; they need other words",
    ]
    assert "Traceback" not in command.errors()
    good = f"optimizer.kl_limit=0.01/{BASE}/seed0"
    assert table(command) == {
        "optimizer.kl_limit=-1": ["refused", "-", "-"],
        "optimizer.kl_limit=0.01": ["finished", "2", f"outputs/s/{good}"],
    }
    assert done(tmp_path) == [f"optimizer.kl_limit=0.01/{BASE}/seed0"]


def test_a_broken_simulator_fails_every_job_and_the_same_command_runs_what_is_missing(tmp_path: Path):
    with sweep(tmp_path, "seed=0,1", "workers=2", FAULT="error:1:1") as command:
        assert command.ended() == 1
    *jobs, end = command.sentences()
    assert [line[:33] for line in jobs] == ["trpo-train: seed=0: worker 1 of 2", "trpo-train: seed=1: worker 1 of 2"]
    assert end == "trpo-train: not every job of the sweep has finished; the same command runs the missing jobs"
    with sweep(tmp_path, "seed=0,1", "workers=2") as command:
        assert command.ended() == 0
    assert command.output().count("resuming after iteration 0") == 2
    assert done(tmp_path) == [f"{BASE}/seed0", f"{BASE}/seed1"]


def test_ctrl_c_ends_the_sweep_and_not_only_its_job(tmp_path: Path):
    run = tmp_path / "outputs" / "s" / BASE / "seed0"
    with sweep(tmp_path, "seed=0,1", "iterations=50", "workers=2", FAULT="slow:0:0") as command:
        until(lambda: progress(run))
        os.killpg(command.process.pid, signal.SIGINT)
        assert command.ended() == 130
    assert n_started(command) == 1 and not done(tmp_path)
    assert command.output().splitlines()[-1].endswith("of 50 iterations; the same command resumes.")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_the_jobs_that_joblib_runs_end_with_the_command(number: int, status: int, tmp_path: Path):
    runs = [tmp_path / "outputs" / "s" / BASE / f"seed{seed}" for seed in (0, 1)]
    with sweep(tmp_path, "seed=0,1", "iterations=50", "workers=2", JOBLIB, FAULT="slow:0:0") as command:
        until(lambda: all(progress(run) for run in runs))
        assert len(command.alive()) >= 7  # the command, two jobs, two workers each
        command.process.send_signal(number)
        assert command.ended() == status


def test_optuna_looks_for_the_best_final_score_and_finished_trials_are_not_run_again(tmp_path: Path):
    words = ("-m", "experiment=tune/cartpole", "hydra.sweeper.n_trials=3", "name=s", "workers=1", "iterations=2")
    with trpo_train(tmp_path, *words) as command:
        assert command.ended() == 0, command.errors()
    rows = {run: progress(tmp_path / "outputs/s" / run) for run in done(tmp_path)}
    runs = {run: (first["collect/score"] + last["collect/score"]) / 2 for run, (first, last) in rows.items()}
    found = yaml.safe_load((tmp_path / "outputs/s/optimization_results.yaml").read_text())
    assert len(runs) == 3 and found["best_value"] == max(runs.values()) > min(runs.values())
    best = max(runs, key=lambda run: runs[run])
    assert all(f"{key}={value}" in best for key, value in found["best_params"].items())
    assert len(table(command)) == 3
    with trpo_train(tmp_path, *words) as command:
        assert command.ended() == 0
    assert command.output().count("is finished (2 iterations") == 3 and done(tmp_path) == sorted(runs)


def test_trials_that_all_fail_end_the_search_in_one_sentence(tmp_path: Path):
    words = ("-m", "experiment=tune/cartpole", "hydra.sweeper.n_trials=2", "env.dt=0")
    with trpo_train(tmp_path, *words) as command:
        assert command.ended() == 2
    assert command.sentences()[0].endswith(": env.dt=0.0 must be > 0") and len(command.sentences()) == 3
    assert "Traceback" not in command.errors()


# The pieces


@pytest.mark.parametrize(
    ("swept", "name"),
    [
        ([], "train"),
        (["seed=1", "env=hopper", "optimizer=cem", "sampler=vine", "experiment=icml/hopper"], "train"),
        (["seed=1", "workers=2"], "train/workers=2"),
        (["sampler.gamma=0.9", "+optimizer.x=1e-3"], "train/optimizer.x=1e-3,sampler.gamma=0.9"),
        (["policy.hidden_sizes=[64,64]"], "train/policy.hidden_sizes=64,64"),
        (["device='../up here'"], "train/device=.._up_here"),
        (["critic=mlp", "seed=1"], "train"),
    ],
)
def test_the_name_of_a_job_holds_what_no_other_part_of_its_directory_does(swept: list[str], name: str):
    assert job_name("train", swept) == name


def test_the_name_of_a_job_that_no_file_system_takes_is_shortened_and_stays_its_own():
    short, long, other = (f"policy.hidden_sizes={n * 'é'}{end}" for n, end in ((100, ""), (200, ""), (200, "x")))
    assert job_name("train", [short]) == f"train/{short}"
    names = [job_name("train", [word]).removeprefix("train/") for word in (long, other)]
    assert names[0] != names[1] and all(250 < len(name.encode()) <= 255 and long[:50] in name for name in names)
    assert job_name("train", [long]) == f"train/{names[0]}"


@pytest.mark.parametrize(
    ("launcher", "cores"),
    [
        ({}, 8),  # Hydra's own runs one job at a time
        ({"n_jobs": 2}, 4),
        ({"n_jobs": 3}, 2),
        ({"n_jobs": -1}, 1),
        ({"n_jobs": -5}, 2),  # joblib: all cores but four
        ({"n_jobs": 100}, 1),
        ({"cpus_per_task": 4}, 4),
        ({"cpus_per_task": 16}, 8),
        ({"cpus_per_task": None}, 8),
        ({"ray": {"init": {}, "remote": {}}}, 1),
        ({"ray": {"remote": {"num_cpus": 4}}}, 4),
    ],
)
def test_the_cores_of_a_job_are_its_share_of_the_launchers(launcher: dict[str, object], cores: int):
    assert granted_cores(launcher, 8) == cores


# Launchers


def without_plugins(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command where no plugin of Hydra's is installed."""
    program = "import sys; sys.modules['hydra_plugins'] = None; from trpo_cli.cli.train import train; train()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(HELPERS)])}
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


LAUNCHERS = {
    "joblib_local": ("joblib", "hydra-joblib-launcher"),
    "slurm": ("submitit_slurm", "hydra-submitit-launcher"),
    "ray_local": ("ray", "hydra-ray-launcher"),
}


def test_every_launcher_builds_on_a_plugin_that_an_extra_installs():
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (CONF / "hydra" / "launcher").glob("*.yaml")}
    assert {name: file["defaults"] for name, file in files.items()} == {
        name: [plugin] for name, (plugin, _) in LAUNCHERS.items()
    }
    extras = (ROOT / "setup.cfg").read_text()
    assert all(package in extras for _, package in LAUNCHERS.values())


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_whose_plugin_is_missing_is_one_sentence_that_names_it(launcher: str, tmp_path: Path):
    plugin, package = LAUNCHERS[launcher]
    result = without_plugins(tmp_path, "-m", "seed=0,1", f"hydra/launcher={launcher}")
    assert result.returncode == 2
    assert result.stderr == (
        f"trpo-train: hydra/launcher={plugin} is a plugin that is not installed: pip install {package}\n"
    )


def test_a_search_whose_plugin_is_missing_is_one_sentence_that_names_it(tmp_path: Path):
    result = without_plugins(tmp_path, "-m", "experiment=tune/cartpole")
    assert result.returncode == 2
    assert result.stderr == (
        "trpo-train: hydra/sweeper=optuna is a plugin that is not installed: pip install hydra-optuna-sweeper\n"
    )


def test_a_plain_installation_sweeps(tmp_path: Path):
    words = ("sampler.n_paths=4", "step_limit=5", "workers=1", "iterations=1")
    assert without_plugins(tmp_path, "-m", "seed=0,1", *words).returncode == 0
    assert len(list(tmp_path.rglob("done.json"))) == 2


def test_a_launcher_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path):
    result = without_plugins(tmp_path, "-m", "hydra/launcher=joblib_locl")
    assert (result.returncode, result.stderr) == (
        2,
        "trpo-train: hydra/launcher=joblib_locl does not exist; choices: basic, joblib_local, ray_local, slurm\n",
    )
