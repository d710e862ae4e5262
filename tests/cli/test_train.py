"""The command: whatever is wrong with the words is one line on the error stream, an exit status, and nothing else."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from compose import CONF
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from trpo_cli.cli import train as cli
from trpo_cli.cli.help import page

TINY = ("workers=1", "iterations=1", "sampler.n_paths=2", "step_limit=20")
Outcome = tuple[int, str, str]  # exit status, output, errors
Command = Callable[..., Outcome]


@pytest.fixture
def trpo_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["trpo-train", *words])
        GlobalHydra.instance().clear()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        status = 0
        try:
            cli.train()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return status, *capfd.readouterr()

    return run


def require_refusal(outcome: Outcome, sentence: str, status: int = 2) -> None:
    """One line, the exit status, and no run directory."""
    assert outcome[0] == status
    assert outcome[2].count("\n") == 1 and outcome[2].startswith("trpo-train: ")
    assert sentence in outcome[2]
    assert not list(Path.cwd().rglob("run.json")) and not list(Path.cwd().rglob("progress.jsonl"))


REFUSED = {
    # options, keys and words that do not exist
    "env=hoper": "env=hoper does not exist; did you mean env=hopper? choices: ",
    "sampler=null": "sampler=null does not exist; choices: single, vine",
    "env=": "env= does not exist; choices: ",
    "env=[hopper]": "env=… takes one option, not a list",
    "optimizer.kl_limt=0.1": "optimizer.kl_limt does not exist; did you mean optimizer.kl_limit?",
    "+kl_limit=0.1": "kl_limit does not exist; did you mean optimizer.kl_limit?",
    "+zzz=0.1": "zzz does not exist; known here: seed, iterations",
    "++sede=3": "sede does not exist; did you mean seed?",
    "task.step_limit=3": "task.step_limit does not exist; did you mean step_limit?",
    "+optimizer.foo=3": "optimizer.foo does not exist; known here: optimizer.kl_limit",
    "seed": "seed is not an override; write key=value",
    "--foo": "unrecognized arguments: --foo; write flags first, then key=value",
    "--env hopper": "--env is not a flag; write env=hopper",
    "env=hopper --seed 1": "--seed is not a flag; write seed=1",
    "--total-timesteps=1000": "--total-timesteps is not a flag; write total_steps=1000",
    "--lr 3": "--lr is not a flag; no method here has a learning rate: optimizer.kl_limit",
    "-x seed=1": "unrecognized arguments: -x; write flags first, then key=value",
    "seed=0,1 -m workers=1": "unrecognized arguments: workers=1; write flags first, then key=value",
    "--config-name foo": "Cannot find primary config 'foo'",
    "seed=1,2": "seed=1,2 has several values; add -m to run one job for each",
    "env=hopper,walker": "env=hopper,walker has several values; add -m",
    "logger=tensorboard,wandb": "write 'logger=[tensorboard,wandb]' for all of them",
    "seed=range(3)": "seed=range(3) has several values; add -m",
    "-m seed=a,b": "seed=a is not a whole number",
    "-m env=hopper,hoper": "env=hoper does not exist; did you mean env=hopper?",
    # wrong types
    "seed=abc": "seed=abc is not a whole number",
    "iterations=1.5e0": "iterations=1.5 is not a whole number",
    "iterations=null": "iterations=null needs total_steps=…: one of the two has to end the run",
    "optimizer.cg_iterations=10.5": "optimizer.cg_iterations=10.5 is not a whole number",
    "optimizer.kl_limit=small": "optimizer.kl_limit=small is not a number",
    "policy.hidden_sizes=5": "policy.hidden_sizes=5 is not a list; write 'policy.hidden_sizes=[5]'",
    "sampler.standardise=maybe": "sampler.standardise=maybe must be true or false",
    "workers=two": "workers=two must be auto or a whole number >= 1",
    # out of range
    "seed=-1": "seed=-1 must be >= 0",
    "iterations=0": "iterations=0 must be at least 1",
    "checkpoint_every=0": "checkpoint_every=0 must be at least 1",
    "path_scale=0": "path_scale=0.0 must be a finite number > 0",
    "workers=0": "workers=0 must be auto or a whole number >= 1",
    "optimizer.kl_limit=-1": "optimizer.kl_limit=-1.0 must be a finite number > 0",
    "optimizer.line_search=wolfe": "optimizer.line_search=wolfe must be boundary or halving",
    "optimizer.fisher_fraction=2": "optimizer.fisher_fraction=2.0 must be in (0, 1]",
    "sampler.gamma=1.5": "sampler.gamma=1.5 must be in (0, 1]",
    "sampler.n_paths=1": "sampler.n_paths=1 must be at least 2",
    "step_limit=0": "step_limit=0 must be at least 1",
    "sampler.step_limit=50": "sampler.step_limit does not exist; did you mean step_limit?",
    "policy.hidden_sizes=[0]": "policy.hidden_sizes=[0]: every layer needs at least 1 unit",
    "policy.input_scale=[1,2]": "policy.input_scale has 2 numbers and the observation 4",
    "policy.nonlinearity=sigmoid": "policy.nonlinearity=sigmoid is unknown; choose one of softplus, tanh, relu",
    "env.dt=0": "env.dt=0.0 must be > 0",
    "env=hopper env.model=horse.xml": "env.model=horse.xml must be one of ",
    "device=gpu": "device=gpu does not exist; did you mean device=cuda?",
    "device=gpu:1": "did you mean device=cuda:1?",
    "device=tpu": "device=tpu cannot be used here",
    'outputs="~/runs"': "outputs=~/runs must be a folder, with $HOME instead of ~",
    'name="~me"': "name=~me must be a folder's name",
    "policy.input_scale=null": "policy.input_scale=null must be percentile, running, none, or a list",
    "env=atari env.game=Pong": "env.game=Pong does not exist; did you mean env.game=pong?",
    "env=hopper_v5 experiment=icml/hopper": "sampler.streams=4 needs sampler.steps_per_iteration=…",
    "name=../elsewhere": "name=../elsewhere must be a folder's name",
    "name=": "name= must be a folder's name",
    "outputs=": "outputs= must be a folder",
    # missing
    "optimizer.kl_limit=???": "optimizer.kl_limit has no value; set optimizer.kl_limit=…",
    "~optimizer": "optimizer has no value; set optimizer=…",
    "~seed": "seed has no value; set seed=…",
    "seed=${nowhere}": "seed refers to ${nowhere}, which does not exist",
    # combinations that make no sense
    "sampler=vine optimizer=cem": "optimizer=cem needs whole episodes and cannot use sampler=vine; use sampler=single",
    "sampler=vine optimizer.damping=paths": "optimizer.damping=paths needs whole episodes",
    "sampler=vine optimizer=cma": "cannot use sampler=vine; use sampler=single",
    "sampler=vine optimizer=rwr": "optimizer=rwr needs whole episodes",
    "sampler=vine sampler.proposal=uniform": "sampler.proposal=uniform must be policy for continuous actions",
    "sampler=vine sampler.estimator=all_actions": "sampler.estimator=all_actions must be self_normalised",
    "env=hopper optimizer=cma": "optimizer=cma searches 2 to optimizer.max_parameters=2000 parameters and this policy",
    "sampler=vine sampler.n_paths=3": "sampler.n_paths does not exist with the chosen options; it belongs to",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_is_one_sentence_and_exit_status_2(words: str, trpo_train: Command):
    require_refusal(trpo_train(*words.split()), REFUSED[words])


def test_a_sweep_says_which_of_its_jobs_was_refused_and_runs_the_others(trpo_train: Command):
    status, _, errors = trpo_train("-m", "optimizer.kl_limit=-1,0.1", *TINY)
    job, sentence = errors.splitlines()
    assert status == 2 and sentence.startswith(
        "trpo-train: 1 of 2 jobs of the sweep are refused, for the reasons above"
    )
    assert job == "trpo-train: optimizer.kl_limit=-1: optimizer.kl_limit=-1.0 must be a finite number > 0"
    (done,) = Path.cwd().rglob("done.json")
    config = json.loads((done.parent / "run.json").read_text())["identity"]
    assert config["optimizer"]["kl_limit"] == 0.1


def test_a_job_of_a_sweep_over_nothing_is_refused_without_an_empty_name(trpo_train: Command):
    status, _, errors = trpo_train("-m", "optimizer.kl_limit=-1", *TINY)
    assert status == 2 and errors.startswith("trpo-train: optimizer.kl_limit=-1.0 must be a finite number > 0\n")


@pytest.mark.parametrize("outputs", ["file", "file/inside", "/proc/nowhere"])
def test_outputs_that_cannot_be_written_are_one_sentence_and_exit_status_1(outputs: str, trpo_train: Command):
    Path("file").touch()
    require_refusal(trpo_train(f"outputs={outputs}", *TINY), f"cannot write to {outputs}", status=1)
    require_refusal(trpo_train("-m", f"outputs={outputs}", *TINY), "cannot write to ", status=1)


def test_another_configurations_run_directory_is_refused_and_left_alone(trpo_train: Command):
    assert trpo_train(*TINY)[0] == 0
    (log,) = Path.cwd().rglob("progress.jsonl")
    before = {path: path.read_bytes() for path in log.parent.rglob("*") if path.is_file()}
    status, _, errors = trpo_train(*TINY, "optimizer.kl_limit=0.05")
    assert status == 2 and errors.count("\n") == 1
    assert re.search(r"holds a run with optimizer\.kl_limit=0\.01\b.* optimizer\.kl_limit=0\.05\b", errors)
    assert {path: path.read_bytes() for path in log.parent.rglob("*") if path.is_file()} == before


def test_a_run_is_announced_and_says_where_it_is_and_how_to_look_at_it(trpo_train: Command):
    status, output, errors = trpo_train(*TINY)
    directory = Path("outputs/train/cartpole/trpo-single/seed0")
    assert status == 0 and errors == "" and (directory / "done.json").is_file()
    assert output.splitlines()[-1] == f"Look at it: tensorboard --logdir {directory}"
    again = trpo_train(*TINY)
    assert again[0] == 0 and f"{directory} is finished (1 iterations): return " in again[1]
    *_, last = trpo_train(*TINY, "name='my runs'")[1].splitlines()  # the command can be pasted as it stands
    assert last == "Look at it: tensorboard --logdir 'outputs/my runs/cartpole/trpo-single/seed0'"


def test_nothing_but_the_run_directory_is_written(trpo_train: Command):
    trpo_train(*TINY, "name=a/b", "outputs=here")
    assert [path.name for path in Path.cwd().iterdir()] == ["here"]
    assert Path("here/a/b/cartpole/trpo-single/seed0/done.json").is_file()


def test_names_that_look_like_numbers_are_runs_of_their_own(trpo_train: Command):
    for name in ("1.1", "1.10"):
        status, output, _ = trpo_train(*TINY, f"name={name}", "outputs=1_0")
        assert status == 0 and f"Finished: 1_0/{name}/cartpole/" in output
    about = json.loads(Path("1_0/1.10/cartpole/trpo-single/seed0/run.json").read_text())
    assert "is finished" in trpo_train(*shlex.split(about["command"])[1:])[1]


def test_a_sweep_over_an_environment_of_gymnasium_has_results(trpo_train: Command):
    words = ("env=gymnasium", "env.id=CartPole-v1", "workers=1", "iterations=1", "policy.input_scale=none")
    status, output, _ = trpo_train("-m", *words, "sampler.steps_per_iteration=400", "seed=0,1")
    assert status == 0
    runs = [f"outputs/train/gymnasium/trpo-single-mlp/seed{seed}" for seed in (0, 1)]
    assert re.findall(r"^seed=\d  finished  \d+\.?\d* +1 +(\S+)$", output, re.MULTILINE) == runs
    assert re.search(r"^all +2 +\d+\.?\d* ± \S+$", output, re.MULTILINE)


def test_what_a_sweeper_raises_is_one_sentence_and_the_table_is_printed(
    trpo_train: Command, monkeypatch: pytest.MonkeyPatch
):
    sweep = Hydra.multirun

    def sweep_and_fail(*args: object, **settings: object) -> None:
        sweep(*args, **settings)  # type: ignore[arg-type]
        raise ValueError("No trials are completed yet.\nmore")

    monkeypatch.setattr(Hydra, "multirun", sweep_and_fail)
    status, output, errors = trpo_train("-m", *TINY)
    assert (status, errors) == (1, "trpo-train: the sweep ended early, by ValueError: No trials are completed yet.\n")
    assert "\njob  state" in output


@pytest.mark.parametrize("word", ["seed=a,b", "optimizer.kl_limit=-1,-2"])
def test_a_sweep_that_is_refused_leaves_no_folder(word: str, trpo_train: Command):
    assert trpo_train("-m", *TINY, word, "outputs=new/folder")[0] == 2
    assert not list(Path.cwd().iterdir())
    Path("old").mkdir()
    assert trpo_train("-m", *TINY, word, "outputs=old")[0] == 2
    assert Path("old").is_dir() and not list(Path("old").iterdir())


def test_a_sweep_of_one_job_says_what_is_wrong_without_an_empty_name(trpo_train: Command):
    assert trpo_train("-m", *TINY, "env.dt=0")[2].startswith("trpo-train: env.dt=0.0 must be > 0\n")


def test_a_whole_number_may_have_a_point_or_an_exponent_and_a_name_stays_as_it_is(trpo_train: Command):
    words = (*TINY, "iterations=1e0", "sampler.n_paths=2e0", "seed=3.0", "name=1e0")
    assert trpo_train(*words)[0] == 0
    (done,) = Path.cwd().rglob("done.json")
    description = json.loads((done.parent / "run.json").read_text())
    assert done.parent.name == "seed3" and "outputs/1" in done.as_posix()
    assert repr(description["identity"]["sampler"]["n_paths"]) == "2"
    assert "is finished (1 iterations)" in trpo_train(*TINY, "seed=3", "name=1e0")[1]


def test_a_value_may_refer_to_another(trpo_train: Command):
    assert trpo_train(*TINY, "seed=${checkpoint_every}")[0] == 0
    assert Path("outputs/train/cartpole/trpo-single/seed1/done.json").is_file()


@pytest.mark.parametrize("words", [("--help",), ("env=hopper", "-h")])
def test_help_is_a_page_and_runs_nothing(words: tuple[str, ...], trpo_train: Command):
    status, output, errors = trpo_train(*words)
    assert (status, errors) == (0, "") and output == page(CONF) + "\n" and not list(Path.cwd().iterdir())


def test_cfg_shows_what_is_composed_and_runs_nothing(trpo_train: Command):
    status, output, errors = trpo_train("--cfg", "job", "env=hopper", "optimizer.kl_limit=0.02")
    assert (status, errors) == (0, "") and not list(Path.cwd().iterdir())
    shown = yaml.safe_load(output)
    assert shown["env"]["model"] == "hopper.xml" and shown["optimizer"]["kl_limit"] == 0.02
    assert shown["sampler"]["n_paths"] == 1000 and shown["step_limit"] == 1000


def real(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::UserWarning", "-m", "trpo_cli", *words]
    return subprocess.run(command, cwd=cwd, env=os.environ, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        ("env=hoper", 2, "env=hoper does not exist; did you mean env=hopper? choices: "),
        ("optimizer.kl_limit=-1", 2, "optimizer.kl_limit=-1.0 must be a finite number > 0\n"),
        ("outputs=file/inside workers=2", 1, "cannot write to file/inside/train/cartpole/trpo-single/seed0"),
    ],
)
def test_the_command_as_users_run_it(words: str, status: int, sentence: str, tmp_path: Path):
    (tmp_path / "file").touch()
    done = real(*words.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("trpo-train: ") and sentence in done.stderr and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
