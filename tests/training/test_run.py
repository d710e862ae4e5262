"""Whole runs: killed at any moment they go on to the same rows, and a finished one is left alone."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch
from compose import executed, planned
from torch import Tensor

from trpo_cli.cli.exits import noting_what_is_saved
from trpo_cli.errors import StuckError
from trpo_cli.optimizers.base import Updated, refusal
from trpo_cli.optimizers.surrogate import surrogate_at
from trpo_cli.parallel.group import Group
from trpo_cli.parallel.processes import run
from trpo_cli.policies.base import Policy
from trpo_cli.runs.tensorboard import TensorBoardMirror
from trpo_cli.samplers.batch import Batch
from trpo_cli.samplers.randomness import Draw
from trpo_cli.training.run import Plan, execute

COLLECT = ("episode_return", "score", "episode_length", "n_episodes", "sim_steps")
UPDATE = ("mean_kl", "max_kl", "surrogate_gain", "accepted", "backtracks", "cg_residual")
KEYS = {"iteration", "sim_steps_total", "time_s", "time/collect_s", "time/update_s"}
KEYS |= {f"collect/{key}" for key in COLLECT} | {f"update/{key}" for key in UPDATE}
SMALL = ("env=cartpole", "step_limit=40", "sampler.n_paths=16")
PATIENCE_S = 120
assert TensorBoardMirror  # imported here, and not anew by every process that is killed


def command(cwd: Path, *words: str) -> list[str]:
    return [sys.executable, "-W", "error::UserWarning", "-m", "trpo_cli", *words, f"outputs={cwd}"]


def train(cwd: Path, *words: str) -> str:
    """What the command prints, in a process of its own; it has to succeed."""
    done = subprocess.run(command(cwd, *words), cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows without what a clock said."""
    return [{key: value for key, value in row.items() if "time" not in key} for row in read(path)]


def snapshot(directory: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in directory.rglob("*") if p.is_file()}


def test_the_command_end_to_end(tmp_path: Path):
    words = (*SMALL, "iterations=3", "workers=2")
    output = train(tmp_path, *words)
    directory = tmp_path / "train/cartpole/trpo-single/seed0"
    found = read(directory / "progress.jsonl")
    assert [row["iteration"] for row in found] == [0, 1, 2]
    for row in found:
        assert row.keys() >= KEYS and row["collect/n_episodes"] == 16
        assert row["update/mean_kl"] <= 0.01
    assert found[-1]["sim_steps_total"] == sum(row["collect/sim_steps"] for row in found)
    for name in (".hydra/config.yaml", "run.json", "checkpoint.pt", "done.json"):
        assert (directory / name).is_file()
    info = json.loads((directory / "run.json").read_text())
    assert (info["workers"], info["n_parameters"], info["obs_dim"], info["action_dim"]) == (2, 6, 4, 1)
    assert list(directory.glob("events.out.tfevents.*"))
    assert str(directory) in output.splitlines()[-1]

    before = snapshot(directory)
    assert f"{directory} is finished (3 iterations" in train(tmp_path, *words)
    assert snapshot(directory).keys() == before.keys()
    lock = directory / ".lock"  # says who looked last
    assert {p: s for p, s in snapshot(directory).items() if p != lock} == {p: s for p, s in before.items() if p != lock}

    longer = planned(*SMALL, "iterations=5", "workers=2", f"outputs={tmp_path}")
    assert run(2, lambda group: execute(longer, group, lambda: 0)) == 0
    assert read(directory / "progress.jsonl")[:3] == found
    assert [row["iteration"] for row in read(directory / "progress.jsonl")] == [0, 1, 2, 3, 4]
    assert json.loads((directory / "done.json").read_text())["iterations"] == 5


def test_a_sweep_makes_a_directory_a_job_and_skips_those_that_are_finished(tmp_path: Path):
    words = (*SMALL, "iterations=1", "workers=1")
    executed(planned(*words, "seed=1", "name=swept", f"outputs={tmp_path}"))
    runs = tmp_path / "swept/cartpole/trpo-single"
    before = (runs / "seed1/progress.jsonl").stat().st_mtime_ns
    output = train(tmp_path, "-m", *words, "seed=0,1", "name=swept")
    assert sorted(path.name for path in runs.iterdir()) == ["seed0", "seed1"]
    assert (runs / "seed1/progress.jsonl").stat().st_mtime_ns == before
    assert f"{runs}/seed1 is finished" in output and f"Finished: {runs}/seed0" in output
    assert rows(runs / "seed0/progress.jsonl") != rows(runs / "seed1/progress.jsonl")
    assert json.loads((runs / "seed0/run.json").read_text())["identity"]["seed"] == 0


def whole(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    """The rows of a run that nobody disturbs."""
    return rows(executed(planned(*words, f"outputs={tmp_path / 'whole'}")) / "progress.jsonl")


def killed(plan: Plan, after_s: float) -> bool:
    """Carry the plan out in a process that the kernel ends, without a word to it, after so much processor time."""

    def body() -> None:
        torch.set_num_threads(1)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
        signal.setitimer(signal.ITIMER_PROF, after_s)
        executed(plan)
        os._exit(0)

    process = get_context("fork").Process(target=body)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGPROF)
    return process.exitcode != 0


METHODS = {
    "trpo": SMALL,
    "vine": ("sampler=vine", "step_limit=40", "sampler.n_trunks=4", "sampler.n_states=20"),
    "steps": (*SMALL, "sampler.steps_per_iteration=300", "env.reset_range=0.1"),
    "percentile": (*SMALL, "policy.input_scale=percentile", "checkpoint_every=3"),
    "cem": ("optimizer=cem", "step_limit=40", "optimizer.population=20"),
    "cma": ("optimizer=cma", "step_limit=40", "optimizer.population=20"),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_again_and_again_comes_to_the_same_rows(method: str, tmp_path: Path):
    words = (*METHODS[method], "iterations=25", "seed=3")
    plan = planned(*words, f"outputs={tmp_path / 'killed'}")
    moment = random.Random(method)
    kills = list(takewhile(bool, (killed(plan, moment.uniform(0.02, 0.12)) for _ in range(12))))
    assert kills
    assert rows(executed(plan) / "progress.jsonl") == whole(tmp_path, *words)


def test_a_run_killed_between_its_last_checkpoint_and_its_end_is_finished_by_the_next(tmp_path: Path):
    plan = planned(*SMALL, "iterations=3", f"outputs={tmp_path}")
    (executed(plan) / "done.json").unlink()
    executed(plan)
    last = read(plan.directory / "progress.jsonl")[-1]["collect/score"]
    assert json.loads((plan.directory / "done.json").read_text())["score"] == last


@dataclass(frozen=True)
class NeverSteps:
    """An optimizer that finds no step in any batch."""

    needs_whole_paths = ""

    def __call__(self, policy: Policy, theta: Tensor, batch: Batch, draw: Draw, group: Group) -> Updated:
        return refusal(surrogate_at(policy, theta, batch, group), "non_finite_gradient")


def test_a_run_that_takes_no_step_any_more_ends_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (*SMALL, "iterations=9", f"outputs={tmp_path}")
    plan = replace(planned(*words, "max_refused=3"), optimizer=NeverSteps())
    sentence = r"^after 3 iterations, of which the last 3 took no step \(non_finite_gradient\), this run can"
    for _ in range(2):  # the same command ends in the same way
        with pytest.raises(StuckError, match=sentence), noting_what_is_saved(plan.directory):
            execute(plan, Group(), lambda: 0)
        assert len(rows(plan.directory / "progress.jsonl")) == 3
    assert not (plan.directory / "done.json").exists()
    executed(replace(planned(*words, "max_refused=null"), optimizer=NeverSteps()))
    assert len(rows(plan.directory / "progress.jsonl")) == 9
    told = "It did not take a single update: the policy is the one that it began with (non_finite_gradient)."
    assert told in capsys.readouterr().out.splitlines()
    executed(planned(*words, "name=other"))
    assert "a single update" not in capsys.readouterr().out


def test_the_command_killed_with_its_workers_comes_to_the_same_rows(tmp_path: Path):
    words = (*SMALL, "iterations=100", "workers=2")
    log = tmp_path / "train/cartpole/trpo-single/seed0/progress.jsonl"
    process = subprocess.Popen(command(tmp_path, *words), cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = monotonic() + PATIENCE_S
    while process.poll() is None and monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= 10:
            break
        sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(log.read_text().splitlines()) < 100
    assert "resuming after iteration" in train(tmp_path, *words)
    undisturbed = planned(*words, f"outputs={tmp_path / 'whole'}")
    assert run(2, lambda group: execute(undisturbed, group, lambda: 0)) == 0
    assert rows(log) == rows(undisturbed.directory / "progress.jsonl")
